package shardmap

import (
	"crypto/sha256"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"
)

// named returns n shards of these weights, 1 where there is none.
func named(n int, weights ...int) []Shard {
	shards := make([]Shard, n)
	for i := range shards {
		shards[i] = Shard{Name: fmt.Sprintf("shard%d", i+1), Weight: 1}
		if i < len(weights) {
			shards[i].Weight = weights[i]
		}
	}
	return shards
}

// seeded returns a source of random numbers whose seed a failure shows.
func seeded(t testing.TB) *rand.Rand {
	seed := uint64(time.Now().UnixNano())
	t.Logf("random seed %d", seed)
	return rand.New(rand.NewPCG(seed, 0))
}

// fatalist is what testing.T and rapid.T have in common.
type fatalist interface {
	Helper()
	Fatalf(format string, args ...any)
}

func mustPlace(t fatalist, shards []Shard) *Map {
	t.Helper()
	m, err := Place(shards)
	if err != nil {
		t.Fatalf("place %v: %v", shards, err)
	}
	checkBalance(t, m)
	return m
}

// fairShare is the exact number of slots that a shard should have.
func fairShare(m *Map, shard int) float64 {
	total := 0
	for i := range m.Shards() {
		total += m.Weight(i)
	}
	return SlotCount * float64(m.Weight(shard)) / float64(total)
}

// checkBalance demands that no shard has more than 1.03 of its share plus one slot,
// and that the map agrees with itself.
func checkBalance(t fatalist, m *Map) {
	t.Helper()
	sum := 0
	for i, name := range m.Shards() {
		if j, ok := m.Index(name); !ok || i != j {
			t.Fatalf("index of %q is %d, %v, not %d", name, j, ok, i)
		}
		n := 0
		last := -1
		for s := range m.SlotsOf(i) {
			if m.ShardOf(s) != i || int(s) <= last {
				t.Fatalf("slot %d of shard %d is on %d, after slot %d", s, i, m.ShardOf(s), last)
			}
			last = int(s)
			n++
		}
		if n != m.Count(i) {
			t.Fatalf("shard %d has %d slots, counted as %d", i, n, m.Count(i))
		}
		if fair := fairShare(m, i); float64(n) > 1.03*fair+1 {
			t.Fatalf("shard %q of %d has %d slots, its share is %.2f", name, len(m.Shards()), n, fair)
		}
		sum += n
	}
	if sum != SlotCount {
		t.Fatalf("%d slots are on shards", sum)
	}
}

// mustRebalance rebalances and checks what holds for every change.
func mustRebalance(t fatalist, m *Map, shards []Shard) (*Map, []Move) {
	t.Helper()
	next, moves, err := m.Rebalance(shards)
	if err != nil {
		t.Fatalf("rebalance: %v", err)
	}
	if next.Version() != m.Version()+1 {
		t.Fatalf("version %d follows %d", next.Version(), m.Version())
	}
	checkBalance(t, next)
	if !slices.Equal(moves, Diff(m, next)) {
		t.Fatalf("the moves aren't the difference")
	}
	for _, mv := range moves {
		from, _ := m.Index(mv.From)
		to, ok := next.Index(mv.To)
		if !ok || m.ShardOf(mv.Slot) != from || next.ShardOf(mv.Slot) != to {
			t.Fatalf("the maps don't know of %v", mv)
		}
		// Who gives and stays has a share that shrinks, and who gets from it one that
		// grows.
		stays, ok := next.Index(mv.From)
		if !ok {
			continue
		}
		if fairShare(next, stays) >= fairShare(m, from) {
			t.Fatalf("%v: %q gives, though its share doesn't shrink", mv, mv.From)
		}
		if was, ok := m.Index(mv.To); ok && fairShare(next, to) <= fairShare(m, was) {
			t.Fatalf("%v: %q gets from one that stays, though its share doesn't grow", mv, mv.To)
		}
	}
	return next, moves
}

