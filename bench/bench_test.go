package main

import (
	"bytes"
	"context"
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/alecthomas/kong"

	"github.com/shardgate/shardgate/bench/load"
	"github.com/shardgate/shardgate/bench/measure"
	"github.com/shardgate/shardgate/bench/target"
	"github.com/shardgate/shardgate/bench/workload"
	"github.com/shardgate/shardgate/gateway/localpg/pgtest"
)

func TestMain(m *testing.M) {
	target.Main()
	pgtest.Main(m)
}

// parse reads a command line.
func parse(t *testing.T, args ...string) *options {
	t.Helper()
	o := &options{}
	k, err := kong.New(o, kong.Name("bench"), vars)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := k.Parse(args); err != nil {
		t.Fatal(err)
	}
	return o
}

// The default workloads run on every embedded target in each protocol, without an error,
// with their invariants.
func TestSmoke(t *testing.T) {
	smoke(t, "--workload="+strings.Join(workload.Default, ","), "--with-relay", "--protocol=simple,extended,prepared", "--profile="+t.TempDir())
}

// And so do the others, in one protocol.
func TestSmokeOthers(t *testing.T) {
	rest := slices.DeleteFunc(workload.Names(), func(name string) bool { return slices.Contains(workload.Default, name) })
	smoke(t, "--workload="+strings.Join(rest, ","), "--protocol=prepared")
}

// Transactions are pipelined, and keys are drawn otherwise than uniformly.
func TestSmokePipelined(t *testing.T) {
	smoke(t, "--workload=select-by-key,transfer", "--protocol=pipelined", "--keys=hot-shard")
}

func smoke(t *testing.T, args ...string) {
	t.Helper()
	t.Setenv("TMPDIR", pgtest.Dir(t))
	var lines bytes.Buffer
	file := filepath.Join(t.TempDir(), "report.json")
	dir := t.TempDir()
	o := parse(t, append(args, "--smoke", "--report="+dir, "--json="+file, "--duration=120ms", "--warmup=20ms")...)
	r, err := run(t.Context(), o, &progress{to: &lines})
	if err != nil {
		t.Fatalf("%v\n%s", err, &lines)
	}
	var text bytes.Buffer
	r.print(&text)
	t.Logf("\n%s", &text)
	if r.failed() || len(r.Unchecked) > 0 || !strings.Contains(text.String(), "The invariants held.") {
		t.Error("not all invariants held")
	}
	if want := len(o.Workload) * len(o.Protocol); len(r.Cells) != want {
		t.Fatalf("%d cells in place of %d", len(r.Cells), want)
	}
	for _, c := range r.Cells {
		for _, f := range c.Targets {
			checkFigures(t, c, f)
		}
		if got, want := len(c.Bounds), promises[c.Workload]; got != want {
			t.Errorf("%s: %d bounds in place of %d: %v", c.cell, got, want, c.Bounds)
		}
		if o.Profile != "" {
			if _, err := os.Stat(filepath.Join(o.Profile, c.cell.fileName()+".pprof")); err != nil {
				t.Error(err)
			}
		}
	}
	measured := 0
	for _, c := range r.Cells {
		for _, f := range c.Targets {
			if !strings.HasSuffix(f.Target, readersOf) { // they have no line of their own
				measured++
			}
		}
	}
	if n := strings.Count(lines.String(), ", round 1: "); n != measured {
		t.Errorf("%d lines of progress:\n%s", n, &lines)
	}
	readBack(t, r, file)
	if err := r.writeReport(dir); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{resultsFile, pageFile} {
		if fi, err := os.Stat(filepath.Join(dir, name)); err != nil || fi.Size() < 10_000 {
			t.Errorf("%s: %+v, %v", name, fi, err)
		}
	}
}

// promises is how many bounds of a workload can be seen in a short run.
var promises = map[string]int{"select-by-key": 1, "aggregate": 1, "group-by": 1, "order-limit": 1,
	"select-all": 3, "select-all-stalled": 3, "select-ordered": 1, "in-list": 1, "transfer": 1, "copy-in": 3, "copy-out": 1}

