package workload

import (
	"context"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"github.com/shardgate/shardgate/bench/load"
	"github.com/shardgate/shardgate/bench/target"
	"github.com/shardgate/shardgate/configs"
	"github.com/shardgate/shardgate/gateway/localpg/pgtest"
)

// The rules can be read, and there is one for each table that a workload makes.
func TestRules(t *testing.T) {
	cfg, err := configs.ParseWithoutShards("rules", Rules())
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"bench_rows", "bench_orders", "lineitem", "nation"} {
		if _, ok := cfg.Rule("", name); !ok {
			t.Errorf("no rule for %s", name)
		}
	}
	for _, list := range [][]table{accountTables, balanceTables, insertedTables, copiedTables, shopTables, entrySizeOf(Size{}).tables()} {
		for _, each := range list {
			if _, ok := cfg.Rule("", each.name); !ok {
				t.Errorf("no rule for %s", each.name)
			}
		}
	}
}

// runs a workload for a moment with two clients, and returns what it has done.
func run(t *testing.T, url string, w *Workload, p load.Protocol) Tally {
	t.Helper()
	o := load.Options{URL: url, Clients: 2, Seed: 1, Session: w.Session, Script: func(client int) load.Script {
		return w.Script(Setup{Protocol: p, Batch: 3, Size: Size{Scale: 1, Small: true}, Keys: Zipf, Client: client,
			Violation: func(err error) { t.Errorf("%s: %v", w.Name, err) }})
	}}
	if w.Alone {
		o.Clients = w.Clients
	}
	if p.NeedsPrepare() {
		o.Prepare = w.Statements
	}
	cs, err := load.Open(t.Context(), o)
	if err != nil {
		t.Fatalf("%s, %s: %v", w.Name, p, err)
	}
	defer cs.Close()
	r, err := cs.Run(t.Context(), 20*time.Millisecond)
	if err != nil || r.Errors.Total() > 0 || r.Committed == 0 {
		t.Fatalf("%s, %s: %d committed, %v, %v", w.Name, p, r.Committed, r.Errors, err)
	}
	return Tally{}.Add(r)
}

