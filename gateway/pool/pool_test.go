package pool

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
	"go.uber.org/goleak"

	"github.com/shardgate/shardgate/gateway/localpg/pgtest"
	"github.com/shardgate/shardgate/wire"
)

func TestMain(m *testing.M) { pgtest.Main(m) }

// newPools makes pools of the database at url, and closes them at the end.
func newPools(t *testing.T, url string, change func(*Options, *pgconn.Config)) *Pools {
	t.Helper()
	cfg, err := pgconn.ParseConfig(url)
	if err != nil {
		t.Fatal(err)
	}
	o := Options{Size: 3, AcquireTimeout: 10 * time.Second, ConnectTimeout: 10 * time.Second,
		IdleTimeout: time.Minute, MaxLifetime: time.Hour, PreparedStatements: 3}
	if change != nil {
		change(&o, cfg)
	}
	p := NewPools([]*Shard{{Name: "one", Config: cfg}}, o)
	t.Cleanup(p.Close)
	return p
}

// newPool is the pool of the superuser in a database of the test's own.
func newPool(t *testing.T, change func(*Options, *pgconn.Config)) (*Pools, *Pool) {
	t.Helper()
	p := newPools(t, pgtest.Database(t, pgtest.Server(t)), change)
	return p, p.Pool(0, p.Shards[0].Config.User)
}

