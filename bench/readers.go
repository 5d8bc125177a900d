package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/shardgate/shardgate/bench/load"
	"github.com/shardgate/shardgate/bench/measure"
	"github.com/shardgate/shardgate/bench/target"
	"github.com/shardgate/shardgate/bench/workload"
)

// readers are the clients that do something else beside those of a workload, at one
// target. Their figures are in a line of their own.
type readers struct {
	clients *load.Clients
	figures *figures
	last    *load.Result // of the last run
}

// openReaders connects the readers of a cell; nil: it has none.
func (r *runner) openReaders(ctx context.Context, c cell, t *target.Target, result *cellReport) (*readers, error) {
	if c.readers == 0 {
		return nil, nil
	}
	setup, err := r.setup(ctx, c, t)
	if err != nil {
		return nil, err
	}
	w := c.workload.Readers
	o := load.Options{URL: t.URL, Clients: c.readers, Seed: r.Seed + 1, Session: c.workload.Session,
		Script: func(n int) load.Script { return w.Script(setup(n)) }}
	if c.protocol.NeedsPrepare() {
		o.Prepare = w.Statements
		if t.PreparedURL != "" {
			o.URL = t.PreparedURL
		}
	}
	cs, err := load.Open(ctx, o)
	if err != nil {
		return nil, err
	}
	f := result.add(&target.Target{Name: t.Name + readersOf})
	return &readers{clients: cs, figures: f}, nil
}

// readersOf follows the name of a target in the line of its readers.
const readersOf = " readers"

// run lets the clients of a target work, and its readers beside them. CPU time can't be
// told apart between the two, so it is all counted as the clients'.
func (t *contender) run(ctx context.Context, d time.Duration) (*load.Result, error) {
	if t.readers == nil {
		return t.clients.Run(ctx, d)
	}
	var errReaders error
	var wait sync.WaitGroup
	wait.Go(func() { t.readers.last, errReaders = t.readers.clients.Run(ctx, d) })
	res, err := t.clients.Run(ctx, d)
	wait.Wait()
	return res, errors.Join(err, errReaders)
}

func (r *readers) close() {
	if r != nil {
		r.clients.Close()
	}
}

// add counts the last run as a round.
func (r *readers) add() {
	if r != nil {
		r.figures.Rounds = append(r.figures.Rounds, newRound(r.last, nil, nil))
	}
}

// placedKey is what the placement of keys depends on.
type placedKey struct {
	data  string
	store *target.Store
}

// setup makes what the clients' scripts are made for.
func (r *runner) setup(ctx context.Context, c cell, t *target.Target) (func(client int) workload.Setup, error) {
	s := workload.Setup{Protocol: c.protocol, Batch: r.Pipeline, Size: r.size(), Keys: r.keys, HotShare: r.HotShare, Seed: r.Seed}
	s.Violation = func(err error) {
		r.violating.Lock()
		defer r.violating.Unlock()
		r.report.violation(c, t.Name, err)
		r.progress.event("%s: %s: INVARIANT FAILED: %v", c, t.Name, err)
	}
	if c.workload.Placed || r.keys == workload.HotShard {
		var err error
		if s.Placement, err = r.placement(ctx, c.workload.Data, t.Store); err != nil {
			return nil, fmt.Errorf("where the keys of %s are: %w", t.Name, err)
		}
	}
	return func(client int) workload.Setup {
		s := s
		s.Client = client
		return s
	}, nil
}

// placement asks the servers once.
func (r *runner) placement(ctx context.Context, d *workload.Data, s *target.Store) (*workload.Placement, error) {
	key := placedKey{d.Name, s}
	if p, known := r.placed[key]; known {
		return p, nil
	}
	p, err := workload.PlacementOf(ctx, d, s, r.size())
	if err == nil {
		r.placed[key] = p
	}
	return p, err
}

// How an fsync is timed: as pg_test_fsync does, a page is written at the beginning of a
// file and the file is synchronised, again and again.
const (
	fsyncBytes = 8 << 10
	fsyncTimes = 50
	fsyncMost  = time.Second // for all of them
)

// fsyncTime is how long that takes where the benchmark's own servers have their data; nil:
// there are none, or the workload does not wait for it.
func (r *runner) fsyncTime(c cell) (*measure.Spread, error) {
	if r.embedded == nil || !c.workload.Fsync {
		return nil, nil
	}
	f, err := os.CreateTemp(r.embedded.Dir, "fsync-")
	if err != nil {
		return nil, err
	}
	defer os.Remove(f.Name())
	defer f.Close()
	page := make([]byte, fsyncBytes)
	var took []float64
	for began := time.Now(); len(took) < fsyncTimes && time.Since(began) < fsyncMost; {
		from := time.Now()
		if _, err := f.WriteAt(page, 0); err != nil {
			return nil, err
		}
		if err := f.Sync(); err != nil {
			return nil, err
		}
		took = append(took, micros(time.Since(from)))
	}
	s := measure.SpreadOf(took)
	return &s, nil
}

// fsynced writes how long an fsync takes.
func (c *cellReport) fsynced(w io.Writer) {
	if s := c.FsyncMicros; s != nil {
		text := fmt.Sprintf("to write and fsync 8 KiB on the servers' disk takes %s ms %s", millis(s.Median), bracket(*s, millis))
		for _, f := range c.Targets {
			if p50, ok := f.LatencyMicros["p50"]; ok && f.measured() && !strings.HasSuffix(f.Target, readersOf) {
				text += fmt.Sprintf("; the median latency of %s is %s times that", f.Target, oneDigit(p50.Median/s.Median))
			}
		}
		fmt.Fprintf(w, "  %s\n", text)
	}
}
