package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"time"

	"github.com/shardgate/shardgate/bench/load"
	"github.com/shardgate/shardgate/bench/measure"
	"github.com/shardgate/shardgate/bench/target"
	"github.com/shardgate/shardgate/bench/workload"
)

// connected is what a round has besides where clients connect and do little else; one that
// gets in counts as a transaction.
type connected struct {
	AllInSeconds float64  `json:"all_in_seconds"`
	CPUSeconds   *float64 `json:"cpu_seconds,omitempty"` // of the gateway until then; nil: not known
	// By how much the gateway's resident memory rose, for each client: before it has given
	// back what it does not need, and after; nil: not measured.
	BytesFirst *float64 `json:"client_bytes_first,omitempty"`
	BytesEach  *float64 `json:"client_bytes,omitempty"`
}

func (m *round) allIn() (float64, bool) {
	if m.Connected == nil {
		return 0, false
	}
	return m.Connected.AllInSeconds, true
}

func (m *round) loginCPU() (float64, bool) {
	if m.Connected == nil {
		return 0, false
	}
	return known(m.Connected.CPUSeconds)
}

func (m *round) clientMemoryFirst() (float64, bool) {
	if m.Connected == nil {
		return 0, false
	}
	return known(m.Connected.BytesFirst)
}

func (m *round) clientMemory() (float64, bool) {
	if m.Connected == nil {
		return 0, false
	}
	return known(m.Connected.BytesEach)
}

const (
	// idleAtOnce is how many clients connect at a time where it does not matter how fast.
	idleAtOnce = 32
	// connectTimeout bounds how long all of them may take.
	connectTimeout = 5 * time.Minute
)

// connecting measures a cell whose clients connect and do little else.
func (r *runner) connecting(ctx context.Context, c cell, result *cellReport) error {
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
	if c.workload.Connecting == workload.Idle {
		// Once: later, the gateway may hold memory in which the next clients find room.
		var err error
		if f.IdleBytes, err = r.idleMemory(ctx, t); err != nil {
			return err
		}
	}
	for round := range r.Rounds {
		r.ran++
		m, err := r.connectOnce(ctx, c, t, f)
		if err != nil {
			return err
		}
		f.Rounds = append(f.Rounds, m)
		text := fmt.Sprintf("%s of %s in after %.1f s", thousands(float64(m.Committed)), thousands(float64(c.clients)), m.Connected.AllInSeconds)
		if cpu, known := m.loginCPU(); known {
			text += fmt.Sprintf(", gateway %.1f s of CPU", cpu)
		}
		if each, known := m.clientMemory(); known {
			text += fmt.Sprintf(", %s KiB each", kibibytes(each))
		}
		r.progress.event("[%d/%d] %s: %s, round %d: %s", r.ran, r.runs, c, t.Name, round+1, text)
	}
	return nil
}

// connectOnce lets all clients connect, and closes them.
func (r *runner) connectOnce(ctx context.Context, c cell, t *target.Target, f *figures) (*round, error) {
	atOnce, sql := c.clients, ""
	if c.workload.Connecting == workload.Idle {
		atOnce, sql = idleAtOnce, workload.IdleQuery
	}
	before, err := cpuOf(t)
	if err != nil {
		return nil, err
	}
	within, stop := context.WithTimeout(ctx, connectTimeout)
	defer stop()
	all := load.Connect(within, t.URL, c.clients, atOnce, sql)
	defer all.Close()
	if ctx.Err() != nil {
		return nil, ctx.Err()
	}
	f.Errors.Merge(all.Errors)
	after, err := cpuOf(t)
	if err != nil {
		return nil, err
	}
	m := newRound(all.Result(), before, after)
	m.Connected = &connected{AllInSeconds: all.Elapsed.Seconds()}
	if cpu, known := after[target.Gateway]; known {
		used := (cpu - before[target.Gateway]).Seconds()
		m.Connected.CPUSeconds = &used
	}
	if f.IdleBytes == nil || len(all.Conns) == 0 {
		return m, nil
	}
	first, err := measure.MemoryOf(gatewayOf(t))
	if err != nil {
		return nil, err
	}
	rested, err := r.idleMemory(ctx, t)
	if err != nil {
		return nil, err
	}
	each := func(bytes int64) *float64 {
		share := float64(bytes-*f.IdleBytes) / float64(len(all.Conns))
		return &share
	}
	m.Connected.BytesFirst, m.Connected.BytesEach = each(first.Now), each(*rested)
	return m, nil
}