func TestPlaceBalance(t *testing.T) {
	rng := seeded(t)
	for n := 1; n <= 64; n++ {
		m := mustPlace(t, named(n))
		for i := range n {
			// Few slots are as wrong as many, though caps don't prevent them.
			if fair := fairShare(m, i); float64(m.Count(i)) < fair*0.75 {
				t.Errorf("shard %d of %d has %d slots, its share is %.2f", i, n, m.Count(i), fair)
			}
		}
		weights := make([]int, n)
		for i := range weights {
			weights[i] = 1 + rng.IntN(10)
		}
		mustPlace(t, named(n, weights...))
	}
	for _, n := range []int{100, 128, 256} {
		mustPlace(t, named(n))
		weights := make([]int, n)
		for i := range weights {
			weights[i] = 1 + rng.IntN(1000)
		}
		mustPlace(t, named(n, weights...))
	}
}

func TestPlaceExtremeWeights(t *testing.T) {
	mustPlace(t, named(2, MaxWeight, 1))
	mustPlace(t, named(3, MaxWeight, MaxWeight, MaxWeight))
	weights := make([]int, MaxShards)
	for i := range weights {
		weights[i] = MaxWeight - i%2*(MaxWeight-1)
	}
	m := mustPlace(t, named(MaxShards, weights...))
	for i := range weights {
		weights[i] = MaxWeight - (i+1)%2*(MaxWeight-1)
	}
	mustRebalance(t, m, named(MaxShards, weights...))
}

// Gateways of different releases propose for the same catalog, and a rebalance must
// be what its preview has shown: the same input gives the same map for ever.
func TestPlaceIsForEver(t *testing.T) {
	m := mustPlace(t, named(5, 1, 2, 3, 4, 5))
	m, _ = mustRebalance(t, m, named(7, 1, 2, 3, 4, 5, 6))
	m, _ = mustRebalance(t, m, named(7, 3, 2, 3, 1, 5, 6)[1:])
	b, err := m.MarshalBinary()
	if err != nil {
		t.Fatal(err)
	}
	const want = "934f358845b4d42397c877c74a8165c74203afe676b98b83a84270c7968df905"
	if got := fmt.Sprintf("%x", sha256.Sum256(b)); got != want {
		t.Errorf("digest of the stored map is %s, was %s", got, want)
	}
}

func TestPlaceIgnoresOrder(t *testing.T) {
	rng := seeded(t)
	shards := named(20, 5, 1, 2, 8, 3)
	want := mustPlace(t, shards)
	grown := append(slices.Clone(shards), Shard{"another", 2}, Shard{"one more", 2})
	wantGrown, _ := mustRebalance(t, want, grown)
	for range 5 {
		rng.Shuffle(len(shards), func(i, j int) { shards[i], shards[j] = shards[j], shards[i] })
		rng.Shuffle(len(grown), func(i, j int) { grown[i], grown[j] = grown[j], grown[i] })
		given := slices.Clone(shards)
		if got := mustPlace(t, shards); !sameMap(got, want) {
			t.Fatal("another order of the shards gave another map")
		}
		if !slices.Equal(given, shards) {
			t.Fatal("the caller's shards were changed")
		}
		if got, _ := mustRebalance(t, want, grown); !sameMap(got, wantGrown) {
			t.Fatal("another order of the shards gave another rebalanced map")
		}
	}
}

func sameMap(a, b *Map) bool {
	return a.version == b.version && a.table == b.table &&
		slices.Equal(a.shards, b.shards) && slices.Equal(a.names, b.names) && slices.Equal(a.counts, b.counts)
}

func TestPlaceRefuses(t *testing.T) {
	long := make([]byte, MaxNameBytes+1)
	for i := range long {
		long[i] = 'x'
	}
	for name, shards := range map[string][]Shard{
		"none":        nil,
		"too many":    named(MaxShards + 1),
		"no name":     {{"a", 1}, {"", 1}},
		"long name":   {{string(long), 1}},
		"zero octet":  {{"a\x00", 1}},
		"twice":       {{"a", 1}, {"b", 1}, {"a", 2}},
		"weight 0":    {{"a", 0}},
		"weight -1":   {{"a", -1}},
		"weight huge": {{"a", MaxWeight + 1}},
	} {
		t.Run(name, func(t *testing.T) {
			if m, err := Place(shards); err == nil || m != nil {
				t.Errorf("Place gave %v, %v", m, err)
			} else {
				t.Log(err)
			}
			m, moves, err := mustPlace(t, named(2)).Rebalance(shards)
			if err == nil || m != nil || moves != nil {
				t.Errorf("Rebalance gave %v, %v, %v", m, moves, err)
			}
		})
	}
}

