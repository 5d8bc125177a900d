package session

import (
	"bytes"
	"errors"
	"slices"
	"sync"

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
	s.describeBound(home, g, g.client, exec.Op{}, exec.Op{Hidden: true, Shape: &shape})
	var keyed []byte
	m := merging{columns: plan.Columns, keys: s.host.keys.of(plan)}
	if m.keys == nil {
		s.describeKeys(home, g, plan, &keyed)
	}
	if m.columns == 0 || m.keys == nil {
		s.syncUsed(g)
		if err := s.run.Run(false); err != nil || s.run.Failed != nil {
			return err
		}
		m.columns = exec.ColumnCount(shape)
	}
	if m.keys == nil {
		if m.keys = s.host.keys.find(plan, keyed); m.keys == nil {
			g.plan = plan.Gathered
			return s.gather(g)
		}
	}
	if err := s.emitOrdered(g, plan, m, &shape); errors.Is(err, errStatementFailed) {
		s.syncUsed(g) // else what was sent is not answered
		s.run.Run(false)
		s.failGather(s.pendingErr)
		return nil
	} else if err != nil || s.run.Failed != nil {
		return err
	}
	s.syncUsed(g)
	if g.last {
		s.commitWithLast()
	}
	return s.run.Run(false)
}

// merging is what has been found out of an Ordered: how many columns are the client's own, and
// the keys with their types.
type merging struct {
	columns int
	keys    []planner.SortKey
}

// keyTable remembers the types of keys that a shard has told, so that it is asked once for a
// plan: while that is in use, the schema is the same.
type keyTable struct {
	mu    sync.Mutex
	types map[*planner.Ordered][]planner.SortKey // nil for keys that the gateway can't compare
}

// maxKeyPlans bounds it.
const maxKeyPlans = 10_000

