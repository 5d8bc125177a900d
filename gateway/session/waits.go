package session

import (
	"strconv"
	"sync/atomic"
	"time"

	"github.com/shardgate/shardgate/gateway/txn"
	"github.com/shardgate/shardgate/wire"
)

// waits is what others may know of a session's waiting for the shards: those who look
// for deadlocks. All of it is for any goroutine, but begin and end, which are the
// session's.
type waits struct {
	since    atomic.Int64 // when the shards were asked, in nanoseconds since 1970; 0: nothing is waited for
	began    atomic.Int64 // when the transaction began
	id       atomic.Pointer[string]
	striking atomic.Bool            // a cancel request is under way
	struck   atomic.Pointer[string] // the circle that the transaction was the victim of
}

// begin notes that the session is going to wait.
func (w *waits) begin() {
	w.since.Store(time.Now().UnixNano())
	w.settle()
}

// end notes that it has its answers.
func (w *waits) end() {
	if w.since.Load() != 0 {
		w.since.Store(0)
		w.settle()
	}
}

// settle waits for a cancel request that is still under way, which must not hit what comes
// now, and forgets it.
func (w *waits) settle() {
	for w.striking.Load() {
		time.Sleep(time.Millisecond)
	}
	if w.struck.Load() != nil {
		w.struck.Store(nil)
	}
}

// transaction notes that one begins.
func (w *waits) transaction() {
	w.began.Store(time.Now().UnixNano())
	w.id.Store(nil)
	w.begin()
}

// txid is the transaction's id.
func (w *waits) txid() string {
	for {
		if id := w.id.Load(); id != nil {
			return *id
		}
		id := txn.NewID()
		w.id.CompareAndSwap(nil, &id)
	}
}

// victim is the error in the place of a canceled statement's if the transaction is the
// victim of a deadlock, else nil.
func (w *waits) victim() *wire.Error {
	circle := w.struck.Load()
	if circle == nil {
		return nil
	}
	return wire.Errorf(wire.DeadlockDetected, "deadlock detected").WithDetail("%s", *circle).
		WithHint("See the servers' logs for the statements. Begin the transaction again.")
}

// Waiting describes the transaction if it has waited for longer than that, on several
// shards. It may be called by any goroutine.
func (s *Session) Waiting(longer time.Duration) (txn.Waiter, bool) {
	w := &s.waits
	since := w.since.Load()
	if since == 0 || time.Since(time.Unix(0, since)) < longer {
		return txn.Waiter{}, false
	}
	out := txn.Waiter{ID: w.txid(), Began: w.began.Load(), Since: since}
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, c := range s.active {
		out.Backends = append(out.Backends, txn.Backend{Shard: c.Shard.Name, PID: strconv.FormatUint(uint64(c.PID), 10), Start: c.BackendStart})
	}
	return out, len(out.Backends) > 1 && w.since.Load() == since
}

// Strike makes the transaction the victim of a deadlock, if it still waits as it did. It
// may be called by any goroutine.
func (s *Session) Strike(x txn.Waiter, circle string) {
	w := &s.waits
	w.striking.Store(true)
	defer w.striking.Store(false)
	if w.since.Load() != x.Since || w.txid() != x.ID {
		return
	}
	w.struck.Store(&circle)
	s.Cancel()
}
