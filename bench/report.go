package main

import (
	"encoding/json"
	"fmt"
	"maps"
	"math"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/shardgate/shardgate/bench/load"
	"github.com/shardgate/shardgate/bench/measure"
	"github.com/shardgate/shardgate/bench/target"
)

// report is all that was measured, as --json writes it. Durations in names that don't
// say otherwise are in nanoseconds.
type report struct {
	Environment environment `json:"environment"`
	// Violations are invariants that did not hold.
	Violations []string `json:"violations"`
	// Incomplete says why the run ended before its end; "": it did not.
	Incomplete string `json:"incomplete,omitempty"`
	// Unchecked are stores whose invariants could not be computed.
	Unchecked []string         `json:"unchecked,omitempty"`
	Options   *options         `json:"options"`
	Targets   []*target.Target `json:"targets"`
	Cells     []*cellReport    `json:"cells"`
}

// cellReport is what one cell gave.
type cellReport struct {
	Workload string        `json:"workload"`
	Protocol load.Protocol `json:"protocol"`
	Clients  int           `json:"clients"`
	Rate     float64       `json:"rate,omitzero"` // transactions a second that were scheduled; 0: a closed loop
	Readers  int           `json:"readers,omitzero"`
	// FsyncMicros is the time in which 8 KiB are written and reach the disk of the
	// benchmark's own servers; nil: not measured.
	FsyncMicros *measure.Spread `json:"fsync_micros,omitempty"`
	Targets     []*figures      `json:"targets"`
	Bounds      []bound         `json:"bounds,omitempty"`
	cell        cell
}

// figures are those of one target in one cell.
type figures struct {
	Target string `json:"target"`
	Note   string `json:"note,omitempty"` // on how it was measured
	// PerSecond are the transactions committed in a second.
	PerSecond measure.Spread `json:"per_second"`
	// Reached is the share of an open loop's schedule that was sent before its end.
	Reached *measure.Spread `json:"reached,omitempty"`
	// LatencyMicros has p50, p90, p95, p99, p99.9, p99.99 and max. In an open loop they count from when
	// a transaction should have been sent.
	LatencyMicros map[string]measure.Spread `json:"latency_micros"`
	// Curve are the percentiles from 0 on: number i leaves out the 10^(-i/10)th
	// part of the transactions that took longest. It ends where that is less than one.
	Curve []measure.Spread `json:"curve"`
	// CPUMicros is the CPU time of a transaction, by role.
	CPUMicros map[target.Role]measure.Spread `json:"cpu_micros"`
	// IdleBytes is the gateway's resident memory before any client came, and PeakBytes the
	// peak in a round above that; nil: not known.
	IdleBytes *int64          `json:"idle_bytes,omitempty"`
	PeakBytes *measure.Spread `json:"peak_bytes,omitempty"`
	// What the gateway allocates for a transaction; nil: not known.
	AllocatedBytes   *measure.Spread `json:"allocated_bytes,omitempty"`
	AllocatedObjects *measure.Spread `json:"allocated_objects,omitempty"`
	// Of streamed answers: the time to the first row, and the gateway's CPU time for a row.
	FirstRowMicros *measure.Spread `json:"first_row_micros,omitempty"`
	RowsPerSecond  *measure.Spread `json:"rows_per_second,omitempty"`
	RowMicros      *measure.Spread `json:"row_micros,omitempty"`
	// Where clients connect and do little else: until all are in, the gateway's CPU time until
	// then, and by how much its memory rose for each, at first and at rest.
	AllInSeconds *measure.Spread `json:"all_in_seconds,omitempty"`
	LoginSeconds *measure.Spread `json:"login_cpu_seconds,omitempty"`
	BytesFirst   *measure.Spread `json:"client_bytes_first,omitempty"`
	BytesEach    *measure.Spread `json:"client_bytes,omitempty"`
	// Errors are those of all rounds and of the warm-up, and of a round that was broken off.
	Errors load.Errors `json:"errors"`
	Rounds []*round    `json:"rounds"`
}

// round is one run of one target.
type round struct {
	ElapsedSeconds float64                 `json:"elapsed_seconds"`
	Committed      int64                   `json:"committed"`
	Schedule       *scheduled              `json:"schedule,omitempty"` // nil: a closed loop
	Failed         int64                   `json:"failed"`
	PerSecond      float64                 `json:"per_second"`
	LatencyMicros  map[string]float64      `json:"latency_micros"`
	Curve          []float64               `json:"curve"` // as that of all rounds, in microseconds
	CPUMicros      map[target.Role]float64 `json:"cpu_micros"`
	PeakBytes      *float64                `json:"peak_bytes,omitempty"`
	Allocated      *allocated              `json:"allocated,omitempty"`
	Connected      *connected              `json:"connected,omitempty"` // nil: these are transactions
	Rows           int64                   `json:"rows,omitzero"`       // as the next two, of streamed answers
	FirstRowMicros float64                 `json:"first_row_micros,omitzero"`
	RowMicros      float64                 `json:"row_micros,omitzero"`
}

