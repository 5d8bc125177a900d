package session

import (
	"context"
	"errors"
	"slices"
	"strings"
	"time"

	"github.com/shardgate/shardgate/gateway/exec"
	"github.com/shardgate/shardgate/gateway/pool"
	"github.com/shardgate/shardgate/gateway/txn"
	"github.com/shardgate/shardgate/planner"
	"github.com/shardgate/shardgate/wire"
)

// Reads over several shards see one snapshot of all of them: the shards' own snapshots
// are taken at an instant at which no transaction over several shards is half committed
// (txn.Fence). There are two ways.
//
// A transaction at REPEATABLE READ takes its snapshot once: it is opened on all shards
// at the instant of its first statement. A statement on its own that only reads, in more
// than one query for each shard, is such a transaction, on its shards.
//
// In a transaction at READ COMMITTED, each statement takes its own: PostgreSQL takes
// that of a query when its portal is bound, so that the portals are bound at the instant,
// and executed after it. A statement on its own that is one query for each shard needs no
// transaction for that. What it is bound to can be locked, and the instant must not wait
// for that: it ends then, and the statement is begun again as the first way.

// isolation is the level of the transaction, or of the next one, in lower case. What a block sets
// for later ones is nothing to itself.
func (s *Session) isolation() string {
	vars := s.vars
	if s.tx != nil {
		if s.tx.level != "" {
			return s.tx.level
		}
		vars = s.tx.before.vars
	}
	if level, ok := vars.Get("default_transaction_isolation"); ok {
		return strings.ToLower(level)
	}
	return s.base.Isolation
}

// beginOn is the BEGIN of the transaction on a connection. Its level is the session's everywhere:
// a server may have another default, or a connection the one that a role had before.
func (s *Session) beginOn(c *pool.Conn) string {
	if s.tx.level == "" && c.Isolation != s.base.Isolation {
		if _, set := s.tx.before.vars.Get("default_transaction_isolation"); !set {
			return s.tx.begin + " ISOLATION LEVEL " + s.base.Isolation
		}
	}
	return s.tx.begin
}

// enterFence waits for an instant on several shards, see txn.Fence.Enter. The error is for
// the client.
func (s *Session) enterFence(shards []int) (*txn.Hold, error) {
	ctx, stop := context.WithTimeout(context.Background(), s.fenceWait())
	defer stop()
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	if bound := s.statementTimeout(); bound > 0 {
		defer time.AfterFunc(bound, func() { cancel(errStatementTimeout) }).Stop()
	}
	s.mu.Lock()
	s.interrupt = cancel
	switch {
	case s.ended:
		cancel(errTerminate)
	case s.canceled.Load():
		cancel(errCanceled)
	}
	s.mu.Unlock()
	hold, err := s.host.Register.Fence.Enter(ctx, shards)
	s.mu.Lock()
	s.interrupt = nil
	s.mu.Unlock()
	cause := context.Cause(ctx)
	if err != nil && errors.Is(cause, errStatementTimeout) {
		return nil, wire.Errorf(wire.QueryCanceled, "canceling statement due to statement timeout")
	}
	if errors.Is(cause, errCanceled) || errors.Is(cause, errTerminate) {
		if err == nil {
			hold.Leave()
		}
		return nil, wire.Errorf(wire.QueryCanceled, "canceling statement due to user request")
	}
	return hold, err
}

// Why the waiting for an instant has ended: the client has asked for it, or statement_timeout
// is over.
var (
	errCanceled         = errors.New("canceled by the client")
	errStatementTimeout = errors.New("statement timeout")
)

// statementTimeout is the statement_timeout that the session has set, 0 if there is none. The
// servers keep to it themselves; it bounds what the gateway waits for besides.
func (s *Session) statementTimeout() time.Duration {
	v, ok := s.local.Get("statement_timeout")
	if !ok {
		v, ok = s.vars.Get("statement_timeout")
	}
	if !ok {
		return 0
	}
	n, e := timeUnits.read("statement_timeout", v)
	if e != nil {
		return 0
	}
	return time.Duration(n) * time.Millisecond
}

