package session

import (
	"context"
	"errors"
	"slices"
	"strings"
	"time"

	"github.com/shardgate/shardgate/gateway/catalog"
	"github.com/shardgate/shardgate/gateway/exec"
	"github.com/shardgate/shardgate/gateway/pool"
	"github.com/shardgate/shardgate/gateway/txn"
	"github.com/shardgate/shardgate/planner"
	"github.com/shardgate/shardgate/wire"
)

// transaction is a transaction block over any number of shards. A shard takes
// part from the first statement that goes there.
type transaction struct {
	// explicit is false for the implicit block around a batch, a multi-statement
	// Query or a statement that writes on several shards.
	explicit bool
	failed   bool
	clockAt  int    // the shard whose time is the transaction's, or noShard
	clock    string // that time, once it was read
	begin    string // BEGIN with its modes
	level    string // isolation level, in lower case; "" is the default
	// prelude is replayed on a shard that joins: savepoints, settings and the
	// like, in order, so that a rollback to a savepoint finds on it what it
	// finds on the others.
	prelude []entry
	parts   []*participant // by shard
	// open says that it has its snapshot, of one instant on all its shards: those of
	// scope, or all if that is nil. absent are those that could not be reached then.
	open   bool
	scope  []int
	absent map[int]error
	// alone says that it is one statement's or batch's that only reads.
	alone  bool
	before frozen            // the settings at BEGIN
	schema bool              // DDL was run
	snap   *catalog.Snapshot // the schema as the transaction sees it; nil until it is asked for
	held   map[int]bool      // connections that the transaction made held, and a rollback releases
}

// entry is one statement of the prelude.
type entry struct {
	sql       string
	savepoint string // its name, if it makes one
	sets      bool   // it changes settings
	modes     bool   // of the transaction
	settings  frozen // as they were before it
}

// frozen are settings to which a rollback returns.
type frozen struct {
	vars  *pool.Vars
	local *pool.Vars
}

// participant is a shard's part.
type participant struct {
	conn  *pool.Conn
	wrote bool
	// unpreparable says that what a session holds beyond its transactions was made or may have
	// been used in this one.
	unpreparable bool
	// idle says that no rows were asked for there.
	idle bool
	// ended says that COMMIT was sent with the last statement.
	ended bool
}

// begin starts a block. Nothing is sent yet.
func (s *Session) begin(explicit bool) {
	s.waits.transaction()
	s.tx = &transaction{explicit: explicit, begin: "BEGIN", parts: make([]*participant, len(s.host.Pools.Shards)),
		before: frozen{s.vars, s.local}, clockAt: noShard}
}

// join makes a shard take part, with rows that are read or written there, and returns its
// connection.
func (s *Session) join(shard int, writes bool) (*pool.Conn, error) {
	if err := s.refuseSerializable(shard); err != nil {
		return nil, err
	}
	c, err := s.enter(shard)
	if err == nil {
		p := s.tx.parts[shard]
		p.idle, p.wrote = false, p.wrote || writes
	}
	return c, err
}

// joinFor is join for a statement, which may be about no rows.
func (s *Session) joinFor(st *planner.Statement, shard int, writes bool) (*pool.Conn, error) {
	if st.Rowless {
		return s.enter(shard)
	}
	return s.join(shard, writes)
}

// enter gets a shard's connection, in the transaction, for what is about no rows. BEGIN and
// the prelude go out with whatever is sent there next.
func (s *Session) enter(shard int) (*pool.Conn, error) {
	tx := s.tx
	if !tx.open && s.snapshots() {
		if err := s.openSnapshot(); err != nil {
			return nil, err
		}
	}
	if err := tx.absent[shard]; err != nil {
		return nil, err
	}
	if p := tx.parts[shard]; p != nil {
		if p.conn.Broken {
			return nil, &pool.Lost{Shard: p.conn.Shard.Name, Err: errors.New("the connection was lost earlier in the transaction")}
		}
		return p.conn, nil
	}
	c, err := s.acquireWith(shard, tx.before.vars)
	if err != nil {
		return nil, err
	}
	txn.Reach(txn.Begin, c)
	c.SendBegin(s.beginOn(c))
	s.run.Add(exec.Op{Kind: exec.Begin, Conn: c, Hidden: true})
	if len(tx.prelude) > 0 {
		sql := make([]string, len(tx.prelude))
		for i, e := range tx.prelude {
			sql[i] = e.sql
		}
		c.SendQuery(strings.Join(sql, ";"))
		s.run.Add(exec.Op{Kind: exec.Query, Conn: c, Hidden: true})
	}
	tx.parts[shard] = &participant{conn: c, unpreparable: s.usesTemp(shard), idle: true}
	return c, nil
}

