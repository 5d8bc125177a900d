package load

import (
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"github.com/shardgate/shardgate/wire"
)

var (
	pipeBegin  = NewStatement("b", "BEGIN", "BEGIN")
	pipeUpdate = NewStatement("u", "UPDATE t SET v = v + $1 WHERE k = $2", "UPDATE 1")
	pipeCommit = NewStatement("c", "COMMIT", "COMMIT")
)

func drawTransfer(w *Work, rnd *rand.Rand) {
	w.Add(pipeBegin)
	w.Add(pipeUpdate, 5, rnd.Int64N(10))
	w.Add(pipeUpdate, -5, rnd.Int64N(10))
	w.Add(pipeCommit)
}

// ready is an answer of command tags up to a ReadyForQuery.
func ready(status byte, tags ...string) []byte {
	var b []byte
	for _, tag := range tags {
		b = wire.AppendCommandTag(b, tag)
	}
	return wire.AppendReadyForQuery(b, status)
}

// Each transaction of a batch has its own outcome, by all of its command tags.
func TestPipeline(t *testing.T) {
	good := append(ready('T', "BEGIN", "UPDATE 1", "UPDATE 1"), ready('I', "COMMIT")...)
	missed := append(ready('T', "BEGIN", "UPDATE 0", "UPDATE 1"), ready('I', "COMMIT")...)
	failed := append(append(wire.AppendCommandTag(nil, "BEGIN"), errorResponse("40P01")...), ready('E')...)
	failed = append(failed, ready('I', "ROLLBACK")...)
	short := append(ready('T', "BEGIN", "UPDATE 1"), ready('I', "COMMIT")...)
	for _, piece := range []int{0, 1, 7} {
		conn := answered(t, []byte(string(good)+string(missed)+string(failed)+string(short)+string(good)), piece)
		var w Work
		if err := conn.Pipeline(5, &w, rand.New(rand.NewPCG(1, 2)), drawTransfer); err != nil {
			t.Fatal(err)
		}
		var got []string
		for _, o := range conn.takeOutcomes() {
			if o.Took <= 0 {
				t.Errorf("an outcome after %v", o.Took)
			}
			if o.Err == nil {
				got = append(got, "ok")
			} else {
				got = append(got, codeOf(o.Err))
			}
		}
		if text := strings.Join(got, ", "); text != "ok, unexpected answer, 40P01, unexpected answer, ok" {
			t.Errorf("in %d: %s", piece, text)
		}
		if conn.status != idle || len(conn.takeOutcomes()) != 0 {
			t.Errorf("status %q afterwards", conn.status)
		}
	}
}

// What is lost in the middle of a batch is lost for all that come after.
func TestPipelineIsLost(t *testing.T) {
	good := append(ready('T', "BEGIN", "UPDATE 1", "UPDATE 1"), ready('I', "COMMIT")...)
	conn := answered(t, append(good, 'Z', 0, 0, 0, 9), 0)
	if err := conn.SetDeadline(time.Now().Add(30 * time.Millisecond)); err != nil {
		t.Fatal(err)
	}
	var w Work
	err := conn.Pipeline(3, &w, rand.New(rand.NewPCG(1, 2)), drawTransfer)
	outcomes := conn.takeOutcomes()
	if err == nil || len(outcomes) != 3 || outcomes[0].Err != nil || !unknown(outcomes[1].Err) || !unknown(outcomes[2].Err) {
		t.Errorf("%v: %+v", err, outcomes)
	}
}

