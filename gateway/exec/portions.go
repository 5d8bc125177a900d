package exec

import (
	"encoding/binary"

	"github.com/shardgate/shardgate/planner"
	"github.com/shardgate/shardgate/wire"
)

// Portions are the rows of a merge that a client asks for bit by bit. The shards' portals are
// executed with a row limit as well, and what has come of one waits here while others' rows are
// less.
type Portions struct {
	keys   []planner.SortKey
	pass   *Passing
	shards []portion
	asked  []int // the shards that are being asked
	at     int   // of asked
	rows   int64 // that have come, and their bytes
	bytes  int64
}

// portion is what has come of one shard, DataRows one behind the other.
type portion struct {
	sortedRows // the first of them, if waits
	waits      bool
	rest       []byte
	ended      bool
}

// Bounds of what is asked of a shard at a time: so many rows, or as many as have so many bytes,
// going by those that have come.
const (
	portionRows  = 64
	portionBytes = 64 << 10
)

// NewPortions makes the Portions of so many shards.
func NewPortions(shards int, keys []planner.SortKey, pass *Passing) *Portions {
	p := &Portions{keys: keys, pass: pass, shards: make([]portion, shards)}
	for i := range p.shards {
		p.shards[i].at, p.shards[i].keys = i, make([]keyValue, len(keys))
	}
	return p
}

// Ask lists the shards without which the next row isn't known, and how many rows to ask them
// for. Their answers go to the Portions as a Sink, with Answered after each.
func (p *Portions) Ask(limit int32) (shards []int, rows int32) {
	p.asked, p.at = p.asked[:0], 0
	for i := range p.shards {
		s := &p.shards[i]
		if !s.waits && !s.ended && len(s.rest) == 0 {
			p.asked = append(p.asked, i)
		}
	}
	rows = portionRows
	if p.rows > 0 {
		rows = int32(max(1, portionBytes/max(1, p.bytes/p.rows)))
	}
	if limit > 0 {
		rows = min(rows, limit)
	}
	return p.asked, rows
}

// Columns is a Sink's.
func (p *Portions) Columns([]string, []uint32) {}

// Row is a Sink's.
func (p *Portions) Row(body []byte) *wire.Error {
	s := &p.shards[p.asked[p.at]]
	s.rest = append(s.rest, 'D')
	s.rest = binary.BigEndian.AppendUint32(s.rest, uint32(len(body)+4))
	s.rest = append(s.rest, body...)
	p.rows++
	p.bytes += int64(len(body))
	return nil
}

// Answered notes that the answer of the i-th of those asked is complete. more says that the
// shard has, or may have, more rows.
func (p *Portions) Answered(i int, more bool) {
	p.shards[p.asked[i]].ended = !more
	p.at = i + 1
}

// Next returns the next row, a whole DataRow that is valid until the next call; it is nil if
// the row is not the client's. more is false if there is none. No shard may be left to be asked.
func (p *Portions) Next() (row []byte, more bool, err *wire.Error) {
	if p.pass.Done() {
		return nil, false, nil
	}
	var least *portion
	for i := range p.shards {
		s := &p.shards[i]
		if !s.waits && len(s.rest) > 0 {
			m := s.rest[:1+binary.BigEndian.Uint32(s.rest[1:])]
			s.rest = s.rest[len(m):]
			if !s.take(m, p.keys) {
				return nil, false, errSortKeys
			}
			s.waits = true
		}
		if s.waits && (least == nil || before(&s.sortedRows, &least.sortedRows, p.keys)) {
			least = s
		}
	}
	if least == nil {
		return nil, false, nil
	}
	least.waits = false
	if p.pass.takes(&least.sortedRows, p.keys) {
		row = least.row
	}
	if len(least.rest) == 0 {
		least.rest = nil // what comes next has a buffer of its own
	}
	return row, true, nil
}
