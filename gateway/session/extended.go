package session

import (
	"bytes"
	"encoding/binary"
	"errors"
	"slices"

	"github.com/shardgate/shardgate/gateway/exec"
	"github.com/shardgate/shardgate/gateway/pool"
	"github.com/shardgate/shardgate/planner"
	"github.com/shardgate/shardgate/wire"
)

// Bounds of what is collected of a batch before it is carried out. Within them,
// nothing that the gateway writes ahead can fill a socket's buffers while a shard
// waits for its answers to be read.
const (
	maxBatchBytes = 32 << 10
	maxBatchSteps = 512
)

// step is one message of a batch.
type step struct {
	typ    byte
	body   []byte
	kind   wire.Kind
	prep   *prepared
	portal *portal
	limit  int32
	err    *wire.Error
	local  []byte // the answer, if the gateway gives it
	undo   func() // takes back what resolving the step has done to the session's tables
	op     int    // index of the step's operation in the runner
}

// extended carries out messages of the extended protocol up to Sync. Several
// segments may be needed: one ends at Sync, at Flush, at a statement that the
// session itself carries out, or when it has grown large.
func (s *Session) extended() error {
	if s.skip {
		return s.endSkip()
	}
	for {
		whole, sync, err := s.gather()
		if err != nil {
			return err
		}
		err = s.segment(whole)
		s.client.Release()
		if err != nil {
			return err
		}
		if s.run.Copied {
			// The Sync came before the COPY data, and PostgreSQL ignores it
			// there: the batch goes on to the next.
			sync, s.inBatch = false, true
		}
		if s.skip {
			if !sync {
				return s.client.Flush() // PostgreSQL sends an error at once
			}
			s.skip = false
			return s.sync()
		}
		if sync {
			return nil
		}
		h, err := s.client.Peek()
		if err != nil {
			return err
		}
		if transitions[stateReady].action(h.Type) != actExtended {
			return nil // a simple Query, or goodbye, amid a batch
		}
	}
}

// endSkip reads the Sync that ends a batch which has failed. There is nothing to
// carry out, and one ReadyForQuery to send.
func (s *Session) endSkip() error {
	if _, err := s.client.Read(); err != nil {
		return err
	}
	s.skip, s.inBatch = false, false
	return s.sync()
}

// state is the state between two messages.
func (s *Session) state() sessionState {
	if s.skip {
		return stateSkip
	}
	return stateReady
}

// gather reads the messages of one segment and resolves them. whole says that the
// segment is a whole batch: it begins after a Sync and ends with one.
func (s *Session) gather() (whole, sync bool, err error) {
	s.client.Hold()
	first := s.tx == nil && !s.inBatch
	s.steps = s.steps[:0]
	size := 0
	for {
		h, err := s.client.Peek()
		if err != nil {
			return false, false, err
		}
		if transitions[stateReady].action(h.Type) != actExtended {
			s.inBatch = true
			return false, false, nil
		}
		if size > 0 && size+h.Size > maxBatchBytes || len(s.steps) >= maxBatchSteps {
			s.inBatch = true
			return false, false, nil
		}
		m, err := s.client.Read()
		if err != nil {
			return false, false, err
		}
		size += len(m)
		if m[0] == 'S' {
			st := step{typ: 'S', body: m[5:]}
			st.err = resolveEmpty(&st)
			s.steps = append(s.steps, st)
			s.inBatch = false
			return first, true, nil
		}
		st := step{typ: m[0], body: m[5:]}
		if !s.resolveStep(&st) {
			s.steps = append(s.steps, st)
			s.inBatch = true
			// What follows an error is not looked at.
			return first, false, nil
		}
		s.steps = append(s.steps, st)
		if m[0] == 'H' || m[0] == 'E' && (isControl(st.portal) || st.prep.st.SchemaChange) {
			// What follows may have to be planned by what this one changes.
			s.inBatch = true
			return false, false, nil
		}
	}
}

func isControl(p *portal) bool {
	if p == nil {
		return false
	}
	_, ok := p.prep.st.Node.(*planner.Control)
	return ok
}

// resolveStep finds out what a message concerns. It returns false if it fails.
func (s *Session) resolveStep(st *step) bool {
	switch st.typ {
	case 'P':
		st.err = s.resolveParse(st)
	case 'B':
		st.err = s.resolveBind(st)
	case 'D':
		st.err = s.resolveDescribe(st)
	case 'E':
		st.err = s.resolveExecute(st)
	case 'C':
		st.err = s.resolveClose(st)
	case 'H':
		st.err = resolveEmpty(st)
	}
	return st.err == nil
}

