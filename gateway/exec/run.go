// Package exec sends messages to shards and brings their answers to the client:
// the one path on which everything a client asks for travels, from a select by
// key to a COPY over all shards. It does not plan and does not know transactions.
//
// The governing idea: what is to be done is a list of operations. All of them are
// written to their shards first, and then the answers are read in the order of
// the list, by the one goroutine that owns the session, straight from a shard's
// read buffer to the client.
package exec

import (
	"errors"
	"maps"
	"slices"

	"github.com/shardgate/shardgate/gateway/pool"
	"github.com/shardgate/shardgate/planner"
	"github.com/shardgate/shardgate/wire"
)

// Kind is what an operation asks of its shards.
type Kind uint8

const (
	Query    Kind = iota // ends with ReadyForQuery
	Parse                // ends with ParseComplete
	Bind                 // ends with BindComplete
	Describe             // ends with RowDescription or NoData
	Execute              // ends with CommandComplete, PortalSuspended or EmptyQueryResponse
	Close                // ends with CloseComplete
	Sync                 // ends with ReadyForQuery
	Local                // is answered by the gateway
)

// Op is one operation. The messages that ask for it are in the output of its
// connections already.
type Op struct {
	Kind  Kind
	Conn  *pool.Conn   // the only target, or
	Conns []*pool.Conn // all of them

	// Hidden answers are not for the client; an error is.
	Hidden bool
	// Final passes the shard's ReadyForQuery on as the client's.
	Final bool
	// HoldTag keeps CommandComplete from the client: Runner.Tag has it.
	HoldTag bool

	Merge   planner.Merge
	Formats []int16 // of the result's columns, for AddIntegers; as in Bind
	// Order says, for each row of a Split, which of Conns gets it: their rows
	// are put back in that order.
	Order []uint8
	// Whole passes rows on only when no shard has failed, as PostgreSQL does with
	// RETURNING: it sends the rows when all are written.
	Whole bool
	// Rewritten says that the shards have another text than the client's, so that
	// a position in it means nothing to the client.
	Rewritten bool
	// Header says that each shard's COPY output begins with a header line.
	Header bool
	// Copy divides incoming COPY data; nil sends it as it comes.
	Copy *Splitter

	// Answer is what a Local operation writes, or Err what it fails with.
	Answer []byte
	Err    *wire.Error

	// Done is called after the answers have come without an error.
	Done func()
	// Rows gets the rows of a Hidden query.
	Rows *pool.Result
	// Columns are the portal's: a Describe fills them, for the Execute.
	Columns *Columns
	// Params gets the types of a statement's parameters by a Describe, by the home
	// shard's OIDs.
	Params *[]uint32
}

// Runner runs the operations of one session. The zero value, with Client and
// Reported set, is ready for use.
type Runner struct {
	Client *wire.Conn
	// Reported are the settings as the client knows them.
	Reported map[string]string
	// changed are those that it is to be told before the next ReadyForQuery,
	// which is when PostgreSQL does: what was changed and changed back is not
	// worth a word.
	changed map[string]string
	// OIDs gives the translation of a shard's OIDs to the home shard's; nil where
	// they are the same.
	OIDs func(shard int) map[uint32]uint32
	// Nesting gives the types that have OIDs within their values.
	Nesting func() Nesting

	// Failed is the error that the client was told in the last Run, or nil.
	Failed *wire.Error
	// FailedOp is the index of the operation that failed.
	FailedOp int
	// Tag is the CommandComplete that was held back: verb and, if Counted, rows.
	Tag Tag
	// Suspended says that the last Execute stopped at its row limit.
	Suspended bool
	// Copied says that COPY data was taken by an Execute: the client's Sync that
	// came before the data is to be ignored, as PostgreSQL does. The user of the
	// Runner resets it.
	Copied bool
	// Shift is added to the positions in the shards' errors: the characters of
	// the client's text before the statement that they have.
	Shift int32

	ops   []Op
	conns []*pool.Conn
	src   *pool.Conn // the relay's source
	desc  wire.RowDescription
	sums  []int64
	stop  error // the client's connection is lost
	// failedOn is the connection that the failure came from: what it was asked for
	// has ended there.
	failedOn *pool.Conn
}

// Tag is a command's tag.
type Tag struct {
	Verb    string
	Rows    uint64
	Counted bool
}

