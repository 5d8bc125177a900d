package shardmap

import (
	"fmt"
	"math"
	"slices"
	"strings"
)

// homeless is the owner of a slot that has to be placed.
const homeless = -1

// Place makes the first map, version 1: a slot goes to the first shard of its order
// on the ring that is below its cap, 1.02 times its fair share (consistent hashing
// with bounded loads, Mirrokni, Thorup and Zadimoghaddam 2016; a bare ring is out of
// balance by a tenth and more). The order of shards makes no difference, and the
// same shards give the same map in every process.
//
// The error says which of the shards is not as [Shard] and MaxShards want it.
func Place(shards []Shard) (*Map, error) {
	shards, err := sortedShards(shards)
	if err != nil {
		return nil, err
	}
	p := newPlacement(shards)
	for s := range p.owner {
		p.owner[s] = homeless
	}
	if err := p.settleHomeless(); err != nil {
		return nil, err
	}
	return p.toMap(1), nil
}

// Rebalance makes the next version of the map for another set of shards: shards may
// join, leave and change their weight. It returns the new map and the moves that
// lead to it, in the order of the slots. m isn't changed. The result depends on m
// and the set alone; with the set of m, there are no moves.
//
// As little as possible moves. A shard that joins, or whose fair share grows, gets
// slots from those whose fair share shrinks, from each in proportion; a shard that
// leaves gives its slots to the next in their order on the ring that have room,
// first of all to shards whose share grows. Between shards that stay and whose
// shares grow alike, or shrink alike, nothing moves. No shard gets more than its
// cap. A shard may keep more than its cap only where nobody has room for the slots
// whose own share grows.
//
// The errors are those of Place.
func (m *Map) Rebalance(shards []Shard) (*Map, []Move, error) {
	shards, err := sortedShards(shards)
	if err != nil {
		return nil, nil, err
	}
	if m.version >= math.MaxInt64 {
		return nil, nil, fmt.Errorf("no version of a shard map follows %d", m.version)
	}
	p := newPlacement(shards)
	now := make([]int, len(m.shards)) // from an index in m to one in shards
	for i, name := range m.names {
		now[i] = homeless
		if j, ok := p.index(name); ok {
			now[i] = j
			p.oldWeight[j] = int64(m.shards[i].Weight)
		}
		p.oldTotal += int64(m.shards[i].Weight)
	}
	for s, i := range m.table {
		p.owner[s] = now[i]
		if now[i] != homeless {
			p.count[now[i]]++
		}
	}
	if err := p.settle(p.growing(), p.gifts()); err != nil {
		return nil, nil, err
	}
	if err := p.settleHomeless(); err != nil {
		return nil, nil, err
	}
	next := p.toMap(m.version + 1)
	return next, Diff(m, next), nil
}

// sortedShards returns a checked copy in the order of the names.
func sortedShards(shards []Shard) ([]Shard, error) {
	if err := checkShards(shards); err != nil {
		return nil, err
	}
	shards = slices.Clone(shards)
	slices.SortFunc(shards, func(a, b Shard) int { return strings.Compare(a.Name, b.Name) })
	return shards, nil
}

// placement is a slot table in the making. All its arithmetic is on integers, for
// floating point may differ from one machine to another. Weights and totals are
// below 2^20 and 2^28, so that the products stay within 63 bits.
type placement struct {
	shards    []Shard
	weight    []int64
	total     int64   // of the weights
	oldWeight []int64 // 0 if the shard joins
	oldTotal  int64   // of all shards that were, 0 if there were none
	owner     [SlotCount]int
	count     []int // slots of each shard
	ring      *ring
}

func newPlacement(shards []Shard) *placement {
	p := &placement{
		shards:    shards,
		weight:    make([]int64, len(shards)),
		oldWeight: make([]int64, len(shards)),
		count:     make([]int, len(shards)),
		ring:      newRing(shards),
	}
	for i, s := range shards {
		p.weight[i] = int64(s.Weight)
		p.total += p.weight[i]
	}
	return p
}

func (p *placement) index(name string) (int, bool) {
	return slices.BinarySearchFunc(p.shards, name, func(s Shard, name string) int { return strings.Compare(s.Name, name) })
}

// cap returns the most slots that the shard may get: 1.02 times its fair share,
// rounded up, so that the caps together hold all slots.
func (p *placement) cap(shard int) int {
	part, whole := SlotCount*p.weight[shard]*102, p.total*100
	return int((part + whole - 1) / whole)
}

func (p *placement) room(shard int) int { return max(0, p.cap(shard)-p.count[shard]) }

