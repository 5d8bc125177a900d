package load

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/shardgate/shardgate/wire"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// answered returns a connection whose every write is answered with the same bytes, in
// pieces of a size; 0: whole.
func answered(t testing.TB, answer []byte, piece int) *Conn {
	client, server := net.Pipe()
	done := make(chan struct{})
	go func() { // ends when the client closes
		defer close(done)
		b := make([]byte, 1<<16)
		for {
			if _, err := server.Read(b); err != nil {
				return
			}
			rest := answer
			for len(rest) > 0 {
				n := len(rest)
				if piece > 0 {
					n = min(n, piece)
				}
				if _, err := server.Write(rest[:n]); err != nil {
					return
				}
				rest = rest[n:]
			}
		}
	}()
	t.Cleanup(func() {
		client.Close()
		server.Close()
		<-done
	})
	return newConn(client)
}

func dataRow(n int) []byte {
	body := make([]byte, n)
	return append(append([]byte{'D'}, byte((n+4)>>24), byte((n+4)>>16), byte((n+4)>>8), byte(n+4)), body...)
}

func errorResponse(code string) []byte {
	return wire.Errorf(code, "made up").Append(nil)
}

var selectOne = NewStatement("s", "SELECT v FROM t WHERE k = $1", "SELECT 1")

// Answers of several kinds, in pieces of several sizes, among them rows and errors that
// are larger than the buffer.
func TestExchange(t *testing.T) {
	good := wire.AppendReadyForQuery(wire.AppendCommandTag(dataRow(10), "SELECT 1"), 'I')
	none := wire.AppendReadyForQuery(wire.AppendCommandTag(nil, "SELECT 0"), 'I')
	large := wire.AppendReadyForQuery(wire.AppendCommandTag(dataRow(100_000), "SELECT 1"), 'I')
	failed := wire.AppendReadyForQuery(errorResponse("40P01"), 'E')
	long := wire.AppendReadyForQuery(wire.Errorf("22000", "%s", strings.Repeat("x", 70_000)).Append(nil), 'I')
	for _, c := range []struct {
		name   string
		answer []byte
		code   string // "": no error
		status byte
	}{
		{"good", good, "", 'I'},
		{"none", none, codeUnexpected, 'I'},
		{"large", large, "", 'I'},
		{"failed", failed, "40P01", 'E'},
		{"long", long, "22000", 'I'},
	} {
		for _, piece := range []int{0, 1, 3, 5, 4096} {
			t.Run(fmt.Sprintf("%s in %d", c.name, piece), func(t *testing.T) {
				conn := answered(t, c.answer, piece)
				for range 2 {
					err := conn.Run(Prepared, selectOne, 7)
					if c.code == "" && err != nil || c.code != "" && (err == nil || codeOf(err) != c.code) {
						t.Fatalf("error %v in place of %q", err, c.code)
					}
					if err != nil && !usable(err) {
						t.Error("the connection is given up")
					}
					if conn.status != c.status {
						t.Errorf("status %q", conn.status)
					}
				}
			})
		}
	}
}

func TestBrokenAnswers(t *testing.T) {
	for name, answer := range map[string][]byte{
		"length below 4":    {'D', 0, 0, 0, 3},
		"a huge tag":        {'C', 0x7f, 0, 0, 0},
		"long ready":        {'Z', 0, 0, 0, 6, 'I', 'I'},
		"copy in":           {'G', 0, 0, 0, 7, 0, 0, 0},
		"error and the end": append(errorResponse("57P01"), 'Z', 0, 0, 0, 4),
	} {
		conn := answered(t, answer, 0)
		if err := conn.Exec("x", ""); err == nil || usable(err) {
			t.Errorf("%s: %v", name, err)
		}
	}
	conn := answered(t, nil, 0)
	if err := conn.SetDeadline(time.Now().Add(20 * time.Millisecond)); err != nil {
		t.Fatal(err)
	}
	if err := conn.Exec("x", ""); err == nil || codeOf(err) != codeTimeout || !unknown(err) {
		t.Errorf("no answer: %v", err)
	}
}

// What is sent is what the protocols say.
func TestMessages(t *testing.T) {
	s := NewStatement("p1", "UPDATE t SET v = v + $1 WHERE k = $2 OR k = $2;", "UPDATE 1")
	c := &Conn{}
	if got, want := s.appendTo(nil, c, Simple, []int64{-5, 12}), wire.AppendQuery(nil, "UPDATE t SET v = v + -5 WHERE k = 12 OR k = 12;"); string(got) != string(want) {
		t.Errorf("simple: %q", got)
	}
	tail := func(dst []byte, name string) []byte {
		dst = wire.AppendBind(dst, "", name, nil, [][]byte{[]byte("-5"), []byte("12")}, []int16{0})
		return wire.AppendSync(wire.AppendExecute(wire.AppendDescribe(dst, wire.Portal, ""), "", 0))
	}
	if got, want := s.appendTo(nil, c, Prepared, []int64{-5, 12}), tail(nil, "p1"); string(got) != string(want) {
		t.Errorf("prepared: %q", got)
	}
	if got, want := s.appendTo(nil, c, Extended, []int64{-5, 12}), tail(wire.AppendParse(nil, "", s.sql, nil), ""); string(got) != string(want) {
		t.Errorf("extended: %q", got)
	}
}

