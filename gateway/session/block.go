package session

import (
	"context"
	"strings"

	"github.com/shardgate/shardgate/gateway/exec"
	"github.com/shardgate/shardgate/gateway/pool"
	"github.com/shardgate/shardgate/planner"
	"github.com/shardgate/shardgate/planner/sqltext"
	"github.com/shardgate/shardgate/wire"
)

// inBlock runs a statement in the transaction block. The last one of an implicit
// block keeps its CommandComplete until the commit, as PostgreSQL does.
func (s *Session) inBlock(st *planner.Statement, text []byte, lits []sqltext.Literal, last bool) error {
	node, shards, err := s.resolve(st, text, lits, nil)
	if err != nil {
		s.tell(s.shifted(asError(err)))
		return errStatementFailed
	}
	if st.NoTransaction {
		s.tell(wire.Errorf(wire.ActiveTransaction, "%s cannot run inside a transaction block", firstWord(text)))
		return errStatementFailed
	}
	if err := s.refuseReference(node); err != nil {
		s.tell(err)
		return errStatementFailed
	}
	if s.needsTime(st, node, shards) {
		s.run.Rewritten = true
		defer func() { s.run.Rewritten = false }()
		if node, shards, text, err = s.timed(st, node, shards, text, lits); err != nil {
			return err
		}
		if s.run.Failed != nil {
			s.tx.failed = true
			return errStatementFailed
		}
	}
	hold := last && !s.tx.explicit
	tag, err := s.runInBlock(st, node, shards, text, lits, hold)
	if err != nil {
		return err
	}
	if s.run.Failed != nil {
		s.tx.failed = true
		return errStatementFailed
	}
	s.afterCursor(st, node, shards)
	s.afterStatement(st, shards)
	s.schemaChanged(st)
	if hold {
		if err := s.commitImplicit(); err != nil {
			return err
		}
		if tag.Verb != "" {
			s.client.SetOut(tag.Append(s.client.Out()))
		}
	}
	return nil
}

// schemaChanged notes that a statement of the block has changed the schema: what
// comes after it in the block is planned by what the block sees.
func (s *Session) schemaChanged(st *planner.Statement) {
	if st.SchemaChange {
		s.tx.schema, s.tx.snap = true, nil
	}
}

// schemaIsOld says whether a change of the schema has been planned by one that another gateway
// has changed since, so that it could lead to a part of the shards: an index that is not known
// is taken for the home shard's. It reads the schema anew then.
func (s *Session) schemaIsOld(st *planner.Statement) bool {
	if !st.SchemaChange || s.tx != nil && (s.tx.schema || s.tx.failed) {
		return false
	}
	by := s.host.Catalog.Current()
	ctx, stop := context.WithTimeout(context.Background(), reloadTimeout)
	defer stop()
	if err := s.host.Catalog.Poll(ctx); err != nil {
		return false // the home shard is needed by the change itself
	}
	return s.host.Catalog.Current() != by
}

// refuseReference refuses writes of reference tables where the copies could come
// to differ: with a snapshot taken at another moment on each shard.
func (s *Session) refuseReference(node planner.Node) *wire.Error {
	if len(lockedReferences(node)) == 0 || s.isolation() != "repeatable read" || s.atomic() || len(s.snap.Active) == 1 {
		return nil
	}
	return wire.Errorf(wire.FeatureNotSupported, "a reference table can't be changed in a transaction at REPEATABLE READ whose snapshots are the shards' own").
		WithDetail("They are taken at different moments, so that the copies could come to differ.").
		WithHint("Set shardgate.snapshot to atomic, or use READ COMMITTED.")
}

// firstWord is the statement's verb for an error message.
func firstWord(text []byte) string {
	f := strings.Fields(string(text))
	if len(f) == 0 {
		return ""
	}
	return strings.ToUpper(f[0])
}

// runInBlock sends a statement to its shards inside the block.
func (s *Session) runInBlock(st *planner.Statement, node planner.Node, shards []int, text []byte, lits []sqltext.Literal, hold bool) (exec.Tag, error) {
	switch n := node.(type) {
	case *planner.Gather, *planner.Ordered:
		err := s.gatherQuery(st, n, text, lits, hold)
		return s.run.Tag, err
	case *planner.Explain:
		return s.explainQuery(n, text, lits, hold)
	case *planner.InsertSelect:
		err := s.insertQuery(n, st, text, lits, hold)
		return s.run.Tag, err
	case *planner.Move:
		err := s.moveQuery(n, st, text, lits, hold)
		return s.run.Tag, err
	case *planner.Steps:
		err := s.stepsQuery(n, st, text, lits, hold)
		return s.run.Tag, err
	case *planner.CreateAs:
		err := s.createQuery(n, st, text, lits, hold)
		return s.run.Tag, err
	}
	var conns []*pool.Conn
	if c := s.cursorScratch(node); c != nil {
		conns, shards = append(conns, c), nil
	}
	for _, shard := range shards {
		c, err := s.joinFor(st, shard, st.Writes)
		if err != nil {
			s.run.Run(false)
			s.tell(asError(err))
			return exec.Tag{}, errStatementFailed
		}
		c.Tainted = c.Tainted || st.Taints
		conns = append(conns, c)
	}
	if err := s.lockReference(node, conns); err != nil || s.run.Failed != nil {
		return exec.Tag{}, err
	}
	if b, ok := node.(*planner.Broadcast); ok && b.HomeFirst && len(conns) > 1 {
		return s.homeFirst(b, conns, text, hold)
	}
	if sc, ok := node.(*planner.Scatter); ok && len(conns) > 1 && !st.Writes && st.Params == 0 && s.bindsAtOnce() {
		err := s.scatterAtOnce(sc, conns, text, hold)
		return s.run.Tag, err
	}
	if sp, ok := node.(*planner.Split); ok && len(conns) > 1 {
		s.sendSplit(sp, conns)
		s.run.Add(exec.Op{Kind: exec.Query, Conns: conns, HoldTag: hold, Order: s.order(sp, conns), Whole: true, Rewritten: true})
	} else {
		query := string(text)
		for _, c := range conns {
			c.SendQuery(query)
		}
		op := s.queryOp(node, conns)
		op.HoldTag = hold
		s.run.Add(op)
	}
	if hold {
		s.commitWithLast()
	}
	err := s.run.Run(false)
	return s.run.Tag, err
}

