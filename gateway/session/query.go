package session

import (
	"context"
	"errors"
	"strings"
	"unicode/utf8"

	"github.com/shardgate/shardgate/gateway/exec"
	"github.com/shardgate/shardgate/gateway/pool"
	"github.com/shardgate/shardgate/planner"
	"github.com/shardgate/shardgate/planner/sqltext"
	"github.com/shardgate/shardgate/shardmap"
	"github.com/shardgate/shardgate/wire"
)

// simpleQuery answers a Query message. m is valid until the next read from the
// client.
func (s *Session) simpleQuery(m []byte) error {
	text, err := wire.DecodeQuery(m[5:])
	if err != nil {
		s.tell(asError(err))
		return s.ready()
	}
	s.run.Failed = nil
	delete(s.portals, "")
	delete(s.stmts, "")
	st, lits, parsed, err := s.plannerNow().Plan(text, &s.scan)
	if err == nil && s.schemaIsOld(st) {
		st, lits, parsed, err = s.plannerNow().Plan(text, &s.scan)
	}
	if err == nil && st.Asked != nil && !(s.tx != nil && s.tx.failed) {
		s.run.Rewritten = true
		defer func() { s.run.Rewritten = false }()
		if st, text, lits, err = s.planAnswered(st, text, lits); err == nil {
			m = wire.AppendQuery(nil, text)
		}
	}
	switch {
	case errors.Is(err, planner.ErrSeveral):
		err = s.several(string(text), parsed.Pieces())
	case err != nil:
		s.tell(s.planError(err))
		err = nil
	default:
		var answered bool
		if answered, err = s.statement(st, text, lits, m); answered {
			return err
		}
	}
	if err != nil && !errors.Is(err, errStatementFailed) {
		return err
	}
	return s.endQuery()
}

// planAnswered plans a statement that asks the gateway, by its text with the answers.
func (s *Session) planAnswered(st *planner.Statement, text []byte, lits []sqltext.Literal) (*planner.Statement, []byte, []sqltext.Literal, error) {
	text, e := s.answered(st, text, lits)
	if e != nil {
		return nil, nil, nil, e
	}
	st, lits, _, err := s.plannerNow().Plan(text, &s.scan)
	return st, text, lits, err
}

// endQuery ends an implicit block and says that the session is ready.
func (s *Session) endQuery() error {
	if s.tx != nil && !s.tx.explicit {
		if err := s.endImplicit(); err != nil {
			return err
		}
	}
	return s.ready()
}

// functionCall refuses the protocol's old way to call a function by its OID,
// which says nothing of the rows that the function is about.
func (s *Session) functionCall() error {
	if _, err := s.client.Read(); err != nil {
		return err
	}
	if s.tx != nil && s.tx.failed {
		s.tell(inFailed)
	} else {
		s.tell(wire.Errorf(wire.FeatureNotSupported, "function calls by OID are not supported").
			WithHint("Call the function by SELECT."))
	}
	return s.endQuery()
}

// endImplicit ends an implicit block at the end of a Query or a batch.
func (s *Session) endImplicit() error {
	if s.tx.failed {
		s.rollback()
		return nil
	}
	if err := s.commitImplicit(); err != nil && !errors.Is(err, errStatementFailed) {
		return err
	}
	return nil
}

// planError is the error for a statement that can't be planned. In a failed
// transaction, PostgreSQL looks at no more than the grammar.
func (s *Session) planError(err error) *wire.Error {
	e := asError(err)
	if s.tx != nil && s.tx.failed && e.Code != wire.SyntaxError {
		return inFailed
	}
	return e
}

// shifted is an error that is about one of several statements with its position in all of
// their text.
func (s *Session) shifted(e *wire.Error) *wire.Error {
	if e.Position == 0 {
		return e
	}
	return e.WithPosition(e.Position + s.run.Shift)
}