// wrongs are statements that break the invariants of data, what takes them back, and what is said.
var wrongs = map[string][]struct{ plant, undo, want string }{
	"pgbench": {
		{"UPDATE pgbench_accounts SET abalance = abalance + 1 WHERE aid = 7", "UPDATE pgbench_accounts SET abalance = abalance - 1 WHERE aid = 7", "the sums differ"},
	},
	"balances": {
		{"UPDATE bench_balances SET balance = balance - 1 WHERE id = 7", "UPDATE bench_balances SET balance = balance + 1 WHERE id = 7", "add up to"},
		{"INSERT INTO bench_balances VALUES (-1, 1000)", "DELETE FROM bench_balances WHERE id = -1", "add up to"},
	},
	"rows": {
		{"INSERT INTO bench_rows VALUES (-1, -1, 'a row')", "DELETE FROM bench_rows WHERE id = -1", "rows more"},
		{"UPDATE bench_rows SET n = n + 1 WHERE id = (SELECT min(id) FROM bench_rows)", "UPDATE bench_rows SET n = n - 1 WHERE id = (SELECT min(id) FROM bench_rows)", "not as they were"},
	},
	"shop": {
		{"UPDATE bench_orders SET cents = cents + 1 WHERE customer = 7 AND number = 1", "UPDATE bench_orders SET cents = cents - 1 WHERE customer = 7 AND number = 1", "have changed"},
		{"INSERT INTO bench_products VALUES (-1, 1)", "DELETE FROM bench_products WHERE id = -1", "have changed"},
	},
	"order entry": {
		{"UPDATE entry_warehouse SET ytd = ytd + 1 WHERE id = 2", "UPDATE entry_warehouse SET ytd = ytd - 1 WHERE id = 2", "condition 1:"},
		{"UPDATE entry_district SET next_order = next_order + 1 WHERE warehouse = 2 AND id = 3", "UPDATE entry_district SET next_order = next_order - 1 WHERE warehouse = 2 AND id = 3", "condition 2:"},
		{"INSERT INTO entry_new_order VALUES (2, 3, -5)", "DELETE FROM entry_new_order WHERE id = -5", "condition 3:"},
		{"UPDATE entry_order SET lines = lines + 1 WHERE warehouse = 2 AND district = 3 AND id = 4", "UPDATE entry_order SET lines = lines - 1 WHERE warehouse = 2 AND district = 3 AND id = 4", "condition 4 and 6:"},
		{"UPDATE entry_order SET carrier = NULL WHERE warehouse = 2 AND district = 3 AND id = 4", "UPDATE entry_order SET carrier = 1 WHERE warehouse = 2 AND district = 3 AND id = 4", "condition 5:"},
		{"UPDATE entry_line SET delivered = NULL WHERE warehouse = 2 AND district = 3 AND order_id = 4 AND number = 1", "UPDATE entry_line SET delivered = now() WHERE warehouse = 2 AND district = 3 AND order_id = 4", "condition 7:"},
		{"INSERT INTO entry_history VALUES (2, 3, 2, 3, 4, 1)", "DELETE FROM entry_history WHERE amount = 1", "condition 8:"},
		{"UPDATE entry_customer SET balance = balance + 1 WHERE warehouse = 2 AND district = 3 AND id = 4", "UPDATE entry_customer SET balance = balance - 1 WHERE warehouse = 2 AND district = 3 AND id = 4", "condition 12:"},
	},
	"tpch": {
		{"INSERT INTO region VALUES (9, 'nowhere', '')", "DELETE FROM region WHERE r_regionkey = 9", "have changed"},
	},
	"copied": {
		{"UPDATE bench_copied SET abalance = abalance + 1 WHERE aid = 7", "UPDATE bench_copied SET abalance = abalance - 1 WHERE aid = 7", "the table has"},
		{"UPDATE bench_copied SET aid = 8 WHERE aid = 7 ", "UPDATE bench_copied SET aid = 7 WHERE ctid = (SELECT max(ctid) FROM bench_copied WHERE aid = 8)", "the table has"},
		{"DELETE FROM bench_copied WHERE aid = 7", "", "the table has"},
	},
}

// Each kind of data is made, is found to be there, and holds its invariants after each of
// its workloads, by each protocol; and what is wrong is found.
func TestData(t *testing.T) {
	url := pgtest.Database(t, pgtest.Server(t))
	store := &target.Store{Name: "store", URL: url, Servers: []string{url}, Own: true}
	conn := pgtest.Conn(t, url)
	ctx, size := t.Context(), Size{Scale: 1, Small: true}
	ready := map[string]bool{}
	for _, w := range All {
		if w.Streams && w != copyIn && w != copyOut || w.Direct != nil || w.Connecting != 0 {
			continue // they have tests of their own
		}
		d := w.Data
		if !ready[d.Name] {
			ready[d.Name] = true
			if there, err := d.Loaded(ctx, store, size); there || err != nil {
				t.Fatalf("%s is there before it is loaded: %v", d.Name, err)
			}
			if err := d.Load(ctx, store, size); err != nil {
				t.Fatal(err)
			}
			if there, err := d.Loaded(ctx, store, size); !there || err != nil {
				t.Fatalf("%s is not there: %v", d.Name, err)
			}
		}
		before, err := d.State(ctx, store)
		if err != nil {
			t.Fatal(err)
		}
		done := map[string]Tally{}
		for _, p := range w.By(load.Protocols) {
			n := run(t, url, w, p)
			done[w.Name] = Tally{done[w.Name].Committed + n.Committed, 0}
		}
		after, err := d.State(ctx, store)
		if err != nil {
			t.Fatal(err)
		}
		if wrong := before.Check(after, done); len(wrong) > 0 {
			t.Errorf("%s: %v", w.Name, wrong)
		}
	}
	for _, w := range All {
		for _, c := range wrongs[w.Data.Name] {
			before, err := w.Data.State(ctx, store)
			if err != nil {
				t.Fatal(err)
			}
			exec(t, conn, c.plant)
			after, err := w.Data.State(ctx, store)
			if err != nil {
				t.Fatal(err)
			}
			if wrong := before.Check(after, nil); len(wrong) == 0 || !strings.Contains(wrong[0].Error(), c.want) {
				t.Errorf("%s: %s: %v", w.Data.Name, c.plant, wrong)
			}
			if c.undo != "" {
				exec(t, conn, c.undo)
			}
		}
		delete(wrongs, w.Data.Name)
	}
	for name := range wrongs {
		t.Errorf("no workload has the data %s", name)
	}
}

