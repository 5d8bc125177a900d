package main

import (
	"fmt"
	"io"
	"strconv"
	"strings"
	"time"

	"github.com/shardgate/shardgate/bench/load"
	"github.com/shardgate/shardgate/bench/measure"
	"github.com/shardgate/shardgate/bench/target"
	"github.com/shardgate/shardgate/bench/workload"
)

// streamed writes what the rows of large answers cost.
func (c *cellReport) streamed(w io.Writer) {
	if !c.cell.workload.Streams {
		return
	}
	for _, f := range c.Targets {
		if f.RowsPerSecond.Max == 0 {
			continue
		}
		fmt.Fprintf(w, "  %s: %s rows/s", f.Target, rate(f.RowsPerSecond.Median))
		if s := f.FirstRowMicros; s.Max > 0 {
			fmt.Fprintf(w, "; first row after %s ms %s", millis(s.Median), bracket(s, millis))
		}
		if s := f.RowMicros; s.Max > 0 {
			fmt.Fprintf(w, "; gateway %.3f µs a row %s", s.Median, bracket(s, threeDigits))
		}
		fmt.Fprintln(w)
	}
}

// memory writes what the gateways hold and allocate.
func (c *cellReport) memory(w io.Writer) {
	for _, f := range c.Targets {
		var parts []string
		if s := f.PeakBytes; s != nil {
			parts = append(parts, fmt.Sprintf("%s MiB of memory when idle, at its peak %s MiB %s more", mebibytes(float64(*f.IdleBytes)), mebibytes(s.Median), bracket(*s, mebibytes)))
		}
		if b, o := f.AllocatedBytes, f.AllocatedObjects; b != nil {
			parts = append(parts, fmt.Sprintf("%s bytes in %s allocations for a transaction", thousands(b.Median), oneDigit(o.Median)))
		}
		if len(parts) > 0 {
			fmt.Fprintf(w, "  gateway of %s: %s\n", f.Target, strings.Join(parts, "; "))
		}
	}
}

// bound is a promise about Shardgate's figures, and what became of it.
type bound struct {
	Of     string  `json:"of"`     // which figure, as compare names it
	Limit  float64 `json:"limit"`  // in the figure's unit
	Value  float64 `json:"value"`  // the median
	Within bool    `json:"within"` // the limit
	Text   string  `json:"text"`
	remark string
}

func (b bound) String() string {
	verdict := "within it"
	if !b.Within {
		verdict = "OUTSIDE IT"
	}
	return b.Text + ", " + verdict + b.remark
}

// bounds compares Shardgate's figures with what is promised of them in this cell, but for
// promises that need a target which was not measured.
func (c *cellReport) bounds() (list []bound) {
	mine := c.of(target.Shardgate)
	if mine == nil || c.cell.readers > 0 || c.Rate > 0 {
		return nil
	}
	for _, b := range c.cell.workload.Bounds {
		if !b.For(c.Clients, c.Protocol) {
			continue
		}
		s, measured := mine.of(b.Figure)
		limit := b.Limit / scaleOf(b.Figure)
		text := shown(b.Figure, limit)
		if b.Of != "" {
			other := c.of(b.Of)
			if other == nil {
				continue
			}
			theirs, there := other.of(b.Figure)
			if !there {
				continue
			}
			limit += b.Factor * theirs.Median
			text = fmt.Sprintf("%g times that of %s", b.Factor, b.Of)
			if b.Limit > 0 {
				text += fmt.Sprintf(" plus %v", time.Duration(b.Limit))
			}
			text += ", here " + shown(b.Figure, limit)
		}
		if !measured {
			continue
		}
		word, kept := "at most", s.Median <= limit
		if b.Least {
			word, kept = "at least", s.Median >= limit
		}
		now := bound{Of: nameOf(b.Figure), Limit: limit, Value: s.Median, Within: kept,
			Text: fmt.Sprintf("%s %s %s at %s: %s %s", describe(b), word, text, plural(c.Clients, "client"),
				shown(b.Figure, s.Median), bracket(s, func(v float64) string { return plain(b.Figure, v) }))}
		if b.Figure == workload.GatewayCPU && b.Of == "" {
			now.remark = c.yardstick(s.Median)
		}
		list = append(list, now)
	}
	return list
}

// Figures that have a name besides that of a percentile.
const (
	gatewayCPU = "gateway CPU"
	rowCPU     = "gateway CPU a row"
	peakMemory = "peak memory"
)

