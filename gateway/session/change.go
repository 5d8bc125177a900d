package session

import (
	"slices"

	"github.com/shardgate/shardgate/gateway/exec"
	"github.com/shardgate/shardgate/gateway/pool"
	"github.com/shardgate/shardgate/planner"
	"github.com/shardgate/shardgate/wire"
)

// A Gather whose final statement changes a table runs it on each of the table's shards,
// in the client's transaction. The rows of the parts travel there as arrays.

// changes says whether a plan is a Gather that changes a table.
func changes(node planner.Node) bool {
	g, ok := node.(*planner.Gather)
	return ok && g.Target != nil
}

// writesParts says whether the parts of a statement's Gather change or lock rows.
func writesParts(st *planner.Statement, node planner.Node) bool {
	g, ok := node.(*planner.Gather)
	return st.Writes && (!ok || g.Target == nil || g.Locks())
}

// targetShards are the shards that have the rows of a table that is changed.
func (s *Session) targetShards(t *planner.Target) ([]int, error) {
	switch {
	case t.Table == nil:
		return s.onShard(s.host.Home), nil
	case t.Table.Distribution == planner.Reference:
		return s.allShards(), nil
	}
	return s.prune(t.Pins)
}

// targetConns gets the connections to these shards. A failure is told to the client.
func (s *Session) targetConns(g *gathering) (conns []*pool.Conn, ok bool) {
	shards, err := s.targetShards(g.plan.Target)
	for _, shard := range slices.Clone(shards) {
		var c *pool.Conn
		if c, err = g.write(shard); err != nil {
			break
		}
		c.Tainted = c.Tainted || g.taints
		conns = append(conns, c)
	}
	if err != nil {
		s.run.Run(false)
		s.failGather(asError(err))
		return nil, false
	}
	return conns, true
}

// lockTarget locks the reference table that is changed, on every shard.
func (s *Session) lockTarget(g *gathering) error {
	if len(g.plan.Target.LockReference) == 0 {
		return nil
	}
	conns, ok := s.targetConns(g)
	if !ok {
		return nil
	}
	return s.lockReference(g.plan, conns)
}

// change runs the final statement. Rows of RETURNING are passed on when no shard has
// failed, those of a reference table by the home shard, which is the first to change it.
func (s *Session) change(g *gathering) error {
	conns, ok := s.targetConns(g)
	if !ok {
		return nil
	}
	parts := exec.NewPartArrays(g.Gathering, g.types)
	var sql []byte
	if x := g.explain; x != nil {
		sql = append(sql, x.Head...)
		x.final.shards, x.final.tasks = nil, make([]task, len(conns))
		for _, c := range conns {
			x.final.shards = append(x.final.shards, c.Shard.Index)
		}
	}
	sql = g.plan.Final.Append(sql, g.text, g.lits, parts)
	if g.plan.Target.Copies != nil {
		return s.changeCopies(g, sql, parts, conns)
	}
	if len(g.plan.Target.LockReference) == 0 {
		return s.changeOn(g, sql, parts, conns, 0)
	}
	if err := s.changeOn(g, sql, parts, conns[:1], 0); err != nil || s.run.Failed != nil {
		return err
	}
	tag := s.run.Tag
	if err := s.changeOn(g, sql, parts, conns[1:], 1); err != nil || s.run.Failed != nil {
		return err
	}
	if s.run.Tag = tag; !g.hold && g.explain == nil {
		s.client.SetOut(tag.Append(s.client.Out()))
	}
	return nil
}

// changeOn runs the final statement on some shards, the first of which is number first
// of all that run it.
func (s *Session) changeOn(g *gathering, sql []byte, parts *exec.PartArrays, conns []*pool.Conn, first int) error {
	copies := len(g.plan.Target.LockReference) > 0
	var formats []int16
	if g.bind != nil && g.explain == nil {
		formats = g.bind.ResultFormats
	}
	for i, c := range conns {
		c.SendParse(sql, s.shardOIDs(c, parts.OIDs))
		s.sendBind(c, g, gatherPortal, parts.Arrays, formats)
		if g.explain != nil {
			s.explainTask(c, &g.explain.final.tasks[first+i], true, "")
		} else {
			sendWhole(c, gatherPortal)
		}
		c.SendSync()
		if err := c.Flush(); err != nil { // now, so that the arrays are not held for each shard
			c.Fail(err)
		}
	}
	var tag exec.Tag
	if g.explain == nil {
		op := exec.Op{Kind: exec.Execute, Conns: conns, Rewritten: true, Whole: true, HoldTag: g.hold || copies, Hidden: copies && first > 0,
			Columns: &exec.Columns{}, Done: func() { tag = s.run.Tag }}
		if copies {
			op.Merge = planner.First
		}
		if g.prep == nil && !op.Hidden {
			op.Shape = &g.shape
		}
		s.addWhole(op)
	}
	for _, c := range conns {
		s.run.Add(exec.Op{Kind: exec.Sync, Conn: c})
	}
	err := s.run.Run(false)
	s.run.Tag = tag
	return err
}

