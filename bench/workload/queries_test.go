package workload

import (
	"os"
	"regexp"
	"strings"
	"testing"

	"github.com/shardgate/shardgate/bench/target"
	"github.com/shardgate/shardgate/gateway/localpg/pgtest"
)

// ownNames are the names that the planner gives to the columns of a part.
var ownNames = regexp.MustCompile(` AS shardgate_\d+`)

// What is sent to the shards directly is what the gateway sends them, by the planner's
// own tests, but for names of columns.
func TestDirectIsThePlan(t *testing.T) {
	plans, err := os.ReadFile("../../planner/testdata/benchmark.txt")
	if err != nil {
		t.Fatal(err)
	}
	plans = ownNames.ReplaceAll(plans, nil)
	for _, w := range All {
		if w.Direct == nil {
			continue
		}
		_, plan, _ := strings.Cut(string(plans), "plan\n"+w.Statements[0].SQL()+"\n----\n")
		plan, _, _ = strings.Cut(plan, "\n\n")
		gathered := strings.Contains(plan, "Gather\n  part 1, shards, plain: "+w.Direct.SQL()+"\n  final")
		if !gathered && !strings.HasSuffix(strings.TrimSpace(plan), "\n  query: "+w.Direct.SQL()) {
			t.Errorf("%s: the shards are sent %s, and by the planner's tests\n%s", w.Name, w.Direct.SQL(), plan)
		}
	}
}

// The answers that are made here are PostgreSQL's, and another one is noticed, also one
// that differs in the order only.
func TestVerify(t *testing.T) {
	server := pgtest.Server(t)
	store := &target.Store{Name: "store", URL: pgtest.Database(t, server), Own: true}
	other := &target.Store{Name: "other", URL: pgtest.Database(t, server), Own: true}
	for _, s := range []*target.Store{store, other} {
		for _, d := range []*Data{accounts, shop} {
			if err := d.Load(t.Context(), s, Size{Scale: 1}); err != nil {
				t.Fatal(err)
			}
		}
	}
	for _, sql := range []string{
		"UPDATE bench_customers SET region = region + 1 WHERE id = 7",
		"UPDATE bench_products SET weight = 0 WHERE id = (SELECT product FROM bench_orders WHERE customer = 3 AND number = 2)",
	} {
		exec(t, pgtest.Conn(t, other.URL), sql)
	}
	exec(t, pgtest.Conn(t, other.URL), "UPDATE pgbench_accounts SET abalance = abalance + 7000 WHERE aid = 77")
	for _, w := range All {
		if w.Verify == nil || w.Data.Name == "tpch" {
			continue
		}
		if err := w.Verify(t.Context(), &target.Target{Name: "right", URL: store.URL, Store: store}, Size{Scale: 1}); err != nil {
			t.Errorf("%s: %v", w.Name, err)
		}
		if err := w.Verify(t.Context(), &target.Target{Name: "wrong", URL: other.URL, Store: store}, Size{Scale: 1}); err == nil {
			t.Errorf("%s: a wrong answer is taken for right", w.Name)
		}
	}
	var a, b digest
	a.add(1, 2)
	a.add(3, 4)
	b.add(3, 4)
	b.add(1, 2)
	if a.set != b.set || a.list == b.list || a.rows != 2 {
		t.Errorf("%+v, %+v", a, b)
	}
}
