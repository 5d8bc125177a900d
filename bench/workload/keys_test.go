package workload

import (
	"math"
	"math/rand/v2"
	"testing"
)

// draws counts what a distribution draws.
func draws(t *testing.T, s Setup, n int64, times int) []int {
	t.Helper()
	d := s.drawer(n)
	rnd := rand.New(rand.NewPCG(3, 4))
	counts := make([]int, n+1)
	for range times {
		key := d.draw(rnd)
		if key < 1 || key > n {
			t.Fatalf("%s: key %d of %d", s.Keys, key, n)
		}
		counts[key]++
	}
	return counts
}

// Each distribution draws its keys about as often as it says.
func TestKeys(t *testing.T) {
	const n, times = 1000, 200_000
	about := func(what string, got int, want float64) {
		t.Helper()
		if math.Abs(float64(got)-want) > 6*math.Sqrt(want)+1 {
			t.Errorf("%s: %d times, not about %.0f", what, got, want)
		}
	}
	for key, got := range draws(t, Setup{Keys: Uniform}, n, times)[1:] {
		about("uniform", got, times/n)
		_ = key
	}
	zeta := 0.0
	for k := 1.0; k <= n; k++ {
		zeta += math.Pow(k, -ZipfExponent)
	}
	counts := draws(t, Setup{Keys: Zipf, Seed: 9}, n, times)
	for _, rank := range []int64{0, 1, 2, 9, 99} {
		about("zipf", counts[scattered(uint64(rank), n)], times*math.Pow(float64(rank+1), -ZipfExponent)/zeta)
	}
	counts = draws(t, Setup{Keys: Hot, HotShare: 0.7}, n, times)
	about("hot", counts[1], times*(0.7+0.3/n))
	about("not hot", counts[2], times*0.3/n)
	p := &Placement{servers: 2, shards: make([]uint8, n)}
	for i := range p.shards {
		p.shards[i] = uint8(1 - min(1, i/100)) // keys 1 to 100 on the second
	}
	counts = draws(t, Setup{Keys: HotShard, HotShare: 0.7, Placement: p}, n, times)
	about("on the hot shard", counts[50], times*(0.7/100+0.3/n))
	about("on another", counts[500], times*0.3/n)
	if c := draws(t, Setup{Keys: HotShard, HotShare: 0.7}, n, times); c[1] == 0 {
		t.Error("without a placement")
	}
	if _, err := ParseKeys("gauss"); err == nil {
		t.Error("a distribution that is none")
	}
}

// Each rank has a key of its own.
func TestScattered(t *testing.T) {
	const n = 100_000
	seen := make([]bool, n+1)
	for rank := range uint64(n) {
		key := scattered(rank, n)
		if key < 1 || key > n || seen[key] {
			t.Fatalf("rank %d has key %d", rank, key)
		}
		seen[key] = true
	}
}

// To draw allocates nothing.
func TestDrawNoAllocation(t *testing.T) {
	rnd := rand.New(rand.NewPCG(3, 4))
	list := make([]int64, 4)
	for _, keys := range AllKeys {
		d := Setup{Keys: keys, HotShare: 0.5}.drawer(1_000_000)
		if n := testing.AllocsPerRun(1000, func() {
			d.draw(rnd)
			d.different(rnd, list, nil)
		}); n != 0 {
			t.Errorf("%s: %g allocations", keys, n)
		}
	}
}

func BenchmarkDraw(b *testing.B) {
	for _, keys := range AllKeys {
		b.Run(string(keys), func(b *testing.B) {
			d := Setup{Keys: keys, HotShare: 0.5}.drawer(1_000_000)
			rnd := rand.New(rand.NewPCG(3, 4))
			for range b.N {
				d.draw(rnd)
			}
		})
	}
}