// allocated is what a gateway has allocated for a transaction.
type allocated struct {
	Bytes   float64 `json:"bytes"`
	Objects float64 `json:"objects"`
}

// scheduled is what became of an open loop's schedule.
type scheduled struct {
	Transactions int64   `json:"transactions"`
	Reached      float64 `json:"reached"` // the share of them that was sent before the schedule's end
	Unsent       int64   `json:"unsent"`  // never sent; in the latencies with the time that they waited
	// LateMicros is how late the benchmark sent what clients were free for, in the 99th percentile.
	LateMicros float64 `json:"late_micros"`
}

var percentiles = []struct {
	name    string
	percent float64
}{{"p50", 50}, {"p90", 90}, {"p95", 95}, {"p99", 99}, {"p99.9", 99.9}, {"p99.99", 99.99}, {"max", 100}}

// curvePerDecade is how many points of a latency curve are between two nines.
const curvePerDecade = 10

// maxCurve ends a curve at 99.999%.
const maxCurve = 5 * curvePerDecade

// curveShare is what the point of a curve leaves out.
func curveShare(i int) float64 { return math.Pow(10, -float64(i)/curvePerDecade) }

func curve(l *measure.Latency) []float64 {
	var points []float64
	for i := 0; i <= maxCurve && float64(l.Count())*curveShare(i) >= 1; i++ {
		points = append(points, micros(l.Percentile(100*(1-curveShare(i)))))
	}
	return points
}

func micros(d time.Duration) float64 { return float64(d) / float64(time.Microsecond) }

// newRound takes the result of a run and the CPU times before and after it.
func newRound(res *load.Result, before, after map[target.Role]time.Duration) *round {
	m := &round{ElapsedSeconds: res.Elapsed.Seconds(), Committed: res.Committed, Failed: res.Errors.Total(), PerSecond: res.PerSecond(),
		LatencyMicros: map[string]float64{}, CPUMicros: map[target.Role]float64{}}
	for _, p := range percentiles {
		m.LatencyMicros[p.name] = micros(res.Latency.Percentile(p.percent))
	}
	m.Curve = curve(res.Latency)
	if all := m.Committed + m.Failed; all > 0 {
		for role, then := range before {
			m.CPUMicros[role] = micros(after[role]-then) / float64(all)
		}
	}
	if res.Scheduled > 0 {
		m.Schedule = &scheduled{Transactions: res.Scheduled, Unsent: res.Unsent,
			Reached: float64(res.SentInTime) / float64(res.Scheduled), LateMicros: micros(res.Late.Percentile(99))}
	}
	if m.Rows = res.Rows; m.Rows > 0 {
		m.FirstRowMicros = micros(res.FirstRow.Percentile(50))
		if cpu, ok := m.CPUMicros[target.Gateway]; ok && m.Failed == 0 {
			m.RowMicros = cpu * float64(m.Committed) / float64(m.Rows)
		}
	}
	return m
}

// measured says whether the round has latencies.
func (m *round) measured() bool { return m.Committed > 0 || m.Schedule != nil && m.Schedule.Unsent > 0 }

// What a round has of each figure; false: it has not.

func (m *round) latency(name string) (float64, bool) { return m.LatencyMicros[name], m.measured() }

func (m *round) cpu(role target.Role) (float64, bool) {
	v, ok := m.CPUMicros[role]
	return v, ok
}

func (m *round) reached() (float64, bool) {
	if m.Schedule == nil {
		return 0, false
	}
	return m.Schedule.Reached, true
}

func (m *round) peak() (float64, bool) { return known(m.PeakBytes) }

func (m *round) bytes() (float64, bool) {
	if m.Allocated == nil {
		return 0, false
	}
	return m.Allocated.Bytes, true
}

func (m *round) objects() (float64, bool) {
	if m.Allocated == nil {
		return 0, false
	}
	return m.Allocated.Objects, true
}

func (m *round) firstRow() (float64, bool) { return m.FirstRowMicros, m.FirstRowMicros > 0 }

func (m *round) rowCPU() (float64, bool) { return m.RowMicros, m.RowMicros > 0 }

func (m *round) rowsPerSecond() (float64, bool) {
	return float64(m.Rows) / m.ElapsedSeconds, m.Rows > 0
}

func known(v *float64) (float64, bool) {
	if v == nil {
		return 0, false
	}
	return *v, true
}

// String is the round in one line.
func (m *round) String() string {
	s := fmt.Sprintf("%s/s, median %s ms", rate(m.PerSecond), millis(m.LatencyMicros["p50"]))
	if cpu, ok := m.CPUMicros[target.Gateway]; ok {
		s += fmt.Sprintf(", gateway %.1f µs", cpu)
	}
	if m.Schedule != nil {
		s += fmt.Sprintf(", %s of the schedule", percent(m.Schedule.Reached))
	}
	if m.Failed > 0 {
		s += fmt.Sprintf(", %d FAILED", m.Failed)
	}
	return s
}

func newReport(o *options, targets []*target.Target, e *target.Embedded) *report {
	return &report{Environment: newEnvironment(e), Options: o, Targets: targets, Violations: []string{}}
}