func checkFigures(t *testing.T, c *cellReport, f *figures) {
	t.Helper()
	if c.cell.workload.Connecting != 0 {
		idle := c.cell.workload.Connecting == workload.Idle
		if f.Errors.Total() > 0 || f.AllInSeconds == nil || f.LoginSeconds == nil || f.LatencyMicros["max"].Max <= 0 || idle != (f.BytesEach != nil) || len(f.Rounds) != 1 {
			t.Errorf("%s: %s: %+v", c.cell, f.Target, f)
		}
		return
	}
	if f.Errors.Total() > 0 || f.PerSecond.Median <= 0 || len(f.Rounds) != 1 {
		t.Errorf("%s: %s: %+v", c.cell, f.Target, f)
	}
	last := 0.0
	for _, p := range percentiles {
		if now := f.LatencyMicros[p.name].Median; now <= 0 || now < last {
			t.Errorf("%s: %s: %s is %g µs after %g", c.cell, f.Target, p.name, now, last)
		} else {
			last = now
		}
	}
	if strings.HasSuffix(f.Target, readersOf) {
		return // their CPU time is among that of the others
	}
	_, gateway := f.CPUMicros[target.Gateway]
	if c.cell.workload.Streams && (f.RowsPerSecond == nil || f.FirstRowMicros == nil != (c.Workload == "copy-in") || gateway != (f.RowMicros != nil)) {
		t.Errorf("%s: %s: %v rows a second, %v a row", c.cell, f.Target, f.RowsPerSecond, f.RowMicros)
	}
	if gateway != (f.PeakBytes != nil) || gateway != (f.IdleBytes != nil && *f.IdleBytes > 1<<20) || (f.Target == target.Shardgate) != (f.AllocatedObjects != nil) {
		t.Errorf("%s: %s: idle %v, peak %v, allocated %v", c.cell, f.Target, f.IdleBytes, f.PeakBytes, f.AllocatedObjects)
	}
	if n := len(f.Curve); n == 0 || f.Curve[0].Median <= 0 || f.Curve[n-1].Median > f.LatencyMicros["max"].Median {
		t.Errorf("%s: %s: curve %v", c.cell, f.Target, f.Curve)
	}
	if gateway != (f.Target != target.Postgres && f.Target != target.Direct) || f.CPUMicros[target.Server].Median <= 0 || f.CPUMicros[client].Median <= 0 {
		t.Errorf("%s: %s: CPU %v", c.cell, f.Target, f.CPUMicros)
	}
}

func readBack(t *testing.T, r *report, file string) {
	t.Helper()
	if err := r.write(file); err != nil {
		t.Fatal(err)
	}
	b, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	var back report
	if err := json.Unmarshal(b, &back); err != nil {
		t.Fatal(err)
	}
	if len(back.Cells) != len(r.Cells) || back.Cells[0].Targets[0].PerSecond != r.Cells[0].Targets[0].PerSecond ||
		back.Environment.Versions["postgresql"] == "" || back.Options.Seed == 0 {
		t.Errorf("read back: %+v", back)
	}
}

// foreign is a command line that measures a database of the test's server.
func foreign(t *testing.T, url string, args ...string) *options {
	t.Helper()
	return parse(t, append([]string{"--no-embedded", "--smoke", "--duration=100ms", "--clients=2", "--protocol=simple", "--target=there=" + url}, args...)...)
}

// A server that gives right answers and keeps wrong sums is found out, and that is what
// the report says first.
func TestWrongSums(t *testing.T) {
	url := pgtest.Database(t, pgtest.Server(t))
	o := foreign(t, url, "--workload=pgbench")
	r, err := run(t.Context(), o, &progress{to: t.Output()})
	if err != nil || r.failed() {
		t.Fatalf("before anything is wrong: %v, %v", err, r.Violations)
	}
	conn := pgtest.Conn(t, url)
	for _, sql := range []string{
		"CREATE FUNCTION wrong() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN NEW.tbalance := NEW.tbalance + 1; RETURN NEW; END'",
		"CREATE TRIGGER wrong BEFORE UPDATE ON pgbench_tellers FOR EACH ROW EXECUTE FUNCTION wrong()",
	} {
		if _, err := conn.Exec(t.Context(), sql); err != nil {
			t.Fatal(err)
		}
	}
	r, err = run(t.Context(), o, &progress{to: t.Output()})
	if err != nil {
		t.Fatal(err)
	}
	var text bytes.Buffer
	r.print(&text)
	if !r.failed() || !strings.HasPrefix(strings.TrimSpace(text.String()), "INVARIANTS FAILED") || !strings.Contains(text.String(), "the sums differ") ||
		strings.Contains(text.String(), "held") {
		t.Errorf("%s", &text)
	}
}