func TestRebalanceToTheSame(t *testing.T) {
	m := mustPlace(t, named(9, 1, 2, 3))
	next, moves := mustRebalance(t, m, named(9, 1, 2, 3))
	if len(moves) != 0 || next.table != m.table {
		t.Errorf("%d moves", len(moves))
	}
	// The same proportions are the same shares.
	if _, moves := mustRebalance(t, m, named(9, 7, 14, 21, 7, 7, 7, 7, 7, 7)); len(moves) != 0 {
		t.Errorf("%d moves between the same proportions", len(moves))
	}
}

func TestRebalanceAdd(t *testing.T) {
	rng := seeded(t)
	for n := 1; n <= 64; n++ {
		for _, weighted := range []bool{false, true} {
			if weighted && n%4 != 0 { // the ring of many points takes its time
				continue
			}
			weights := make([]int, n+1)
			for i := range weights {
				weights[i] = 1
				if weighted {
					weights[i] = 1 + rng.IntN(10)
				}
			}
			m := mustPlace(t, named(n, weights...))
			next, moves := mustRebalance(t, m, named(n+1, weights...))
			newcomer, _ := next.Index(fmt.Sprintf("shard%d", n+1))
			fair := fairShare(next, newcomer)
			if got := float64(len(moves)); got < fair-1 || got > 1.03*fair+1 {
				t.Errorf("%d shards %v: %v moves, the share is %.2f", n, weights, got, fair)
			}
			given := map[string]int{}
			for _, mv := range moves {
				if mv.To != next.Shards()[newcomer] {
					t.Fatalf("%v is between shards that stay", mv)
				}
				given[mv.From]++
			}
			for i, name := range m.Shards() {
				// In proportion, but for rounding, and that what is above a cap goes first, in
				// place of slots of those that have fewest.
				part := float64(m.Count(i)) * fair / SlotCount
				got := float64(given[name])
				if got > part+3 || got < part-2 && float64(m.Count(i)) > fairShare(m, i) {
					t.Errorf("%d shards: %q gave %v of its %d slots, its part is %.2f", n, name, got, m.Count(i), part)
				}
			}
		}
	}
}

func TestRebalanceRemove(t *testing.T) {
	rng := seeded(t)
	for n := 2; n <= 65; n += 1 + n/16 {
		weights := make([]int, n)
		for i := range weights {
			weights[i] = 1 + rng.IntN(1+n%2*10)
		}
		shards := named(n, weights...)
		m := mustPlace(t, shards)
		leaver := rng.IntN(n)
		gone, _ := m.Index(shards[leaver].Name)
		_, moves := mustRebalance(t, m, slices.Delete(slices.Clone(shards), leaver, leaver+1))
		if len(moves) != m.Count(gone) {
			t.Errorf("%d shards: %d moves for the %d slots that lost their shard", n, len(moves), m.Count(gone))
		}
		for _, mv := range moves {
			if mv.From != shards[leaver].Name {
				t.Fatalf("%v is between shards that stay", mv)
			}
		}
	}
}

// A shard that takes another's place takes its slots and no others.
func TestRebalanceReplace(t *testing.T) {
	shards := named(10)
	m := mustPlace(t, shards)
	gone, _ := m.Index("shard4")
	shards[3].Name = "substitute"
	next, moves := mustRebalance(t, m, shards)
	if len(moves) != m.Count(gone) {
		t.Errorf("%d moves for %d slots", len(moves), m.Count(gone))
	}
	if i, _ := next.Index("substitute"); next.Count(i) != m.Count(gone) {
		t.Errorf("the substitute has %d slots of %d", next.Count(i), m.Count(gone))
	}
}

func TestRebalanceAllAnew(t *testing.T) {
	m := mustPlace(t, named(4))
	shards := []Shard{{"x", 1}, {"y", 3}}
	_, moves := mustRebalance(t, m, shards)
	if len(moves) != SlotCount {
		t.Errorf("%d moves", len(moves))
	}
}

