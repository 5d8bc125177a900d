package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/shardgate/shardgate/bench/load"
	"github.com/shardgate/shardgate/bench/measure"
	"github.com/shardgate/shardgate/bench/target"
	"github.com/shardgate/shardgate/bench/workload"
)

// runner measures a plan.
type runner struct {
	*plan
	progress *progress
	embedded *target.Embedded // nil: none was asked for
	targets  []*target.Target
	stores   []*target.Store
	report   *report
	runs     int // of targets, done and to come
	ran      int
}

// run measures what the options say. The report is of what was measured before an
// error, and nil if that is nothing.
func run(ctx context.Context, o *options, p *progress) (*report, error) {
	plan, err := newPlan(o)
	if err != nil {
		return nil, err
	}
	r := &runner{plan: plan, progress: p}
	defer p.done()
	if err := r.startTargets(ctx); err != nil {
		return nil, err
	}
	if r.embedded != nil {
		defer r.embedded.Stop()
	}
	r.report = newReport(o, r.targets, r.embedded)
	if err := r.loadData(ctx); err != nil {
		return nil, err
	}
	r.runs = len(r.cells) * len(r.targets) * o.Rounds
	for _, c := range r.cells {
		if err := r.cell(ctx, c); err != nil {
			if ctx.Err() != nil {
				err = errors.New("interrupted")
			}
			return r.report, err
		}
	}
	return r.report, nil
}

func (r *runner) startTargets(ctx context.Context) error {
	if r.Embedded {
		r.progress.event("starting %d shards, the gateway and one plain PostgreSQL", r.Shards)
		to := target.Options{Shards: r.Shards, Unsafe: r.Unsafe, PgBouncer: r.WithPgbouncer, Relay: r.WithRelay, Clients: slices.Max(r.Clients)}
		if r.Verbose {
			to.Log = os.Stderr
		}
		var err error
		if r.embedded, err = target.Start(ctx, to); err != nil {
			return err
		}
		r.targets = append(r.targets, r.embedded.Targets...)
	}
	r.targets = append(r.targets, r.foreign...)
	for _, t := range r.targets {
		if !slices.Contains(r.stores, t.Store) {
			r.stores = append(r.stores, t.Store)
		}
	}
	return nil
}

// loadData fills the stores with what the workloads need.
func (r *runner) loadData(ctx context.Context) error {
	loaded := map[string]bool{}
	for _, c := range r.cells {
		data := c.workload.Data
		if loaded[data.Name()] {
			continue
		}
		loaded[data.Name()] = true
		for _, s := range r.stores {
			if !s.Own && !r.Reload {
				there, err := data.Loaded(ctx, s, r.Scale)
				if err != nil {
					return fmt.Errorf("%s: %w", s.Name, err)
				}
				if there {
					continue
				}
			}
			r.progress.event("loading %s, scale %d, into %s", data.Name(), r.Scale, s.Name)
			if err := data.Load(ctx, s, r.Scale); err != nil {
				return fmt.Errorf("loading %s into %s: %w", data.Name(), s.Name, err)
			}
		}
	}
	return nil
}

// contender is a target in one cell.
type contender struct {
	*target.Target
	clients *load.Clients
	figures *figures
}

// cell measures all targets in turn and then checks the data.
func (r *runner) cell(ctx context.Context, c cell) error {
	before, err := r.states(ctx, c)
	if err != nil {
		return err
	}
	result := r.report.add(c)
	var contenders []*contender
	defer func() {
		for _, t := range contenders {
			t.clients.Close()
		}
	}()
	tallies := map[*target.Store]workload.Tally{}
	for _, t := range r.targets {
		f := result.add(t)
		if c.protocol == load.Prepared && t.NoPrepared != "" {
			f.Skipped = t.NoPrepared
			r.ran += r.Rounds
			continue
		}
		cs, err := load.Open(ctx, r.clientOptions(c, t))
		if err != nil {
			return fmt.Errorf("%s: %w", t.Name, err)
		}
		contenders = append(contenders, &contender{t, cs, f})
	}
	measured := r.rounds(ctx, c, contenders, tallies)
	if measured == nil {
		measured = r.profile(ctx, c, contenders, tallies)
	}
	result.summarize()
	// The data are checked also after a run that was broken off.
	checkCtx, stop := context.WithTimeout(context.WithoutCancel(ctx), time.Minute)
	defer stop()
	return errors.Join(measured, r.check(checkCtx, c, before, tallies))
}

func (r *runner) clientOptions(c cell, t *target.Target) load.Options {
	o := load.Options{URL: t.URL, Clients: c.clients, Seed: r.Seed,
		Script: func(int) load.Script { return c.workload.Script(c.protocol, r.Scale) }}
	if c.protocol == load.Prepared {
		o.Prepare = c.workload.Statements
	}
	return o
}