// usesTemp says whether the session has temporary tables on a shard, which a transaction there
// may use.
func (s *Session) usesTemp(shard int) bool { return shard == s.host.Home && len(s.temp) > 0 }

// participants are the connections of the shards that take part.
func (s *Session) participants() []*pool.Conn {
	var out []*pool.Conn
	for _, p := range s.tx.parts {
		if p != nil {
			out = append(out, p.conn)
		}
	}
	return out
}

// commit ends the block. The error is for the client; the block is over in any case.
func (s *Session) commit() *wire.Error {
	tx := s.tx
	if tx.schema {
		if err := s.markSchema(); err != nil {
			s.rollback()
			return err
		}
	}
	var parts []txn.Participant
	for _, p := range tx.parts {
		if p != nil && !p.ended {
			parts = append(parts, txn.Participant{Conn: p.conn, Wrote: p.wrote, Unpreparable: p.unpreparable, Unused: p.idle})
		}
	}
	out := s.host.Register.Commit(s.waits.txid, parts)
	if out.Err != nil {
		if v := s.waits.victim(); v != nil && out.Err.Code == wire.QueryCanceled {
			out.Err = v
		}
		if s.idledOut(out.Err) {
			out.Err = wire.Fatalf(out.Err.Code, "%s", out.Err.Message)
		}
		s.vars, s.local = tx.before.vars, nil
		s.unholdMade()
		if out.Unknown {
			s.host.Log.Warn("the outcome of a transaction is not known", "error", out.Err.Message)
		}
	}
	for shard, name := range out.Unfinished {
		if s.unfinished == nil {
			s.unfinished = map[int]string{}
		}
		s.unfinished[shard] = name
		s.host.Log.Warn("a committed transaction is yet to be finished on a shard", "shard", s.host.Pools.Shards[shard].Name, "gid", name)
	}
	s.finish(out.Err == nil)
	if tx.schema {
		s.reload()
	}
	return out.Err
}

// idledOut says whether an error means that the client was idle within the transaction for
// longer than idle_in_transaction_session_timeout, which ends its session. Each server counts
// the time in which nothing came to it: if not all have ended their part, the client was at
// work on others.
func (s *Session) idledOut(e *wire.Error) bool {
	return e.Code == wire.IdleInTransaction && s.tx != nil &&
		!slices.ContainsFunc(s.participants(), func(c *pool.Conn) bool { return !c.Broken && !c.Stale() })
}

// markSchema raises the schema's version on the home shard, in the transaction
// that changes it, for the other gateways to see.
func (s *Session) markSchema() *wire.Error {
	c, err := s.join(s.host.Home, true)
	if err != nil {
		return asError(err)
	}
	c.SendQuery(s.host.Register.SchemaChangedCall(c))
	s.run.Add(exec.Op{Kind: exec.Query, Conn: c, Hidden: true})
	if err := s.run.Run(false); err != nil {
		return wire.Errorf(wire.ConnectionFailure, "the client is gone")
	}
	if s.run.Failed != nil {
		// The client has been told already.
		return s.run.Failed
	}
	return nil
}

// reloadTimeout bounds the reading of the schema.
const reloadTimeout = 30 * time.Second