// An open loop says how much of its schedule it reached.
func TestOpenLoop(t *testing.T) {
	url := pgtest.Database(t, pgtest.Server(t))
	o := foreign(t, url, "--workload=select-by-key", "--rate=0,100")
	r, err := run(t.Context(), o, &progress{to: t.Output()})
	if err != nil || len(r.Cells) != 2 || r.Cells[0].Targets[0].Reached != nil {
		t.Fatalf("%v, %+v", err, r)
	}
	var text bytes.Buffer
	r.print(&text)
	f := r.Cells[1].Targets[0]
	if f.Reached == nil || f.Rounds[0].Schedule.Transactions != 10 || !strings.Contains(text.String(), "of the schedule was sent in its time") {
		t.Errorf("%+v\n%s", f, &text)
	}
}

// Errors are in the report by SQLSTATE.
func TestErrorsAreReported(t *testing.T) {
	url := pgtest.Database(t, pgtest.Server(t))
	o := foreign(t, url, "--workload=pgbench")
	if _, err := run(t.Context(), o, &progress{to: t.Output()}); err != nil {
		t.Fatal(err)
	}
	if _, err := pgtest.Conn(t, url).Exec(t.Context(), "ALTER TABLE pgbench_history ADD CHECK (delta > 0) NOT VALID"); err != nil {
		t.Fatal(err)
	}
	r, err := run(t.Context(), o, &progress{to: t.Output()})
	if err != nil || r.failed() {
		t.Fatalf("%v, %v", err, r.Violations)
	}
	var text bytes.Buffer
	r.print(&text)
	if !strings.Contains(text.String(), "× 23514: ") || r.Cells[0].Targets[0].Errors["23514"].Count == 0 {
		t.Errorf("%s", &text)
	}
}

// Tables that others have made are not replaced unless that is asked for.
func TestForeignTablesStay(t *testing.T) {
	url := pgtest.Database(t, pgtest.Server(t))
	conn := pgtest.Conn(t, url)
	if _, err := conn.Exec(t.Context(), "CREATE TABLE pgbench_accounts AS SELECT 5 AS aid, 1 AS bid, 0 AS abalance, ''::text AS filler"); err != nil {
		t.Fatal(err)
	}
	o := foreign(t, url, "--server=there="+url, "--workload=select-by-key,idle-clients")
	if _, err := run(t.Context(), o, &progress{to: t.Output()}); err == nil || !strings.Contains(err.Error(), "--reload") {
		t.Fatalf("%v", err)
	}
	var n int
	if err := conn.QueryRow(t.Context(), "SELECT aid FROM pgbench_accounts").Scan(&n); err != nil || n != 5 {
		t.Fatalf("the table is not what it was: %d, %v", n, err)
	}
	o.Reload = true
	r, err := run(t.Context(), o, &progress{to: t.Output()})
	if err != nil || r.failed() {
		t.Fatalf("%v", err)
	}
	file := filepath.Join(t.TempDir(), "report.json")
	if err := r.write(file); err != nil {
		t.Fatal(err)
	}
	if b, err := os.ReadFile(file); err != nil || bytes.Contains(b, []byte("postgres://")) {
		t.Errorf("a URL, which may hold a password, is in the JSON: %v", err)
	}
}

// What was measured before an interruption is reported, and the data are checked.
func TestInterrupted(t *testing.T) {
	url := pgtest.Database(t, pgtest.Server(t))
	o := foreign(t, url, "--workload=pgbench")
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	o.Smoke, o.Scale, o.Rounds, o.Duration, o.Warmup = false, 1, 1000, 50*time.Millisecond, 0
	time.AfterFunc(1500*time.Millisecond, cancel)
	r, err := run(ctx, o, &progress{to: t.Output()})
	if err == nil || err.Error() != "interrupted" {
		t.Fatalf("%v", err)
	}
	if r == nil || r.failed() || len(r.Cells) != 1 || len(r.Cells[0].Targets[0].Rounds) == 0 || r.Cells[0].Targets[0].PerSecond.Median == 0 {
		t.Fatalf("%+v", r)
	}
}

