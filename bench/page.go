package main

import (
	"bytes"
	"cmp"
	_ "embed"
	"errors"
	"fmt"
	"html/template"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/shardgate/shardgate/bench/chart"
	"github.com/shardgate/shardgate/bench/load"
	"github.com/shardgate/shardgate/bench/measure"
	"github.com/shardgate/shardgate/bench/target"
	"github.com/shardgate/shardgate/bench/workload"
)

// Files of --report.
const (
	resultsFile = "results.json"
	pageFile    = "index.html"
)

//go:embed page.html
var pageText string

var pageTemplate = template.Must(template.New("page").Funcs(template.FuncMap{
	"gib": func(bytes int64) string { return oneDigit(float64(bytes)/(1<<30)) + " GiB" },
}).Parse(pageText))

// writeReport writes the figures and a page that shows them to a folder.
func (r *report) writeReport(dir string) error {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	var b bytes.Buffer
	if err := pageTemplate.Execute(&b, newPage(r)); err != nil {
		return err
	}
	return errors.Join(r.write(filepath.Join(dir, resultsFile)), os.WriteFile(filepath.Join(dir, pageFile), b.Bytes(), 0o644))
}

// page is what the page shows, in its order.
type page struct {
	*report
	Results  string
	Command  string
	Versions []string
	Settings []settings
	Legend   []legendItem
	Promises []promise
	Sections []section
	Within   int // promises that are kept
	Columns  int // of the overview
}

type settings struct {
	Of   string
	List []string
}

type legendItem struct{ Class, Name string }

// overviewRow is one cell in a few figures.
type overviewRow struct {
	Load    string
	Targets []overviewValue
}

// overviewValue has empty texts for what was not measured.
type overviewValue struct{ PerSecond, P99 string }

type promise struct {
	bound
	Cell string
}

// section is one workload under one protocol.
type section struct {
	ID, Workload, About string
	Protocol            load.Protocol
	Overview            []overviewRow
	Plots               []plot
	Cells               []cellTables
}

type plot struct {
	Title, Note string
	Legend      []legendItem
	SVG         template.HTML
}

func newPage(r *report) *page {
	p := &page{report: r, Results: resultsFile, Command: strings.Join(r.Environment.Command, " ")}
	p.environment()
	for i, t := range r.Targets {
		p.Legend = append(p.Legend, legendItem{fmt.Sprintf("t%d", i%targetClasses), t.Name})
	}
	p.Columns = 1 + len(p.Legend)
	p.Within, _ = r.kept()
	for _, c := range r.Cells {
		for _, b := range c.Bounds {
			p.Promises = append(p.Promises, promise{b, c.cell.String()})
		}
	}
	for _, cells := range grouped(r.Cells) {
		p.section(cells)
	}
	return p
}

// targetClasses is how many colours there are for targets in the style sheet.
const targetClasses = 6

func (p *page) environment() {
	e := p.report.Environment
	for _, name := range slices.Sorted(maps.Keys(e.Versions)) {
		p.Versions = append(p.Versions, name+" "+e.Versions[name])
	}
	all := maps.Clone(e.OtherSettings)
	if all == nil {
		all = map[string]map[string]string{}
	}
	if len(e.Settings) > 0 {
		all["the PostgreSQL servers"] = e.Settings
	}
	for _, of := range slices.Sorted(maps.Keys(all)) {
		s := settings{Of: of}
		for _, name := range slices.Sorted(maps.Keys(all[of])) {
			s.List = append(s.List, name+" = "+all[of][name])
		}
		p.Settings = append(p.Settings, s)
	}
}

// grouped are the cells by workload and protocol.
func grouped(cells []*cellReport) (groups [][]*cellReport) {
	for _, c := range cells {
		if n := len(groups); n > 0 && groups[n-1][0].Workload == c.Workload && groups[n-1][0].Protocol == c.Protocol && groups[n-1][0].Readers == c.Readers {
			groups[n-1] = append(groups[n-1], c)
		} else {
			groups = append(groups, []*cellReport{c})
		}
	}
	return groups
}

