package exec

import (
	"encoding/binary"
	"io"
	"net"
	"testing"

	"github.com/shardgate/shardgate/gateway/pool"
	"github.com/shardgate/shardgate/planner"
	"github.com/shardgate/shardgate/wire"
)

// again is a shard that sends the same answer again and again, and a client that takes
// everything.
type again struct {
	net.Conn
	answer []byte
	at     int
}

func (a *again) Read(b []byte) (int, error) {
	if len(a.answer) == 0 {
		return 0, io.EOF
	}
	n := copy(b, a.answer[a.at:])
	a.at = (a.at + n) % len(a.answer)
	return n, nil
}

func (a *again) Write(b []byte) (int, error) { return len(b), nil }

// sortedAnswer is an answer of rows of about 100 bytes whose last column, an integer, rises
// in steps from one.
func sortedAnswer(rows int, first, step uint64) (answer []byte) {
	for i := range uint64(rows) {
		row := []byte{'D', 0, 0, 0, 0, 0, 2, 0, 0, 0, 90}
		row = append(row, make([]byte, 90)...)
		row = binary.BigEndian.AppendUint64(append(row, 0, 0, 0, 8), first+i*step)
		binary.BigEndian.PutUint32(row[1:], uint32(len(row)-1))
		answer = append(answer, row...)
	}
	return wire.AppendCommandTag(answer, "SELECT 1000")
}

// BenchmarkMerge is what a row costs that is put in order with those of other shards.
func BenchmarkMerge(b *testing.B) {
	const shards, rows = 4, 1000
	r := &Runner{Client: wire.NewConn(&again{}, 1<<20)}
	op := Op{Kind: Execute, Keys: []planner.SortKey{{Type: oidInt8}}}
	for i := range shards {
		op.Conns = append(op.Conns, &pool.Conn{Conn: wire.NewConn(&again{answer: sortedAnswer(rows, uint64(i), shards)}, 1<<20)})
	}
	b.ReportAllocs()
	for b.Loop() {
		if !r.merge(&op) || r.Failed != nil {
			b.Fatal(r.Failed, r.stop)
		}
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/shards/rows, "ns/row")
}
