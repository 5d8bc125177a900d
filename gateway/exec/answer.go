package exec

import (
	"encoding/binary"
	"errors"
	"regexp"
	"strings"

	"github.com/shardgate/shardgate/gateway/pool"
	"github.com/shardgate/shardgate/planner"
	"github.com/shardgate/shardgate/wire"
)

// state is how far answer has come.
type state uint8

const (
	ended     state = iota // the operation's last message was read
	rowPassed              // one row was passed on, as asked for, or waits to be merged
	copying                // the shard waits for COPY data
	failed                 // there was an error, or the connection is lost
)

// answer reads one shard's answer to an operation; i is the shard's position
// among the targets. With oneRow it returns after a row.
func (r *Runner) answer(op *Op, c *pool.Conn, i int, oneRow bool) state {
	if c.Broken {
		r.lost(c, errors.New("write failed"))
		return failed
	}
	many := op.Conn == nil
	begins := true // no COPY data was read yet
	r.relay(c)
	for {
		h, err := c.Peek()
		if err != nil {
			r.lost(c, err)
			return failed
		}
		pass := !op.Hidden
		end, last := false, ended
		switch h.Type {
		case 'D':
			if st, done := r.row(op, c, oneRow); done {
				return st
			}
			continue
		case 'T':
			if pass = pass && i == 0; i == 0 {
				err = r.rowDescription(op, c)
			}
			end = op.Kind == Describe
		case 't':
			if pass {
				err = r.translateParams(c, op.Params)
			}
			if pass && op.NoParams {
				pass = false
				r.write(wire.AppendNoParameters)
				r.relay(c)
			}
		case 'n', '1', '2', '3':
			end = op.Kind == completed(h.Type)
			pass = pass && i == 0 && !r.Plain
		case 'C':
			end = op.Kind == Execute || op.Kind == Begin
			r.Suspended = false
			if many || op.HoldTag {
				err = r.tag(op, c, i)
				pass = false
			}
		case 's', 'I':
			end = op.Kind == Execute
			r.Suspended = h.Type == 's'
			pass = pass && i == 0
		case 'Z':
			err = r.ready(c, op.Final)
			end, pass = true, op.Final
		case 'E':
			return r.serverError(op, c)
		case 'N':
			pass = op.Merge != planner.First || i == 0 && !op.Hidden // else it has been heard from another shard
		case 'S':
			pass, err = false, r.param(c)
		case 'G':
			pass = pass && i == 0
			end, last = true, copying
		case 'H':
			pass = pass && i == 0
			if op.Header && i > 0 {
				if err = r.skipHeader(c); err != nil {
					r.lost(c, err)
					return failed
				}
				continue
			}
		case 'd':
			if op.BinaryCopy && many {
				var trimmed bool
				trimmed, err = r.trimCopied(c, h.Size, i == 0, begins, i == len(op.Conns)-1)
				if begins = false; trimmed && err == nil {
					continue
				}
			}
		case 'c':
			pass = pass && (!many || i == len(op.Conns)-1)
		}
		if err == nil {
			if pass {
				err = c.Pass()
			} else {
				err = c.Drop()
			}
		}
		if err != nil {
			r.lost(c, err)
			return failed
		}
		if end {
			return last
		}
	}
}

// rowDescription takes what an operation wants to know from a RowDescription, and makes its
// OIDs the client's where it is to go there, or to be kept.
func (r *Runner) rowDescription(op *Op, c *pool.Conn) (err error) {
	if op.Columns != nil {
		err = r.describe(c, op.Columns)
	}
	if err == nil && (!op.Hidden || op.Into != nil || op.Shape != nil) {
		err = r.translate(c)
	}
	if err == nil && op.Origins != nil {
		err = r.origins(op, c)
	}
	if err == nil && op.Into != nil {
		err = r.keepTypes(op.Into, c)
	}
	if err == nil && op.Shape != nil {
		*op.Shape, err = keepMessage(c, 'T')
	}
	return err
}

// ready reads a ReadyForQuery. Before one that is the client's go the settings that have
// changed.
func (r *Runner) ready(c *pool.Conn, final bool) error {
	body, err := c.Body()
	if err == nil && len(body) == 1 {
		c.Ready--
		c.Status = body[0]
	}
	if final && len(r.changed) > 0 {
		r.write(r.AppendChanged)
		r.relay(c)
	}
	return err
}

// completed is the kind of operation that NoData, ParseComplete, BindComplete or
// CloseComplete ends.
func completed(typ byte) Kind {
	switch typ {
	case '1':
		return Parse
	case '2':
		return Bind
	case '3':
		return Close
	}
	return Describe
}

// row deals with the rows at the head of c's input. done says that answer is to
// return st.
func (r *Runner) row(op *Op, c *pool.Conn, oneRow bool) (st state, done bool) {
	var err error
	copied := op.Merge == planner.First && op.Conn == nil && c != op.Conns[0]
	switch {
	case op.Keys != nil: // merge takes it
		if _, err = c.Body(); err == nil {
			return rowPassed, true
		}
	case op.Rows != nil:
		var body []byte
		if body, err = c.Body(); err == nil {
			op.Rows.Rows = append(op.Rows.Rows, pool.DecodeRow(body))
			err = c.Drop()
		}
	case op.Into != nil && op.Merge != planner.AddIntegers && !copied:
		if op.Columns != nil && !op.Columns.Plain() {
			err = r.translateRow(c, op.Columns)
		}
		var body []byte
		if err == nil {
			body, err = c.Body()
		}
		if err == nil {
			if e := op.Into.Row(body); e != nil {
				r.fail(e)
				return failed, true
			}
			err = c.Drop()
		}
		if err == nil && oneRow {
			return rowPassed, true
		}
	case op.Hidden && op.Into == nil || copied:
		err = c.Drop()
	case op.Merge == planner.AddIntegers && op.Conn == nil:
		var body []byte
		if body, err = c.Body(); err == nil {
			if e := r.add(body, op.Formats); e != nil {
				r.fail(e)
				return failed, true
			}
			err = c.Drop()
		}
	case oneRow || op.Columns != nil && !op.Columns.Plain():
		if op.Columns != nil {
			err = r.translateRow(c, op.Columns)
		}
		if err == nil {
			err = c.Pass()
		}
		if err == nil && oneRow {
			return rowPassed, true
		}
	default:
		_, err = c.PassRows()
	}
	if err != nil {
		r.lost(c, err)
		return failed, true
	}
	return 0, false
}

