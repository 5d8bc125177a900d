package session

import (
	"errors"
	"slices"
	"strings"

	"github.com/shardgate/shardgate/gateway/exec"
	"github.com/shardgate/shardgate/gateway/pool"
	"github.com/shardgate/shardgate/planner"
	"github.com/shardgate/shardgate/wire"
)

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
