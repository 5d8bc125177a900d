package session

import (
	"strings"

	"github.com/shardgate/shardgate/gateway/exec"
	"github.com/shardgate/shardgate/gateway/pool"
	"github.com/shardgate/shardgate/planner"
	"github.com/shardgate/shardgate/wire"
)

// set carries out SET, RESET and their kin. PostgreSQL checks and answers it; what
// it made of the value is then read back and remembered, so that every
// connection that the session gets later can be given it.
func (s *Session) set(c *planner.Control, text string) error {
	if planner.OwnSetting(c.Name) {
		var e *wire.Error
		if text, e = s.ownSet(c, text); e != nil {
			s.tell(e)
			return errStatementFailed
		}
	}
	if s.tx == nil || !s.tx.explicit {
		if c.Local {
			if c.Name == "transaction" {
				s.warn(wire.NoActiveTransaction, "SET TRANSACTION can only be used in transaction blocks")
			} else if strings.HasPrefix(c.Tag, "SET") {
				s.warn(wire.NoActiveTransaction, "SET LOCAL can only be used in transaction blocks")
			}
			if s.tx == nil || c.Name == "transaction" {
				return s.setNothing(c, text)
			}
		}
	}
	sql := s.resetSQL(c, text)
	if s.tx == nil {
		return s.setOutside(c, sql)
	}
	return s.setInside(c, sql)
}

// setNothing lets a shard check a setting that has no effect, and answers.
func (s *Session) setNothing(c *planner.Control, text string) error {
	if c.Name == "transaction" || planner.OwnSetting(c.Name) && c.Tag != "SELECT 1" {
		s.done(c.Tag)
		return nil
	}
	conn, err := s.acquire(s.host.Home)
	if err != nil {
		s.tell(asError(err))
		return errStatementFailed
	}
	defer s.release(conn)
	conn.SendQuery("BEGIN")
	conn.SendQuery(text)
	conn.SendQuery("ROLLBACK")
	s.run.Add(exec.Op{Kind: exec.Query, Conn: conn, Hidden: true})
	s.run.Add(exec.Op{Kind: exec.Query, Conn: conn})
	s.run.Add(exec.Op{Kind: exec.Query, Conn: conn, Hidden: true})
	if err := s.run.Run(false); err != nil {
		return err
	}
	if s.run.Failed != nil {
		return errStatementFailed
	}
	return nil
}

// resetSQL is the statement to send: RESET goes back to what the client's
// start-up packet said, which the shard does not know.
func (s *Session) resetSQL(c *planner.Control, text string) string {
	sql := strings.TrimRight(strings.TrimSpace(text), "; \t\n")
	if !c.Reset {
		return sql
	}
	if c.Name == "" {
		return "RESET ALL;" + s.initial.Change(nil)
	}
	if v, ok := s.initial.Get(c.Name); ok {
		local := "false"
		if c.Local {
			local = "true"
		}
		return "SELECT pg_catalog.set_config(" + planner.QuoteLiteral(c.Name) + "," + planner.QuoteLiteral(v) + "," + local + ")"
	}
	return sql
}

// readBack is the query for the values of the settings that a SET has changed; NULL for
// one that the server doesn't know.
func readBack(c *planner.Control) string {
	if len(c.Settings) == 0 {
		return ""
	}
	var b strings.Builder
	b.WriteString("SELECT ")
	for i, n := range c.Settings {
		if i > 0 {
			b.WriteByte(',')
		}
		b.WriteString("pg_catalog.current_setting(" + planner.QuoteLiteral(n) + ",true)")
	}
	return b.String()
}

// setOutside sets outside of a transaction block, on a connection of the home shard.
func (s *Session) setOutside(c *planner.Control, sql string) error {
	conn, err := s.acquire(s.host.Home)
	if err != nil {
		s.tell(asError(err))
		return errStatementFailed
	}
	defer s.release(conn)
	var rows pool.Result
	ok, err := s.sendSet(c, sql, []*pool.Conn{conn}, &rows)
	if err != nil {
		return err
	}
	if !ok {
		return errStatementFailed
	}
	s.vars = s.settingsAfter(c, &rows)
	conn.Vars = s.vars
	s.replan()
	return nil
}