func TestPlan(t *testing.T) {
	for want, args := range map[string][]string{
		"--duration":     {"--duration=0s"},
		"--rounds":       {"--rounds=0"},
		"--scale":        {"--scale=0"},
		"--clients":      {"--clients=8,0"},
		"--rate":         {"--rate=-1"},
		"no workload":    {"--workload=none"},
		"no protocol":    {"--protocol=odd"},
		"nothing to":     {"--no-embedded"},
		"--profile":      {"--no-embedded", "--target=a=b", "--profile=d"},
		"--with-pgb":     {"--no-embedded", "--target=a=b", "--with-pgbouncer"},
		"--with-relay":   {"--no-embedded", "--target=a=b", "--with-relay"},
		"name=value":     {"--target=a"},
		"--warmup":       {"--warmup=-1s"},
		"there is no --": {"--server=a=b"},
		"--pipeline":     {"--pipeline=0"},
		"--hot-share":    {"--hot-share=1.5"},
		"no distribut":   {"--keys=odd"},
		"--readers":      {"--readers=0"},
		"hot-shard":      {"--no-embedded", "--target=a=b", "--keys=hot-shard"},
		"no bound":       {"--bounds", "--clients=3", "--workload=read-write"},
	} {
		if _, err := newPlan(parse(t, args...)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v: %v", args, err)
		}
	}
	p, err := newPlan(parse(t, "--clients=4", "--rate=0,1500", "--workload=pgbench", "--protocol=simple"))
	if err != nil || len(p.cells) != 2 || p.cells[0].String() != "pgbench, simple, 4 clients" || p.cells[1].String() != "pgbench, simple, 4 clients, 1,500/s asked for" {
		t.Errorf("%+v, %v", p, err)
	}
	p, err = newPlan(parse(t, "--clients=1,8,32", "--seed=5"))
	if err != nil || len(p.cells) != 12 || p.cells[0].readers != 0 || p.cells[1].String() != "select-by-key, simple, 8 clients" || p.cells[0].String() != "select-by-key, simple, 1 client" || p.Seed != 5 {
		t.Errorf("%+v, %v", p, err)
	}
}

// Each bound is of a cell of --bounds, and each cell has one.
func TestBoundedCells(t *testing.T) {
	p, err := newPlan(parse(t, "--bounds"))
	if err != nil || !p.WithPgbouncer {
		t.Fatal(err)
	}
	seen := map[string]bool{}
	for _, c := range p.cells {
		seen[c.String()] = true
		if !c.workload.BoundedBy(c.clients, c.protocol) {
			t.Errorf("%s has no bound", c)
		}
	}
	for _, w := range workload.All {
		for _, b := range w.Bounds {
			for _, clients := range b.Clients {
				if c := (cell{workload: w, protocol: w.By([]load.Protocol{load.Simple, load.Prepared})[0], clients: clients}); b.For(clients, c.protocol) && !seen[c.String()] {
					t.Errorf("%s is not measured", c)
				}
			}
		}
	}
	for _, want := range []string{"select-by-key, prepared, 32 clients", "insert-100, simple, 8 clients", "transfer, simple, 1 client", "idle-clients, simple, 5000 clients"} {
		if !seen[want] {
			t.Errorf("%s is not measured", want)
		}
	}
	if seen["insert-100, prepared, 8 clients"] {
		t.Error("a protocol of which nothing is promised is measured")
	}
}

// What a workload can't do otherwise is left out, and readers are varied.
func TestCells(t *testing.T) {
	for want, args := range map[string][]string{
		"copy-in, simple, 1 client":   {"--workload=copy-in", "--protocol=prepared,extended", "--clients=8"},
		"copy-out, simple, 3 clients": {"--workload=copy-out", "--protocol=simple,pipelined", "--clients=3"},
		"transfer-readers, simple, 8 clients and 1 reader; transfer-readers, simple, 8 clients and 5 readers": {"--workload=transfer-readers", "--protocol=simple", "--readers=1,5"},
	} {
		p, err := newPlan(parse(t, args...))
		if err != nil {
			t.Fatal(err)
		}
		var cells []string
		for _, c := range p.cells {
			cells = append(cells, c.String())
		}
		if got := strings.Join(cells, "; "); got != want {
			t.Errorf("%v: %s", args, got)
		}
	}
}

