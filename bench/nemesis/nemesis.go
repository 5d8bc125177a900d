// Package nemesis breaks a cluster and heals it again: it kills, pauses and restarts
// gateways and shards, and cuts the links between them.
//
// It makes no load and judges nothing.
//
// The governing idea: what is broken, when and for how long is drawn from a seed before
// anything begins, and whatever was broken is whole when Run returns.
package nemesis

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/shardgate/shardgate/bench/history"
	"github.com/shardgate/shardgate/bench/link"
	"github.com/shardgate/shardgate/bench/target"
	"github.com/shardgate/shardgate/gateway/dev"
)

// Fault is one way to break something.
type Fault string

const (
	KillGateway  Fault = "kill-gateway"  // SIGKILL, and a new one after a while
	PauseGateway Fault = "pause-gateway" // SIGSTOP, SIGCONT
	KillShard    Fault = "kill-shard"    // SIGKILL of the server with all its processes
	CrashShard   Fault = "crash-shard"   // an immediate shutdown
	PauseShard   Fault = "pause-shard"   // SIGSTOP of the server with all its processes
	PauseBackend Fault = "pause-backend" // SIGSTOP of one that works for a gateway
	KillBackend  Fault = "kill-backend"  // SIGKILL of one, at which the server crashes and recovers
	EndBackends  Fault = "end-backends"  // SIGTERM to all that work for gateways
	CutLink      Fault = "cut"           // the faults of package link
	StallLink    Fault = "stall"
	MuteLink     Fault = "mute" // and then what was held back is lost
	DeafLink     Fault = "deaf"
	SlowLink     Fault = "slow"
)

// breaking is what package nemesis knows of each.
var breaking = []struct {
	fault   Fault
	longest time.Duration // until it is healed
	do      func(n *nemesis, ctx context.Context, e Event) error
}{
	{KillGateway, 2 * time.Second, (*nemesis).killGateway},
	// Longer than a prepared transaction is left to its coordinator.
	{PauseGateway, 6 * time.Second, (*nemesis).pauseGateway},
	{KillShard, 2 * time.Second, (*nemesis).killShard},
	{CrashShard, 2 * time.Second, (*nemesis).killShard},
	{PauseShard, 5 * time.Second, (*nemesis).pauseShard},
	{PauseBackend, 5 * time.Second, (*nemesis).backend},
	{KillBackend, 0, (*nemesis).backend},
	{EndBackends, 0, (*nemesis).backend},
	{CutLink, 4 * time.Second, (*nemesis).breakLink},
	{StallLink, 5 * time.Second, (*nemesis).breakLink},
	{MuteLink, 4 * time.Second, (*nemesis).breakLink},
	{DeafLink, 4 * time.Second, (*nemesis).breakLink},
	{SlowLink, 4 * time.Second, (*nemesis).breakLink},
}

// Names are those of all faults.
func Names() (list []string) {
	for _, b := range breaking {
		list = append(list, string(b.fault))
	}
	return list
}

// ByName checks names of faults. "all" stands for all, and a prefix for what begins with
// it: pause, kill.
func ByName(names []string) (list []Fault, err error) {
	for _, name := range names {
		found := false
		for _, b := range breaking {
			if name == "all" || string(b.fault) == name || strings.HasPrefix(string(b.fault), name+"-") {
				found = true
				if !slices.Contains(list, b.fault) {
					list = append(list, b.fault)
				}
			}
		}
		if !found {
			return nil, fmt.Errorf("no fault %q; there are %s", name, strings.Join(Names(), ", "))
		}
	}
	return list, nil
}

// Event is a fault at a time.
type Event struct {
	Fault   Fault
	At      time.Duration // from the beginning
	For     time.Duration // until it is healed
	Gateway int
	Shard   int
	Both    bool // a link's fault is on those of all gateways
}

func (e Event) String() string {
	switch {
	case strings.HasSuffix(string(e.Fault), "-gateway"):
		return fmt.Sprintf("%s %d for %v", e.Fault, e.Gateway+1, e.For)
	case strings.Contains(string(e.Fault), "-"):
		return fmt.Sprintf("%s s%d for %v", e.Fault, e.Shard+1, e.For)
	case e.Both:
		return fmt.Sprintf("%s all gateways from s%d for %v", e.Fault, e.Shard+1, e.For)
	}
	return fmt.Sprintf("%s gateway %d from s%d for %v", e.Fault, e.Gateway+1, e.Shard+1, e.For)
}

