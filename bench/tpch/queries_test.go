package tpch

import (
	"bytes"
	"context"
	"fmt"
	"hash/fnv"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/shardgate/shardgate/configs"
	"github.com/shardgate/shardgate/gateway/dev/devtest"
	"github.com/shardgate/shardgate/gateway/localpg/pgtest"
)

func TestMain(m *testing.M) { pgtest.Main(m) }

// scaleEnv has the scale factor of TestQueries, if it is not to be 0.01.
const scaleEnv = "SHARDGATE_TPCH_SCALE"

// Each query has the same answer from a gateway with four shards as from one PostgreSQL
// with the same rows.
func TestQueries(t *testing.T) {
	scale := 0.01
	if s := os.Getenv(scaleEnv); s != "" {
		var err error
		if scale, err = strconv.ParseFloat(s, 64); err != nil {
			t.Fatalf("%s: %v", scaleEnv, err)
		}
	}
	d := generator(t, scale, DefaultSeed)
	plain := loaded(t, "PostgreSQL", pgtest.NewServer(t, nil).URL("", ""), d)
	cluster := loaded(t, "the gateway", startCluster(t), d)
	checkRules(t, plain, d)
	checkCopies(t, plain, cluster)
	if t.Failed() {
		t.FailNow()
	}
	var report strings.Builder
	refused := 0
	for n := 1; n <= QueryCount; n++ {
		sql := Query(n, scale)
		want, plainTime, err := ask(t, plain, sql)
		if err != nil {
			t.Fatalf("query %d on PostgreSQL: %v", n, err)
		}
		if want.empty() {
			t.Errorf("query %d finds nothing", n)
		}
		fmt.Fprintf(&report, "%5d %5d %8.1f ms ", n, len(want.rows), plainTime)
		got, gatewayTime, err := ask(t, cluster, sql)
		switch {
		case isRefusal(err):
			refused++
			fmt.Fprintf(&report, "refused: %v\n", err)
		case err != nil:
			t.Errorf("query %d through the gateway: %v", n, err)
			fmt.Fprintf(&report, "failed after %.1f ms\n", gatewayTime)
		default:
			fmt.Fprintf(&report, "%8.1f ms\n", gatewayTime)
			if diff := want.difference(got, ties[n]); diff != "" {
				t.Errorf("query %d: %s", n, diff)
			}
		}
	}
	t.Logf("scale %v, %d refused\nquery  rows  PostgreSQL     gateway\n%s", scale, refused, report.String())
	if refused > 0 {
		t.Errorf("the gateway refuses %d queries", refused)
	}
}

// startCluster starts four shards and a gateway, and returns its URL.
func startCluster(t *testing.T) string {
	t.Helper()
	cfg, err := configs.ParseWithoutShards("distribution.yaml", Distribution)
	if err == nil {
		err = cfg.SetListen("test", "127.0.0.1:0")
	}
	if err != nil {
		t.Fatal(err)
	}
	return devtest.Start(t, 4, cfg).URL()
}

// setTimeout ends a query that would take all day.
const setTimeout = "SET statement_timeout = '1min'"

// loaded fills a database and returns a connection to it.
func loaded(t *testing.T, name, url string, d *Data) *pgconn.PgConn {
	t.Helper()
	begin := time.Now()
	if err := Load(t.Context(), url, d); err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	t.Logf("%s: loaded in %.1f s", name, time.Since(begin).Seconds())
	conn, err := pgconn.Connect(t.Context(), url)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ctx, stop := context.WithTimeout(context.Background(), 5*time.Second)
		defer stop()
		conn.Close(ctx) // the socket is closed in any case
	})
	if _, err := conn.Exec(t.Context(), setTimeout).ReadAll(); err != nil {
		t.Fatal(err)
	}
	return conn
}

// checkCopies compares the rows of all tables, in any order.
func checkCopies(t *testing.T, plain, cluster *pgconn.PgConn) {
	t.Helper()
	for _, table := range Tables {
		var sums [2]lineSum
		for i, conn := range []*pgconn.PgConn{plain, cluster} {
			if _, err := conn.CopyTo(t.Context(), &sums[i], "COPY "+table.Name+" TO STDOUT"); err != nil {
				t.Fatal(err)
			}
		}
		if sums[0] != sums[1] {
			t.Errorf("%s: the gateway's rows are others than PostgreSQL's", table.Name)
		}
	}
}

// lineSum is the same for the same lines in any order. Each Write has whole lines.
type lineSum struct{ lines, sum uint64 }

func (s *lineSum) Write(b []byte) (int, error) {
	for line := range bytes.Lines(b) {
		h := fnv.New64a()
		h.Write(line)
		s.lines++
		s.sum += h.Sum64()
	}
	return len(b), nil
}