// A bound is compared with the figures of the number of clients and the target that it
// names, and with no others; what another target sets is compared within each round.
func TestBounds(t *testing.T) {
	w := &workload.Workload{Name: "w", Bounds: []workload.Bound{
		{Figure: workload.GatewayCPU, Clients: []int{8}, Limit: 25e3},
		{Figure: workload.Median, Clients: []int{8}, Of: "other", Factor: 1.5, Limit: 1e6},
		{Figure: workload.GatewayCPU, Clients: []int{8}, Of: "other", Factor: 2},
		{Figure: workload.PerSecond, Clients: []int{8}, Of: "absent", Factor: 1, Least: true},
		{Figure: workload.PerSecond, Clients: []int{8}, Of: "other", Factor: 1, Least: true},
		{Figure: workload.GatewayCPU, Clients: []int{1}, Limit: 1},
		{Figure: workload.GatewayCPU, Clients: []int{8}, Protocols: []load.Protocol{load.Prepared}, Limit: 1},
		{Figure: workload.Refused, Clients: []int{8}},
		{Figure: workload.ClientMemory, Clients: []int{8}, Limit: 1},
	}}
	// The machine is slower in each round than in the one before.
	of := func(name string, cpu, p50, rate float64) *figures {
		f := &figures{Target: name}
		for slower := range 3 {
			by := float64(slower + 1)
			f.Rounds = append(f.Rounds, &round{Committed: 1, PerSecond: rate / by, CPUMicros: map[target.Role]float64{target.Gateway: cpu * by},
				LatencyMicros: map[string]float64{"p50": p50 * by}})
		}
		return f
	}
	r := &report{Options: &options{}}
	c := r.add(cell{workload: w, protocol: load.Simple, clients: 8})
	c.Targets = []*figures{of(target.Shardgate, 15, 1250, 140), of("other", 10, 500, 120)}
	c.Targets[1].Rounds[2].CPUMicros[target.Gateway] = 12 // a round that was lucky
	c.summarize()
	want := []string{
		"gateway CPU at most 25.0 µs: 30.0 µs [15.0–45.0], OUTSIDE",
		"median latency at most 1.5 times that of other plus 1ms, here 2.50 ms: 2.50 ms [1.25–3.75], 2.50 times that of other [2.50–2.50], within",
		"gateway CPU at most 2 times that of other, here 24.0 µs: 30.0 µs [15.0–45.0], 1.50 times that of other [1.50–3.75], within",
		"throughput at least 1 times that of other, here 60/s: 70/s [47–140], 1.17 times that of other [1.17–1.17], within",
		"clients that are refused at most 0: 0 [0–0], within",
	}
	var lines []string
	for _, b := range c.Bounds {
		lines = append(lines, b.String())
	}
	if !slices.Equal(lines, want) {
		t.Errorf("%s", strings.Join(lines, "\n"))
	}
	var all bytes.Buffer
	r.printBounds(&all)
	if text := all.String(); !strings.Contains(text, "Bounds: 4 of 5 kept") || strings.Count(text, "w, simple, 8 clients") != len(want) || strings.Count(text, "OUTSIDE") != 1 {
		t.Errorf("%s", text)
	}
}

// No median stands without the range of its rounds, and what was not measured is none.
func TestTable(t *testing.T) {
	c := (&report{}).add(cell{workload: &workload.Workload{Name: "w"}, protocol: load.Simple, clients: 2})
	measured := c.add(&target.Target{Name: target.Shardgate})
	c.add(&target.Target{Name: target.Postgres})
	for by := range 3 {
		l := measure.NewLatency()
		for range 20 {
			l.Record(time.Duration(by+1) * time.Millisecond)
		}
		measured.Rounds = append(measured.Rounds, newRound(&load.Result{Elapsed: time.Second, Committed: int64(1000 * (by + 1)), Latency: l}, nil, nil))
	}
	c.summarize()
	var text bytes.Buffer
	c.print(&text)
	want := `
w, simple, 2 clients
             transactions/s      p50, ms      p90, ms      p95, ms  max, ms  failed
  shardgate           2,000         2.00         2.00         2.00     3.00       0
              [1,000–3,000]  [1.00–3.00]  [1.00–3.00]  [1.00–3.00]                 
   postgres               –            –            –            –        –       –
`
	if got := text.String(); got != want {
		t.Errorf("%s", got)
	}
}

func TestNumbers(t *testing.T) {
	for in, want := range map[float64]string{0: "0", 999: "999", 1000: "1,000", 1234567.6: "1,234,568"} {
		if got := thousands(in); got != want {
			t.Errorf("%g: %s", in, got)
		}
	}
	for in, want := range map[float64]string{12: "0.012", 999.4: "0.999", 1500: "1.50", 15000: "15.0", 123456: "123"} {
		if got := millis(in); got != want {
			t.Errorf("%g µs: %s", in, got)
		}
	}
}
