package txn

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"github.com/shardgate/shardgate/gateway/pool"
	"github.com/shardgate/shardgate/wire"
)

// snapshot reads v of the row on each shard, all in snapshots of one instant.
func (f *fixture) snapshot(r *Register, id int, shards []int) (values []string, err error) {
	conns := make([]*pool.Conn, len(shards))
	for i, s := range shards {
		if conns[i], err = f.pools.Pool(s, "postgres").Get(); err != nil {
			return nil, err
		}
		defer conns[i].Put()
	}
	ctx, stop := context.WithTimeout(context.Background(), 20*time.Second)
	defer stop()
	err = atInstant(ctx, r, shards, func(h *Hold) error {
		for _, c := range conns {
			c.SendQuery("BEGIN ISOLATION LEVEL REPEATABLE READ;" + h.Probed())
			c.Flush()
		}
		for _, c := range conns {
			if res, err := c.ReadResult(); err != nil {
				return err
			} else if res.Value(0) != "f" {
				return FenceLost()
			}
		}
		return nil
	})
	for _, c := range conns {
		if err == nil {
			var res *pool.Result
			if res, err = c.Query(fmt.Sprintf("SELECT v FROM t WHERE id = %d", id)); err == nil {
				values = append(values, res.Value(0))
			}
		}
		c.Query("ROLLBACK")
	}
	return values, err
}

// atInstant runs snap on the shards at an instant.
func atInstant(ctx context.Context, r *Register, shards []int, snap func(h *Hold) error) error {
	h, err := r.Fence.Enter(ctx, shards)
	if err != nil {
		return err
	}
	defer h.Leave()
	return snap(h)
}

// Writers change the same row on several shards, in transactions that don't wait for
// each other; readers must see one value on all. Without the fence they don't.
func TestFence(t *testing.T) {
	f := newFixture(t, 4)
	other, err := Install(context.Background(), f.newPools(), 0, "shardgate")
	if err != nil {
		t.Fatal(err)
	}
	const rows = 4
	for i := range f.conns {
		f.exec(i, fmt.Sprintf("INSERT INTO t SELECT i, 0 FROM generate_series(1, %d) i", rows))
	}
	var writers, readers sync.WaitGroup
	for id := 1; id <= rows; id++ {
		writers.Go(func() {
			rnd := rand.New(rand.NewPCG(1, uint64(id)))
			r := []*Register{f.register, other}[id%2]
			// One set of shards for each row: two to all of them.
			shards := rnd.Perm(4)[:2+id%3]
			for n := 1; n <= 40; n++ {
				var parts []Participant
				for _, s := range shards {
					c, err := f.pools.Pool(s, "postgres").Get()
					if err != nil {
						t.Error(err)
						return
					}
					c.Query("BEGIN")
					if _, err := c.Query(fmt.Sprintf("UPDATE t SET v = %d WHERE id = %d", n, id)); err != nil {
						t.Error(err)
					}
					parts = append(parts, Participant{Conn: c, Wrote: true, Unpreparable: s == shards[0] && n%3 == 0})
				}
				if out := r.Commit(NewID, parts); out.Err != nil {
					t.Error(out.Err)
				}
				for _, p := range parts {
					p.Conn.Put()
				}
			}
		})
		readers.Go(func() {
			rnd := rand.New(rand.NewPCG(1, uint64(id)))
			r := []*Register{f.register, other}[(id+1)%2]
			shards := rnd.Perm(4)[:2+id%3]
			for range 60 {
				got, err := f.snapshot(r, id, shards)
				if err != nil {
					t.Error(err)
					return
				}
				for _, v := range got {
					if v != got[0] {
						t.Errorf("row %d: %v", id, got)
						return
					}
				}
			}
		})
	}
	writers.Wait()
	readers.Wait()
}