// of returns a plan's keys with their types, or nil if these aren't known.
func (t *keyTable) of(plan *planner.Ordered) []planner.SortKey {
	if !plan.Undetermined() {
		return plan.Keys
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.types[plan]
}

// incomparable says whether a plan's keys are known to be of types that the gateway can't
// compare.
func (t *keyTable) incomparable(plan *planner.Ordered) bool {
	if !plan.Undetermined() {
		return false
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	keys, known := t.types[plan]
	return known && keys == nil
}

// find reads the types from the RowDescription of the shards' query. The result is nil if the
// gateway can't compare the keys.
func (t *keyTable) find(plan *planner.Ordered, described []byte) []planner.SortKey {
	keys, ok := exec.FindKeys(described, plan.Keys)
	if !ok {
		keys = nil
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.types == nil || len(t.types) >= maxKeyPlans {
		t.types = map[*planner.Ordered][]planner.SortKey{}
	}
	t.types[plan] = keys
	return keys
}

func (t *keyTable) forget(plan *planner.Ordered) {
	t.mu.Lock()
	defer t.mu.Unlock()
	delete(t.types, plan)
}

// describeKeys has the home shard describe the shards' query, whose last columns are the keys.
func (s *Session) describeKeys(home *pool.Conn, g *gathering, plan *planner.Ordered, shape *[]byte) {
	sql := plan.Query.Append(nil, g.text, g.lits, nil)
	s.describeBound(home, g, sql, exec.Op{Rewritten: true, Denied: g.denied}, exec.Op{Hidden: true, Shape: shape})
}

// passing is what DISTINCT, LIMIT and OFFSET let through, by the session's values. ok is false
// where the limits are PostgreSQL's to read.
func (s *Session) passing(plan *planner.Ordered) (*exec.Passing, bool) {
	p := &exec.Passing{Distinct: plan.Distinct, Limit: -1}
	if plan.Limit != nil {
		n, null, ok := s.values.Count(plan.Limit)
		if !ok {
			return nil, false
		}
		if !null {
			p.Limit = n
		}
	}
	if plan.Offset != nil {
		n, _, ok := s.values.Count(plan.Offset)
		if !ok {
			return nil, false
		}
		p.Skip = n
	}
	return p, true
}

// emitOrdered has the shards run their queries, and the rows merged. shape is the client's
// RowDescription, to be sent before the rows; nil where it isn't wanted.
func (s *Session) emitOrdered(g *gathering, plan *planner.Ordered, m merging, shape *[]byte) error {
	conns, e := s.orderedConns(g, plan)
	if e != nil {
		s.pendingErr = e
		return errStatementFailed
	}
	cols, err := s.bindOrderedAtOnce(g, plan, m, conns, gatherPortal)
	if err != nil || s.run.Failed != nil {
		return err
	}
	pass, _ := s.passing(plan)
	for _, c := range conns {
		c.SetOut(wire.AppendExecute(c.Out(), gatherPortal, 0))
		c.SetOut(wire.AppendClose(c.Out(), wire.Portal, gatherPortal))
	}
	s.run.Add(exec.Op{Kind: exec.Execute, Conns: conns, Keys: m.keys, Pass: pass, Columns: cols, Shape: shape, HoldTag: g.hold, Rewritten: true})
	s.run.Add(exec.Op{Kind: exec.Close, Conns: conns, Hidden: true})
	return nil
}

// bindOrderedAtOnce is bindOrdered, at one instant where that is needed.
func (s *Session) bindOrderedAtOnce(g *gathering, plan *planner.Ordered, m merging, conns []*pool.Conn, portal string) (cols *exec.Columns, err error) {
	if len(conns) == 1 || !s.bindsAtOnce() {
		return s.bindOrdered(g, plan, m, conns, portal), nil
	}
	sql := plan.Query.Append(nil, g.text, g.lits, nil)
	for _, c := range conns { // to lock its tables, see fetchAtOnce
		c.SendParse(sql, s.shardOIDs(c, g.types))
	}
	s.run.Add(exec.Op{Kind: exec.Parse, Conns: conns, Hidden: true, Rewritten: true})
	sync := func() {
		if g.prep == nil {
			s.syncUsed(g)
			return
		}
		s.emitSyncs(false)
		s.parsed = s.parsed[:0]
	}
	err = s.bindAtOnce(conns, sync, func() { cols = s.bindOrdered(g, plan, m, conns, portal) })
	return cols, err
}

// orderedConns are the connections to the shards that have rows.
func (s *Session) orderedConns(g *gathering, plan *planner.Ordered) ([]*pool.Conn, *wire.Error) {
	shards, err := s.prune(plan.Pins)
	if err != nil {
		return nil, asError(err)
	}
	conns, err := g.onAll(shards)
	if err != nil {
		return nil, asError(err)
	}
	for _, c := range conns {
		c.Tainted = c.Tainted || g.taints
	}
	return conns, nil
}

// bindOrdered binds a portal to the shards' query, and has its columns looked at.
func (s *Session) bindOrdered(g *gathering, plan *planner.Ordered, m merging, conns []*pool.Conn, portal string) *exec.Columns {
	sql := plan.Query.Append(nil, g.text, g.lits, nil)
	formats := make([]int16, m.columns, m.columns+len(plan.Keys))
	if g.bind != nil {
		for i := range formats {
			formats[i] = resultFormat(g.bind.ResultFormats, i)
		}
	}
	for range plan.Keys {
		formats = append(formats, wire.FormatBinary)
	}
	for _, c := range conns {
		c.SendParse(sql, s.shardOIDs(c, g.types))
		s.sendBind(c, g, portal, nil, formats)
		c.SetOut(wire.AppendDescribe(c.Out(), wire.Portal, portal))
	}
	var described []byte
	cols := &exec.Columns{}
	s.run.Add(exec.Op{Kind: exec.Parse, Conns: conns, Hidden: true, Rewritten: true, Denied: g.denied})
	s.run.Add(exec.Op{Kind: exec.Bind, Conns: conns, Hidden: true, Rewritten: true, Denied: g.denied})
	s.run.Add(exec.Op{Kind: exec.Describe, Conns: conns, Hidden: true, Columns: cols, Shape: &described, Done: func() {
		if !exec.KeyTypes(described, m.keys) {
			s.host.keys.forget(plan)
			s.run.Fail(wire.Errorf(wire.InternalError, "the columns that the rows are sorted by have other types than were known").
				WithHint("A table was changed a moment ago: try again."))
		}
	}})
	return cols
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
	switch {
	case p.merged != nil, st.limit > 0 && !p.begun:
		return s.executePortion(st)
	case p.begun:
		return s.executeAgain(st)
	}
	p.begun = true
	plan := p.node.(*planner.Ordered)
	g, m, ok, err := s.describedPortal(p, plan)
	if err != nil || s.run.Failed != nil {
		return err
	}
	if !ok {
		return s.executeGathered(st, plan)
	}
	if s.run.Pending() > maxBatchBytes { // a Bind of a few bytes may be for a long text
		if err := s.runEmitted(); err != nil || s.run.Failed != nil {
			return err
		}
	}
	return s.emitOrdered(g, plan, m, nil)
}

// executeGathered executes a portal whose keys are not the gateway's to compare.
func (s *Session) executeGathered(st *step, plan *planner.Ordered) error {
	p := st.portal
	if s.pendingErr = s.typesOf(p.prep); s.pendingErr != nil {
		return errStatementFailed
	}
	p.node, p.begun = plan.Gathered, false
	return s.executeGather(st)
}

// describedPortal makes the gathering of a portal, and finds out how many columns it has, and
// of which types the keys are. If that has to be asked for, what was emitted before is run.
// ok is false if the keys are not the gateway's to compare.
func (s *Session) describedPortal(p *portal, plan *planner.Ordered) (g *gathering, m merging, ok bool, err error) {
	m = merging{columns: plan.Columns, keys: s.host.keys.of(plan)}
	if g, s.pendingErr = s.portalGathering(p); s.pendingErr != nil {
		return nil, m, false, errStatementFailed
	}
	if plan.Columns > 0 && m.keys != nil {
		return g, m, true, nil
	}
	home, err := g.on(s.host.Home)
	if err != nil {
		s.pendingErr = asError(err)
		return nil, m, false, errStatementFailed
	}
	var shape, keyed []byte
	name, _, _ := bytes.Cut(p.bind, []byte{0})
	home.SetOut(wire.AppendDescribe(home.Out(), wire.Portal, name))
	s.run.Add(exec.Op{Kind: exec.Describe, Conn: home, Hidden: true, Shape: &shape})
	if m.keys == nil {
		s.describeKeys(home, g, plan, &keyed)
	}
	if err = s.runEmitted(); err != nil || s.run.Failed != nil {
		return g, m, false, err
	}
	m.columns = exec.ColumnCount(shape)
	if m.keys == nil {
		m.keys = s.host.keys.find(plan, keyed)
	}
	return g, m, m.keys != nil, nil
}

// runEmitted runs what was emitted so far.
func (s *Session) runEmitted() error {
	s.emitSyncs(false)
	if err := s.run.Run(false); err != nil || s.run.Failed != nil {
		return err
	}
	s.parsed = s.parsed[:0]
	return nil
}

// comparable says whether the rows can be merged in the client's encoding: text is sorted as
// the servers have it.
func (s *Session) comparable(n *planner.Ordered) bool {
	return !s.asciiOnly() || !slices.ContainsFunc(n.Keys, func(k planner.SortKey) bool { return k.Text() || k.Bytewise })
}

// mergedPortal is a portal that is executed with row limits, as portals on the shards.
type mergedPortal struct {
	name    string // of the shards' portals
	shards  []int
	rows    *exec.Portions
	pass    *exec.Passing
	columns *exec.Columns
}

// executePortion executes a portal up to a limit of rows, or goes on after one.
func (s *Session) executePortion(st *step) error {
	p := st.portal
	if p.merged == nil {
		if ok, err := s.beginPortions(p); err != nil || s.run.Failed != nil {
			return err
		} else if !ok {
			return s.executeGathered(st, p.node.(*planner.Ordered))
		}
	}
	if s.run.Len() > 0 { // rows are written at once: answers to what came before come first
		if err := s.runEmitted(); err != nil || s.run.Failed != nil {
			return err
		}
	}
	m := p.merged
	rows := uint64(0)
	for st.limit <= 0 || rows < uint64(st.limit) {
		if asked, n := m.rows.Ask(st.limit); len(asked) > 0 && !m.pass.Done() {
			if err := s.fetchPortions(m, asked, n); err != nil || s.run.Failed != nil {
				return err
			}
			continue
		}
		row, more, e := m.rows.Next()
		if e != nil {
			s.pendingErr = e
			return errStatementFailed
		}
		if !more {
			p.merged = nil
			s.run.Add(exec.Op{Kind: exec.Local, Answer: exec.Tag{Verb: "SELECT", Rows: rows, Counted: true}.Append(nil)})
			return s.closeMerged(m)
		}
		if row == nil {
			continue
		}
		if err := s.client.Write(row); err != nil {
			return err
		}
		rows++
	}
	s.run.Add(exec.Op{Kind: exec.Local, Answer: wire.AppendPortalSuspended(nil)})
	return nil
}

// beginPortions binds the portals on the shards. What was emitted before is run. ok is as in
// describedPortal.
func (s *Session) beginPortions(p *portal) (ok bool, err error) {
	if s.pendingErr = s.refuseLimit(p); s.pendingErr != nil {
		return false, errStatementFailed
	}
	p.begun = true
	plan := p.node.(*planner.Ordered)
	g, found, ok, err := s.describedPortal(p, plan)
	if !ok || err != nil || s.run.Failed != nil {
		return ok, err
	}
	conns, e := s.orderedConns(g, plan)
	if e != nil {
		s.pendingErr = e
		return false, errStatementFailed
	}
	pass, _ := s.passing(plan)
	m := &mergedPortal{name: gatherPortal + " " + string(g.bind.Portal), rows: exec.NewPortions(len(conns), found.keys, pass), pass: pass}
	for _, c := range conns {
		m.shards = append(m.shards, c.Shard.Index)
	}
	if err := s.closeMerged(m); err != nil { // what an earlier one has left open
		return false, err
	}
	if m.columns, err = s.bindOrderedAtOnce(g, plan, found, conns, m.name); err != nil || s.run.Failed != nil {
		return false, err
	}
	p.merged = m
	return true, s.runEmitted()
}

// fetchPortions has some of the shards send their next rows.
func (s *Session) fetchPortions(m *mergedPortal, asked []int, rows int32) error {
	var conns []*pool.Conn
	for _, i := range asked {
		c, err := s.connFor(m.shards[i], false)
		if err != nil {
			s.pendingErr = asError(err)
			return errStatementFailed
		}
		c.SetOut(wire.AppendExecute(c.Out(), m.name, rows))
		conns = append(conns, c)
	}
	s.run.Add(exec.Op{Kind: exec.Execute, Conns: conns, Hidden: true, Into: m.rows, Columns: m.columns, Rewritten: true,
		Each: func(i int) { m.rows.Answered(i, s.run.Suspended) }})
	return s.runEmitted()
}

// closeMerged closes the portals.
func (s *Session) closeMerged(m *mergedPortal) error {
	var conns []*pool.Conn
	for _, shard := range m.shards {
		c, err := s.connFor(shard, false)
		if err != nil {
			s.pendingErr = asError(err)
			return errStatementFailed
		}
		c.SetOut(wire.AppendClose(c.Out(), wire.Portal, m.name))
		conns = append(conns, c)
	}
	s.run.Add(exec.Op{Kind: exec.Close, Conns: conns, Hidden: true})
	return nil
}