// reload reads the schema after DDL, so that the client's next statement sees it.
func (s *Session) reload() {
	ctx, stop := context.WithTimeout(context.Background(), reloadTimeout)
	defer stop()
	if err := s.host.Catalog.Reload(ctx); err != nil {
		s.host.Log.Error("the schema can't be read after a change; it will be tried again", "error", err)
	}
}

// rollback ends the block by undoing it.
func (s *Session) rollback() {
	txn.Rollback(s.participants())
	s.vars, s.local = s.tx.before.vars, nil
	s.unholdMade()
	s.finish(false)
}

// unholdMade no longer keeps the connections that the block made held, when it is undone.
func (s *Session) unholdMade() {
	for shard := range s.tx.held {
		s.unhold(shard) // finish gives it back
	}
}

// finish gives the connections back and forgets the block.
func (s *Session) finish(committed bool) {
	tx := s.tx
	s.tx = nil
	for _, p := range tx.parts {
		if p == nil {
			continue
		}
		if committed {
			p.conn.Vars = s.vars
		} else {
			p.conn.Vars = tx.before.vars
		}
		if p.conn.Told && p.conn.Vars == s.vars && !p.conn.Broken {
			s.report(p.conn) // what a rollback, or the end of SET LOCAL, has brought back
		}
		s.client.SetOut(append(s.client.Out(), p.conn.Notices...))
		s.heard = append(s.heard, p.conn.Notifications...)
		p.conn.Notices, p.conn.Notifications = nil, nil
		s.release(p.conn)
	}
	s.local = nil
	clear(s.portals)
	s.refreshTemp()
	for name, c := range s.cursors {
		switch {
		case c.kept:
		case committed && c.holdable:
			c.kept = true
			s.cursors[name] = c
		default:
			delete(s.cursors, name)
		}
	}
}

// control carries out a statement about the transaction or the session. It
// writes the answer without ReadyForQuery; a failure is written too.
func (s *Session) control(c *planner.Control, text string) error {
	switch c.Kind {
	case planner.Empty:
		s.client.SetOut(wire.AppendEmptyQueryResponse(s.client.Out()))
		return nil
	case planner.Begin:
		return s.controlBegin(c)
	case planner.Commit:
		return s.controlCommit(c)
	case planner.Rollback:
		return s.controlRollback(c)
	case planner.Savepoint, planner.Release, planner.RollbackTo:
		return s.savepoint(c)
	case planner.Set:
		return s.set(c, text)
	case planner.Constraints:
		return s.constraints(c, text)
	case planner.Deallocate:
		return s.deallocate(c)
	case planner.DiscardAll:
		return s.discardAll(c)
	case planner.Prepare:
		return s.prepareSQL(c, text)
	case planner.Show:
		s.show(c)
	}
	return nil
}

// done answers a command.
func (s *Session) done(tag string) {
	s.client.SetOut(wire.AppendCommandTag(s.client.Out(), tag))
}

func (s *Session) warn(code, format string, args ...any) {
	s.client.SetOut(wire.Noticef("WARNING", code, format, args...).AppendNotice(s.client.Out()))
}

func (s *Session) controlBegin(c *planner.Control) error {
	switch {
	case s.tx == nil:
		s.begin(true)
	case s.tx.explicit:
		s.warn(wire.ActiveTransaction, "there is already a transaction in progress")
		s.done(c.Tag)
		return nil
	default:
		s.tx.explicit = true
	}
	if c.Modes != "" {
		if s.tx.begin == "BEGIN" && !slices.ContainsFunc(s.tx.parts, func(p *participant) bool { return p != nil }) {
			s.tx.begin = "BEGIN " + c.Modes
		}
		s.tx.level = c.Isolation
	}
	s.done(c.Tag)
	return nil
}

