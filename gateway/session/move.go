package session

import (
	"slices"

	"github.com/shardgate/shardgate/gateway/exec"
	"github.com/shardgate/shardgate/gateway/pool"
	"github.com/shardgate/shardgate/planner"
	"github.com/shardgate/shardgate/planner/sqltext"
	"github.com/shardgate/shardgate/wire"
)

// moving is a planner.Move under way, in a transaction block.
type moving struct {
	plan *planner.Move
	// gathering says how the statements reach the shards: the text, its parameters and
	// the connections.
	gathering
	returning bool
	rows      *exec.Moved
	shape     []byte // the RowDescription of a simple Query
	// join gets the transaction's connection to a shard.
	join func(shard int, writes bool) (*pool.Conn, error)
}

// moveDenied is the hint for a role that may only update.
const moveDenied = "The rows may have to be moved to other shards: that takes the rights to read, to insert and to delete them as well."

// move carries out a Move: the rows are read and locked, and then changed, by one
// statement on each shard. What was emitted before has been run. The error is one of the
// client's connection; another is told to the client, and in s.run.Failed.
func (s *Session) move(m *moving) error {
	m.conn = func(shard int) (*pool.Conn, error) { return m.join(shard, false) }
	m.rows = &exec.Moved{Plan: m.plan, Rows: exec.Rows{LimitBytes: s.gatherBytes()}}
	s.run.Failed = nil
	for _, f := range []func(*moving) error{s.checkMove, s.readMoved, s.changeMoved} {
		if err := f(m); err != nil || s.run.Failed != nil {
			return err
		}
	}
	return nil
}

// checkMove has the home shard look at the statement of a simple Query, whose errors are
// about the client's text, and say what its answer is like. Of the extended protocol,
// the client's Parse and Describe do so.
func (s *Session) checkMove(m *moving) error {
	if m.prep != nil {
		return nil
	}
	home, err := m.on(s.host.Home)
	if err != nil {
		s.failGather(asError(err))
		return nil
	}
	home.SendParse(m.text, nil)
	home.SetOut(wire.AppendDescribe(home.Out(), wire.Statement, ""))
	s.run.Add(exec.Op{Kind: exec.Parse, Conn: home, Hidden: true})
	s.run.Add(exec.Op{Kind: exec.Describe, Conn: home, Hidden: true, Shape: &m.shape})
	s.syncUsed(&m.gathering)
	return s.run.Run(false)
}

// readMoved locks the rows, and reads their new values.
func (s *Session) readMoved(m *moving) error {
	v := &s.values
	v.Text, v.Literals, v.Bind, v.ASCIIOnly = m.text, m.lits, m.bind, s.asciiOnly()
	shards, err := s.prune(m.plan.Pins)
	if err != nil {
		s.failGather(s.shifted(asError(err)))
		return nil
	}
	shards = slices.Clone(shards)
	if m.plan.Clock {
		if m.rows.Clock, err = s.readTime(shards[0], m.conn); err != nil || s.run.Failed != nil {
			return err
		}
	}
	conns, ok := s.writers(m, shards)
	if !ok {
		return nil
	}
	sql := m.rows.AppendRows(nil, m.text, m.lits)
	for _, c := range conns {
		s.sendPart(c, &m.gathering, sql, nil)
		sendWhole(c, gatherPortal)
	}
	cols := &exec.Columns{}
	s.run.Add(exec.Op{Kind: exec.Parse, Conns: conns, Hidden: true, Ours: true, Rewritten: true, Denied: moveDenied})
	s.run.Add(exec.Op{Kind: exec.Bind, Conns: conns, Hidden: true, Rewritten: true, Verb: "UPDATE"})
	s.run.Add(exec.Op{Kind: exec.Describe, Conns: conns, Hidden: true, Columns: cols, Into: m.rows})
	s.run.Add(exec.Op{Kind: exec.Execute, Conns: conns, Hidden: true, Columns: cols, Into: m.rows, Rewritten: true, Denied: moveDenied,
		Each: func(i int) { m.rows.CameFrom(conns[i].Shard.Index) }})
	s.run.Add(exec.Op{Kind: exec.Close, Conns: conns, Hidden: true})
	s.syncUsed(&m.gathering)
	return s.run.Run(false)
}

