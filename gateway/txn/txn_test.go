package txn

import (
	"context"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/shardgate/shardgate/gateway/localpg/pgtest"
	"github.com/shardgate/shardgate/gateway/pool"
	"github.com/shardgate/shardgate/wire"
)

func TestMain(m *testing.M) { pgtest.Main(m) }

// fixture is a cluster of fresh databases with the table t(id, v) on each.
type fixture struct {
	t        *testing.T
	urls     []string
	pools    *pool.Pools
	register *Register
	conns    []*pgx.Conn // for looking, one for each shard
}

func newFixture(t *testing.T, shards int) *fixture {
	t.Helper()
	f := &fixture{t: t}
	_, f.urls = pgtest.Databases(t, pgtest.Servers(t, shards)...)
	f.pools = f.newPools()
	var err error
	if f.register, err = Install(context.Background(), f.pools, 0, "shardgate"); err != nil {
		t.Fatal(err)
	}
	for _, u := range f.urls {
		c := pgtest.Conn(t, u)
		f.conns = append(f.conns, c)
		f.exec(len(f.conns)-1, "CREATE TABLE t (id int PRIMARY KEY, v int)")
		f.exec(len(f.conns)-1, "GRANT ALL ON t TO PUBLIC")
	}
	return f
}

func (f *fixture) newPools() *pool.Pools {
	var shards []*pool.Shard
	for i, u := range f.urls {
		cfg, err := pgconn.ParseConfig(u)
		if err != nil {
			f.t.Fatal(err)
		}
		shards = append(shards, &pool.Shard{Index: i, Name: fmt.Sprintf("s%d", i+1), Config: cfg})
	}
	p := pool.NewPools(shards, pool.Options{Size: 10, AcquireTimeout: 5 * time.Second, ConnectTimeout: 5 * time.Second,
		IdleTimeout: time.Minute, MaxLifetime: time.Hour, PreparedStatements: 10})
	f.t.Cleanup(p.Close)
	return p
}

func (f *fixture) exec(shard int, sql string) {
	f.t.Helper()
	if _, err := f.conns[shard].Exec(context.Background(), sql); err != nil {
		f.t.Fatalf("%s on shard %d: %v", sql, shard, err)
	}
}

func (f *fixture) count(shard int, query string) (n int) {
	f.t.Helper()
	if err := f.conns[shard].QueryRow(context.Background(), query).Scan(&n); err != nil {
		f.t.Fatalf("%s: %v", query, err)
	}
	return n
}

// begin opens a transaction on a shard that has inserted a row.
func (f *fixture) begin(shard, id int, role string) *pool.Conn {
	f.t.Helper()
	c, err := f.pools.Pool(shard, role).Get()
	if err != nil {
		f.t.Fatal(err)
	}
	for _, sql := range []string{"BEGIN", fmt.Sprintf("INSERT INTO t VALUES (%d, 0)", id)} {
		if _, err := c.Query(sql); err != nil {
			f.t.Fatal(err)
		}
	}
	return c
}

func (f *fixture) writers(id int, shards ...int) []Participant {
	var out []Participant
	for _, s := range shards {
		out = append(out, Participant{Conn: f.begin(s, id, "postgres"), Wrote: true})
	}
	return out
}

// expect checks on how many shards the row is, and that nothing is prepared.
func (f *fixture) expect(id, want int) {
	f.t.Helper()
	got := 0
	for i := range f.conns {
		got += f.count(i, fmt.Sprintf("SELECT count(*) FROM t WHERE id = %d", id))
		if n := f.count(i, "SELECT count(*) FROM pg_prepared_xacts WHERE database = current_database()"); n != 0 {
			f.t.Errorf("%d prepared transactions on shard %d", n, i)
		}
	}
	if got != want {
		f.t.Errorf("row %d is on %d shards, want %d", id, got, want)
	}
}

func (f *fixture) recover() {
	f.t.Helper()
	if _, err := f.register.Recover(context.Background(), 0, slog.New(slog.DiscardHandler)); err != nil {
		f.t.Fatal(err)
	}
}

func TestCommit(t *testing.T) {
	f := newFixture(t, 3)
	for id, shards := range [][]int{{0}, {2}, {0, 1}, {1, 2}, {0, 1, 2}} {
		out := f.register.Commit(NewID, f.writers(id, shards...))
		if out.Err != nil || len(out.Unfinished) > 0 {
			t.Fatalf("%v: %v", shards, out)
		}
		f.expect(id, len(shards))
	}
	f.recover() // clears what is carried out
	for i := range f.conns {
		if n := f.count(i, "SELECT count(*) FROM shardgate.decisions"); n != 0 {
			t.Errorf("%d decisions are left on shard %d", n, i)
		}
	}
}