// Plan draws what happens within a time. Faults may overlap.
func Plan(seed uint64, d time.Duration, faults []Fault, gateways, shards int) (events []Event) {
	if len(faults) == 0 {
		return nil
	}
	r := rand.New(rand.NewPCG(seed, 0xfa017))
	upTo := func(most time.Duration) time.Duration {
		return time.Duration(r.Int64N(int64(most)/int64(time.Millisecond)+1)) * time.Millisecond
	}
	for at := 500*time.Millisecond + upTo(time.Second); at < d; at += 500*time.Millisecond + upTo(3*time.Second) {
		e := Event{Fault: faults[r.IntN(len(faults))], At: at, Gateway: r.IntN(gateways), Shard: r.IntN(shards), Both: r.IntN(3) == 0}
		for _, b := range breaking {
			if b.fault == e.Fault && b.longest > 0 {
				e.For = 100*time.Millisecond + upTo(b.longest)
			}
		}
		events = append(events, e)
	}
	return events
}

// nemesis is one run over a cluster. A mutex is held while its part is broken; what is
// to be broken a second time at once is left.
type nemesis struct {
	*target.Cluster
	gateways []sync.Mutex
	shards   []sync.Mutex
	links    [][]sync.Mutex
}

// Run breaks the cluster as planned and returns what it did, when everything is healed;
// which is soon when ctx ends. now is the time for the record. The error says what could
// not be healed.
func Run(ctx context.Context, c *target.Cluster, events []Event, now func() time.Duration, log func(format string, args ...any)) ([]history.Fault, error) {
	n := &nemesis{Cluster: c, gateways: make([]sync.Mutex, len(c.Gateways)), shards: make([]sync.Mutex, len(c.Servers))}
	for range c.Gateways {
		n.links = append(n.links, make([]sync.Mutex, len(c.Servers)))
	}
	began := time.Now()
	var mu sync.Mutex
	var done []history.Fault
	var errs []error
	var wait sync.WaitGroup
	for _, e := range events {
		if !sleep(ctx, e.At-time.Since(began)) {
			break
		}
		wait.Go(func() {
			start := now()
			err := breakWith(n, ctx, e)
			mu.Lock()
			defer mu.Unlock()
			if errors.Is(err, errBusy) {
				return
			}
			log("%s", e)
			done = append(done, history.Fault{What: e.String(), Start: start, End: now()})
			if err != nil {
				errs = append(errs, fmt.Errorf("%s: %w", e, err))
			}
		})
	}
	wait.Wait()
	slices.SortFunc(done, func(a, b history.Fault) int { return int(a.Start - b.Start) })
	return done, errors.Join(errs...)
}

func breakWith(n *nemesis, ctx context.Context, e Event) error {
	for _, b := range breaking {
		if b.fault == e.Fault {
			return b.do(n, ctx, e)
		}
	}
	return fmt.Errorf("no fault %q", e.Fault)
}

// errBusy: what is to be broken is broken already.
var errBusy = errors.New("broken already")

// sleep returns false if ctx ends first.
func sleep(ctx context.Context, d time.Duration) bool {
	select {
	case <-ctx.Done():
		return false
	case <-time.After(d):
		return true
	}
}

// healTimeout bounds what heals a fault.
const healTimeout = 2 * time.Minute

// healing is for what has to be done although ctx may have ended.
func healing(ctx context.Context) (context.Context, context.CancelFunc) {
	return context.WithTimeout(context.WithoutCancel(ctx), healTimeout)
}

func (n *nemesis) killGateway(ctx context.Context, e Event) error {
	if !n.gateways[e.Gateway].TryLock() {
		return errBusy
	}
	defer n.gateways[e.Gateway].Unlock()
	g := n.Gateways[e.Gateway]
	g.Kill()
	sleep(ctx, e.For)
	heal, stop := healing(ctx)
	defer stop()
	return g.Start(heal)
}

