package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"sync"
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
	placed   map[placedKey]*workload.Placement
	// tallies are what the transactions of the cell under way have done.
	tallies map[*target.Store]workload.Tally
	// violating is held where clients that run add to the report's violations.
	violating sync.Mutex
	runs      int // of targets, done and to come
	ran       int
}

// run measures what the options say. The report is of what was measured before an
// error, and nil if that is nothing.
func run(ctx context.Context, o *options, p *progress) (*report, error) {
	plan, err := newPlan(o)
	if err != nil {
		return nil, err
	}
	r := &runner{plan: plan, progress: p, placed: map[placedKey]*workload.Placement{}, tallies: map[*target.Store]workload.Tally{}}
	defer p.done()
	if err := r.checkAhead(ctx); err != nil {
		return nil, err
	}
	if err := r.startTargets(ctx); err != nil {
		return nil, orInterrupted(ctx, err)
	}
	if r.embedded != nil {
		defer r.embedded.Stop()
	}
	r.report = newReport(o, r.targets, r.embedded)
	for _, t := range r.foreign {
		r.report.Environment.ask(ctx, t)
	}
	if err := r.loadData(ctx); err != nil {
		return nil, orInterrupted(ctx, err)
	}
	for _, c := range r.cells {
		r.runs += len(r.contending(c)) * o.Rounds
	}
	for _, c := range r.cells {
		if err := r.cell(ctx, c); err != nil {
			if err = orInterrupted(ctx, err); r.embedded != nil && ctx.Err() == nil {
				err = errors.Join(err, r.embedded.Ended())
			}
			if !r.report.measured() && !r.report.failed() {
				return nil, err
			}
			r.report.Incomplete = err.Error()
			return r.report, err
		}
	}
	return r.report, nil
}

// orInterrupted is the error of what was interrupted, or else err.
func orInterrupted(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return errors.New("interrupted")
	}
	return err
}

func (r *runner) startTargets(ctx context.Context) error {
	if r.Embedded {
		r.progress.event("starting %d shards, the gateway and one plain PostgreSQL", r.Shards)
		to := target.Options{Shards: r.Shards, Unsafe: r.Unsafe, PgBouncer: r.WithPgbouncer, Relay: r.WithRelay, Clients: r.mostClients(), Connections: r.mostConnections(),
			Tables: string(workload.Rules())}
		if r.Verbose {
			to.Log = os.Stderr
		}
		var err error
		if r.embedded, err = target.Start(ctx, to); err != nil {
			return err
		}
		r.targets = append(r.targets, r.embedded.Targets...)
		if slices.ContainsFunc(r.cells, func(c cell) bool { return c.workload.Direct != nil }) {
			r.targets = append(r.targets, r.embedded.Direct())
		}
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
		if loaded[data.Name] {
			continue
		}
		loaded[data.Name] = true
		for _, s := range r.stores {
			if !s.Own && !r.Reload {
				there, err := data.Loaded(ctx, s, r.size())
				if err != nil {
					return fmt.Errorf("%s: %w", s.Name, err)
				}
				if there {
					continue
				}
			}
			r.progress.event("loading %s, scale %d, into %s", data.Name, r.Scale, s.Name)
			if err := data.Load(ctx, s, r.size()); err != nil {
				return fmt.Errorf("loading %s into %s: %w", data.Name, s.Name, err)
			}
		}
	}
	return nil
}

// contending are the targets that a cell is about.
func (r *runner) contending(c cell) []*target.Target {
	return slices.DeleteFunc(slices.Clone(r.targets), func(t *target.Target) bool {
		if c.workload.Connecting != 0 && t.Store.Own {
			return t.Name != target.Shardgate // neither PostgreSQL nor what is before it is made for as many
		}
		return t.Name == target.Direct && c.workload.Direct == nil
	})
}

// mostClients is how many of them run statements at once, at most, and mostConnections how
// many are connected.
func (p *plan) mostClients() (most int) {
	for _, c := range p.cells {
		if c.workload.Connecting == 0 {
			most = max(most, c.clients+c.readers)
		}
	}
	return most
}

func (p *plan) mostConnections() (most int) {
	for _, c := range p.cells {
		most = max(most, c.clients+c.readers)
	}
	return most
}

// contender is a target in one cell.
type contender struct {
	*target.Target
	clients *load.Clients
	figures *figures
	readers *readers // nil: there are none
	idle    *int64   // the gateway's resident memory before any client came; nil: not watched
}

