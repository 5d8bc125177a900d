// Command bench measures Shardgate beside one plain PostgreSQL, and beside whatever else
// speaks the protocol: throughput, latency, and the CPU time that a transaction costs the
// gateway, the servers and the clients. See docs/benchmark.md. With the argument
// histories, it checks what clients see while things break; see docs/histories.md.
//
// The governing idea: targets take turns, round by round, and are compared within a
// round, since machines drift.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/alecthomas/kong"

	"github.com/shardgate/shardgate/bench/load"
	"github.com/shardgate/shardgate/bench/nemesis"
	"github.com/shardgate/shardgate/bench/target"
	"github.com/shardgate/shardgate/bench/workload"
)

// options are the command line. plan makes them what they stand for.
type options struct {
	Clients  []int         `placeholder:"N,..." help:"Numbers of clients; each is measured (default: 8, and 1 for queries over all shards)."`
	Rate     []float64     `placeholder:"N,..." help:"Transactions a second over all clients, by a schedule that slow answers don't shift; each is measured. 0 is as many as come in a closed loop (default: ${default})." default:"0"`
	Duration time.Duration `default:"5s" help:"Of one round of one target. Figures to be quoted take 15s."`
	Rounds   int           `default:"3" help:"Rounds. Medians are reported, with minimum and maximum."`
	Warmup   time.Duration `default:"1s" help:"Before the first round of each target."`
	Workload []string      `placeholder:"NAME,..." help:"What the clients do (default: select-by-key,pgbench; with --smoke, all): ${workloads}."`
	Protocol []string      `default:"simple,prepared" placeholder:"NAME,..." help:"How statements are sent: simple, extended, prepared, pipelined (default: ${default})."`
	Pipeline int           `default:"10" help:"Transactions that a client sends in one write where they are pipelined."`
	Keys     string        `default:"uniform" help:"How keys are distributed: uniform, zipf, hot (a share of the load is on one key), hot-shard (on one shard's keys)."`
	HotShare float64       `default:"0.5" help:"Share of the load that is on the hot key or shard."`
	Readers  []int         `placeholder:"N,..." help:"Numbers of readers in workloads that have them; each is measured (default: 1,8,32)."`
	Scale    int           `default:"10" help:"Size of the data: 100,000 accounts each."`
	Seed     uint64        `help:"Of the random numbers. Chosen, and reported, if it is not given."`

	Embedded      bool `default:"true" negatable:"" help:"Start a cluster and one plain PostgreSQL, and measure both."`
	Shards        int  `default:"4" help:"Of the cluster."`
	WithPgbouncer bool `help:"Also start a PgBouncer before the plain PostgreSQL, and measure it."`
	WithRelay     bool `help:"Also measure a relay that only copies bytes before the plain PostgreSQL: the least that a gateway in Go costs on this machine."`
	Unsafe        bool `help:"Servers without fsync, for trying the benchmark out."`

	// URLs may hold passwords, so --json leaves them out.
	Target  []string `json:"-" sep:"none" placeholder:"NAME=URL" help:"Also measure what is at URL. Can be repeated."`
	Server  []string `json:"-" sep:"none" placeholder:"NAME=URL" help:"A server behind a --target, of which the invariants are asked. Can be repeated."`
	PID     []string `name:"pid" sep:"none" placeholder:"NAME=PID" help:"The process of a --target's gateway on this machine, for its CPU time. Can be repeated."`
	Metrics []string `json:"-" sep:"none" placeholder:"NAME=URL" help:"The metrics of a --target's gateway, for what it allocates. Can be repeated."`
	Reload  bool     `help:"Drop the benchmark's tables in each --target and make them anew, even if they fit. Tables of the same names that have other columns stay, and that is an error."`

	Report  string `placeholder:"DIR" type:"path" help:"Write results.json there, as with --json, and index.html, a page with plots."`
	JSON    string `placeholder:"FILE" type:"path" help:"Write the figures of all rounds there."`
	Profile string `placeholder:"DIR" type:"path" help:"Write CPU profiles of Shardgate's gateway there, from a round more that is not counted."`
	Bounds  bool   `help:"What docs/benchmark.md promises a bound of, with the numbers of clients and the protocols of the bounds, beside PgBouncer."`
	Smoke   bool   `help:"A second for each workload, on a small cluster without fsync: does it run?"`
	Verbose bool   `short:"v" help:"Show what the cluster logs."`
}