// changeCopies runs the final statement on the home shard, the first of those with a copy of
// the table, and stores the rows that it has changed in the other copies.
func (s *Session) changeCopies(g *gathering, sql []byte, parts *exec.PartArrays, conns []*pool.Conn) error {
	kept := &exec.Kept{LimitBytes: s.gatherBytes()}
	rows := &exec.ChangedCopy{Plan: g.plan.Target.Copies, Client: kept,
		Rows: exec.StepRows{Step: &planner.Step{Name: g.plan.Target.Table.String(), Whole: true}, Rows: exec.Rows{LimitBytes: s.gatherBytes()}}}
	if s.run.Divert != nil {
		rows.Client = s.run.Divert
	}
	if err := s.changeHomeCopy(g, sql, parts, conns[0], rows); err != nil || s.run.Failed != nil {
		return err
	}
	tag := s.run.Tag
	if err := s.changeOtherCopies(g, conns[1:], rows, tag.Rows); err != nil || s.run.Failed != nil {
		return err
	}
	if s.run.Tag = tag; s.run.Divert != nil {
		return nil
	}
	out := append(append(s.client.Out(), g.shape...), kept.Messages...)
	if !g.hold {
		out = tag.Append(out)
	}
	s.client.SetOut(out)
	return nil
}

// changeHomeCopy runs the final statement on the home shard. It is described first, since
// the formats to ask for depend on how many columns it returns, and on their types.
func (s *Session) changeHomeCopy(g *gathering, sql []byte, parts *exec.PartArrays, home *pool.Conn, rows *exec.ChangedCopy) error {
	home.SendParse(sql, s.shardOIDs(home, parts.OIDs))
	home.SetOut(wire.AppendDescribe(home.Out(), wire.Statement, ""))
	s.run.Add(exec.Op{Kind: exec.Parse, Conn: home, Hidden: true, Ours: true, Rewritten: true})
	s.run.Add(exec.Op{Kind: exec.Describe, Conn: home, Hidden: true, Into: rows, Done: func() {
		rows.Rows.Carry(s.snap.Schema.Carried)
		if e := rows.Rows.Check(); e != nil {
			s.run.Fail(e)
		}
	}})
	s.sendSyncs([]*pool.Conn{home})
	if err := s.run.Run(false); err != nil || s.run.Failed != nil {
		return err
	}
	var own []int16
	if g.bind != nil {
		own = g.bind.ResultFormats
	}
	home.SendParse(sql, s.shardOIDs(home, parts.OIDs))
	s.sendBind(home, g, gatherPortal, parts.Arrays, rows.Formats(own))
	sendWhole(home, gatherPortal)
	s.addWhole(exec.Op{Kind: exec.Execute, Conns: []*pool.Conn{home}, Hidden: true, HoldTag: true, Into: rows, Columns: &exec.Columns{}, Rewritten: true})
	s.sendSyncs([]*pool.Conn{home})
	return s.run.Run(false)
}

// changeOtherCopies stores the rows that were changed, count of them, in other copies.
func (s *Session) changeOtherCopies(g *gathering, conns []*pool.Conn, rows *exec.ChangedCopy, count uint64) error {
	sql, types, arrays := rows.Change()
	formats := []int16{wire.FormatBinary}
	for _, c := range conns {
		c.SendParse(sql, s.shardOIDs(c, types))
		c.SetOut(wire.AppendBind(c.Out(), gatherPortal, "", formats, arrays, formats))
		sendWhole(c, gatherPortal)
		s.addWhole(exec.Op{Kind: exec.Execute, Conns: []*pool.Conn{c}, Hidden: true, HoldTag: true, Merge: planner.First, Columns: &exec.Columns{}, Rewritten: true, Done: func() {
			if s.run.Tag.Rows != count {
				s.run.Fail(wire.Errorf(wire.InternalError, "%d rows of the reference table %s were changed on the home shard, and %d on %s",
					count, g.plan.Target.Table, s.run.Tag.Rows, c.Shard.Name).WithHint("Its copies differ."))
			}
		}})
	}
	s.sendSyncs(conns)
	return s.run.Run(false)
}
