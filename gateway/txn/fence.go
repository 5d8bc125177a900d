package txn

import (
	"cmp"
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"strconv"
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
// that come while it is held for others join them, and it is kept for a moment for those
// that may come, while no writer of this gateway wants it: so a stream of small reads
// takes it once in a while.
//
// A holder can be lost without the gateway's knowing at once. So it holds an advisory lock
// besides, under a key of its own, and each reader asks after its snapshot whether that is
// still held: see Hold.Probe.
type Fence struct {
	register *Register
	mu       sync.Mutex
	current  *Hold // the latest that others may join
	writers  int   // that take the lock, or have it
	idle     map[int][]*pool.Conn
	closed   bool
	slots    chan struct{} // one for each hold that has connections
}

const (
	// joinFor is how long after it was taken readers may join a hold, and lingerFor how
	// long it is there for them even if none is left: writers wait for the end of it.
	// Those of this gateway end the lingering; those of others wait for as long.
	joinFor   = 2 * time.Millisecond
	lingerFor = 5 * time.Millisecond
	// soonFor is how long a reader waits for a hold of more shards than it reads.
	soonFor = 10 * time.Millisecond
	// fenceSlice is how long one attempt to take the lock waits on one shard. Then
	// what was taken is given back for fencePause, so that writers get on although a
	// transaction stays undecided on some shard.
	fenceSlice = 250 * time.Millisecond
	fencePause = 20 * time.Millisecond
	// holdLimit is how long a server leaves the lock to a gateway that says nothing:
	// one that is stopped must not stop the writers.
	holdLimit = 5 * time.Second
	// maxHolds is how many holds there are at a time, each with a connection to each of
	// its shards. Readers that come while all are in use wait together for the next.
	maxHolds = 4
)

// Hold is the lock on some shards, held for one or more readers.
type Hold struct {
	fence  *Fence
	key    int64         // of the advisory lock
	shards []int         // by rank
	stop   func()        // ends the taking
	ready  chan struct{} // closed when the lock is held, or err says why it isn't
	err    *wire.Error
	conns  []*pool.Conn // as shards
	taken  time.Time
	// Under Fence.mu:
	users int
	over  bool // it is given back
	slot  bool // it has one
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

// Enter waits, until ctx is over, for a moment at which no transaction over several shards
// is half committed on the given ones, and makes it last until Leave. What is read then is
// to be asked for quickly, and for nothing that others may keep locked.
func (f *Fence) Enter(ctx context.Context, shards []int) (*Hold, error) {
	h := f.join(shards, true)
	if len(h.shards) > len(shards) && !h.soon() {
		// What is to be waited for on the others is not these readers' affair.
		h.Leave()
		h = f.join(shards, false)
	}
	select {
	case <-h.ready:
	case <-ctx.Done():
		h.Leave()
		if ctx.Err() != context.DeadlineExceeded {
			return nil, context.Cause(ctx)
		}
		return nil, f.timeout(h.shards)
	}
	if h.err != nil {
		h.Leave()
		return nil, h.err
	}
	return h, nil
}

// join makes the caller a user of the current hold if that is one of its shards, or else of
// a new one. With more, others' shards may be among them.
func (f *Fence) join(shards []int, more bool) *Hold {
	f.mu.Lock()
	defer f.mu.Unlock()
	old := f.current
	if old != nil && old.open() && old.covers(shards) && (more || len(old.shards) == len(shards)) {
		old.users++
		return old
	}
	h := &Hold{fence: f, key: rand.Int64(), shards: slices.Clone(shards), ready: make(chan struct{}), users: 1}
	if old != nil {
		if more && old.held() {
			for _, s := range old.shards {
				if !slices.Contains(h.shards, s) {
					h.shards = append(h.shards, s)
				}
			}
		}
		if old.users == 0 {
			f.end(old)
		}
	}
	slices.SortFunc(h.shards, func(a, b int) int { return cmp.Compare(f.register.rank(a), f.register.rank(b)) })
	var taking context.Context
	taking, h.stop = context.WithCancel(context.Background())
	f.current = h
	go f.take(taking, h)
	return h
}

// soon waits for the lock for a moment, and says whether it was got.
func (h *Hold) soon() bool {
	if h.held() {
		return true
	}
	timer := time.NewTimer(soonFor)
	defer timer.Stop()
	select {
	case <-h.ready:
		return h.err == nil
	case <-timer.C:
		return false
	}
}

// Probe is the parameter of ProbeSQL for this hold.
func (h *Hold) Probe() string { return strconv.FormatInt(h.key, 10) }

// ProbeSQL asks a shard, after a snapshot was taken there and before Leave, whether the
// hold has lasted until now: then it is false. If it is true, or fails, the snapshot shows
// what it shouldn't, perhaps: see FenceLost.
const ProbeSQL = "SELECT pg_catalog.pg_try_advisory_xact_lock_shared($1)"

// Probed is ProbeSQL as a text of its own.
func (h *Hold) Probed() string { return strings.Replace(ProbeSQL, "$1", h.Probe(), 1) }

// FenceLost is the error of a reader whose snapshots were taken when the fence was lost.
func FenceLost() *wire.Error {
	return wire.Errorf(wire.SerializationFailure, "the fence of a snapshot over several shards was lost while it was taken").
		WithHint("Begin the transaction again. If it goes on, see whether the shards' servers are up.")
}

// open says whether readers may join. The caller holds Fence.mu.
func (h *Hold) open() bool {
	if h.over {
		return false
	}
	select {
	case <-h.ready:
		return h.err == nil && time.Since(h.taken) < h.fence.lasts()
	default:
		return true
	}
}

// covers says whether it is a hold of all these shards.
func (h *Hold) covers(shards []int) bool {
	for _, s := range shards {
		if !slices.Contains(h.shards, s) {
			return false
		}
	}
	return true
}

// lasts is how long after it was taken a hold takes in readers. The caller holds Fence.mu.
func (f *Fence) lasts() time.Duration {
	if f.writers > 0 {
		return joinFor
	}
	return lingerFor
}

// Leave ends one reader's use of the hold. When the last one has left, it is given back,
// if not now then when nobody has come for a while.
func (h *Hold) Leave() {
	f := h.fence
	f.mu.Lock()
	h.users--
	if h.users > 0 || h.over {
		f.mu.Unlock()
		return
	}
	if f.current == h && f.writers == 0 && !f.closed && h.held() {
		if left := lingerFor - time.Since(h.taken); left > 0 {
			f.mu.Unlock()
			time.AfterFunc(left, h.expire)
			return
		}
	}
	f.end(h)
	f.mu.Unlock()
}

// held says whether the lock was got.
func (h *Hold) held() bool {
	select {
	case <-h.ready:
		return h.err == nil
	default:
		return false
	}
}

// expire ends a hold for which nobody has come.
func (h *Hold) expire() {
	f := h.fence
	f.mu.Lock()
	defer f.mu.Unlock()
	if h.users == 0 && !h.over {
		f.end(h)
	}
}

// end has a hold given back that has no users. The caller holds mu.
func (f *Fence) end(h *Hold) {
	h.over = true
	if f.current == h {
		f.current = nil
	}
	h.stop()
	go func() {
		<-h.ready
		f.release(h)
	}()
}

// writing notes that a transaction of this gateway is going to take the lock: no hold is
// kept for readers that may come until done is called.
func (f *Fence) writing() (done func()) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.writers++
	if h := f.current; h != nil && h.users == 0 {
		f.end(h)
	}
	return func() {
		f.mu.Lock()
		f.writers--
		f.mu.Unlock()
	}
}

// take takes the lock on the hold's shards.
func (f *Fence) take(ctx context.Context, h *Hold) {
	defer close(h.ready)
	select {
	case f.slots <- struct{}{}:
		f.mu.Lock()
		h.slot = true
		f.mu.Unlock()
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
	h.taken = time.Now()
}

// tryAll takes the lock on all shards at once if none has to be waited for.
func (h *Hold) tryAll() (held bool, err error) {
	for _, c := range h.conns {
		h.ask(c, 0)
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
func (h *Hold) takeInOrder() (held bool, err error) {
	for _, c := range h.conns {
		h.ask(c, fenceSlice)
		if held, err := locked(c); !held {
			return false, err
		}
	}
	return true, nil
}

// ask asks for the lock on c's shard.
func (h *Hold) ask(c *pool.Conn, wait time.Duration) {
	c.SetDeadline(time.Now().Add(adminTimeout))
	c.SendQuery(fmt.Sprintf("BEGIN;SELECT shardgate.share_fence(%d), pg_catalog.pg_advisory_xact_lock(%d)", wait.Milliseconds(), h.key))
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

// rollback gives the lock back where it is held.
func (h *Hold) rollback() {
	for _, c := range h.conns {
		if c.Broken || c.Status == 'I' {
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
		c.ReadResult() // an error leaves it broken, or in a transaction still
		c.SetDeadline(time.Time{})
	}
}

// release gives the lock back at the end of a hold.
func (f *Fence) release(h *Hold) {
	h.rollback()
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
	if h := f.current; h != nil && h.users == 0 {
		f.end(h)
	}
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
