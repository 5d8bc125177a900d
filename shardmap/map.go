package shardmap

import (
	"fmt"
	"iter"
	"sort"
	"strings"
)

const (
	slotBits = 14

	// SlotCount is the number of slots, for ever: it is part of where rows lie.
	SlotCount = 1 << slotBits

	// MaxShards is the greatest number of shards in a map.
	MaxShards = 256
	// MaxWeight is the greatest weight of a shard.
	MaxWeight = 1_000_000
	// MaxNameBytes is the greatest length of a shard's name.
	MaxNameBytes = 255
)

// Slot is one of the SlotCount parts of the hash space that move between shards as
// a whole.
type Slot uint16

// SlotOf returns the slot of a key with this hash: its low 14 bits, in SQL
// hash & 16383.
func SlotOf(hash uint64) Slot { return Slot(hash & (SlotCount - 1)) }

// Shard is what placement knows of a shard.
type Shard struct {
	Name   string // unique, 1 to MaxNameBytes octets, without a zero octet
	Weight int    // its part of the slots, relative to the other weights: 1 to MaxWeight
}

// Map is one immutable version of the slot table. It comes from Place, Rebalance
// or ParseMap and may be used by any number of goroutines.
//
// The shards have indexes in the order of their names, which hold within one
// version only: from one version to another a shard is known by its name.
type Map struct {
	version uint64
	shards  []Shard // in the order of their names
	names   []string
	counts  []int // slots of each shard
	table   [SlotCount]uint8
}

// newMap makes a map of valid shards in the order of their names and a table of
// indexes into them.
func newMap(version uint64, shards []Shard, table *[SlotCount]uint8) *Map {
	m := &Map{
		version: version,
		shards:  shards,
		names:   make([]string, len(shards)),
		counts:  make([]int, len(shards)),
		table:   *table,
	}
	for i, s := range shards {
		m.names[i] = s.Name
	}
	for _, i := range table {
		m.counts[i]++
	}
	return m
}

// Version returns the map's version: 1 for a first placement, and one more with
// each Rebalance.
func (m *Map) Version() uint64 { return m.version }

// Shards returns the shards' names in index order. The caller must not modify it.
func (m *Map) Shards() []string { return m.names }

// Weight returns the weight with which the shard of this index was placed.
func (m *Map) Weight(shard int) int { return m.shards[shard].Weight }

// Index returns the index of the shard of this name, and false if there is none.
func (m *Map) Index(name string) (int, bool) {
	i := sort.SearchStrings(m.names, name)
	return i, i < len(m.names) && m.names[i] == name
}

// ShardOf returns the index into Shards of the shard that holds s. It panics if s
// isn't below SlotCount.
func (m *Map) ShardOf(s Slot) int { return int(m.table[s]) }

// Count returns the number of slots of the shard of this index.
func (m *Map) Count(shard int) int { return m.counts[shard] }

// SlotsOf yields the slots of the shard of this index in ascending order.
func (m *Map) SlotsOf(shard int) iter.Seq[Slot] {
	return func(yield func(Slot) bool) {
		for s, i := range m.table {
			if int(i) == shard && !yield(Slot(s)) {
				return
			}
		}
	}
}

// Move is a slot that goes from one shard to another, by their names.
type Move struct {
	Slot     Slot
	From, To string
}

// Diff returns the moves that make the slot table of from that of to, in the order
// of the slots.
func Diff(from, to *Map) []Move {
	var moves []Move
	for s := range SlotCount {
		a, b := from.names[from.table[s]], to.names[to.table[s]]
		if a != b {
			moves = append(moves, Move{Slot(s), a, b})
		}
	}
	return moves
}

// checkShards says what is wrong with shards that are to be placed.
func checkShards(shards []Shard) error {
	if len(shards) == 0 || len(shards) > MaxShards {
		return fmt.Errorf("a shard map has 1 to %d shards, not %d", MaxShards, len(shards))
	}
	seen := make(map[string]bool, len(shards))
	for i, s := range shards {
		switch {
		case s.Name == "":
			return fmt.Errorf("shard %d has no name", i+1)
		case len(s.Name) > MaxNameBytes:
			return fmt.Errorf("the name of shard %d has %d octets, more than %d", i+1, len(s.Name), MaxNameBytes)
		case strings.IndexByte(s.Name, 0) >= 0:
			return fmt.Errorf("the name of shard %q has a zero octet", s.Name)
		case seen[s.Name]:
			return fmt.Errorf("there are two shards with the name %q", s.Name)
		case s.Weight < 1 || s.Weight > MaxWeight:
			return fmt.Errorf("the weight of shard %q is %d, not 1 to %d", s.Name, s.Weight, MaxWeight)
		}
		seen[s.Name] = true
	}
	return nil
}