// of is one of the figures; false: it was not measured.
func (f *figures) of(figure workload.Figure) (measure.Spread, bool) {
	if !f.measured() {
		return measure.Spread{}, false
	}
	if f.Connections != nil {
		return f.Connections.of(figure)
	}
	switch figure {
	case workload.GatewayCPU:
		s, ok := f.CPUMicros[target.Gateway]
		return s, ok
	case workload.RowCPU:
		return f.RowMicros, f.RowMicros.Max > 0
	case workload.Median:
		return f.LatencyMicros["p50"], true
	case workload.FirstRow:
		return f.FirstRowMicros, f.FirstRowMicros.Max > 0
	case workload.PerSecond:
		return f.PerSecond, true
	}
	if f.PeakBytes == nil {
		return measure.Spread{}, false
	}
	return *f.PeakBytes, true
}

// nameOf is how a figure is called in results.
func nameOf(f workload.Figure) string {
	switch f {
	case workload.GatewayCPU:
		return gatewayCPU
	case workload.RowCPU:
		return rowCPU
	case workload.Median:
		return "p50"
	case workload.FirstRow:
		return "first row"
	case workload.PerSecond:
		return "throughput"
	case workload.Refused:
		return "refused"
	case workload.LoginCPU:
		return "login CPU"
	case workload.ClientMemory:
		return "memory of an idle client"
	}
	return peakMemory
}

// scaleOf is the unit of a limit in that of the report's figure: nanoseconds become
// microseconds.
func scaleOf(f workload.Figure) float64 {
	switch f {
	case workload.PerSecond, workload.Memory, workload.Refused, workload.ClientMemory:
		return 1
	}
	return float64(time.Microsecond)
}

// describe is what a bound is about, in words.
func describe(b workload.Bound) string {
	switch b.Figure {
	case workload.GatewayCPU, workload.RowCPU:
		return "the gateway's CPU for " + b.What
	case workload.Median:
		return "the median latency of " + b.What
	case workload.FirstRow:
		return "the time to the first row"
	case workload.PerSecond:
		return "throughput"
	case workload.Refused:
		return "the number of clients that are refused"
	case workload.LoginCPU:
		return "the gateway's CPU until all are in"
	case workload.ClientMemory:
		return "the gateway's memory for an idle client"
	}
	return "the gateway's memory above idle"
}

// shown writes a figure with its unit, and plain without.
func shown(f workload.Figure, v float64) string {
	switch f {
	case workload.GatewayCPU, workload.RowCPU:
		return plain(f, v) + " µs"
	case workload.Median, workload.FirstRow:
		return plain(f, v) + " ms"
	case workload.PerSecond, workload.Refused:
		return plain(f, v)
	case workload.LoginCPU:
		return plain(f, v) + " s"
	case workload.ClientMemory:
		return plain(f, v) + " KiB"
	}
	return plain(f, v) + " MiB"
}

func plain(f workload.Figure, v float64) string {
	switch f {
	case workload.GatewayCPU:
		return oneDigit(v)
	case workload.RowCPU:
		return threeDigits(v)
	case workload.Median, workload.FirstRow:
		return millis(v)
	case workload.PerSecond:
		return rate(v)
	case workload.Refused:
		return thousands(v)
	case workload.LoginCPU:
		return oneDigit(v / 1e6)
	case workload.ClientMemory:
		return kibibytes(v)
	}
	return mebibytes(v)
}

// of are the figures of a target; nil: it has none.
func (c *cellReport) of(name string) *figures {
	for _, f := range c.Targets {
		if f.Target == name {
			return f
		}
	}
	return nil
}

// addRows takes what a run has seen of the rows of its answers.
func (m *round) addRows(res *load.Result) {
	if m.Rows = res.Rows; m.Rows == 0 {
		return
	}
	m.FirstRowMicros = micros(res.FirstRow.Percentile(50))
	if cpu, ok := m.CPUMicros[target.Gateway]; ok && m.Failed == 0 {
		m.RowMicros = cpu * float64(m.Committed) / float64(m.Rows)
	}
}

// summarizeRows makes the spreads of what the rounds have seen of rows.
func (f *figures) summarizeRows() {
	above0 := func(v float64) (float64, bool) { return v, v > 0 }
	f.FirstRowMicros = f.spread(func(m *round) (float64, bool) { return above0(m.FirstRowMicros) })
	f.RowsPerSecond = f.spread(func(m *round) (float64, bool) { return above0(float64(m.Rows) / m.ElapsedSeconds) })
	f.RowMicros = f.spread(func(m *round) (float64, bool) { return above0(m.RowMicros) })
}

// rate writes transactions in a second.
func rate(f float64) string {
	if f > 0 && f < 10 {
		return twoDigits(f)
	}
	return thousands(f)
}

func threeDigits(f float64) string   { return strconv.FormatFloat(f, 'f', 3, 64) }
func mebibytes(bytes float64) string { return strconv.FormatFloat(bytes/(1<<20), 'f', 1, 64) }
