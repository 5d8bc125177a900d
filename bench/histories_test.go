package main

import (
	"bytes"
	"errors"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/alecthomas/kong"

	"github.com/shardgate/shardgate/bench/history"
	"github.com/shardgate/shardgate/bench/nemesis"
	"github.com/shardgate/shardgate/gateway/localpg/pgtest"
)

// command reads a command line of subcommands.
func command(t *testing.T, args ...string) (*cli, string) {
	t.Helper()
	c := &cli{}
	k, err := kong.New(c, kong.Name("bench"), vars)
	if err != nil {
		t.Fatal(err)
	}
	parsed, err := k.Parse(args)
	if err != nil {
		t.Fatal(err)
	}
	return c, strings.Fields(parsed.Command())[0]
}

// histories runs the command and returns what it printed, its error, and what a check of
// the file that it wrote finds.
func histories(t *testing.T, args ...string) (string, []*history.Result, error) {
	t.Helper()
	t.Setenv("TMPDIR", pgtest.Dir(t))
	file := filepath.Join(t.TempDir(), "history")
	c, _ := command(t, append([]string{"histories", "--history=" + file}, args...)...)
	var text bytes.Buffer
	err := c.Histories.Run(t.Context(), &progress{to: t.Output()}, io.MultiWriter(&text, t.Output()))
	if err != nil && err.Error() != errAnomalies.Error() {
		t.Fatal(err)
	}
	f, openErr := os.Open(file)
	if openErr != nil {
		t.Fatal(openErr)
	}
	defer f.Close()
	h, decodeErr := history.Decode(f)
	if decodeErr != nil {
		t.Fatal(decodeErr)
	}
	results, checkErr := history.Check(h)
	if checkErr != nil {
		t.Fatal(checkErr)
	}
	var again bytes.Buffer
	c.Check.File = file
	if checked := c.Check.Run(&again); !errors.Is(err, checked) {
		t.Errorf("the file gives %v, the run gave %v", checked, err)
	}
	return text.String(), results, err
}

// One PostgreSQL shows no anomaly, whatever the mixture of levels: what the checks find
// elsewhere is not of their own making.
func TestHistoriesOfPostgres(t *testing.T) {
	url := pgtest.Database(t, pgtest.Server(t))
	text, results, err := histories(t, "--duration=4s", "--settle=0s", "--target="+url, "--target="+url)
	if err != nil || len(results) != len(history.Workloads) || strings.Count(text, "no anomaly") != len(results) {
		t.Fatalf("%v", err)
	}
	for _, r := range results {
		if r.Outcomes[history.OK] < 20 {
			t.Errorf("%s: %v", r.Workload, r.Outcomes)
		}
	}
}

// noAnomalies fails on anomalies that the gateway promises not to show: a commit was lost,
// halved, doubled or undone, or seen in half.
func noAnomalies(t *testing.T, results []*history.Result) {
	t.Helper()
	for _, r := range results {
		if r.Outcomes[history.OK] == 0 {
			t.Errorf("%s: nothing was committed", r.Workload)
		}
		for kind, n := range r.Counts {
			if !kind.OnOrderAlone() {
				t.Errorf("%s: %d × %s", r.Workload, n, kind)
			}
		}
	}
}

func TestHistories(t *testing.T) {
	_, results, _ := histories(t, "--duration=4s", "--faults=none")
	noAnomalies(t, results)
}

// With the others, this makes a minute of histories. Its faults are new ones each time; their
// seed is printed.
func TestHistoriesWithFaults(t *testing.T) {
	text, results, _ := histories(t, "--duration=45s")
	noAnomalies(t, results)
	if strings.Contains(text, "\n0 faults") {
		t.Error("nothing was broken")
	}
}

// With a snapshot of each shard's own, the check of the bank fails, and so can see what a
// common snapshot prevents.
func TestSnapshotsOfShards(t *testing.T) {
	_, results, err := histories(t, "--duration=5s", "--faults=none", "--workload=bank", "--set=shardgate.snapshot=shard")
	if !errors.Is(err, errAnomalies) || results[0].Counts[history.WrongTotal] == 0 {
		t.Errorf("%v", err)
	}
}

// To measure stays what is done without a subcommand.
func TestDefaultCommand(t *testing.T) {
	c, name := command(t, "--workload", "pgbench", "--clients", "3")
	if name != "measure" || !slices.Equal(c.Measure.Clients, []int{3}) {
		t.Errorf("%s: %+v", name, c.Measure)
	}
	if _, name := command(t, "histories", "--faults", "kill"); name != "histories" {
		t.Error(name)
	}
}

func TestHistoriesCommandLine(t *testing.T) {
	for want, args := range map[string][]string{
		"no workload": {"--workload=none"},
		"no fault":    {"--faults=odd"},
		"--duration":  {"--duration=0s"},
		"--clients":   {"--clients=0"},
		"--shards":    {"--gateways=0"},
		"--set":       {"--set=a"},
	} {
		c, _ := command(t, append([]string{"histories"}, args...)...)
		if _, _, err := c.Histories.validate(); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v: %v", args, err)
		}
	}
	c, _ := command(t, "histories", "--faults=kill,cut")
	_, faults, err := c.Histories.validate()
	if want := []nemesis.Fault{nemesis.KillGateway, nemesis.KillShard, nemesis.KillBackend, nemesis.CutLink}; err != nil || !slices.Equal(faults, want) || c.Histories.Seed == 0 {
		t.Errorf("%v, %v", faults, err)
	}
}
