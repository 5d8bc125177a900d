package exec

import (
	"encoding/binary"
	"slices"

	"github.com/shardgate/shardgate/shardmap"
)

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

// Slots are the slots of the keys that the values are, for a key of type t. ok is false
// where they are not known: there are too many values, or a shard would have to hash
// them. asciiOnly is as in Values.
func (p *GatheredPart) Slots(column int, t shardmap.KeyType, asciiOnly bool) (slots []shardmap.Slot, ok bool) {
	i := slices.IndexFunc(p.keys, func(k keySet) bool { return k.column == column })
	k := &p.keys[i]
	if k.tooMany || len(p.types) == 0 || !sameHash(p.types[column], t) || textual(t) && asciiOnly {
		return nil, false
	}
	for b := k.values; len(b) > 0; {
		n := 4 + binary.BigEndian.Uint32(b)
		h, ok := t.HashBinary(b[4:n])
		if !ok {
			return nil, false
		}
		slots = append(slots, shardmap.SlotOf(h))
		b = b[n:]
	}
	return slots, true
}

// sameHash says whether a type's values in binary have the hash of a key of type t.
func sameHash(oid uint32, t shardmap.KeyType) bool {
	from, ok := shardmap.KeyTypeOfOID(oid)
	integer := func(t shardmap.KeyType) bool {
		return t == shardmap.KeyInt2 || t == shardmap.KeyInt4 || t == shardmap.KeyInt8
	}
	variable := func(t shardmap.KeyType) bool { return t == shardmap.KeyText || t == shardmap.KeyVarchar }
	return ok && (from == t || integer(from) && integer(t) || variable(from) && variable(t))
}