func (s *Session) controlCommit(c *planner.Control) error {
	if s.tx == nil || !s.tx.explicit {
		if c.Chain {
			s.tell(wire.Errorf(wire.NoActiveTransaction, "COMMIT AND CHAIN can only be used in transaction blocks"))
			return errStatementFailed
		}
		s.warn(wire.NoActiveTransaction, "there is no transaction in progress")
		if s.tx != nil {
			if err := s.commitImplicit(); err != nil {
				return err
			}
		}
		s.done(c.Tag)
		return nil
	}
	begin, level := s.tx.begin, s.tx.level
	if s.tx.failed {
		s.rollback()
		s.done("ROLLBACK")
	} else if err := s.commitOrTell(); err != nil {
		return err
	} else {
		s.done("COMMIT")
	}
	if c.Chain {
		s.begin(true)
		s.tx.begin, s.tx.level = begin, level
	}
	return nil
}

// errStatementFailed says that the client has been told of an error.
var errStatementFailed = errors.New("the statement failed")

// commitImplicit commits an implicit block and tells the client of a failure.
func (s *Session) commitImplicit() error {
	if s.tx.failed {
		s.rollback()
		return nil
	}
	return s.commitOrTell()
}

// commitOrTell commits, and tells the client of a failure that it has not been
// told of: a shard's error may have been relayed already.
func (s *Session) commitOrTell() error {
	if err := s.commit(); err != nil {
		if err.IsFatal() {
			return err
		}
		if s.run.Failed != err {
			s.client.SetOut(err.Append(s.client.Out()))
		}
		return errStatementFailed
	}
	return nil
}

func (s *Session) controlRollback(c *planner.Control) error {
	if s.tx == nil || !s.tx.explicit {
		if c.Chain {
			s.tell(wire.Errorf(wire.NoActiveTransaction, "ROLLBACK AND CHAIN can only be used in transaction blocks"))
			return errStatementFailed
		}
		s.warn(wire.NoActiveTransaction, "there is no transaction in progress")
		if s.tx != nil {
			s.rollback()
		}
		s.done(c.Tag)
		return nil
	}
	begin, level := s.tx.begin, s.tx.level
	s.rollback()
	s.done(c.Tag)
	if c.Chain {
		s.begin(true)
		s.tx.begin, s.tx.level = begin, level
	}
	return nil
}

// savepoint carries out SAVEPOINT, RELEASE and ROLLBACK TO on every shard that
// takes part; one that joins later replays them.
func (s *Session) savepoint(c *planner.Control) error {
	tx := s.tx
	if tx == nil || !tx.explicit {
		if tx == nil || !tx.explicit && c.Kind != planner.Savepoint {
			s.tell(wire.Errorf(wire.NoActiveTransaction, "%s can only be used in transaction blocks", verbs[c.Kind]))
			return errStatementFailed
		}
		s.tell(wire.Errorf(wire.NoActiveTransaction, "SAVEPOINT can only be used in transaction blocks"))
		return errStatementFailed
	}
	at := -1
	for i, e := range tx.prelude {
		if e.savepoint == c.Name && e.savepoint != "" {
			at = i
		}
	}
	if c.Kind != planner.Savepoint && at < 0 {
		s.tell(wire.Errorf(wire.InvalidSavepoint, "savepoint \"%s\" does not exist", c.Name))
		return errStatementFailed
	}
	sql := verbs[c.Kind] + " " + planner.QuoteIdent(c.Name)
	if err := s.everyParticipant(sql); err != nil {
		return err
	}
	switch c.Kind {
	case planner.Savepoint:
		tx.prelude = append(tx.prelude, entry{sql: sql, savepoint: c.Name, settings: frozen{s.vars, s.local}})
	case planner.Release:
		// What was set since stays; the savepoints themselves go.
		kept := tx.prelude[:at:at]
		for _, e := range tx.prelude[at+1:] {
			if e.savepoint == "" {
				kept = append(kept, e)
			}
		}
		tx.prelude = kept
		for _, p := range s.portals {
			p.level = min(p.level, at)
		}
		for name, c := range s.cursors {
			c.level = min(c.level, at)
			s.cursors[name] = c
		}
	case planner.RollbackTo:
		s.rolledBackTo(at)
	}
	s.done(c.Tag)
	return nil
}

var verbs = map[planner.ControlKind]string{
	planner.Savepoint: "SAVEPOINT", planner.Release: "RELEASE SAVEPOINT", planner.RollbackTo: "ROLLBACK TO SAVEPOINT",
}