// cli is the command line: to measure is the default.
type cli struct {
	Measure   options          `cmd:"" default:"withargs" help:"Measure Shardgate beside one PostgreSQL: throughput, latency, and CPU time per transaction (the default)."`
	Compare   compareCommand   `cmd:"" help:"Say what has changed beyond the noise between two runs."`
	HotPaths  hotPathsCommand  `cmd:"" help:"The same of two outputs of go test -bench, as make bench-check has them."`
	Histories historiesCommand `cmd:"" help:"Run clients while gateways, shards and links are broken, and check what they saw for anomalies."`
	Check     checkCommand     `cmd:"" help:"Check a history that was written to a file."`
}

func main() {
	target.Main()
	var c cli
	k := kong.Parse(&c, kong.ShortUsageOnError(), vars,
		kong.Description("Measures Shardgate, and checks what its clients see while things break."))
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	context.AfterFunc(ctx, func() {
		stop() // the next signal ends this process, and with it what it has started
		fmt.Fprintln(os.Stderr, "interrupted: waiting for the last answers; once more ends at once")
	})
	k.BindTo(ctx, (*context.Context)(nil))
	k.BindTo(os.Stdout, (*io.Writer)(nil))
	if err := k.Run(newProgress(os.Stderr)); err != nil {
		fmt.Fprintf(os.Stderr, "%s: %v\n", k.Model.Name, err)
		os.Exit(1)
	}
}

// Run measures and prints the report.
func (o *options) Run(ctx context.Context, p *progress, out io.Writer) error {
	r, err := run(ctx, o, p)
	if r == nil {
		return err
	}
	r.print(out)
	if o.Report != "" {
		written := r.writeReport(o.Report)
		if written == nil {
			p.event("report: %s", filepath.Join(o.Report, pageFile))
		}
		err = errors.Join(err, written)
	}
	if o.JSON != "" {
		err = errors.Join(err, r.write(o.JSON))
	}
	if err == nil && r.failed() {
		err = errInvariants
	}
	return err
}

// errInvariants is for the exit status: the report says what is wrong.
var errInvariants = errors.New("not all invariants held")

// vars are what the options' help needs.
var vars = kong.Vars{"workloads": strings.Join(workload.Names(), ", "), "faults": strings.Join(nemesis.Names(), ", "), "figures": strings.Join(figureNames(), ", ")}

// plan is what is to be measured.
type plan struct {
	*options
	cells   []cell
	keys    workload.Keys
	foreign []*target.Target
}

// cell is one combination of what is varied.
type cell struct {
	workload *workload.Workload
	protocol load.Protocol
	clients  int
	rate     float64 // transactions a second; 0: a closed loop
	readers  int
}

func (c cell) String() string {
	return cellName(c.workload.Name, c.protocol, c.clients, c.readers, c.rate)
}

func cellName(name string, p load.Protocol, clients, readers int, perSecond float64) string {
	s := fmt.Sprintf("%s, %s, %s", name, p, plural(clients, "client"))
	if readers > 0 {
		s += " and " + plural(readers, "reader")
	}
	if perSecond > 0 {
		s += ", " + rate(perSecond) + "/s asked for"
	}
	return s
}

// fileName names the files about the cell.
func (c cell) fileName() string {
	name := fmt.Sprintf("%s-%s-%d", c.workload.Name, c.protocol, c.clients)
	if c.readers > 0 {
		name += fmt.Sprintf("-%d", c.readers)
	}
	if c.rate > 0 {
		name += fmt.Sprintf("-at-%g", c.rate)
	}
	return name
}

func plural(n int, what string) string {
	if n == 1 {
		return fmt.Sprintf("%d %s", n, what)
	}
	return fmt.Sprintf("%d %ss", n, what)
}