// A reader takes no part in two-phase commit.
func TestCommitWithReader(t *testing.T) {
	f := newFixture(t, 2)
	parts := f.writers(1, 0)
	r, err := f.pools.Pool(1, "postgres").Get()
	if err != nil {
		t.Fatal(err)
	}
	r.Query("BEGIN")
	r.Query("SELECT 1")
	if out := f.register.Commit(NewID, append(parts, Participant{Conn: r})); out.Err != nil {
		t.Fatal(out.Err)
	}
	if r.Status != 'I' {
		t.Errorf("the reader's status is %c", r.Status)
	}
	f.expect(1, 1)
}

// PREPARE TRANSACTION in a failed transaction answers ROLLBACK, and no error.
func TestCommitOfFailedTransaction(t *testing.T) {
	f := newFixture(t, 3)
	for broken := range 3 {
		parts := f.writers(broken, 0, 1, 2)
		parts[broken].Conn.Query("SELECT 1/0")
		out := f.register.Commit(NewID, parts)
		if out.Err == nil || out.Unknown {
			t.Fatalf("shard %d: %+v", broken, out)
		}
		f.expect(broken, 0)
	}
}

// A deferred constraint fails at PREPARE on one shard, at COMMIT on the decider.
func TestDeferredConstraint(t *testing.T) {
	f := newFixture(t, 3)
	for i := range f.conns {
		f.exec(i, "ALTER TABLE t ADD CONSTRAINT u UNIQUE (v) DEFERRABLE INITIALLY DEFERRED")
		f.exec(i, "INSERT INTO t VALUES (1000, 7)")
	}
	for bad := range 3 {
		parts := f.writers(bad, 0, 1, 2)
		if _, err := parts[bad].Conn.Query(fmt.Sprintf("UPDATE t SET v = 7 WHERE id = %d", bad)); err != nil {
			t.Fatal(err)
		}
		out := f.register.Commit(NewID, parts)
		if out.Err == nil || out.Err.Code != "23505" {
			t.Fatalf("shard %d: %+v", bad, out.Err)
		}
		f.expect(bad, 0)
	}
}

func TestUnpreparable(t *testing.T) {
	f := newFixture(t, 3)
	parts := f.writers(1, 0, 1, 2)
	parts[2].Conn.Query("CREATE TEMP TABLE x (a int)")
	parts[2].Unpreparable = true
	if out := f.register.Commit(NewID, parts); out.Err != nil {
		t.Fatal(out.Err)
	}
	f.expect(1, 3)
	// Two that may be: it is the server of the second that knows.
	parts = f.writers(2, 0, 1, 2)
	parts[1].Conn.Query("CREATE TEMP TABLE x (a int)")
	parts[1].Unpreparable, parts[2].Unpreparable = true, true
	if out := f.register.Commit(NewID, parts); out.Err != nil {
		t.Fatal(out.Err)
	}
	f.expect(2, 3)
	parts = f.writers(3, 0, 1, 2)
	parts[1].Conn.Query("CREATE TEMP TABLE y (a int)")
	parts[2].Conn.Query("CREATE TEMP TABLE y (a int)")
	parts[1].Unpreparable, parts[2].Unpreparable = true, true
	if out := f.register.Commit(NewID, parts); out.Err == nil || out.Err.Code != wire.FeatureNotSupported {
		t.Fatalf("%+v", out.Err)
	}
	f.expect(3, 0)
}

// prepare leaves a transaction as a coordinator does that dies after PREPARE.
func (f *fixture) prepare(id int, role string) (txid, backend string, decider *pool.Conn) {
	f.t.Helper()
	decider = f.begin(0, id, role)
	txid = randomHex(16)
	backend = fmt.Sprintf("%d.%s", decider.PID, decider.BackendStart)
	for i := 1; i < len(f.urls); i++ {
		c := f.begin(i, id, role)
		name := gid{f.register.Cluster, "s1", txid, f.pools.Shards[i].Name, backend}.String()
		if _, err := c.Query(f.register.fenceCall(c, name) + ";PREPARE TRANSACTION '" + name + "'"); err != nil {
			f.t.Fatal(err)
		}
		c.Put()
	}
	return txid, backend, decider
}

// decideSQL is a coordinator's decision without its COMMIT.
func (f *fixture) decideSQL(txid, backend string) string {
	return fmt.Sprintf("INSERT INTO shardgate.decisions (txid, committed, backend) VALUES ('%s', true, '%s')", txid, backend)
}

