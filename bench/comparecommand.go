package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"slices"
	"strings"
	"text/tabwriter"

	"github.com/shardgate/shardgate/bench/compare"
)

// compareCommand compares two runs.
type compareCommand struct {
	Old string `arg:"" type:"existingfile" help:"results.json of the run to compare with."`
	New string `arg:"" type:"existingfile" help:"results.json of the other."`
	compareOptions
	Figure []string `placeholder:"NAME,..." help:"Only these figures: ${figures} (default: all)."`
}

// compareOptions are those of both commands that compare.
type compareOptions struct {
	FailAbove *compare.Limit `placeholder:"PERCENT" help:"Exit with status 1 if a figure is worse by more than this, such as 10%, beyond the noise; and also if there are too few rounds to tell."`
	Alpha     float64        `default:"0.05" help:"How often a difference may be reported where there is none but chance, 0 to 1."`
	All       bool           `help:"Show also what has not changed."`
}

func (o *compareOptions) check() error {
	if o.Alpha <= 0 || o.Alpha >= 1 {
		return errors.New("--alpha must be between 0 and 1")
	}
	return nil
}

// comparedFigure is something that is compared round by round.
type comparedFigure struct {
	name           string
	higherIsBetter bool
	of             func(*round) (float64, bool)
	format         func(float64) string
	unit           string // "": the name says it
}

// title is the name with the unit.
func (f comparedFigure) title() string {
	if f.unit == "" {
		return f.name
	}
	return f.name + ", " + f.unit
}

// comparedFigures are all that are compared, but for those of single processes: memory at
// rest is looked at once in a cell.
func comparedFigures() []comparedFigure {
	list := []comparedFigure{
		{"transactions/s", true, func(m *round) (float64, bool) { return m.PerSecond, true }, rate, ""},
		{"schedule reached", true, (*round).reached, percent, ""},
	}
	for _, p := range percentiles {
		list = append(list, comparedFigure{p.name, false, func(m *round) (float64, bool) {
			return m.LatencyMicros[p.name], m.measured() && reaches(len(m.Curve), p.percent)
		},
			millis, "ms"})
	}
	for _, part := range cpuParts {
		list = append(list, comparedFigure{string(part.role) + " CPU", false, func(m *round) (float64, bool) { return m.cpu(part.role) },
			significant, "µs"})
	}
	return append(list,
		comparedFigure{rowCPU, false, (*round).rowCPU, threeDigits, "µs"},
		comparedFigure{firstRow, false, (*round).firstRow, millis, "ms"},
		comparedFigure{peakMemory, false, (*round).peak, mebibytes, "MiB"},
		comparedFigure{"bytes allocated", false, (*round).bytes, thousands, ""},
		comparedFigure{"allocations", false, (*round).objects, oneDigit, ""},
		comparedFigure{loginCPU, false, (*round).loginCPU, twoDigits, "s"},
		comparedFigure{clientMemory, false, (*round).clientMemory, kibibytes, "KiB"},
		comparedFigure{"failed", false, func(m *round) (float64, bool) { return float64(m.Failed), true }, thousands, ""},
	)
}

func figureNames() (names []string) {
	for _, f := range comparedFigures() {
		names = append(names, f.name)
	}
	return names
}

// Run compares and prints.
func (c *compareCommand) Run(out io.Writer) error {
	if err := c.check(); err != nil {
		return err
	}
	older, err := readReport(c.Old)
	if err != nil {
		return err
	}
	newer, err := readReport(c.New)
	if err != nil {
		return err
	}
	figures := comparedFigures()
	for _, name := range c.Figure {
		if !slices.Contains(figureNames(), name) {
			return fmt.Errorf("no figure %q; there are %s", name, strings.Join(figureNames(), ", "))
		}
	}
	if len(c.Figure) > 0 {
		figures = slices.DeleteFunc(figures, func(f comparedFigure) bool { return !slices.Contains(c.Figure, f.name) })
	}
	fmt.Fprintf(out, "old: %s, %s\nnew: %s, %s\n", older.Environment.Time.Format("2006-01-02 15:04"), older.Environment, newer.Environment.Time.Format("2006-01-02 15:04"), newer.Environment)
	for _, text := range conditions(older, newer) {
		fmt.Fprintf(out, "NOT ALIKE: %s\n", text)
	}
	s := &summary{options: &c.compareOptions}
	for _, cell := range newer.Cells {
		if before := older.like(cell); before != nil {
			s.cell(out, before, cell, figures)
		} else {
			s.alone = append(s.alone, cell.String()+": new only")
		}
	}
	for _, cell := range older.Cells {
		if newer.like(cell) == nil {
			s.alone = append(s.alone, cell.String()+": old only")
		}
	}
	return s.print(out)
}

func readReport(file string) (*report, error) {
	b, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	r := &report{}
	if err := json.Unmarshal(b, r); err != nil || r.Options == nil {
		return nil, errors.Join(fmt.Errorf("%s is not what --report or --json writes", file), err)
	}
	return r, nil
}

// like is the same cell of another run.
func (r *report) like(c *cellReport) *cellReport {
	for _, mine := range r.Cells {
		if mine.String() == c.String() {
			return mine
		}
	}
	return nil
}

