package main

import (
	"bytes"
	"fmt"
	"slices"
	"strings"

	"github.com/shardgate/shardgate/bench/measure"
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
	targets := p.legend(c)
	return cellTables{Caption: c.load(), Tables: []table{tableOf(c, targets, seen()), tableOf(c, targets, costs())}, Notes: c.notes()}
}

// tableOf has a row for each target. A column that nobody has a figure for is left out.
func tableOf(c *cellReport, targets []legendItem, columns []column) table {
	value := func(name string, column column) tableValue {
		if f := c.of(name); f.measured() {
			return column.value(f)
		}
		return tableValue{}
	}
	columns = slices.DeleteFunc(columns, func(column column) bool {
		return !slices.ContainsFunc(targets, func(l legendItem) bool { return value(l.Name, column).Text != "" })
	})
	var t table
	for _, column := range columns {
		t.Heads = append(t.Heads, column.head)
	}
	for _, l := range targets {
		row := tableRow{Class: l.Class, Name: l.Name}
		for _, column := range columns {
			row.Values = append(row.Values, value(l.Name, column))
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
	list := []column{
		{"transactions/s", func(f *figures) tableValue { return spreadValue(&f.PerSecond, rate) }},
		{"schedule reached", func(f *figures) tableValue { return spreadValue(f.Reached, percent) }},
	}
	for _, p := range percentiles {
		list = append(list, column{p.name + ", ms", func(f *figures) tableValue {
			s := f.LatencyMicros[p.name]
			switch {
			case !f.reaches(p.percent) || len(f.Curve) == 0:
				return tableValue{}
			case p.percent == 100:
				return tableValue{Text: millis(s.Max)} // the longest of all
			}
			return spreadValue(&s, millis)
		}})
	}
	return append(list,
		column{"first row, ms", func(f *figures) tableValue { return spreadValue(f.FirstRowMicros, millis) }},
		column{"rows/s", func(f *figures) tableValue { return spreadValue(f.RowsPerSecond, rate) }},
		column{"all clients in after, s", func(f *figures) tableValue { return spreadValue(f.AllInSeconds, twoDigits) }},
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
		column{"gateway CPU a row, µs", func(f *figures) tableValue { return spreadValue(f.RowMicros, threeDigits) }},
		column{"gateway CPU until all are in, s", func(f *figures) tableValue { return spreadValue(f.LoginSeconds, twoDigits) }},
		column{"idle memory, MiB", func(f *figures) tableValue {
			if f.IdleBytes == nil {
				return tableValue{}
			}
			return tableValue{Text: mebibytes(float64(*f.IdleBytes))}
		}},
		column{"peak above, MiB", func(f *figures) tableValue { return spreadValue(f.PeakBytes, mebibytes) }},
		column{"memory of an idle client, KiB", func(f *figures) tableValue { return spreadValue(f.BytesEach, kibibytes) }},
		column{"at first", func(f *figures) tableValue { return spreadValue(f.BytesFirst, kibibytes) }},
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
		case strings.HasPrefix(line, "bound:") && strings.HasSuffix(line, "OUTSIDE"):
			list = append(list, note{"bad", line})
		case strings.HasPrefix(line, "bound:"):
			list = append(list, note{"good", line})
		default:
			list = append(list, note{"", line})
		}
	}
	return list
}
