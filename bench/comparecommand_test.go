package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/alecthomas/kong"

	"github.com/shardgate/shardgate/bench/compare"
	"github.com/shardgate/shardgate/bench/target"
)

// fileOf writes a run of one cell, a round for each throughput.
func fileOf(t *testing.T, change func(*report), perSecond ...float64) string {
	t.Helper()
	f := &figures{Target: target.Shardgate}
	for _, v := range perSecond {
		f.Rounds = append(f.Rounds, &round{Committed: 1000, PerSecond: v, LatencyMicros: map[string]float64{"p50": 1e6 / v, "p99.99": v},
			Curve: []float64{1, 2, 3, 4, 5}, Allocated: &allocated{Bytes: 100, Objects: 3}})
	}
	r := &report{Options: &options{Scale: 10}, Cells: []*cellReport{{Workload: "select-by-key", Protocol: "simple", Clients: 8, Targets: []*figures{f}}}}
	if change != nil {
		change(r)
	}
	file := filepath.Join(t.TempDir(), "results.json")
	if err := r.write(file); err != nil {
		t.Fatal(err)
	}
	return file
}

// compared runs the command.
func compared(t *testing.T, args ...string) (string, error) {
	t.Helper()
	c := &compareCommand{}
	k, err := kong.New(c, vars)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := k.Parse(args); err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	err = c.Run(&out)
	return out.String(), err
}

func TestCompare(t *testing.T) {
	fast := fileOf(t, nil, 1000, 1010, 1020, 1030, 1040)
	slow := fileOf(t, nil, 800, 810, 820, 830, 840)
	few := fileOf(t, nil, 500, 510, 520)
	other := fileOf(t, func(r *report) {
		r.Options.Scale, r.Options.Keys, r.Incomplete, r.Cells[0].Clients = 20, "zipf", "interrupted", 4
	}, 1000, 1010, 1020, 1030)
	for name, c := range map[string]struct {
		args []string
		want []string // in what is printed
		fail string   // "": exit status 0
	}{
		"worse":            {[]string{fast, slow}, []string{"1,020 [1,000–1,040]  820 [800–840]", "p50, ms         0.980 [0.962–1.00]", "-19.6% WORSE (p=0.008)", "+24.4% WORSE", "0 better, 2 worse", "without a difference"}, ""},
		"worse, and fails": {[]string{fast, slow, "--fail-above=10%"}, []string{"worse by more than 10%: select-by-key, simple, 8 clients, shardgate, transactions/s: -19.6%"}, "2 figures worse by more than 10%"},
		"within the limit": {[]string{fast, slow, "--fail-above=30%"}, []string{"2 worse"}, ""},
		"one figure":       {[]string{fast, slow, "--fail-above=20%", "--figure=transactions/s"}, []string{"1 figure compared"}, ""},
		"better":           {[]string{slow, fast, "--fail-above=10%"}, []string{"+24.4% better", "2 better, 0 worse"}, ""},
		"the same":         {[]string{fast, fast, "--fail-above=0%"}, []string{"0 better, 0 worse"}, ""},
		"too few":          {[]string{few, slow, "--alpha=0.01"}, []string{"too few rounds to tell"}, ""},
		"too few to pass":  {[]string{few, few, "--fail-above=10%"}, []string{"too few rounds to tell"}, "too few rounds"},
		"not alike":        {[]string{fast, other}, []string{"NOT ALIKE: scale: 10, and 20", "NOT ALIKE: keys: , and zipf", "was broken off: interrupted", "4 clients: new only", "8 clients: old only"}, "nothing in common"},
		"all":              {[]string{fast, slow, "--all"}, []string{"allocations", "~ (p=1.000)"}, ""},
		"an odd figure":    {[]string{fast, slow, "--figure=none"}, nil, "no figure"},
	} {
		out, err := compared(t, c.args...)
		if (err == nil) != (c.fail == "") || err != nil && !strings.Contains(err.Error(), c.fail) {
			t.Errorf("%s: error %v\n%s", name, err, out)
		}
		for _, want := range c.want {
			if !strings.Contains(out, want) {
				t.Errorf("%s: no %q in:\n%s", name, want, out)
			}
		}
		// Too few transactions of a round were there for that percentile.
		if strings.Contains(out, "p99.99") {
			t.Errorf("%s: p99.99 was compared:\n%s", name, out)
		}
	}
	broken := filepath.Join(t.TempDir(), "broken.json")
	if b, err := json.Marshal(map[string]int{"x": 1}); err != nil || os.WriteFile(broken, b, 0o644) != nil {
		t.Fatal(err)
	}
	if _, err := compared(t, fast, broken); err == nil || !strings.Contains(err.Error(), "is not what") {
		t.Errorf("%v", err)
	}
}