func (t Tag) append(dst []byte) []byte {
	if t.Counted {
		return wire.AppendCommandComplete(dst, t.Verb, t.Rows)
	}
	return wire.AppendCommandTag(dst, t.Verb)
}

// Append encodes the tag as CommandComplete.
func (t Tag) Append(dst []byte) []byte { return t.append(dst) }

// Add appends an operation.
func (r *Runner) Add(op Op) {
	r.ops = append(r.ops, op)
	if op.Conn != nil {
		r.use(op.Conn)
	}
	for _, c := range op.Conns {
		r.use(c)
	}
}

func (r *Runner) use(c *pool.Conn) {
	for _, d := range r.conns {
		if d == c {
			return
		}
	}
	r.conns = append(r.conns, c)
}

// Len is the number of operations that wait for Run.
func (r *Runner) Len() int { return len(r.ops) }

// Pending is the number of bytes that wait to be sent to the shards.
func (r *Runner) Pending() int {
	n := 0
	for _, c := range r.conns {
		n += c.Pending()
	}
	return n
}

// Run sends everything and reads all answers. Afterwards each connection is at a
// protocol boundary or broken. With flush, the client's output is flushed. The
// error is one of the client's connection; the shards' are in Failed.
func (r *Runner) Run(flush bool) error {
	r.Failed, r.FailedOp, r.Suspended, r.failedOn = nil, -1, false, nil
	for _, c := range r.conns {
		if c.Broken {
			continue
		}
		if err := c.Flush(); err != nil {
			c.Fail(err)
		}
	}
	for i := range r.ops {
		if r.Failed != nil || r.stop != nil {
			break
		}
		r.FailedOp = i
		r.collect(&r.ops[i])
	}
	if r.Failed != nil || r.stop != nil {
		r.drain()
	} else {
		r.FailedOp = -1
	}
	r.endRelay(flush)
	if flush && r.stop == nil {
		if err := r.Client.Flush(); err != nil {
			r.stop = err
		}
	}
	clear(r.ops)
	r.ops = r.ops[:0]
	clear(r.conns)
	r.conns = r.conns[:0]
	return r.stop
}

func (r *Runner) endRelay(flush bool) {
	if r.src == nil {
		return
	}
	if err := r.src.EndRelay(flush); err != nil && r.stop == nil {
		r.stop = err
	}
	r.src = nil
}

// relay makes c the source of what is passed on.
func (r *Runner) relay(c *pool.Conn) {
	if r.src == c {
		return
	}
	r.endRelay(false)
	c.BeginRelay(r.Client)
	r.src = c
}

// write appends the gateway's own messages to the client's output.
func (r *Runner) write(f func([]byte) []byte) {
	r.endRelay(false)
	r.Client.SetOut(f(r.Client.Out()))
}

// fail tells the client of an error, once.
func (r *Runner) fail(e *wire.Error) {
	if r.Failed != nil {
		return
	}
	r.Failed = e
	r.write(e.Append)
}

// lost deals with an error of reading from c, which may be the client's when c
// is the source of the relay.
func (r *Runner) lost(c *pool.Conn, err error) {
	var relay *wire.RelayError
	if errors.As(err, &relay) {
		r.stop = relay.Err
		return
	}
	if r.src == c {
		r.endRelay(false)
	}
	var l *pool.Lost
	errors.As(c.Fail(err), &l)
	r.fail(l.Wire())
}

// collect reads the answers to one operation.
func (r *Runner) collect(op *Op) {
	switch {
	case op.Kind == Local:
		if op.Err != nil {
			r.fail(op.Err)
			return
		}
		if len(op.Answer) > 0 {
			r.write(func(b []byte) []byte { return append(b, op.Answer...) })
		}
	case op.Conn != nil:
		if st := r.answer(op, op.Conn, 0, false); st == copying {
			r.copyIn(op, []*pool.Conn{op.Conn})
		}
	default:
		r.collectAll(op)
	}
	if r.Failed == nil && r.stop == nil && op.Done != nil {
		op.Done()
	}
}

