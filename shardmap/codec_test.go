package shardmap

import (
	"bytes"
	"encoding/binary"
	"hash/crc32"
	"slices"
	"testing"
)

func stored(t testing.TB, m *Map) []byte {
	t.Helper()
	b, err := m.MarshalBinary()
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// sealed gives a body its checksum, so that what is wrong in it is looked at.
func sealed(body []byte) []byte {
	return binary.BigEndian.AppendUint32(slices.Clone(body), crc32.Checksum(body, castagnoli))
}

func TestStoredMap(t *testing.T) {
	m := mustPlace(t, named(1))
	for _, shards := range [][]Shard{named(1), named(7, 3, MaxWeight), {{"ä", 1}, {"b c", 2}}, named(MaxShards)} {
		m, _ = mustRebalance(t, m, shards)
		b := stored(t, m)
		got, err := ParseMap(b)
		if err != nil {
			t.Fatal(err)
		}
		if !sameMap(got, m) {
			t.Error("another map was read")
		}
		clear(b)
		if !sameMap(got, m) {
			t.Error("the map has kept the octets that it was read from")
		}
	}
}

func TestParseMapRefuses(t *testing.T) {
	good := stored(t, mustPlace(t, []Shard{{"a", 1}, {"b", 1}}))
	body := good[:len(good)-4]
	const firstShard = 11
	changed := func(at int, octets ...byte) []byte {
		b := slices.Clone(body)
		copy(b[at:], octets)
		return sealed(b)
	}
	for name, b := range map[string][]byte{
		"nothing":            nil,
		"unknown format":     changed(0, 2),
		"one octet":          good[:1],
		"a header":           good[:firstShard],
		"an octet less":      good[:len(good)-1],
		"an octet more":      append(slices.Clone(good), 0),
		"a slot less":        sealed(body[:len(body)-1]),
		"a slot more":        sealed(append(slices.Clone(body), 0)),
		"no checksum":        body,
		"a wrong checksum":   append(slices.Clone(body), 1, 2, 3, 4),
		"version 0":          changed(1, 0, 0, 0, 0, 0, 0, 0, 0),
		"a negative version": changed(1, 0xff),
		"no shards":          changed(9, 0, 0),
		"too many shards":    changed(9, 1, 1),
		"shards beyond end":  changed(9, 1, 0),
		"weight 0":           changed(firstShard, 0, 0, 0, 0),
		"a huge weight":      changed(firstShard, 0xff),
		"no name":            changed(firstShard+4, 0),
		"a name too long":    changed(firstShard+4, 255),
		"names not in order": changed(firstShard+5, 'c'),
		"a name twice":       changed(firstShard+5, 'b'),
		"a zero octet":       changed(firstShard+5, 0),
		"an index beyond":    changed(len(body)-1, 2),
	} {
		t.Run(name, func(t *testing.T) {
			if m, err := ParseMap(b); err == nil || m != nil {
				t.Errorf("got %v, %v", m, err)
			} else {
				t.Log(err)
			}
		})
	}
	// No damage to a single octet goes unnoticed.
	for at := 0; at < len(good); at += 1 + at/64 {
		b := slices.Clone(good)
		b[at] ^= 0x10
		if _, err := ParseMap(b); err == nil {
			t.Errorf("damage to octet %d is not noticed", at)
		}
	}
}

// FuzzParseMap alters what comes before the slots. These are all alike, since with
// 16,384 of them to alter it would get nowhere.
func FuzzParseMap(f *testing.F) {
	for _, shards := range [][]Shard{named(1), named(3, 5, 1, 2)} {
		b := stored(f, mustPlace(f, shards))
		f.Add(b[:len(b)-SlotCount-4], byte(0), uint16(SlotCount))
	}
	f.Fuzz(func(t *testing.T, head []byte, shard byte, slots uint16) {
		body := append(bytes.Clone(head), bytes.Repeat([]byte{shard}, int(slots))...)
		for _, b := range [][]byte{head, body, sealed(body)} {
			m, err := ParseMap(b)
			if err != nil {
				continue
			}
			if !bytes.Equal(stored(t, m), b) {
				t.Fatal("what was read isn't written so")
			}
			for i := range m.Shards() {
				want := 0
				if i == int(shard) {
					want = SlotCount
				}
				if m.Count(i) != want {
					t.Fatalf("%d slots are on shard %d, not %d", m.Count(i), i, want)
				}
			}
		}
	})
}
