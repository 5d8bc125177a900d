package session

import (
	"bytes"
	"encoding/binary"
	"slices"

	"github.com/shardgate/shardgate/gateway/exec"
	"github.com/shardgate/shardgate/gateway/pool"
	"github.com/shardgate/shardgate/planner"
	"github.com/shardgate/shardgate/wire"
)

// emit writes one step's messages to its shards.
func (s *Session) emit(i int) error {
	st := &s.steps[i]
	switch st.typ {
	case 'P':
		return s.emitOn(s.parseShard(i), st, func(c *pool.Conn) { s.ensure(c, st.prep, true) })
	case 'D':
		if st.kind == wire.Statement {
			return s.emitOn(s.parseShard(i), st, func(c *pool.Conn) {
				s.ensure(c, st.prep, false)
				c.SetOut(wire.AppendDescribe(c.Out(), wire.Statement, st.prep.shardName()))
				st.prep.described = st.prep.described[:0]
				s.run.Add(exec.Op{Kind: exec.Describe, Conn: c, Params: &st.prep.described, NoParams: st.noParams, Origins: s.cursorOrigins(st.prep.st.Node)})
			})
		}
		return s.emitOn(st.portal.shards[0], st, func(c *pool.Conn) {
			c.SetOut(appendMessage(c.Out(), 'D', st.body))
			s.run.Add(exec.Op{Kind: exec.Describe, Conn: c, Columns: st.portal.columns, Origins: s.cursorOrigins(st.portal.node)})
		})
	case 'B':
		if err := s.emitBind(st); err != nil || s.run.Failed != nil {
			return err
		}
		s.describeColumns(i)
	case 'E':
		return s.emitExecute(st)
	case 'C':
		return s.emitClosePortal(st)
	}
	return nil
}

func (s *Session) emitOn(shard int, st *step, f func(*pool.Conn)) error {
	c := s.cursorScratch(st.prep.st.Node)
	if c != nil {
		s.useInBatch(c)
	} else {
		var err error
		if c, err = s.connToDescribe(shard); err != nil {
			s.pendingErr = asError(err)
			return errStatementFailed
		}
	}
	f(c)
	return nil
}

// parseShard chooses the shard that parses or describes a statement: the one where
// the batch will run it, if that is one; else one that takes part; else the home
// shard. Only that one knows local tables.
func (s *Session) parseShard(i int) int {
	prep := s.steps[i].prep
	for k := i + 1; k < len(s.steps); k++ {
		if t := &s.steps[k]; t.typ == 'B' && t.err == nil && t.prep == prep && !isControl(t.portal) {
			return t.portal.shards[0]
		}
	}
	if s.tx != nil && s.tx.parts[s.host.Home] == nil && !readsHome(prep.st.Node) {
		return s.any()
	}
	return s.host.Home
}

// readsHome says whether a plan is about what only the home shard has.
func readsHome(node planner.Node) bool {
	switch n := node.(type) {
	case *planner.Route:
		return n.Place == planner.Home
	case *planner.Explain:
		return readsHome(n.Of.Node)
	case *planner.Gather:
		return n.Inside == planner.Always || slices.ContainsFunc(n.Parts, func(p planner.Part) bool { return p.Place == planner.Home })
	case *planner.InsertSelect, *planner.CreateAs, *planner.Move, *planner.Steps:
		return true
	}
	return false
}

// appendMessage appends a message of the client's as it came.
func appendMessage(dst []byte, typ byte, body []byte) []byte {
	dst = append(dst, typ)
	dst = binary.BigEndian.AppendUint32(dst, uint32(len(body)+4))
	return append(dst, body...)
}