// resolveEmpty checks a message that says all by its type.
func resolveEmpty(st *step) *wire.Error {
	if len(st.body) > 0 {
		return wire.Errorf(wire.ProtocolViolation, "invalid message format")
	}
	return nil
}

func (s *Session) resolveParse(st *step) *wire.Error {
	if err := wire.DecodeParse(st.body, &s.parse); err != nil {
		return asError(err)
	}
	name := string(s.parse.Name)
	old := s.stmts[name]
	if name == "" {
		delete(s.stmts, "") // even when the new one is refused
		st.undo = func() { s.restore("", old) }
	} else if old != nil {
		return wire.Errorf(wire.DuplicatePreparedStatement, "prepared statement \"%s\" already exists", name)
	}
	if name != "" && len(s.stmts) >= s.host.MaxPrepared {
		return wire.Errorf(wire.ConfigurationLimitExceeded, "too many prepared statements").
			WithHint("Close those that are not needed, or make limits.prepared_statements larger.")
	}
	prep, err := s.prepare(&s.parse)
	if err != nil {
		return err
	}
	if err := s.refusedStep(prep); err != nil {
		return err
	}
	s.stmts[name] = prep
	st.prep = prep
	st.undo = func() { s.restore(name, old) }
	if _, ok := prep.st.Node.(*planner.Control); ok {
		st.local = wire.AppendParseComplete(nil)
	}
	return nil
}

// restore puts a prepared statement back, or takes it away where it is nil.
func (s *Session) restore(name string, p *prepared) {
	if p == nil {
		delete(s.stmts, name)
	} else {
		s.stmts[name] = p
	}
}

// refusedStep refuses statements in a failed transaction.
func (s *Session) refusedStep(p *prepared) *wire.Error {
	if s.tx == nil || !s.tx.failed {
		return nil
	}
	if c, ok := p.st.Node.(*planner.Control); ok {
		switch c.Kind {
		case planner.Commit, planner.Rollback, planner.RollbackTo, planner.Empty:
			return nil
		}
	}
	return inFailed
}

func (s *Session) resolveBind(st *step) *wire.Error {
	if err := wire.DecodeBind(st.body, &s.bind); err != nil {
		return asError(err)
	}
	prep := s.stmts[string(s.bind.Statement)]
	if prep == nil {
		if len(s.bind.Statement) == 0 {
			return wire.Errorf(wire.UndefinedPreparedStatement, "unnamed prepared statement does not exist")
		}
		return wire.Errorf(wire.UndefinedPreparedStatement, "prepared statement \"%s\" does not exist", s.bind.Statement)
	}
	name := string(s.bind.Portal)
	if name != "" && s.portals[name] != nil {
		return wire.Errorf(wire.DuplicateCursor, "cursor \"%s\" already exists", name)
	}
	if err := s.plan(prep); err != nil {
		return err
	}
	if err := s.refusedStep(prep); err != nil {
		return err
	}
	p := &portal{prep: prep, binary: slices.Contains(s.bind.ResultFormats, wire.FormatBinary)}
	if s.tx != nil {
		p.level = len(s.tx.prelude)
	}
	if c, ok := prep.st.Node.(*planner.Control); ok {
		_ = c
		if len(s.bind.Params) > 0 {
			return wire.Errorf(wire.ProtocolViolation, "bind message supplies %d parameters, but prepared statement \"%s\" requires 0", len(s.bind.Params), s.bind.Statement)
		}
		st.local = wire.AppendBindComplete(nil)
	} else {
		if n := len(s.bind.Params); n < prep.st.Params {
			return wire.Errorf(wire.ProtocolViolation, "bind message supplies %d parameters, but prepared statement \"%s\" requires %d", n, s.bind.Statement, prep.st.Params)
		}
		node, shards, err := s.resolve(prep.st, prep.text, prep.lits, &s.bind)
		if err != nil {
			return asError(err)
		}
		p.node = node
		p.shards = append([]int(nil), shards...)
		if len(shards) > 1 {
			p.formats = append([]int16(nil), s.bind.ResultFormats...)
			p.targets = append([]uint8(nil), s.rowTargets...)
		}
	}
	old := s.portals[name]
	s.portals[name] = p
	st.prep, st.portal = prep, p
	st.undo = func() {
		if old == nil {
			delete(s.portals, name)
		} else {
			s.portals[name] = old
		}
	}
	return nil
}