// A transaction that stays prepared makes readers of its shards wait, and tells them
// what they wait for; others go on, writers as well.
func TestFenceTimeout(t *testing.T) {
	f := newFixture(t, 3)
	txid, _, decider := f.prepare(1, "postgres")
	ctx, stop := context.WithTimeout(context.Background(), time.Second)
	defer stop()
	err := atInstant(ctx, f.register, []int{0, 1, 2}, func(*Hold) error { return errors.New("not reached") })
	var we *wire.Error
	if !errors.As(err, &we) || we.Code != wire.LockNotAvailable || we.Detail != "It waits for transaction "+txid+" on shard s2, transaction "+txid+" on shard s3." {
		t.Fatalf("%v: %q", err, we.Detail)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		if out := f.register.Commit(NewID, f.writers(2, 1, 2)); out.Err != nil {
			t.Error(out.Err)
		}
	}()
	waits, stop2 := context.WithTimeout(context.Background(), 3*time.Second)
	defer stop2()
	atInstant(waits, f.register, []int{0, 1, 2}, func(*Hold) error { return nil })
	<-done
	Rollback([]*pool.Conn{decider})
	f.recover()
	if err := atInstant(context.Background(), f.register, []int{0, 1, 2}, func(*Hold) error { return nil }); err != nil {
		t.Error(err)
	}
}

// Who has taken a snapshot hears whether the lock was lost meanwhile.
func TestFenceLost(t *testing.T) {
	f := newFixture(t, 2)
	lost := func(h *Hold, shard int) bool {
		return f.count(shard, "SELECT ("+h.Probed()+")::int") == 1
	}
	if err := atInstant(context.Background(), f.register, []int{0, 1}, func(h *Hold) error {
		if lost(h, 0) || lost(h, 1) {
			t.Error("a hold counts as lost")
		}
		f.exec(1, "SELECT pg_terminate_backend(pid, 10000) FROM pg_locks WHERE relation = 'shardgate.decisions'::regclass AND mode = 'ShareLock'")
		if lost(h, 0) || !lost(h, 1) {
			t.Error("a lost hold was not noticed")
		}
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	for range 10 { // with other connections, when the hold is over
		if err := atInstant(context.Background(), f.register, []int{0, 1}, func(h *Hold) error {
			if lost(h, 1) {
				return FenceLost()
			}
			return nil
		}); err == nil {
			return
		}
		time.Sleep(lingerFor)
	}
	t.Error("the fence was not taken again")
}

// A hold is kept for readers that may come, but not from a writer of the same gateway.
func TestFenceLingers(t *testing.T) {
	f := newFixture(t, 3)
	key := func(shards ...int) (key string) {
		if err := atInstant(context.Background(), f.register, shards, func(h *Hold) error {
			key = h.Probe()
			return nil
		}); err != nil {
			t.Fatal(err)
		}
		return key
	}
	shared := 0
	for range 50 {
		if all := key(0, 1, 2); key(1, 2) == all && key(0, 2) == all {
			shared++
		}
	}
	if shared == 0 {
		t.Error("no reader has shared a hold")
	}
	done := f.register.Fence.writing()
	for range 20 {
		if first := key(0, 1); key(0, 1) == first {
			t.Error("a hold was kept while a writer waits")
		}
	}
	done()
	// Readers of other shards wait for their own affairs only.
	_, _, decider := f.prepare(1, "postgres") // on shards 2 and 3
	defer Rollback([]*pool.Conn{decider})
	ctx, stop := context.WithTimeout(context.Background(), 20*time.Millisecond)
	defer stop()
	all := f.register.Fence.join([]int{0, 1, 2}, true)
	defer all.Leave()
	if err := atInstant(ctx, f.register, []int{0}, func(*Hold) error { return nil }); err == nil {
		return
	}
	if err := atInstant(context.Background(), f.register, []int{0}, func(*Hold) error { return nil }); err != nil {
		t.Error(err)
	}
}

// A hundred readers at once take few connections.
func TestFenceCrowd(t *testing.T) {
	f := newFixture(t, 2)
	var readers sync.WaitGroup
	most := 0
	for range 100 {
		readers.Go(func() {
			if err := atInstant(context.Background(), f.register, []int{0, 1}, func(h *Hold) error {
				time.Sleep(5 * time.Millisecond)
				return nil
			}); err != nil {
				t.Error(err)
			}
		})
	}
	for range 5 {
		most = max(most, f.count(1, "SELECT count(*) FROM pg_locks WHERE relation = 'shardgate.decisions'::regclass AND mode = 'ShareLock'"))
	}
	readers.Wait()
	if most > maxHolds {
		t.Errorf("%d connections hold the fence", most)
	}
}
