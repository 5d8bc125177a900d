package main

import (
	"fmt"
	"io"
	"text/tabwriter"
	"time"

	"github.com/shardgate/shardgate/bench/measure"
	"github.com/shardgate/shardgate/bench/target"
	"github.com/shardgate/shardgate/bench/workload"
)

// boundFigure is what a bound can be about.
type boundFigure struct {
	name   string // as compare names it, where it knows it
	unit   string
	scale  float64 // of a limit: how much of it is one in the figure's rounds
	format func(float64) string
	of     func(*round) (float64, bool) // false: not measured
}

const microsecond = float64(time.Microsecond)

// Figures that have a name besides that of a percentile.
const (
	gatewayCPU    = "gateway CPU"
	medianLatency = "median latency"
	rowCPU        = "gateway CPU a row"
	firstRow      = "first row"
	peakMemory    = "peak memory"
	loginCPU      = "gateway CPU until all are in"
	clientMemory  = "memory of an idle client"
)

var boundFigures = map[workload.Figure]boundFigure{
	workload.GatewayCPU:   {gatewayCPU, " µs", microsecond, oneDigit, func(m *round) (float64, bool) { return m.cpu(target.Gateway) }},
	workload.RowCPU:       {rowCPU, " µs", microsecond, threeDigits, (*round).rowCPU},
	workload.Median:       {medianLatency, " ms", microsecond, millis, func(m *round) (float64, bool) { return m.latency("p50") }},
	workload.FirstRow:     {firstRow, " ms", microsecond, millis, (*round).firstRow},
	workload.PerSecond:    {"throughput", "/s", 1, rate, func(m *round) (float64, bool) { return m.PerSecond, true }},
	workload.Memory:       {peakMemory, " MiB", 1, mebibytes, (*round).peak},
	workload.Refused:      {"clients that are refused", "", 1, thousands, func(m *round) (float64, bool) { return float64(m.Failed), true }},
	workload.LoginCPU:     {loginCPU, " s", float64(time.Second), twoDigits, (*round).loginCPU},
	workload.ClientMemory: {clientMemory, " KiB", 1, kibibytes, (*round).clientMemory},
}

// bound is a promise about Shardgate's figures, and what became of it.
type bound struct {
	Of       string         `json:"of"`              // which figure
	Limit    float64        `json:"limit"`           // in the figure's unit; where another target sets it, the median of the rounds
	Value    float64        `json:"value"`           // the median of the figure
	Range    measure.Spread `json:"range"`           // and its range
	Beside   string         `json:"beside,omitzero"` // the target whose figure in the same round sets the limit; "": none
	Times    measure.Spread `json:"times,omitzero"`  // how many times the figure of that target it is, round by round
	Within   bool           `json:"within"`          // the limit
	Promised string         `json:"promised"`        // in words, as Measured
	Measured string         `json:"measured"`
}

// verdict is what became of the bound.
func (b bound) verdict() string {
	if b.Within {
		return "within"
	}
	return "OUTSIDE"
}

func (b bound) String() string {
	return fmt.Sprintf("%s %s: %s, %s", b.Of, b.Promised, b.Measured, b.verdict())
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
		if now, measured := c.compared(b, mine); measured {
			list = append(list, now)
		}
	}
	return list
}

// compared compares round by round: a limit that another target sets is that of the same
// round. The bound is kept if it is in the median.
func (c *cellReport) compared(b workload.Bound, mine *figures) (now bound, measured bool) {
	figure := boundFigures[b.Figure]
	theirs := mine
	if b.Of != "" {
		if theirs = c.of(b.Of); theirs == nil {
			return bound{}, false
		}
	}
	var values, limits, above, times []float64
	for i := range min(len(mine.Rounds), len(theirs.Rounds)) {
		value, known := figure.of(mine.Rounds[i])
		if !known {
			continue
		}
		limit := b.Limit / figure.scale
		if b.Of != "" {
			other, known := figure.of(theirs.Rounds[i])
			if !known || other == 0 {
				continue
			}
			times = append(times, value/other)
			limit += b.Factor * other
		}
		values, limits, above = append(values, value), append(limits, limit), append(above, value-limit)
	}
	if len(values) == 0 {
		return bound{}, false
	}
	excess, spread := measure.SpreadOf(above).Median, measure.SpreadOf(values)
	now = bound{Of: figure.name, Limit: measure.SpreadOf(limits).Median, Value: spread.Median, Range: spread, Within: excess <= 0, Promised: "at most "}
	if b.Least {
		now.Within, now.Promised = excess >= 0, "at least "
	}
	now.Measured = figure.format(spread.Median) + figure.unit + " " + bracket(spread, figure.format)
	if b.Of == "" {
		now.Promised += figure.format(now.Limit) + figure.unit
		return now, true
	}
	now.Beside, now.Times = b.Of, measure.SpreadOf(times)
	now.Measured += fmt.Sprintf(", %s times that of %s %s", twoDigits(now.Times.Median), b.Of, bracket(now.Times, twoDigits))
	now.Promised += fmt.Sprintf("%g times that of %s", b.Factor, b.Of)
	if b.Limit > 0 {
		now.Promised += fmt.Sprintf(" plus %v", time.Duration(b.Limit))
	}
	now.Promised += ", here " + figure.format(now.Limit) + figure.unit
	return now, true
}

// yardstick puts the gateway's CPU time in proportion to that of those that do less, in
// the same rounds: where a machine is shared, that holds better than microseconds do.
func (c *cellReport) yardstick(w io.Writer) {
	mine := c.of(target.Shardgate)
	if mine == nil || c.Rate > 0 {
		return
	}
	for _, name := range []string{target.Relay, target.PgBouncer} {
		less := workload.Bound{Figure: workload.GatewayCPU, Of: name}
		if b, measured := c.compared(less, mine); measured {
			fmt.Fprintf(w, "  gateway CPU of %s is %s %s times that of %s\n", target.Shardgate, twoDigits(b.Times.Median), bracket(b.Times, twoDigits), name)
		}
	}
}

// printBounds writes all bounds in one table.
func (r *report) printBounds(w io.Writer) {
	within, all := r.kept()
	if all == 0 {
		return
	}
	fmt.Fprintf(w, "\nBounds: %d of %d kept\n", within, all)
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	for _, c := range r.Cells {
		for _, b := range c.Bounds {
			fmt.Fprintf(t, "  %s\t%s\t%s\t%s\t%s\n", c, b.Of, b.Measured, b.Promised, b.verdict())
		}
	}
	t.Flush()
}

// kept is how many bounds are, of all.
func (r *report) kept() (within, all int) {
	for _, c := range r.Cells {
		for _, b := range c.Bounds {
			if all++; b.Within {
				within++
			}
		}
	}
	return within, all
}
