package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"math/rand/v2"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/shardgate/shardgate/bench/history"
	"github.com/shardgate/shardgate/bench/nemesis"
	"github.com/shardgate/shardgate/bench/scenario"
	"github.com/shardgate/shardgate/bench/target"
)

// historiesCommand runs clients against gateways while things break, and checks what they
// were told.
type historiesCommand struct {
	Duration time.Duration `default:"60s" help:"For how long the clients run. A long run takes 10m."`
	Clients  int           `default:"8" help:"Number of clients, each with a connection to one of the gateways."`
	Workload []string      `default:"bank,append,register,longfork" placeholder:"NAME,..." help:"What the clients do (default: ${default})."`
	Faults   []string      `default:"all" placeholder:"NAME,..." help:"What is broken: all, none, or some of ${faults}."`
	Seed     uint64        `help:"Of the faults and of what clients do. Chosen, and printed, if it is not given."`
	Set      []string      `sep:"none" placeholder:"NAME=VALUE" help:"A setting for each session. Can be repeated."`

	Shards   int           `default:"4" help:"Of the cluster that is started."`
	Gateways int           `default:"2" help:"Of the cluster that is started."`
	Target   []string      `sep:"none" placeholder:"URL" help:"A gateway of a cluster that runs already, for each of its gateways, in place of starting one. The tables histories_* are made there anew. Nothing is broken."`
	Settle   time.Duration `default:"10s" help:"With --target: between the last transaction and the reads of everything, for the recovery of what was broken meanwhile."`

	Strict  bool   `help:"Fail also on anomalies in the order of transactions that each stay on one shard, which is not promised."`
	History string `placeholder:"FILE" type:"path" help:"Write what the clients saw there."`
	Verbose bool   `short:"v" help:"Show what the gateways log."`
}

// checkCommand checks a history again.
type checkCommand struct {
	File   string `arg:"" type:"existingfile" help:"That --history has written."`
	Strict bool   `help:"As of histories."`
}

var errAnomalies = errors.New("anomalies were found")

// validate checks the command line, and returns what it stands for.
func (c *historiesCommand) validate() (workloads []history.Workload, faults []nemesis.Fault, err error) {
	for _, name := range c.Workload {
		w := history.Workload(name)
		if !slices.Contains(history.Workloads, w) {
			return nil, nil, fmt.Errorf("no workload %q; there are %v", name, history.Workloads)
		}
		workloads = append(workloads, w)
	}
	if len(c.Target) == 0 && !slices.Equal(c.Faults, []string{"none"}) {
		if faults, err = nemesis.ByName(c.Faults); err != nil {
			return nil, nil, err
		}
	}
	for _, check := range []struct {
		wrong bool
		text  string
	}{
		{c.Duration <= 0, "--duration must be above 0"},
		{c.Settle < 0, "--settle must not be negative"},
		{c.Clients < 1, "--clients must be at least 1"},
		{c.Shards < 1 || c.Gateways < 1, "--shards and --gateways must be at least 1"},
		{len(workloads) == 0, "no --workload"},
		{slices.ContainsFunc(c.Set, func(s string) bool { return !strings.Contains(s, "=") }), "write --set as name=value"},
	} {
		if check.wrong {
			return nil, nil, errors.New(check.text)
		}
	}
	if c.Seed == 0 {
		c.Seed = rand.Uint64()
	}
	return workloads, faults, nil
}

// Run runs it and prints what was found.
func (c *historiesCommand) Run(ctx context.Context, p *progress, out io.Writer) error {
	workloads, faults, err := c.validate()
	if err != nil {
		return err
	}
	fmt.Fprintf(out, "seed %d\n", c.Seed)
	defer p.done()
	urls := c.Target
	var cluster *target.Cluster
	if len(urls) == 0 {
		p.event("starting %s and %s", plural(c.Shards, "shard"), plural(c.Gateways, "gateway"))
		o := target.ClusterOptions{Shards: c.Shards, Gateways: c.Gateways, Tables: scenario.Tables}
		if c.Verbose {
			o.Log = os.Stderr
		}
		if cluster, err = target.StartCluster(ctx, o); err != nil {
			return fmt.Errorf("starting the cluster: %w", err)
		}
		defer cluster.Stop()
		for _, g := range cluster.Gateways {
			urls = append(urls, g.URL)
		}
	}
	run := scenario.New(scenario.Options{URLs: urls, Clients: c.Clients, Workloads: workloads, Seed: c.Seed, Settings: c.Set})
	if err := run.Setup(ctx); err != nil {
		return err
	}
	h, recovery, err := c.record(ctx, p, run, cluster, faults)
	if c.History != "" {
		err = errors.Join(err, writeHistory(c.History, h))
	}
	if cluster != nil && err == nil {
		fmt.Fprintf(out, "%s; then %.1f s until the gateways answered and no transaction was prepared\n", plural(len(h.Faults), "fault"), recovery.Seconds())
	}
	return errors.Join(err, judge(out, h, c.Strict))
}