func TestParseProtocols(t *testing.T) {
	if _, err := ParseProtocols([]string{"simple", "smiple"}); err == nil || !strings.Contains(err.Error(), "smiple") {
		t.Errorf("a wrong name: %v", err)
	}
}

// The hot path allocates nothing.
func TestNoAllocation(t *testing.T) {
	answer := wire.AppendReadyForQuery(wire.AppendCommandTag(dataRow(10), "SELECT 1"), 'I')
	conn := newConn(&canned{answer: answer})
	key := int64(0)
	for _, p := range Protocols {
		if n := testing.AllocsPerRun(1000, func() {
			key += 12345
			if err := conn.Run(p, selectOne, key); err != nil {
				t.Fatal(err)
			}
		}); n != 0 {
			t.Errorf("%s: %g allocations for a transaction", p, n)
		}
	}
}

// canned is a connection without an operating system: every write is answered at once.
type canned struct {
	net.Conn
	answer []byte
}

func (c *canned) Write(b []byte) (int, error) { return len(b), nil }
func (c *canned) Read(b []byte) (int, error)  { return copy(b, c.answer), nil }

// What the generator itself costs, besides the system calls.
func BenchmarkRun(b *testing.B) {
	answer := wire.AppendReadyForQuery(wire.AppendCommandTag(dataRow(10), "SELECT 1"), 'I')
	for _, p := range Protocols {
		b.Run(string(p), func(b *testing.B) {
			conn := newConn(&canned{answer: answer})
			b.ReportAllocs()
			for i := range b.N {
				if err := conn.Run(p, selectOne, int64(i)); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// failing is a script whose transactions end in each way in turn.
type failing struct{ n int }

func (f *failing) Transaction(c *Conn, _ *rand.Rand) error {
	f.n++
	switch f.n % 4 {
	case 0:
		return &ServerError{Code: "40001", Message: "one"}
	case 1:
		return &ServerError{Code: "08007", Message: "two"}
	case 2:
		return &UnexpectedError{Want: "COMMIT", Got: "ROLLBACK"}
	}
	return nil
}

// Every error is counted under its code, and only what may have been committed as unknown.
func TestErrorsAreCounted(t *testing.T) {
	cs := &Clients{options: Options{Clients: 2}}
	for range 2 {
		c := newClient(&failing{}, 1, 1)
		c.conn = newConn(&canned{Conn: closer{}})
		cs.list = append(cs.list, c)
	}
	ctx := t.Context()
	r, err := cs.Run(ctx, 30*time.Millisecond)
	if err != nil {
		t.Fatal(err)
	}
	if r.Committed == 0 || r.Committed != r.Latency.Count() || r.Committed != cs.Committed() {
		t.Errorf("%d committed, %d latencies", r.Committed, r.Latency.Count())
	}
	if len(r.Errors) != 3 || r.Unknown != r.Errors["08007"].Count {
		t.Errorf("%+v, %d unknown", r.Errors, r.Unknown)
	}
	for _, code := range []string{"40001", "08007", codeUnexpected} {
		if e := r.Errors[code]; e.Example == "" || e.Count > r.Committed+2 || e.Count < r.Committed-2 {
			t.Errorf("%s: %+v with %d committed", code, e, r.Committed)
		}
	}
	again, err := cs.Run(ctx, time.Millisecond)
	if err != nil || again.Committed >= r.Committed {
		t.Errorf("a second run counts the first: %d after %d, %v", again.Committed, r.Committed, err)
	}
}

// A client that loses its connection connects again, and says how it went.
func TestReconnect(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	address := l.Addr().String()
	l.Close() // nobody is there
	c := newClient(&lost{}, 1, 1)
	c.conn = newConn(&canned{Conn: closer{}})
	cs := &Clients{options: Options{Clients: 1, URL: "postgres://u@" + address + "/d?sslmode=disable"}, list: []*client{c}}
	r, err := cs.Run(t.Context(), 120*time.Millisecond)
	if err != nil {
		t.Fatal(err)
	}
	if e := r.Errors[codeConnection]; e.Count < 2 || r.Unknown != 1 || r.Committed != 0 {
		t.Errorf("%+v, %d unknown", r.Errors, r.Unknown)
	}
}

type lost struct{}

func (lost) Transaction(*Conn, *rand.Rand) error { return errors.New("hung up") }

// closer is a connection that can be closed.
type closer struct{ net.Conn }

func (closer) Close() error                     { return nil }
func (closer) SetDeadline(time.Time) error      { return nil }
func (closer) SetWriteDeadline(time.Time) error { return nil }