// emitBind binds the portal on its shards.
func (s *Session) emitBind(st *step) error {
	p := st.portal
	if s.tx != nil {
		if err := s.refuseReference(p.node); err != nil {
			s.pendingErr = err
			return errStatementFailed
		}
		if s.needsTime(p.prep.st, p.node, p.shards) {
			if err := s.bindTime(st); err != nil || s.run.Failed != nil {
				return err
			}
		}
	}
	later := changes(p.node) // what is bound is not executed
	switch p.node.(type) {
	case *planner.InsertSelect, *planner.CreateAs, *planner.Move, *planner.Steps:
		later = true
	}
	conns, err := s.portalConns(p, later)
	if err != nil {
		return err
	}
	if len(lockedReferences(p.node)) > 0 {
		if err := s.lockBeforeBind(p.node, conns); err != nil || s.run.Failed != nil {
			return err
		}
	}
	if sp, ok := p.node.(*planner.Split); ok && len(conns) > 1 {
		return s.bindSplit(st, sp, conns)
	}
	for _, c := range conns {
		if p.own {
			c.SendParse(p.prep.text, s.shardOIDs(c, p.prep.oids))
			s.run.Add(exec.Op{Kind: exec.Parse, Conn: c, Hidden: true, Rewritten: true})
			continue
		}
		s.ensure(c, p.prep, false)
	}
	bind := func() {
		for _, c := range conns {
			start := len(c.Out())
			c.SetOut(appendBind(c.Out(), st.body, p.prep.shardName()))
			s.ownParams(c, c.Out()[start:], p.prep, nil)
		}
		s.addOp(exec.Op{Kind: exec.Bind, Rewritten: p.own}, conns)
	}
	if _, ok := p.node.(*planner.Scatter); ok && len(conns) > 1 && !p.prep.st.Writes && s.bindsAtOnce() {
		err := s.bindAtOnce(conns, func() { s.emitSyncs(false) }, bind)
		s.parsed = s.parsed[:0]
		return err
	}
	if s.bindsFirst {
		hold, err := s.enterFence(p.shards)
		if err != nil {
			s.pendingErr = asError(err)
			return errStatementFailed
		}
		bind()
		s.binding = s.endBinding(p.node.(*planner.Scatter), hold, conns)
		return nil
	}
	bind()
	if s.bindsAgain {
		s.run.Hide()
	}
	return nil
}

// addOp adds an operation for one or several connections.
func (s *Session) addOp(op exec.Op, conns []*pool.Conn) {
	if len(conns) == 1 {
		op.Conn = conns[0]
	} else {
		op.Conns = conns
	}
	s.run.Add(op)
}

// appendBind writes a Bind with the statement's name on the shard.
func appendBind(dst, body []byte, statement string) []byte {
	portal := bytes.IndexByte(body, 0) + 1
	rest := portal + bytes.IndexByte(body[portal:], 0) + 1
	dst = append(dst, 'B')
	dst = binary.BigEndian.AppendUint32(dst, uint32(4+portal+len(statement)+1+len(body)-rest))
	dst = append(dst, body[:portal]...)
	dst = append(append(dst, statement...), 0)
	return append(dst, body[rest:]...)
}

// lockBeforeBind locks reference tables. What was emitted so far is run first,
// since a simple Query would destroy an unnamed portal that is bound.
func (s *Session) lockBeforeBind(node planner.Node, conns []*pool.Conn) error {
	s.emitSyncs(false)
	if err := s.run.Run(false); err != nil || s.run.Failed != nil {
		return err
	}
	s.parsed = s.parsed[:0]
	return s.lockReference(node, conns)
}

// describeColumns sees to it that what is in the values of the portal bound by step
// i is known by its Execute, if OIDs in them may have to be translated. The client's
// own Describe of the portal tells; else the shard is asked, the first time.
func (s *Session) describeColumns(i int) {
	p := s.steps[i].portal
	foreign := func(shard int) bool { return s.snap.OIDs[shard] != nil }
	if !p.binary || p.prep.plain || !slices.ContainsFunc(p.shards, foreign) {
		return
	}
	p.columns = &exec.Columns{}
	for k := i + 1; k < len(s.steps); k++ {
		if t := &s.steps[k]; t.portal == p && t.typ == 'E' {
			break
		} else if t.portal == p && t.typ == 'D' {
			return
		}
	}
	c, err := s.connToDescribe(p.shards[0])
	if err != nil {
		return // the next step meets it
	}
	name, _, _ := bytes.Cut(s.steps[i].body, []byte{0})
	c.SetOut(wire.AppendDescribe(c.Out(), wire.Portal, name))
	s.run.Add(exec.Op{Kind: exec.Describe, Conn: c, Hidden: true, Columns: p.columns, Done: func() { p.prep.plain = p.columns.Plain() }})
}

// ownParams puts the shard's own OIDs into the binary parameters of a Bind, the
// whole message. pick are the parameters that it has; nil means all.
func (s *Session) ownParams(c *pool.Conn, bind []byte, p *prepared, pick []int) {
	own := s.snap.Own[c.Shard.Index]
	nested := exec.Nesting(s.snap.Nested)
	if own == nil || !nested.Any(p.oids) && !nested.Any(p.described) {
		return
	}
	types := append([]uint32(nil), p.described...)
	for i, o := range p.oids {
		if i >= len(types) {
			types = append(types, o)
		} else if o != 0 {
			types[i] = o
		}
	}
	if pick != nil {
		all := types
		types = make([]uint32, len(pick))
		for i, n := range pick {
			if n < len(all) {
				types[i] = all[n]
			}
		}
	}
	// A Bind that can't be read is PostgreSQL's to refuse.
	_ = exec.TranslateParams(bind[5:], types, own, nested)
}

