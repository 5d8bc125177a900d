package compare

import (
	"math"
	"testing"
)

// The P values are those of tables of the U test: 2 of the 70 orders of 4 and 4 values are
// as far apart as can be, and 2 of the 252 of 5 and 5; U = 1 of 5 and 5 has 2 more each.
func TestOf(t *testing.T) {
	for name, c := range map[string]struct {
		older, newer []float64
		higher       bool
		by, p        float64
		verdict      Verdict
		text         string
	}{
		"slower":          {[]float64{100, 101, 102, 103}, []float64{120, 121, 122, 123}, false, 121.5/101.5 - 1, 2.0 / 70, Worse, "+19.7% WORSE (p=0.029)"},
		"more throughput": {[]float64{100, 101, 102, 103}, []float64{120, 121, 122, 123}, true, 121.5/101.5 - 1, 2.0 / 70, Better, "+19.7% better (p=0.029)"},
		"less throughput": {[]float64{10, 11, 12, 13, 14}, []float64{5, 6, 7, 8, 9}, true, 7.0/12 - 1, 2.0 / 252, Worse, "-41.7% WORSE (p=0.008)"},
		"one overlap":     {[]float64{1, 2, 3, 4, 6}, []float64{5, 7, 8, 9, 10}, false, 8.0/3 - 1, 4.0 / 252, Worse, "+166.7% WORSE (p=0.016)"},
		"mixed":           {[]float64{1, 3, 5, 7, 9}, []float64{2, 4, 6, 8, 10}, false, 0.2, 0.690476, Same, "~ (p=0.690)"},
		"three":           {[]float64{1, 2, 3}, []float64{10, 11, 12}, false, 4.5, 1, TooFew, "too few rounds to tell"},
		"none":            {nil, []float64{10, 11, 12}, false, math.Inf(1), 1, TooFew, "too few rounds to tell"},
		"three and five":  {[]float64{1, 2, 3}, []float64{10, 11, 12, 13, 14}, false, 5, 2.0 / 56, Worse, "+500.0% WORSE (p=0.036)"},
		"constant":        {[]float64{6, 6, 6}, []float64{6, 6, 6}, false, 0, 1, Same, "~ (p=1.000)"},
		"from nothing":    {[]float64{0, 0, 0, 0, 0}, []float64{1, 2, 3, 4, 5}, false, math.Inf(1), 0.0079365, Worse, "from 0 WORSE (p=0.008)"},
	} {
		got := Of(c.older, c.newer, c.higher, 0.05)
		if got.Verdict != c.verdict || math.Abs(got.P-c.p) > 1e-4 || got.By != c.by && math.Abs(got.By-c.by) > 1e-9 || got.String() != c.text {
			t.Errorf("%s: %+v, %s", name, got, got)
		}
		if harm := got.Harm(); (harm > 0) != (c.verdict == Worse) || harm > 0 && harm != math.Abs(got.By) {
			t.Errorf("%s: harm %g", name, harm)
		}
	}
}

func TestLeastRounds(t *testing.T) {
	for alpha, want := range map[float64]int{0.5: 2, 0.05: 4, 0.01: 5, 0.001: 7} {
		if got := LeastRounds(alpha); got != want {
			t.Errorf("at %g: %d in place of %d", alpha, got, want)
		}
	}
}

func TestLimit(t *testing.T) {
	var l Limit
	if err := l.UnmarshalText([]byte("12.5%")); err != nil || l != 0.125 || l.String() != "12.5%" {
		t.Errorf("%v, %v", l, err)
	}
	for _, text := range []string{"10", "", "%", "-1%", "x%", "Inf%", "NaN%"} {
		if err := l.UnmarshalText([]byte(text)); err == nil {
			t.Errorf("%q is %v", text, l)
		}
	}
}
