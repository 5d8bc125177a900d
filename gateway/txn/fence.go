package txn

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/shardgate/shardgate/gateway/pool"
	"github.com/shardgate/shardgate/wire"
)

// Fence keeps half a commit out of sight. It is the lock on the table
// shardgate.decisions of each shard. A transaction that touched several shards takes
// it in ROW EXCLUSIVE on each shard that it wrote, before it commits on any, and has it
// there until it is committed there. A reader that spans shards takes its snapshots
// while the gateway holds the lock in SHARE on all of them: between the first and the
// last of these no such transaction commits on any of them, so that the snapshots show
// all of it or nothing. SHARE does not conflict with itself: readers never wait for
// readers.
//
// Writers and readers that need the lock on several shards take it in one order (see
// Register.rank), so that they can't wait for each other in a circle. A reader first
// tries all shards at once without waiting.
//
// The lock is held by connections of the gateway's own, since a transaction can't give
// a lock back while its snapshot stays, unless it was its very first statement. Readers
// that come while it is held for others join them.
type Fence struct {
	register *Register
	mu       sync.Mutex
	current  *hold // the latest that others may join
	idle     map[int][]*pool.Conn
	closed   bool
	slots    chan struct{} // one for each hold that has connections
}

const (
	// joinFor is how long after it was taken readers may join a hold: writers wait for
	// the end of it.
	joinFor = 2 * time.Millisecond
	// fenceSlice is how long one attempt to take the lock waits on one shard. Then
	// what was taken is given back for fencePause, so that writers get on although a
	// transaction stays undecided on some shard.
	fenceSlice = 250 * time.Millisecond
	fencePause = 20 * time.Millisecond
	// holdLimit is how long a server leaves the lock to a gateway that says nothing:
	// one that is stopped must not stop the writers. A hold that was lost so is
	// noticed at its end, and taken again.
	holdLimit = 5 * time.Second
	// maxHolds is how many holds there are at a time, each with a connection to each of
	// its shards. Readers that come while all are in use wait together for the next.
	maxHolds = 4
)

// hold is the lock on some shards, held for one or more readers.
type hold struct {
	shards []int         // by rank
	stop   func()        // ends the taking
	ready  chan struct{} // closed when the lock is held, or err says why it isn't
	done   chan struct{} // closed when it was given back, or err says that it had been lost
	err    *wire.Error
	conns  []*pool.Conn // as shards
	until  time.Time    // readers may join
	users  int          // under Fence.mu; at 0 it is over
	slot   bool         // it has one
}

func newFence(r *Register) *Fence {
	return &Fence{register: r, idle: map[int][]*pool.Conn{}, slots: make(chan struct{}, maxHolds)}
}

// rank orders the shards for those who take the fence on several: by their index, but
// the home shard last. The last writer is the decider, which takes the fence with its
// decision, and the home shard is the decider where it can be.
func (r *Register) rank(shard int) int {
	if shard == r.home {
		return len(r.pools.Shards)
	}
	return shard
}

// Instant runs snap while no transaction over several shards is half committed on the
// given ones, and waits for that until ctx is over. snap takes the snapshots, quickly,
// and waits for nobody; its error is returned as it is. kept, without an error, waits
// until the fence is given back, and fails if it had been lost before: nothing that the
// snapshots show may be believed until then.
func (f *Fence) Instant(ctx context.Context, shards []int, snap func() error) (kept func() error, err error) {
	h, err := f.join(ctx, shards)
	if err != nil {
		return nil, err
	}
	defer f.leave(h)
	if err := snap(); err != nil {
		return nil, err
	}
	return h.kept, nil
}

// join waits until the lock is held on the shards.
func (f *Fence) join(ctx context.Context, shards []int) (*hold, error) {
	f.mu.Lock()
	h := f.current
	if h == nil || !h.open(shards) {
		h = &hold{shards: slices.Clone(shards), ready: make(chan struct{}), done: make(chan struct{})}
		slices.SortFunc(h.shards, func(a, b int) int { return cmp.Compare(f.register.rank(a), f.register.rank(b)) })
		var taking context.Context
		taking, h.stop = context.WithCancel(context.Background())
		f.current = h
		go f.take(taking, h)
	}
	h.users++
	f.mu.Unlock()
	select {
	case <-h.ready:
		if h.err == nil {
			return h, nil
		}
		f.leave(h)
		return nil, h.err
	case <-ctx.Done():
		f.leave(h)
		return nil, f.timeout(h.shards)
	}
}