func TestRebalanceWeight(t *testing.T) {
	m := mustPlace(t, named(8))
	heavy, moves := mustRebalance(t, m, named(8, 2))
	if fair := SlotCount*2.0/9 - SlotCount/8.0; float64(len(moves)) > 1.03*fair+8 || float64(len(moves)) < 0.95*fair {
		t.Errorf("%d moves for a share that grows by %.2f", len(moves), fair)
	}
	_, moves = mustRebalance(t, heavy, named(8))
	if fair := SlotCount*2.0/9 - SlotCount/8.0; float64(len(moves)) > 1.05*fair+8 || float64(len(moves)) < 0.95*fair {
		t.Errorf("%d moves for a share that shrinks by %.2f", len(moves), fair)
	}
}

// Sequences of changes keep what single ones do.
func TestRebalanceSequences(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		maxWeight := rapid.SampledFrom([]int{1, 3, 10}).Draw(t, "maximum weight")
		maxShards := rapid.SampledFrom([]int{4, 12, 40}).Draw(t, "maximum of shards")
		weight := func(label string) int { return rapid.IntRange(1, maxWeight).Draw(t, label) }
		made := 0
		join := func(shards []Shard) []Shard {
			made++
			return append(shards, Shard{fmt.Sprintf("s%d", made), weight("weight")})
		}
		var shards []Shard
		for range rapid.IntRange(1, maxShards-1).Draw(t, "shards") {
			shards = join(shards)
		}
		m := mustPlace(t, shards)
		for range rapid.IntRange(1, 8).Draw(t, "changes") {
			shards = slices.Clone(shards)
			before := m
			switch pick := func() int { return rapid.IntRange(0, len(shards)-1).Draw(t, "which") }; {
			default:
				m, _ = mustRebalance(t, m, shards)
			case len(shards) < maxShards && rapid.Bool().Draw(t, "join"):
				shards = join(shards)
				var moves []Move
				m, moves = mustRebalance(t, m, shards)
				newcomer, _ := m.Index(shards[len(shards)-1].Name)
				if fair := fairShare(m, newcomer); float64(len(moves)) > 1.03*fair+1 || float64(len(moves)) < fair-1 {
					t.Fatalf("%d moves to a newcomer whose share is %.2f", len(moves), fair)
				}
			case len(shards) > 1 && rapid.Bool().Draw(t, "leave"):
				i := pick()
				gone, _ := m.Index(shards[i].Name)
				shards = slices.Delete(shards, i, i+1)
				var moves []Move
				m, moves = mustRebalance(t, m, shards)
				if len(moves) != before.Count(gone) {
					t.Fatalf("%d moves for %d slots that lost their shard", len(moves), before.Count(gone))
				}
			case rapid.Bool().Draw(t, "reweigh"):
				shards[pick()].Weight = weight("new weight")
				m, _ = mustRebalance(t, m, shards)
			case len(shards) > 2 && rapid.Bool().Draw(t, "everything"):
				shards = slices.Delete(shards, 0, rapid.IntRange(0, len(shards)/2).Draw(t, "leave"))
				for range rapid.IntRange(0, max(0, maxShards-len(shards))).Draw(t, "join") {
					shards = join(shards)
				}
				shards[pick()].Weight = weight("new weight")
				m, _ = mustRebalance(t, m, shards)
			}
		}
	})
}

func BenchmarkPlace(b *testing.B) {
	for _, n := range []int{3, 16, 64, 128} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if _, err := Place(named(n)); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

func BenchmarkRebalanceAdd(b *testing.B) {
	for _, n := range []int{3, 64} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			m := mustPlace(b, named(n))
			b.ReportAllocs()
			for b.Loop() {
				if _, _, err := m.Rebalance(named(n + 1)); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

func BenchmarkShardOf(b *testing.B) {
	m := mustPlace(b, named(8))
	b.ReportAllocs()
	sum := 0
	for i := 0; b.Loop(); i++ {
		sum += m.ShardOf(SlotOf(HashInt64(int64(i))))
	}
	sink = uint64(sum)
}
