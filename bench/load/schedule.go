package load

import (
	"context"
	"math"
	"sync"
	"time"

	"github.com/shardgate/shardgate/bench/measure"
)

// schedule is an open loop: when each transaction of a run should be sent, at even
// distances, whatever became of those before it. Whichever client is free takes the next
// one. Where all are busy the schedule goes on without them, and the transactions that
// became due meanwhile are sent as soon as clients are free again; their latency counts
// from when they were due. A closed loop would leave them out, and with them what a stall
// does to users (Gil Tene's "coordinated omission").
type schedule struct {
	begin   time.Time
	until   time.Time // when it ends
	giveUp  time.Time // what has not been sent then never is
	between float64   // two transactions, in nanoseconds
	total   int64     // transactions that are due before the end

	// turn is held by the client that waits for the next one to be due: one timer for all.
	turn   sync.Mutex
	taken  int64
	inTime int64            // taken before the end
	late   *measure.Latency // how late a client took one for which it was free in time
}

// maxDrain bounds how long after the end of its schedule a run goes on to send what is
// overdue.
const maxDrain = 5 * time.Second

func newSchedule(begin time.Time, d time.Duration, rate float64) *schedule {
	return &schedule{begin: begin, until: begin.Add(d), giveUp: begin.Add(d + min(d, maxDrain)),
		between: float64(time.Second) / rate, total: max(1, int64(math.Round(d.Seconds()*rate))), late: measure.NewLatency()}
}

// due is when a transaction should be sent.
func (s *schedule) due(n int64) time.Time {
	return s.begin.Add(time.Duration(float64(n) * s.between))
}

// next waits, for a client that has been free from some time on, until the next transaction
// is due and says when that was. It is not ok when there are no more, when it is too late
// for them, and when ctx has ended.
func (s *schedule) next(ctx context.Context, free time.Time) (due time.Time, ok bool) {
	s.turn.Lock()
	defer s.turn.Unlock()
	if s.taken == s.total {
		return time.Time{}, false
	}
	due = s.due(s.taken)
	now := time.Now()
	for now.Before(due) && ctx.Err() == nil {
		sleep(min(due.Sub(now), 50*time.Millisecond)) // in pieces, for ctx
		now = time.Now()
	}
	if ctx.Err() != nil || now.After(s.giveUp) {
		return time.Time{}, false
	}
	if free.Before(due) {
		s.late.Record(now.Sub(due))
	}
	if s.taken++; now.Before(s.until) {
		s.inTime++
	}
	return due, true
}

// account adds to a result what the schedule knows. What was never sent counts as long
// as it had waited at the end, which is less than it would have taken.
func (s *schedule) account(r *Result, end time.Time) {
	r.Scheduled, r.SentInTime, r.Unsent, r.Late = s.total, s.inTime, s.total-s.taken, s.late
	for n := s.taken; n < s.total; n++ {
		r.Latency.Record(end.Sub(s.due(n)))
	}
}
