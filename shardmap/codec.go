package shardmap

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"math"
)

// The stored form of a map. Integers are big-endian.
//
//	octets     what
//	1          version of the format
//	8          version of the map, 1 to 2^63-1
//	2          number of shards, 1 to MaxShards
//	per shard  4: weight; 1: length of the name; the name
//	SlotCount  the shard's index of each slot
//	4          CRC-32C of all before it
//
// Shards are in the order of their names, so that a map has one form only.
const formatVersion = 1

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// MarshalBinary returns the stored form of the map, some 16 KiB, which ParseMap
// reads. Equal maps have equal forms. The error is always nil.
func (m *Map) MarshalBinary() ([]byte, error) {
	size := 1 + 8 + 2 + len(m.table) + 4
	for _, s := range m.shards {
		size += 4 + 1 + len(s.Name)
	}
	b := make([]byte, 0, size)
	b = append(b, formatVersion)
	b = binary.BigEndian.AppendUint64(b, m.version)
	b = binary.BigEndian.AppendUint16(b, uint16(len(m.shards)))
	for _, s := range m.shards {
		b = binary.BigEndian.AppendUint32(b, uint32(s.Weight))
		b = append(b, byte(len(s.Name)))
		b = append(b, s.Name...)
	}
	b = append(b, m.table[:]...)
	return binary.BigEndian.AppendUint32(b, crc32.Checksum(b, castagnoli)), nil
}

var errShortMap = errors.New("stored shard map: too short")

// ParseMap reads what MarshalBinary has written. Whatever MarshalBinary can't have
// written is an error: another format, a wrong length, a damaged octet, shards that
// Place would refuse or in another order, an index beyond them. b isn't kept.
func ParseMap(b []byte) (*Map, error) {
	if len(b) == 0 {
		return nil, errShortMap
	}
	if b[0] != formatVersion {
		return nil, fmt.Errorf("stored shard map: format %d, only %d is known", b[0], formatVersion)
	}
	if len(b) < 1+8+2+SlotCount+4 {
		return nil, errShortMap
	}
	body, sum := b[:len(b)-4], binary.BigEndian.Uint32(b[len(b)-4:])
	if crc32.Checksum(body, castagnoli) != sum {
		return nil, errors.New("stored shard map: damaged, or of a wrong length")
	}
	return parseBody(body)
}

// parseBody reads a stored map without its checksum.
func parseBody(b []byte) (*Map, error) {
	version := binary.BigEndian.Uint64(b[1:])
	if version == 0 || version > math.MaxInt64 {
		return nil, fmt.Errorf("stored shard map: impossible version %d", version)
	}
	count := int(binary.BigEndian.Uint16(b[9:]))
	if count == 0 || count > MaxShards {
		return nil, fmt.Errorf("stored shard map: %d shards, not 1 to %d", count, MaxShards)
	}
	b = b[11:]
	shards := make([]Shard, count)
	for i := range shards {
		if len(b) < 5 || len(b) < 5+int(b[4]) {
			return nil, errShortMap
		}
		end := 5 + int(b[4])
		shards[i] = Shard{Name: string(b[5:end]), Weight: int(binary.BigEndian.Uint32(b))}
		if i > 0 && shards[i].Name <= shards[i-1].Name {
			return nil, errors.New("stored shard map: shards are not in the order of their names")
		}
		b = b[end:]
	}
	if err := checkShards(shards); err != nil {
		return nil, fmt.Errorf("stored shard map: %w", err)
	}
	if len(b) != SlotCount {
		return nil, fmt.Errorf("stored shard map: %d slots, not %d", len(b), SlotCount)
	}
	for slot, shard := range b {
		if int(shard) >= count {
			return nil, fmt.Errorf("stored shard map: slot %d is on shard %d of %d", slot, shard, count)
		}
	}
	return newMap(version, shards, (*[SlotCount]uint8)(b)), nil
}
