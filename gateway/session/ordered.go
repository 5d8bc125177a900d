package session

import (
	"bytes"
	"slices"

	"github.com/shardgate/shardgate/gateway/exec"
	"github.com/shardgate/shardgate/gateway/pool"
	"github.com/shardgate/shardgate/planner"
	"github.com/shardgate/shardgate/wire"
)

// The client's own text is for the home shard to describe, as with a Gather; the shards run
// another one, which has the keys of ORDER BY as further columns, in binary. What formats to ask
// for depends on how many columns the client's own are. Where a star leaves that open, the
// description has to come first.

// orderedQuery answers a simple Query by merging the shards' rows.
func (s *Session) orderedQuery(g *gathering, plan *planner.Ordered) error {
	home, err := g.on(s.host.Home)
	if err != nil {
		s.failGather(asError(err))
		return nil
	}
	var shape []byte
	home.SetOut(wire.AppendParse(home.Out(), "", g.client, nil))
	home.Unnamed = 0
	s.sendBind(home, g, gatherPortal, nil, nil)
	home.SetOut(wire.AppendDescribe(home.Out(), wire.Portal, gatherPortal))
	home.SetOut(wire.AppendClose(home.Out(), wire.Portal, gatherPortal))
	s.run.Add(exec.Op{Kind: exec.Parse, Conn: home, Hidden: true})
	s.run.Add(exec.Op{Kind: exec.Bind, Conn: home, Hidden: true})
	s.run.Add(exec.Op{Kind: exec.Describe, Conn: home, Hidden: true, Shape: &shape})
	s.run.Add(exec.Op{Kind: exec.Close, Conn: home, Hidden: true})
	columns := plan.Columns
	if columns == 0 {
		s.syncUsed(g)
		if err := s.run.Run(false); err != nil || s.run.Failed != nil {
			return err
		}
		columns = exec.ColumnCount(shape)
	}
	if e := s.emitOrdered(g, plan, columns, &shape); e != nil {
		s.run.Run(false)
		s.failGather(e)
		return nil
	}
	s.syncUsed(g)
	return s.run.Run(false)
}

// emitOrdered has the shards run their queries, and the rows merged. shape is the client's
// RowDescription, to be sent before the rows; nil where it isn't wanted.
func (s *Session) emitOrdered(g *gathering, plan *planner.Ordered, columns int, shape *[]byte) *wire.Error {
	shards, err := s.prune(plan.Pins)
	if err != nil {
		return asError(err)
	}
	var conns []*pool.Conn
	for _, shard := range shards {
		c, err := g.on(shard)
		if err != nil {
			return asError(err)
		}
		c.Tainted = c.Tainted || g.taints
		conns = append(conns, c)
	}
	sql := plan.Query.Append(nil, g.text, g.lits, nil)
	formats := make([]int16, columns, columns+len(plan.Keys))
	if g.bind != nil {
		for i := range formats {
			formats[i] = resultFormat(g.bind.ResultFormats, i)
		}
	}
	for range plan.Keys {
		formats = append(formats, wire.FormatBinary)
	}
	for _, c := range conns {
		c.SetOut(wire.AppendParse(c.Out(), "", sql, s.shardOIDs(c, g.types)))
		c.Unnamed = 0
		s.sendBind(c, g, gatherPortal, nil, formats)
		c.SetOut(wire.AppendDescribe(c.Out(), wire.Portal, gatherPortal))
		c.SetOut(wire.AppendExecute(c.Out(), gatherPortal, 0))
		c.SetOut(wire.AppendClose(c.Out(), wire.Portal, gatherPortal))
	}
	var described []byte
	cols := &exec.Columns{}
	s.run.Add(exec.Op{Kind: exec.Parse, Conns: conns, Hidden: true, Rewritten: true})
	s.run.Add(exec.Op{Kind: exec.Bind, Conns: conns, Hidden: true, Rewritten: true})
	s.run.Add(exec.Op{Kind: exec.Describe, Conns: conns, Hidden: true, Columns: cols, Shape: &described, Done: func() {
		if !exec.KeyTypes(described, plan.Keys) {
			s.run.Fail(wire.Errorf(wire.InternalError, "the columns that the rows are sorted by have other types than were known").
				WithHint("A table was changed a moment ago: try again."))
		}
	}})
	s.run.Add(exec.Op{Kind: exec.Execute, Conns: conns, Keys: plan.Keys, Columns: cols, Shape: shape, HoldTag: g.hold, Rewritten: true})
	s.run.Add(exec.Op{Kind: exec.Close, Conns: conns, Hidden: true})
	return nil
}

// resultFormat is the format of column i by a Bind's list of result formats, which the home
// shard has accepted.
func resultFormat(formats []int16, i int) int16 {
	switch {
	case len(formats) == 1:
		return formats[0]
	case i < len(formats):
		return formats[i]
	}
	return wire.FormatText
}

// executeOrdered executes a portal.
func (s *Session) executeOrdered(st *step) error {
	p := st.portal
	plan := p.node.(*planner.Ordered)
	switch {
	case p.begun:
		return s.executeAgain(st)
	case st.limit > 0: // the rest of the rows has to wait for the next Execute
		if err := s.typesOf(p.prep); err != nil {
			s.pendingErr = err
			return errStatementFailed
		}
		p.node = plan.Gathered
		return s.executeGather(st)
	}
	p.begun = true
	g, e := s.portalGathering(p)
	if e != nil {
		s.pendingErr = e
		return errStatementFailed
	}
	columns := plan.Columns
	if columns == 0 {
		var shape []byte
		home, err := g.on(s.host.Home)
		if err != nil {
			s.pendingErr = asError(err)
			return errStatementFailed
		}
		name, _, _ := bytes.Cut(p.bind, []byte{0})
		home.SetOut(wire.AppendDescribe(home.Out(), wire.Portal, name))
		s.run.Add(exec.Op{Kind: exec.Describe, Conn: home, Hidden: true, Shape: &shape})
		s.emitSyncs(false)
		if err := s.run.Run(false); err != nil || s.run.Failed != nil {
			return err
		}
		s.parsed = s.parsed[:0]
		columns = exec.ColumnCount(shape)
	}
	if e := s.emitOrdered(g, plan, columns, nil); e != nil {
		s.pendingErr = e
		return errStatementFailed
	}
	return nil
}

// comparable says whether the rows can be merged in the client's encoding: text is sorted as
// the servers have it.
func (s *Session) comparable(n *planner.Ordered) bool {
	return !s.asciiOnly() || !slices.ContainsFunc(n.Keys, planner.SortKey.Text)
}