// cell measures a cell and then checks the data.
func (r *runner) cell(ctx context.Context, c cell) error {
	before, err := r.states(ctx, c)
	if err != nil {
		return err
	}
	clear(r.tallies)
	result := r.report.add(c)
	measured := r.measured(ctx, c, result)
	result.summarize()
	checking, stop := ctx, func() {}
	if ctx.Err() != nil {
		// The data are checked also after a run that was broken off, unless that takes long.
		checking, stop = context.WithTimeout(context.WithoutCancel(ctx), time.Minute)
	}
	defer stop()
	err = r.check(checking, c, before)
	if measured == nil && err == nil && c.workload.Verify != nil {
		err = r.verify(ctx, c)
	}
	return errors.Join(measured, err)
}

// measured measures all targets of a cell in turn.
func (r *runner) measured(ctx context.Context, c cell, result *cellReport) error {
	if c.workload.Connecting != 0 {
		return r.connecting(ctx, c, result)
	}
	var contenders []*contender
	defer func() {
		for _, t := range contenders {
			t.clients.Close()
			t.readers.close()
		}
	}()
	for _, t := range r.contending(c) {
		f := result.add(t)
		if c.protocol.NeedsPrepare() {
			f.Note = t.PreparedNote
		}
		idle, err := r.idleMemory(ctx, t)
		if err != nil {
			return err
		}
		f.IdleBytes = idle
		o, err := r.clientOptions(ctx, c, t)
		if err != nil {
			return err
		}
		cs, err := load.Open(ctx, o)
		if err != nil {
			return fmt.Errorf("%s: %w", t.Name, err)
		}
		now := &contender{Target: t, clients: cs, figures: f, idle: idle}
		contenders = append(contenders, now)
		if now.readers, err = r.openReaders(ctx, c, t, result); err != nil {
			return fmt.Errorf("%s: %w", t.Name, err)
		}
	}
	var err error
	if result.FsyncMicros, err = r.fsyncTime(c); err != nil {
		return err
	}
	if err := r.rounds(ctx, c, contenders); err != nil {
		return err
	}
	return r.profile(ctx, c, contenders)
}

func (r *runner) clientOptions(ctx context.Context, c cell, t *target.Target) (load.Options, error) {
	setup, err := r.setup(ctx, c, t)
	if err != nil {
		return load.Options{}, err
	}
	o := load.Options{URL: t.URL, Clients: c.clients, Rate: c.rate, Seed: r.Seed, Session: c.workload.Session,
		Script: func(n int) load.Script { return c.workload.Script(setup(n)) }}
	statements := c.workload.Statements
	if t.Name == target.Direct {
		o.Beside, statements = t.Beside, []*load.Statement{c.workload.Direct}
		o.Script = func(int) load.Script { return c.workload.DirectScript(c.protocol) }
	}
	if c.protocol.NeedsPrepare() {
		o.Prepare = statements
		if t.PreparedURL != "" {
			o.URL = t.PreparedURL
		}
	}
	return o, nil
}

// rounds warms all targets up and measures them in turn, beginning with another one in
// each round.
func (r *runner) rounds(ctx context.Context, c cell, contenders []*contender) error {
	if r.Warmup > 0 {
		for _, t := range contenders {
			r.progress.begin(fmt.Sprintf("[%d/%d] %s: %s warms up", r.ran, r.runs, c, t.Name), r.Warmup, t.clients.Committed)
			_, err := r.work(ctx, t, r.Warmup)
			r.progress.end("")
			if err != nil {
				return err
			}
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
			// A round that was broken off is no figure.
			if ctx.Err() != nil {
				return ctx.Err()
			}
			t.figures.Rounds = append(t.figures.Rounds, m)
			t.readers.add()
		}
	}
	return nil
}

// work lets the clients of a target work for a while. What they did and what failed counts
// for the invariants and in the report, whatever becomes of the figures.
func (r *runner) work(ctx context.Context, t *contender, d time.Duration) (*load.Result, error) {
	res, err := t.run(ctx, d)
	r.tallies[t.Store] = r.tallies[t.Store].Add(res)
	t.figures.Errors.Merge(res.Errors)
	if t.readers != nil {
		t.readers.figures.Errors.Merge(t.readers.last.Errors)
	}
	return res, err
}

// measure runs one round of one target. All transactions that were sent are answered at
// its end, so CPU time and transactions are of the same work.
func (r *runner) measure(ctx context.Context, t *contender) (*round, error) {
	heap, err := beginHeap(ctx, t.Target)
	if err != nil {
		return nil, err
	}
	watched := t.idle != nil && measure.ResetPeak(gatewayOf(t.Target)) == nil // which may not be allowed
	before, err := cpuOf(t.Target)
	if err != nil {
		return nil, err
	}
	res, err := r.work(ctx, t, r.Duration)
	if err != nil {
		return nil, err
	}
	after, err := cpuOf(t.Target)
	if err != nil {
		return nil, err
	}
	m := newRound(res, before, after)
	if watched {
		peak, err := measure.MemoryOf(gatewayOf(t.Target))
		if err != nil {
			return nil, err
		}
		above := float64(max(0, peak.Peak-*t.idle))
		m.PeakBytes = &above
	}
	if ctx.Err() == nil {
		m.Allocated, err = heap.perTransaction(ctx, m.Committed+m.Failed)
	}
	return m, err
}