func (s *Session) resolveDescribe(st *step) *wire.Error {
	kind, name, err := wire.DecodeDescribe(st.body)
	if err != nil {
		return asError(err)
	}
	st.kind = kind
	if kind == wire.Statement {
		if st.prep = s.stmts[string(name)]; st.prep == nil {
			if len(name) == 0 {
				return wire.Errorf(wire.UndefinedPreparedStatement, "unnamed prepared statement does not exist")
			}
			return wire.Errorf(wire.UndefinedPreparedStatement, "prepared statement \"%s\" does not exist", name)
		}
		if err := s.plan(st.prep); err != nil {
			return err
		}
		if _, ok := st.prep.st.Node.(*planner.Control); ok {
			st.local = wire.AppendNoData([]byte{'t', 0, 0, 0, 6, 0, 0})
		}
		return nil
	}
	if st.portal = s.portalOf(string(name)); st.portal == nil {
		return wire.Errorf(wire.UndefinedCursor, "portal \"%s\" does not exist", name)
	}
	st.prep = st.portal.prep
	if isControl(st.portal) {
		st.local = wire.AppendNoData(nil)
	}
	return nil
}

// portalOf finds a portal. A cursor that DECLARE has made is one too, and clients
// ask for its description.
func (s *Session) portalOf(name string) *portal {
	if p := s.portals[name]; p != nil {
		return p
	}
	cursor, ok := s.cursors[name]
	if !ok {
		return nil
	}
	node := &planner.Cursor{Name: name}
	return &portal{prep: &prepared{st: &planner.Statement{Node: node}}, node: node, shards: []int{cursor.shard}}
}

func (s *Session) resolveExecute(st *step) *wire.Error {
	name, limit, err := wire.DecodeExecute(st.body)
	if err != nil {
		return asError(err)
	}
	if st.portal = s.portalOf(string(name)); st.portal == nil {
		return wire.Errorf(wire.UndefinedCursor, "portal \"%s\" does not exist", name)
	}
	st.limit = limit
	st.prep = st.portal.prep
	return s.refusedStep(st.prep)
}

func (s *Session) resolveClose(st *step) *wire.Error {
	kind, name, err := wire.DecodeClose(st.body)
	if err != nil {
		return asError(err)
	}
	st.kind = kind
	key := string(name)
	if kind == wire.Statement {
		old := s.stmts[key]
		delete(s.stmts, key)
		st.local = wire.AppendCloseComplete(nil)
		st.undo = func() { s.restore(key, old) }
		return nil
	}
	old := s.portalOf(key)
	delete(s.portals, key)
	st.undo = func() {
		if old != nil {
			s.portals[key] = old
		}
	}
	st.portal = old
	if old == nil || isControl(old) {
		st.local = wire.AppendCloseComplete(nil)
	}
	return nil
}

// segment carries out the gathered steps.
func (s *Session) segment(whole bool) error {
	s.parsed = s.parsed[:0]
	s.run.Failed, s.run.Copied = nil, false
	single := -1
	if s.tx == nil {
		ok := false
		if single, ok = s.withoutBlock(whole); !ok {
			s.begin(false)
		}
	}
	syncs := false
	var control *step
	for i := range s.steps {
		st := &s.steps[i]
		st.op = s.run.Len()
		switch {
		case st.err != nil:
			s.run.Add(exec.Op{Kind: exec.Local, Err: st.err})
		case st.typ == 'S':
			syncs = true
		case st.typ == 'H':
		case st.local != nil:
			s.run.Add(exec.Op{Kind: exec.Local, Answer: st.local})
		case st.typ == 'E' && isControl(st.portal):
			control = st
		default:
			if err := s.emit(i); err != nil {
				if errors.Is(err, errStatementFailed) {
					return s.segmentFailed(i, false)
				}
				return err
			}
			if s.run.Failed != nil {
				return s.segmentFailed(i, true)
			}
		}
	}
	return s.runSegment(syncs, single, control)
}

// runSegment runs what was emitted and ends the segment.
func (s *Session) runSegment(syncs bool, single int, control *step) error {
	s.emitSyncs(syncs && s.tx == nil && single >= 0)
	final := syncs && s.tx == nil && single >= 0 && len(s.batchConns) == 1
	err := s.run.Run(final)
	if err != nil {
		return err
	}
	if s.run.Failed != nil {
		return s.segmentFailed(s.failedStep(), true)
	}
	s.settleSegment()
	switch {
	case control != nil:
		return s.executeControl(control)
	case s.run.Copied:
		return nil
	case syncs && final:
		s.endBatch()
		return nil
	case syncs:
		return s.sync()
	case len(s.steps) > 0 && s.steps[len(s.steps)-1].typ == 'H':
		return s.client.Flush()
	default:
		return nil
	}
}