// Tables that may be somebody else's are neither used nor dropped, and what an interrupted
// load has left is not taken for the whole.
func TestForeignTableOfSameName(t *testing.T) {
	server := pgtest.Server(t)
	const copiedTable, ordersTable = "CREATE TABLE bench_copied (" + accountColumns + ")", "CREATE TABLE bench_orders (customer int, number int, product int, cents int)"
	for _, c := range []struct {
		data   *Data
		sql    string
		want   string // of the error; "": they are used
		reload string // of the error of making them anew; "": that is done
	}{
		{tpchData, "CREATE TABLE orders (id int)", "is not the benchmark's", "is not the benchmark's"},
		{shop, "CREATE TABLE bench_orders (id int)", "is not the benchmark's", "is not the benchmark's"},
		{shop, ordersTable + "; INSERT INTO bench_orders VALUES (1, 1, 1, 1)", "bench_customers, bench_products is not there", ""},
		{shop, ordersTable + "; CREATE TABLE bench_customers AS SELECT 1000 AS id, 0 AS region; CREATE TABLE bench_products AS SELECT 1000 AS id, 0 AS weight", "bench_orders is there, but empty", ""},
		{inserted, "CREATE TABLE bench_rows (id int)", "is not the benchmark's", "is not the benchmark's"},
		{copied, copiedTable, "", ""},
		{copied, copiedTable + "; INSERT INTO bench_copied VALUES (7, 1, 1, '')", "would be deleted", ""},
	} {
		url := pgtest.Database(t, server)
		exec(t, pgtest.Conn(t, url), c.sql)
		store, size := &target.Store{Name: "there", URL: url}, Size{Scale: 1, Small: true}
		there, err := c.data.Loaded(t.Context(), store, size)
		if there != (c.want == "") || !there && (err == nil || !strings.Contains(err.Error(), c.want)) {
			t.Errorf("%s: %v, %v", c.sql, there, err)
		}
		err = c.data.Load(t.Context(), store, size)
		if (err == nil) != (c.reload == "") || err != nil && !strings.Contains(err.Error(), c.reload) {
			t.Errorf("%s: making it anew: %v", c.sql, err)
		}
	}
}