// writers gets the connections to shards on which rows are locked or changed. A failure
// is told to the client.
func (s *Session) writers(m *moving, shards []int) (conns []*pool.Conn, ok bool) {
	for _, shard := range shards {
		c, err := m.join(shard, true)
		if err == nil {
			c, err = m.on(shard)
		}
		if err != nil {
			s.run.Run(false)
			s.failGather(asError(err))
			return nil, false
		}
		conns = append(conns, c)
	}
	return conns, true
}

// movedTo finds the shards to which the rows belong, and all that have something to do.
func (s *Session) movedTo(m *moving) (to, shards []int, e *wire.Error) {
	if e := m.rows.Check(); e != nil {
		return nil, nil, e
	}
	slots, null, e := m.rows.Slots(m.plan.Table, m.plan.Keys, &s.values, s.hashesByShard)
	if e == nil && null {
		e = nullKeyError(m.plan.Table)
	}
	if e != nil {
		return nil, nil, e
	}
	for row, slot := range slots {
		to = append(to, s.snap.ShardOf(slot))
		for _, shard := range []int{m.rows.From[row], to[row]} {
			if !slices.Contains(shards, shard) {
				shards = append(shards, shard)
			}
		}
	}
	if len(shards) == 0 {
		shards = append(shards, m.used[len(m.used)-1].Shard.Index) // which says that it changes nothing
	}
	return to, shards, nil
}

// changeMoved changes, inserts and deletes the rows.
func (s *Session) changeMoved(m *moving) error {
	to, shards, e := s.movedTo(m)
	if e != nil {
		s.failGather(e)
		return nil
	}
	conns, ok := s.writers(m, shards)
	if !ok {
		return nil
	}
	sql, arrays := m.rows.AppendChange(nil, m.text, m.lits, len(m.types))
	var formats []int16
	if m.bind != nil {
		formats = m.bind.ResultFormats
	}
	rows := m.rows.Arrays(shards, to)
	for i, c := range conns {
		c.SendParse(sql, s.shardOIDs(c, slices.Concat(m.types, arrays)))
		s.sendBind(c, &m.gathering, gatherPortal, rows[i], formats)
		sendWhole(c, gatherPortal)
	}
	op := exec.Op{Kind: exec.Execute, Conns: conns, Hidden: !m.returning, Rewritten: true, Whole: true, HoldTag: true, Columns: &exec.Columns{}, Denied: moveDenied}
	if m.prep == nil && m.returning {
		op.Shape = &m.shape
	}
	var tag exec.Tag
	op.Done = func() {
		if tag = s.run.Tag; tag.Rows != uint64(m.rows.Count()) {
			s.run.Fail(wire.Errorf(wire.InternalError, "%d rows of %s were to be changed, and %d were", m.rows.Count(), m.plan.Table, tag.Rows))
		}
	}
	s.addWhole(op)
	s.syncUsed(&m.gathering)
	if err := s.run.Run(false); err != nil || s.run.Failed != nil {
		return err
	}
	s.run.Tag = exec.Tag{Verb: "UPDATE", Rows: tag.Rows, Counted: true}
	if !m.hold {
		s.client.SetOut(s.run.Tag.Append(s.client.Out()))
	}
	return nil
}

// moveQuery answers a simple Query.
func (s *Session) moveQuery(plan *planner.Move, st *planner.Statement, text []byte, lits []sqltext.Literal, hold bool) error {
	m := &moving{plan: plan, returning: st.Returning}
	m.text, m.lits, m.hold = text, lits, hold
	m.join = func(shard int, writes bool) (*pool.Conn, error) {
		c, err := s.join(shard, writes)
		if err == nil {
			c.Tainted = c.Tainted || st.Taints
		}
		return c, err
	}
	if st.Params > 0 {
		return s.unknownParam(m)
	}
	return s.move(m)
}

// unknownParam has the home shard say that a simple Query has no parameters.
func (s *Session) unknownParam(m *moving) error {
	home, err := m.join(s.host.Home, false)
	if err != nil {
		s.failGather(asError(err))
		return nil
	}
	home.SendQuery(string(m.text))
	s.run.Add(exec.Op{Kind: exec.Query, Conn: home})
	return s.run.Run(false)
}

// executeMove executes a portal.
func (s *Session) executeMove(st *step) error {
	return s.executeRows(st, "UPDATE", func(query *gathering) error {
		p := st.portal
		m := &moving{plan: p.node.(*planner.Move), returning: p.prep.st.Returning, gathering: *query}
		m.text, m.lits = p.prep.text, p.prep.lits
		m.join = s.connFor
		return s.move(m)
	})
}
