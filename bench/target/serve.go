package target

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"os/signal"
	"path/filepath"
	"runtime/debug"
	"runtime/pprof"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/shardgate/shardgate/bench/measure"
	"github.com/shardgate/shardgate/configs"
	"github.com/shardgate/shardgate/gateway"
	"github.com/shardgate/shardgate/gateway/admin"
	"github.com/shardgate/shardgate/gateway/dev"
	"github.com/shardgate/shardgate/gateway/localpg"
)

// Main runs the embedded targets, the relay or a gateway, if the program was started for that, and
// does not return then. A program that calls Start calls this first.
func Main() {
	if len(os.Args) != 3 {
		return
	}
	switch os.Args[1] {
	case Command:
	case RelayCommand:
		if err := runRelay(os.Args[2]); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	case GatewayCommand:
		fmt.Println(strings.ReplaceAll(runGateway(os.Args[2]).Error(), "\n", " "))
		os.Exit(1)
	default:
		return
	}
	var o Options
	err := json.Unmarshal([]byte(os.Args[2]), &o)
	if err == nil {
		err = serve(o)
	}
	if err != nil {
		say(description{Error: err.Error()})
		os.Exit(1)
	}
	os.Exit(0)
}

// say writes one line to the process that has started us.
func say(v any) {
	b, err := json.Marshal(v)
	if err != nil {
		panic(err) // of our own types
	}
	fmt.Printf("%s\n", b)
}

// serve starts everything, describes it, carries out the orders that come, and ends it
// all at the end of the input.
func serve(o Options) error {
	orders := make(chan string)
	ctx, cancel := context.WithCancel(context.Background())
	go readOrders(orders, cancel)
	// The end of the input is what ends us; signals are for the process at the other end.
	// Taken and not ignored, which the servers would inherit.
	signal.Notify(make(chan os.Signal, 1), os.Interrupt, syscall.SIGTERM, syscall.SIGPIPE)

	root, err := os.MkdirTemp(o.Dir, "shardgate-bench-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(root)
	if err := os.Chmod(root, 0o755); err != nil {
		return err
	}
	f := &fleet{options: o, root: root}
	defer f.stop()
	d, err := f.start(ctx)
	if err != nil {
		if ctx.Err() != nil {
			return errors.New("interrupted")
		}
		return err
	}
	say(d)
	for order := range orders {
		if err := f.obey(order); err != nil {
			fmt.Println(strings.ReplaceAll(err.Error(), "\n", " "))
		} else {
			fmt.Println("ok")
		}
	}
	return nil
}

// readOrders ends with the input, and then everything does.
func readOrders(orders chan<- string, cancel func()) {
	s := bufio.NewScanner(os.Stdin)
	for s.Scan() {
		orders <- s.Text()
	}
	cancel()
	close(orders)
}

// fleet is what runs in the process of the embedded targets and below it.
type fleet struct {
	options Options
	root    string
	cluster *dev.Cluster
	metrics string // where the gateway's are
	plain   *localpg.Server
	bouncer *pgbouncer
	relay   *relay
	profile *os.File
}

func (f *fleet) start(ctx context.Context) (*description, error) {
	log := slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelWarn}))
	tables := []byte(f.options.Tables)
	if len(tables) == 0 {
		tables = configs.Dev()
	}
	cfg, err := configs.ParseWithoutShards("the benchmark's tables", tables)
	if err != nil {
		return nil, err
	}
	if err := cfg.SetListen("the benchmark", "127.0.0.1:0"); err != nil {
		return nil, err
	}
	if f.options.PgBouncer {
		// Said before a minute is spent.
		if _, err := findPgBouncer(); err != nil {
			return nil, err
		}
	}
	// Every client may hold a connection to a server, and another one through PgBouncer's other pool.
	settings := map[string]string{
		"max_connections":           strconv.Itoa(max(300, 2*f.options.Clients+50)),
		"max_prepared_transactions": "300",
	}
	cfg.Pool.Size = max(cfg.Pool.Size, f.options.Clients)
	cfg.Limits.ClientConnections = max(cfg.Limits.ClientConnections, f.options.Connections+100)
	var template *localpg.Template
	if f.options.Unsafe {
		template = localpg.NewTemplate(filepath.Join(f.root, "template"))
	}
	gateway.UseProcessors(cfg.Processors)
	f.cluster, err = dev.Start(ctx, dev.Options{Shards: f.options.Shards, Dir: filepath.Join(f.root, "cluster"), Config: cfg,
		Unsafe: f.options.Unsafe, Template: template, Settings: settings, Progress: os.Stderr, Log: log})
	if err != nil {
		return nil, err
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	f.metrics = "http://" + l.Addr().String() + "/metrics"
	admin.ServeOn(l, f.cluster.Gateway) // until the process ends
	install, err := localpg.Find()
	if err != nil {
		return nil, err
	}
	fmt.Fprintln(os.Stderr, "starting one plain PostgreSQL")
	f.plain, err = localpg.Start(ctx, localpg.Options{Dir: filepath.Join(f.root, "plain"), Name: Postgres, Superuser: dev.User,
		SocketDir: dev.SocketDir(f.root), Install: install, Unsafe: f.options.Unsafe, Template: template, Settings: settings})
	if err != nil {
		return nil, err
	}
	d := f.describe()
	d.Versions = map[string]string{"postgresql": install.Version}
	if f.options.PgBouncer {
		fmt.Fprintln(os.Stderr, "starting PgBouncer")
		if f.bouncer, err = startPgBouncer(ctx, filepath.Join(f.root, "pgbouncer"), f.plain, f.options.Clients); err != nil {
			return nil, err
		}
		d.Versions["pgbouncer"] = f.bouncer.version
		d.Targets = append(d.Targets, f.bouncer.describe(d.Targets[1]))
	}
	if f.options.Relay {
		if f.relay, err = startRelay(ctx, f.plain); err != nil {
			return nil, err
		}
		d.Targets = append(d.Targets, f.relay.describe(d.Targets[1]))
	}
	d.Settings, err = ChangedSettings(ctx, f.plain.URL("", ""))
	return d, err
}