// readAlone begins the transaction of a statement, or a batch, that only reads, on
// several shards.
func (s *Session) readAlone(shards []int) {
	s.begin(false)
	if level := s.isolation(); level == "read committed" || level == "read uncommitted" {
		s.tx.begin, s.tx.level = "BEGIN ISOLATION LEVEL REPEATABLE READ", "repeatable read"
	}
	s.tx.scope, s.tx.alone = slices.Clone(shards), true
}

// commitWithLast has COMMIT travel with the last that a statement, or a batch, asks for
// that only reads: with nothing written, there is nothing to wait for in between. One
// that fails is rolled back by it.
func (s *Session) commitWithLast() {
	if s.tx == nil || !s.tx.alone {
		return
	}
	for _, p := range s.tx.parts {
		if p == nil || p.ended || p.conn.Broken {
			continue
		}
		p.ended = true
		p.conn.SendQuery("COMMIT")
		s.run.Add(exec.Op{Kind: exec.Query, Conn: p.conn, Hidden: true})
	}
}

// readScope are the shards on which a plan reads at one instant; none if it is one shard
// alone.
func (s *Session) readScope(node planner.Node, shards []int) []int {
	switch node.(type) {
	case *planner.Scatter, *planner.CopyOut:
		if len(shards) > 1 {
			return shards
		}
	case *planner.Gather, *planner.Ordered:
		return s.snap.Active
	}
	return nil
}

// atomic says whether reads over several shards are to see one snapshot.
func (s *Session) atomic() bool {
	return len(s.snap.Active) > 1 && s.ownSetting(snapshotMode) != "shard"
}

// snapshots says whether the transaction has one snapshot from its first statement on.
func (s *Session) snapshots() bool {
	return s.atomic() && s.isolation() == "repeatable read"
}

// refuseSerializable refuses a second shard to a SERIALIZABLE transaction: each server
// watches over what is read and written there, and nobody over the whole.
func (s *Session) refuseSerializable(shard int) error {
	if s.isolation() != "serializable" {
		return nil
	}
	if slices.ContainsFunc(s.tx.parts, func(p *participant) bool { return p != nil && !p.idle && p.conn.Shard.Index != shard }) {
		return wire.Errorf(wire.FeatureNotSupported, "a SERIALIZABLE transaction can't take in several shards").
			WithDetail("Each server makes sure that the transactions on it are serializable; that they are over all shards, none can.").
			WithHint("Use REPEATABLE READ, which sees one snapshot of all shards, and lock what must not change (SELECT ... FOR UPDATE).")
	}
	return nil
}

// openSnapshot begins the transaction on the shards that it may come to read, all at
// one instant. A shard that can't be reached is left out: it can't take part later.
func (s *Session) openSnapshot() error {
	tx := s.tx
	tx.open = true
	shards := tx.scope
	if shards == nil {
		shards = s.snap.Active
	}
	var conns []*pool.Conn
	var at []int
	for _, shard := range shards {
		c, err := s.take(shard)
		if err != nil {
			if tx.absent == nil {
				tx.absent = map[int]error{}
			}
			tx.absent[shard] = err
			continue
		}
		tx.parts[shard] = &participant{conn: c, unpreparable: s.usesTemp(shard), idle: true}
		if change := tx.before.vars.Change(c.Vars); change != "" && c.Vars != tx.before.vars {
			if _, err := c.Query(change); err != nil {
				return err
			}
		}
		c.Vars = tx.before.vars
		conns, at = append(conns, c), append(at, shard)
	}
	if len(conns) == 0 {
		return tx.absent[shards[0]]
	}
	hold, err := s.enterFence(at)
	if err != nil {
		return err
	}
	defer hold.Leave()
	sql := ""
	for _, e := range tx.prelude {
		sql += ";" + e.sql
	}
	sql += ";" + hold.Probed() // which takes the snapshot
	for _, c := range conns {
		c.SetDeadline(time.Now().Add(snapshotTimeout))
		c.SendQuery(s.beginOn(c) + sql)
		if err := c.Flush(); err != nil {
			c.Fail(err)
		}
	}
	for _, c := range conns {
		if e := readProbe(c); err == nil {
			err = e
		}
	}
	return err
}

