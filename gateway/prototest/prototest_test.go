// Package prototest runs one set of scripts of protocol exchanges against a
// PostgreSQL and against gateways, and wants the same answers from all.
//
// The governing idea: what is expected is what PostgreSQL says. The scripts below
// testdata are data-driven tests; -rewrite makes the answers in them anew from
// PostgreSQL, never from a gateway. Their commands:
//
//	setup                     SQL that is run on a connection of its own, its answers unseen
//	connect conn=b            opens a socket and sends nothing; "a" is logged in from the beginning
//	send conn=a until=X       sends the messages (see message_test.go), and prints what is answered
//	                          up to the message X, or up to one ReadyForQuery for each Query, Sync and
//	                          FunctionCall; until=none reads nothing, until=closed up to the end
//	receive conn=a until=X    only reads
//	cancel conn=a             a CancelRequest for what a runs; key=wrong: with another key
//	await                     SQL that is repeated on a connection of its own until it answers true
//
// What PostgreSQL says in a few places depends on its version: with another one than that which the
// scripts are from, the gateways have to agree with the server that is there.
//
// repeat=n with send sends the messages n times, and "count" prints how often each answer came.
// "sorted" with send or receive sorts each run of DataRow or CopyData, where SQL leaves the
// order open. "only=postgres" and "only=gateway" mark what has to differ; the first line then
// says why ("because ..."). For only=gateway the answer is written by hand.
package prototest

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/cockroachdb/datadriven"
	"github.com/jackc/pgx/v5"
	"github.com/pmezard/go-difflib/difflib"

	"github.com/shardgate/shardgate/configs"
	"github.com/shardgate/shardgate/gateway/dev/devtest"
	"github.com/shardgate/shardgate/gateway/localpg/pgtest"
)

func TestMain(m *testing.M) { pgtest.Main(m) }

// tables of the scripts; every other one is local to the home shard.
const tables = `
listen: 127.0.0.1:0
tables:
  - {name: sharded, key: id, group: sharded}
  - {name: child, key: sharded_id, group: sharded}
  - {name: words, key: word}
  - {name: times, key: at}
  - {name: ref, reference: true}
`

// scriptsMajor is the version of PostgreSQL whose answers are in the scripts.
const scriptsMajor = "15"

// target is what the scripts are run against.
type target struct {
	name    string
	addr    string
	url     string
	gateway bool
}

func TestScripts(t *testing.T) {
	scripts, err := filepath.Glob("testdata/*")
	if err != nil || len(scripts) == 0 {
		t.Fatal("no scripts", err)
	}
	url := pgtest.NewServer(t, nil).URL("postgres", "postgres")
	postgres := target{name: "postgres", addr: hostPort(t, url), url: url}
	var gateways []target
	if f := flag.Lookup("rewrite"); f == nil || f.Value.String() != "true" {
		gateways = []target{startGateway(t, 4, "gateway of 4 shards"), startGateway(t, 1, "gateway of 1 shard")}
	}
	answers := map[string]string{} // PostgreSQL's, by the place in the scripts
	t.Run("postgres", func(t *testing.T) {
		for _, path := range scripts {
			t.Run(filepath.Base(path), func(t *testing.T) { runScript(t, path, postgres, answers) })
		}
	})
	t.Run("gateways", func(t *testing.T) {
		for _, tg := range gateways {
			t.Run(tg.name, func(t *testing.T) {
				t.Parallel()
				for _, path := range scripts {
					t.Run(filepath.Base(path), func(t *testing.T) { runScript(t, path, tg, answers) })
				}
			})
		}
	})
}

// hostPort is the address in a connection URL.
func hostPort(t *testing.T, url string) string {
	t.Helper()
	cfg, err := pgx.ParseConfig(url)
	if err != nil {
		t.Fatal(err)
	}
	return net.JoinHostPort(cfg.Host, itoa(int(cfg.Port)))
}

// startGateway starts a gateway before so many shards.
func startGateway(t *testing.T, shards int, name string) target {
	t.Helper()
	cfg, err := configs.ParseWithoutShards("prototest.yaml", []byte(tables))
	if err != nil {
		t.Fatal(err)
	}
	c := devtest.Start(t, shards, cfg)
	return target{name: name, addr: c.Gateway.Addr().String(), url: c.URL(), gateway: true}
}

// script is one script under way against one target.
type script struct {
	target
	conns map[string]*peer
	admin *pgx.Conn
}

// runScript runs one script. answers is filled by PostgreSQL, and read for gateways.
func runScript(t *testing.T, path string, tg target, answers map[string]string) {
	s := &script{target: tg, conns: map[string]*peer{}}
	var err error
	if s.admin, err = pgx.Connect(t.Context(), tg.url); err != nil {
		t.Fatal(err)
	}
	defer s.end(t)
	otherVersion := false
	if !tg.gateway {
		major, _, _ := strings.Cut(s.admin.PgConn().ParameterStatus("server_version"), ".")
		otherVersion = major != scriptsMajor
	}
	if f := flag.Lookup("rewrite"); otherVersion && f != nil && f.Value.String() == "true" {
		t.Fatalf("the scripts are from PostgreSQL %s: rewrite them with that", scriptsMajor)
	}
	var differs []string
	datadriven.RunTest(t, path, func(t *testing.T, d *datadriven.TestData) string {
		only := ""
		d.MaybeScanArgs(t, "only", &only)
		if (only == "postgres") == tg.gateway && only != "" {
			return d.Expected
		}
		if only != "" {
			because, rest, _ := strings.Cut(d.Input, "\n")
			if !strings.HasPrefix(because, "because ") {
				d.Fatalf(t, "the first line has to say why: because ...")
			}
			d.Input = rest
		}
		got := s.command(t, d)
		if !tg.gateway {
			answers[d.Pos] = got
			if otherVersion {
				return d.Expected
			}
			return got
		}
		want, ok := answers[d.Pos]
		if !ok {
			want = d.Expected // the gateway's own
		}
		if got != want {
			// Reported at the end, so that one run shows all there is.
			differs = append(differs, fmt.Sprintf("%s:\n%s\n%s", d.Pos, d.Input, diff(want, got)))
		}
		return d.Expected
	})
	for _, d := range differs {
		t.Error(d)
	}
}