func (f *fleet) describe() *description {
	var urls []string
	parts := []Part{gatewayPart(os.Getpid())}
	for _, s := range f.cluster.Servers {
		urls = append(urls, s.URL(dev.User, dev.Database))
		parts = append(parts, serverPart(s))
	}
	plain := f.plain.URL(dev.User, dev.Database)
	return &description{Dir: f.root, Targets: []described{
		{Name: Shardgate, URL: f.cluster.URL() + "?sslmode=disable", Store: Shardgate, Servers: urls, Parts: parts, Metrics: f.metrics},
		{Name: Postgres, URL: plain, Store: Postgres, Servers: []string{plain}, Parts: []Part{serverPart(f.plain)}},
	}}
}

func serverPart(s *localpg.Server) Part {
	return Part{Role: Server, Name: s.Name(), CPU: measure.CPU{PID: s.PID(), Tree: true}}
}

// ChangedSettings are those of a server that its configuration gives.
func ChangedSettings(ctx context.Context, url string) (map[string]string, error) {
	conn, err := pgx.Connect(ctx, url)
	if err != nil {
		return nil, err
	}
	defer conn.Close(ctx)
	rows, err := conn.Query(ctx, `SELECT name, current_setting(name) FROM pg_settings
		WHERE source = 'configuration file' OR name IN ('fsync', 'shared_buffers', 'synchronous_commit')`)
	if err != nil {
		return nil, err
	}
	settings := map[string]string{}
	var name, value string
	_, err = pgx.ForEachRow(rows, []any{&name, &value}, func() error {
		settings[name] = value
		return nil
	})
	return settings, err
}

func (f *fleet) obey(order string) error {
	what, file, _ := strings.Cut(order, " ")
	switch what {
	case "profile":
		if f.profile != nil {
			return errors.New("a profile is being written")
		}
		to, err := os.Create(file)
		if err != nil {
			return err
		}
		if err := pprof.StartCPUProfile(to); err != nil {
			return errors.Join(err, to.Close())
		}
		f.profile = to
		return nil
	case "rest":
		debug.FreeOSMemory()
		return nil
	case "stop":
		if f.profile == nil {
			return errors.New("no profile is being written")
		}
		pprof.StopCPUProfile()
		err := f.profile.Close()
		f.profile = nil
		return err
	}
	return fmt.Errorf("no such order: %q", order)
}

// stop ends what was started. The data are thrown away, so nothing has to be saved.
func (f *fleet) stop() {
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	if f.bouncer != nil {
		f.bouncer.stop()
	}
	if f.relay != nil {
		f.relay.stop()
	}
	if f.plain != nil {
		report(f.plain.StopImmediate(ctx))
	}
	if f.cluster != nil {
		short, cancel := context.WithTimeout(ctx, time.Second)
		defer cancel()
		f.cluster.Stop(short)
	}
}

func report(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
	}
}
