package exec

import (
	"errors"

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
	Begin                // is Conn.SendBegin's: ends with CommandComplete
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
	// Keys are those that the rows of each of Conns are sorted by, and its last columns: the
	// rows are merged, and the client gets the columns before.
	Keys []planner.SortKey
	// Whole passes rows on only when no shard has failed, as PostgreSQL does with
	// RETURNING: it sends the rows when all are written.
	Whole bool
	// Rewritten says that the shards have another text than the client's, so that
	// a position in it means nothing to the client.
	Rewritten bool
	// Ours says that the statement is the gateway's own: one that PostgreSQL doesn't
	// accept, while it accepts the client's, is not supported.
	Ours bool
	// Denied is the hint to give with an error of missing rights.
	Denied string
	// Verb is the client's statement's if the shards lock rows for it by a SELECT of the
	// gateway's: the error of a read-only transaction names the statement.
	Verb string
	// Header says that each shard's COPY output begins with a header line.
	Header bool
	// BinaryCopy says that the shards' COPY output is in binary format.
	BinaryCopy bool
	// Copy divides incoming COPY data; nil sends it as it comes.
	Copy *Splitter

	// Answer is what a Local operation writes, or Err what it fails with.
	Answer []byte
	Err    *wire.Error

	// Done is called after the answers have come without an error.
	Done func()
	// Each is called after the answer of each of Conns.
	Each func(i int)
	// Rows gets the rows of a Hidden query.
	Rows *pool.Result
	// Into gets the rows of a Hidden operation, and by a Describe before it their
	// columns.
	Into Sink
	// Shape gets the RowDescription of a Hidden Describe, whole; an Execute with Whole
	// or Keys writes it before the rows.
	Shape *[]byte
	// Columns are the portal's: a Describe fills them, for the Execute.
	Columns *Columns
	// Origins are a cursor's: a hidden Describe of its query fills them, for what
	// describes its rows to the client.
	Origins *Origins
	// Pass chooses among the rows of a merge; nil takes all.
	Pass *Passing
	// Params gets the types of a statement's parameters by a Describe, by the home
	// shard's OIDs. NoParams keeps them from the client, whose statement has none.
	Params   *[]uint32
	NoParams bool
}

// Sink takes rows that are not for the client.
type Sink interface {
	// Columns tells the columns' names, and their types by the home shard's OIDs.
	Columns(names []string, oids []uint32)
	// Row takes a row as it is in DataRow. It is valid during the call.
	Row(body []byte) *wire.Error
}

