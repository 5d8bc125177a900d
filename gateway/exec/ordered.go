package exec

import (
	"bytes"
	"cmp"
	"encoding/binary"
	"math"
	"slices"
	"sort"

	"github.com/shardgate/shardgate/planner"
	"github.com/shardgate/shardgate/wire"
)

// The merge of several shards' sorted answers. Of each shard no more is in memory than what
// its connection has read: its next row waits in the read buffer, and the client gets the
// least of them. A client that is slow to read so makes the shards wait.

var errSortKeys = wire.Errorf(wire.InternalError, "the keys that rows are sorted by can't be read")

// sortedRows are the rows of one shard.
type sortedRows struct {
	at   int    // among the operation's connections: of rows that are equal, the first one's comes first
	row  []byte // the next row for the client, a whole DataRow; valid until the connection is read from again
	keys []keyValue
}

// merge passes the rows of all shards on in the order of the operation's keys, which are the
// last columns of each row, and not for the client. It returns false after a failure.
func (r *Runner) merge(op *Op) bool {
	r.endRelay(false) // rows are taken from each connection, and written
	if op.Shape != nil {
		r.write(func(b []byte) []byte { return append(b, *op.Shape...) })
	}
	var waiting []*sortedRows // each with a row, in the order of these
	add := func(s *sortedRows) {
		at := sort.Search(len(waiting), func(i int) bool { return before(s, waiting[i], op.Keys) })
		waiting = slices.Insert(waiting, at, s)
	}
	for i := range op.Conns {
		s := &sortedRows{at: i, keys: make([]keyValue, len(op.Keys))}
		if r.nextRow(op, s) {
			add(s)
		}
		if r.Failed != nil || r.stop != nil {
			return false
		}
	}
	for len(waiting) > 0 {
		s := waiting[0]
		if op.Pass == nil || op.Pass.takes(s, op.Keys) {
			if err := r.Client.Write(s.row); err != nil {
				r.stop = err
				return false
			}
		}
		waiting = waiting[:copy(waiting, waiting[1:])]
		if r.nextRow(op, s) {
			add(s)
		}
		if r.Failed != nil || r.stop != nil {
			return false
		}
	}
	if op.Pass != nil {
		r.Tag.Rows = uint64(op.Pass.Passed)
	}
	return true
}

// nextRow takes a shard's next row. It returns false if there is none, or after a failure.
func (r *Runner) nextRow(op *Op, s *sortedRows) bool {
	c := op.Conns[s.at]
	for {
		if m, ok := c.BufferedRow(); ok {
			if op.Columns != nil && !op.Columns.Plain() {
				r.translateValues(c, m[5:], op.Columns)
			}
			if !s.take(m, op.Keys) {
				r.fail(errSortKeys)
				return false
			}
			return true
		}
		// Whatever else comes is dealt with as in any answer, up to a row that is there whole.
		if r.answer(op, c, s.at, false) != rowPassed {
			return false
		}
		if r.endRelay(false); r.stop != nil {
			return false
		}
	}
}

// take takes a DataRow apart, in place.
func (s *sortedRows) take(m []byte, keys []planner.SortKey) bool {
	if len(m) < 7 {
		return false
	}
	own := int(binary.BigEndian.Uint16(m[5:])) - len(keys)
	off := 7
	value := func() (v []byte, null, ok bool) {
		if len(m)-off < 4 {
			return nil, false, false
		}
		n := int(int32(binary.BigEndian.Uint32(m[off:])))
		off += 4
		if n < 0 {
			return nil, true, true
		}
		if n > len(m)-off {
			return nil, false, false
		}
		off += n
		return m[off-n : off], false, true
	}
	for range own {
		if _, _, ok := value(); !ok {
			return false
		}
	}
	end := off
	for i := range keys {
		v, null, ok := value()
		if !ok || !s.keys[i].set(v, null, keys[i].Type) {
			return false
		}
	}
	if own < 0 || off != len(m) {
		return false
	}
	binary.BigEndian.PutUint32(m[1:], uint32(end-1))
	binary.BigEndian.PutUint16(m[5:], uint16(own))
	s.row = m[:end]
	return true
}