// What a run writes can be compared, whatever is in it.
func TestCompareWrittenReport(t *testing.T) {
	file := filepath.Join(t.TempDir(), "results.json")
	if err := madeUp(t).write(file); err != nil {
		t.Fatal(err)
	}
	out, err := compared(t, file, file, "--fail-above=0%")
	if err != nil || !strings.Contains(out, "0 better, 0 worse\n") {
		t.Errorf("%v\n%s", err, out)
	}
	if compare.TooFew == "" || strings.Contains(out, string(compare.TooFew)) {
		t.Errorf("five rounds are too few:\n%s", out)
	}
}

// benchmarks writes what go test -bench does: a line for each time.
func benchmarks(t *testing.T, name string, allocations int, nanoseconds ...float64) string {
	t.Helper()
	var b strings.Builder
	b.WriteString("goos: linux\npkg: github.com/shardgate/shardgate/wire\n")
	for _, ns := range nanoseconds {
		fmt.Fprintf(&b, "Benchmark%s-2 \t 1000\t %g ns/op\t 5.0 MB/s\t 16 B/op\t %d allocs/op\n", name, ns, allocations)
	}
	b.WriteString("PASS\n")
	file := filepath.Join(t.TempDir(), "bench.txt")
	if err := os.WriteFile(file, []byte(b.String()), 0o644); err != nil {
		t.Fatal(err)
	}
	return file
}

func TestHotPaths(t *testing.T) {
	fast := benchmarks(t, "Read/small", 1, 100, 101, 102, 103, 104)
	for name, c := range map[string]struct {
		newer string
		want  string
		fail  string // "": exit status 0
	}{
		"slower":       {benchmarks(t, "Read/small", 1, 130, 131, 132, 133, 134), "wire Read/small-2  sec/op  102.0n  132.0n  +29.4% WORSE (p=0.008)", "1 figure worse by more than 10%"},
		"a bit slower": {benchmarks(t, "Read/small", 1, 105, 106, 107, 108, 109), "+4.9% WORSE", ""},
		"noise":        {benchmarks(t, "Read/small", 1, 90, 120, 100, 150, 103), "~ (p=", ""},
		"allocates":    {benchmarks(t, "Read/small", 2, 100, 101, 102, 103, 104), "allocs/op  1.000   2.000   +100.0% WORSE", "1 figure worse"},
		"faster":       {benchmarks(t, "Read/small", 1, 50, 51, 52, 53, 54), "better", ""},
		"renamed":      {benchmarks(t, "Other", 1, 50, 51, 52, 53, 54), "not compared: wire Read/small-2: old only", "nothing in common"},
		"too few":      {benchmarks(t, "Read/small", 1, 50, 51), "too few rounds to tell", "too few rounds to tell: 5 of each"},
	} {
		limit := compare.Limit(0.1)
		command := &hotPathsCommand{Old: fast, New: c.newer, compareOptions: compareOptions{FailAbove: &limit, Alpha: 0.01}}
		var out bytes.Buffer
		err := command.Run(&out)
		if (err == nil) != (c.fail == "") || err != nil && !strings.Contains(err.Error(), c.fail) || !strings.Contains(out.String(), c.want) {
			t.Errorf("%s: error %v\n%s", name, err, &out)
		}
	}
}
