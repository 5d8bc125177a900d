package main

import (
	"fmt"
	"math"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"

	"github.com/shardgate/shardgate/gateway/localpg/pgtest"
)

// What can't work is said before anything is loaded.
func TestAhead(t *testing.T) {
	url := pgtest.Database(t, pgtest.Server(t))
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	const nobody = "postgres://127.0.0.1:1/none?sslmode=disable"
	for want, args := range map[string][]string{
		"not a directory":            {"--report=" + file},
		"is a directory":             {"--json=" + t.TempDir()},
		"there: failed to connect":   {"--server=there=" + nobody},
		"other: failed to connect":   {"--target=other=" + nobody},
		"there: CPU time of process": {"--pid=there=99999999"},
		"there: its metrics: Get":    {"--metrics=there=http://127.0.0.1:1/metrics"},
	} {
		r, err := run(t.Context(), foreign(t, url, args...), &progress{to: t.Output()})
		if r != nil || err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v: %v", args, err)
		}
	}
	var tables int
	if err := pgtest.Conn(t, url).QueryRow(t.Context(), "SELECT count(*) FROM pg_tables WHERE schemaname = 'public'").Scan(&tables); err != nil || tables > 0 {
		t.Errorf("%d tables, %v", tables, err)
	}
}

// Clients need open files: here for each target, and in the gateway for each shard.
func TestOpenFiles(t *testing.T) {
	for _, c := range []struct {
		args []string
		want int
	}{
		{[]string{"--workload=select-by-key", "--clients=100", "--with-pgbouncer"}, 500 + ownFiles},
		{[]string{"--workload=aggregate", "--clients=100", "--with-relay"}, 700 + ownFiles},
		{[]string{"--workload=transfer-readers", "--clients=60", "--readers=40", "--no-embedded", "--target=a=b", "--target=c=d"}, 200 + ownFiles},
		{[]string{"--workload=idle-clients", "--clients=5000"}, 5000 + ownFiles},
	} {
		p, err := newPlan(parse(t, c.args...))
		if err != nil {
			t.Fatal(err)
		}
		if got := p.filesOf(p.cells[0]); got != c.want {
			t.Errorf("%v: %d files", c.args, got)
		}
		if err := checkFiles(p.cells[0], 10); err != nil {
			t.Error(err)
		}
		var limit syscall.Rlimit
		if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &limit); err != nil || uint64(limit.Cur) > math.MaxInt32 {
			continue // as good as none
		}
		if err := checkFiles(p.cells[0], math.MaxInt32+1); err == nil || !strings.Contains(err.Error(), "ulimit -n 2147483648") {
			t.Errorf("%v", err)
		}
	}
}

// Where an instrument fails in the middle, the rounds before are reported, and what was
// committed in the round that is lost is no violation.
func TestInstrumentFails(t *testing.T) {
	url := pgtest.Database(t, pgtest.Server(t))
	var asked atomic.Int32
	metrics := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		if asked.Add(1) > 9 { // after the second round
			w.WriteHeader(http.StatusInternalServerError)
		}
		fmt.Fprint(w, "# TYPE go_memstats_alloc_bytes_total counter\ngo_memstats_alloc_bytes_total 1\n# TYPE go_memstats_mallocs_total counter\ngo_memstats_mallocs_total 1\n")
	}))
	defer metrics.Close()
	o := foreign(t, url, "--workload=pgbench", "--metrics=there="+metrics.URL)
	o.Smoke, o.Scale, o.Rounds, o.Warmup = false, 1, 3, 0
	r, err := run(t.Context(), o, &progress{to: t.Output()})
	if err == nil || !strings.Contains(err.Error(), "the metrics after the round") {
		t.Fatalf("%v", err)
	}
	if r == nil || r.failed() || len(r.Cells[0].Targets[0].Rounds) != 1 {
		t.Errorf("%+v", r)
	}
}

// The names of the benchmark's own targets are free where it starts none.
func TestNamesOfTargets(t *testing.T) {
	for _, c := range []struct {
		args []string
		ok   bool
	}{
		{[]string{"--no-embedded", "--target=shardgate=postgres://a/b", "--target=pgbouncer=postgres://c/d"}, true},
		{[]string{"--target=shardgate=postgres://a/b"}, false},
		{[]string{"--no-embedded", "--target=direct=postgres://a/b"}, false},
	} {
		if _, err := newPlan(parse(t, c.args...)); (err == nil) != c.ok {
			t.Errorf("%v: %v", c.args, err)
		}
	}
}