func get(t *testing.T, p *Pool) *Conn {
	t.Helper()
	c, err := p.Get()
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func query(t *testing.T, c *Conn, sql string) string {
	t.Helper()
	res, err := c.QueryTimeout(sql, 10*time.Second)
	if err != nil {
		t.Fatalf("%s: %v", sql, err)
	}
	return res.Value(0)
}

func (p *Pool) counts() (open, idle, waiting int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.open, len(p.idle), len(p.waiters)
}

func expect(t *testing.T, p *Pool, open, idle int) {
	t.Helper()
	if o, i, w := p.counts(); o != open || i != idle || w != 0 {
		t.Errorf("%d connections open, %d idle, %d waiting; not %d and %d", o, i, w, open, idle)
	}
}

// awaitWaiting returns when n clients wait for a connection.
func awaitWaiting(t *testing.T, p *Pool, n int) {
	t.Helper()
	for range 1000 {
		if _, _, w := p.counts(); w == n {
			return
		}
		time.Sleep(5 * time.Millisecond)
	}
	t.Fatal("nobody waits")
}

func TestConnectionsAreReused(t *testing.T) {
	pools, p := newPool(t, nil)
	c := get(t, p)
	if c.BackendStart == "" || c.PID == 0 || query(t, c, "SELECT pg_backend_pid()") != fmt.Sprint(c.PID) {
		t.Error(c.BackendStart, c.PID)
	}
	expect(t, p, 1, 0)
	c.Put()
	expect(t, p, 1, 1)
	if again := get(t, p); again != c {
		t.Error("another connection was dialled")
	}
	second := get(t, p)
	c.Put()
	second.Put()
	if last := get(t, p); last != second {
		t.Error("not the one used last")
	} else {
		last.Put()
	}
	if s := pools.Stats(); len(s) != 1 || s[0] != (Stats{"one", p.config.User, 2, 2, 0}) {
		t.Errorf("%+v", s)
	}
}

// A server to which writing is slow while the connection is made, as on a busy machine,
// gives its first answers to us.
func TestSlowConnecting(t *testing.T) {
	_, p := newPool(t, func(_ *Options, cfg *pgconn.Config) {
		cfg.DialFunc = func(ctx context.Context, network, address string) (net.Conn, error) {
			nc, err := (&net.Dialer{}).DialContext(ctx, network, address)
			return &slowWrite{Conn: nc}, err
		}
	})
	c := get(t, p)
	defer c.Put()
	late := time.AfterFunc(10*time.Second, func() { c.Close() })
	defer late.Stop()
	if res, err := c.Query("SELECT 17"); err != nil || res.Value(0) != "17" {
		t.Errorf("%v, %v", res, err)
	}
}

// slowWrite is late to say that the first write is done.
type slowWrite struct {
	net.Conn
	written bool
}

func (s *slowWrite) Write(b []byte) (int, error) {
	n, err := s.Conn.Write(b)
	if !s.written {
		s.written = true
		time.Sleep(100 * time.Millisecond) // the server has answered meanwhile
	}
	return n, err
}

// Whatever clients do with their connections, there are never more than allowed,
// nobody gets one that another uses or has left in a transaction, and none is lost
// from the account.
func TestLoad(t *testing.T) {
	const size = 3
	_, p := newPool(t, func(o *Options, _ *pgconn.Config) { o.Size = size })
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	var used sync.Map
	var inUse, gets atomic.Int64
	var wg sync.WaitGroup
	for i := range 10 {
		wg.Go(func() {
			rng := rand.New(rand.NewPCG(seed, uint64(i)))
			for range 40 {
				c, err := p.Get()
				if err != nil {
					t.Error(err)
					return
				}
				gets.Add(1)
				if n := inUse.Add(1); n > size {
					t.Errorf("%d connections in use", n)
				}
				if _, double := used.LoadOrStore(c, true); double {
					t.Error("a connection is used twice")
				}
				if c.Status != 'I' || c.Ready != 0 || c.Broken {
					t.Errorf("not clean: %q, %d, %v", c.Status, c.Ready, c.Broken)
				}
				if res, err := c.Query("SELECT now() = statement_timestamp(), pg_backend_pid()"); err != nil || res.Value(0) != "t" || res.Value(1) != fmt.Sprint(c.PID) {
					t.Error("in somebody's transaction", err)
				}
				how := rng.IntN(10)
				switch how {
				case 0:
					_, _ = c.Query("BEGIN")
				case 1:
					c.SendQuery("SELECT 1")
				case 2:
					_ = c.Fail(errors.New("as asked"))
				case 3:
					c.Tainted = true
				case 4:
					_, _ = c.Query("SELECT 1/0") // an error outside a transaction is no harm
				}
				used.Delete(c)
				inUse.Add(-1)
				if how == 5 {
					c.Discard()
				} else {
					c.Put()
				}
			}
		})
	}
	wg.Wait()
	open, idle, waiting := p.counts()
	if open != idle || open > size || waiting != 0 {
		t.Errorf("%d open, %d idle, %d waiting after %d uses", open, idle, waiting, gets.Load())
	}
}

func TestWaiting(t *testing.T) {
	_, p := newPool(t, func(o *Options, _ *pgconn.Config) { o.Size, o.AcquireTimeout = 1, 150*time.Millisecond })
	c := get(t, p)
	began := time.Now()
	_, err := p.Get()
	var e *wire.Error
	if !errors.As(err, &e) || e.Code != wire.TooManyConnections || e.Hint == "" || time.Since(began) < 100*time.Millisecond {
		t.Error(err, time.Since(began))
	}
	expect(t, p, 1, 0)
	p.opts.AcquireTimeout = 10 * time.Second
	for name, giveBack := range map[string]func(){"Put": func() { c.Put() }, "Discard": func() { c.Discard() }} {
		got := make(chan *Conn, 1)
		go func() { // ends when the connection is given back
			d, err := p.Get()
			if err != nil {
				t.Error(err)
			}
			got <- d
		}()
		awaitWaiting(t, p, 1)
		giveBack()
		d := <-got
		if d == nil || (d == c) != (name == "Put") {
			t.Fatalf("after %s, the waiting client got another connection than it should", name)
		}
		expect(t, p, 1, 0)
		if c = d; query(t, c, "SELECT 1") != "1" {
			t.Error("not usable")
		}
	}
	c.Put()
	expect(t, p, 1, 1)
}

func TestUncleanConnectionsAreClosed(t *testing.T) {
	pools, p := newPool(t, nil)
	for name, spoil := range map[string]func(c *Conn){
		"in a transaction":     func(c *Conn) { query(t, c, "BEGIN") },
		"in a failed one":      func(c *Conn) { query(t, c, "BEGIN"); _, _ = c.Query("SELECT 1/0") },
		"an answer to come":    func(c *Conn) { c.SendQuery("SELECT 1"); c.Flush() },
		"output not sent":      func(c *Conn) { c.Send(wire.AppendSync(nil)) },
		"input not read":       func(c *Conn) { c.SendQuery("SELECT 1"); c.Flush(); c.Peek(); c.Ready = 0 },
		"broken":               func(c *Conn) { c.Fail(errors.New("as asked")) },
		"too old":              func(c *Conn) { c.since = time.Now().Add(-2 * time.Hour) },
		"can't be reset":       func(c *Conn) { c.Tainted = true; c.NetConn().Close() },
		"tainted in the midst": func(c *Conn) { c.Tainted = true; query(t, c, "BEGIN") },
		"closed by the server": func(c *Conn) { _, _ = c.Query("SELECT pg_terminate_backend(pg_backend_pid())") },
	} {
		c := get(t, p)
		spoil(c)
		c.Put()
		if open, idle, _ := p.counts(); open != 0 || idle != 0 {
			t.Errorf("%s: %d open, %d idle", name, open, idle)
		}
		if _, err := c.NetConn().Write([]byte{'S'}); err == nil {
			t.Errorf("%s: not closed", name)
		}
	}
	// Neither does one that belongs to no pool touch the account.
	c, err := pools.Admin(context.Background(), 0)
	if err != nil || query(t, c, "SELECT 1") != "1" {
		t.Fatal(err)
	}
	c.Close()
	expect(t, p, 0, 0)
}

func TestTaintedConnectionsAreReset(t *testing.T) {
	_, p := newPool(t, nil)
	c := get(t, p)
	query(t, c, "SET work_mem = '5MB'; PREPARE p AS SELECT 1; CREATE TEMP TABLE tmp (); SELECT pg_advisory_lock(1)")
	c.Vars = (*Vars)(nil).With("work_mem", "5MB")
	c.Remember(7)
	c.Tainted = true
	c.Put()
	expect(t, p, 1, 1)
	d := get(t, p)
	defer d.Put()
	if d != c || d.Tainted || d.Vars != nil || d.Has(7) {
		t.Errorf("%+v", d)
	}
	if s := query(t, c, "SELECT current_setting('work_mem') || (SELECT count(*) FROM pg_prepared_statements) || (SELECT count(*) FROM pg_locks WHERE locktype = 'advisory') || coalesce(to_regclass('tmp')::text, '')"); strings.HasPrefix(s, "5MB") || !strings.HasSuffix(s, "00") {
		t.Errorf("left on the connection: %s", s)
	}
}

// After a restart of the server, its clients don't notice the idle connections
// that it took along.
func TestServerRestarts(t *testing.T) {
	s := pgtest.NewServer(t, nil)
	pools := newPools(t, s.URL("", ""), nil)
	p := pools.Pool(0, pools.Shards[0].Config.User)
	a, b := get(t, p), get(t, p)
	a.Put()
	b.Put()
	expect(t, p, 2, 2)
	ctx, stop := context.WithTimeout(t.Context(), 60*time.Second)
	defer stop()
	if err := s.Stop(ctx); err != nil {
		t.Fatal(err)
	}
	old := time.Now().Add(-2 * checkAfter)
	a.usedAt, b.usedAt = old, old
	for range 3 {
		var e *wire.Error
		if _, err := p.Get(); !errors.As(err, &e) || e.Code != "08001" || e.Hint == "" || strings.Contains(e.Detail, "user=") {
			t.Errorf("%v", err)
		}
		expect(t, p, 0, 0)
	}
	if err := s.Restart(ctx); err != nil {
		t.Fatal(err)
	}
	c := get(t, p)
	if c == a || c == b || query(t, c, "SELECT 1") != "1" {
		t.Error("a lost connection was given out")
	}
	c.Put()
	expect(t, p, 1, 1)
	c.usedAt = old
	if again := get(t, p); again != c || query(t, again, "SELECT 1") != "1" {
		t.Error("a good connection was closed")
	}
	c.Put()
	// A server that is down fails each of those who wait.
	p.mu.Lock()
	p.size = 1
	p.mu.Unlock()
	last := get(t, p)
	if err := s.Stop(ctx); err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			if _, err := p.Get(); err == nil {
				t.Error("a connection to a server that is down")
			}
		})
	}
	awaitWaiting(t, p, 4)
	last.Discard()
	wg.Wait()
	expect(t, p, 0, 0)
	if err := s.Restart(ctx); err != nil {
		t.Fatal(err)
	}
}

