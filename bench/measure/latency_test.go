package measure

import (
	"math/rand/v2"
	"slices"
	"testing"
	"time"
)

// A merged histogram says what one histogram of all the values says, and what sorting
// them says, to three digits.
func TestMerge(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	rnd := rand.New(rand.NewPCG(seed, 0))
	whole, merged := NewLatency(), NewLatency()
	var values []time.Duration
	for range 8 {
		part := NewLatency()
		for range 5000 {
			d := time.Duration(rnd.ExpFloat64() * float64(300*time.Microsecond)).Round(time.Microsecond)
			values = append(values, d)
			part.Record(d)
			whole.Record(d)
		}
		if err := merged.Merge(part); err != nil {
			t.Fatal(err)
		}
		if part.Count() != 5000 {
			t.Fatalf("merging changed what was merged: %d", part.Count())
		}
	}
	if merged.Count() != int64(len(values)) {
		t.Fatalf("%d values in place of %d", merged.Count(), len(values))
	}
	slices.Sort(values)
	for _, p := range []float64{0, 50, 95, 99, 99.9, 100} {
		if merged.Percentile(p) != whole.Percentile(p) {
			t.Errorf("%g%%: %v merged, %v in one", p, merged.Percentile(p), whole.Percentile(p))
		}
		want := values[max(0, min(len(values)-1, int(p/100*float64(len(values)))-1))]
		if got := merged.Percentile(p); (got - want).Abs() > want/500+2*time.Microsecond {
			t.Errorf("%g%%: %v, sorted %v", p, got, want)
		}
	}
	merged.Reset()
	if merged.Count() != 0 || merged.Percentile(99) != 0 || merged.Percentile(100) != 0 {
		t.Error("not empty after Reset")
	}
}

func TestRecordOutOfRange(t *testing.T) {
	l := NewLatency()
	l.Record(-time.Second)
	l.Record(time.Hour)
	if l.Count() != 2 {
		t.Fatalf("%d of 2 counted", l.Count())
	}
	if got := l.Percentile(100); got < longest || got > longest+longest/500 {
		t.Errorf("an hour is %v", got)
	}
}

func TestSpread(t *testing.T) {
	for _, c := range []struct {
		values []float64
		want   Spread
	}{
		{nil, Spread{}},
		{[]float64{3}, Spread{3, 3, 3}},
		{[]float64{9, 1, 2}, Spread{2, 1, 9}},
		{[]float64{4, 1, 2, 10}, Spread{3, 1, 10}},
	} {
		if got := SpreadOf(c.values); got != c.want {
			t.Errorf("%v: %v, not %v", c.values, got, c.want)
		}
	}
}

func BenchmarkRecord(b *testing.B) {
	l := NewLatency()
	b.ReportAllocs()
	for i := range b.N {
		l.Record(time.Duration(i&0xfffff) * 100)
	}
}
