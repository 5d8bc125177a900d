package load

import (
	"context"
	"math/rand/v2"
	"net"
	"sync"
	"testing"
	"time"

	"github.com/shardgate/shardgate/wire"
)

// stalling is a server that answers at once, but for one time when nobody gets an answer
// for a while.
type stalling struct {
	number int64 // of the request at which that begins
	stall  time.Duration

	mu    sync.Mutex
	seen  int64
	until time.Time // the end of the stall
}

// asked counts a request and waits for the end of a stall.
func (s *stalling) asked() {
	s.mu.Lock()
	if s.seen++; s.seen == s.number {
		s.until = time.Now().Add(s.stall)
	}
	until := s.until
	s.mu.Unlock()
	time.Sleep(time.Until(until))
}

func (s *stalling) serve(c net.Conn) {
	answer := wire.AppendReadyForQuery(wire.AppendCommandTag(dataRow(10), "SELECT 1"), 'I')
	b := make([]byte, 1<<12)
	for { // ends when the client closes
		if _, err := c.Read(b); err != nil {
			return
		}
		s.asked()
		if _, err := c.Write(answer); err != nil {
			return
		}
	}
}

type runOne struct{}

func (runOne) Transaction(c *Conn, _ *rand.Rand) error { return c.Run(Prepared, selectOne, 7) }

// clientsOf are clients of a server that does not need to be dialled.
func clientsOf(t *testing.T, n int, rate float64, s *stalling) *Clients {
	t.Helper()
	cs := &Clients{options: Options{Clients: n, Rate: rate}}
	for i := range n {
		near, far := net.Pipe()
		go s.serve(far)
		c := newClient(runOne{}, 1, i)
		c.conn = newConn(near)
		cs.list = append(cs.list, c)
		t.Cleanup(func() { near.Close(); far.Close() })
	}
	return cs
}

// A server stalls once, for 600 ms of a second in which 1000 transactions should have
// been sent. Of those that were due in the first 400 ms of the stall each took at least
// 200 ms, so that 40% of all did, whatever else the machine has to do. In a closed loop
// the stall would be in one latency of each client.
func TestStallIsInThePercentiles(t *testing.T) {
	cs := clientsOf(t, 2, 1000, &stalling{number: 100, stall: 600 * time.Millisecond})
	r, err := cs.Run(t.Context(), time.Second)
	if err != nil {
		t.Fatal(err)
	}
	if r.Scheduled != 1000 || r.Latency.Count() != 1000 || r.Committed+r.Unsent != 1000 {
		t.Fatalf("%d scheduled, %d latencies, %d committed, %d never sent", r.Scheduled, r.Latency.Count(), r.Committed, r.Unsent)
	}
	if p := r.Latency.Percentile(61); p < 190*time.Millisecond {
		t.Errorf("39%% of the latencies are at least %v: the stall is left out", p)
	}
	if p := r.Latency.Percentile(100); p < 590*time.Millisecond {
		t.Errorf("the longest latency is %v", p)
	}
	if r.Elapsed < time.Second || r.Late.Count() == 0 {
		t.Errorf("%v elapsed; nobody waited for the schedule: %d", r.Elapsed, r.Late.Count())
	}
}

// What a server never gets is counted: as not reached, and with the time that it waited.
func TestScheduleOutOfReach(t *testing.T) {
	// Longer than the schedule and what follows it.
	cs := clientsOf(t, 1, 1000, &stalling{number: 1, stall: 500 * time.Millisecond})
	r, err := cs.Run(t.Context(), 200*time.Millisecond)
	if err != nil {
		t.Fatal(err)
	}
	if r.Scheduled != 200 || r.SentInTime != 1 || r.Committed != 1 || r.Unsent != 199 || r.Latency.Count() != 200 {
		t.Fatalf("%+v, %d latencies", r, r.Latency.Count())
	}
	if p := r.Latency.Percentile(1); p < 290*time.Millisecond {
		t.Errorf("one that was never sent counts as %v", p)
	}
}

// The times of a schedule depend on nothing but its begin and its rate.
func TestScheduleIsNotShifted(t *testing.T) {
	begin := time.Now().Add(-time.Minute) // all is due, so that nobody waits
	s := newSchedule(begin, 2*time.Minute, 3)
	if s.total != 360 {
		t.Errorf("%d in two minutes at 3/s", s.total)
	}
	for n := range 20 {
		due, ok := s.next(t.Context(), time.Now())
		if want := begin.Add(time.Duration(n) * time.Second / 3); !ok || due.Sub(want).Abs() > time.Microsecond {
			t.Fatalf("number %d is due at %v in place of %v", n, due.Sub(begin), want.Sub(begin))
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, ok := s.next(ctx, time.Now()); ok {
		t.Error("a schedule goes on after its context has ended")
	}
}
