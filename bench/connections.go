package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"text/tabwriter"
	"time"

	"github.com/shardgate/shardgate/bench/load"
	"github.com/shardgate/shardgate/bench/measure"
	"github.com/shardgate/shardgate/bench/target"
	"github.com/shardgate/shardgate/bench/workload"
)

// connections are the figures of one target where clients connect and do little else: one
// value of each a round.
type connections struct {
	Refused measure.Spread `json:"refused"` // clients
	// Seconds until the last one was in, and of that the gateway's CPU time; nil: not known.
	Seconds    measure.Spread  `json:"seconds"`
	CPUSeconds *measure.Spread `json:"cpu_seconds,omitempty"`
	// ConnectMicros is how long a client took to get in: p50, p95, p99, p99.9 and max.
	ConnectMicros map[string]measure.Spread `json:"connect_micros"`
	// BytesEach is by how much the gateway's resident memory rose, for each client: once it
	// has given back what it does not need, and before; nil: not measured.
	BytesEach      *measure.Spread `json:"bytes_each,omitempty"`
	BytesEachFirst *measure.Spread `json:"bytes_each_first,omitempty"`

	refused, seconds, cpu, bytes, bytesFirst []float64
	connect                                  map[string][]float64
}

const (
	// idleAtOnce is how many clients connect at a time where it does not matter how fast.
	idleAtOnce = 32
	// connectTimeout bounds how long all of them may take.
	connectTimeout = 5 * time.Minute
)

// connectingCell measures a cell whose clients connect and do little else.
func (r *runner) connectingCell(ctx context.Context, c cell) error {
	result := r.report.add(c)
	defer func() { result.Bounds = result.bounds() }()
	for _, t := range r.contending(c) {
		if r.embedded != nil && t.Name == target.Shardgate && c.workload.Connecting == workload.Storm {
			log := io.Discard
			if r.Verbose {
				log = os.Stderr
			}
			r.progress.event("%s: starting a gateway with passwords", c)
			with, stop, err := r.embedded.StartSCRAM(ctx, workload.Rules(), c.clients, log)
			if err != nil {
				return fmt.Errorf("a gateway with passwords: %w", err)
			}
			defer stop()
			t = with
		}
		if err := r.connect(ctx, c, t, result.add(t)); err != nil {
			return fmt.Errorf("%s: %w", t.Name, err)
		}
	}
	return nil
}

// connect runs the rounds of one target.
func (r *runner) connect(ctx context.Context, c cell, t *target.Target, f *figures) error {
	f.Connections = &connections{connect: map[string][]float64{}}
	defer f.Connections.summarize() // also of what was measured before an error
	if c.workload.Connecting == workload.Idle {
		// Once: later, the gateway may hold memory in which the next clients find room.
		var err error
		if f.IdleBytes, err = r.idleMemory(ctx, t); err != nil {
			return err
		}
	}
	for round := range r.Rounds {
		r.ran++
		label := fmt.Sprintf("[%d/%d] %s: %s, round %d", r.ran, r.runs, c, t.Name, round+1)
		text, err := r.connectOnce(ctx, c, t, f)
		if err != nil {
			return err
		}
		r.progress.event("%s: %s", label, text)
	}
	return nil
}