// withoutBlock says whether a batch can do without a transaction block on the
// shards: it is whole, and touches one shard only or reads only. single is the
// shard, or -1 when there are several or none.
func (s *Session) withoutBlock(whole bool) (single int, ok bool) {
	single = -1
	shards := 0
	writes := false
	for i := range s.steps {
		st := &s.steps[i]
		if st.err != nil {
			break
		}
		if st.typ == 'E' && isControl(st.portal) {
			if whole = false; len(s.steps) > 1 {
				continue
			}
		}
		if st.typ == 'E' && st.limit > 0 && len(st.portal.shards) > 1 && st.portal.returnsRows() {
			return -1, false // its portals have to outlive the counting of rows
		}
		if st.typ == 'B' && st.portal != nil && !isControl(st.portal) {
			plan := st.prep.st
			if plan.TakesData {
				whole = false // its Sync may come before the data, and another after
			}
			if plan.HoldsSession || plan.TempTable != "" || plan.SchemaChange || plan.Cursor != "" {
				if !plan.NoTransaction {
					return -1, false
				}
			}
			if len(st.portal.shards) > 1 {
				shards = 2
			} else if single < 0 || single != st.portal.shards[0] {
				single = st.portal.shards[0]
				shards++
			}
			writes = writes || plan.Writes && !plan.NoTransaction
		}
	}
	if !whole {
		return -1, s.nothingBound()
	}
	if shards > 1 {
		return -1, !writes
	}
	return single, true
}

// nothingBound says that a segment has no portal on a shard, so that it can't
// begin anything that later segments would have to be atomic with.
func (s *Session) nothingBound() bool {
	for i := range s.steps {
		if st := &s.steps[i]; st.typ == 'B' && st.err == nil && !isControl(st.portal) {
			return false
		}
	}
	return true
}

// connFor gets the connection for a step: a participant's in a block, else one of
// the batch's own.
func (s *Session) connFor(shard int, writes bool) (*pool.Conn, error) {
	if s.tx != nil {
		c, err := s.join(shard, writes)
		if err == nil {
			s.useInBatch(c)
		}
		return c, err
	}
	for _, c := range s.batchConns {
		if c.Shard.Index == shard {
			return c, nil
		}
	}
	c, err := s.acquire(shard)
	if err != nil {
		return nil, err
	}
	s.useInBatch(c)
	return c, nil
}

func (s *Session) useInBatch(c *pool.Conn) {
	for _, d := range s.batchConns {
		if d == c {
			return
		}
	}
	s.batchConns = append(s.batchConns, c)
}

// emitSyncs ends the segment on every connection that it used.
func (s *Session) emitSyncs(final bool) {
	for _, c := range s.batchConns {
		c.SetOut(wire.AppendSync(c.Out()))
		c.Ready++
		s.run.Add(exec.Op{Kind: exec.Sync, Conn: c, Final: final && len(s.batchConns) == 1})
	}
}

// settleSegment gives back the connections of a segment outside a block.
func (s *Session) settleSegment() {
	for _, st := range s.steps {
		if st.typ == 'E' && st.err == nil && st.prep != nil && st.prep.st.Taints {
			for _, c := range s.batchConns {
				c.Tainted = true
			}
		}
		if st.typ == 'E' && st.err == nil && s.tx != nil && !isControl(st.portal) {
			s.afterStatement(st.prep.st, st.portal.shards)
			s.schemaChanged(st.prep.st)
		}
	}
	if s.tx == nil {
		for _, c := range s.batchConns {
			s.release(c)
		}
		clear(s.portals)
	}
	clear(s.batchConns)
	s.batchConns = s.batchConns[:0]
}

// endBatch is the end of a batch that was carried out without a block.
func (s *Session) endBatch() { clear(s.portals) }

// failedStep is the step whose operation failed.
func (s *Session) failedStep() int {
	at := 0
	for i := range s.steps {
		if s.steps[i].op <= s.run.FailedOp {
			at = i
		}
	}
	return at
}

// segmentFailed deals with a failure at a step: what the later ones have done to
// the session's tables is undone, and everything up to Sync is skipped. told says
// that the client knows.
func (s *Session) segmentFailed(at int, told bool) error {
	if !told {
		// Answers to what was emitted before come first.
		s.emitSyncs(false)
		if err := s.run.Run(false); err != nil {
			return err
		}
		if s.run.Failed == nil && s.pendingErr != nil {
			s.client.SetOut(s.pendingErr.Append(s.client.Out()))
		} else if s.run.Failed != nil {
			at = s.failedStep()
		}
		s.pendingErr = nil
	}
	s.forgetParsed()
	for i := len(s.steps) - 1; i >= at; i-- {
		if u := s.steps[i].undo; u != nil {
			u()
		}
	}
	if at < len(s.steps) && isUnnamedParse(&s.steps[at]) {
		delete(s.stmts, "") // one that fails destroys the old statement too
	}
	if s.tx != nil {
		s.tx.failed = true
	} else {
		for _, c := range s.batchConns {
			s.release(c)
		}
		clear(s.portals)
	}
	clear(s.batchConns)
	s.batchConns = s.batchConns[:0]
	s.skip = true
	return nil
}

