package exec

import (
	"encoding/binary"
	"math"
	"math/big"
	"strconv"
	"testing"

	"pgregory.net/rapid"

	"github.com/shardgate/shardgate/gateway/pool"
	"github.com/shardgate/shardgate/wire"
)

// bigints makes a DataRow.
func bigints(formats []int16, values ...int64) []byte {
	b := binary.BigEndian.AppendUint16(nil, uint16(len(values)))
	for i, v := range values {
		if format(formats, i) == wire.FormatBinary {
			b = binary.BigEndian.AppendUint64(append(b, 0, 0, 0, 8), uint64(v))
			continue
		}
		s := strconv.FormatInt(v, 10)
		b = append(binary.BigEndian.AppendUint32(b, uint32(len(s))), s...)
	}
	return b
}

// Sums are exact, or PostgreSQL's error.
func TestSums(t *testing.T) {
	value := rapid.OneOf(rapid.Int64(), rapid.SampledFrom([]int64{0, 1, -1, math.MaxInt64, math.MinInt64, math.MaxInt64 / 2}))
	rapid.Check(t, func(t *rapid.T) {
		columns := rapid.IntRange(1, 4).Draw(t, "columns")
		formats := rapid.SampledFrom([][]int16{nil, {0}, {1}, {1, 0, 1, 0}}).Draw(t, "formats")
		if len(formats) > 1 {
			formats = formats[:columns]
		}
		r := &Runner{}
		exact := make([]*big.Int, columns)
		for i := range exact {
			exact[i] = new(big.Int)
		}
		fits := true
		for range rapid.IntRange(1, 4).Draw(t, "shards") {
			var row []int64
			for i := range columns {
				v := value.Draw(t, "value")
				row = append(row, v)
				fits = fits && exact[i].Add(exact[i], big.NewInt(v)).IsInt64()
			}
			e := r.add(bigints(formats, row...), formats)
			if (e == nil) != fits || e != nil && e.Code != "22003" {
				t.Fatalf("sums %v: %v", exact, e)
			}
			if e != nil {
				return
			}
		}
		got := pool.DecodeRow(appendSums([]byte("before"), r.sums, formats)[len("before")+5:])
		for i, v := range exact {
			s := string(got[i])
			if format(formats, i) == wire.FormatBinary {
				s = strconv.FormatInt(int64(binary.BigEndian.Uint64(got[i])), 10)
			}
			if s != v.String() {
				t.Fatalf("column %d is %s, not %s", i, s, v)
			}
		}
	})
}

func TestSumsRefuse(t *testing.T) {
	for _, row := range [][]byte{
		nil, {0}, {0, 1}, {0, 1, 0, 0, 0}, {0, 1, 0, 0, 0, 2, '1'}, {0, 1, 0xff, 0xff, 0xff, 0xff}, {0, 1, 0, 0, 0, 1, 'x'},
		bigints(nil, 1, 2), bigints(nil), {0, 1, 0, 0, 0, 3, '1', '.', '5'},
	} {
		r := &Runner{sums: []int64{7}}
		if e := r.add(row, nil); e == nil || e.Code != wire.InternalError {
			t.Errorf("%x: %v", row, e)
		}
	}
	r := &Runner{}
	if e := r.add([]byte{0, 1, 0, 0, 0, 4, 0, 0, 0, 1}, []int16{1}); e == nil {
		t.Error("an int4 was taken for a bigint")
	}
}