// rounds warms all targets up and measures them in turn, beginning with another one in
// each round.
func (r *runner) rounds(ctx context.Context, c cell, contenders []*contender, tallies map[*target.Store]workload.Tally) error {
	if r.Warmup > 0 {
		for _, t := range contenders {
			r.progress.begin(fmt.Sprintf("[%d/%d] %s: %s warms up", r.ran, r.runs, c, t.Name), r.Warmup, t.clients.Committed)
			res, err := t.clients.Run(ctx, r.Warmup)
			r.progress.end("")
			if err != nil {
				return err
			}
			tallies[t.Store] = tallies[t.Store].Add(res)
			t.figures.warmedUp(res)
		}
	}
	for round := range r.Rounds {
		for i := range contenders {
			t := contenders[(round+i)%len(contenders)]
			r.ran++
			label := fmt.Sprintf("[%d/%d] %s: %s, round %d", r.ran, r.runs, c, t.Name, round+1)
			r.progress.begin(label, r.Duration, t.clients.Committed)
			m, err := r.measure(ctx, t)
			if err != nil {
				r.progress.end("")
				return err
			}
			r.progress.end(fmt.Sprintf("%s: %s", label, m))
			tallies[t.Store] = tallies[t.Store].Add(m.result)
			// A round that was broken off is no figure.
			if ctx.Err() != nil {
				return ctx.Err()
			}
			t.figures.Rounds = append(t.figures.Rounds, m)
		}
	}
	return nil
}

// measure runs one round of one target. All transactions that were sent are answered at
// its end, so CPU time and transactions are of the same work.
func (r *runner) measure(ctx context.Context, t *contender) (*round, error) {
	before, err := cpuOf(t.Target)
	if err != nil {
		return nil, err
	}
	res, err := t.clients.Run(ctx, r.Duration)
	if err != nil {
		return nil, err
	}
	after, err := cpuOf(t.Target)
	if err != nil {
		return nil, err
	}
	return newRound(res, before, after), nil
}

// client is the role of the benchmark itself.
const client target.Role = "client"

// cpuOf is what the parts of a target and the benchmark itself have used, by role.
// Where the system can't tell, the role is missing.
func cpuOf(t *target.Target) (map[target.Role]time.Duration, error) {
	used := map[target.Role]time.Duration{}
	for _, p := range t.Parts {
		d, err := p.CPU.Used()
		if errors.Is(err, measure.ErrNoCPU) {
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("%s of %s: %w", p.Name, t.Name, err)
		}
		used[p.Role] += d
	}
	self, err := measure.Self()
	if err != nil {
		return nil, err
	}
	used[client] = self
	return used, nil
}

// profile runs a round more of the targets whose gateway can be profiled.
func (r *runner) profile(ctx context.Context, c cell, contenders []*contender, tallies map[*target.Store]workload.Tally) error {
	if r.options.Profile == "" {
		return nil
	}
	if err := os.MkdirAll(r.options.Profile, 0o755); err != nil {
		return err
	}
	for _, t := range contenders {
		if !t.Profiled {
			continue
		}
		file := filepath.Join(r.options.Profile, fmt.Sprintf("%s-%s-%d.pprof", c.workload.Name, c.protocol, c.clients))
		if err := r.embedded.Profile(ctx, file); err != nil {
			return fmt.Errorf("profiling the gateway: %w", err)
		}
		r.progress.begin(fmt.Sprintf("%s: profiling %s", c, t.Name), r.Duration, t.clients.Committed)
		res, err := t.clients.Run(ctx, r.Duration)
		r.progress.end("")
		if err := errors.Join(err, r.embedded.StopProfile(ctx)); err != nil {
			return fmt.Errorf("profiling the gateway: %w", err)
		}
		tallies[t.Store] = tallies[t.Store].Add(res)
		r.progress.event("profile: go tool pprof -top %s", file)
	}
	return nil
}

// states reads what the invariants are about. A store that can't be asked has none.
func (r *runner) states(ctx context.Context, c cell) (map[*target.Store]workload.State, error) {
	states := map[*target.Store]workload.State{}
	for _, s := range r.stores {
		state, err := c.workload.Data.State(ctx, s)
		switch {
		case errors.Is(err, workload.ErrUnchecked):
			r.report.unchecked(s, err)
		case err != nil:
			return nil, fmt.Errorf("the invariants of %s: %w", s.Name, err)
		default:
			states[s] = state
		}
	}
	return states, nil
}

func (r *runner) check(ctx context.Context, c cell, before map[*target.Store]workload.State, tallies map[*target.Store]workload.Tally) error {
	after, err := r.states(ctx, c)
	if err != nil {
		return err
	}
	for _, s := range r.stores {
		if before[s] == nil || after[s] == nil {
			continue
		}
		for _, wrong := range before[s].Check(after[s], map[string]workload.Tally{c.workload.Name: tallies[s]}) {
			r.report.violation(c, s, wrong)
			r.progress.event("%s: %s: INVARIANT FAILED: %v", c, s.Name, wrong)
		}
	}
	return nil
}
