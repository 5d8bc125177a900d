package exec

import (
	"encoding/binary"
	"strconv"

	"github.com/shardgate/shardgate/wire"
)

// add adds a DataRow of bigints to the sums. formats are those of Bind.
func (r *Runner) add(body []byte, formats []int16) *wire.Error {
	bad := wire.Errorf(wire.InternalError, "a partial count is not a bigint")
	if len(body) < 2 {
		return bad
	}
	n := int(binary.BigEndian.Uint16(body))
	first := len(r.sums) == 0
	if !first && n != len(r.sums) {
		return bad
	}
	off := 2
	for i := range n {
		if len(body)-off < 4 {
			return bad
		}
		l := int(int32(binary.BigEndian.Uint32(body[off:])))
		off += 4
		if l < 0 || l > len(body)-off {
			return bad
		}
		v, ok := int64(0), true
		if format(formats, i) == 1 {
			if ok = l == 8; ok {
				v = int64(binary.BigEndian.Uint64(body[off:]))
			}
		} else {
			x, err := strconv.ParseInt(string(body[off:off+l]), 10, 64)
			v, ok = x, err == nil
		}
		if !ok {
			return bad
		}
		off += l
		if first {
			r.sums = append(r.sums, v)
			continue
		}
		s := r.sums[i] + v
		if (s > r.sums[i]) != (v > 0) && v != 0 {
			return wire.Errorf("22003", "bigint out of range")
		}
		r.sums[i] = s
	}
	return nil
}

// format is the format of column i by a Bind's list of result formats.
func format(formats []int16, i int) int16 {
	switch {
	case len(formats) == 0:
		return 0
	case len(formats) == 1:
		return formats[0]
	case i < len(formats):
		return formats[i]
	}
	return 0
}

// appendSums encodes the sums as a DataRow.
func appendSums(dst []byte, sums []int64, formats []int16) []byte {
	start := len(dst)
	dst = append(dst, 'D', 0, 0, 0, 0)
	dst = binary.BigEndian.AppendUint16(dst, uint16(len(sums)))
	for i, v := range sums {
		if format(formats, i) == 1 {
			dst = binary.BigEndian.AppendUint32(dst, 8)
			dst = binary.BigEndian.AppendUint64(dst, uint64(v))
			continue
		}
		at := len(dst)
		dst = append(dst, 0, 0, 0, 0)
		dst = strconv.AppendInt(dst, v, 10)
		binary.BigEndian.PutUint32(dst[at:], uint32(len(dst)-at-4))
	}
	binary.BigEndian.PutUint32(dst[start+1:], uint32(len(dst)-start-1))
	return dst
}
