// Package faults breaks what is between a gateway and its shards, and the shards
// themselves, at every message of a distributed transaction: nothing may be lost, hang,
// or be told wrongly.
//
// The governing idea: what can be hit is taken from a recorded run, so that a message that
// is new is hit by itself.
package faults

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/shardgate/shardgate/bench/link"
	"github.com/shardgate/shardgate/configs"
	"github.com/shardgate/shardgate/gateway"
	"github.com/shardgate/shardgate/gateway/localpg"
	"github.com/shardgate/shardgate/gateway/localpg/pgtest"
)

func TestMain(m *testing.M) { pgtest.Main(m) }

// cluster are shards with a link to each, and gateways that reach them over the links.
type cluster struct {
	t       *testing.T
	servers []*localpg.Server
	links   []*link.Link
	direct  []*pgx.Conn // past the links
	keys    []int       // an account on each shard
	model   map[int]int // the balances as they have to be
	// outcomeLater looks at what became of a transaction that was left in doubt.
	outcomeLater func()
	broken       map[int]bool // servers that are to be started anew
}

const rules = `
listen: 127.0.0.1:0
pool: {connect_timeout: 1s, acquire_timeout: 2s}
timeouts: {%s}
tables:
  - {name: account, key: id}
  - {name: many, key: id}
  - {name: copied, reference: true}
`

const (
	// quiet leaves a gateway with nothing to do but what clients ask.
	quiet = "recovery_interval: 1h, schema_poll: 1h, deadlock: 1h, silence: 1h"
	// lively lets it notice and repair soon.
	lively = "recovery_interval: 100ms, recovery_grace: 200ms, schema_poll: 1h, deadlock: 300ms, fence: 5s, silence: 300ms"
)

// newCluster starts shards and links.
func newCluster(t *testing.T, shards int) *cluster {
	t.Helper()
	return newClusterWith(t, shards, nil)
}

// newClusterWith is newCluster with settings of the servers.
func newClusterWith(t *testing.T, shards int, settings map[string]string) *cluster {
	t.Helper()
	c := &cluster{t: t, broken: map[int]bool{}}
	for range shards {
		s := pgtest.NewServer(t, func(o *localpg.Options) { o.Settings = settings })
		l, err := link.Listen(net.JoinHostPort(s.Host(), strconv.Itoa(s.Port())))
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(l.Close)
		c.servers, c.links = append(c.servers, s), append(c.links, l)
		c.direct = append(c.direct, nil)
	}
	t.Cleanup(func() {
		for _, conn := range c.direct {
			if conn != nil {
				conn.Close(context.Background())
			}
		}
	})
	return c
}

// gateway starts one with these timeouts, and returns how clients reach it.
func (c *cluster) gateway(timeouts string) (url string, stop func()) {
	c.t.Helper()
	g, err := c.start(timeouts)
	if err != nil {
		c.t.Fatal(err)
	}
	stopped := false
	stop = func() {
		if stopped {
			return
		}
		stopped = true
		ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
		defer cancel()
		g.Shutdown(ctx)
	}
	c.t.Cleanup(stop)
	return "postgresql://postgres@" + g.Addr().String() + "/postgres?sslmode=disable", stop
}

func (c *cluster) start(timeouts string) (*gateway.Gateway, error) {
	cfg := c.config(timeouts)
	log := slog.New(slog.NewTextHandler(c.t.Output(), &slog.HandlerOptions{Level: slog.LevelError}))
	return gateway.Start(c.t.Context(), cfg, log)
}

func (c *cluster) config(timeouts string) *configs.Config {
	c.t.Helper()
	var b strings.Builder
	fmt.Fprintf(&b, rules, timeouts)
	b.WriteString("shards:\n")
	for i, l := range c.links {
		fmt.Fprintf(&b, "  - {name: s%d, servers: [\"postgres://postgres@%s/postgres?sslmode=disable\"]}\n", i+1, l.Addr())
	}
	cfg, err := configs.Parse("faults.yaml", []byte(b.String()))
	if err != nil {
		c.t.Fatal(err)
	}
	return cfg
}

// open makes the accounts.
func (c *cluster) open(url string) {
	c.t.Helper()
	conn := c.connect(url)
	defer conn.Close(context.Background())
	c.must(conn, "CREATE TABLE account (id int PRIMARY KEY, balance int NOT NULL CHECK (balance > -1000000))",
		"CREATE TABLE many (id int PRIMARY KEY, text text NOT NULL)",
		"INSERT INTO account SELECT i, 100 FROM generate_series(1, 40) i",
		"INSERT INTO many SELECT i, repeat('x', 200) FROM generate_series(1, 3000) i")
	c.model = map[int]int{}
	for i := range c.servers {
		var id int
		if err := c.shard(i).QueryRow(c.t.Context(), "SELECT min(id) FROM account").Scan(&id); err != nil {
			c.t.Fatal(err)
		}
		c.keys = append(c.keys, id)
	}
	for id := 1; id <= 40; id++ {
		c.model[id] = 100
	}
}

// connect connects to a gateway.
func (c *cluster) connect(url string) *pgconn.PgConn {
	c.t.Helper()
	ctx, stop := context.WithTimeout(context.Background(), answerTimeout)
	defer stop()
	conn, err := pgconn.Connect(ctx, url)
	if err != nil {
		c.t.Fatal(err)
	}
	return conn
}

func (c *cluster) must(conn *pgconn.PgConn, statements ...string) {
	c.t.Helper()
	for _, sql := range statements {
		if _, err := exec(conn, sql); err != nil {
			c.t.Fatalf("%s: %v", sql, err)
		}
	}
}