// What is sent is what libpq's pipeline mode sends.
func TestPipelineMessages(t *testing.T) {
	recorder := &recorded{canned: canned{answer: append(ready('T', "BEGIN", "UPDATE 1", "UPDATE 1"), ready('I', "COMMIT")...)}}
	conn := newConn(recorder)
	var w Work
	if err := conn.Pipeline(1, &w, rand.New(rand.NewPCG(1, 2)), func(w *Work, _ *rand.Rand) {
		w.Add(pipeBegin)
		w.Add(pipeUpdate, 5, 17)
		w.Add(pipeUpdate, -5, 18)
		w.Add(pipeCommit)
	}); err != nil {
		t.Fatal(err)
	}
	var want []byte
	execute := func(name string, args ...string) {
		var params [][]byte
		for _, a := range args {
			params = append(params, []byte(a))
		}
		want = wire.AppendBind(want, "", name, nil, params, []int16{0})
		want = wire.AppendExecute(wire.AppendDescribe(want, wire.Portal, ""), "", 0)
	}
	execute("b")
	execute("u", "5", "17")
	execute("u", "-5", "18")
	want = wire.AppendSync(want)
	execute("c")
	want = wire.AppendSync(want)
	if string(recorder.sent) != string(want) {
		t.Errorf("sent %q\nnot  %q", recorder.sent, want)
	}
}

// recorded keeps what was written.
type recorded struct {
	canned
	sent []byte
}

func (r *recorded) Write(b []byte) (int, error) {
	r.sent = append(r.sent, b...)
	return len(b), nil
}

// A batch allocates nothing.
func TestPipelineNoAllocation(t *testing.T) {
	one := append(ready('T', "BEGIN", "UPDATE 1", "UPDATE 1"), ready('I', "COMMIT")...)
	conn := newConn(&canned{answer: append(append([]byte(nil), one...), one...)})
	var w Work
	rnd := rand.New(rand.NewPCG(1, 2))
	if n := testing.AllocsPerRun(1000, func() {
		if err := conn.Pipeline(2, &w, rnd, drawTransfer); err != nil {
			t.Fatal(err)
		}
		for _, o := range conn.takeOutcomes() {
			if o.Err != nil {
				t.Fatal(o.Err)
			}
		}
	}); n != 0 {
		t.Errorf("%g allocations for a batch", n)
	}
}

// Parameters of more than one digit, and texts.
func TestParameters(t *testing.T) {
	s := NewStatement("s", "VALUES ($1,$2,$3,$4,$5,$6,$7,$8,$9,$10,$11,$10)", "SELECT 1").
		Text(11, func(dst []byte, n int64) []byte { return append(append(dst, "no "...), byte('0'+n)) })
	c := &Conn{}
	args := []int64{1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 7}
	if got, want := s.appendTo(nil, c, Simple, args), wire.AppendQuery(nil, "VALUES (1,2,3,4,5,6,7,8,9,10,'no 7',10)"); string(got) != string(want) {
		t.Errorf("%q", got)
	}
	if got := string(s.appendTo(nil, c, Prepared, args)); !strings.Contains(got, "\x00\x00\x00\x0210\x00\x00\x00\x04no 7") {
		t.Errorf("%q", got)
	}
}

// Numbers of several rows and columns, NULL among them.
func TestNumbers(t *testing.T) {
	row := func(values ...string) []byte {
		body := []byte{0, byte(len(values))}
		for _, v := range values {
			if v == "NULL" {
				body = append(body, 255, 255, 255, 255)
				continue
			}
			body = append(append(body, 0, 0, 0, byte(len(v))), v...)
		}
		return append([]byte{'D', 0, 0, 0, byte(len(body) + 4)}, body...)
	}
	s := NewStatement("s", "SELECT a, b FROM t", "SELECT 2")
	for _, piece := range []int{0, 1, 9} {
		conn := answered(t, append(append(row("17", "-3"), row("NULL", "123456789012345678")...), ready('I', "SELECT 2")...), piece)
		for range 2 {
			n, err := conn.Numbers(Prepared, s)
			if err != nil || len(n) != 4 || n[0] != 17 || n[1] != -3 || n[2] != 0 || n[3] != 123456789012345678 {
				t.Errorf("%v, %v", n, err)
			}
		}
	}
	for _, bad := range []string{"", "-", "1.5", "1234567890123456789"} {
		conn := answered(t, append(row(bad), ready('I', "SELECT 2")...), 0)
		if _, err := conn.Numbers(Prepared, s); err == nil {
			t.Errorf("%q is taken for a number", bad)
		}
	}
}