func isUnnamedParse(st *step) bool {
	return st.typ == 'P' && len(st.body) > 0 && st.body[0] == 0
}

// sync ends a batch: the implicit block is committed or rolled back.
func (s *Session) sync() error {
	if s.tx != nil && !s.tx.explicit {
		if err := s.endImplicit(); err != nil {
			return err
		}
	}
	if s.tx == nil {
		clear(s.portals)
	}
	return s.ready()
}

// executeControl carries out a statement about the session or the transaction.
func (s *Session) executeControl(st *step) error {
	c := st.prep.st.Node.(*planner.Control)
	if err := s.control(c, string(st.prep.text)); err != nil {
		if !errors.Is(err, errStatementFailed) {
			return err
		}
		if s.tx != nil {
			s.tx.failed = true
		}
		s.skip = true
	}
	return nil
}

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
				s.run.Add(exec.Op{Kind: exec.Describe, Conn: c, Params: &st.prep.described})
			})
		}
		return s.emitOn(st.portal.shards[0], st, func(c *pool.Conn) {
			c.SetOut(appendMessage(c.Out(), 'D', st.body))
			s.run.Add(exec.Op{Kind: exec.Describe, Conn: c, Columns: st.portal.columns})
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
	c, err := s.connFor(shard, false)
	if err != nil {
		s.pendingErr = asError(err)
		return errStatementFailed
	}
	f(c)
	return nil
}

// parseShard chooses the shard that parses or describes a statement: the one where
// the batch will run it, if that is one; else one that takes part; else the home
// shard.
func (s *Session) parseShard(i int) int {
	prep := s.steps[i].prep
	for k := i + 1; k < len(s.steps); k++ {
		if t := &s.steps[k]; t.typ == 'B' && t.err == nil && t.prep == prep && !isControl(t.portal) {
			return t.portal.shards[0]
		}
	}
	if s.tx != nil && s.tx.parts[s.host.Home] == nil {
		return s.any()
	}
	return s.host.Home
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
	plan := p.prep.st
	if s.tx != nil {
		if err := s.refuseReference(p.node); err != nil {
			s.pendingErr = err
			return errStatementFailed
		}
	}
	var conns []*pool.Conn
	for _, shard := range p.shards {
		c, err := s.connFor(shard, plan.Writes)
		if err != nil {
			s.pendingErr = asError(err)
			return errStatementFailed
		}
		conns = append(conns, c)
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
		s.ensure(c, p.prep, false)
	}
	for _, c := range conns {
		start := len(c.Out())
		c.SetOut(appendBind(c.Out(), st.body, p.prep.shardName()))
		s.ownParams(c, c.Out()[start:], p.prep, nil)
	}
	s.addOp(exec.Op{Kind: exec.Bind}, conns)
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
	c, err := s.connFor(p.shards[0], false)
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
		c.SetOut(wire.AppendParse(c.Out(), "", sql, s.shardOIDs(c, oids)))
		c.Unnamed = 0
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
	var conns []*pool.Conn
	for _, shard := range p.shards {
		c, err := s.connFor(shard, p.prep.st.Writes)
		if err != nil {
			s.pendingErr = asError(err)
			return errStatementFailed
		}
		conns = append(conns, c)
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
	if b, ok := p.node.(*planner.Broadcast); ok && b.HomeFirst {
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
	for _, c := range others {
		c.SetOut(wire.AppendExecute(c.Out(), name, 0))
	}
	s.run.Add(exec.Op{Kind: exec.Execute, Conns: others, Hidden: true, Merge: planner.First})
	if tag.Verb != "" {
		s.run.Add(exec.Op{Kind: exec.Local, Answer: tag.Append(nil)})
	}
	return nil
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
		c.SetOut(wire.AppendSync(c.Out()))
		c.Ready++
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
		c, err := s.connFor(shard, false)
		if err != nil {
			s.pendingErr = asError(err)
			return errStatementFailed
		}
		c.SetOut(appendMessage(c.Out(), 'C', st.body))
		conns = append(conns, c)
	}
	s.addOp(exec.Op{Kind: exec.Close}, conns)
	return nil
}
