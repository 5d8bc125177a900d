package shardmap

import (
	"fmt"
	"strconv"
)

// MaxKeyColumns is the greatest number of columns in a key. Beyond it, a slot
// can't be computed in SQL (see SlotSQL).
const MaxKeyColumns = 6

// HashSQL returns an SQL expression of type bigint that hashes expr, an SQL
// expression of type t, to the same 64 bits as HashText and HashBinary. It is
// immutable and built in, so PostgreSQL accepts it in an index and, on a column,
// in the row filter of a publication. It needs PostgreSQL 14 or later. A null
// value gives null or 0.
//
// expr is put into the text as it is. HashSQL returns "" for KeyInvalid.
func (t KeyType) HashSQL(expr string) string {
	if !t.valid() {
		return ""
	}
	if keyTypes[t].callable {
		return "pg_catalog." + keyTypes[t].hashFunc + "(" + expr + ", 0)"
	}
	// The functions of the other types are declared with another argument type
	// (internal, or that of a binary-compatible type without an implicit cast). A
	// record of one column hashes to its column's hash (hash_record_extended in
	// rowtypes.c: result*31 + hash, from 0).
	return "pg_catalog.hash_record_extended(ROW(" + expr + "), 0)"
}

// SlotSQL returns an SQL expression of type bigint for the slot of a key whose
// columns have the given types and are given by exprs, SQL expressions of these
// types. What holds for HashSQL holds for it too, but a key with a null column
// has no slot.
//
// The error says that the columns are none, more than MaxKeyColumns or of an
// invalid type, or that there aren't as many expressions as types.
func SlotSQL(types []KeyType, exprs []string) (string, error) {
	if len(types) != len(exprs) {
		return "", fmt.Errorf("a key of %d columns has %d expressions", len(types), len(exprs))
	}
	if len(types) == 0 || len(types) > MaxKeyColumns {
		return "", fmt.Errorf("a key has 1 to %d columns, not %d", MaxKeyColumns, len(types))
	}
	for i, t := range types {
		if !t.valid() {
			return "", fmt.Errorf("column %d of the key has no type that can be hashed", i+1)
		}
	}
	if len(types) == 1 {
		return "(" + types[0].HashSQL(exprs[0]) + " & " + strconv.Itoa(SlotCount-1) + ")", nil
	}

	// bigint has no modular addition, so Combine is computed on the low bits only,
	// where nothing overflows. A slot needs 14 bits of the last combination, and
	// each needs 7 bits more of the one before it, because of h>>7; h<<54 reaches
	// none of them as long as there are at most 54.
	need := slotBits + 7*(len(types)-1)
	var h string
	for i, t := range types {
		mask := uint64(1)<<need - 1
		next := fmt.Sprintf("(%s & %d) + %d", t.HashSQL(exprs[i]), mask, combineConstant&mask)
		if i == 0 {
			h = fmt.Sprintf("((%s) & %d)", next, mask)
		} else {
			h = fmt.Sprintf("((%s # (%s + (%s >> 7))) & %d)", h, next, h, mask)
		}
		need -= 7
	}
	return h, nil
}
