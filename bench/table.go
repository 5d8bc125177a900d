package main

import (
	"fmt"
	"io"
	"math"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/shardgate/shardgate/bench/measure"
)

// print writes the report for people: what is wrong first.
func (r *report) print(w io.Writer) {
	if r.failed() {
		fmt.Fprintf(w, "\nINVARIANTS FAILED: the figures below are worth nothing.\n")
		for _, v := range r.Violations {
			fmt.Fprintf(w, "  %s\n", v)
		}
	}
	fmt.Fprintf(w, "\n%s\n", r.Environment)
	o := r.Options
	fmt.Fprintf(w, "%s of %v after %v of warm-up; medians, [minimum–maximum]; scale %d, seed %d\n",
		plural(o.Rounds, "round"), o.Duration, o.Warmup, o.Scale, o.Seed)
	if r.Incomplete != "" {
		fmt.Fprintf(w, "\nBROKEN OFF: %s\n", r.Incomplete)
	}
	for _, c := range r.Cells {
		c.print(w)
	}
	r.printBounds(w)
	for _, u := range r.Unchecked {
		fmt.Fprintf(w, "\nnot checked: %s\n", u)
	}
	if !r.failed() && len(r.Unchecked) == 0 {
		fmt.Fprintf(w, "\nThe invariants held.\n")
	}
}

func (c *cellReport) print(w io.Writer) {
	fmt.Fprintf(w, "\n%s\n", c.cell)
	var all []legendItem
	for _, f := range c.Targets {
		all = append(all, legendItem{Name: f.Target})
	}
	for _, columns := range [][]column{seen(), costs()} {
		tableOf(c, all, columns).print(w)
	}
	c.remarks(w)
}

// print writes a table with the ranges of the rounds below the medians.
func (t table) print(w io.Writer) {
	if len(t.Heads) == 0 {
		return
	}
	to := tabwriter.NewWriter(w, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintf(to, "\t%s\t\n", strings.Join(t.Heads, "\t"))
	for _, row := range t.Rows {
		medians, ranges, ranged := row.Name+"\t", "\t", false
		for _, v := range row.Values {
			text := v.Text
			if text == "" {
				text = "–"
			}
			medians += text + "\t"
			if v.Range != "" {
				ranges += "[" + v.Range + "]"
				ranged = true
			}
			ranges += "\t"
		}
		fmt.Fprintln(to, medians)
		if ranged {
			fmt.Fprintln(to, ranges)
		}
	}
	to.Flush()
}

// reaches says whether each round had enough transactions for a percentile: one at least
// beyond it.
func (f *figures) reaches(percent float64) bool {
	return reaches(len(f.Curve), percent)
}

// reaches says it of a curve of so many points.
func reaches(points int, percent float64) bool {
	return percent == 100 || float64(points-1) >= math.Floor(-math.Log10(1-percent/100)*curvePerDecade+1e-9)
}

// remarks are what is said below a table.
func (c *cellReport) remarks(w io.Writer) {
	for _, f := range c.Targets {
		if f.Note != "" {
			fmt.Fprintf(w, "  %s: %s\n", f.Target, f.Note)
		}
		for _, line := range f.errorLines() {
			fmt.Fprintf(w, "  FAILED %s\n", line)
		}
	}
	c.schedule(w)
	first := c.Targets[0]
	for _, f := range c.Targets[1:] {
		if strings.HasSuffix(f.Target, readersOf) {
			continue
		}
		if ratio, ok := pairs(first, f); ok && c.Rate == 0 {
			fmt.Fprintf(w, "  throughput of %s is %.2f %s that of %s\n", first.Target, ratio.Median, bracket(ratio, twoDigits), f.Target)
		}
	}
	c.yardstick(w)
	c.fsynced(w)
	for _, b := range c.Bounds {
		fmt.Fprintf(w, "  bound: %s\n", b)
	}
}

// lateness is from which on the benchmark says that its own clients woke up late.
const lateness = 2 * time.Millisecond

// schedule writes what became of an open loop's schedule.
func (c *cellReport) schedule(w io.Writer) {
	for _, f := range c.Targets {
		if f.Reached == nil {
			continue
		}
		fmt.Fprintf(w, "  %s: %s %s of the schedule was sent in its time", f.Target, percent(f.Reached.Median), bracket(*f.Reached, percent))
		var never int64
		late := 0.0
		for _, m := range f.Rounds {
			never += m.Schedule.Unsent
			late = max(late, m.Schedule.LateMicros)
		}
		if never > 0 {
			fmt.Fprintf(w, "; %s were never sent, and their latencies are more than the table says", thousands(float64(never)))
		}
		if late > micros(lateness) {
			fmt.Fprintf(w, "; the benchmark itself was up to %s ms late in its 99th percentile: the machine is busy", millis(late))
		}
		fmt.Fprintln(w)
	}
}

// percent writes a share, so that only the whole is 100%.
func percent(share float64) string {
	return strconv.FormatFloat(math.Floor(share*1e4)/100, 'f', -1, 64) + "%"
}

// pairs is the throughput of one target relative to another's, round by round.
func pairs(a, b *figures) (measure.Spread, bool) {
	var ratios []float64
	for i := range min(len(a.Rounds), len(b.Rounds)) {
		if b.Rounds[i].PerSecond > 0 {
			ratios = append(ratios, a.Rounds[i].PerSecond/b.Rounds[i].PerSecond)
		}
	}
	return measure.SpreadOf(ratios), len(ratios) > 0
}

func bracket(s measure.Spread, format func(float64) string) string {
	return "[" + format(s.Min) + "–" + format(s.Max) + "]"
}

func oneDigit(f float64) string    { return strconv.FormatFloat(f, 'f', 1, 64) }
func twoDigits(f float64) string   { return strconv.FormatFloat(f, 'f', 2, 64) }
func threeDigits(f float64) string { return strconv.FormatFloat(f, 'f', 3, 64) }

func kibibytes(bytes float64) string { return oneDigit(bytes / (1 << 10)) }
func mebibytes(bytes float64) string { return oneDigit(bytes / (1 << 20)) }

// significant writes three digits of a number.
func significant(v float64) string {
	switch {
	case v >= 100:
		return thousands(v)
	case v >= 10:
		return oneDigit(v)
	}
	return twoDigits(v)
}

// rate writes transactions in a second.
func rate(f float64) string {
	if f > 0 && f < 10 {
		return twoDigits(f)
	}
	return thousands(f)
}

// millis writes microseconds as milliseconds, to about three digits.
func millis(micros float64) string {
	ms := micros / 1000
	switch {
	case ms < 1:
		return strconv.FormatFloat(ms, 'f', 3, 64)
	case ms < 10:
		return strconv.FormatFloat(ms, 'f', 2, 64)
	case ms < 100:
		return strconv.FormatFloat(ms, 'f', 1, 64)
	}
	return strconv.FormatFloat(ms, 'f', 0, 64)
}

// thousands writes a whole number with its groups of three apart.
func thousands(f float64) string {
	s := strconv.FormatFloat(f, 'f', 0, 64)
	var b strings.Builder
	for i, c := range s {
		if i > 0 && (len(s)-i)%3 == 0 && s[i-1] != '-' {
			b.WriteByte(',')
		}
		b.WriteRune(c)
	}
	return b.String()
}