// conditions are what differs between two runs besides what is measured.
func conditions(a, b *report) (list []string) {
	add := func(what string, x, y any) {
		if fmt.Sprint(x) != fmt.Sprint(y) {
			list = append(list, fmt.Sprintf("%s: %v, and %v", what, x, y))
		}
	}
	add("processor", a.Environment.CPU, b.Environment.CPU)
	add("cores", a.Environment.Cores, b.Environment.Cores)
	add("kernel", a.Environment.Kernel, b.Environment.Kernel)
	add("PostgreSQL", a.Environment.Versions["postgresql"], b.Environment.Versions["postgresql"])
	add("scale", a.Options.Scale, b.Options.Scale)
	add("shards", a.Options.Shards, b.Options.Shards)
	add("duration", a.Options.Duration, b.Options.Duration)
	add("warm-up", a.Options.Warmup, b.Options.Warmup)
	add("keys", a.Options.Keys, b.Options.Keys)
	add("share of the hot keys", a.Options.HotShare, b.Options.HotShare)
	add("transactions in a pipeline", a.Options.Pipeline, b.Options.Pipeline)
	for _, name := range slices.Sorted(maps.Keys(a.Environment.Settings)) {
		if other, ok := b.Environment.Settings[name]; ok {
			add("setting "+name, a.Environment.Settings[name], other)
		}
	}
	for _, r := range []*report{a, b} {
		if r.failed() {
			list = append(list, "not all invariants held in the run of commit "+r.Environment.Commit+": its figures are worth nothing")
		}
		if r.Incomplete != "" {
			list = append(list, "the run of commit "+r.Environment.Commit+" was broken off: "+r.Incomplete)
		}
	}
	return list
}

// summary is what was found.
type summary struct {
	options                         *compareOptions
	compared, better, worse, tooFew int
	failing                         []string
	alone                           []string
}

func (s *summary) cell(out io.Writer, older, newer *cellReport, figures []comparedFigure) {
	fmt.Fprintf(out, "\n%s\n", newer)
	t := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	same, tooFew := 0, 0
	for _, f := range newer.Targets {
		before := older.of(f.Target)
		if before == nil || len(f.Rounds) == 0 || len(before.Rounds) == 0 {
			continue
		}
		for _, figure := range figures {
			a, b := before.values(figure.of), f.values(figure.of)
			if len(a) < len(before.Rounds) || len(b) < len(f.Rounds) {
				continue // not known, or a percentile that not each round reaches
			}
			c := compare.Of(a, b, figure.higherIsBetter, s.options.Alpha)
			s.count(newer.String()+", "+f.Target+", "+figure.name, c)
			switch {
			case s.options.All:
			case c.Verdict == compare.Same:
				same++
				continue
			case c.Verdict == compare.TooFew:
				tooFew++
				continue
			}
			fmt.Fprintf(t, "  %s\t%s\t%s\t%s\t%s\n", f.Target, figure.title(), figure.format(c.Old.Median)+" "+bracket(c.Old, figure.format),
				figure.format(c.New.Median)+" "+bracket(c.New, figure.format), c)
		}
	}
	t.Flush()
	if same > 0 {
		fmt.Fprintf(out, "  %s without a difference beyond the noise\n", plural(same, "figure"))
	}
	if tooFew > 0 {
		fmt.Fprintf(out, "  %s: %s\n", plural(tooFew, "figure"), compare.TooFew)
	}
}

// count takes one comparison in.
func (s *summary) count(name string, c compare.Change) {
	s.compared++
	switch c.Verdict {
	case compare.Better:
		s.better++
	case compare.Worse:
		s.worse++
	case compare.TooFew:
		s.tooFew++
	}
	if s.options.FailAbove != nil && c.Harm() > float64(*s.options.FailAbove) {
		s.failing = append(s.failing, fmt.Sprintf("%s: %s", name, c))
	}
}

// print says what was found in all. Its error is for the exit status.
func (s *summary) print(out io.Writer) error {
	for _, text := range s.alone {
		fmt.Fprintf(out, "\nnot compared: %s\n", text)
	}
	fmt.Fprintf(out, "\n%s compared: %d better, %d worse", plural(s.compared, "figure"), s.better, s.worse)
	if s.tooFew > 0 {
		fmt.Fprintf(out, ", %d with %s (%d of each run are the least)", s.tooFew, compare.TooFew, compare.LeastRounds(s.options.Alpha))
	}
	fmt.Fprintln(out)
	for _, text := range s.failing {
		fmt.Fprintf(out, "worse by more than %s: %s\n", s.options.FailAbove, text)
	}
	switch {
	case s.compared == 0:
		return errors.New("the two have nothing in common")
	case s.options.FailAbove == nil:
		return nil
	case len(s.failing) > 0:
		return fmt.Errorf("%s worse by more than %s", plural(len(s.failing), "figure"), s.options.FailAbove)
	case s.tooFew > 0:
		return fmt.Errorf("%s: %d of each run are the least, and more see smaller differences", compare.TooFew, compare.LeastRounds(s.options.Alpha))
	}
	return nil
}
