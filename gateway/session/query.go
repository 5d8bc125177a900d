package session

import (
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