func TestTerminatedIdleConnection(t *testing.T) {
	_, p := newPool(t, nil)
	a, b := get(t, p), get(t, p)
	if query(t, b, fmt.Sprintf("SELECT pg_terminate_backend(%d, 5000)", a.PID)) != "t" {
		t.Fatal("not terminated")
	}
	a.Put()
	a.usedAt = time.Now().Add(-2 * checkAfter)
	c := get(t, p)
	if c == a || query(t, c, "SELECT 1") != "1" {
		t.Error("a lost connection was given out")
	}
	expect(t, p, 2, 0)
	b.Put()
	c.Put()
	expect(t, p, 2, 2)
}

// A cancel request that is under way holds the connection back, so that it can't
// hit the next user.
func TestCancelDoesNotHitTheNextUser(t *testing.T) {
	var slow atomic.Bool
	began := make(chan struct{}, 1)
	_, p := newPool(t, func(o *Options, c *pgconn.Config) {
		o.Size = 1
		dial := c.DialFunc
		c.DialFunc = func(ctx context.Context, network, addr string) (net.Conn, error) {
			if slow.Load() {
				began <- struct{}{}
				time.Sleep(200 * time.Millisecond)
			}
			return dial(ctx, network, addr)
		}
	})
	c := get(t, p)
	slow.Store(true)
	done := make(chan error, 1)
	go func() { done <- c.Cancel() }() // ends with the request
	<-began
	at := time.Now()
	c.Put()
	if time.Since(at) < 100*time.Millisecond {
		t.Error("given back while a cancel request is under way")
	}
	d := get(t, p)
	query(t, d, "SELECT pg_sleep(0.1)")
	if err := <-done; err != nil {
		t.Error(err)
	}
	// And it does what it is for.
	d.SendQuery("SELECT pg_sleep(30)")
	if err := d.Flush(); err != nil {
		t.Fatal(err)
	}
	time.Sleep(100 * time.Millisecond)
	if err := d.Cancel(); err != nil {
		t.Error(err)
	}
	var e *wire.Error
	if _, err := d.ReadResult(); !errors.As(err, &e) || e.Code != "57014" {
		t.Error(err)
	}
	d.Put()
	expect(t, p, 1, 1)
}