// readProbe reads the answer to a query that ends with a hold's probe.
func readProbe(c *pool.Conn) error {
	if c.Broken {
		return &pool.Lost{Shard: c.Shard.Name, Err: errors.New("write failed")}
	}
	res, err := c.ReadResult()
	c.SetDeadline(time.Time{})
	if err != nil {
		return err
	}
	if n := len(res.Rows); n == 0 || !held(res.Rows[n-1]) {
		return txn.FenceLost()
	}
	return nil
}

// held says whether a probe's answer, in text, is that the hold has lasted.
func held(row [][]byte) bool { return len(row) == 1 && string(row[0]) == "f" }

// snapshotTimeout bounds the taking of a snapshot on a shard. Others wait for it.
const snapshotTimeout = 10 * time.Second

// bindFor is how long an instant lasts at which portals are bound without their tables
// being locked first: writers of several shards wait for it.
const bindFor = 20 * time.Millisecond

// binding is the instant at which the portals of a statement on its own are bound.
type binding struct {
	hold  *txn.Hold
	count int  // of the operations up to the portals' probes
	torn  bool // a shard has bound its portal after the instant
}

// bindsAlone says whether a statement on its own over several shards is read by portals that
// are bound at one instant, without a transaction.
func (s *Session) bindsAlone(st *planner.Statement, node planner.Node) bool {
	if _, ok := node.(*planner.Scatter); !ok || st.Clock {
		return false
	}
	level := s.isolation()
	return level == "read committed" || level == "read uncommitted"
}

// endBinding emits what ends the binding of portals: a hold's probes, and their being
// answered at once. Where keys are given, the whole answer will be there soon, as a rule,
// and each shard is heard once.
func (s *Session) endBinding(plan *planner.Scatter, hold *txn.Hold, conns []*pool.Conn) *binding {
	b := &binding{hold: hold}
	s.emitProbe(hold, conns, func() { b.torn = true })
	if len(plan.Pins) == 0 {
		for _, c := range conns {
			c.SetOut(wire.AppendFlush(c.Out()))
		}
	}
	b.count = s.run.Len()
	return b
}

// runBinding runs what was emitted, the first of it at the binding's instant. torn says that
// a portal was bound too late, so that the statement has to be begun again: nothing but their
// being bound was told to the client.
func (s *Session) runBinding(b *binding) (torn bool, err error) {
	late := time.AfterFunc(bindFor, b.hold.Leave)
	s.run.RunTo(b.count)
	if late.Stop() {
		b.hold.Leave()
	}
	if b.torn && s.run.Failed == nil {
		s.run.Discard()
		return true, nil
	}
	return false, s.run.Run(false)
}

// scatterAlone runs a query of the simple protocol on several shards, outside of a block.
func (s *Session) scatterAlone(st *planner.Statement, n *planner.Scatter, shards []int, text []byte) (torn bool, err error) {
	s.waits.transaction()
	conns, err := s.acquireAll(shards)
	defer s.releaseAll(st, conns)
	var hold *txn.Hold
	if err == nil {
		hold, err = s.enterFence(shards)
	}
	if err != nil {
		s.run.Run(false)
		s.tell(asError(err))
		return false, nil
	}
	for _, c := range conns {
		c.SendParse(text, nil)
		c.SetOut(wire.AppendBind(c.Out(), gatherPortal, "", nil, nil, nil))
	}
	s.run.Add(exec.Op{Kind: exec.Parse, Conns: conns, Hidden: true})
	s.run.Add(exec.Op{Kind: exec.Bind, Conns: conns, Hidden: true})
	b := s.endBinding(n, hold, conns)
	for _, c := range conns {
		c.SetOut(wire.AppendDescribe(c.Out(), wire.Portal, gatherPortal))
		c.SetOut(wire.AppendExecute(c.Out(), gatherPortal, 0))
	}
	s.run.Add(exec.Op{Kind: exec.Describe, Conns: conns})
	s.run.Add(exec.Op{Kind: exec.Execute, Conns: conns, Merge: n.Merge})
	s.sendSyncs(conns)
	return s.runBinding(b)
}

