package txn

import (
	"cmp"
	"errors"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/shardgate/shardgate/gateway/pool"
	"github.com/shardgate/shardgate/planner"
	"github.com/shardgate/shardgate/wire"
)

// Participant is a shard's part of a transaction that is to be committed.
type Participant struct {
	Conn  *pool.Conn
	Wrote bool
	// Unpreparable marks one that PostgreSQL may refuse to prepare (temporary tables,
	// LISTEN, cursors WITH HOLD): it has to be the decider.
	Unpreparable bool
	// Unused says that nothing was asked of the shard but its snapshot.
	Unused bool
}

// Outcome of a commit.
type Outcome struct {
	// Err is nil if the transaction is committed. Otherwise it is the error to
	// tell the client; the transaction is rolled back, unless Unknown.
	Err *wire.Error
	// Unknown says that it can't be known yet whether it is committed.
	Unknown bool
	// Unfinished are participants, by shard, on which a decided commit is yet
	// to be carried out, with the name of the prepared transaction.
	Unfinished map[int]string
}

// NewID makes the id of a transaction.
func NewID() string { return randomHex(16) }

// Commit ends the transaction of the participants; id gives its id, which it needs if
// several have written. Every connection is in a transaction block without an
// outstanding answer. Afterwards each is outside a transaction, or broken.
func (r *Register) Commit(id func() string, parts []Participant) Outcome {
	var writers, readers []Participant
	for _, p := range parts {
		if p.Wrote {
			writers = append(writers, p)
		} else {
			readers = append(readers, p)
		}
	}
	if err := endReaders(readers); err != nil {
		rollback(writers)
		return Outcome{Err: err}
	}
	switch len(writers) {
	case 0:
		return Outcome{}
	case 1:
		return r.commitOne(writers[0].Conn, slices.ContainsFunc(readers, func(p Participant) bool { return !p.Unused }))
	}
	return r.twoPhase(id(), writers)
}

// endReaders commits those that only read: what was deferred to the commit can
// still fail there, and must fail the whole. So must a lost one, whose locks are gone.
func endReaders(parts []Participant) (failed *wire.Error) {
	for _, p := range parts {
		Reach(CommitReader, p.Conn)
		send(p.Conn, "COMMIT")
		Reach(ReaderSent, p.Conn)
	}
	for _, p := range parts {
		if _, err := answer(p.Conn); err != nil && failed == nil && !(p.Unused && p.Conn.Broken) {
			failed = asWire(err)
		}
	}
	return failed
}

// answer reads the answer to what was sent. A server's error has the shard in its context.
func answer(c *pool.Conn) (*pool.Result, error) {
	if c.Broken {
		return nil, &pool.Lost{Shard: c.Shard.Name, Err: errors.New("write failed")}
	}
	res, err := c.ReadResult()
	if lost := (*pool.Lost)(nil); err != nil && !errors.As(err, &lost) {
		err = c.Blame(wire.AsError(err))
	}
	return res, err
}

// send sends a query.
func send(c *pool.Conn, sql string) {
	c.SendQuery(sql)
	c.FlushAsked()
}

// commitOne commits where one shard alone has written. A transaction that has read on
// others goes through the fence: who sees what it wrote must see what it has read.
func (r *Register) commitOne(c *pool.Conn, fenced bool) Outcome {
	sql := "COMMIT"
	if fenced {
		defer r.Fence.writing()()
		sql = r.fenceCall(c, randomHex(16)) + ";COMMIT"
	}
	Reach(CommitOne, c)
	send(c, sql)
	Reach(CommitOneSent, c)
	res, err := answer(c)
	var lost *pool.Lost
	switch {
	case errors.As(err, &lost):
		e := lost.Unresolved()
		return Outcome{Unknown: e.Code == wire.TransactionResolutionUnknown, Err: e}
	case err != nil:
		if c.Status != 'I' { // it was the fence's
			Rollback([]*pool.Conn{c})
		}
		return Outcome{Err: asWire(err)}
	case !slices.Contains(res.Tags, "COMMIT"):
		return Outcome{Err: wire.Errorf(wire.InFailedTransaction, "the transaction had failed on shard %s and was rolled back", c.Shard.Name)}
	}
	return Outcome{}
}

func asWire(err error) *wire.Error {
	var lost *pool.Lost
	if errors.As(err, &lost) {
		return lost.Wire()
	}
	return wire.AsError(err)
}

func rollback(parts []Participant) {
	var conns []*pool.Conn
	for _, p := range parts {
		conns = append(conns, p.Conn)
	}
	Rollback(conns)
}

// Rollback rolls the connections' transactions back. One that does not answer in
// time is broken afterwards, which rolls it back too.
func Rollback(conns []*pool.Conn) {
	for _, c := range conns {
		if c.Broken || c.Status == 'I' && c.Ready == 0 {
			continue
		}
		c.SetDeadline(time.Now().Add(adminTimeout))
		c.SendQuery("ROLLBACK")
		if err := c.Flush(); err != nil {
			c.Fail(err)
		}
	}
	for _, c := range conns {
		if !c.Broken && c.Ready > 0 {
			if _, err := c.ReadResult(); err != nil && c.Status != 'I' {
				c.Broken = true
			}
		}
		c.SetDeadline(time.Time{})
	}
}