// connectOnce lets all clients connect, and closes them.
func (r *runner) connectOnce(ctx context.Context, c cell, t *target.Target, f *figures) (string, error) {
	atOnce, sql := c.clients, ""
	rest := f.IdleBytes
	if c.workload.Connecting == workload.Idle {
		atOnce, sql = idleAtOnce, workload.IdleQuery
	}
	before, err := cpuOf(t)
	if err != nil {
		return "", err
	}
	within, stop := context.WithTimeout(ctx, connectTimeout)
	defer stop()
	all := load.Connect(within, t.URL, c.clients, atOnce, sql)
	defer all.Close()
	if ctx.Err() != nil {
		return "", ctx.Err()
	}
	after, err := cpuOf(t)
	if err != nil {
		return "", err
	}
	n := f.Connections
	f.Errors.Merge(all.Errors)
	n.refused = append(n.refused, float64(all.Errors.Total()))
	n.seconds = append(n.seconds, all.Elapsed.Seconds())
	for _, p := range percentiles {
		n.connect[p.name] = append(n.connect[p.name], micros(all.Latency.Percentile(p.percent)))
	}
	text := fmt.Sprintf("%d of %d in after %.1f s", len(all.Conns), c.clients, all.Elapsed.Seconds())
	if cpu, known := after[target.Gateway]; known {
		used := (cpu - before[target.Gateway]).Seconds()
		n.cpu = append(n.cpu, used)
		text += fmt.Sprintf(", gateway %.1f s of CPU", used)
	}
	if rest == nil || len(all.Conns) == 0 {
		return text, nil
	}
	first, err := measure.MemoryOf(gatewayOf(t))
	if err != nil {
		return "", err
	}
	rested, err := r.idleMemory(ctx, t)
	if err != nil {
		return "", err
	}
	clients := float64(len(all.Conns))
	n.bytesFirst = append(n.bytesFirst, float64(first.Now-*rest)/clients)
	n.bytes = append(n.bytes, float64(*rested-*rest)/clients)
	return text + fmt.Sprintf(", %s KiB each", kibibytes(n.bytes[len(n.bytes)-1])), nil
}

// summarize makes the spreads of the rounds.
func (n *connections) summarize() {
	n.Refused, n.Seconds = measure.SpreadOf(n.refused), measure.SpreadOf(n.seconds)
	n.ConnectMicros = map[string]measure.Spread{}
	for name, values := range n.connect {
		n.ConnectMicros[name] = measure.SpreadOf(values)
	}
	some := func(values []float64) *measure.Spread {
		if len(values) == 0 {
			return nil
		}
		s := measure.SpreadOf(values)
		return &s
	}
	n.CPUSeconds, n.BytesEach, n.BytesEachFirst = some(n.cpu), some(n.bytes), some(n.bytesFirst)
}

// of is one of the figures; false: it was not measured.
func (n *connections) of(figure workload.Figure) (measure.Spread, bool) {
	value := func(s *measure.Spread) (measure.Spread, bool) {
		if s == nil {
			return measure.Spread{}, false
		}
		return *s, true
	}
	switch figure {
	case workload.Refused:
		return n.Refused, true
	case workload.LoginCPU:
		s, known := value(n.CPUSeconds)
		return measure.Spread{Median: 1e6 * s.Median, Min: 1e6 * s.Min, Max: 1e6 * s.Max}, known
	case workload.ClientMemory:
		return value(n.BytesEach)
	}
	return measure.Spread{}, false
}

// printConnections writes the table of a cell whose clients connect and do little else.
func (c *cellReport) printConnections(w io.Writer) {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprint(t, "\trefused\tall in after s\t\tp50 ms\tmax ms\tgateway s of CPU\tKiB each\tKiB each at first\t\n")
	for _, f := range c.Targets {
		n := f.Connections
		if n == nil {
			continue
		}
		shown := func(s *measure.Spread, format func(float64) string) string {
			if s == nil {
				return "–"
			}
			return format(s.Median)
		}
		fmt.Fprintf(t, "%s\t%.0f\t%s\t%s\t%s\t%s\t%s\t%s\t%s\t\n", f.Target, n.Refused.Max, twoDigits(n.Seconds.Median), bracket(n.Seconds, twoDigits),
			millis(n.ConnectMicros["p50"].Median), millis(n.ConnectMicros["max"].Max), shown(n.CPUSeconds, twoDigits), shown(n.BytesEach, kibibytes), shown(n.BytesEachFirst, kibibytes))
	}
	t.Flush()
	for _, f := range c.Targets {
		for _, line := range f.errorLines() {
			fmt.Fprintf(w, "  FAILED %s\n", line)
		}
	}
	for _, b := range c.Bounds {
		fmt.Fprintf(w, "  bound: %s\n", b)
	}
}

func kibibytes(bytes float64) string { return oneDigit(bytes / (1 << 10)) }