// record runs the clients and the nemesis, and reads everything when the cluster is whole
// again. If it is not, that is the error, and the history has what was recorded.
func (c *historiesCommand) record(ctx context.Context, p *progress, run *scenario.Run, cluster *target.Cluster, faults []nemesis.Fault) (*history.History, time.Duration, error) {
	type broken struct {
		faults []history.Fault
		err    error
	}
	healed := make(chan broken, 1)
	if cluster == nil {
		healed <- broken{}
	} else {
		events := nemesis.Plan(c.Seed, c.Duration, faults, c.Gateways, c.Shards)
		breaking, stop := context.WithTimeout(ctx, c.Duration)
		defer stop()
		go func() {
			var b broken
			b.faults, b.err = nemesis.Run(breaking, cluster, events, run.Now, p.event)
			healed <- b
		}()
	}
	p.begin("clients", c.Duration, run.Done.Load)
	run.Clients(ctx, c.Duration)
	p.end("")
	b := <-healed
	if ctx.Err() != nil {
		p.event("interrupted: checking what was recorded")
	}
	ctx, stop := context.WithTimeout(context.WithoutCancel(ctx), 3*time.Minute)
	defer stop()
	recovery := c.Settle
	if cluster == nil {
		time.Sleep(c.Settle)
	} else {
		var err error
		if recovery, err = nemesis.Recovered(ctx, cluster, run.Query()); err != nil {
			b.err = errors.Join(b.err, fmt.Errorf("the cluster has not recovered: %w", err))
		}
	}
	if b.err == nil {
		b.err = run.Final(ctx)
	}
	return run.History(b.faults), recovery, b.err
}

func writeHistory(file string, h *history.History) error {
	f, err := os.Create(file)
	if err != nil {
		return err
	}
	return errors.Join(h.Encode(f), f.Close())
}

// Run checks a file.
func (c *checkCommand) Run(out io.Writer) error {
	f, err := os.Open(c.File)
	if err != nil {
		return err
	}
	defer f.Close()
	h, err := history.Decode(bufio.NewReader(f))
	if err != nil {
		return fmt.Errorf("%s: %w", c.File, err)
	}
	return judge(out, h, c.Strict)
}

// judge checks a history and prints what was found. The error is errAnomalies if there
// are any: of those on order alone, if it is strict.
func judge(out io.Writer, h *history.History, strict bool) error {
	began := time.Now()
	results, err := history.Check(h)
	if err != nil {
		return err
	}
	failed := false
	for _, r := range results {
		fmt.Fprintf(out, "\n%s: %d committed, %d failed, %d unknown", r.Workload, r.Outcomes[history.OK], r.Outcomes[history.Fail], r.Outcomes[history.Unknown])
		var codes []string
		for _, code := range slices.Sorted(maps.Keys(r.Errors)) {
			codes = append(codes, fmt.Sprintf("%d × %s", r.Errors[code], code))
		}
		if len(codes) > 0 {
			fmt.Fprintf(out, " (%s)", strings.Join(codes, ", "))
		}
		fmt.Fprintf(out, "\n  checked: %s\n", r.Checked)
		for _, n := range r.Notes {
			fmt.Fprintf(out, "  note: %s\n", n)
		}
		if len(r.Counts) == 0 {
			fmt.Fprintln(out, "  no anomaly")
			continue
		}
		fmt.Fprintf(out, "  ANOMALIES: %s\n", r.Kinds())
		for _, a := range r.Anomalies {
			fmt.Fprintf(out, "  %s\n", strings.ReplaceAll(a.String(), "\n", "\n  "))
			if a.Kind.OnOrderAlone() {
				fmt.Fprintln(out, "      not promised: transactions that each stay on one shard have no order over all shards")
			}
			failed = failed || strict || !a.Kind.OnOrderAlone()
			if during := faultsDuring(h, a); during != "" {
				fmt.Fprintf(out, "      during %s\n", during)
			}
		}
	}
	fmt.Fprintf(out, "\n%s, checked in %.1f s\n", plural(len(h.Txns), "transaction"), time.Since(began).Seconds())
	if failed {
		return errAnomalies
	}
	return nil
}

// faultsDuring are those that were there while an anomaly's transactions ran.
func faultsDuring(h *history.History, a history.Anomaly) string {
	var list []string
	for _, f := range h.Faults {
		if slices.ContainsFunc(a.Txns, func(t *history.Txn) bool { return t != nil && !t.Final && t.Start < f.End && f.Start < t.End }) {
			list = append(list, f.What)
		}
	}
	return strings.Join(list, ", ")
}