// collectAll reads the answers of several shards and merges them.
func (r *Runner) collectAll(op *Op) {
	r.Tag, r.sums = Tag{}, r.sums[:0]
	if op.Whole && !r.succeeded(op) {
		return
	}
	ended := make([]bool, len(op.Conns))
	for _, i := range op.Order {
		if r.Failed != nil || r.stop != nil {
			return
		}
		if !ended[i] && r.answer(op, op.Conns[i], int(i), true) != rowPassed {
			ended[i] = true
		}
	}
	copies := 0
	for i, c := range op.Conns {
		if r.Failed != nil || r.stop != nil {
			return
		}
		if !ended[i] && r.answer(op, c, i, false) == copying {
			copies++
		}
	}
	if copies > 0 {
		if copies == len(op.Conns) && r.Failed == nil {
			r.copyIn(op, op.Conns)
		} else {
			r.fail(wire.Errorf(wire.InternalError, "COPY began on some shards only"))
		}
	}
	if r.Failed != nil || r.stop != nil || op.Hidden || op.Kind != Query && op.Kind != Execute {
		return
	}
	if op.Merge == planner.AddIntegers {
		r.write(func(b []byte) []byte { return appendSums(b, r.sums, op.Formats) })
		r.Tag.Rows = 1
	}
	if !op.HoldTag && r.Tag.Verb != "" {
		r.write(r.Tag.append)
	}
}

// succeeded waits for the answers to begin, and says whether none is an error. A
// shard that changes rows begins its answer when it has changed them all.
func (r *Runner) succeeded(op *Op) bool {
	for i, c := range op.Conns {
		if c.Broken {
			r.lost(c, errors.New("write failed"))
			return false
		}
		for wait := true; wait; {
			h, err := c.Peek()
			switch {
			case err != nil:
				r.lost(c, err)
				return false
			case h.Type == 'E':
				r.serverError(op, c)
				return false
			case h.Type == 'N' && op.Merge == planner.First && i > 0:
				err = c.Drop()
			case h.Type == 'N':
				r.relay(c)
				err = c.Pass()
			case h.Type == 'S':
				if err = r.param(c); err == nil {
					err = c.Drop()
				}
			default:
				wait = false
			}
			if err != nil {
				r.lost(c, err)
				return false
			}
		}
	}
	return true
}

// state is how far answer has come.
type state uint8

