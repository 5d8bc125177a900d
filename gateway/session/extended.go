package session

import (
	"errors"
	"slices"

	"github.com/shardgate/shardgate/gateway/exec"
	"github.com/shardgate/shardgate/gateway/pool"
	"github.com/shardgate/shardgate/planner"
)

// Bounds of what is collected of a batch before it is carried out. Within them,
// nothing that the gateway writes ahead can fill a socket's buffers while a shard
// waits for its answers to be read.
const (
	maxBatchBytes = 32 << 10
	maxBatchSteps = 512
)

// extended carries out messages of the extended protocol up to Sync. Several
// segments may be needed: one ends at Sync, at Flush, at a statement that the
// session itself carries out, or when it has grown large.
func (s *Session) extended() error {
	if s.skip {
		return s.endSkip()
	}
	for {
		whole, sync, err := s.collect()
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

// collect reads the messages of one segment and resolves them. whole says that the
// segment is a whole batch: it begins after a Sync and ends with one.
func (s *Session) collect() (whole, sync bool, err error) {
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
		if m[0] == 'H' || m[0] == 'E' && (isControl(st.portal) || st.prep.st.SchemaChange) || s.tx != nil && st.changesCursors() {
			// What follows may have to be planned by what this one changes.
			s.inBatch = true
			return false, false, nil
		}
	}
}

// segment carries out the gathered steps.
func (s *Session) segment(whole bool) error {
	s.bindsAgain = false
	err := s.attempt(whole)
	if errors.Is(err, errTorn) {
		s.bindsAgain = true
		err = s.attempt(whole)
	}
	return err
}

// errTorn says that the segment has to be begun again, see runBinding.
var errTorn = errors.New("the portals were not bound at one instant")

// attempt carries out the gathered steps, or ends with errTorn.
func (s *Session) attempt(whole bool) error {
	s.parsed = s.parsed[:0]
	s.bindsFirst = false
	s.run.Failed, s.run.Copied = nil, false
	single := -1
	if s.tx == nil {
		ok := false
		if single, ok = s.withoutBlock(whole); !ok && s.tx == nil {
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
	s.run.Commits = s.tx == nil && slices.ContainsFunc(s.steps, func(st step) bool {
		return st.typ == 'E' && st.err == nil && st.prep != nil && st.prep.st.Writes
	})
	if syncs && control == nil {
		s.commitWithLast()
	}
	if err := s.runOps(final); err != nil {
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
		return nil // the shard's ReadyForQuery was the client's
	case syncs:
		return s.sync()
	case len(s.steps) > 0 && s.steps[len(s.steps)-1].typ == 'H':
		return s.client.Flush()
	default:
		return nil
	}
}

// runOps runs what was emitted.
func (s *Session) runOps(final bool) error {
	b := s.binding
	if b == nil {
		return s.run.Run(final)
	}
	s.binding = nil
	torn, err := s.runBinding(b)
	if torn {
		s.forgetParsed()
		s.releaseBatch()
		return errTorn
	}
	return err
}

// withoutBlock says whether a batch can do without a transaction block: it is whole,
// and touches one shard only or reads only. single is the shard, or -1 when there are
// several or none. One that reads on several shards is given a block of its own.
func (s *Session) withoutBlock(whole bool) (single int, ok bool) {
	single = -1
	shards, clocks, bound := 0, 0, 0
	writes, binds := false, false
	var scope []int // of the reads over several shards
	for i := range s.steps {
		st := &s.steps[i]
		if st.err != nil {
			break
		}
		if st.typ == 'E' && isShow(st.portal) {
			return -1, false // the rest of its rows may be asked for
		}
		if st.typ == 'E' && isControl(st.portal) {
			if whole = false; len(s.steps) > 1 {
				continue
			}
		}
		if st.typ == 'E' && st.limit > 0 && (len(st.portal.shards) > 1 && st.portal.returnsRows() || st.portal.counts()) {
			return -1, false // its portals have to outlive the counting of rows
		}
		if st.typ == 'B' && st.portal != nil && !isControl(st.portal) {
			plan := st.prep.st
			bound++
			binds = s.bindsAlone(plan, st.portal.node)
			if plan.TakesData {
				whole = false // its Sync may come before the data, and another after
			}
			if plan.HoldsSession || plan.TempTable != "" || plan.SchemaChange || plan.Cursor != "" {
				if !plan.NoTransaction {
					return -1, false
				}
			}
			if len(st.portal.shards) > 1 || severalRuns(st.portal.node) {
				shards = 2
				for _, shard := range s.readScope(st.portal.node, st.portal.shards) {
					if !slices.Contains(scope, shard) {
						scope = append(scope, shard)
					}
				}
			} else if single < 0 || single != st.portal.shards[0] {
				single = st.portal.shards[0]
				shards++
			}
			if plan.Clock {
				clocks++
			}
			writes = writes || plan.Writes && !plan.NoTransaction
		}
	}
	if !whole {
		return -1, s.nothingBound()
	}
	if s.keepsPortals() {
		return -1, false
	}
	if shards > 1 {
		if writes || clocks > 1 {
			return -1, false
		}
		switch {
		case len(scope) < 2 || !s.atomic():
		case bound == 1 && binds && !s.bindsAgain:
			s.bindsFirst = true
			s.waits.transaction()
		default:
			s.readAlone(scope)
		}
		return -1, true
	}
	return single, true
}

// severalRuns says whether a plan is executed in more than one exchange with shards,
// and maybe on more of them than it is bound on. What comes before it in a batch is
// ended then, and may not be committed by that.
func severalRuns(node planner.Node) bool {
	switch node.(type) {
	case *planner.Gather, *planner.Ordered, *planner.Explain, *planner.InsertSelect, *planner.CreateAs, *planner.Move, *planner.Steps:
		return true
	}
	return false
}

// keepsPortals says whether a portal is used after another one's execution in several
// exchanges, which outside of a block would be its end.
func (s *Session) keepsPortals() bool {
	last := -1 // such an execution
	for i := range s.steps {
		st := &s.steps[i]
		if st.portal == nil || st.err != nil || isControl(st.portal) {
			continue
		}
		again := st.typ == 'E' && last >= 0 && s.steps[last].portal == st.portal
		if last >= 0 && !again && (st.typ == 'D' || st.typ == 'E') && s.boundBy(st.portal) < last {
			return true
		}
		if st.typ == 'E' && severalRuns(st.portal.node) {
			last = i
		}
	}
	return false
}

// boundBy is the step that binds a portal, or -1.
func (s *Session) boundBy(p *portal) int {
	return slices.IndexFunc(s.steps, func(st step) bool { return st.typ == 'B' && st.portal == p })
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
		return s.inBatchOf(s.join(shard, writes))
	}
	return s.connOutside(shard)
}

// connToDescribe is connFor for what is about no rows.
func (s *Session) connToDescribe(shard int) (*pool.Conn, error) {
	if s.tx != nil {
		return s.inBatchOf(s.enter(shard))
	}
	return s.connOutside(shard)
}

func (s *Session) inBatchOf(c *pool.Conn, err error) (*pool.Conn, error) {
	if err == nil {
		s.useInBatch(c)
	}
	return c, err
}

// connOutside gets the batch's own connection to a shard.
func (s *Session) connOutside(shard int) (*pool.Conn, error) {
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

// endsBatch says whether only Sync comes after a step.
func (s *Session) endsBatch(st *step) bool {
	n := len(s.steps)
	return n > 1 && st == &s.steps[n-2] && s.steps[n-1].typ == 'S'
}

// emitSyncs ends the segment on every connection that it used.
func (s *Session) emitSyncs(final bool) {
	for _, c := range s.batchConns {
		c.SendSync()
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
			s.afterCursor(st.prep.st, st.portal.node, st.portal.shards)
			s.afterStatement(st.prep.st, st.portal.shards)
			s.schemaChanged(st.prep.st)
		}
	}
	if s.tx == nil {
		s.forgetPortals()
	}
	s.releaseBatch()
}

// releaseBatch gives the segment's connections back, if they are not the block's.
func (s *Session) releaseBatch() {
	if s.tx == nil {
		for _, c := range s.batchConns {
			s.release(c)
		}
	}
	clear(s.batchConns)
	s.batchConns = s.batchConns[:0]
}

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
		if b := s.binding; b != nil {
			s.binding = nil
			b.hold.Leave()
		}
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
		s.takeBack(&s.steps[i])
	}
	if at < len(s.steps) && isUnnamedParse(&s.steps[at]) {
		delete(s.stmts, "") // one that fails destroys the old statement too
	}
	if s.tx != nil {
		s.tx.failed = true
	} else {
		s.forgetPortals()
	}
	s.releaseBatch()
	s.skip = true
	return nil
}

// sync ends a batch: the implicit block is committed or rolled back.
func (s *Session) sync() error {
	if s.tx != nil && !s.tx.explicit {
		if err := s.endImplicit(); err != nil {
			return err
		}
	}
	if s.tx == nil {
		s.forgetPortals()
	}
	return s.ready()
}

// executeControl carries out a statement about the session or the transaction.
func (s *Session) executeControl(st *step) error {
	c := st.prep.st.Node.(*planner.Control)
	if c.Kind == planner.Show {
		s.executeShow(st.portal, st.limit, c.Tag)
		return nil
	}
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