// heapWatch takes what a gateway allocates in a round.
type heapWatch struct {
	url    string
	before measure.Heap
	own    measure.Heap // what looking once allocates
}

// beginHeap looks several times, to know what looking costs; the first time it costs
// more. It returns nil for a target whose metrics are not known.
func beginHeap(ctx context.Context, t *target.Target) (*heapWatch, error) {
	if t.Metrics == "" {
		return nil, nil
	}
	w := &heapWatch{url: t.Metrics}
	for range 3 {
		h, err := measure.HeapOf(ctx, w.url)
		if err != nil {
			return nil, fmt.Errorf("the metrics of %s: %w", t.Name, err)
		}
		w.before, w.own = h, h.Sub(w.before)
	}
	return w, nil
}

// perTransaction is what was allocated since then for each of n transactions.
func (w *heapWatch) perTransaction(ctx context.Context, n int64) (*allocated, error) {
	if w == nil || n == 0 {
		return nil, nil
	}
	after, err := measure.HeapOf(ctx, w.url)
	if err != nil {
		return nil, fmt.Errorf("the metrics after the round: %w", err)
	}
	d := after.Sub(w.before).Sub(w.own)
	return &allocated{Bytes: max(0, d.Bytes) / float64(n), Objects: max(0, d.Objects) / float64(n)}, nil
}

// idleMemory is the resident memory of a target's gateway at rest; nil where it has none
// or the system can't tell.
func (r *runner) idleMemory(ctx context.Context, t *target.Target) (*int64, error) {
	if t.Name == target.Shardgate && r.embedded != nil {
		if err := r.embedded.Rest(ctx); err != nil {
			return nil, err
		}
	}
	pid := gatewayOf(t)
	if pid == 0 {
		return nil, nil
	}
	m, err := measure.MemoryOf(pid)
	if errors.Is(err, measure.ErrNoCPU) {
		return nil, nil
	}
	return &m.Now, err
}

// gatewayOf is the process of a target's gateway; 0: it has none that is known.
func gatewayOf(t *target.Target) int {
	for _, p := range t.Parts {
		if p.Role == target.Gateway {
			return p.CPU.PID
		}
	}
	return 0
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
func (r *runner) profile(ctx context.Context, c cell, contenders []*contender) error {
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
		file := filepath.Join(r.options.Profile, c.fileName()+".pprof")
		if err := r.embedded.Profile(ctx, file); err != nil {
			return fmt.Errorf("profiling the gateway: %w", err)
		}
		r.progress.begin(fmt.Sprintf("%s: profiling %s", c, t.Name), r.Duration, t.clients.Committed)
		_, err := r.work(ctx, t, r.Duration)
		r.progress.end("")
		if err := errors.Join(err, r.embedded.StopProfile(ctx)); err != nil {
			return fmt.Errorf("profiling the gateway: %w", err)
		}
		r.progress.event("profile: go tool pprof -top %s", file)
	}
	return nil
}

// states reads what the invariants are about. A store that can't be asked has none.
func (r *runner) states(ctx context.Context, c cell) (map[*target.Store]*workload.State, error) {
	states := map[*target.Store]*workload.State{}
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

func (r *runner) check(ctx context.Context, c cell, before map[*target.Store]*workload.State) error {
	after, err := r.states(ctx, c)
	if err != nil {
		r.report.unasked(c)
		return err
	}
	for _, s := range r.stores {
		if before[s] == nil || after[s] == nil {
			continue
		}
		for _, wrong := range before[s].Check(after[s], map[string]workload.Tally{c.workload.Name: r.tallies[s]}) {
			r.report.violation(c, s.Name, wrong)
			r.progress.event("%s: %s: INVARIANT FAILED: %v", c, s.Name, wrong)
		}
	}
	return nil
}

// verify compares each target's answer with what its servers hold.
func (r *runner) verify(ctx context.Context, c cell) error {
	for _, t := range r.contending(c) {
		if t.Name == target.Direct {
			continue // what it reads are parts of an answer
		}
		err := c.workload.Verify(ctx, t, r.size())
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if err != nil {
			r.report.violation(c, t.Name, err)
			r.progress.event("%s: %s: INVARIANT FAILED: %v", c, t.Name, err)
		}
	}
	return nil
}
