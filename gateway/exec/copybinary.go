package exec

import (
	"bytes"
	"encoding/binary"

	"github.com/shardgate/shardgate/gateway/pool"
	"github.com/shardgate/shardgate/shardmap"
	"github.com/shardgate/shardgate/wire"
)

// COPY's binary format is a header, the rows, and a trailer: a signature, flags, and an
// extension with its length; for each row how many fields it has, and each with its length;
// and -1 fields.

// copyHeader is the header as PostgreSQL writes it.
var copyHeader = []byte("PGCOPY\n\xff\r\n\x00\x00\x00\x00\x00\x00\x00\x00\x00")

var copyTrailer = []byte{0xff, 0xff}

const (
	copySignatureBytes = 11
	maxFieldBytes      = 1 << 30 // of any value in PostgreSQL, MaxAllocSize
)

// binaryRows gives out the rows that are whole, and returns what comes after them. What is no such data goes to one shard, which says
// so; what comes behind the trailer goes to all.
func (s *Splitter) binaryRows(data []byte, row func(int, []byte) *wire.Error) ([]byte, *wire.Error) {
	for {
		if s.whole {
			return nil, row(s.wholeTo, data)
		}
		n, target, e := s.nextBinary(data)
		if e != nil {
			return data, e
		}
		if s.whole {
			continue
		}
		if n == 0 {
			return data, nil
		}
		if e := row(target, data[:n]); e != nil {
			return data, e
		}
		data = data[n:]
	}
}

// nextBinary finds the end of what data begins with, the header or a row, and its shard, or
// -1 for all. n is 0 when more data is needed.
func (s *Splitter) nextBinary(data []byte) (n, target int, e *wire.Error) {
	if !s.begun {
		n := s.binaryHeader(data)
		s.begun = n > 0
		return n, -1, nil
	}
	if len(data) < 2 {
		return 0, 0, nil
	}
	count := int(int16(binary.BigEndian.Uint16(data)))
	switch {
	case count == -1:
		s.passWhole(-1)
		return 0, 0, nil
	case count < 0:
		s.passWhole(0)
		return 0, 0, nil
	}
	s.fields = s.fields[:0]
	n = 2
	for range count {
		if len(data)-n < 4 {
			return 0, 0, nil
		}
		size := int(int32(binary.BigEndian.Uint32(data[n:])))
		n += 4
		switch {
		case size == -1:
			s.fields = append(s.fields, nil)
			continue
		case size < 0 || size >= maxFieldBytes:
			s.passWhole(0)
			return 0, 0, nil
		case len(data)-n < size:
			return 0, 0, nil
		}
		s.fields = append(s.fields, data[n:n+size:n+size])
		n += size
	}
	s.line++
	target, e = s.binaryTarget()
	return n, target, e
}

// binaryHeader is how long the header is, 0 when more data is needed.
func (s *Splitter) binaryHeader(data []byte) int {
	k := min(len(data), copySignatureBytes)
	if !bytes.Equal(data[:k], copyHeader[:k]) {
		s.passWhole(0)
		return 0
	}
	if len(data) < len(copyHeader) {
		return 0
	}
	extension := int(int32(binary.BigEndian.Uint32(data[len(copyHeader)-4:])))
	if extension < 0 {
		s.passWhole(0)
		return 0
	}
	if n := len(copyHeader) + extension; n <= len(data) {
		return n
	}
	return 0
}

// passWhole has what comes from here on passed to a shard, or to all where that is -1.
func (s *Splitter) passWhole(target int) { s.whole, s.wholeTo = true, target }

// binaryTarget is the shard of the row whose fields were read, or -1 for all.
func (s *Splitter) binaryTarget() (int, *wire.Error) {
	if s.Plan.Types == nil {
		return -1, nil
	}
	hash := uint64(0)
	for i, t := range s.Plan.Types {
		if s.Plan.Fields[i] >= len(s.fields) {
			return 0, nil // an error on whichever shard it goes to
		}
		v := s.fields[s.Plan.Fields[i]]
		if v == nil {
			return 0, s.error(wire.NotNullViolation, "null value in key column of sharded table "+s.Plan.Table.String())
		}
		typmod := s.Plan.Table.KeyTypmod(i)
		if roundsBinary(t, typmod, v) {
			return 0, s.error(wire.FeatureNotSupported, "a key has more digits of a second than its column stores").WithHint("Round it in the data.")
		}
		if s.ASCIIOnly && textual(t) && !isASCII(v) {
			return 0, s.error(wire.FeatureNotSupported, "a key of type "+t.SQLName()+" beyond ASCII comes in another encoding than the server's").
				WithHint("Set client_encoding to UTF8.")
		}
		h, ok := t.HashBinary(StoredText(t, typmod, v))
		if !ok {
			return 0, nil
		}
		hash = combine(len(s.Plan.Types), hash, h)
	}
	return s.Target(shardmap.SlotOf(hash)), nil
}

// roundsBinary is rounds for a value in binary format: microseconds.
func roundsBinary(t shardmap.KeyType, typmod int32, v []byte) bool {
	if t != shardmap.KeyTimestamp && t != shardmap.KeyTimestamptz || typmod < 0 || typmod >= 6 || len(v) != 8 {
		return false
	}
	unit := int64(1)
	for range 6 - typmod {
		unit *= 10
	}
	at := int64(binary.BigEndian.Uint64(v))
	infinite := at == 1<<63-1 || at == -1<<63
	return !infinite && at%unit != 0
}

// trimCopied deals with one row that a shard has sent of COPY TO in binary format, each in a
// message of its own, where it is not passed on as it is: of several shards' data, the client
// gets the first's header and the last's trailer. begins says that it is the shard's first.
func (r *Runner) trimCopied(c *pool.Conn, size int, first, begins, last bool) (trimmed bool, err error) {
	cut := begins && !first
	if !cut && (last || size > 2*len(copyHeader)) {
		return false, nil // it is more than a header and a trailer
	}
	body, err := c.Body()
	if err != nil {
		return false, err
	}
	head := 0
	if begins {
		head = min(len(copyHeader), len(body))
	}
	end := len(body)
	if !last && bytes.Equal(body[head:], copyTrailer) {
		end = head
	}
	if !cut {
		head = 0
	}
	if head == 0 && end == len(body) {
		return false, nil
	}
	if head < end {
		row := bytes.Clone(body[head:end])
		r.write(func(b []byte) []byte { return append(wire.AppendCopyDataHeader(b, len(row)), row...) })
		r.relay(c)
	}
	return true, c.Drop()
}