// shrinkage returns by what fraction of itself the shard's fair share shrinks, as a
// numerator over a denominator. The numerator is negative if the share grows. A
// shard that joins grows.
func (p *placement) shrinkage(shard int) (numerator, denominator int64) {
	old := p.oldWeight[shard]
	if old == 0 {
		return -1, 1
	}
	return old*p.total - p.weight[shard]*p.oldTotal, old * p.total
}

// growing returns the room of those shards whose fair share grows.
func (p *placement) growing() []int {
	room := make([]int, len(p.shards))
	for i := range room {
		if n, _ := p.shrinkage(i); n < 0 {
			room[i] = p.room(i)
		}
	}
	return room
}

// gifts returns how many slots each shard gives whose fair share shrinks: the part
// of its slots by which the share does, rounded so that the sum is right, and what
// it has above its cap; but altogether no more than the growing shards have room
// for beside the homeless slots.
func (p *placement) gifts() []int {
	const one = 1 << 15 // the unit of fractions of a slot
	n := len(p.shards)
	gifts, least, fraction := make([]int, n), make([]int, n), make([]int, n)
	sum, whole, leastSum := 0, 0, 0
	for i := range gifts {
		numerator, denominator := p.shrinkage(i)
		if numerator <= 0 {
			continue
		}
		product := int64(p.count[i]) * numerator
		gifts[i] = int(product / denominator)
		fraction[i] = int(product % denominator * one / denominator)
		least[i] = max(0, p.count[i]-p.cap(i))
		sum += gifts[i]*one + fraction[i]
		whole += gifts[i]
		leastSum += least[i]
	}
	sum = (sum + one/2) / one
	for ; whole < sum; whole++ {
		i := maxIndex(fraction)
		gifts[i]++
		fraction[i] = -1
	}
	for i := range gifts {
		if least[i] > gifts[i] {
			whole += least[i] - gifts[i]
			gifts[i] = least[i]
		}
	}
	space := -SlotCount // becomes the room of the growing shards less the homeless slots
	for i, room := range p.growing() {
		space += room + p.count[i]
	}
	for limit := max(0, min(max(sum, leastSum), space)); whole > limit; whole-- {
		i := p.lightest(gifts, least)
		if i < 0 {
			i = p.lightest(gifts, make([]int, n))
		}
		gifts[i]--
	}
	return gifts
}

// lightest returns the shard that has fewest slots for its weight after its gift,
// among those that give more than their least; -1 if none does.
func (p *placement) lightest(gifts, least []int) int {
	best := -1
	for i := range gifts {
		if gifts[i] > least[i] && (best < 0 ||
			int64(p.count[i]-gifts[i])*p.weight[best] < int64(p.count[best]-gifts[best])*p.weight[i]) {
			best = i
		}
	}
	return best
}

// maxIndex returns the index of the greatest value, the first of several.
func maxIndex(values []int) int {
	best := 0
	for i, v := range values {
		if v > values[best] {
			best = i
		}
	}
	return best
}

// settle gives homeless slots, and as many others of each shard as its gift is, to
// shards that have room: each to the first in its order that has. First choices come
// before second ones, so that a gift consists of the slots that want it most.
// It uses up room and gifts.
func (p *placement) settle(room, gifts []int) error {
	var waiting []Slot
	for s, owner := range p.owner {
		if owner == homeless || gifts[owner] > 0 {
			waiting = append(waiting, Slot(s))
		}
	}
	for rank := 0; rank < len(p.shards) && len(waiting) > 0; rank++ {
		rest := waiting[:0]
		for _, s := range waiting {
			from := p.owner[s]
			if from != homeless && gifts[from] == 0 {
				continue
			}
			to, err := p.ring.at(s, rank)
			if err != nil {
				return err
			}
			if room[to] == 0 {
				rest = append(rest, s)
				continue
			}
			if from != homeless {
				gifts[from]--
				p.count[from]--
			}
			room[to]--
			p.count[to]++
			p.owner[s] = to
		}
		waiting = rest
	}
	return nil
}

// settleHomeless places the slots without a shard on any that is below its cap. The
// caps together hold all slots, so there is room for each.
func (p *placement) settleHomeless() error {
	room := make([]int, len(p.shards))
	for i := range room {
		room[i] = p.room(i)
	}
	return p.settle(room, make([]int, len(p.shards)))
}

func (p *placement) toMap(version uint64) *Map {
	var table [SlotCount]uint8
	for s, owner := range p.owner {
		table[s] = uint8(owner)
	}
	return newMap(version, p.shards, &table)
}