// before says whether a row comes before another one.
func before(x, y *sortedRows, keys []planner.SortKey) bool {
	for i := range keys {
		if c := x.keys[i].compare(&y.keys[i], keys[i]); c != 0 {
			return c < 0
		}
	}
	return x.at < y.at
}

// keyValue is a value in a form that is quick to compare.
type keyValue struct {
	null   bool
	number uint64 // of a type of fixed width but uuid: in the order of the values
	zone   uint64 // of timetz, likewise
	bytes  []byte // of any other type, in binary
}

// OIDs of the types of keys that need a care of their own, by pg_type.dat.
const (
	oidBool        = 16
	oidBytea       = 17
	oidInt8        = 20
	oidInt2        = 21
	oidInt4        = 23
	oidText        = 25
	oidFloat4      = 700
	oidFloat8      = 701
	oidVarchar     = 1043
	oidDate        = 1082
	oidTime        = 1083
	oidTimestamp   = 1114
	oidTimestamptz = 1184
	oidInterval    = 1186
	oidTimetz      = 1266
	oidNumeric     = 1700
	oidUUID        = 2950
)

// set reads a value as its type's send function in PostgreSQL writes it.
func (k *keyValue) set(v []byte, null bool, oid uint32) bool {
	*k = keyValue{null: null}
	if null {
		return true
	}
	width := 0
	switch oid {
	case oidBool:
		width = 1
	case oidInt2:
		width = 2
	case oidInt4, oidFloat4, oidDate:
		width = 4
	case oidInt8, oidFloat8, oidTime, oidTimestamp, oidTimestamptz:
		width = 8
	case oidTimetz:
		width = 12
	case oidUUID, oidInterval:
		width = 16
	case oidText, oidVarchar, oidBytea:
		k.bytes = v
		return true
	case oidNumeric:
		k.bytes = v
		return len(v) >= 8 && len(v) == 8+2*int(binary.BigEndian.Uint16(v))
	}
	if width == 0 || len(v) != width {
		return false
	}
	switch oid {
	case oidBool:
		k.number = uint64(v[0])
	case oidInt2:
		k.number = signed(int64(int16(binary.BigEndian.Uint16(v))))
	case oidInt4, oidDate:
		k.number = signed(int64(int32(binary.BigEndian.Uint32(v))))
	case oidFloat4:
		k.number = float(float64(math.Float32frombits(binary.BigEndian.Uint32(v))))
	case oidFloat8:
		k.number = float(math.Float64frombits(binary.BigEndian.Uint64(v)))
	case oidUUID:
		k.bytes = v
	case oidTimetz: // by the instant, and by the zone in seconds west of Greenwich where that is the same
		zone := int64(int32(binary.BigEndian.Uint32(v[8:])))
		k.number = signed(int64(binary.BigEndian.Uint64(v)) + zone*1_000_000)
		k.zone = signed(zone)
	case oidInterval: // by days, a month being 30 of them, and by what is left of one, as interval_cmp
		const day = 24 * 60 * 60 * 1_000_000 // in microseconds
		part := int64(binary.BigEndian.Uint64(v))
		days, rest := part/day, part%day
		if rest < 0 {
			days, rest = days-1, rest+day
		}
		days += int64(int32(binary.BigEndian.Uint32(v[8:]))) + 30*int64(int32(binary.BigEndian.Uint32(v[12:])))
		k.number, k.zone = signed(days), uint64(rest)
	default: // infinity is the greatest number, and -infinity the least
		k.number = signed(int64(binary.BigEndian.Uint64(v)))
	}
	return true
}

// signed maps integers to ones without a sign, in their order.
func signed(n int64) uint64 { return uint64(n) ^ 1<<63 }

// float maps floats to integers, in PostgreSQL's order: -0 equals 0, and NaN equals NaN and is
// the greatest.
func float(f float64) uint64 {
	switch {
	case math.IsNaN(f):
		return math.MaxUint64
	case f == 0:
		return 1 << 63
	case f < 0:
		return ^math.Float64bits(f)
	}
	return math.Float64bits(f) | 1<<63
}