// section adds one workload under one protocol: what varies in it is the number of
// clients and the rate.
func (p *page) section(cells []*cellReport) {
	first := cells[0]
	s := section{ID: first.Workload + "-" + string(first.Protocol), Workload: first.Workload, Protocol: first.Protocol}
	if first.Readers > 0 {
		s.ID += fmt.Sprintf("-%d", first.Readers)
	}
	if list, err := workload.ByName([]string{first.Workload}); err == nil {
		s.About = list[0].About
	}
	for _, c := range cells {
		row := overviewRow{Load: c.load()}
		for _, l := range p.Legend {
			var v overviewValue
			if f := c.of(l.Name); f.measured() {
				v.PerSecond = rate(f.PerSecond.Median) + "/s"
				if f.reaches(99) {
					v.P99 = millis(f.LatencyMicros["p99"].Median) + " ms"
				}
			}
			row.Targets = append(row.Targets, v)
		}
		s.Overview = append(s.Overview, row)
		s.Cells = append(s.Cells, p.tables(c))
	}
	s.Plots = append(s.Plots, p.throughput(cells), p.cpu(cells))
	s.Plots = append(s.Plots, p.latencyByRate(cells)...)
	s.Plots = append(s.Plots, p.memory(cells))
	for _, c := range cells {
		s.Plots = append(s.Plots, p.latencyCurve(c))
	}
	s.Plots = slices.DeleteFunc(s.Plots, func(p plot) bool { return p.SVG == "" })
	p.Sections = append(p.Sections, s)
}

// load is what varies between the cells of a section.
func (c *cellReport) load() string {
	s := plural(c.Clients, "client")
	if c.Readers > 0 {
		s += " and " + plural(c.Readers, "reader")
	}
	if c.Rate > 0 {
		s += " at " + rate(c.Rate) + "/s"
	}
	return s
}

// legend is of those targets that a plot of these cells shows.
func (p *page) legend(cells ...*cellReport) (list []legendItem) {
	for _, l := range p.Legend {
		if slices.ContainsFunc(cells, func(c *cellReport) bool {
			return c.of(l.Name).measured()
		}) {
			list = append(list, l)
		}
	}
	return list
}

// throughput is a plot over the numbers of clients in closed loops, or of bars where there
// is one number only.
func (p *page) throughput(cells []*cellReport) plot {
	closed := slices.DeleteFunc(slices.Clone(cells), func(c *cellReport) bool { return c.Rate > 0 })
	if len(closed) < 2 {
		return p.throughputBars(cells)
	}
	l := chart.Lines{Title: "Throughput over the number of clients", X: chart.Axis{Label: "clients", Kind: chart.Ordinal},
		Y: chart.Axis{Label: "transactions/s"}}
	slices.SortStableFunc(closed, func(a, b *cellReport) int { return a.Clients - b.Clients })
	for _, c := range closed {
		l.X.Names = append(l.X.Names, fmt.Sprint(c.Clients))
	}
	for _, item := range p.legend(closed...) {
		s := chart.Series{Name: item.Name, Class: item.Class}
		for i, c := range closed {
			if f := c.of(item.Name); f.measured() {
				v := f.PerSecond
				s.Points = append(s.Points, chart.Point{X: float64(i), Y: v.Median, Low: v.Min, High: v.Max,
					Title: fmt.Sprintf("%s, %s: %s/s %s", item.Name, c.load(), rate(v.Median), bracket(v, rate))})
			}
		}
		l.Series = append(l.Series, s)
	}
	return plot{Title: "Throughput over clients", Note: whiskers, Legend: p.legend(closed...), SVG: l.SVG()}
}

const whiskers = "Medians of the rounds; whiskers from the least to the greatest."

// throughputBars is for one number of clients.
func (p *page) throughputBars(cells []*cellReport) plot {
	bars := chart.Bars{Title: "Throughput", Axis: chart.Axis{Label: "transactions/s"}}
	for _, c := range cells {
		for _, item := range p.legend(c) {
			v := c.of(item.Name).PerSecond
			bars.Bars = append(bars.Bars, chart.Bar{Group: c.load(), Label: item.Name, Text: rate(v.Median) + "/s " + bracket(v, rate),
				Segments: []chart.Segment{{Class: item.Class + " fill", Value: v.Median}}, Low: v.Min, High: v.Max})
		}
	}
	return plot{Title: "Throughput", Note: whiskers, SVG: bars.SVG()}
}

