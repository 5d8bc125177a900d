package shardmap

import (
	"encoding/binary"
	"math/bits"
)

// lookup3 is the running state of Bob Jenkins' lookup3 hash in the variant of
// PostgreSQL's hash_bytes_extended (src/common/hashfn.c): 12 octets a round, two
// of the three words are the result.
//
// Words are read little-endian. PostgreSQL reads them in the machine's order, so
// hashes of strings agree with servers on little-endian machines only; these are
// all that PostgreSQL is packaged for but s390x.
type lookup3 struct{ a, b, c uint32 }

// lookup3Start opens the hash of an input of n octets.
func lookup3Start(n int, seed uint64) lookup3 {
	// 0x9e3779b9 is the golden ratio; 3923095 is PostgreSQL's own addition.
	init := uint32(0x9e3779b9) + uint32(n) + 3923095
	h := lookup3{init, init, init}
	if seed != 0 {
		h.a += uint32(seed >> 32)
		h.b += uint32(seed)
		h.mix()
	}
	return h
}

func (h *lookup3) mix() {
	a, b, c := h.a, h.b, h.c
	a = (a - c) ^ bits.RotateLeft32(c, 4)
	c += b
	b = (b - a) ^ bits.RotateLeft32(a, 6)
	a += c
	c = (c - b) ^ bits.RotateLeft32(b, 8)
	b += a
	a = (a - c) ^ bits.RotateLeft32(c, 16)
	c += b
	b = (b - a) ^ bits.RotateLeft32(a, 19)
	a += c
	c = (c - b) ^ bits.RotateLeft32(b, 4)
	b += a
	h.a, h.b, h.c = a, b, c
}

// block takes 12 octets.
func (h *lookup3) block(k []byte) {
	_ = k[11]
	h.a += binary.LittleEndian.Uint32(k)
	h.b += binary.LittleEndian.Uint32(k[4:])
	h.c += binary.LittleEndian.Uint32(k[8:])
	h.mix()
}

// finish takes the last octets, fewer than 12, and gives the hash.
func (h *lookup3) finish(tail []byte) uint64 {
	// The lowest octet of c is reserved for the length, which is in it from the
	// start: the ninth octet goes to the second place.
	switch n := len(tail); {
	case n >= 8:
		h.a += binary.LittleEndian.Uint32(tail)
		h.b += binary.LittleEndian.Uint32(tail[4:])
		for i := 8; i < n; i++ {
			h.c += uint32(tail[i]) << (8 * (i - 7))
		}
	case n >= 4:
		h.a += binary.LittleEndian.Uint32(tail)
		for i := 4; i < n; i++ {
			h.b += uint32(tail[i]) << (8 * (i - 4))
		}
	default:
		for i := range tail {
			h.a += uint32(tail[i]) << (8 * i)
		}
	}
	return h.final()
}

func (h *lookup3) final() uint64 {
	a, b, c := h.a, h.b, h.c
	c = (c ^ b) - bits.RotateLeft32(b, 14)
	a = (a ^ c) - bits.RotateLeft32(c, 11)
	b = (b ^ a) - bits.RotateLeft32(a, 25)
	c = (c ^ b) - bits.RotateLeft32(b, 16)
	a = (a ^ c) - bits.RotateLeft32(c, 4)
	b = (b ^ a) - bits.RotateLeft32(a, 14)
	c = (c ^ b) - bits.RotateLeft32(b, 24)
	return uint64(b)<<32 | uint64(c)
}

// HashBytes returns PostgreSQL's hash_bytes_extended of b with seed 0: the hash
// of a text, bytea or uuid value. b isn't kept.
func HashBytes(b []byte) uint64 { return hashBytes(b, 0) }

func hashBytes(b []byte, seed uint64) uint64 {
	h := lookup3Start(len(b), seed)
	for len(b) >= 12 {
		h.block(b)
		b = b[12:]
	}
	return h.finish(b)
}

// HashInt64 returns PostgreSQL's hashint8extended of v with seed 0. Values that
// fit in int4 or int2 have the same hash as those types give them, so an
// integer's column type doesn't matter.
func HashInt64(v int64) uint64 { return hashInt64(v, 0) }

func hashInt64(v int64, seed uint64) uint64 {
	// As in hashint8extended: folding the sign extension into nothing is what
	// makes the three integer types hash alike.
	low, high := uint32(v), uint32(v>>32)
	if v >= 0 {
		low ^= high
	} else {
		low ^= ^high
	}
	return hashUint32(low, seed)
}

// hashUint32 is hash_bytes_uint32_extended.
func hashUint32(k uint32, seed uint64) uint64 {
	h := lookup3Start(4, seed)
	h.a += k
	return h.final()
}

// combineConstant is the one in hash_combine64 (src/include/common/hashfn.h).
const combineConstant = 0x49a0f4dd15e5a8e3

// Combine returns PostgreSQL's hash_combine64(h, next). The hash of a key of
// several columns starts from 0 and combines the hash of each column in order, as
// compute_partition_hash_value does for hash partitioning. A key of one column is
// not combined: its hash is the column's.
func Combine(h, next uint64) uint64 {
	return h ^ (next + combineConstant + h<<54 + h>>7)
}
