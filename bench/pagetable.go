package main

import (
	"bytes"
	"fmt"
	"slices"
	"strings"

	"github.com/shardgate/shardgate/bench/measure"
	"github.com/shardgate/shardgate/bench/target"
)

// cellTables are the tables of one cell.
type cellTables struct {
	Caption string
	Tables  []table
	Notes   []note
}

type table struct {
	Heads []string
	Rows  []tableRow
}

type tableRow struct {
	Class, Name string
	Values      []tableValue
}

// tableValue is a median with what it is the median of.
type tableValue struct{ Text, Range string }

type note struct {
	Class string // "": nothing special
	Text  string
}

// tables makes those of a cell: what clients see, and what it costs.
func (p *page) tables(c *cellReport) cellTables {
	return cellTables{Caption: c.load(), Tables: []table{p.table(c, seen()), p.table(c, costs())}, Notes: c.notes()}
}

// table has a row for each target. A column that nobody has a figure for is left out.
func (p *page) table(c *cellReport, columns []column) table {
	var t table
	targets := p.legend(c)
	columns = slices.DeleteFunc(columns, func(column column) bool {
		return !slices.ContainsFunc(targets, func(l legendItem) bool { return column.value(c.of(l.Name)).Text != "" })
	})
	for _, column := range columns {
		t.Heads = append(t.Heads, column.head)
	}
	for _, l := range targets {
		row := tableRow{Class: l.Class, Name: l.Name}
		for _, column := range columns {
			row.Values = append(row.Values, column.value(c.of(l.Name)))
		}
		t.Rows = append(t.Rows, row)
	}
	return t
}

type column struct {
	head  string
	value func(*figures) tableValue
}

// seen are the columns of what clients see.
func seen() []column {
	list := []column{{"transactions/s", func(f *figures) tableValue {
		if f.Connections != nil {
			return tableValue{}
		}
		return spreadValue(&f.PerSecond, rate)
	}},
		{"schedule reached", func(f *figures) tableValue { return spreadValue(f.Reached, percent) }}}
	for _, p := range percentiles {
		list = append(list, column{p.name + ", ms", func(f *figures) tableValue {
			s := f.LatencyMicros[p.name]
			if !f.reaches(p.percent) {
				return tableValue{}
			}
			if p.percent == 100 {
				return tableValue{Text: millis(s.Max)} // the longest of all
			}
			return spreadValue(&s, millis)
		}})
	}
	return append(list,
		column{"first row, ms", func(f *figures) tableValue {
			if f.FirstRowMicros.Max == 0 {
				return tableValue{}
			}
			return spreadValue(&f.FirstRowMicros, millis)
		}},
		column{"all clients in after, s", func(f *figures) tableValue {
			if f.Connections == nil {
				return tableValue{}
			}
			return spreadValue(&f.Connections.Seconds, twoDigits)
		}},
		column{"failed", func(f *figures) tableValue { return tableValue{Text: thousands(float64(f.Errors.Total()))} }},
	)
}

// costs are the columns of what it takes.
func costs() (list []column) {
	for _, part := range cpuParts {
		list = append(list, column{string(part.role) + " CPU, µs", func(f *figures) tableValue {
			if s, ok := f.CPUMicros[part.role]; ok {
				return spreadValue(&s, significant)
			}
			return tableValue{}
		}})
	}
	return append(list,
		column{"gateway CPU a row, µs", func(f *figures) tableValue {
			if f.RowMicros.Max == 0 || len(f.CPUMicros) == 0 {
				return tableValue{}
			}
			return spreadValue(&f.RowMicros, threeDigits)
		}},
		column{"idle memory, MiB", func(f *figures) tableValue {
			if f.IdleBytes == nil {
				return tableValue{}
			}
			return tableValue{Text: mebibytes(float64(*f.IdleBytes))}
		}},
		column{"until all clients are in: gateway CPU, s", func(f *figures) tableValue {
			if f.Connections == nil {
				return tableValue{}
			}
			return spreadValue(f.Connections.CPUSeconds, twoDigits)
		}},
		column{"memory of an idle client, KiB", func(f *figures) tableValue {
			if f.Connections == nil {
				return tableValue{}
			}
			return spreadValue(f.Connections.BytesEach, kibibytes)
		}},
		column{"peak above, MiB", func(f *figures) tableValue { return spreadValue(f.PeakBytes, mebibytes) }},
		column{"allocated, bytes", func(f *figures) tableValue { return spreadValue(f.AllocatedBytes, thousands) }},
		column{"allocations", func(f *figures) tableValue { return spreadValue(f.AllocatedObjects, oneDigit) }},
	)
}

func spreadValue(s *measure.Spread, format func(float64) string) tableValue {
	if s == nil {
		return tableValue{}
	}
	v := tableValue{Text: format(s.Median)}
	if s.Min != s.Max {
		v.Range = format(s.Min) + "–" + format(s.Max)
	}
	return v
}

// notes are what the text report has below a table, but for what the page's table has.
func (c *cellReport) notes() (list []note) {
	for _, f := range c.Targets {
		if strings.HasSuffix(f.Target, readersOf) {
			p50 := f.LatencyMicros["p50"]
			list = append(list, note{"", fmt.Sprintf("%s: %s/s %s, median %s ms %s", f.Target, rate(f.PerSecond.Median), bracket(f.PerSecond, rate), millis(p50.Median), bracket(p50, millis))})
		}
	}
	var b bytes.Buffer
	c.remarks(&b)
	for line := range strings.Lines(b.String()) {
		line = strings.TrimSpace(line)
		switch {
		case strings.HasPrefix(line, "FAILED"):
			list = append(list, note{"bad", line})
		case strings.HasPrefix(line, "bound:") && strings.Contains(line, "OUTSIDE IT"):
			list = append(list, note{"bad", line})
		case strings.HasPrefix(line, "bound:"):
			list = append(list, note{"good", line})
		case strings.HasPrefix(line, string(target.Gateway)+" of "), strings.Contains(line, " rows/s"):
		default:
			list = append(list, note{"", line})
		}
	}
	return list
}
