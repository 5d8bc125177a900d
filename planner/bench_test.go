package planner

import (
	"testing"

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