// compare compares two values of a key, by its direction.
func (k *keyValue) compare(other *keyValue, key planner.SortKey) int {
	if k.null || other.null {
		switch {
		case k.null == other.null:
			return 0
		case k.null == key.NullsFirst:
			return -1
		}
		return 1
	}
	c := cmp.Compare(k.number, other.number)
	switch {
	case c != 0:
	case key.Type == oidNumeric:
		c = compareNumeric(k.bytes, other.bytes)
	case k.bytes != nil:
		c = bytes.Compare(k.bytes, other.bytes)
	default:
		c = cmp.Compare(k.zone, other.zone)
	}
	if key.Descending {
		return -c
	}
	return c
}

// Signs of a numeric, as in PostgreSQL's numeric.c.
const (
	numericNegative = 0x4000
	numericNaN      = 0xC000
	numericInf      = 0xD000
	numericMinusInf = 0xF000
)

// compareNumeric compares two numerics as numeric_send writes them: the number of digits to the
// base of 10,000, the weight of the first, the sign, the scale, the digits.
func compareNumeric(x, y []byte) int {
	sx, sy := numericClass(x), numericClass(y)
	if sx != sy || sx != 1 && sx != -1 {
		return cmp.Compare(sx, sy)
	}
	return sx * compareDigits(x, y)
}

// numericClass is -2 for -infinity, -1 for what is below 0, 0, 1 for what is above, 2 for
// infinity and 3 for NaN.
func numericClass(v []byte) int {
	switch sign := binary.BigEndian.Uint16(v[4:]); {
	case sign == numericNaN:
		return 3
	case sign == numericInf:
		return 2
	case sign == numericMinusInf:
		return -2
	case len(trimZeros(v[8:])) == 0:
		return 0
	case sign == numericNegative:
		return -1
	}
	return 1
}

// trimZeros leaves out the zeros at the end of digits. There are none at the beginning: PostgreSQL
// stores numerics so.
func trimZeros(digits []byte) []byte {
	for n := len(digits); n >= 2 && digits[n-1] == 0 && digits[n-2] == 0; n = len(digits) {
		digits = digits[:n-2]
	}
	return digits
}

// compareDigits compares the absolute values of two numerics other than 0.
func compareDigits(x, y []byte) int {
	wx, wy := int16(binary.BigEndian.Uint16(x[2:])), int16(binary.BigEndian.Uint16(y[2:]))
	if wx != wy {
		return cmp.Compare(wx, wy)
	}
	return bytes.Compare(trimZeros(x[8:]), trimZeros(y[8:]))
}

// FindKeys gives the keys their types, which are those of the last columns of a
// RowDescription, a whole message. ok is false if the gateway can't compare them.
func FindKeys(message []byte, keys []planner.SortKey) (found []planner.SortKey, ok bool) {
	var d wire.RowDescription
	if len(message) < 5 || wire.DecodeRowDescription(message[5:], &d) != nil || d.Len() < len(keys) {
		return nil, false
	}
	for i, k := range keys {
		oid := d.TypeOID(d.Len() - len(keys) + i)
		if k.Type == 0 {
			k.Type = oid
			if !planner.Sortable(oid) || k.Text() && !k.Bytewise {
				return nil, false
			}
		}
		found = append(found, k)
	}
	return found, true
}

// KeyTypes says whether the last columns of a RowDescription, a whole message, are of the keys'
// types.
func KeyTypes(message []byte, keys []planner.SortKey) bool {
	var d wire.RowDescription
	if len(message) < 5 || wire.DecodeRowDescription(message[5:], &d) != nil || d.Len() < len(keys) {
		return false
	}
	for i, k := range keys {
		at := d.Len() - len(keys) + i
		if d.TypeOID(at) != k.Type || d.Format(at) != wire.FormatBinary {
			return false
		}
	}
	return true
}

// ColumnCount is the number of columns in a RowDescription, a whole message.
func ColumnCount(message []byte) int {
	if len(message) < 7 {
		return 0
	}
	return int(binary.BigEndian.Uint16(message[5:]))
}
