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
