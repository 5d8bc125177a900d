package chart

import (
	"encoding/xml"
	"errors"
	"io"
	"math"
	"slices"
	"strings"
	"testing"
)

// texts are the ticks of a scale.
func texts(s *scale) (list []string) {
	for _, t := range s.ticks {
		list = append(list, t.text)
	}
	return list
}

// Scales begin and end at ticks, and hold all values.
func TestScales(t *testing.T) {
	for name, c := range map[string]struct {
		axis      Axis
		low, high float64
		want      string
	}{
		"linear":       {Axis{}, 3, 37_961, "0 10,000 20,000 30,000 40,000"},
		"fractions":    {Axis{}, 0, 0.21, "0 0.05 0.1 0.15 0.2 0.25"},
		"nothing":      {Axis{}, 0, 0, "0 1"},
		"exactly":      {Axis{}, 0, 100, "0 20 40 60 80 100"},
		"a decade":     {Axis{Kind: Log}, 1.3, 8, "1 2 5 10"},
		"five decades": {Axis{Kind: Log}, 0.03, 1200, "0.01 0.1 1 10 100 1,000 10,000"},
		"from 0":       {Axis{Kind: Log}, 0, 10, "0.00001 0.0001 0.001 0.01 0.1 1 10"},
		"one value":    {Axis{Kind: Log}, 7, 7, "5 10"},
		"nines":        {Axis{Kind: Nines}, 0, 4, "0% 50% 90% 99% 99.9% 99.99%"},
		"few":          {Axis{Kind: Nines}, 0, 0.4, "0% 50% 90%"},
		"names":        {Axis{Kind: Ordinal, Names: []string{"1", "8"}}, 0, 1, "1 8"},
	} {
		s := newScale(c.axis, c.low, c.high, 5)
		if got := strings.Join(texts(s), " "); got != c.want {
			t.Errorf("%s: %s in place of %s", name, got, c.want)
		}
		low, high := s.value(math.Max(c.low, 1e-9)), s.value(math.Max(c.high, 1e-9))
		if c.axis.Kind != Linear && low < s.min-1e-9 || high > s.max+1e-9 && s.max > 0 {
			t.Errorf("%s: %g to %g on a scale of %g to %g", name, low, high, s.min, s.max)
		}
	}
}

func TestNumber(t *testing.T) {
	for v, want := range map[float64]string{0: "0", 0.05: "0.05", 999: "999", 1000: "1,000", 1234567: "1,234,567", 2500.5: "2,500.5"} {
		if got := Number(v); got != want {
			t.Errorf("%g: %s", v, got)
		}
	}
}

// drawn reads a drawing as XML and returns its texts.
func drawn(t *testing.T, svg string) (list []string) {
	t.Helper()
	if strings.Contains(svg, "NaN") || strings.Contains(svg, "Inf") {
		t.Errorf("a coordinate is no number: %s", svg)
	}
	d := xml.NewDecoder(strings.NewReader("<all>" + svg + "</all>"))
	for {
		token, err := d.Token()
		if errors.Is(err, io.EOF) {
			return list
		}
		if err != nil {
			t.Fatalf("%v: %s", err, svg)
		}
		if text, ok := token.(xml.CharData); ok {
			list = append(list, string(text))
		}
	}
}

// What is drawn is well-formed, for both widths, whatever the names are.
func TestDrawings(t *testing.T) {
	lines := Lines{Title: `"a" & <b>`, X: Axis{Label: "clients", Kind: Ordinal, Names: []string{"1", "<8>"}}, Y: Axis{Label: "tx/s & more"},
		Series: []Series{{Name: "x", Class: "t0", Points: []Point{{0, 5, 4, 6, "<one>"}, {1, 9, 9, 9, "two"}}}, {Name: "empty", Class: "t1"}},
		Marks:  []Mark{{0, 1, 8}}}
	got := drawn(t, string(lines.SVG()))
	for _, want := range []string{"<8>", "tx/s & more", "<one>", "clients"} {
		if n := len(slices.DeleteFunc(slices.Clone(got), func(s string) bool { return s != want })); n != 2 {
			t.Errorf("%q is there %d times: %q", want, n, got)
		}
	}
	bars := Bars{Title: "b", Axis: Axis{Label: "CPU, µs"}, Bars: []Bar{
		{Group: "1 client", Label: "<x>", Text: "7 µs", Segments: []Segment{{"a", 4}, {"b", 3}, {"c", 0}}, Low: 6, High: 9, Bound: 5}, {Group: "1 client", Label: "none"}}}
	got = drawn(t, string(bars.SVG()))
	for want, times := range map[string]int{"<x>": 2, "1 client": 2, "7 µs": 2, "10": 2} {
		if n := len(slices.DeleteFunc(slices.Clone(got), func(s string) bool { return s != want })); n != times {
			t.Errorf("%q is there %d times: %q", want, n, got)
		}
	}
	drawn(t, string(Lines{Y: Axis{Kind: Log}, X: Axis{Kind: Nines}}.SVG()))
	drawn(t, string(Bars{}.SVG()))
	for _, y := range []float64{0, 5} {
		drawn(t, string(Lines{Y: Axis{Kind: Log}, Series: []Series{{Points: []Point{{X: 1, Y: y}, {X: 2, Y: y}}}}}.SVG()))
	}
}
