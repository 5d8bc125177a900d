package main

import (
	"fmt"
	"io"
	"os"
	"strings"
	"text/tabwriter"

	"golang.org/x/perf/benchfmt"
	"golang.org/x/perf/benchunit"

	"github.com/shardgate/shardgate/bench/compare"
)

// hotPathsCommand compares what `go test -bench` has written for two commits. make
// bench-check runs the benchmarks.
type hotPathsCommand struct {
	Old string `arg:"" type:"existingfile" help:"What go test -bench has written for the commit to compare with."`
	New string `arg:"" type:"existingfile" help:"What it has written for the other."`
	compareOptions
}

// hotUnits are what of a benchmark is compared, less being better: the throughput that some
// report says the same as the time.
var hotUnits = []string{"sec/op", "B/op", "allocs/op"}

// goBenchmarks are the values of benchmarks by package, name and unit, in the order in
// which they came.
type goBenchmarks struct {
	names  []string
	values map[string]map[string][]float64
}

func readBenchmarks(file string) (*goBenchmarks, error) {
	f, err := os.Open(file)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	all := &goBenchmarks{values: map[string]map[string][]float64{}}
	r := benchfmt.NewReader(f, file)
	for r.Scan() {
		switch result := r.Result().(type) {
		case *benchfmt.SyntaxError:
			return nil, result
		case *benchfmt.Result:
			name := strings.TrimPrefix(result.GetConfig("pkg"), "github.com/shardgate/shardgate/") + " " + result.Name.String()
			if all.values[name] == nil {
				all.values[name] = map[string][]float64{}
				all.names = append(all.names, name)
			}
			for _, v := range result.Values {
				all.values[name][v.Unit] = append(all.values[name][v.Unit], v.Value)
			}
		}
	}
	return all, r.Err()
}

// Run compares and prints.
func (c *hotPathsCommand) Run(out io.Writer) error {
	if err := c.check(); err != nil {
		return err
	}
	older, err := readBenchmarks(c.Old)
	if err != nil {
		return err
	}
	newer, err := readBenchmarks(c.New)
	if err != nil {
		return err
	}
	s := &summary{options: &c.compareOptions}
	t := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	for _, name := range newer.names {
		before := older.values[name]
		if before == nil {
			s.alone = append(s.alone, name+": new only")
			continue
		}
		for _, unit := range hotUnits {
			a, b := before[unit], newer.values[name][unit]
			if len(a) == 0 || len(b) == 0 {
				continue
			}
			change := compare.Of(a, b, false, c.Alpha)
			s.count(name+", "+unit, change)
			if unit == hotUnits[0] || change.Verdict != compare.Same || c.All {
				class := benchunit.ClassOf(unit)
				fmt.Fprintf(t, "%s\t%s\t%s\t%s\t%s\n", name, unit, benchunit.Scale(change.Old.Median, class), benchunit.Scale(change.New.Median, class), change)
			}
		}
	}
	for _, name := range older.names {
		if newer.values[name] == nil {
			s.alone = append(s.alone, name+": old only")
		}
	}
	if err := t.Flush(); err != nil {
		return err
	}
	return s.print(out)
}