// several runs the statements of one Query in an implicit transaction block, as
// PostgreSQL does, up to the first that fails. The pieces lie in text in their
// order, and what is said of positions is about text.
func (s *Session) several(text string, pieces []string) error {
	defer func() { s.run.Shift = 0 }()
	from := 0
	for i, piece := range pieces {
		at := from + strings.Index(text[from:], piece)
		s.run.Shift = int32(utf8.RuneCountInString(text[:at]))
		from = at + len(piece)
		if s.tx == nil {
			s.begin(false)
		}
		statement := []byte(piece)
		st, lits, _, err := s.plannerNow().Plan(statement, &s.scan)
		if err == nil && s.schemaIsOld(st) {
			st, lits, _, err = s.plannerNow().Plan(statement, &s.scan)
		}
		if err != nil {
			s.tell(s.shifted(s.planError(err)))
			return nil
		}
		last := i == len(pieces)-1
		if c, ok := st.Node.(*planner.Control); ok {
			if s.refusedInFailed(st) {
				return nil
			}
			if c.Kind == planner.Execute {
				err = s.execute(st, statement, false)
			} else {
				err = s.control(c, piece)
			}
			if err != nil {
				if errors.Is(err, errStatementFailed) && s.tx != nil {
					s.tx.failed = true
				}
				return err
			}
			continue
		}
		if s.refusedInFailed(st) {
			return nil
		}
		if st.Asked != nil {
			if st, statement, lits, err = s.planAnswered(st, statement, lits); err != nil {
				s.tell(asError(err))
				return errStatementFailed
			}
		}
		if err := s.inBlock(st, statement, lits, last); err != nil {
			return err
		}
		if s.run.Failed != nil || s.tx != nil && s.tx.failed {
			return errStatementFailed
		}
	}
	return nil
}

// refusedInFailed refuses everything but the end of a failed transaction.
func (s *Session) refusedInFailed(st *planner.Statement) bool {
	if !s.failedFor(st) {
		return false
	}
	s.client.SetOut(inFailed.Append(s.client.Out()))
	return true
}

// failedFor says whether the session is in a failed transaction that a statement doesn't end.
func (s *Session) failedFor(st *planner.Statement) bool {
	if s.tx == nil || !s.tx.failed {
		return false
	}
	if c, ok := st.Node.(*planner.Control); ok {
		switch c.Kind {
		case planner.Commit, planner.Rollback, planner.RollbackTo, planner.Empty:
			return false
		}
	}
	return true
}

var inFailed = wire.Errorf(wire.InFailedTransaction, "current transaction is aborted, commands ignored until end of transaction block")

// statement runs the only statement of a Query. answered says that the client has
// had everything, ReadyForQuery included.
func (s *Session) statement(st *planner.Statement, text []byte, lits []sqltext.Literal, frame []byte) (answered bool, err error) {
	if s.refusedInFailed(st) {
		return false, nil
	}
	if c, ok := st.Node.(*planner.Control); ok {
		if c.Kind == planner.Execute {
			alone := s.tx == nil
			return alone, s.execute(st, text, alone)
		}
		return false, s.control(c, string(text))
	}
	if s.tx != nil {
		return false, s.inBlock(st, text, lits, true)
	}
	if st.BlockOnly != "" {
		s.tell(wire.Errorf(wire.NoActiveTransaction, "%s can only be used in transaction blocks", st.BlockOnly))
		return false, nil
	}
	node, shards, err := s.resolve(st, text, lits, nil)
	if err != nil {
		s.tell(asError(err))
		return false, nil
	}
	if len(shards) == 1 && !st.HoldsSession && st.TempTable == "" && !st.SchemaChange && simple(node) && s.cursorOrigins(node) == nil {
		return true, s.relay(st, shards[0], frame)
	}
	reads := !st.Writes && !st.HoldsSession && !st.SchemaChange && st.TempTable == ""
	scope := s.readScope(node, shards)
	switch {
	case reads && st.Cursor == "" && len(scope) > 1 && s.atomic():
		if n, ok := node.(*planner.Scatter); ok && st.Params == 0 && s.bindsAlone(st, node) {
			if torn, err := s.scatterAlone(st, n, shards, text); !torn {
				return false, err
			}
		}
		s.readAlone(scope)
	case st.NoTransaction || reads:
		return false, s.outside(st, node, shards, text, lits, frame)
	default:
		s.begin(false)
	}
	if err := s.inBlock(st, text, lits, true); err != nil {
		return false, err
	}
	return false, nil
}