// cpuParts are in the order in which bars stack them.
var cpuParts = []struct {
	role target.Role
	item legendItem
}{
	{target.Gateway, legendItem{"cpu-gateway", "gateway"}},
	{target.Server, legendItem{"cpu-servers", "servers"}},
	{client, legendItem{"cpu-client", "client (the benchmark)"}},
}

// cpu is the CPU time of a transaction, by who needs it.
func (p *page) cpu(cells []*cellReport) plot {
	most := 0.0
	for _, c := range cells {
		for _, f := range c.Targets {
			most = max(most, f.cpuTotal().Max)
		}
	}
	if most == 0 {
		return plot{}
	}
	unit, divisor := "µs", 1.0
	if most >= 20_000 {
		unit, divisor = "ms", 1000.0
	}
	bars := chart.Bars{Title: "CPU time of a transaction", Axis: chart.Axis{Label: "CPU time of a transaction, " + unit}}
	out := plot{Title: "CPU time by part", Note: "Medians of the rounds; whiskers: the least and the greatest sum."}
	for _, part := range cpuParts {
		if slices.ContainsFunc(cells, func(c *cellReport) bool {
			return slices.ContainsFunc(c.Targets, func(f *figures) bool { return f.CPUMicros[part.role].Max > 0 })
		}) {
			out.Legend = append(out.Legend, part.item)
		}
	}
	bounded := false
	for _, c := range cells {
		for _, item := range p.legend(c) {
			f := c.of(item.Name)
			total := f.cpuTotal()
			number := func(v float64) string { return significant(v / divisor) }
			bar := chart.Bar{Group: c.load(), Label: item.Name, Low: total.Min / divisor, High: total.Max / divisor,
				Text: number(total.Median) + " " + unit}
			if g, ok := f.CPUMicros[target.Gateway]; ok {
				bar.Text = "gateway " + number(g.Median) + " of " + bar.Text
			}
			for _, part := range cpuParts {
				bar.Segments = append(bar.Segments, chart.Segment{Class: part.item.Class, Value: f.CPUMicros[part.role].Median / divisor})
			}
			for _, b := range c.Bounds {
				if b.Of == gatewayCPU && item.Name == target.Shardgate {
					bar.Bound, bounded = b.Limit/divisor, true
				}
			}
			bars.Bars = append(bars.Bars, bar)
		}
	}
	if bounded {
		out.Legend = append(out.Legend, legendItem{"bound", "bound of the gateway's part"})
	}
	out.SVG = bars.SVG()
	return out
}

// memory is that of the gateways, idle and at its peak.
func (p *page) memory(cells []*cellReport) plot {
	const mebibyte = 1 << 20
	bars := chart.Bars{Title: "Memory of the gateway", Axis: chart.Axis{Label: "resident memory, MiB"}}
	out := plot{Title: "Memory of the gateway", Note: "Idle, and the peak of a round above that: medians; whiskers from the least to the greatest.",
		Legend: []legendItem{{"cpu-servers", "idle"}, {"cpu-gateway", "peak above"}}}
	bounded := false
	for _, c := range cells {
		for _, item := range p.legend(c) {
			f := c.of(item.Name)
			if f.IdleBytes == nil || f.PeakBytes == nil {
				continue
			}
			idle := float64(*f.IdleBytes)
			bar := chart.Bar{Group: c.load(), Label: item.Name, Text: mebibytes(idle) + " MiB + " + mebibytes(f.PeakBytes.Median) + " MiB",
				Segments: []chart.Segment{{Class: "cpu-servers", Value: idle / mebibyte}, {Class: "cpu-gateway", Value: f.PeakBytes.Median / mebibyte}},
				Low:      (idle + f.PeakBytes.Min) / mebibyte, High: (idle + f.PeakBytes.Max) / mebibyte}
			for _, b := range c.Bounds {
				if b.Of == peakMemory && item.Name == target.Shardgate {
					bar.Bound, bounded = (idle+b.Limit)/mebibyte, true
				}
			}
			bars.Bars = append(bars.Bars, bar)
		}
	}
	if len(bars.Bars) == 0 {
		return plot{}
	}
	if bounded {
		out.Legend = append(out.Legend, legendItem{"bound", "bound of the peak"})
	}
	out.SVG = bars.SVG()
	return out
}

