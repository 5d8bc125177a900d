package workload

import (
	"context"
	"io"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/shardgate/shardgate/bench/load"
	"github.com/shardgate/shardgate/bench/target"
	"github.com/shardgate/shardgate/gateway/localpg/pgtest"
)

func TestMain(m *testing.M) { pgtest.Main(m) }

// ran loads a store, runs pgbench's transaction there, and returns the state before and
// what has been done.
func ran(t *testing.T) (*target.Store, *State, map[string]Tally) {
	t.Helper()
	url := pgtest.Database(t, pgtest.Server(t))
	store := &target.Store{Name: "store", URL: url, Servers: []string{url}, Own: true}
	ctx := t.Context()
	if err := accounts.Load(ctx, store, Size{Scale: 1}); err != nil {
		t.Fatal(err)
	}
	before, err := accounts.State(ctx, store)
	if err != nil {
		t.Fatal(err)
	}
	done := map[string]Tally{}
	for _, p := range load.Protocols {
		o := load.Options{URL: url, Clients: 3, Seed: 1, Script: func(client int) load.Script {
			return pgbench.Script(Setup{Protocol: p, Batch: 3, Size: Size{Scale: 1}, Keys: Uniform, Client: client})
		}}
		if p.NeedsPrepare() {
			o.Prepare = pgbench.Statements
		}
		cs, err := load.Open(ctx, o)
		if err != nil {
			t.Fatal(err)
		}
		r, err := cs.Run(ctx, 100*time.Millisecond)
		cs.Close()
		if err != nil || r.Errors.Total() > 0 || r.Committed == 0 {
			t.Fatalf("%s: %d committed, %v, %v", p, r.Committed, r.Errors, err)
		}
		done[pgbench.Name] = done[pgbench.Name].Add(r)
	}
	return store, before, done
}

func check(t *testing.T, store *target.Store, before *State, done map[string]Tally) string {
	t.Helper()
	after, err := accounts.State(t.Context(), store)
	if err != nil {
		t.Fatal(err)
	}
	var all []string
	for _, err := range before.Check(after, done) {
		all = append(all, err.Error())
	}
	return strings.Join(all, "; ")
}

// The invariants hold after a run, and each way in which they can be broken is noticed.
func TestInvariants(t *testing.T) {
	store, before, done := ran(t)
	if wrong := check(t, store, before, done); wrong != "" {
		t.Fatalf("after a good run: %s", wrong)
	}
	conn := pgtest.Conn(t, store.URL)
	for _, c := range []struct{ plant, undo, want string }{
		{"UPDATE pgbench_accounts SET abalance = abalance + 1 WHERE aid = 77", "UPDATE pgbench_accounts SET abalance = abalance - 1 WHERE aid = 77", "the sums differ"},
		{"UPDATE pgbench_tellers SET tbalance = tbalance + 1 WHERE tid = 7", "UPDATE pgbench_tellers SET tbalance = tbalance - 1 WHERE tid = 7", "the sums differ"},
		{"UPDATE pgbench_branches SET bbalance = bbalance - 3", "UPDATE pgbench_branches SET bbalance = bbalance + 3", "the sums differ"},
		{"INSERT INTO pgbench_history (delta) VALUES (5)", "DELETE FROM pgbench_history WHERE tid IS NULL", "the sums differ"},
		{"INSERT INTO pgbench_history (delta) VALUES (0)", "DELETE FROM pgbench_history WHERE tid IS NULL", "the history has"},
	} {
		exec(t, conn, c.plant)
		if wrong := check(t, store, before, done); !strings.Contains(wrong, c.want) {
			t.Errorf("%s: %q", c.plant, wrong)
		}
		exec(t, conn, c.undo)
	}
	// A commit that was counted and is not there, and one that may be there and is.
	n := done[pgbench.Name]
	if wrong := check(t, store, before, map[string]Tally{pgbench.Name: {Committed: n.Committed + 1}}); !strings.Contains(wrong, "the history has") {
		t.Errorf("a lost commit: %q", wrong)
	}
	if wrong := check(t, store, before, map[string]Tally{pgbench.Name: {Committed: n.Committed - 2, Unknown: 3}}); wrong != "" {
		t.Errorf("unknown outcomes: %q", wrong)
	}
	if wrong := check(t, store, before, map[string]Tally{}); !strings.Contains(wrong, "the history has") {
		t.Errorf("commits of nobody: %q", wrong)
	}
}

