package exec

import (
	"encoding/binary"
	"strconv"

	"github.com/shardgate/shardgate/gateway/pool"
	"github.com/shardgate/shardgate/planner"
	"github.com/shardgate/shardgate/shardmap"
	"github.com/shardgate/shardgate/wire"
)

// Rows are rows in memory that are to be brought to their shards. A Sink.
type Rows struct {
	// LimitBytes bounds the rows.
	LimitBytes int64

	types []uint32
	names []string
	rows  []byte // as in DataRow, one behind the other
	count int
	// carried says how the values of the columns travel; nil before Carry.
	carried []planner.Carried
}

// Columns is a Sink's.
func (r *Rows) Columns(names []string, oids []uint32) {
	r.names, r.types = names, oids
	for i := range r.types {
		if r.as(i).Text {
			r.types[i] = textOID
		}
	}
}

// Carry notes how the values of the columns, which are known from the home shard, travel.
func (r *Rows) Carry(types map[uint32]planner.Carried) {
	r.carried = make([]planner.Carried, len(r.types))
	for i, t := range r.types {
		r.carried[i] = types[t]
	}
	r.Columns(r.names, r.types)
}

// as says how the values of a column travel.
func (r *Rows) as(column int) (c planner.Carried) {
	if column < len(r.carried) {
		c = r.carried[column]
	}
	return c
}

// Formats are the formats in which the rows are wanted.
func (r *Rows) Formats() []int16 {
	if r.carried == nil {
		return []int16{wire.FormatBinary}
	}
	formats := make([]int16, len(r.carried))
	for i, c := range r.carried {
		formats[i] = wire.FormatBinary
		if c.Text {
			formats[i] = wire.FormatText
		}
	}
	return formats
}

// Row is a Sink's.
func (r *Rows) Row(body []byte) *wire.Error {
	if int64(len(r.rows)+len(body)) > r.LimitBytes {
		return wire.Errorf(wire.ConfigurationLimitExceeded, "the rows that this statement brings to their shards are more than %d bytes", r.LimitBytes).
			WithHint("Make shardgate.gather_limit or, if that is as large as it may be, limits.gather_bytes larger, or do the work by several statements.")
	}
	r.rows = append(r.rows, body...)
	r.count++
	return nil
}

// Count is the number of rows.
func (r *Rows) Count() int { return r.count }

// AddUp makes one row of rows of bigints, the sums.
func (r *Rows) AddUp() *wire.Error {
	sums := make([]int64, len(r.types))
	for row := r.rows; len(row) > 0; {
		row = row[2:]
		for i := range sums {
			n := int32(binary.BigEndian.Uint32(row))
			if n != 8 {
				return wire.Errorf(wire.InternalError, "a shard counted by another type than bigint")
			}
			sums[i] += int64(binary.BigEndian.Uint64(row[4:]))
			row = row[12:]
		}
	}
	r.rows, r.count = binary.BigEndian.AppendUint16(nil, uint16(len(sums))), 1
	for _, n := range sums {
		r.rows = binary.BigEndian.AppendUint32(r.rows, 8)
		r.rows = binary.BigEndian.AppendUint64(r.rows, uint64(n))
	}
	return nil
}

// each calls f for the values of a column, nil for NULL.
func (r *Rows) each(column int, f func(row int, value []byte)) {
	rows := r.rows
	for i := range r.count {
		rows = rows[2:]
		for c := range r.types {
			n := int(int32(binary.BigEndian.Uint32(rows)))
			rows = rows[4:]
			if c == column {
				if n < 0 {
					f(i, nil)
				} else {
					f(i, rows[:n:n])
				}
			}
			rows = rows[max(0, n):]
		}
	}
}

// arrays writes arrays as array_recv in PostgreSQL's arrayfuncs.c reads them.
func (r *Rows) arrays(columns []int, n int, of func(row int) int) [][][]byte {
	const head = 20 // dimensions, whether there are NULLs, type, length, lower bound
	out := make([][][]byte, n)
	counts := make([]uint32, n)
	for i := range out {
		for range columns {
			out[i] = append(out[i], make([]byte, head))
		}
	}
	places := make([]int, len(r.types)) // of columns in out, from 1
	for i, c := range columns {
		places[c] = i + 1
	}
	rows := r.rows
	for row := range r.count {
		to := out[of(row)]
		counts[of(row)]++
		rows = rows[2:]
		for _, p := range places {
			size := 4 + max(0, int(int32(binary.BigEndian.Uint32(rows))))
			if p > 0 {
				to[p-1] = append(to[p-1], rows[:size]...)
			}
			rows = rows[size:]
		}
	}
	for i, to := range out {
		for k, b := range to {
			binary.BigEndian.PutUint32(b[4:], 1) // there may be NULLs
			binary.BigEndian.PutUint32(b[8:], r.types[columns[k]])
			if counts[i] == 0 {
				to[k] = b[:12]
				continue
			}
			binary.BigEndian.PutUint32(b, 1)
			binary.BigEndian.PutUint32(b[12:], counts[i])
			binary.BigEndian.PutUint32(b[16:], 1)
		}
	}
	return out
}

// Slots computes the slot of each row in a table, whose key is in these columns. hash
// asks a shard for the hashes of the values in an array, stored as a type with a
// modifier. null says that a row has no key.
func (r *Rows) Slots(table *planner.Table, keys []planner.InsertKey, v *Values, hash func(t shardmap.KeyType, typmod int32, arrayType uint32, array []byte) (*pool.Result, *wire.Error)) (slots []shardmap.Slot, null bool, err *wire.Error) {
	hashes := make([]uint64, r.count)
	for i, k := range keys {
		add := func(row int, h uint64) {
			if len(keys) > 1 {
				h = shardmap.Combine(hashes[row], h)
			}
			hashes[row] = h
		}
		typmod := table.KeyTypmod(i)
		if k.Value != nil {
			h, isNull, err := v.hash(k.Type, typmod, *k.Value)
			if err != nil {
				return nil, false, err
			}
			null = null || isNull && r.count > 0
			for row := range r.count {
				add(row, h)
			}
			continue
		}
		if r.hashed(k, typmod, v) {
			bad := false
			r.each(k.Column, func(row int, value []byte) {
				h, ok := k.Type.HashBinary(value)
				null = null || value == nil
				bad = bad || value != nil && !ok
				add(row, h)
			})
			if bad {
				return nil, false, wire.Errorf(wire.InternalError, "a shard gave a key that can't be read")
			}
			continue
		}
		res, err := hash(k.Type, typmod, arrays[r.types[k.Column]], r.arrays([]int{k.Column}, 1, func(int) int { return 0 })[0][0])
		if err != nil {
			return nil, false, err
		}
		if len(res.Rows) != r.count {
			return nil, false, wire.Errorf(wire.InternalError, "a shard gave no hashes for the keys")
		}
		for row, values := range res.Rows {
			h, bad := strconv.ParseInt(string(values[0]), 10, 64)
			null = null || bad != nil
			add(row, uint64(h))
		}
	}
	for _, h := range hashes {
		slots = append(slots, shardmap.SlotOf(h))
	}
	return slots, null, nil
}

// hashed says whether the values of a key's column can be hashed here: they are
// stored as they are.
func (r *Rows) hashed(k planner.InsertKey, typmod int32, v *Values) bool {
	if textual(k.Type) && (typmod >= 0 || v.ASCIIOnly) {
		return false
	}
	integer := k.Type == shardmap.KeyInt2 || k.Type == shardmap.KeyInt4 || k.Type == shardmap.KeyInt8
	return (typmod < 0 || integer) && sameHash(r.types[k.Column], k.Type)
}