// cpuTotal is the sum over all parts, round by round.
func (f *figures) cpuTotal() measure.Spread {
	return f.spread(func(m *round) (float64, bool) {
		sum := 0.0
		for _, v := range m.CPUMicros {
			sum += v
		}
		return sum, true
	})
}

// latencyCurve is one cell's latency by percentile.
func (p *page) latencyCurve(c *cellReport) plot {
	l := chart.Lines{Title: "Latency by percentile", X: chart.Axis{Label: "percentile", Kind: chart.Nines},
		Y: chart.Axis{Label: "latency, ms", Kind: chart.Log}}
	out := plot{Title: "Latency, " + c.load(), Note: "Bands: from the least to the greatest round.", Legend: p.legend(c)}
	for _, item := range out.Legend {
		s := chart.Series{Name: item.Name, Class: item.Class}
		for i, v := range c.of(item.Name).Curve {
			if i == 0 && len(c.of(item.Name).Curve) > 1 {
				continue // the fastest of all says little, and takes much room
			}
			s.Points = append(s.Points, chart.Point{X: float64(i) / curvePerDecade, Y: v.Median / 1000, Low: v.Min / 1000, High: v.Max / 1000})
		}
		if len(s.Points) > 0 {
			l.Series = append(l.Series, s)
		}
	}
	if len(l.Series) == 0 {
		return plot{}
	}
	for _, b := range c.Bounds {
		if b.Of == medianLatency {
			l.Marks = append(l.Marks, chart.Mark{From: 0, To: 2 * chart.Median, Y: b.Limit / 1000})
			out.Legend = append(out.Legend, legendItem{"bound", "bound of shardgate's median, " + millis(b.Limit) + " ms"})
		}
	}
	out.SVG = l.SVG()
	return out
}

// latencyByRate shows how latencies grow with the load, for each number of clients that
// was measured at several rates.
func (p *page) latencyByRate(cells []*cellReport) (plots []plot) {
	byClients := map[int][]*cellReport{}
	for _, c := range cells {
		if c.Rate > 0 {
			byClients[c.Clients] = append(byClients[c.Clients], c)
		}
	}
	for _, clients := range slices.Sorted(maps.Keys(byClients)) {
		if open := byClients[clients]; len(open) > 1 {
			plots = append(plots, p.overRates(open))
		}
	}
	return plots
}

func (p *page) overRates(open []*cellReport) plot {
	slices.SortStableFunc(open, func(a, b *cellReport) int { return cmp.Compare(a.Rate, b.Rate) })
	l := chart.Lines{Title: "Latency over load", X: chart.Axis{Label: "transactions/s asked for", Kind: chart.Ordinal},
		Y: chart.Axis{Label: "99th percentile of latency, ms", Kind: chart.Log}}
	for _, c := range open {
		l.X.Names = append(l.X.Names, rate(c.Rate))
	}
	for _, item := range p.legend(open...) {
		s := chart.Series{Name: item.Name, Class: item.Class}
		for i, c := range open {
			f := c.of(item.Name)
			if f == nil || f.LatencyMicros["p99"].Min <= 0 {
				continue
			}
			v := f.LatencyMicros["p99"]
			s.Points = append(s.Points, chart.Point{X: float64(i), Y: v.Median / 1000, Low: v.Min / 1000, High: v.Max / 1000,
				Title: fmt.Sprintf("%s at %s/s: %s ms %s", item.Name, rate(c.Rate), millis(v.Median), bracket(v, millis))})
		}
		l.Series = append(l.Series, s)
	}
	return plot{Title: "Latency over load, " + plural(open[0].Clients, "client"), Note: whiskers, Legend: p.legend(open...), SVG: l.SVG()}
}