func TestRecoverUndecided(t *testing.T) {
	f := newFixture(t, 3)
	txid, backend, decider := f.prepare(1, "postgres")
	f.recover()
	f.expect(1, 0)
	// The coordinator was only slow: it can't decide any more.
	if _, err := decider.Query(f.decideSQL(txid, backend)); !isCode(err, "23505") {
		t.Fatalf("the decision after recovery: %v", err)
	}
	Rollback([]*pool.Conn{decider})
	decider.Put()
	f.expect(1, 0)
}

func TestRecoverDecided(t *testing.T) {
	f := newFixture(t, 3)
	txid, backend, decider := f.prepare(1, "postgres")
	for _, sql := range []string{f.decideSQL(txid, backend), "COMMIT"} {
		if _, err := decider.Query(sql); err != nil {
			t.Fatal(err)
		}
	}
	decider.Put()
	f.recover()
	f.expect(1, 3)
	f.recover()
	f.expect(1, 3)
}

// Recovery that meets the coordinator's decision under way waits for it.
func TestRecoverDuringDecision(t *testing.T) {
	for _, commits := range []bool{true, false} {
		f := newFixture(t, 3)
		txid, backend, decider := f.prepare(1, "postgres")
		if _, err := decider.Query(f.decideSQL(txid, backend)); err != nil {
			t.Fatal(err)
		}
		var wg sync.WaitGroup
		wg.Go(f.recover)
		// The recovery's INSERT waits for the coordinator's transaction.
		for f.count(0, "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND query LIKE 'INSERT INTO shardgate%' AND datname = current_database()") == 0 {
			time.Sleep(5 * time.Millisecond)
		}
		want := 0
		if commits {
			want = 3
			decider.Query("COMMIT")
		} else {
			decider.Query("ROLLBACK")
		}
		wg.Wait()
		decider.Put()
		f.expect(1, want)
	}
}

