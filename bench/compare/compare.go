// Package compare says whether a figure has changed between two runs of a benchmark, or
// whether the rounds differ as much among themselves.
//
// It knows nothing of where the figures come from.
//
// The governing idea: as benchstat does, it assumes nothing of how figures are
// distributed. The Mann-Whitney U test asks whether the rounds of one run tend to be
// above those of the other; it needs four rounds of each to be able to say so.
package compare

import (
	"errors"
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/perf/benchmath"

	"github.com/shardgate/shardgate/bench/measure"
)

// Verdict is what a comparison says.
type Verdict string

const (
	Same   Verdict = "~"      // no difference beyond the noise
	Better Verdict = "better" // beyond the noise
	Worse  Verdict = "WORSE"  // beyond the noise
	TooFew Verdict = "too few rounds to tell"
)

// Change is a comparison of one figure.
type Change struct {
	Old, New measure.Spread
	// By is how much the median has changed, as a share of the old one: -0.1 is a tenth
	// less. It is infinite where the old one is 0.
	By      float64
	P       float64 // how likely rounds that differ so are if nothing has changed
	Verdict Verdict
}

// Of compares the rounds of two runs. A difference counts if chance alone makes it in less
// than the share alpha of all cases.
func Of(older, newer []float64, higherIsBetter bool, alpha float64) Change {
	c := Change{Old: measure.SpreadOf(older), New: measure.SpreadOf(newer), P: 1, Verdict: Same}
	switch {
	case c.Old.Median == c.New.Median:
	case c.Old.Median == 0:
		c.By = math.Inf(1)
	default:
		c.By = c.New.Median/c.Old.Median - 1
	}
	if constant(older, newer) {
		return c
	}
	if leastP(len(older), len(newer)) > alpha {
		c.Verdict = TooFew
		return c
	}
	t := benchmath.DefaultThresholds
	t.CompareAlpha = alpha
	r := benchmath.AssumeNothing.Compare(benchmath.NewSample(slices.Clone(older), &t), benchmath.NewSample(slices.Clone(newer), &t))
	if c.P = r.P; c.P >= alpha || c.By == 0 {
		return c
	}
	c.Verdict = Worse
	if (c.By > 0) == higherIsBetter {
		c.Verdict = Better
	}
	return c
}

// constant says whether all values are one, so that nothing can have changed.
func constant(older, newer []float64) bool {
	all := slices.Concat(older, newer)
	return len(older) > 0 && len(newer) > 0 && slices.Min(all) == slices.Max(all)
}

// leastP is the least P that so many rounds can give: that of all rounds of one run above
// all of the other, in either direction.
func leastP(n, m int) float64 {
	if n == 0 || m == 0 {
		return 1
	}
	ways := 1.0
	for i := 1; i <= n; i++ {
		ways *= float64(m+i) / float64(i)
	}
	return math.Min(1, 2/ways)
}

// LeastRounds is how many rounds of each run it takes to tell anything.
func LeastRounds(alpha float64) int {
	n := 1
	for leastP(n, n) > alpha {
		n++
	}
	return n
}

// Harm is by how much a figure is worse beyond the noise, as a share of the old one; 0 if
// it is not.
func (c Change) Harm() float64 {
	if c.Verdict != Worse {
		return 0
	}
	return math.Abs(c.By)
}

// String is what has changed, in percent, and how sure that is.
func (c Change) String() string {
	switch {
	case c.Verdict == TooFew:
		return string(TooFew)
	case c.Verdict == Same:
		return fmt.Sprintf("~ (p=%.3f)", c.P)
	case math.IsInf(c.By, 0):
		return fmt.Sprintf("from 0 %s (p=%.3f)", c.Verdict, c.P)
	}
	return fmt.Sprintf("%+.1f%% %s (p=%.3f)", 100*c.By, c.Verdict, c.P)
}

// Limit is a share that is written as in "10%".
type Limit float64

// UnmarshalText reads percent.
func (l *Limit) UnmarshalText(b []byte) error {
	number, ok := strings.CutSuffix(string(b), "%")
	v, err := strconv.ParseFloat(number, 64)
	if !ok || err != nil || v < 0 || math.IsInf(v, 0) || math.IsNaN(v) {
		return errors.New("write it in percent, such as 10%")
	}
	*l = Limit(v / 100)
	return nil
}

func (l Limit) String() string { return strconv.FormatFloat(100*float64(l), 'f', -1, 64) + "%" }