func (n *nemesis) pauseGateway(ctx context.Context, e Event) error {
	if !n.gateways[e.Gateway].TryLock() {
		return errBusy
	}
	defer n.gateways[e.Gateway].Unlock()
	g := n.Gateways[e.Gateway]
	if err := g.Signal(syscall.SIGSTOP); err != nil {
		return err
	}
	sleep(ctx, e.For)
	return g.Signal(syscall.SIGCONT)
}

func (n *nemesis) killShard(ctx context.Context, e Event) error {
	if !n.shards[e.Shard].TryLock() {
		return errBusy
	}
	defer n.shards[e.Shard].Unlock()
	s := n.Servers[e.Shard]
	heal, stop := healing(ctx)
	defer stop()
	end := s.Kill
	if e.Fault == CrashShard {
		end = func() error { return s.StopImmediate(heal) }
	}
	if err := end(); err != nil {
		return err
	}
	sleep(ctx, e.For)
	return s.Restart(heal)
}

func (n *nemesis) pauseShard(ctx context.Context, e Event) error {
	if !n.shards[e.Shard].TryLock() {
		return errBusy
	}
	defer n.shards[e.Shard].Unlock()
	s := n.Servers[e.Shard]
	if err := s.Pause(); err != nil {
		return err
	}
	sleep(ctx, e.For)
	return s.Resume()
}

// backend does something to processes of a server that work for gateways.
func (n *nemesis) backend(ctx context.Context, e Event) error {
	if !n.shards[e.Shard].TryLock() {
		return errBusy
	}
	defer n.shards[e.Shard].Unlock()
	pids, err := n.backends(ctx, e.Shard)
	if err != nil || len(pids) == 0 {
		return errBusy // by another fault
	}
	switch e.Fault {
	case KillBackend:
		return gone(syscall.Kill(pids[0], syscall.SIGKILL))
	case EndBackends:
		for _, pid := range pids {
			err = errors.Join(err, gone(syscall.Kill(pid, syscall.SIGTERM)))
		}
		return err
	}
	if err := gone(syscall.Kill(pids[0], syscall.SIGSTOP)); err != nil {
		return err
	}
	sleep(ctx, e.For)
	return gone(syscall.Kill(pids[0], syscall.SIGCONT))
}

// gone is no error: the process has ended by itself.
func gone(err error) error {
	if errors.Is(err, syscall.ESRCH) {
		return nil
	}
	return err
}

// backends lists those of a server, first the one that is the most likely to be at work.
func (n *nemesis) backends(ctx context.Context, shard int) ([]int, error) {
	ctx, stop := context.WithTimeout(ctx, 2*time.Second)
	defer stop()
	conn, err := pgx.Connect(ctx, n.Servers[shard].URL(dev.User, dev.Database))
	if err != nil {
		return nil, err
	}
	defer conn.Close(ctx)
	rows, err := conn.Query(ctx, `SELECT pid FROM pg_stat_activity WHERE backend_type = 'client backend' AND pid <> pg_backend_pid()
		ORDER BY xact_start IS NULL, state_change DESC`)
	if err != nil {
		return nil, err
	}
	return pgx.CollectRows(rows, pgx.RowTo[int])
}

var linkFaults = map[Fault]link.Fault{CutLink: link.Cut, StallLink: link.Stall, MuteLink: link.Mute, DeafLink: link.Deaf, SlowLink: link.Slow}

func (n *nemesis) breakLink(ctx context.Context, e Event) error {
	var broken []*link.Link
	for g := range n.Gateways {
		if (g == e.Gateway || e.Both) && n.links[g][e.Shard].TryLock() {
			defer n.links[g][e.Shard].Unlock()
			broken = append(broken, n.Links[g][e.Shard])
		}
	}
	if len(broken) == 0 {
		return errBusy
	}
	for _, l := range broken {
		l.Set(linkFaults[e.Fault])
	}
	sleep(ctx, e.For)
	for _, l := range broken {
		if e.Fault == MuteLink {
			l.Drop()
		}
		l.Set(link.None)
	}
	return nil
}