// rolledBackTo returns to the settings of a savepoint.
func (s *Session) rolledBackTo(at int) {
	tx := s.tx
	e := tx.prelude[at]
	tx.prelude = tx.prelude[:at+1]
	tx.failed = false
	s.vars, s.local = e.settings.vars, e.settings.local
	for name, p := range s.portals {
		if p.level > at {
			delete(s.portals, name) // bound after the savepoint
		}
	}
	for name, c := range s.cursors {
		if c.scratch != nil && c.level > at {
			delete(s.cursors, name)
		}
	}
	tx.snap = nil
	s.refreshTemp()
}

// everyParticipant runs a statement on every shard that takes part. A failure is
// told to the client.
func (s *Session) everyParticipant(sql string) error {
	conns := s.inTransaction()
	if len(conns) == 0 {
		return nil
	}
	for _, c := range conns {
		if c.Broken {
			s.tell((&pool.Lost{Shard: c.Shard.Name, Err: errors.New("the connection was lost earlier in the transaction")}).Wire())
			return errStatementFailed
		}
		c.SendQuery(sql)
	}
	s.run.Add(exec.Op{Kind: exec.Query, Conns: conns, Hidden: true})
	if err := s.run.Run(false); err != nil {
		return err
	}
	if s.run.Failed != nil {
		s.tx.failed = true
		return errStatementFailed
	}
	return nil
}

// constraints carries out SET CONSTRAINTS.
func (s *Session) constraints(c *planner.Control, text string) error {
	if s.tx == nil || !s.tx.explicit {
		s.warn(wire.NoActiveTransaction, "SET CONSTRAINTS can only be used in transaction blocks")
		s.done(c.Tag)
		return nil
	}
	if len(s.participants()) == 0 {
		// A shard has to say whether there are such constraints.
		if _, err := s.enter(s.host.Home); err != nil {
			s.tell(asError(err))
			return errStatementFailed
		}
	}
	sql := strings.TrimRight(strings.TrimSpace(text), ";")
	if err := s.everyParticipant(sql); err != nil {
		return err
	}
	s.tx.prelude = append(s.tx.prelude, entry{sql: sql})
	s.done(c.Tag)
	return nil
}

// deallocate forgets prepared statements.
func (s *Session) deallocate(c *planner.Control) error {
	if c.Name == "" {
		for name := range s.stmts {
			if name != "" {
				delete(s.stmts, name)
			}
		}
	} else {
		if s.stmts[c.Name] == nil {
			s.tell(wire.Errorf(wire.UndefinedPreparedStatement, "prepared statement \"%s\" does not exist", c.Name))
			return errStatementFailed
		}
		delete(s.stmts, c.Name)
	}
	s.done(c.Tag)
	return nil
}

// discardAll brings the session back to how it began.
func (s *Session) discardAll(c *planner.Control) error {
	if s.tx != nil && s.tx.explicit {
		s.tell(wire.Errorf(wire.ActiveTransaction, "DISCARD ALL cannot run inside a transaction block"))
		return errStatementFailed
	}
	if s.tx != nil {
		if err := s.commitImplicit(); err != nil {
			return err
		}
	}
	for shard := range s.held {
		s.drop(shard)
	}
	clear(s.stmts)
	clear(s.portals)
	clear(s.cursors)
	s.vars = s.initial
	s.replan()
	if err := s.applyVars(); err != nil {
		return err
	}
	s.done(c.Tag)
	return nil
}

// applyVars puts the session's settings on a connection of the home shard, so
// that the client hears of the ones that are reported.
func (s *Session) applyVars() error {
	conn, err := s.acquire(s.host.Home)
	if err != nil {
		s.tell(asError(err))
		return errStatementFailed
	}
	defer s.release(conn)
	if err := s.run.Run(false); err != nil {
		return err
	}
	if s.run.Failed != nil {
		return errStatementFailed
	}
	// A pooled connection may have had these settings already, and said nothing.
	s.report(conn)
	return nil
}
