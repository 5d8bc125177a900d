package main

import (
	"fmt"
	"io"
	"strconv"
	"strings"

	"github.com/shardgate/shardgate/bench/target"
	"github.com/shardgate/shardgate/bench/workload"
)

// streamed writes what the rows of large answers cost.
func (c *cellReport) streamed(w io.Writer) {
	if !c.cell.workload.Streams {
		return
	}
	for _, f := range c.Targets {
		if f.FirstRowMicros.Max == 0 {
			continue
		}
		fmt.Fprintf(w, "  %s: first row after %s ms %s", f.Target, millis(f.FirstRowMicros.Median), bracket(f.FirstRowMicros, millis))
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
		verdict = "ABOVE IT"
	}
	return b.Text + ", " + verdict + b.remark
}

// bounds compares Shardgate's figures with what is promised of them in this cell.
func (c *cellReport) bounds() (list []bound) {
	w, f := c.cell.workload, c.of(target.Shardgate)
	if f == nil || c.Clients != w.Clients || c.Rate > 0 {
		return nil
	}
	add := func(of string, value, limit float64, format string, args ...any) *bound {
		list = append(list, bound{Of: of, Limit: limit, Value: value, Within: value <= limit, Text: fmt.Sprintf(format, args...)})
		return &list[len(list)-1]
	}
	at := plural(c.Clients, "client")
	if s, measured := f.CPUMicros[target.Gateway]; measured && w.Bound > 0 {
		limit := micros(w.Bound)
		add(gatewayCPU, s.Median, limit, "a %s costs the gateway at most %g µs of CPU at %s: %.1f", w.Unit, limit, at, s.Median).remark = c.yardstick(s.Median)
	}
	if d := c.of(target.Direct); d != nil && len(d.Rounds) > 0 && len(f.Rounds) > 0 {
		mine, direct := f.LatencyMicros["p50"], d.LatencyMicros["p50"]
		limit := workload.DirectFactor*direct.Median + micros(workload.DirectExtra)
		add("p50", mine.Median, limit, "the median is at most %g times direct plus %v at %s, here %s ms: %s %s, direct %s %s",
			workload.DirectFactor, workload.DirectExtra, at, millis(limit),
			millis(mine.Median), bracket(mine, millis), millis(direct.Median), bracket(direct, millis))
	}
	if s := f.RowMicros; s.Max > 0 && w.RowBound > 0 {
		add(rowCPU, s.Median, micros(w.RowBound), "a row costs the gateway at most %g µs of CPU at %s: %.3f", micros(w.RowBound), at, s.Median)
	}
	if s := f.PeakBytes; s != nil && w.Streams {
		add(peakMemory, s.Median, workload.MemoryBytes, "the gateway's memory is at most %s MiB above idle at %s: %s", mebibytes(workload.MemoryBytes), at, mebibytes(s.Median))
	}
	return list
}

// Figures that have a name besides that of a percentile.
const (
	gatewayCPU = "gateway CPU"
	rowCPU     = "gateway CPU a row"
	peakMemory = "peak memory"
)

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
func (m *round) addRows() {
	if m.Rows = m.result.Rows; m.Rows == 0 {
		return
	}
	m.FirstRowMicros = micros(m.result.FirstRow.Percentile(50))
	if cpu, ok := m.CPUMicros[target.Gateway]; ok && m.Failed == 0 {
		m.RowMicros = cpu * float64(m.Committed) / float64(m.Rows)
	}
}

// summarizeRows makes the spreads of what the rounds have seen of rows.
func (f *figures) summarizeRows() {
	above0 := func(v float64) (float64, bool) { return v, v > 0 }
	f.FirstRowMicros = f.spread(func(m *round) (float64, bool) { return above0(m.FirstRowMicros) })
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
