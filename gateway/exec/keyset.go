package exec

import "encoding/binary"

// maxKeys is how many values of a part's column are sent to the shards that are asked
// for another part. With more, looking each row up costs about as much as sending it.
const maxKeys = 10_000

// keySet are the values of one of a part's columns, each once, but for NULL, which
// equals nothing.
type keySet struct {
	column  int
	seen    map[string]struct{}
	values  []byte // as in DataRow, one behind the other
	tooMany bool
}

// add adds the value of a row, which is as in DataRow.
func (k *keySet) add(row []byte) {
	if k.tooMany {
		return
	}
	row = row[2:]
	for range k.column {
		row = row[4+max(0, int(int32(binary.BigEndian.Uint32(row)))):]
	}
	n := int(int32(binary.BigEndian.Uint32(row)))
	if n < 0 {
		return
	}
	value := row[4 : 4+n]
	if _, ok := k.seen[string(value)]; ok {
		return
	}
	if len(k.seen) == maxKeys || len(k.values)+n > inlineBytes*4 {
		k.seen, k.values, k.tooMany = nil, nil, true
		return
	}
	if k.seen == nil {
		k.seen = map[string]struct{}{}
	}
	k.seen[string(value)] = struct{}{}
	k.values = append(k.values, row[:4+n]...)
}

// array is the set as an array in binary, for array_recv in PostgreSQL's arrayfuncs.c.
func (k *keySet) array(elem uint32) []byte {
	if len(k.seen) == 0 {
		return appendArrayHead(nil, elem, 0)
	}
	return append(appendArrayHead(nil, elem, len(k.seen)), k.values...)
}

// appendArrayHead appends what stands before the elements of an array of n: how many
// dimensions, whether there may be NULLs, the elements' type, and of the one dimension,
// if there are elements, how long it is and where it begins.
func appendArrayHead(b []byte, elem uint32, n int) []byte {
	dimensions := uint32(min(n, 1))
	b = binary.BigEndian.AppendUint32(b, dimensions)
	b = binary.BigEndian.AppendUint32(b, 1)
	b = binary.BigEndian.AppendUint32(b, elem)
	if n > 0 {
		b = binary.BigEndian.AppendUint32(b, uint32(n))
		b = binary.BigEndian.AppendUint32(b, 1)
	}
	return b
}
