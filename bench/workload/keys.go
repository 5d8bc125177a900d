package workload

import (
	"fmt"
	"math/rand/v2"
	"slices"
)

// Keys is how the keys that a workload uses are distributed.
type Keys string

const (
	Uniform  Keys = "uniform"   // each key is as likely as any other
	Zipf     Keys = "zipf"      // the k-th key of a fixed order is drawn in proportion to 1/k^ZipfExponent
	Hot      Keys = "hot"       // a share of the draws are of one key
	HotShard Keys = "hot-shard" // a share of the draws are of the keys of one shard
)

// AllKeys are all of them.
var AllKeys = []Keys{Uniform, Zipf, Hot, HotShard}

// ZipfExponent is that of Zipf. Of a million keys, an eighth of the draws are of the first then, and half of
// the first 69.
const ZipfExponent = 1.1

// ParseKeys returns the distribution of a name.
func ParseKeys(name string) (Keys, error) {
	if !slices.Contains(AllKeys, Keys(name)) {
		return "", fmt.Errorf("no distribution of keys %q; there are %v", name, AllKeys)
	}
	return Keys(name), nil
}

// drawer draws keys from 1 to n. To draw does not allocate.
type drawer struct {
	keys  Keys
	n     int64
	share float64 // of the draws that are hot
	zipf  *rand.Zipf
	hot   []int64 // keys
}

// drawer returns one for keys from 1 to n.
func (s Setup) drawer(n int64) *drawer {
	d := &drawer{keys: s.Keys, n: n, share: s.HotShare}
	switch s.Keys {
	case Zipf:
		// A generator of its own, since a rand.Zipf keeps the one that it is made with.
		d.zipf = rand.NewZipf(rand.New(rand.NewPCG(s.Seed, ^uint64(s.Client))), ZipfExponent, 1, uint64(n-1))
	case Hot:
		d.hot = []int64{scattered(0, n)}
	case HotShard:
		d.hot = s.Placement.keysOf(s.Placement.of(1), n) // a shard that has keys, however few there are
	}
	return d
}

func (d *drawer) draw(rnd *rand.Rand) int64 {
	switch {
	case d.zipf != nil:
		return scattered(d.zipf.Uint64(), d.n)
	case len(d.hot) > 0 && rnd.Float64() < d.share:
		return d.hot[rnd.IntN(len(d.hot))]
	}
	return 1 + rnd.Int64N(d.n)
}

// scatterPrime is larger than any number of keys that a workload has, or does not divide it.
const scatterPrime = 1_000_000_007

// scattered is the key of a rank, from 0: each of 1 to n for one rank below n. Keys that are drawn
// often are not neighbours then, which would be on the same page of a table.
func scattered(rank uint64, n int64) int64 { return 1 + int64(rank*scatterPrime%uint64(n)) }

// different draws as many keys as list holds, each another, in ascending order, so that transactions
// that change them in this order don't wait for each other in a circle. As long as there are shards
// that hold none of them, the next one is on such a shard, where the placement is known.
func (d *drawer) different(rnd *rand.Rand, list []int64, p *Placement) {
	var used uint64 // shards, as bits
	for i := range list {
		for try := 0; ; try++ {
			key := d.draw(rnd)
			if try >= hotTries {
				key = 1 + rnd.Int64N(d.n)
			}
			if slices.Contains(list[:i], key) {
				continue
			}
			shard := p.of(key)
			if shard >= 0 && i < p.servers && used&(1<<shard) != 0 && try < 2*hotTries {
				continue
			}
			if shard >= 0 {
				used |= 1 << shard
			}
			list[i] = key
			break
		}
	}
	slices.Sort(list)
}

// hotTries bounds how often hot keys are drawn that do not fit what was drawn before.
const hotTries = 100
