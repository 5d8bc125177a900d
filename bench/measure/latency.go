package measure

import (
	"fmt"
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"
)

// The range of a latency that is told apart, to three digits. What is longer counts as
// the longest.
const (
	shortest = time.Microsecond
	longest  = 10 * time.Minute
)

// Latency is a histogram of durations. It is not for several goroutines at once: each
// has its own, and they are merged.
type Latency struct {
	h *hdrhistogram.Histogram
}

// NewLatency returns an empty histogram, of about 180 KiB.
func NewLatency() *Latency {
	return &Latency{hdrhistogram.New(int64(shortest), int64(longest), 3)}
}

// Record counts one duration. It does not allocate.
func (l *Latency) Record(d time.Duration) {
	// No error: the value is within the histogram's range.
	_ = l.h.RecordValue(int64(min(max(d, 0), longest)))
}

// Merge adds what from has counted, which keeps it.
func (l *Latency) Merge(from *Latency) error {
	if dropped := l.h.Merge(from.h); dropped > 0 {
		return fmt.Errorf("%d latencies were lost in merging", dropped)
	}
	return nil
}

// Reset forgets all.
func (l *Latency) Reset() { l.h.Reset() }

// Count is how many durations were recorded.
func (l *Latency) Count() int64 { return l.h.TotalCount() }

// Percentile is the duration that a share of the recorded ones, in percent, did not
// exceed; of 100, the longest one. It is 0 if none was recorded.
func (l *Latency) Percentile(percent float64) time.Duration {
	if l.h.TotalCount() == 0 {
		return 0
	}
	if percent >= 100 {
		return time.Duration(l.h.Max())
	}
	return time.Duration(l.h.ValueAtPercentile(percent))
}