// diff shows what PostgreSQL answers (-) and what the gateway does (+).
func diff(want, got string) string {
	text, _ := difflib.GetUnifiedDiffString(difflib.UnifiedDiff{A: difflib.SplitLines(want), B: difflib.SplitLines(got), FromFile: "PostgreSQL", ToFile: "gateway", Context: 20})
	return text
}

// end closes the connections and drops the tables: those on all shards, and the local ones.
func (s *script) end(t *testing.T) {
	for _, c := range s.conns {
		c.nc.Close()
	}
	ctx, stop := context.WithTimeout(context.Background(), 20*time.Second)
	defer stop()
	defer s.admin.Close(ctx)
	// Locks of what the connections were running go when the server has noticed.
	if _, err := s.admin.Exec(ctx, "SET lock_timeout = '10s'"); err != nil {
		t.Fatal(err)
	}
	rows, err := s.admin.Query(ctx, `SELECT format('DROP TABLE %s CASCADE', string_agg(quote_ident(tablename), ','))
		FROM pg_tables WHERE schemaname = 'public' GROUP BY tablename IN ('sharded', 'child', 'words', 'times', 'ref')`)
	if err != nil {
		t.Fatal(err)
	}
	drops, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		t.Fatal(err)
	}
	for _, sql := range drops {
		if _, err := s.admin.Exec(ctx, sql); err != nil {
			t.Errorf("%s: %v", sql, err)
		}
	}
}

func (s *script) command(t *testing.T, d *datadriven.TestData) string {
	name, until := "a", ""
	d.MaybeScanArgs(t, "conn", &name)
	d.MaybeScanArgs(t, "until", &until)
	switch d.Cmd {
	case "setup":
		for _, sql := range strings.Split(d.Input, ";\n") {
			if _, err := s.admin.PgConn().Exec(t.Context(), sql).ReadAll(); err != nil {
				d.Fatalf(t, "%s: %v", sql, err)
			}
		}
		return ""
	case "await":
		return s.await(t, d)
	case "connect":
		s.conns[name] = s.dial(t)
		return ""
	case "send":
		messages, answers, err := parseMessages(d.Input, s)
		if err != nil {
			d.Fatalf(t, "%v", err)
		}
		times := 1
		d.MaybeScanArgs(t, "repeat", &times)
		c := s.conn(t, name)
		if until == "" && answers > 0 {
			until = "ReadyForQuery*" + itoa(answers*times)
		}
		sent := make(chan struct{})
		go func() { // a server that is not read from may not read either
			defer close(sent)
			c.nc.Write(bytes.Repeat(messages, times)) // an error shows as what is not answered
		}()
		out := c.receive(until, d)
		<-sent
		return out
	case "receive":
		return s.conn(t, name).receive(until, d)
	case "cancel":
		return s.cancel(t, name, d)
	}
	d.Fatalf(t, "unknown command %q", d.Cmd)
	return ""
}

// conn returns the connection of a name; "a" is opened and logged in when it is
// first used.
func (s *script) conn(t *testing.T, name string) *peer {
	if c := s.conns[name]; c != nil {
		return c
	}
	c := s.dial(t)
	s.conns[name] = c
	b, _, err := parseMessages(`Startup user="postgres" database="postgres"`, s)
	if err != nil {
		t.Fatal(err)
	}
	c.nc.Write(b)
	if got := c.receive("ReadyForQuery", nil); !strings.Contains(got, "ReadyForQuery") {
		t.Fatalf("login: %s", got)
	}
	return c
}

func (s *script) dial(t *testing.T) *peer {
	nc, err := net.Dial("tcp", s.addr)
	if err != nil {
		t.Fatal(err)
	}
	return newPeer(nc)
}

// cancel sends a CancelRequest and waits until it is dealt with.
func (s *script) cancel(t *testing.T, name string, d *datadriven.TestData) string {
	a := s.conn(t, name)
	key := bytes.Clone(a.key)
	var which string
	d.MaybeScanArgs(t, "key", &which)
	if which == "wrong" {
		key[0] ^= 1
	}
	c := s.dial(t)
	defer c.nc.Close()
	c.nc.Write(cancelRequest(a.pid, key))
	return c.receive("closed", nil)
}

// await repeats a query until it answers true.
func (s *script) await(t *testing.T, d *datadriven.TestData) string {
	for end := time.Now().Add(10 * time.Second); time.Now().Before(end); time.Sleep(20 * time.Millisecond) {
		var ok bool
		if err := s.admin.QueryRow(t.Context(), d.Input, pgx.QueryExecModeSimpleProtocol).Scan(&ok); err != nil {
			d.Fatalf(t, "%v", err)
		}
		if ok {
			return ""
		}
	}
	return "it did not become true\n"
}

// isTimeout says whether nothing came in time, as opposed to the connection's end.
func isTimeout(err error) bool { return errors.Is(err, os.ErrDeadlineExceeded) }
