package workload

import (
	"context"
	"fmt"
	"math"

	"github.com/shardgate/shardgate/bench/target"
)

// Placement says which server of a store holds which key of a table. The nil one knows
// nothing.
type Placement struct {
	shards  []uint8 // by key - 1; noShard: not known
	servers int
}

const (
	noShard = math.MaxUint8
	// placedKeys bounds the keys of which it is known where they are. Where that matters,
	// no others are used.
	placedKeys = 1_000_000
	maxServers = 64
)

// of is the shard of a key; -1: not known.
func (p *Placement) of(key int64) int {
	if p == nil || key > int64(len(p.shards)) || p.shards[key-1] == noShard {
		return -1
	}
	return int(p.shards[key-1])
}

// within bounds a number of keys to those whose shard is known.
func (p *Placement) within(n int64) int64 {
	if p == nil {
		return n
	}
	return min(n, int64(len(p.shards)))
}

// keysOf are the keys of a shard, up to n; nil if none is known.
func (p *Placement) keysOf(shard int, n int64) (list []int64) {
	if p == nil {
		return nil
	}
	for key := int64(1); key <= p.within(n); key++ {
		if p.of(key) == shard {
			list = append(list, key)
		}
	}
	return list
}

// PlacementOf asks the servers of a store which keys they hold. It is nil if there is one
// server only, or none that is known, or if the data have no such keys.
func PlacementOf(ctx context.Context, d *Data, s *target.Store, size Size) (*Placement, error) {
	if d.keyed == "" || len(s.Servers) < 2 {
		return nil, nil
	}
	if len(s.Servers) > maxServers {
		return nil, fmt.Errorf("%s: %d servers; at most %d are supported", s.Name, len(s.Servers), maxServers)
	}
	n := d.keys(size)
	p := &Placement{shards: make([]uint8, min(n, placedKeys)), servers: len(s.Servers)}
	for i := range p.shards {
		p.shards[i] = noShard
	}
	for shard, url := range s.Servers {
		sql := fmt.Sprintf("SELECT %s FROM %s WHERE %s BETWEEN 1 AND %d", d.key, d.keyed, d.key, len(p.shards))
		if err := each(ctx, url, sql, func(values [][]byte) error {
			key, err := numbersOf(values)
			if err == nil {
				p.shards[key[0]-1] = uint8(shard)
			}
			return err
		}); err != nil {
			return nil, err
		}
	}
	return p, nil
}
