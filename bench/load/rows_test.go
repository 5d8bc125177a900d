package load

import (
	"testing"
	"time"

	"github.com/shardgate/shardgate/wire"
)

func answerOf(rows int, tag string) []byte {
	var b []byte
	for range rows {
		b = append(b, dataRow(20_000)...)
	}
	return wire.AppendReadyForQuery(wire.AppendCommandTag(b, tag), 'I')
}

// Rows are counted, the first one is timed, and the client pauses where it should.
func TestStream(t *testing.T) {
	conn := answered(t, answerOf(5, "SELECT 5"), 4096)
	s := NewStatement("q", "SELECT v FROM t", "SELECT 5")
	for range 2 {
		began := time.Now()
		n, err := conn.Stream(Prepared, s, 3, 30*time.Millisecond)
		if took := time.Since(began); n != 5 || err != nil || took < 30*time.Millisecond || conn.rows.first <= 0 || conn.rows.first > took-30*time.Millisecond {
			t.Errorf("%d rows, %v, the first after %v of %v", n, err, conn.rows.first, took)
		}
	}
	if err := conn.Run(Simple, s); err != nil || conn.rows.count != 5 {
		t.Errorf("%v; the rows of another answer are counted: %d", err, conn.rows.count)
	}
}

// All connections are asked before the first answer is waited for, and all answers are
// read even if one is an error.
func TestRunEverywhere(t *testing.T) {
	good, failed := answerOf(1, "SELECT 1"), wire.AppendReadyForQuery(errorResponse("53300"), 'I')
	s := NewStatement("q", "SELECT v FROM t", "")
	conn := answered(t, good, 0)
	conn.beside = []*Conn{answered(t, failed, 0), answered(t, good, 0)}
	for range 2 {
		if err := conn.RunEverywhere(Simple, s); err == nil || codeOf(err) != "53300" || !usable(err) {
			t.Errorf("%v", err)
		}
	}
	conn.beside = conn.beside[1:]
	if err := conn.RunEverywhere(Extended, s); err != nil {
		t.Error(err)
	}
	conn.beside[0].Close()
	if err := conn.RunEverywhere(Extended, s); err == nil || usable(err) {
		t.Errorf("a lost connection: %v", err)
	}
}