// simple says whether a plan that leads to one shard needs nothing but its text
// sent there.
func simple(n planner.Node) bool {
	switch n.(type) {
	case *planner.Route, *planner.Scatter, *planner.Cursor, *planner.Split:
		return true
	}
	return false
}

// relay sends a Query to one shard, outside a transaction block, and its answer to
// the client: the hottest path of the gateway.
func (s *Session) relay(st *planner.Statement, shard int, frame []byte) error {
	c, err := s.acquire(shard)
	if err != nil {
		s.tell(asError(err))
		return s.ready()
	}
	c.SetOut(append(c.Out(), frame...))
	c.Ready++
	c.Unnamed = 0
	s.run.Add(exec.Op{Kind: exec.Query, Conn: c, Final: true})
	s.run.Commits = st.Writes
	err = s.run.Run(true)
	c.Tainted = c.Tainted || st.Taints
	failed := s.run.Failed
	s.release(c)
	if err != nil {
		return err
	}
	if failed != nil {
		return s.ready()
	}
	return nil
}

// outside runs a statement on several shards outside a transaction block: it
// only reads, or it can't be in one.
func (s *Session) outside(st *planner.Statement, node planner.Node, shards []int, text []byte, lits []sqltext.Literal, frame []byte) error {
	switch n := node.(type) {
	case *planner.Gather:
		if n.Declares == "" { // PostgreSQL refuses a cursor
			return s.gatherQuery(st, n, text, lits, false)
		}
	case *planner.Explain:
		_, err := s.explainQuery(n, text, lits, false)
		return err
	case *planner.Ordered:
		return s.gatherQuery(st, n, text, lits, false)
	}
	conns, err := s.acquireAll(shards)
	defer s.releaseAll(st, conns)
	if err != nil {
		s.run.Run(false)
		s.tell(asError(err))
		return nil
	}
	for _, c := range conns {
		c.SetOut(append(c.Out(), frame...))
		c.Ready++
		c.Unnamed = 0
	}
	s.run.Add(s.queryOp(node, conns))
	if err := s.run.Run(false); err != nil {
		return err
	}
	if st.SchemaChange && s.run.Failed == nil {
		s.reload()
	}
	return nil
}

// acquireAll gets connections to several shards for a statement outside a transaction block.
// They are to be released also after an error.
func (s *Session) acquireAll(shards []int) (conns []*pool.Conn, err error) {
	for _, shard := range shards {
		c, err := s.acquire(shard)
		if err != nil {
			return conns, err
		}
		conns = append(conns, c)
	}
	return conns, nil
}

func (s *Session) releaseAll(st *planner.Statement, conns []*pool.Conn) {
	for _, c := range conns {
		c.Tainted = c.Tainted || st.Taints
		s.release(c)
	}
}

// queryOp is the operation of a simple query on several shards.
func (s *Session) queryOp(node planner.Node, conns []*pool.Conn) exec.Op {
	op := exec.Op{Kind: exec.Query, Conns: conns}
	switch n := node.(type) {
	case *planner.Scatter:
		op.Merge = n.Merge
	case *planner.Broadcast:
		op.Merge, op.Whole = n.Merge, true
	case *planner.CopyOut:
		op.Header, op.BinaryCopy = n.Header, n.Binary
	case *planner.Cursor:
		op.Origins = s.cursorOrigins(n)
	case *planner.CopyIn:
		op.Merge = copyMerge(n)
		op.Copy = s.splitter(n, conns)
	}
	return op
}

// copyMerge: the count of a reference table's rows is one copy's.
func copyMerge(n *planner.CopyIn) planner.Merge {
	if n.Types == nil {
		return planner.First
	}
	return planner.Concat
}

// splitter divides COPY data among connections, which are in the order of shards.
func (s *Session) splitter(n *planner.CopyIn, conns []*pool.Conn) *exec.Splitter {
	at := make([]int, len(s.host.Pools.Shards))
	for i, c := range conns {
		at[c.Shard.Index] = i
	}
	snap := s.snap
	return &exec.Splitter{Plan: n, ASCIIOnly: s.asciiOnly(), Target: func(slot shardmap.Slot) int { return at[snap.ShardOf(slot)] }}
}

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