// twoPhase commits on several shards.
//
// The fence is taken in the order of rank (see Fence), the last time together with what
// follows: on the last of the prepared in the write that prepares it, on the decider by
// the decision.
func (r *Register) twoPhase(txid string, parts []Participant) Outcome {
	slices.SortFunc(parts, func(a, b Participant) int {
		return cmp.Compare(r.rank(a.Conn.Shard.Index), r.rank(b.Conn.Shard.Index))
	})
	last := len(parts) - 1
	// Of several it is the first: on the home shard a transaction has often touched nothing of
	// what can't be prepared. If it has, that shard says so.
	decider := slices.IndexFunc(parts, func(p Participant) bool { return p.Unpreparable })
	if decider < 0 {
		// The home shard if it takes part: what can't be prepared, such as NOTIFY, is run there.
		decider = last
	}
	d := parts[decider]
	others := slices.Delete(slices.Clone(parts), decider, decider+1)

	backend := pid(d.Conn) + "." + d.Conn.BackendStart
	r.inFlight.add(txid)
	defer r.inFlight.remove(txid)
	defer r.Fence.writing()()
	gids := make([]string, len(others))
	for i, p := range others {
		gids[i] = gid{r.Cluster, d.Conn.Shard.Name, txid, p.Conn.Shard.Name, backend}.String()
	}
	prepared := make([]bool, len(others))
	// The fence of all but the last that is fenced here, one after the other.
	fenced := parts[:last]
	if decider < last {
		fenced = parts
	}
	for _, p := range fenced[:len(fenced)-1] {
		Reach(TakeFence, p.Conn)
		send(p.Conn, r.fenceCall(p.Conn, txid))
		Reach(TakeFenceSent, p.Conn)
		if _, err := answer(p.Conn); err != nil {
			r.abort(d, others, gids, prepared)
			return Outcome{Err: asWire(err)}
		}
	}
	for i, p := range others {
		sql := "PREPARE TRANSACTION '" + gids[i] + "'"
		if p.Conn == fenced[len(fenced)-1].Conn {
			sql = r.fenceCall(p.Conn, txid) + ";" + sql
		}
		Reach(Prepare, p.Conn)
		send(p.Conn, sql)
		Reach(PrepareSent, p.Conn)
	}
	var failed *wire.Error
	for i, p := range others {
		if err := readPrepared(p.Conn); err != nil {
			if failed == nil {
				failed = err
			}
			continue
		}
		prepared[i] = true
	}
	if failed != nil {
		r.abort(d, others, gids, prepared)
		return Outcome{Err: failed}
	}
	return r.decide(d, others, gids, txid, backend)
}

// readPrepared reads the answer to PREPARE TRANSACTION. A failed transaction
// answers it with ROLLBACK, and no error.
func readPrepared(c *pool.Conn) *wire.Error {
	res, err := answer(c)
	if isCode(err, wire.ObjectNotInPrerequisiteState) {
		return asWire(err).WithDetail("A transaction over several shards has to be prepared on shard %s.", c.Shard.Name).
			WithHint("Set max_prepared_transactions to max_connections there, and restart the server.")
	}
	if isCode(err, wire.OutOfMemory) && strings.Contains(wire.AsError(err).Hint, "max_prepared_transactions") {
		return asWire(err).WithDetail("A transaction over several shards has to be prepared on shard %s, and as many are as it has room for.", c.Shard.Name).
			WithHint("See in pg_prepared_xacts there whether somebody has left some. Otherwise set max_prepared_transactions to max_connections, and restart the server.")
	}
	if isCode(err, wire.FeatureNotSupported) {
		return asWire(err).WithHint("A transaction over several shards has to be prepared on all but one. Use what can't be in a transaction of its own.")
	}
	if err != nil {
		return asWire(err)
	}
	if n := len(res.Tags); n == 0 || res.Tags[n-1] != "PREPARE TRANSACTION" {
		return wire.Errorf(wire.InFailedTransaction, "the transaction could not be prepared on shard %s and was rolled back", c.Shard.Name)
	}
	return nil
}

// abort rolls back everywhere before there was a decision. What can't be reached
// is left to recovery, which finds no decision and rolls back.
func (r *Register) abort(d Participant, others []Participant, gids []string, prepared []bool) {
	Reach(AbortDecider, d.Conn)
	rollback([]Participant{d})
	for i, p := range others {
		Reach(Abort, p.Conn)
		switch {
		case p.Conn.Broken:
		case prepared[i]:
			end := "ROLLBACK PREPARED " + planner.QuoteLiteral(gids[i])
			if _, err := p.Conn.QueryTimeout(end, adminTimeout); isCode(err, wire.InsufficientPrivilege) {
				asOwner(p.Conn, end, gids[i])
			}
		default:
			rollback([]Participant{p})
		}
	}
}