// serverError reads an ErrorResponse.
func (r *Runner) serverError(op *Op, c *pool.Conn) state {
	body, err := c.Body()
	if err != nil {
		r.lost(c, err)
		return failed
	}
	e, err := wire.ParseError(body)
	if err != nil {
		r.lost(c, err)
		return failed
	}
	if err := c.Drop(); err != nil {
		r.lost(c, err)
		return failed
	}
	if op.Kind == Begin {
		// The server skips what follows, up to a Sync that may not be there.
		c.Fail(e)
	}
	if e.IsFatal() {
		// The server ends the connection; the client's goes on.
		c.Fail(e)
		if r.Ends(e) {
			r.stop = e
			return failed
		}
		e.Severity, e.LocalizedSeverity = "ERROR", ""
	}
	if e.Code == wire.QueryCanceled && r.Canceled != nil {
		if v := r.Canceled(); v != nil {
			e = v
		}
	}
	if op.Ours && strings.HasPrefix(e.Code, "42") && e.Code != wire.InsufficientPrivilege {
		e = wire.Errorf(wire.FeatureNotSupported, "this form of statement is not supported over several shards yet").
			WithDetail("Brought together on one shard, its rows give: %s.", e.Message).
			WithHint("Write it in another way, or pin every sharded table to one key.")
	}
	if op.Rewritten || r.Rewritten {
		e.Position = 0
	} else if e.Position > 0 {
		e.Position += r.Shift
	}
	if e.Code == wire.ReadOnlyTransaction && op.Verb != "" {
		e.Message = lockingSelect.ReplaceAllLiteralString(e.Message, op.Verb)
	}
	if e.Code == wire.InsufficientPrivilege && e.Hint == "" {
		e.Hint = op.Denied
	}
	e = c.Blame(e)
	r.failedOn = c
	r.fail(e)
	return failed
}

// lockingSelect is how PostgreSQL names a SELECT that locks rows, in any language.
var lockingSelect = regexp.MustCompile(`SELECT FOR (UPDATE|NO KEY UPDATE|SHARE|KEY SHARE)`)

// tag adds a CommandComplete to the merged one.
func (r *Runner) tag(op *Op, c *pool.Conn, i int) error {
	body, err := c.Body()
	if err != nil {
		return err
	}
	tag, err := wire.DecodeCommandComplete(body)
	if err != nil {
		return err
	}
	verb, rows, counted := wire.SplitTag(tag)
	if i == 0 && op.Keys == nil || r.Tag.Verb == "" { // merged answers end in any order
		r.Tag = Tag{Verb: string(verb), Rows: rows, Counted: counted}
	} else if op.Merge != planner.First {
		r.Tag.Rows += rows
	}
	return nil
}

// skipHeader leaves out a further shard's CopyOutResponse and its header line.
func (r *Runner) skipHeader(c *pool.Conn) error {
	if err := c.Drop(); err != nil {
		return err
	}
	h, err := c.Peek()
	if err != nil || h.Type != 'd' {
		return err
	}
	return c.Drop()
}

// drain brings every connection to a protocol boundary after a failure, and ends
// what the others are still running.
func (r *Runner) drain() {
	r.endRelay(false)
	for _, c := range r.conns {
		if c.Broken || c.Ready == 0 {
			continue
		}
		if !r.drainBuffered(c) && c != r.failedOn {
			c.Cancel()
		}
		for c.Ready > 0 {
			if err := drainOne(c, r); err != nil {
				c.Fail(err)
				break
			}
		}
	}
}

// drainBuffered reads what has been received already; it says whether nothing is
// outstanding any more.
func (r *Runner) drainBuffered(c *pool.Conn) bool {
	for c.Ready > 0 {
		m, ok, err := c.Buffered()
		if err != nil || !ok {
			return false
		}
		switch {
		case m[0] == 'Z' && len(m) == 6:
			c.Ready--
			c.Status = m[5]
		case m[0] == 'S':
			if err := r.noteParam(c, m[5:]); err != nil {
				return false
			}
		}
	}
	return true
}

func drainOne(c *pool.Conn, r *Runner) error {
	h, err := c.Peek()
	if err != nil {
		return err
	}
	switch h.Type {
	case 'Z':
		body, err := c.Body()
		if err != nil {
			return err
		}
		if len(body) == 1 {
			c.Ready--
			c.Status = body[0]
		}
	case 'G':
		c.SetOut(wire.AppendCopyFail(c.Out(), "the statement failed on another shard"))
		if err := c.Flush(); err != nil {
			return err
		}
	case 'S':
		if err := r.param(c); err != nil {
			return err
		}
	}
	return c.Drop()
}

// keepMessage copies the message at the head of c's input.
func keepMessage(c *pool.Conn, typ byte) ([]byte, error) {
	body, err := c.Body()
	if err != nil {
		return nil, err
	}
	return append(binary.BigEndian.AppendUint32([]byte{typ}, uint32(len(body)+4)), body...), nil
}