// Two gateways that recover at once do no harm to each other.
func TestRecoverTwice(t *testing.T) {
	f := newFixture(t, 3)
	other, err := Install(context.Background(), f.newPools(), 0, "shardgate")
	if err != nil {
		t.Fatal(err)
	}
	for id := range 10 {
		txid, backend, decider := f.prepare(id, "postgres")
		if id%2 == 0 {
			decider.Query(f.decideSQL(txid, backend))
			decider.Query("COMMIT")
		} else {
			Rollback([]*pool.Conn{decider})
		}
		decider.Put()
	}
	var wg sync.WaitGroup
	for _, r := range []*Register{f.register, other} {
		wg.Go(func() {
			if _, err := r.Recover(context.Background(), 0, slog.New(slog.DiscardHandler)); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	for id := range 10 {
		f.expect(id, 3*((id+1)%2))
	}
}

// What isn't this cluster's is left alone, and what is recent too.
func TestRecoverLeavesAlone(t *testing.T) {
	f := newFixture(t, 2)
	names := []string{"an application's own", gid{"0badc0de", "s1", randomHex(16), "s2", "1.1"}.String()}
	for i, name := range names {
		c := f.begin(1, 100+i, "postgres")
		if _, err := c.Query("PREPARE TRANSACTION '" + strings.ReplaceAll(name, "'", "''") + "'"); err != nil {
			t.Fatal(err)
		}
		c.Put()
	}
	f.recover()
	if n := f.count(1, "SELECT count(*) FROM pg_prepared_xacts WHERE database = current_database()"); n != 2 {
		t.Errorf("%d of 2 foreign transactions are left", n)
	}
	_, _, decider := f.prepare(1, "postgres")
	if n, err := f.register.Recover(context.Background(), time.Hour, slog.New(slog.DiscardHandler)); err != nil || n != 0 {
		t.Errorf("recovery took %d recent transactions (%v)", n, err)
	}
	Rollback([]*pool.Conn{decider})
	decider.Put()
	f.recover()
	for _, name := range names {
		f.exec(1, "ROLLBACK PREPARED '"+strings.ReplaceAll(name, "'", "''")+"'")
	}
	f.expect(1, 0)
}

// A role without any right on the register can take part, and its orphans are
// finished as that role.
func TestOrdinaryRole(t *testing.T) {
	f := newFixture(t, 3)
	const role = "txn_ordinary"
	for i := range f.conns {
		f.exec(i, "CREATE ROLE "+role+" LOGIN")
		defer func() { f.exec(i, "DROP OWNED BY "+role); f.exec(i, "DROP ROLE "+role) }()
	}
	var parts []Participant
	for i := range 3 {
		parts = append(parts, Participant{Conn: f.begin(i, 1, role), Wrote: true})
	}
	if out := f.register.Commit(NewID, parts); out.Err != nil {
		t.Fatal(out.Err)
	}
	for _, p := range parts {
		p.Conn.Put()
	}
	f.expect(1, 3)
	_, _, decider := f.prepare(2, role)
	Rollback([]*pool.Conn{decider})
	decider.Put()
	f.recover()
	f.expect(2, 0)
	f.pools.Close()
	for i := range f.conns {
		f.exec(i, "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = '"+role+"'")
	}
}

// SET LOCAL ROLE holds until a transaction is prepared, and is over when that is to be finished.
func TestLocalRole(t *testing.T) {
	f := newFixture(t, 3)
	roles := []string{"txn_login", "txn_set", "txn_local"}
	for i := range f.conns {
		f.exec(i, "CREATE ROLE txn_login LOGIN; CREATE ROLE txn_set; CREATE ROLE txn_local; GRANT txn_set, txn_local TO txn_login")
		defer func() { f.exec(i, "DROP ROLE "+strings.Join(roles, ", ")) }()
	}
	id := 0
	for _, set := range []string{"SET ROLE NONE", "SET ROLE txn_set"} {
		for _, fails := range []bool{false, true} {
			id++
			var parts []Participant
			for i := range 3 {
				c := f.begin(i, id, roles[0])
				for _, sql := range []string{set, "SET LOCAL ROLE txn_local"} {
					if _, err := c.Query(sql); err != nil {
						t.Fatal(err)
					}
				}
				parts = append(parts, Participant{Conn: c, Wrote: true})
			}
			if fails {
				parts[1].Conn.Query("SELECT 1/0")
			}
			out := f.register.Commit(NewID, parts)
			if (out.Err != nil) != fails || len(out.Unfinished) > 0 {
				t.Errorf("%+v", out)
			}
			want := 3
			if fails {
				want = 0
			}
			f.expect(id, want)
			for i, p := range parts {
				res, err := p.Conn.Query("SHOW role")
				if want := strings.ToLower(strings.TrimPrefix(set, "SET ROLE ")); err != nil || !fails && res.Value(0) != want {
					t.Errorf("shard %d: %v, %v", i, res, err)
				}
				p.Conn.Close()
			}
		}
	}
}

// A server that is another shard, or another cluster's, is not taken.
func TestIdentity(t *testing.T) {
	f := newFixture(t, 2)
	f.urls[0], f.urls[1] = f.urls[1], f.urls[0]
	if _, err := Install(context.Background(), f.newPools(), 0, "shardgate"); err == nil || !strings.Contains(err.Error(), "exchanged") {
		t.Errorf("exchanged servers: %v", err)
	}
	g := newFixture(t, 2)
	g.urls[1] = f.urls[0] // shard s2 of the other cluster
	if _, err := Install(context.Background(), g.newPools(), 0, "shardgate"); err == nil || !strings.Contains(err.Error(), "another cluster") {
		t.Errorf("another cluster's server: %v", err)
	}
}

func TestGid(t *testing.T) {
	g := gid{"c1", "s1", randomHex(16), strings.Repeat("x", 32), "1234567.1234567890123456"}
	if got, ok := parseGid(g.String()); !ok || got != g {
		t.Errorf("%v", got)
	}
	// PostgreSQL's GIDSIZE is 200 with the terminating zero.
	long := gid{strings.Repeat("c", 32) + "-" + randomHex(4), strings.Repeat("d", 32), randomHex(16), strings.Repeat("p", 32), "4294967295.9223372036854775807"}
	if n := len(long.String()); n > 199 {
		t.Errorf("a gid can have %d octets", n)
	}
	for _, s := range []string{"", "sg1:", "sg1:a:b:c:d", "sg1:a:b:c:d:e:f", "sg2:a:b:c:d:e"} {
		if _, ok := parseGid(s); ok {
			t.Errorf("%q was read as a gid", s)
		}
	}
}

// Recovery goes on where clients are to change nothing.
func TestRecoverReadOnly(t *testing.T) {
	f := newFixture(t, 3)
	txid, backend, decider := f.prepare(1, "postgres")
	for _, sql := range []string{f.decideSQL(txid, backend), "COMMIT"} {
		if _, err := decider.Query(sql); err != nil {
			t.Fatal(err)
		}
	}
	decider.Put()
	_, _, undecided := f.prepare(2, "postgres")
	Rollback([]*pool.Conn{undecided})
	undecided.Put()
	for i := range f.conns {
		var name string
		if err := f.conns[i].QueryRow(context.Background(), "SELECT current_database()").Scan(&name); err != nil {
			t.Fatal(err)
		}
		f.exec(i, "ALTER DATABASE "+name+" SET default_transaction_read_only = on")
	}
	f.recover()
	f.expect(1, 3)
	f.expect(2, 0)
}