// bindSplit gives each shard a statement with its own rows, and the parameters of
// these.
func (s *Session) bindSplit(st *step, sp *planner.Split, conns []*pool.Conn) error {
	p := st.portal
	if err := wire.DecodeBind(st.body, &s.bind); err != nil {
		s.pendingErr = asError(err)
		return errStatementFailed
	}
	v := exec.Values{Text: p.prep.text, Literals: p.prep.lits}
	s.rowTargets = append(s.rowTargets[:0], p.targets...)
	for i, c := range conns {
		sql, pick := exec.SplitText(nil, sp, &v, s.rowsOf(i), nil)
		var oids []uint32
		for _, n := range pick {
			o := uint32(0)
			if n < len(p.prep.oids) {
				o = p.prep.oids[n]
			}
			oids = append(oids, o)
		}
		c.SendParse(sql, s.shardOIDs(c, oids))
		start := len(c.Out())
		c.SetOut(wire.AppendSelected(c.Out(), string(s.bind.Portal), "", &s.bind, pick, s.bind.ResultFormats))
		s.ownParams(c, c.Out()[start:], p.prep, pick)
	}
	s.run.Add(exec.Op{Kind: exec.Parse, Conns: conns, Hidden: true})
	s.run.Add(exec.Op{Kind: exec.Bind, Conns: conns})
	return nil
}

// emitExecute executes a portal.
func (s *Session) emitExecute(st *step) error {
	p := st.portal
	if s.tx != nil && p.prep.st.NoTransaction {
		s.pendingErr = wire.Errorf(wire.ActiveTransaction, "%s cannot run inside a transaction block", firstWord(p.prep.text))
		return errStatementFailed
	}
	if what := blockOnly(p.prep.st); what != "" && (s.tx == nil || !s.tx.explicit) {
		s.pendingErr = wire.Errorf(wire.NoActiveTransaction, "%s can only be used in transaction blocks", what)
		return errStatementFailed
	}
	switch p.node.(type) {
	case *planner.Gather:
		return s.executeGather(st)
	case *planner.Ordered:
		return s.executeOrdered(st)
	case *planner.Explain:
		return s.executeExplain(st)
	case *planner.InsertSelect:
		return s.executeInsert(st)
	case *planner.CreateAs:
		return s.executeCreate(st)
	case *planner.Move:
		return s.executeMove(st)
	case *planner.Steps:
		return s.executeSteps(st)
	}
	conns, err := s.portalConns(p, false)
	if err != nil {
		return err
	}
	if len(conns) == 1 {
		c := conns[0]
		c.SetOut(appendMessage(c.Out(), 'E', st.body))
		s.run.Add(exec.Op{Kind: exec.Execute, Conn: c, Columns: p.columns})
		return nil
	}
	name, _, _ := wire.DecodeExecute(st.body)
	if (st.limit > 0 || p.begun) && p.returnsRows() {
		return s.executeLimited(st, string(name), conns)
	}
	if b, ok := p.node.(*planner.Broadcast); ok && b.HomeFirst && s.tx != nil {
		return s.executeHomeFirst(b, string(name), conns)
	}
	op := s.queryOp(p.node, conns)
	op.Kind, op.Formats, op.Columns = exec.Execute, p.formats, p.columns
	if sp, ok := p.node.(*planner.Split); ok {
		op.Whole, op.Rewritten = true, true
		if sp.KeepsOrder {
			op.Order = p.targets
		}
	}
	for _, c := range conns {
		c.SetOut(wire.AppendExecute(c.Out(), string(name), 0))
	}
	s.run.Add(op)
	return nil
}

// blockOnly is the name of a statement that can only be executed in an explicit
// transaction block, or "".
func blockOnly(st *planner.Statement) string {
	if st.Cursor != "" && !st.HoldsSession {
		return "DECLARE CURSOR"
	}
	return st.BlockOnly
}