// answerTimeout is how long an answer is waited for until it's said to hang. What a gateway
// waits for is bounded by much less here.
const answerTimeout = 20 * time.Second

// exec runs one Query and returns the last result's rows.
func exec(conn *pgconn.PgConn, sql string) ([][][]byte, error) {
	ctx, stop := context.WithTimeout(context.Background(), answerTimeout)
	defer stop()
	results, err := conn.Exec(ctx, sql).ReadAll()
	if err != nil || len(results) == 0 {
		return nil, err
	}
	return results[len(results)-1].Rows, nil
}

// execExtended is exec by Parse, Bind, Describe, Execute and Sync.
func execExtended(conn *pgconn.PgConn, sql string) ([][][]byte, error) {
	ctx, stop := context.WithTimeout(context.Background(), answerTimeout)
	defer stop()
	r := conn.ExecParams(ctx, sql, nil, nil, nil, nil).Read()
	return r.Rows, r.Err
}

// shard returns a connection to a shard, past the link; a new one when its server was
// restarted.
func (c *cluster) shard(i int) *pgx.Conn {
	c.t.Helper()
	if conn := c.direct[i]; conn != nil && conn.Ping(c.t.Context()) == nil {
		return conn
	}
	deadline := time.Now().Add(answerTimeout)
	for {
		conn, err := pgx.Connect(c.t.Context(), c.servers[i].URL("postgres", "postgres"))
		if err == nil {
			c.direct[i] = conn
			return conn
		}
		if time.Now().After(deadline) {
			c.t.Fatal(err)
		}
		time.Sleep(20 * time.Millisecond)
	}
}

// balances reads all accounts on the shards.
func (c *cluster) balances() map[int]int {
	c.t.Helper()
	out := map[int]int{}
	for i := range c.servers {
		rows, err := c.shard(i).Query(c.t.Context(), "SELECT id, balance FROM account")
		if err != nil {
			c.t.Fatal(err)
		}
		var id, balance int
		if _, err := pgx.ForEachRow(rows, []any{&id, &balance}, func() error { out[id] = balance; return nil }); err != nil {
			c.t.Fatal(err)
		}
	}
	return out
}

// unsettled says what is still prepared, or open in a transaction, on the shards.
func (c *cluster) unsettled() (what string) {
	c.t.Helper()
	for i := range c.servers {
		var prepared, open string
		err := c.shard(i).QueryRow(c.t.Context(), `SELECT coalesce((SELECT string_agg(gid, ', ') FROM pg_prepared_xacts), ''),
			coalesce((SELECT string_agg(state || ': ' || query, ', ') FROM pg_stat_activity
			WHERE backend_type = 'client backend' AND xact_start IS NOT NULL AND pid <> pg_backend_pid()), '')`).Scan(&prepared, &open)
		if err != nil {
			return err.Error()
		}
		if prepared != "" {
			what += fmt.Sprintf("prepared on s%d: %s; ", i+1, prepared)
		}
		if open != "" {
			what += fmt.Sprintf("open on s%d: %s; ", i+1, open)
		}
	}
	return what
}

// settles wants that within 5 s nothing is prepared or open on any shard.
func (c *cluster) settles() error {
	var what string
	for deadline := time.Now().Add(5 * time.Second); time.Now().Before(deadline); time.Sleep(10 * time.Millisecond) {
		if what = c.unsettled(); what == "" {
			return nil
		}
	}
	return fmt.Errorf("not settled after 5 s: %s", what)
}

// intact wants that clients get answers to what they ask, and no other's, from whatever
// connections are in the pools. The first to use a shard may be told that a connection
// which was idle is lost, and those who come while a server starts, that it does; after that, nobody.
func (c *cluster) intact(url string, n int) (err error) {
	until := time.Now().Add(answerTimeout)
	for i := 0; i <= len(c.servers); i++ {
		err = c.ask(url, n)
		var pe *pgconn.PgError
		switch {
		case !lost(err):
			return err
		case errors.As(err, &pe) && pe.Code == "57P03" && time.Now().Before(until):
			time.Sleep(10 * time.Millisecond)
			i--
		}
	}
	return err
}

// lost says whether a connection to a shard was lost, or the fence of a snapshot, before
// anything was changed.
func lost(err error) bool {
	var pe *pgconn.PgError
	return errors.As(err, &pe) && (pe.Code == "08006" || pe.Code == "08001" || pe.Code == "40001" || strings.HasPrefix(pe.Code, "57P"))
}

// ask has three clients at a time ask every shard for what only they ask.
func (c *cluster) ask(url string, n int) error {
	var conns []*pgconn.PgConn
	defer func() {
		for _, conn := range conns {
			conn.Close(context.Background())
		}
	}()
	for i := range 3 {
		conn := c.connect(url)
		conns = append(conns, conn)
		if _, err := exec(conn, "BEGIN"); err != nil {
			return err
		}
		for k, id := range c.keys {
			mark := fmt.Sprintf("%d.%d.%d", n, i, k)
			rows, err := exec(conn, fmt.Sprintf("SELECT '%s', balance FROM account WHERE id = %d", mark, id))
			if err != nil {
				return fmt.Errorf("a later statement: %w", err)
			}
			if len(rows) != 1 || string(rows[0][0]) != mark || string(rows[0][1]) != strconv.Itoa(c.model[id]) {
				return fmt.Errorf("a later statement gets another's answer: %q, not %s", rows, mark)
			}
		}
	}
	rows, err := exec(conns[0], "SELECT id, balance FROM account ORDER BY id")
	if err != nil || len(rows) != len(c.model) {
		return fmt.Errorf("a later read of all: %d rows, %w", len(rows), err)
	}
	return nil
}