func TestDefaults(t *testing.T) {
	_, p := newPool(t, func(_ *Options, c *pgconn.Config) {
		c.RuntimeParams["search_path"], c.RuntimeParams["application_name"] = "pg_temp, public", "shardgate"
	})
	check := func() {
		t.Helper()
		d, err := p.Defaults()
		if err != nil || d.SearchPath != "pg_temp, public" || d.Isolation != "read committed" || d.Params["application_name"] != "shardgate" || d.Params["server_version"] == "" {
			t.Errorf("%+v, %v", d, err)
		}
	}
	check()
	expect(t, p, 1, 1)
	// What a client sets later on the connection is no default.
	c := get(t, p)
	query(t, c, "SET application_name = 'other'; SET search_path = public")
	check()
	if c.Params["application_name"] != "other" || !c.Told {
		t.Error("the connection has not heard of it")
	}
	c.Put()
	check()
}

func TestCloseAndSweep(t *testing.T) {
	defer goleak.VerifyNone(t, append(pgtest.IgnoreServers(), goleak.IgnoreCurrent())...)
	pools, p := newPool(t, nil)
	a, b, c := get(t, p), get(t, p), get(t, p)
	a.Put()
	b.Put()
	a.usedAt = time.Now().Add(-2 * time.Minute)
	pools.Sweep()
	expect(t, p, 2, 1)
	b.since = time.Now().Add(-2 * time.Hour)
	pools.Sweep()
	expect(t, p, 1, 0)
	d := get(t, p)
	d.Put()
	pools.Close()
	expect(t, p, 1, 0)
	var e *wire.Error
	if _, err := p.Get(); !errors.As(err, &e) || e.Code != wire.AdminShutdown {
		t.Error(err)
	}
	c.Put()
	expect(t, p, 0, 0)
	if _, err := pools.Pool(0, "other").Get(); !errors.As(err, &e) || e.Code != wire.AdminShutdown {
		t.Error(err)
	}
}

// A client may have asked for a pool just before it was forgotten.
func TestSweptPoolKeepsNothing(t *testing.T) {
	pools, p := newPool(t, nil)
	pools.Sweep()
	if again := pools.Pool(0, p.config.User); again == p {
		t.Fatal("an unused pool is kept")
	}
	c := get(t, p)
	if query(t, c, "SELECT 1") != "1" {
		t.Error("not usable")
	}
	c.Put()
	expect(t, p, 0, 0)
	if _, err := c.NetConn().Write([]byte{'S'}); err == nil {
		t.Error("a connection stays open that nobody knows of")
	}
}

