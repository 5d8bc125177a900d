package planner

import (
	"strings"
	"testing"
	"time"

	"github.com/shardgate/shardgate/planner/sqltext"
)

var selectByKey = []byte("SELECT abalance FROM pgbench_accounts WHERE aid = 4711;")

func BenchmarkPlanHit(b *testing.B) {
	p := &Planner{Env: *fixtureEnv(), Cached: NewCache(1000)}
	var sc sqltext.Scanner
	if _, _, _, err := p.Plan(selectByKey, &sc); err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	for b.Loop() {
		if st, _, _, err := p.Plan(selectByKey, &sc); st == nil || err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkPlanMiss(b *testing.B) {
	p := &Planner{Env: *fixtureEnv(), Cached: NewCache(1000)}
	var sc sqltext.Scanner
	b.ReportAllocs()
	for b.Loop() {
		p.Cached = emptied(p.Cached)
		if st, _, _, err := p.Plan(selectByKey, &sc); st == nil || err != nil {
			b.Fatal(err)
		}
	}
}

// TestLongTargetList holds that many expressions, each of which is compared with all
// others, are planned in a time that a session may be busy for.
func TestLongTargetList(t *testing.T) {
	const n, most = 1600, 10 * time.Second // it is a twentieth of that
	for _, list := range []string{"sum(id + 1)", "max(balance), sum(id)", "id + 1 AS n"} {
		sql := "SELECT " + strings.TrimSuffix(strings.Repeat(list+", ", n), ", ") + " FROM customers"
		if strings.HasSuffix(list, "n") {
			sql += " GROUP BY id + 1 ORDER BY max(name)"
		}
		p := &Planner{Env: *fixtureEnv(), Cached: NewCache(1000)}
		var sc sqltext.Scanner
		began := time.Now()
		if _, _, _, err := p.Plan([]byte(sql), &sc); err != nil {
			t.Errorf("%s: %v", list, err)
		}
		if d := time.Since(began); d > most {
			t.Errorf("%d times %s: planned in %v", n, list, d)
		}
	}
}

// emptied takes all plans out of a cache.
func emptied(c *Cache) *Cache {
	for i := range c.shards {
		clear(c.shards[i].plans)
	}
	return c
}

// TestHitAllocatesNothing holds what every statement of a session costs.
func TestHitAllocatesNothing(t *testing.T) {
	p := &Planner{Env: *fixtureEnv(), Cached: NewCache(1000)}
	var sc sqltext.Scanner
	n := testing.AllocsPerRun(100, func() {
		if _, _, _, err := p.Plan(selectByKey, &sc); err != nil {
			t.Fatal(err)
		}
	})
	if n != 0 {
		t.Errorf("%v allocations", n)
	}
}