// Runner runs the operations of one session. The zero value, with Client and
// Reported set, is ready for use.
type Runner struct {
	Client *wire.Conn
	// Reported are the settings as the client knows them. The map may be others' too, and
	// is replaced when they change.
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

	// Interrupted says that the client has asked for the end of what it waits for: it may
	// have done so while nothing ran on the shards.
	Interrupted func() bool
	// Ends says whether a server's last error, before it closed the connection, ends the
	// client's session as well.
	Ends func(*wire.Error) bool
	// Canceled gives the error in the place of a canceled statement's, or nil.
	Canceled func() *wire.Error

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
	// Commits says that what is run commits what it writes, as a statement outside a block
	// does: when its answer is lost, whether it is committed can't be known. Run resets it.
	Commits bool
	// Divert gets the rows of the operations that are added, and nothing else of their
	// answers goes to the client but errors and notices; nil where all goes there.
	Divert Sink
	// Shift is added to the positions in the shards' errors: the characters of
	// the client's text before the statement that they have.
	Shift int32
	// Rewritten is that of all operations.
	Rewritten bool
	// Plain says that the client has sent a simple Query, and is not told of what only the
	// extended protocol has.
	Plain bool

	ops   []Op
	next  int // the first operation that has not been answered
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

// Append encodes the tag as CommandComplete.
func (t Tag) Append(dst []byte) []byte {
	if t.Counted {
		return wire.AppendCommandComplete(dst, t.Verb, t.Rows)
	}
	return wire.AppendCommandTag(dst, t.Verb)
}

// Add appends an operation.
func (r *Runner) Add(op Op) {
	if r.Divert != nil && !op.Hidden {
		op.Hidden, op.HoldTag, op.Rewritten = true, true, true
		if op.Kind == Execute {
			op.Into = r.Divert
		}
	}
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
	r.RunTo(len(r.ops))
	return r.end(flush)
}

// RunTo sends everything and reads the answers to the first n operations. The answers to
// the others are for a Run or Discard to come, which is due also after a failure.
func (r *Runner) RunTo(n int) {
	if r.next > 0 && r.Failed != nil {
		return
	}
	r.Failed, r.FailedOp, r.Suspended, r.failedOn = nil, -1, false, nil
	r.syncBegins()
	for _, c := range r.conns {
		if !c.Broken {
			c.FlushAsked()
		}
	}
	if r.Interrupted != nil && r.Interrupted() {
		for _, c := range r.conns {
			if !c.Broken {
				c.Cancel()
			}
		}
	}
	for r.next < n && r.Failed == nil && r.stop == nil {
		r.FailedOp = r.next
		r.next++
		r.collect(&r.ops[r.FailedOp])
	}
}

// syncBegins has those transactions' begin answered after which nothing was asked for.
func (r *Runner) syncBegins() {
	for i := r.next; i < len(r.ops); i++ {
		if op := &r.ops[i]; op.Kind == Begin && op.Conn.BeginIsLast() {
			op.Conn.SendSync()
			op.Kind = Sync
		}
	}
}

// Discard ends what is under way, and keeps it from the client.
func (r *Runner) Discard() {
	r.drain()
	r.forget()
}

// Hide keeps the answers to what has been added from the client.
func (r *Runner) Hide() {
	for i := range r.ops {
		r.ops[i].Hidden, r.ops[i].Answer = true, nil
	}
}

// end brings the connections to a boundary, and the client its answers.
func (r *Runner) end(flush bool) error {
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
	r.forget()
	return r.stop
}

// forget makes the runner ready for other operations.
func (r *Runner) forget() {
	clear(r.ops)
	r.ops, r.next = r.ops[:0], 0
	clear(r.conns)
	r.conns = r.conns[:0]
	r.Commits = false
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

// Fail makes the Run under way fail, from within an operation's Done.
func (r *Runner) Fail(e *wire.Error) { r.fail(e) }

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
	if r.Commits {
		r.fail(l.Unresolved())
	} else {
		r.fail(l.Wire())
	}
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
	if op.Kind == Query || op.Kind == Execute {
		r.Tag, r.sums = Tag{}, r.sums[:0]
	}
	if op.Whole && !r.succeeded(op) {
		return
	}
	if op.Whole && op.Shape != nil {
		r.write(func(b []byte) []byte { return append(b, *op.Shape...) })
	}
	if op.Keys != nil {
		if r.merge(op) && !op.HoldTag {
			r.write(r.Tag.Append)
		}
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
		if op.Each != nil && r.Failed == nil {
			op.Each(i)
		}
	}
	if copies > 0 {
		if copies == len(op.Conns) && r.Failed == nil {
			r.copyIn(op, op.Conns)
		} else {
			r.fail(wire.Errorf(wire.InternalError, "COPY began on some shards only"))
		}
	}
	if op.Merge == planner.AddIntegers && op.Into != nil && r.Failed == nil && r.stop == nil {
		if e := op.Into.Row(appendSums(nil, r.sums, op.Formats)[5:]); e != nil {
			r.fail(e)
		}
		r.Tag.Rows = 1
	}
	if r.Failed != nil || r.stop != nil || op.Hidden || op.Kind != Query && op.Kind != Execute {
		return
	}
	if op.Merge == planner.AddIntegers {
		r.write(func(b []byte) []byte { return appendSums(b, r.sums, op.Formats) })
		r.Tag.Rows = 1
	}
	if !op.HoldTag && r.Tag.Verb != "" {
		r.write(r.Tag.Append)
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