func TestRoles(t *testing.T) {
	s := pgtest.Server(t)
	url := pgtest.Database(t, s)
	pools := newPools(t, url, func(o *Options, _ *pgconn.Config) { o.Passwords = map[string]string{"pool_user": "secret"} })
	admin := pgtest.Conn(t, url)
	if _, err := admin.Exec(t.Context(), "CREATE ROLE pool_user LOGIN PASSWORD 'secret'"); err != nil {
		t.Fatal(err)
	}
	defer func() {
		pools.Close()
		if _, err := admin.Exec(t.Context(), "DROP ROLE pool_user"); err != nil {
			t.Error(err)
		}
	}()
	p := pools.Pool(0, "pool_user")
	if p != pools.Pool(0, "pool_user") || p == pools.Pool(0, s.Superuser()) || p.config.Password != "secret" {
		t.Error("the pool of another role")
	}
	c := get(t, p)
	if query(t, c, "SELECT session_user") != "pool_user" {
		t.Error("another role")
	}
	c.Put()
	var e *wire.Error
	if _, err := pools.Pool(0, "nobody").Get(); !errors.As(err, &e) || !strings.HasPrefix(e.Code, "28") || !strings.Contains(e.Where, "shard one") {
		t.Errorf("%#v", err)
	}
	expect(t, pools.Pool(0, "nobody"), 0, 0)
}

func TestPreparedStatements(t *testing.T) {
	_, p := newPool(t, nil) // three of them
	c := get(t, p)
	defer c.Put()
	for id := uint64(1); id <= 3; id++ {
		if c.Has(id) || c.Remember(id) != 0 || !c.Has(id) {
			t.Error(id)
		}
	}
	if c.Has(1); c.Remember(2) != 0 {
		t.Error("remembered twice")
	}
	if evicted := c.Remember(4); evicted != 2 || c.Has(2) || !c.Has(1) || !c.Has(3) || !c.Has(4) {
		t.Errorf("%d was closed, not the one that was used longest ago", evicted)
	}
	c.Forget(3)
	c.Forget(3)
	if c.Has(3) || c.Remember(5) != 0 {
		t.Error("what is forgotten takes room")
	}
	c.Doubt(4)
	c.Doubt(6)
	if d := c.Doubtful(); c.Has(4) || fmt.Sprint(d) != "[4 6]" || c.Doubtful() != nil {
		t.Error(d)
	}
	c.Unnamed = 9
	c.ForgetAll()
	if c.Has(1) || c.Has(5) || c.Unnamed != 0 || c.Remember(1)|c.Remember(2)|c.Remember(3) != 0 {
		t.Error("something is left")
	}
}

func TestReadResult(t *testing.T) {
	_, p := newPool(t, nil)
	c := get(t, p)
	res, err := c.Query("SELECT 1, NULL, ''; CREATE TEMP TABLE t (v int); COPY (SELECT 1) TO STDOUT")
	if err != nil || fmt.Sprintf("%q", res.Tags) != `["SELECT 1" "CREATE TABLE" "COPY 1"]` || len(res.Rows) != 1 || res.Rows[0][1] != nil || res.Rows[0][2] == nil {
		t.Errorf("%+v, %v", res, err)
	}
	for _, sql := range []string{"SELECT 1/0", "COPY t FROM STDIN", "SELECT 1; SELECT nothing"} {
		var e *wire.Error
		if _, err := c.Query(sql); !errors.As(err, &e) || c.Broken || c.Ready != 0 || c.Status != 'I' {
			t.Errorf("%s: %v", sql, err)
		}
	}
	var lost *Lost
	if _, err := c.QueryTimeout("SELECT pg_sleep(30)", 50*time.Millisecond); !errors.As(err, &lost) || !c.Broken {
		t.Error(err)
	}
	if e := lost.Wire(); e.Code != wire.ConnectionFailure || e.Detail == "" || e.Hint == "" || !strings.Contains(lost.Error(), "shard one") {
		t.Errorf("%+v", e)
	}
	if again := c.Fail(lost); again != error(lost) {
		t.Error("wrapped twice")
	}
	c.Put()
	expect(t, p, 0, 0)
}