func (r *report) add(c cell) *cellReport {
	cr := &cellReport{Workload: c.workload.Name, Protocol: c.protocol, Clients: c.clients, Rate: c.rate, Readers: c.readers, cell: c}
	r.Cells = append(r.Cells, cr)
	return cr
}

func (c *cellReport) String() string {
	return cellName(c.Workload, c.Protocol, c.Clients, c.Readers, c.Rate)
}

func (c *cellReport) add(t *target.Target) *figures {
	f := &figures{Target: t.Name, Errors: load.Errors{}}
	c.Targets = append(c.Targets, f)
	return f
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

// summarize makes the spreads of the rounds.
func (c *cellReport) summarize() {
	for _, f := range c.Targets {
		f.PerSecond = f.spread(func(m *round) (float64, bool) { return m.PerSecond, true })
		f.LatencyMicros = map[string]measure.Spread{}
		for _, p := range percentiles {
			f.LatencyMicros[p.name] = f.spread(func(m *round) (float64, bool) { return m.latency(p.name) })
		}
		f.summarizeCurve()
		f.CPUMicros = map[target.Role]measure.Spread{}
		for _, role := range []target.Role{target.Gateway, target.Server, client} {
			if s := f.known(func(m *round) (float64, bool) { return m.cpu(role) }); s != nil {
				f.CPUMicros[role] = *s
			}
		}
		f.Reached, f.PeakBytes = f.known((*round).reached), f.known((*round).peak)
		f.AllocatedBytes, f.AllocatedObjects = f.known((*round).bytes), f.known((*round).objects)
		f.FirstRowMicros, f.RowsPerSecond, f.RowMicros = f.known((*round).firstRow), f.known((*round).rowsPerSecond), f.known((*round).rowCPU)
		f.AllInSeconds, f.LoginSeconds = f.known((*round).allIn), f.known((*round).loginCPU)
		f.BytesFirst, f.BytesEach = f.known((*round).clientMemoryFirst), f.known((*round).clientMemory)
	}
	c.Bounds = c.bounds()
}

// summarizeCurve makes the curve of all rounds, as far as each of them goes.
func (f *figures) summarizeCurve() {
	f.Curve = nil
	for i := 0; len(f.Rounds) > 0; i++ {
		points := f.values(func(m *round) (float64, bool) {
			if i < len(m.Curve) {
				return m.Curve[i], true
			}
			return 0, false
		})
		if len(points) < len(f.Rounds) {
			return
		}
		f.Curve = append(f.Curve, measure.SpreadOf(points))
	}
}

func (f *figures) values(of func(*round) (float64, bool)) (values []float64) {
	for _, m := range f.Rounds {
		if v, ok := of(m); ok {
			values = append(values, v)
		}
	}
	return values
}

func (f *figures) spread(of func(*round) (float64, bool)) measure.Spread {
	return measure.SpreadOf(f.values(of))
}

// known is the spread of what not every target has; nil: this one does not.
func (f *figures) known(of func(*round) (float64, bool)) *measure.Spread {
	values := f.values(of)
	if len(values) == 0 {
		return nil
	}
	s := measure.SpreadOf(values)
	return &s
}

func (r *report) violation(c cell, name string, err error) {
	r.Violations = append(r.Violations, fmt.Sprintf("%s, %s: %v", name, c, err))
}

func (r *report) unchecked(s *target.Store, err error) {
	r.notChecked(fmt.Sprintf("%s: %v", s.Name, err))
}

// unasked says that the invariants after a cell could not be asked for.
func (r *report) unasked(c cell) { r.notChecked(c.String() + ": the servers could not be asked") }

func (r *report) notChecked(text string) {
	if !slices.Contains(r.Unchecked, text) {
		r.Unchecked = append(r.Unchecked, text)
	}
}

// measured says whether there is any figure.
func (r *report) measured() bool {
	return slices.ContainsFunc(r.Cells, func(c *cellReport) bool { return slices.ContainsFunc(c.Targets, (*figures).measured) })
}

func (f *figures) measured() bool { return f != nil && len(f.Rounds) > 0 }

// failed says whether an invariant did not hold.
func (r *report) failed() bool { return r != nil && len(r.Violations) > 0 }

// write writes the report as JSON.
func (r *report) write(file string) error {
	b, err := json.MarshalIndent(r, "", "  ")
	if err != nil {
		return err
	}
	return os.WriteFile(file, append(b, '\n'), 0o644)
}

// errorLines are the errors of a target, the most frequent first.
func (f *figures) errorLines() []string {
	codes := slices.SortedFunc(maps.Keys(f.Errors), func(a, b string) int {
		if d := f.Errors[b].Count - f.Errors[a].Count; d != 0 {
			return int(min(max(d, -1), 1))
		}
		return strings.Compare(a, b)
	})
	var lines []string
	for _, code := range codes {
		e := f.Errors[code]
		lines = append(lines, fmt.Sprintf("%s: %d × %s: %s", f.Target, e.Count, code, strings.ReplaceAll(e.Example, "\n", " ")))
	}
	return lines
}
