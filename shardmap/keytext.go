package shardmap

import (
	"bytes"
	"math"
)

// HashText hashes the value that PostgreSQL's input function of the type reads
// from s. It returns false where Go isn't certain to read s exactly as every
// supported version of PostgreSQL does under every DateStyle, IntervalStyle and
// TimeZone, or where PostgreSQL would refuse it; the caller then asks a shard.
//
//   - int2, int4, int8: blanks, a sign, decimal digits, blanks; in the type's range.
//   - text, varchar: the octets. bpchar: the octets without blanks at the end.
//   - uuid: 32 hexadecimal digits of either case, with or without hyphens after
//     any group of four, with or without braces.
//   - date: YYYY-MM-DD, the year from 0001; infinity; -infinity.
//   - timestamp: YYYY-MM-DD[{ |T}HH:MM[:SS[.f{1,6}]]], and the infinities.
//   - timestamptz: YYYY-MM-DD{ |T}HH:MM[:SS[.f{1,6}]]{Z|{+|-}HH[:MM[:SS]]}, and the
//     infinities. Z is UTC in every set of abbreviations that PostgreSQL ships.
//   - bytea: \x and hexadecimal digits, or text without a backslash.
//
// Text is to be in the server's encoding; a zero octet is refused. For types with
// modifiers see [KeyType]. s isn't kept.
func (t KeyType) HashText(s []byte) (uint64, bool) { return t.hashText(s, 0) }

func (t KeyType) hashText(s []byte, seed uint64) (uint64, bool) {
	switch t {
	case KeyInt2:
		return hashIntText(s, math.MinInt16, math.MaxInt16, seed)
	case KeyInt4:
		return hashIntText(s, math.MinInt32, math.MaxInt32, seed)
	case KeyInt8:
		return hashIntText(s, math.MinInt64, math.MaxInt64, seed)
	case KeyText, KeyVarchar:
		return hashTextText(s, seed)
	case KeyBpchar:
		return hashTextText(trimBlanks(s), seed)
	case KeyUUID:
		return hashUUIDText(s, seed)
	case KeyDate:
		return hashDateText(s, seed)
	case KeyTimestamp, KeyTimestamptz:
		return hashTimestampText(s, t == KeyTimestamptz, seed)
	case KeyBytea:
		return hashByteaText(s, seed)
	}
	return 0, false
}

func hashTextText(s []byte, seed uint64) (uint64, bool) {
	if bytes.IndexByte(s, 0) >= 0 {
		return 0, false
	}
	return hashBytes(s, seed), true
}

// hashIntText reads what every version's pg_strtoint16, 32 and 64 read alike:
// PostgreSQL 16 has taken 0x, 0o, 0b and underscores besides.
func hashIntText(s []byte, minimum, maximum int64, seed uint64) (uint64, bool) {
	for len(s) > 0 && isSpace(s[0]) {
		s = s[1:]
	}
	for len(s) > 0 && isSpace(s[len(s)-1]) {
		s = s[:len(s)-1]
	}
	negative := false
	if len(s) > 0 && (s[0] == '-' || s[0] == '+') {
		negative = s[0] == '-'
		s = s[1:]
	}
	if len(s) == 0 {
		return 0, false
	}
	// Negative all along, since int8 reaches further below 0 than above.
	var v int64
	for _, c := range s {
		d := int64(c) - '0'
		if d < 0 || d > 9 || v < (math.MinInt64+d)/10 {
			return 0, false
		}
		v = v*10 - d
	}
	if !negative {
		if v == math.MinInt64 {
			return 0, false
		}
		v = -v
	}
	if v < minimum || v > maximum {
		return 0, false
	}
	return hashInt64(v, seed), true
}

// isSpace is C's isspace for ASCII.
func isSpace(c byte) bool { return c == ' ' || '\t' <= c && c <= '\r' }

// hexDigit returns the value of a hexadecimal digit, or a value above 15.
func hexDigit(c byte) byte {
	switch {
	case '0' <= c && c <= '9':
		return c - '0'
	case 'a' <= c && c <= 'f':
		return c - 'a' + 10
	case 'A' <= c && c <= 'F':
		return c - 'A' + 10
	}
	return 0xff
}

// hashUUIDText follows string_to_uuid in PostgreSQL's uuid.c: a hyphen may follow
// every second octet but the last, and braces come in a pair.
func hashUUIDText(s []byte, seed uint64) (uint64, bool) {
	if len(s) > 0 && s[0] == '{' {
		if s[len(s)-1] != '}' {
			return 0, false
		}
		s = s[1 : len(s)-1]
	}
	var u [16]byte
	for i := range u {
		if len(s) < 2 {
			return 0, false
		}
		high, low := hexDigit(s[0]), hexDigit(s[1])
		if high > 15 || low > 15 {
			return 0, false
		}
		u[i] = high<<4 | low
		s = s[2:]
		if i%2 == 1 && i < len(u)-1 && len(s) > 0 && s[0] == '-' {
			s = s[1:]
		}
	}
	if len(s) != 0 {
		return 0, false
	}
	return hashBytes(u[:], seed), true
}

// hashByteaText hashes the octets while it decodes them. PostgreSQL takes blanks
// between the pairs of digits too; here they are left to it.
func hashByteaText(s []byte, seed uint64) (uint64, bool) {
	if len(s) < 2 || s[0] != '\\' || s[1] != 'x' {
		if bytes.IndexByte(s, '\\') >= 0 {
			return 0, false
		}
		return hashTextText(s, seed)
	}
	s = s[2:]
	if len(s)%2 != 0 {
		return 0, false
	}
	h := lookup3Start(len(s)/2, seed)
	var block [12]byte
	for len(s) >= 2*len(block) {
		if !decodeHex(block[:], s) {
			return 0, false
		}
		h.block(block[:])
		s = s[2*len(block):]
	}
	tail := block[:len(s)/2]
	if !decodeHex(tail, s) {
		return 0, false
	}
	return h.finish(tail), true
}

// decodeHex fills dst from the digits at the beginning of s.
func decodeHex(dst, s []byte) bool {
	for i := range dst {
		high, low := hexDigit(s[2*i]), hexDigit(s[2*i+1])
		if high > 15 || low > 15 {
			return false
		}
		dst[i] = high<<4 | low
	}
	return true
}