const (
	ended     state = iota // the operation's last message was read
	rowPassed              // one row was passed on, as asked for
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
	r.relay(c)
	for {
		h, err := c.Peek()
		if err != nil {
			r.lost(c, err)
			return failed
		}
		pass := !op.Hidden
		end := false
		switch h.Type {
		case 'D':
			if st, done := r.row(op, c, oneRow); done {
				return st
			}
			continue
		case 'T':
			if op.Columns != nil && i == 0 {
				err = r.describe(c, op.Columns)
			}
			if err == nil && pass && i == 0 {
				err = r.translate(c)
			}
			pass = pass && i == 0
			end = op.Kind == Describe
		case 't':
			if pass {
				err = r.translateParams(c, op.Params)
			}
		case 'n':
			end = op.Kind == Describe
			pass = pass && i == 0
		case '1':
			end = op.Kind == Parse
			pass = pass && i == 0
		case '2':
			end = op.Kind == Bind
			pass = pass && i == 0
		case '3':
			end = op.Kind == Close
			pass = pass && i == 0
		case 'C':
			end = op.Kind == Execute
			if many || op.HoldTag {
				err = r.tag(op, c, i)
				pass = false
			}
		case 's', 'I':
			end = op.Kind == Execute
			r.Suspended = h.Type == 's'
			pass = pass && i == 0
		case 'Z':
			var body []byte
			if body, err = c.Body(); err == nil && len(body) == 1 {
				c.Ready--
				c.Status = body[0]
			}
			end = true
			pass = op.Final
			if pass && len(r.changed) > 0 {
				r.write(r.AppendChanged)
				r.relay(c)
			}
		case 'E':
			return r.serverError(op, c)
		case 'N':
			pass = op.Merge != planner.First || i == 0
		case 'S':
			pass, err = false, r.param(c)
		case 'G':
			if pass && i == 0 {
				err = c.Pass()
			} else {
				err = c.Drop()
			}
			if err != nil {
				r.lost(c, err)
				return failed
			}
			return copying
		case 'H':
			pass = pass && i == 0
			if op.Header && i > 0 {
				if err = r.skipHeader(c); err != nil {
					r.lost(c, err)
					return failed
				}
				continue
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
			return ended
		}
	}
}

// row deals with the rows at the head of c's input. done says that answer is to
// return st.
func (r *Runner) row(op *Op, c *pool.Conn, oneRow bool) (st state, done bool) {
	var err error
	switch {
	case op.Rows != nil:
		var body []byte
		if body, err = c.Body(); err == nil {
			op.Rows.Rows = append(op.Rows.Rows, pool.DecodeRow(body))
			err = c.Drop()
		}
	case op.Hidden || op.Merge == planner.First && op.Conn == nil && c != op.Conns[0]:
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
	if e.IsFatal() {
		// The server ends the connection; the client's goes on.
		c.Broken, c.Ready = true, 0
		e.Severity, e.LocalizedSeverity = "ERROR", ""
	}
	if op.Rewritten {
		e.Position = 0
	} else if e.Position > 0 {
		e.Position += r.Shift
	}
	if e.Where != "" {
		e.Where += "\n"
	}
	e.Where += "shard " + c.Shard.Name
	r.failedOn = c
	r.fail(e)
	return failed
}

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
	if i == 0 || r.Tag.Verb == "" {
		r.Tag = Tag{Verb: string(verb), Rows: rows, Counted: counted}
	} else if op.Merge != planner.First {
		r.Tag.Rows += rows
	}
	return nil
}

// param notes a ParameterStatus.
func (r *Runner) param(c *pool.Conn) error {
	body, err := c.Body()
	if err != nil {
		return err
	}
	return r.noteParam(c, body)
}

func (r *Runner) noteParam(c *pool.Conn, body []byte) error {
	name, value, err := wire.DecodeParameterStatus(body)
	if err != nil {
		return err
	}
	c.Params[string(name)] = string(value)
	r.Note(string(name), string(value))
	return nil
}

// Note notes the value that a setting has now, for the client to be told before
// the next ReadyForQuery.
func (r *Runner) Note(name, value string) {
	if r.Reported[name] == value {
		delete(r.changed, name)
		return
	}
	if r.changed == nil {
		r.changed = map[string]string{}
	}
	r.changed[name] = value
}

// Setting returns the value that a reported setting has now.
func (r *Runner) Setting(name string) (value string, ok bool) {
	if value, ok = r.changed[name]; !ok {
		value, ok = r.Reported[name]
	}
	return value, ok
}

// AppendChanged appends a ParameterStatus for each setting that has changed.
func (r *Runner) AppendChanged(dst []byte) []byte {
	for _, name := range slices.Sorted(maps.Keys(r.changed)) {
		dst = wire.AppendParameterStatus(dst, name, r.changed[name])
		r.Reported[name] = r.changed[name]
	}
	clear(r.changed)
	return dst
}

// translate puts the home shard's OIDs in the place of the shard's own in the
// RowDescription at the head of c's input.
func (r *Runner) translate(c *pool.Conn) error {
	m := r.oids(c)
	if m == nil {
		return nil
	}
	body, err := c.Body()
	if err != nil {
		return err
	}
	if err := wire.DecodeRowDescription(body, &r.desc); err != nil {
		return err
	}
	for i := range r.desc.Len() {
		if o, ok := m[r.desc.TypeOID(i)]; ok {
			r.desc.SetTypeOID(i, o)
		}
		if o, ok := m[r.desc.TableOID(i)]; ok {
			r.desc.SetTableOID(i, o)
		}
	}
	return nil
}

// translateParams does so in a ParameterDescription. types, if not nil, gets them.
func (r *Runner) translateParams(c *pool.Conn, types *[]uint32) error {
	m := r.oids(c)
	if m == nil && types == nil {
		return nil
	}
	body, err := c.Body()
	if err != nil {
		return err
	}
	d, err := wire.DecodeParameterDescription(body)
	if err != nil {
		return err
	}
	for i := range d.Len() {
		if o, ok := m[d.OID(i)]; ok {
			d.SetOID(i, o)
		}
		if types != nil {
			*types = append(*types, d.OID(i))
		}
	}
	return nil
}

func (r *Runner) oids(c *pool.Conn) map[uint32]uint32 {
	if r.OIDs == nil {
		return nil
	}
	return r.OIDs(c.Shard.Index)
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