// sendSet sends a SET to the connections; the first one's answer is the client's.
// ok is false if it failed, which the client has been told.
func (s *Session) sendSet(c *planner.Control, sql string, conns []*pool.Conn, rows *pool.Result) (ok bool, err error) {
	for _, conn := range conns {
		conn.SendQuery(sql)
	}
	own := strings.HasPrefix(sql, "SELECT") && c.Tag != "SELECT 1" || strings.HasPrefix(sql, "RESET ALL;")
	s.run.Add(exec.Op{Kind: exec.Query, Conns: conns, Merge: planner.First, Hidden: own})
	if own {
		s.run.Add(exec.Op{Kind: exec.Local, Answer: wire.AppendCommandTag(nil, c.Tag)})
	}
	if q := readBack(c); q != "" {
		conns[0].SendQuery(q)
		s.run.Add(exec.Op{Kind: exec.Query, Conn: conns[0], Hidden: true, Rows: rows})
	}
	if err := s.run.Run(false); err != nil {
		return false, err
	}
	return s.run.Failed == nil, nil
}

// settingsAfter are the session's settings after a SET.
func (s *Session) settingsAfter(c *planner.Control, rows *pool.Result) *pool.Vars {
	switch {
	case c.Reset && c.Name == "":
		return s.initial
	case c.Reset:
		if v, ok := s.initial.Get(c.Name); ok {
			return s.vars.With(c.Name, v)
		}
		return s.vars.Without(c.Name)
	}
	v := s.vars
	for i, n := range c.Settings {
		if len(rows.Rows) > 0 && rows.Rows[0][i] != nil {
			v = v.With(n, rows.Value(i))
		}
	}
	return v
}

// setInside sets inside of a transaction block, on every shard that takes part.
func (s *Session) setInside(c *planner.Control, sql string) error {
	tx := s.tx
	modes := strings.HasPrefix(c.Name, "transaction")
	conns := s.inTransaction()
	if modes {
		conns = s.participants()
	}
	if len(conns) == 0 && !(c.Name == "transaction" && tx.explicit) {
		conn, err := s.enter(s.host.Home)
		if err != nil {
			s.tell(asError(err))
			return errStatementFailed
		}
		conns = append(conns, conn)
	}
	var rows pool.Result
	if len(conns) > 0 {
		ok, err := s.sendSet(c, sql, conns, &rows)
		if err != nil {
			return err
		}
		if !ok {
			tx.failed = true
			return errStatementFailed
		}
	} else {
		s.done(c.Tag)
	}
	tx.prelude = append(tx.prelude, entry{sql: sql, sets: true, modes: modes, settings: frozen{s.vars, s.local}})
	switch {
	case !c.Local && c.Name == "" && c.Reset:
		s.vars, s.local = s.initial, nil
	case !c.Local:
		s.vars, s.local = s.settingsAfter(c, &rows), s.local.Without(c.Name)
	case c.Name == "search_path" || c.Name == "statement_timeout" || planner.OwnSetting(c.Name):
		s.local = s.local.With(c.Name, rows.Value(0))
	}
	if c.Isolation != "" {
		tx.level = c.Isolation
	}
	s.replan()
	return nil
}

// report notes the settings of a connection, which carries the session's, for the
// client to be told of those that it knows otherwise.
func (s *Session) report(c *pool.Conn) {
	c.Told = false
	for name, value := range c.Params {
		if _, ok := s.run.Setting(name); ok && s.reportedBySettings(name) {
			s.run.Note(name, value)
		}
	}
}

// reportedBySettings says whether PostgreSQL reports a setting because it was
// changed, as opposed to facts about the server.
func (s *Session) reportedBySettings(name string) bool {
	switch name {
	case "server_version", "server_encoding", "integer_datetimes", "session_authorization", "is_superuser", "in_hot_standby":
		return false
	}
	return true
}