// bindsAtOnce says whether portals on several shards have to be bound at one instant, for
// a statement that reads in the transaction block.
func (s *Session) bindsAtOnce() bool {
	return s.tx != nil && !s.tx.open && s.atomic() && s.isolation() != "serializable"
}

// bindAtOnce runs what was emitted, and then what bind emits, at one instant on the
// shards of conns. sync ends what was emitted on every connection. A failure is told to
// the client, and in s.run.Failed; the error is one of the client's connection.
func (s *Session) bindAtOnce(conns []*pool.Conn, sync, bind func()) error {
	sync()
	if err := s.run.Run(false); err != nil || s.run.Failed != nil {
		return err
	}
	var shards []int
	for _, c := range conns {
		if !slices.Contains(shards, c.Shard.Index) {
			shards = append(shards, c.Shard.Index)
		}
	}
	hold, err := s.enterFence(shards)
	if err != nil {
		s.failGather(asError(err))
		return nil
	}
	defer hold.Leave()
	bind()
	s.emitProbe(hold, conns, func() { s.run.Fail(txn.FenceLost()) })
	sync()
	return s.run.Run(false)
}

// The gateway's own statement and portal for a hold's probe.
const probeName = "shardgate probe"

// emitProbe asks the connections' shards whether the hold has lasted until here, and calls
// lost if it has not.
func (s *Session) emitProbe(hold *txn.Hold, conns []*pool.Conn, lost func()) {
	var asked []*pool.Conn
	for _, c := range conns {
		if slices.Contains(asked, c) {
			continue
		}
		asked = append(asked, c)
		if !c.Probes {
			c.SetOut(wire.AppendClose(c.Out(), wire.Statement, probeName)) // if it is there nevertheless
			c.SetOut(wire.AppendParse(c.Out(), probeName, txn.ProbeSQL, []uint32{bigint}))
			s.run.Add(exec.Op{Kind: exec.Close, Conn: c, Hidden: true})
			s.run.Add(exec.Op{Kind: exec.Parse, Conn: c, Hidden: true, Done: func() { c.Probes = true }})
		}
		c.SetOut(wire.AppendBind(c.Out(), probeName, probeName, nil, [][]byte{[]byte(hold.Probe())}, nil))
		c.SetOut(wire.AppendExecute(c.Out(), probeName, 0))
		c.SetOut(wire.AppendClose(c.Out(), wire.Portal, probeName))
	}
	s.run.Add(exec.Op{Kind: exec.Bind, Conns: asked, Hidden: true})
	answers := &pool.Result{}
	s.run.Add(exec.Op{Kind: exec.Execute, Conns: asked, Hidden: true, Rows: answers, Done: func() {
		if len(answers.Rows) != len(asked) || slices.ContainsFunc(answers.Rows, func(row [][]byte) bool { return !held(row) }) {
			lost()
		}
	}})
	s.run.Add(exec.Op{Kind: exec.Close, Conns: asked, Hidden: true})
}

// bigint is the OID of that type.
const bigint = 20

// scatterAtOnce runs a query of the simple protocol on several shards in the transaction
// block.
func (s *Session) scatterAtOnce(n *planner.Scatter, conns []*pool.Conn, text []byte, hold bool) error {
	sync := func() { s.sendSyncs(conns) }
	for _, c := range conns {
		c.SendParse(text, nil)
	}
	s.run.Add(exec.Op{Kind: exec.Parse, Conns: conns, Hidden: true})
	if err := s.bindAtOnce(conns, sync, func() {
		for _, c := range conns {
			c.SetOut(wire.AppendBind(c.Out(), gatherPortal, "", nil, nil, nil))
		}
		s.run.Add(exec.Op{Kind: exec.Bind, Conns: conns, Hidden: true})
	}); err != nil || s.run.Failed != nil {
		return err
	}
	for _, c := range conns {
		sendWhole(c, gatherPortal)
	}
	s.run.Add(exec.Op{Kind: exec.Describe, Conns: conns})
	s.run.Add(exec.Op{Kind: exec.Execute, Conns: conns, Merge: n.Merge, HoldTag: hold})
	s.run.Add(exec.Op{Kind: exec.Close, Conns: conns, Hidden: true})
	sync()
	return s.run.Run(false)
}