// newPlan checks the command line.
func newPlan(o *options) (*plan, error) {
	if o.Smoke {
		o.Duration, o.Warmup, o.Rounds = min(o.Duration, 500*time.Millisecond), min(o.Warmup, 100*time.Millisecond), 1
		o.Scale, o.Unsafe = 1, true
		if len(o.Readers) == 0 {
			o.Readers = []int{1}
		}
		if len(o.Workload) == 0 {
			o.Workload = workload.Names()
		}
	}
	if o.Bounds {
		o.WithPgbouncer = o.Embedded
		if len(o.Workload) == 0 {
			o.Workload = workload.Bounded()
		}
	}
	if len(o.Workload) == 0 {
		o.Workload = workload.Default
	}
	if o.Seed == 0 {
		o.Seed = rand.Uint64()
	}
	for _, check := range []struct {
		wrong bool
		text  string
	}{
		{o.Duration <= 0, "--duration must be above 0"},
		{o.Pipeline < 1 || o.Pipeline > maxPipeline, fmt.Sprintf("--pipeline must be 1 to %d", maxPipeline)},
		{o.HotShare < 0 || o.HotShare > 1, "--hot-share must be 0 to 1"},
		{o.Warmup < 0, "--warmup must not be negative"},
		{o.Rounds < 1, "--rounds must be at least 1"},
		{o.Scale < 1 || o.Scale > 20_000, "--scale must be 1 to 20000"}, // account numbers are of the type int
		{o.WithPgbouncer && !o.Embedded, "--with-pgbouncer needs the plain PostgreSQL that --embedded starts"},
		{o.WithRelay && !o.Embedded, "--with-relay needs the plain PostgreSQL that --embedded starts"},
		{!o.Embedded && len(o.Target) == 0, "nothing to measure: give a --target, or leave --no-embedded out"},
		{!o.Embedded && o.Profile != "", "--profile is for the gateway that --embedded starts"},
	} {
		if check.wrong {
			return nil, errors.New(check.text)
		}
	}
	p := &plan{options: o}
	taken := target.Names
	if !o.Embedded {
		taken = []string{target.Direct} // bounds are about the other names, whoever started them
	}
	var err error
	if p.foreign, err = target.Foreign(taken, o.Target, o.Server, o.PID, o.Metrics); err != nil {
		return nil, err
	}
	if p.keys, err = workload.ParseKeys(o.Keys); err != nil {
		return nil, err
	}
	for _, t := range p.foreign {
		if p.keys == workload.HotShard && len(t.Store.Servers) == 0 {
			return nil, fmt.Errorf("--keys hot-shard: which keys %s has on one shard is known by its servers only: name them with --server", t.Name)
		}
	}
	workloads, err := workload.ByName(o.Workload)
	if err != nil {
		return nil, err
	}
	protocols, err := load.ParseProtocols(o.Protocol)
	if err != nil {
		return nil, err
	}
	for _, rate := range o.Rate {
		if rate < 0 {
			return nil, errors.New("--rate must not be negative")
		}
		if rate > 0 && slices.Contains(protocols, load.Pipelined) {
			return nil, errors.New("--rate schedules transactions one by one: leave pipelined out")
		}
	}
	for _, n := range slices.Concat(o.Clients, o.Readers) {
		if n < 1 {
			return nil, errors.New("--clients and --readers must be at least 1")
		}
	}
	for _, w := range workloads {
		p.addCells(w, protocols)
	}
	if len(p.cells) == 0 {
		return nil, errors.New("nothing to measure: no bound is about these workloads, clients and protocols")
	}
	return p, nil
}

// maxPipeline bounds what is written before an answer is read: the other end must be able
// to write its answers meanwhile.
const maxPipeline = 1000

// smokeConnections is how many clients connect with --smoke, where thousands would.
const smokeConnections = 100

// addCells adds the combinations of a workload. Where it can't be run by any of the
// protocols, it is run by one by which it can.
func (p *plan) addCells(w *workload.Workload, protocols []load.Protocol) {
	protocols, clients, readers, rates := w.By(protocols), p.Clients, []int{0}, p.Rate
	if w.Connecting != 0 {
		rates = []float64{0} // there is nothing to schedule
	}
	switch {
	case p.Smoke && w.Connecting != 0 && len(clients) == 0:
		clients = []int{smokeConnections}
	case p.Bounds && len(clients) == 0:
		clients = w.BoundedClients()
	case len(clients) == 0 || w.Alone:
		clients = []int{w.Clients}
	}
	if w.Readers != nil {
		readers = p.Readers
		if len(readers) == 0 {
			readers = w.Readers.Numbers
		}
	}
	for _, proto := range protocols {
		for _, n := range clients {
			for _, m := range readers {
				for _, rate := range rates {
					if p.Bounds && !w.BoundedBy(n, proto) {
						continue
					}
					p.cells = append(p.cells, cell{w, proto, n, rate, m})
				}
			}
		}
	}
}

// size is that of the data.
func (p *plan) size() workload.Size { return workload.Size{Scale: p.Scale, Small: p.Smoke} }