// open says whether readers of the shards may join. The caller holds Fence.mu.
func (h *hold) open(shards []int) bool {
	if h.users == 0 {
		return false
	}
	for _, s := range shards {
		if !slices.Contains(h.shards, s) {
			return false
		}
	}
	select {
	case <-h.ready:
		return h.err == nil && time.Now().Before(h.until)
	default:
		return true
	}
}

// leave ends one reader's use of the hold. The last one has the lock given back.
func (f *Fence) leave(h *hold) {
	f.mu.Lock()
	h.users--
	last := h.users == 0
	if last && f.current == h {
		f.current = nil
	}
	f.mu.Unlock()
	if last {
		h.stop()
		go func() {
			<-h.ready
			f.release(h)
			close(h.done)
		}()
	}
}

// kept waits until all readers have left and the lock is given back.
func (h *hold) kept() error {
	<-h.done
	if h.err != nil {
		return h.err
	}
	return nil
}

// take takes the lock on the hold's shards.
func (f *Fence) take(ctx context.Context, h *hold) {
	defer close(h.ready)
	select {
	case f.slots <- struct{}{}:
		h.slot = true
	case <-ctx.Done():
		return
	}
	for _, s := range h.shards {
		c, err := f.locker(ctx, s)
		if err != nil {
			h.err = asWire(err)
			return
		}
		h.conns = append(h.conns, c)
	}
	held, err := h.tryAll()
	for err == nil && !held && ctx.Err() == nil {
		if held, err = h.takeInOrder(); err == nil && !held {
			h.rollback()
			time.Sleep(fencePause)
		}
	}
	if err != nil {
		h.err = asWire(err)
	}
	f.mu.Lock()
	h.until = time.Now().Add(joinFor)
	f.mu.Unlock()
}

// tryAll takes the lock on all shards at once if none has to be waited for.
func (h *hold) tryAll() (held bool, err error) {
	for _, c := range h.conns {
		askFence(c, 0)
	}
	held = true
	for _, c := range h.conns {
		ok, e := locked(c)
		held = held && ok
		if err == nil {
			err = e
		}
	}
	if !held {
		h.rollback()
	}
	return held, err
}

// takeInOrder takes the lock on one shard after the other. What it has taken when it
// has to wait for too long is the caller's to give back.
func (h *hold) takeInOrder() (held bool, err error) {
	for _, c := range h.conns {
		askFence(c, fenceSlice)
		if held, err := locked(c); !held {
			return false, err
		}
	}
	return true, nil
}

// askFence asks for the lock on c's shard.
func askFence(c *pool.Conn, wait time.Duration) {
	c.SetDeadline(time.Now().Add(adminTimeout))
	c.SendQuery(fmt.Sprintf("BEGIN;SELECT shardgate.share_fence(%d)", wait.Milliseconds()))
	if err := c.Flush(); err != nil {
		c.Fail(err)
	}
}

// locked reads the answer.
func locked(c *pool.Conn) (bool, error) {
	res, err := answer(c)
	c.SetDeadline(time.Time{})
	if isCode(err, wire.ReadOnlyTransaction) {
		err = wire.AsError(err).WithDetail("The server of shard %s is a standby, with which no snapshot over several shards can be taken.", c.Shard.Name).
			WithHint("Promote it, or give the URL of the primary in the configuration. With shardgate.snapshot set to shard, reads can do without such a snapshot.")
	}
	return err == nil && res.Value(0) == "t", err
}

// rollback gives the lock back where it is held, and says whether it had been held to
// this moment on every shard.
func (h *hold) rollback() bool {
	held := true
	for _, c := range h.conns {
		if c.Broken || c.Status == 'I' {
			held = false
			continue
		}
		c.SetDeadline(time.Now().Add(adminTimeout))
		c.SendQuery("ROLLBACK")
		if err := c.Flush(); err != nil {
			c.Fail(err)
		}
	}
	for _, c := range h.conns {
		if c.Broken || c.Ready == 0 {
			continue
		}
		if _, err := c.ReadResult(); err != nil {
			held = false
		}
		c.SetDeadline(time.Time{})
	}
	return held
}