// executeHomeFirst executes on the home shard, and then on the others.
func (s *Session) executeHomeFirst(b *planner.Broadcast, name string, conns []*pool.Conn) error {
	home, others := conns[0], conns[1:]
	home.SetOut(wire.AppendExecute(home.Out(), name, 0))
	s.run.Add(exec.Op{Kind: exec.Execute, Conns: conns[:1], HoldTag: true, Merge: planner.First}) // the home shard's OIDs are the client's
	s.emitSyncs(false)
	if err := s.run.Run(false); err != nil || s.run.Failed != nil {
		return err
	}
	s.parsed = s.parsed[:0]
	tag := s.run.Tag
	s.executeBefore(b, others)
	for _, c := range others {
		c.SetOut(wire.AppendExecute(c.Out(), name, 0))
	}
	s.run.Add(exec.Op{Kind: exec.Execute, Conns: others, Hidden: true, Merge: planner.First})
	if tag.Verb != "" {
		s.run.Add(exec.Op{Kind: exec.Local, Answer: tag.Append(nil)})
	}
	return nil
}

// executeBefore is sendBefore where the client's portal is bound already, which may be
// the unnamed one.
func (s *Session) executeBefore(b *planner.Broadcast, others []*pool.Conn) {
	if b.Before == "" {
		return
	}
	for _, c := range others {
		c.SendParse([]byte(b.Before), nil)
		c.SetOut(wire.AppendBind(c.Out(), gatherPortal, "", nil, nil, nil))
		c.SetOut(wire.AppendExecute(c.Out(), gatherPortal, 0))
		c.SetOut(wire.AppendClose(c.Out(), wire.Portal, gatherPortal))
	}
	for _, kind := range []exec.Kind{exec.Parse, exec.Bind, exec.Execute, exec.Close} {
		s.run.Add(exec.Op{Kind: kind, Conns: others, Hidden: true, Merge: planner.First})
	}
}

// executeLimited executes with a row limit over several shards: one after the
// other, since what a shard has sent can't be given back.
func (s *Session) executeLimited(st *step, name string, conns []*pool.Conn) error {
	p := st.portal
	sc, ok := p.node.(*planner.Scatter)
	if !ok || sc.Merge != planner.Concat {
		s.pendingErr = wire.Errorf(wire.FeatureNotSupported, "a row limit in Execute is not supported for this statement over several shards yet").
			WithHint("Execute it without a limit.")
		return errStatementFailed
	}
	p.begun = true
	// What was emitted before has to be answered before rows are counted.
	s.emitSyncs(false)
	if err := s.run.Run(false); err != nil || s.run.Failed != nil {
		return err
	}
	s.parsed = s.parsed[:0]
	left := int64(st.limit)
	total := uint64(0)
	for p.at < len(conns) {
		c := conns[p.at]
		c.SetOut(wire.AppendExecute(c.Out(), name, int32(left)))
		c.SendSync()
		s.run.Add(exec.Op{Kind: exec.Execute, Conns: []*pool.Conn{c}, HoldTag: true, Columns: p.columns})
		s.run.Add(exec.Op{Kind: exec.Sync, Conn: c})
		if err := s.run.Run(false); err != nil || s.run.Failed != nil {
			return err
		}
		if s.run.Suspended {
			return nil // PortalSuspended was passed on
		}
		p.at++
		total += s.run.Tag.Rows
		if left > 0 {
			if left -= int64(s.run.Tag.Rows); left <= 0 && p.at < len(conns) {
				s.run.Add(exec.Op{Kind: exec.Local, Answer: wire.AppendPortalSuspended(nil)})
				return nil
			}
		}
	}
	s.run.Add(exec.Op{Kind: exec.Local, Answer: exec.Tag{Verb: "SELECT", Rows: total, Counted: true}.Append(nil)})
	return nil
}

// emitClosePortal closes a portal on its shards.
func (s *Session) emitClosePortal(st *step) error {
	var conns []*pool.Conn
	for _, shard := range st.portal.shards {
		c, err := s.portalConn(st.portal, shard, false)
		if err != nil {
			s.pendingErr = asError(err)
			return errStatementFailed
		}
		c.SetOut(appendMessage(c.Out(), 'C', st.body))
		conns = append(conns, c)
	}
	s.addOp(exec.Op{Kind: exec.Close}, conns)
	if open := st.portal.open; open != nil {
		s.useInBatch(open.conn)
		open.conn.SetOut(wire.AppendClose(open.conn.Out(), wire.Portal, open.name))
		s.run.Add(exec.Op{Kind: exec.Close, Conn: open.conn, Hidden: true})
	}
	if m := st.portal.merged; m != nil {
		if err := s.closeMerged(m); err != nil {
			return err
		}
	}
	_, name, _ := wire.DecodeClose(st.body)
	if n, ok := st.portal.node.(*planner.Cursor); ok && n.Name != "" && n.Name == string(name) {
		s.closed(n.Name) // the cursor itself, and not a portal with FETCH
	}
	return nil
}