// decide writes the decision and carries it out.
func (r *Register) decide(d Participant, others []Participant, gids []string, txid, backend string) Outcome {
	Reach(Prepared, d.Conn)
	send(d.Conn, r.decideCall(d.Conn, txid, backend, shardNames(others))+"; COMMIT")
	Reach(DecideSent, d.Conn)
	res, err := answer(d.Conn)
	committed := err == nil && len(res.Tags) == 2 && res.Tags[1] == "COMMIT"
	var lost *pool.Lost
	if errors.As(err, &lost) {
		// The register alone knows. Asking it settles the question, since a
		// transaction that has no row yet can't write one afterwards.
		var known bool
		committed, known = r.settle(d.Conn.Shard.Index, txid, backend)
		if !known {
			id := r.id(d.Conn.Shard.Name, txid)
			return Outcome{Unknown: true, Err: wire.Errorf(wire.StatementCompletionUnknown,
				"whether transaction %s is committed is not known: the connection to shard %s was lost during COMMIT", id, d.Conn.Shard.Name).
				WithDetail("It will be committed on all shards or rolled back on all of them when shard %s can be reached.", d.Conn.Shard.Name).
				WithHint("Ask before you do it again: SELECT shardgate.transaction_status('%s').", id)}
		}
	}
	verb := "COMMIT PREPARED "
	if !committed {
		verb = "ROLLBACK PREPARED "
		if d.Conn.Status != 'I' {
			rollback([]Participant{d})
		}
	}
	for i, p := range others {
		Reach(Decided, p.Conn)
		send(p.Conn, verb+planner.QuoteLiteral(gids[i]))
		Reach(FinishSent, p.Conn)
	}
	out := Outcome{}
	for i, p := range others {
		_, err := answer(p.Conn)
		if isCode(err, wire.InsufficientPrivilege) {
			err = asOwner(p.Conn, verb+planner.QuoteLiteral(gids[i]), gids[i])
		}
		if err == nil || isCode(err, wire.UndefinedObject) {
			continue
		}
		if committed {
			if out.Unfinished == nil {
				out.Unfinished = map[int]string{}
			}
			out.Unfinished[p.Conn.Shard.Index] = gids[i]
		}
	}
	if !committed {
		if lost != nil {
			out.Err = lost.Wire()
		} else if isCode(err, wire.UniqueViolation) && wire.AsError(err).Table == "decisions" {
			out.Err = wire.Errorf(wire.SerializationFailure, "the transaction was taken for abandoned and rolled back by another gateway").
				WithHint("Begin the transaction again.")
		} else if err != nil {
			out.Err = asWire(err)
		} else {
			out.Err = wire.Errorf(wire.InFailedTransaction, "the transaction had failed on shard %s and was rolled back", d.Conn.Shard.Name)
		}
		return out
	}
	Reach(Finished, nil)
	if out.Unfinished == nil {
		r.done.add(d.Conn.Shard.Index, txid)
	}
	return out
}

// asOwner ends a prepared transaction as the role that prepared it, where that is not the
// connection's any more: SET LOCAL ROLE holds until PREPARE TRANSACTION, and PostgreSQL wants the
// same role then, whatever other roles that is a member of.
func asOwner(c *pool.Conn, sql, gid string) error {
	res, err := c.QueryTimeout("SELECT pg_catalog.current_setting('role'), pg_catalog.set_config('role', owner::pg_catalog.text, false) FROM pg_catalog.pg_prepared_xacts WHERE gid = "+
		planner.QuoteLiteral(gid), adminTimeout)
	if err != nil || len(res.Rows) == 0 {
		return err
	}
	_, err = c.QueryTimeout(sql, adminTimeout)
	back := "SET ROLE NONE"
	if role := res.Value(0); role != "none" {
		back = "SET ROLE " + planner.QuoteIdent(role)
	}
	if _, failed := c.QueryTimeout(back, adminTimeout); failed != nil {
		c.Broken = true
	}
	return err
}

// shardNames are the names of the participants' shards, joined by commas.
func shardNames(parts []Participant) string {
	var names []string
	for _, p := range parts {
		names = append(names, p.Conn.Shard.Name)
	}
	return strings.Join(names, ",")
}

func isCode(err error, code string) bool {
	var we *wire.Error
	return errors.As(err, &we) && we.Code == code
}

// inFlight are the transactions whose coordinator is this process.
type inFlight struct {
	mu  sync.Mutex
	ids map[string]bool
}

func (f *inFlight) add(id string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.ids == nil {
		f.ids = map[string]bool{}
	}
	f.ids[id] = true
}

func (f *inFlight) remove(id string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	delete(f.ids, id)
}

func (f *inFlight) has(id string) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.ids[id]
}

// doneList are the decisions that every participant has carried out, by decider:
// their rows can go.
type doneList struct {
	mu  sync.Mutex
	ids map[int][]string
}

func (l *doneList) add(shard int, id string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.ids == nil {
		l.ids = map[int][]string{}
	}
	l.ids[shard] = append(l.ids[shard], id)
}

func (l *doneList) take() map[int][]string {
	l.mu.Lock()
	defer l.mu.Unlock()
	ids := l.ids
	l.ids = nil
	return ids
}