// release gives the lock back at the end of a hold.
func (f *Fence) release(h *hold) {
	if !h.rollback() && h.err == nil {
		h.err = wire.Errorf(wire.SerializationFailure, "the fence of a snapshot over several shards was lost while it was taken").
			WithHint("Begin the transaction again. If it goes on, see whether the shards' servers are up.")
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	for i, c := range h.conns {
		if c.Broken || c.Status != 'I' || f.closed {
			c.Close()
		} else {
			f.idle[h.shards[i]] = append(f.idle[h.shards[i]], c)
		}
	}
	if h.slot {
		<-f.slots
	}
}

// locker gets a connection that is to hold the lock on a shard.
func (f *Fence) locker(ctx context.Context, shard int) (*pool.Conn, error) {
	for {
		f.mu.Lock()
		n := len(f.idle[shard])
		if n == 0 {
			f.mu.Unlock()
			break
		}
		c := f.idle[shard][n-1]
		f.idle[shard] = f.idle[shard][:n-1]
		f.mu.Unlock()
		if !c.Stale() {
			return c, nil
		}
		c.Close()
	}
	ctx, stop := context.WithTimeout(ctx, adminTimeout)
	defer stop()
	c, err := f.register.pools.Admin(ctx, shard)
	if err != nil {
		return nil, err
	}
	if _, err := c.QueryTimeout(fmt.Sprintf("SET idle_in_transaction_session_timeout = %d", holdLimit.Milliseconds()), adminTimeout); err != nil {
		c.Close()
		return nil, err
	}
	return c, nil
}

// Close closes the connections that are idle, and others when they are done with.
func (f *Fence) Close() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.closed = true
	for _, conns := range f.idle {
		for _, c := range conns {
			c.Close()
		}
	}
	clear(f.idle)
}

// timeout is the error for a reader that has waited for too long: it names the
// transactions that were waited for.
func (f *Fence) timeout(shards []int) *wire.Error {
	ctx, stop := context.WithTimeout(context.Background(), adminTimeout)
	defer stop()
	var waits []string
	for _, s := range shards {
		for _, txid := range f.register.fenced(ctx, s) {
			waits = append(waits, fmt.Sprintf("%s on shard %s", txid, f.register.pools.Shards[s].Name))
		}
	}
	e := wire.Errorf(wire.LockNotAvailable, "canceling statement due to fence timeout: transactions over several shards are yet to be finished").
		WithHint("Try again, or set shardgate.fence_timeout, which is how long a snapshot over several shards waits. If it goes on, see whether all shards are up.")
	if len(waits) > 0 {
		e = e.WithDetail("It waits for %s.", strings.Join(waits, ", "))
	}
	return e
}

// fenced lists the transactions that hold the fence on a shard: by their id where they
// are prepared, else by the backend.
func (r *Register) fenced(ctx context.Context, shard int) []string {
	c, err := r.pools.Admin(ctx, shard)
	if err != nil {
		return nil
	}
	defer c.Close()
	res, err := c.QueryTimeout(`SELECT p.gid, l.pid FROM pg_catalog.pg_locks l
		LEFT JOIN pg_catalog.pg_locks x ON l.pid IS NULL AND x.pid IS NULL AND x.virtualtransaction = l.virtualtransaction
			AND x.locktype = 'transactionid' AND x.mode = 'ExclusiveLock'
		LEFT JOIN pg_catalog.pg_prepared_xacts p ON p.transaction = x.transactionid
		WHERE l.relation = 'shardgate.decisions'::pg_catalog.regclass AND l.mode = 'RowExclusiveLock' AND l.granted
		AND l.database = (SELECT oid FROM pg_catalog.pg_database WHERE datname = pg_catalog.current_database())`, adminTimeout)
	if err != nil {
		return nil
	}
	var out []string
	for _, row := range res.Rows {
		if g, ok := parseGid(string(row[0])); ok {
			out = append(out, "transaction "+g.txid)
		} else {
			out = append(out, "the backend with PID "+string(row[1]))
		}
	}
	return out
}