// The answers of a second target are compared with the first one's.
func TestTPCHAnswers(t *testing.T) {
	server := pgtest.Server(t)
	a := answers{first: map[string]firstAnswer{}}
	for i, name := range []string{"first", "same", "other"} {
		url := pgtest.Database(t, server)
		conn := pgtest.Conn(t, url)
		exec(t, conn, "CREATE TABLE lineitem AS SELECT 0.06 AS l_discount, 10 AS l_quantity, date '1994-05-05' AS l_shipdate, 100 + "+[]string{"0", "0", "1"}[i]+" AS l_extendedprice")
		err := a.compare(t.Context(), &target.Target{Name: name, URL: url}, 6, 1)
		if (err != nil) != (name == "other") {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// A reader that sees a wrong sum says so once.
func TestReaderFindsWrongSum(t *testing.T) {
	url := pgtest.Database(t, pgtest.Server(t))
	store := &target.Store{Name: "store", URL: url, Own: true}
	if err := balances.Load(t.Context(), store, Size{Scale: 1}); err != nil {
		t.Fatal(err)
	}
	conn, err := load.Dial(t.Context(), url)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	var violations []string
	atomic, shard := transferReaders[0], transferReaders[2]
	setup := Setup{Protocol: load.Simple, Size: Size{Scale: 1}, Violation: func(err error) { violations = append(violations, err.Error()) }}
	for i, sql := range []string{"", "UPDATE bench_balances SET balance = balance + 1 WHERE id = 5"} {
		if sql != "" {
			exec(t, pgtest.Conn(t, url), sql)
		}
		for _, w := range []*Workload{atomic, shard} {
			script := w.Readers.Script(setup)
			for range 2 {
				if err := script.Transaction(conn, nil); err != nil {
					t.Fatal(err)
				}
			}
		}
		if len(violations) != i {
			t.Errorf("after %q: %q", sql, violations)
		}
	}
}

// A placement is what the servers hold.
func TestPlacement(t *testing.T) {
	server := pgtest.Server(t)
	store := &target.Store{Name: "two", Servers: []string{pgtest.Database(t, server), pgtest.Database(t, server)}}
	for i, url := range store.Servers {
		conn := pgtest.Conn(t, url)
		exec(t, conn, "CREATE TABLE bench_balances (id int)")
		exec(t, conn, "INSERT INTO bench_balances SELECT n FROM generate_series(1, 1200) n WHERE n <> 9 AND (n % 3 = 0) = "+[]string{"true", "false"}[i])
	}
	p, err := PlacementOf(t.Context(), balances, store, Size{Scale: 1})
	if err != nil {
		t.Fatal(err)
	}
	for key, want := range map[int64]int{1: 1, 3: 0, 999: 0, 1000: 1, 9: -1, 1001: -1} {
		if got := p.of(key); got != want {
			t.Errorf("key %d is on %d, not %d", key, got, want)
		}
	}
	if n := len(p.keysOf(0, 30)); n != 9 {
		t.Errorf("%d keys", n)
	}
	if p, err := PlacementOf(t.Context(), balances, &target.Store{Servers: store.Servers[:1]}, Size{Scale: 1}); p != nil || err != nil {
		t.Errorf("one server: %v, %v", p, err)
	}
	rnd := rand.New(rand.NewPCG(1, 2))
	for _, keys := range AllKeys {
		d := Setup{Keys: keys, HotShare: 0.9, Placement: p}.drawer(p.within(5000))
		list := make([]int64, 3)
		for range 300 {
			d.different(rnd, list, p)
			a, b, c := p.of(list[0]), p.of(list[1]), p.of(list[2])
			if list[0] >= list[1] || list[1] >= list[2] || a == b && b == c {
				t.Fatalf("%s: keys %v of shards %d, %d, %d", keys, list, a, b, c)
			}
		}
	}
}

// A load that is interrupted, or fails, leaves no part of the tables.
func TestLoadLeavesNothing(t *testing.T) {
	url := pgtest.Database(t, pgtest.Server(t))
	conn := pgtest.Conn(t, url)
	store := &target.Store{Name: "there", URL: url}
	ctx, cancel := context.WithCancel(t.Context())
	began := time.AfterFunc(50*time.Millisecond, cancel)
	defer began.Stop()
	if err := accounts.Load(ctx, store, Size{Scale: 1000}); err == nil {
		t.Error("a hundred million rows in a twentieth of a second")
	}
	exec(t, conn, "CREATE VIEW bench_orders AS SELECT 1 AS customer, 1 AS number, 1 AS product, 1 AS cents")
	if err := shop.Load(t.Context(), store, Size{Scale: 1, Small: true}); err == nil {
		t.Error("a view was replaced")
	}
	var left int
	if err := conn.QueryRow(t.Context(), "SELECT count(*) FROM pg_tables WHERE schemaname = 'public'").Scan(&left); err != nil || left > 0 {
		t.Errorf("%d tables are left, %v", left, err)
	}
}
