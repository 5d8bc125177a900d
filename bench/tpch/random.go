package tpch

import "math/bits"

// random is a stream of random numbers, SplitMix64 (Steele, Lea and Flood, "Fast
// splittable pseudorandom number generators", 2014): small enough to begin one for each
// row.
type random uint64

// stream tells apart what random numbers are for.
type stream uint64

const (
	words stream = iota
	remarks
	partRows
	supplierRows
	partsuppRows
	customerRows
	orderRows
	orderLines
	lineTexts
	regionRows
	nationRows
)

// random begins a stream for the n-th row.
func (d *Data) random(s stream, n int) random {
	return random(mix(mix(d.Seed^uint64(s)<<56) + uint64(n)))
}

func mix(z uint64) uint64 {
	z = (z ^ z>>30) * 0xbf58476d1ce4e5b9
	z = (z ^ z>>27) * 0x94d049bb133111eb
	return z ^ z>>31
}

// between returns a number from least to greatest, both included.
func (r *random) between(least, greatest int) int {
	*r += 0x9e3779b97f4a7c15
	hi, _ := bits.Mul64(mix(uint64(*r)), uint64(greatest-least+1))
	return least + int(hi)
}

func (r *random) pick(list []string) string { return list[r.between(0, len(list)-1)] }
