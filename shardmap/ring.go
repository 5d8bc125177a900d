package shardmap

import (
	"fmt"
	"strconv"

	"github.com/serialx/hashring"
)

const (
	// pointsPerWeight makes a shard's part of the ring close to its share: with as
	// many points it is off by a sixteenth at one sigma, and caps do the rest.
	pointsPerWeight = 256
	// maxPoints bounds the ring's size, and with it the time to place.
	maxPoints = 1 << 15
	// minPoints keeps light shards findable beside heavy ones.
	minPoints = 8
)

// ring tells in which order a slot prefers the shards.
type ring struct {
	nodes  *hashring.HashRing
	index  map[string]uint8
	orders [SlotCount][]uint8 // the first shards of a slot's order, as far as they were asked for
}

// newRing makes the ring of valid shards; orders are in terms of their indexes.
func newRing(shards []Shard) *ring {
	// The same proportions give the same ring.
	divisor := 0
	for _, s := range shards {
		divisor = gcd(divisor, s.Weight)
	}
	total := int64(0)
	for _, s := range shards {
		total += int64(s.Weight / divisor)
	}
	r := &ring{index: make(map[string]uint8, len(shards))}
	points := make(map[string]int, len(shards))
	for i, s := range shards {
		n := int64(s.Weight/divisor) * pointsPerWeight
		if total*pointsPerWeight > maxPoints {
			n = max(minPoints, int64(s.Weight/divisor)*maxPoints/total)
		}
		points[s.Name] = int(n)
		r.index[s.Name] = uint8(i)
	}
	// The library goes through the map in any order, but then sorts the points.
	r.nodes = hashring.NewWithWeights(points)
	return r
}

// at returns the index of the shard that is in place rank, from 0, of the slot's
// order.
func (r *ring) at(s Slot, rank int) (int, error) {
	order := r.orders[s]
	if rank >= len(order) {
		// Most slots need to know their first shard only, and a whole order is dear: so
		// it is asked for in growing parts, of which one continues the other.
		size := min(len(r.index), rank+1+rank/2)
		names, ok := r.nodes.GetNodes("slot-"+strconv.Itoa(int(s)), size)
		if !ok {
			return 0, fmt.Errorf("the ring has no %d shards for slot %d", size, s)
		}
		for _, name := range names[len(order):] {
			order = append(order, r.index[name])
		}
		r.orders[s] = order
	}
	return int(order[rank]), nil
}

func gcd(a, b int) int {
	for b != 0 {
		a, b = b, a%b
	}
	return a
}
