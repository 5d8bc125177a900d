package txn

import (
	"bytes"
	"context"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/shardgate/shardgate/gateway/pool"
)

func (f *fixture) status(decider, txid, want string) {
	f.t.Helper()
	if got, err := f.register.Status(f.register.id(decider, txid)); err != nil || got != want {
		f.t.Errorf("the status is %q (%v), want %q", got, err, want)
	}
}

// The decision on a transaction that was in doubt is kept for a time after it was carried
// out, and no other.
func TestOutcomeRetention(t *testing.T) {
	f := newFixture(t, 3)
	f.register.Retention = time.Hour
	rows := func(want int) {
		t.Helper()
		if n := f.count(0, "SELECT count(*) FROM shardgate.decisions"); n != want {
			t.Errorf("%d decisions, want %d", n, want)
		}
	}
	for id := range 3 {
		if out := f.register.Commit(NewID, f.writers(id, 0, 1, 2)); out.Err != nil {
			t.Fatal(out.Err)
		}
	}
	f.recover()
	rows(0)
	txid, backend, decider := f.prepare(10, "postgres")
	aborted, _, undecided := f.prepare(11, "postgres")
	f.status("s1", txid, "in progress")
	for _, sql := range []string{f.register.decideCall(decider, txid, backend, "s2,s3"), "COMMIT"} {
		if _, err := decider.Query(sql); err != nil {
			t.Fatal(err)
		}
	}
	decider.Put()
	f.status("s1", txid, "committed, finishing on: s2, s3")
	list, missing := f.register.Unfinished()
	if len(list) != 2 || len(missing) != 0 || list[0].Age < list[1].Age {
		t.Errorf("unfinished: %v, %v", list, missing)
	}
	f.recover()
	if list, _ := f.register.Unfinished(); len(list) != 0 {
		t.Errorf("unfinished: %v", list)
	}
	f.recover() // notes that both are finished
	f.status("s1", txid, "committed")
	f.status("s1", aborted, "aborted")
	f.recover()
	rows(2)
	f.register.Retention = 0
	f.recover()
	rows(1) // the decider could still try to commit the other
	f.status("s1", txid, "forgotten")
	f.status("s1", aborted, "aborted")
	Rollback([]*pool.Conn{undecided})
	undecided.Close()
	for f.count(0, "SELECT count(*) FROM pg_stat_activity WHERE pid = "+pid(undecided)) > 0 {
		time.Sleep(5 * time.Millisecond)
	}
	f.recover()
	rows(0)
}

// The log is told of what can't be finished once, then in growing intervals, and of the end.
func TestDoubtsAreTold(t *testing.T) {
	r := &Register{Cluster: "c-00000000", pools: pool.NewPools([]*pool.Shard{{Name: "s1"}, {Name: "s2", Index: 1}}, pool.Options{})}
	var log bytes.Buffer
	told := func(p *pass) int {
		p.register, p.log = r, slog.New(slog.NewTextHandler(&log, nil))
		before := strings.Count(log.String(), "\n")
		p.tell(context.Background())
		return strings.Count(log.String(), "\n") - before
	}
	id := r.id("s1", strings.Repeat("0", 32))
	lasting := func() *pass {
		return &pass{admins: []*pool.Conn{{}, nil}, doubts: []doubt{{id: id, shard: "s2", state: stateCommitted, reason: "down", age: time.Minute}}}
	}
	if n := told(lasting()); n != 1 {
		t.Errorf("%d lines at first", n)
	}
	if n, oldest := r.InDoubt(); n != 1 || oldest < time.Minute {
		t.Errorf("%d transactions, the oldest of %v", n, oldest)
	}
	entry := r.doubts.known[id+" s2"]
	for range 5 {
		pause := entry.pause
		if n := told(lasting()); n != 0 {
			t.Errorf("%d lines before it is time", n)
		}
		entry.next = time.Now()
		if n := told(lasting()); n != 1 || entry.pause != 2*pause {
			t.Errorf("%d lines when it is time, then a pause of %v", n, entry.pause)
		}
	}
	// A shard that wasn't searched says nothing of the end.
	if n := told(&pass{admins: []*pool.Conn{{}, nil}}); n != 0 || len(r.doubts.known) != 1 {
		t.Errorf("%d lines without a search of the shard", n)
	}
	if n := told(&pass{admins: []*pool.Conn{{}, {}}, pending: map[string]bool{prepareKey(strings.Repeat("0", 32), "s2"): true}}); n != 0 {
		t.Errorf("%d lines although it is prepared", n)
	}
	if n := told(&pass{admins: []*pool.Conn{{}, {}}}); n != 1 || len(r.doubts.known) != 0 {
		t.Errorf("%d lines at the end", n)
	}
	if n, oldest := r.InDoubt(); n != 0 || oldest != 0 {
		t.Errorf("%d transactions, the oldest of %v", n, oldest)
	}
}
