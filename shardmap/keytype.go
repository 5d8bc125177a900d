package shardmap

import "encoding/binary"

// KeyType says how the values of a key column are hashed. The zero value is
// KeyInvalid: a type whose values Go can't hash.
//
// A KeyType is a type without modifier. Storing a value in a column of
// varchar(n), char(n), timestamp(p) or timestamptz(p) may change it first (excess
// blanks are cut off, fractions are rounded): the hash to look at is that of the
// value as it is stored. A value that is only compared isn't changed.
//
// Text types hash as bytes in PostgreSQL only under deterministic collations,
// which all are that aren't created with deterministic = false. A column with
// another one has no KeyType.
type KeyType uint8

// The types of key columns that Go can hash.
const (
	KeyInvalid KeyType = iota
	KeyInt2
	KeyInt4
	KeyInt8
	KeyText
	KeyVarchar
	KeyBpchar
	KeyUUID
	KeyDate
	KeyTimestamp
	KeyTimestamptz
	KeyBytea
)

// keyTypes holds what is known of each type. OIDs are those of pg_type.dat; a
// hash function is the second support function of the type's default hash
// operator class (pg_amproc) on PostgreSQL 15.
var keyTypes = [...]struct {
	oid      uint32
	name     string
	hashFunc string
	callable bool // the hash function can be called with a value of the type
}{
	KeyInvalid:     {0, "invalid", "", false},
	KeyInt2:        {21, "int2", "hashint2extended", true},
	KeyInt4:        {23, "int4", "hashint4extended", true},
	KeyInt8:        {20, "int8", "hashint8extended", true},
	KeyText:        {25, "text", "hashtextextended", true},
	KeyVarchar:     {1043, "varchar", "hashtextextended", true},
	KeyBpchar:      {1042, "bpchar", "hashbpcharextended", true},
	KeyUUID:        {2950, "uuid", "uuid_hash_extended", true},
	KeyDate:        {1082, "date", "hashint4extended", false},
	KeyTimestamp:   {1114, "timestamp", "timestamp_hash_extended", true},
	KeyTimestamptz: {1184, "timestamptz", "timestamp_hash_extended", false},
	KeyBytea:       {17, "bytea", "hashvarlenaextended", false},
}

// KeyTypeOfOID returns the key type of a PostgreSQL type by its OID, and false
// for a type that can't be hashed here.
func KeyTypeOfOID(oid uint32) (KeyType, bool) {
	switch oid {
	case 21:
		return KeyInt2, true
	case 23:
		return KeyInt4, true
	case 20:
		return KeyInt8, true
	case 25:
		return KeyText, true
	case 1043:
		return KeyVarchar, true
	case 1042:
		return KeyBpchar, true
	case 2950:
		return KeyUUID, true
	case 1082:
		return KeyDate, true
	case 1114:
		return KeyTimestamp, true
	case 1184:
		return KeyTimestamptz, true
	case 17:
		return KeyBytea, true
	}
	return KeyInvalid, false
}

// valid reports whether t is one of the types above other than KeyInvalid.
func (t KeyType) valid() bool { return t > KeyInvalid && int(t) < len(keyTypes) }

// OID returns the type's OID in pg_type, or 0 for KeyInvalid.
func (t KeyType) OID() uint32 {
	if !t.valid() {
		return 0
	}
	return keyTypes[t].oid
}

// SQLName returns the type's internal name, such as "int4" or "timestamptz", and
// "invalid" for KeyInvalid.
func (t KeyType) SQLName() string {
	if !t.valid() {
		return keyTypes[KeyInvalid].name
	}
	return keyTypes[t].name
}

// String returns SQLName.
func (t KeyType) String() string { return t.SQLName() }

// HashFunc returns the name of the function by which PostgreSQL hashes the type
// (support function 2 of its default hash operator class), or "" for KeyInvalid.
// Those of date, timestamptz and bytea can't be called in SQL with a value of the
// type: [KeyType.HashSQL] gives an expression that can.
func (t KeyType) HashFunc() string {
	if !t.valid() {
		return ""
	}
	return keyTypes[t].hashFunc
}

// HashBinary hashes a value in PostgreSQL's binary (send and receive) format,
// which for text types is the text. It returns false if b hasn't the type's
// length. Every integer type takes values of 2, 4 and 8 octets: they hash alike.
//
// A value that PostgreSQL would refuse to receive (a date out of range, text that
// isn't valid in the encoding) may get a hash: whichever shard it leads to refuses
// it. Text is to be in the server's encoding. b isn't kept.
func (t KeyType) HashBinary(b []byte) (uint64, bool) { return t.hashBinary(b, 0) }

func (t KeyType) hashBinary(b []byte, seed uint64) (uint64, bool) {
	switch t {
	case KeyInt2, KeyInt4, KeyInt8:
		switch len(b) {
		case 2:
			return hashInt64(int64(int16(binary.BigEndian.Uint16(b))), seed), true
		case 4:
			return hashInt64(int64(int32(binary.BigEndian.Uint32(b))), seed), true
		case 8:
			return hashInt64(int64(binary.BigEndian.Uint64(b)), seed), true
		}
	case KeyText, KeyVarchar, KeyBytea:
		return hashBytes(b, seed), true
	case KeyBpchar:
		return hashBytes(trimBlanks(b), seed), true
	case KeyUUID:
		if len(b) == 16 {
			return hashBytes(b, seed), true
		}
	case KeyDate: // days since 2000-01-01
		if len(b) == 4 {
			return hashUint32(binary.BigEndian.Uint32(b), seed), true
		}
	case KeyTimestamp, KeyTimestamptz: // microseconds since 2000-01-01 00:00, UTC if with time zone
		if len(b) == 8 {
			return hashInt64(int64(binary.BigEndian.Uint64(b)), seed), true
		}
	}
	return 0, false
}

// trimBlanks cuts off the blanks at the end that are no part of a char(n) value
// (bpchartruelen in PostgreSQL's varchar.c).
func trimBlanks(s []byte) []byte {
	for len(s) > 0 && s[len(s)-1] == ' ' {
		s = s[:len(s)-1]
	}
	return s
}