// homeFirst runs a statement on the home shard, and when it has succeeded there
// on the others: writers that meet do so on the home shard first, and wait there.
func (s *Session) homeFirst(b *planner.Broadcast, conns []*pool.Conn, text []byte, hold bool) (exec.Tag, error) {
	conns[0].SendQuery(string(text))
	s.run.Add(exec.Op{Kind: exec.Query, Conns: conns[:1], HoldTag: true, Merge: planner.First})
	if err := s.run.Run(false); err != nil || s.run.Failed != nil {
		return exec.Tag{}, err
	}
	tag := s.run.Tag
	s.sendBefore(b, conns[1:])
	for _, c := range conns[1:] {
		c.SendQuery(string(text))
	}
	s.run.Add(exec.Op{Kind: exec.Query, Conns: conns[1:], Hidden: true, Merge: planner.First})
	if err := s.run.Run(false); err != nil || s.run.Failed != nil {
		return exec.Tag{}, err
	}
	if !hold && tag.Verb != "" {
		s.client.SetOut(tag.Append(s.client.Out()))
	}
	return tag, nil
}

// sendBefore sends the other shards what they have to run before a statement.
func (s *Session) sendBefore(b *planner.Broadcast, others []*pool.Conn) {
	if b.Before == "" {
		return
	}
	for _, c := range others {
		c.SendQuery(b.Before)
	}
	s.run.Add(exec.Op{Kind: exec.Query, Conns: others, Hidden: true, Merge: planner.First})
}

// lockedReferences are the reference tables that a plan locks before it changes them.
func lockedReferences(node planner.Node) []string {
	switch n := node.(type) {
	case *planner.Broadcast:
		return n.LockReference
	case *planner.CopyIn:
		return n.LockReference
	case *planner.InsertSelect:
		return n.LockReference
	case *planner.Gather:
		if n.Target != nil {
			return n.Target.LockReference
		}
	}
	return nil
}

// lockReference locks reference tables on every shard, the home shard first.
func (s *Session) lockReference(node planner.Node, conns []*pool.Conn) error {
	tables := lockedReferences(node)
	if len(tables) == 0 {
		return nil
	}
	sql := "LOCK TABLE " + strings.Join(tables, ",") + " IN SHARE ROW EXCLUSIVE MODE"
	for _, part := range [][]*pool.Conn{conns[:1], conns[1:]} {
		for _, c := range part {
			c.SendQuery(sql)
		}
		s.run.Add(exec.Op{Kind: exec.Query, Conns: part, Hidden: true, Merge: planner.First})
		if err := s.run.Run(false); err != nil || s.run.Failed != nil {
			return err
		}
	}
	return nil
}

// sendSplit sends each shard its rows of an INSERT.
func (s *Session) sendSplit(sp *planner.Split, conns []*pool.Conn) {
	for i, c := range conns {
		sql, _ := exec.SplitText(nil, sp, &s.values, s.rowsOf(i), nil)
		c.SendQuery(string(sql))
	}
}

// rowsOf are the rows of the Split resolved last that go to its i-th shard.
func (s *Session) rowsOf(i int) []int {
	var rows []int
	for r, t := range s.rowTargets {
		if int(t) == i {
			rows = append(rows, r)
		}
	}
	return rows
}

// order says for each row of the Split which connection has it, if the answers
// can be put back in the rows' order.
func (s *Session) order(sp *planner.Split, conns []*pool.Conn) []uint8 {
	if !sp.KeepsOrder || len(conns) > 255 {
		return nil
	}
	return s.rowTargets
}

// afterStatement notes what a statement that has succeeded in the block leaves
// on its connection.
func (s *Session) afterStatement(st *planner.Statement, shards []int) {
	if st.SchemaChange {
		s.refreshTemp()
	}
	if !st.HoldsSession && st.TempTable == "" {
		return
	}
	for _, shard := range shards {
		p := s.tx.parts[shard]
		if s.held[shard] == nil {
			s.hold(p.conn)
			if s.tx.held == nil {
				s.tx.held = map[int]bool{}
			}
			s.tx.held[shard] = true
		}
		if st.SessionLock {
			delete(s.tx.held, shard)
		}
		p.unpreparable = true
	}
	if st.TempTable != "" {
		if s.temp == nil {
			s.temp = map[string]bool{}
		}
		s.temp[st.TempTable] = true
		s.replan()
	}
}