func TestPreparedTransactionIsNoticed(t *testing.T) {
	none := make([]int64, 5)
	s := (&State{data: accounts, sums: none}).Check(&State{data: accounts, sums: none, prepared: 2}, nil)
	if len(s) != 1 || !strings.Contains(s[0].Error(), "2 transactions are still prepared") {
		t.Errorf("%v", s)
	}
	url := pgtest.Database(t, pgtest.Server(t))
	conn := pgtest.Conn(t, url)
	for _, sql := range []string{"CREATE TABLE t (a int)", "BEGIN", "INSERT INTO t VALUES (1)", "PREPARE TRANSACTION 'left'"} {
		exec(t, conn, sql)
	}
	if n, err := preparedAt(t.Context(), url); n != 1 || err != nil {
		t.Errorf("%d prepared, %v", n, err)
	}
	// One that is finished in time is none that is left.
	finished := make(chan struct{})
	go func() {
		defer close(finished)
		time.Sleep(150 * time.Millisecond)
		conn.Exec(context.Background(), "COMMIT PREPARED 'left'")
	}()
	if n, err := preparedTransactions(t.Context(), &target.Store{Servers: []string{url}}); n != 0 || err != nil {
		t.Errorf("%d prepared, %v", n, err)
	}
	<-finished
}

func exec(t *testing.T, conn *pgx.Conn, sql string) {
	t.Helper()
	if _, err := conn.Exec(t.Context(), sql); err != nil {
		t.Fatalf("%s: %v", sql, err)
	}
}

func TestLoaded(t *testing.T) {
	url := pgtest.Database(t, pgtest.Server(t))
	store := &target.Store{Name: "store", URL: url}
	ctx := t.Context()
	if there, err := accounts.Loaded(ctx, store, Size{Scale: 1}); there || err != nil {
		t.Fatalf("an empty database: %v, %v", there, err)
	}
	if err := accounts.Load(ctx, store, Size{Scale: 1}); err != nil {
		t.Fatal(err)
	}
	if there, err := accounts.Loaded(ctx, store, Size{Scale: 1}); !there || err != nil {
		t.Fatalf("loaded: %v, %v", there, err)
	}
	if _, err := accounts.Loaded(ctx, store, Size{Scale: 2}); err == nil || !strings.Contains(err.Error(), "--scale") {
		t.Fatalf("too small: %v", err)
	}
	db, err := connect(ctx, url)
	if err != nil {
		t.Fatal(err)
	}
	defer db.close()
	for table, want := range map[string]int64{"accounts": accountsPerBranch, "tellers": tellersPerBranch, "branches": 1, "history": 0} {
		if n, err := db.numbers(ctx, "SELECT count(*) FROM pgbench_"+table); err != nil || n[0] != want {
			t.Errorf("%s: %v rows, not %d: %v", table, n, want, err)
		}
	}
	if n, err := db.numbers(ctx, "SELECT count(*) FROM pgbench_accounts WHERE filler = '' AND bid = 1 AND abalance = aid::int8 * 7919 % 10001 - 5000"); err != nil || n[0] != accountsPerBranch {
		t.Errorf("%v accounts as they are made, %v", n, err)
	}
}

func TestRows(t *testing.T) {
	for _, c := range accountTables[:3] {
		b, err := io.ReadAll(&oneByte{&rows{last: 11, row: c.row}})
		if err != nil || strings.Count(string(b), "\n") != 11 || !strings.HasPrefix(string(b), "1\t") {
			t.Errorf("%s: %q, %v", c.name, b, err)
		}
	}
}

// oneByte reads byte by byte.
type oneByte struct{ r io.Reader }

func (o *oneByte) Read(p []byte) (int, error) { return o.r.Read(p[:1]) }

func TestByName(t *testing.T) {
	list, err := ByName([]string{"pgbench", "select-by-key"})
	if err != nil || len(list) != 2 || list[0] != selectByKey {
		t.Errorf("%v, %v", list, err)
	}
	if _, err := ByName([]string{"nothing"}); err == nil || !strings.Contains(err.Error(), "select-by-key") {
		t.Errorf("%v", err)
	}
	seen := map[string]bool{}
	for _, w := range All {
		if w.Name == "" || w.About == "" || w.Data == nil || w.Connecting == 0 && w.Script == nil || w.Clients < 1 || seen[w.Name] {
			t.Errorf("%+v", w)
		}
		seen[w.Name] = true
	}
}
