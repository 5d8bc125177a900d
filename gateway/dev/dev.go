// Package dev runs a whole cluster on one machine: PostgreSQL servers of its own as
// shards, and a gateway before them. It is what `shardgate dev`, the end-to-end
// tests and the benchmark start. It is not for data that one can't lose.
package dev

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"sync"
	"syscall"
	"time"

	"github.com/shardgate/shardgate/configs"
	"github.com/shardgate/shardgate/gateway"
	"github.com/shardgate/shardgate/gateway/localpg"
)

// Options say what cluster to run.
type Options struct {
	Shards int    // number of servers, 1 to MaxShards
	Dir    string // where the data are kept; made if it is absent
	Config *configs.Config
	OSUser string // to run the servers as, when we are root; "" is postgres
	// Unsafe turns fsync off, for tests.
	Unsafe   bool
	Template *localpg.Template
	Settings map[string]string // of the servers
	Progress io.Writer         // what is being done; nil: nothing
	Log      *slog.Logger
}

// MaxShards is the greatest number of servers of a development cluster.
const MaxShards = 64

// ErrInUse is matched by Start's error when another run uses the data.
var ErrInUse = errors.New("another run uses the data")

// Cluster is a running cluster.
type Cluster struct {
	Gateway *gateway.Gateway
	Servers []*localpg.Server
	Config  *configs.Config
	dir     string
	lock    *os.File
}

// Database and user of a development cluster.
const (
	Database = "postgres"
	User     = "postgres"
)

// Start makes or continues the cluster in o.Dir. On an error nothing is left
// running.
func Start(ctx context.Context, o Options) (*Cluster, error) {
	if o.Shards < 1 || o.Shards > MaxShards {
		return nil, fmt.Errorf("a development cluster has 1 to %d shards, not %d", MaxShards, o.Shards)
	}
	if o.Progress == nil {
		o.Progress = io.Discard
	}
	c := &Cluster{dir: o.Dir}
	if err := c.takeLock(); err != nil {
		return nil, err
	}
	if err := c.checkShards(o.Shards); err != nil {
		c.release()
		return nil, err
	}
	if err := c.startServers(ctx, o); err != nil {
		c.stopServers()
		c.release()
		return nil, err
	}
	cfg := *o.Config
	cfg.Shards = nil
	for i, s := range c.Servers {
		cfg.Shards = append(cfg.Shards, configs.Shard{Name: shardName(i), Weight: 1, Home: i == 0,
			Servers: []configs.ServerURL{serverURL(s)}})
	}
	c.Config = &cfg
	fmt.Fprintln(o.Progress, "starting the gateway")
	var err error
	if c.Gateway, err = gateway.Start(ctx, &cfg, o.Log); err != nil {
		c.stopServers()
		c.release()
		return nil, fmt.Errorf("starting the gateway: %w", err)
	}
	return c, nil
}

// maxSocketPath is what fits into a Unix socket's address, with the name that
// PostgreSQL adds to the folder, on every system (sun_path).
const maxSocketPath = 80

// SocketDir is where servers with their data in dir listen besides loopback: the gateway
// reaches them there at less cost. It is "" when the data are in too deep a folder.
func SocketDir(dir string) string {
	abs, err := filepath.Abs(filepath.Join(dir, "sockets"))
	if err != nil || len(abs) > maxSocketPath {
		return ""
	}
	return abs
}

// serverURL is how the gateway reaches a server.
func serverURL(s *localpg.Server) configs.ServerURL {
	if s.SocketDir() == "" {
		return configs.ServerURL(s.URL(User, Database))
	}
	q := url.Values{"host": {s.SocketDir()}, "port": {strconv.Itoa(s.Port())}}
	return configs.ServerURL("postgres://" + User + "@/" + Database + "?" + q.Encode())
}

func shardName(i int) string { return "s" + strconv.Itoa(i+1) }

// takeLock makes this run the only one on the data.
func (c *Cluster) takeLock() error {
	if err := os.MkdirAll(c.dir, 0o755); err != nil {
		return err
	}
	f, err := os.OpenFile(filepath.Join(c.dir, "lock"), os.O_RDWR|os.O_CREATE, 0o644)
	if err != nil {
		return err
	}
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		f.Close()
		return fmt.Errorf("%w in %s: stop it, or choose another folder with --data", ErrInUse, c.dir)
	}
	c.lock = f
	return nil
}

func (c *Cluster) release() {
	if c.lock != nil {
		c.lock.Close()
		c.lock = nil
	}
}

// checkShards compares the number of shards with that of the data.
func (c *Cluster) checkShards(n int) error {
	have := 0
	for {
		if _, err := os.Stat(filepath.Join(c.dir, shardName(have))); err != nil {
			break
		}
		have++
	}
	// A first run that was interrupted may have made some of its servers only: the
	// number is noted when all are there.
	note := filepath.Join(c.dir, "shards")
	b, err := os.ReadFile(note)
	if err != nil {
		return nil
	}
	if was, err := strconv.Atoi(string(b)); err == nil && was != n {
		return fmt.Errorf("the data in %s are those of %d shards, not %d: use --shards %d, or choose another folder with --data", c.dir, was, n, was)
	}
	return nil
}

func (c *Cluster) startServers(ctx context.Context, o Options) error {
	install, err := localpg.Find()
	if err != nil {
		return err
	}
	fmt.Fprintf(o.Progress, "starting %d PostgreSQL %s servers in %s\n", o.Shards, install.Version, c.dir)
	c.Servers = make([]*localpg.Server, o.Shards)
	errs := make([]error, o.Shards)
	var wg sync.WaitGroup
	for i := range o.Shards {
		wg.Go(func() {
			dir := filepath.Join(c.dir, shardName(i))
			// What a killed run has left running is stopped first.
			if err := localpg.StopOrphan(ctx, dir); err != nil {
				errs[i] = err
				return
			}
			settings := map[string]string{"max_connections": "300", "max_prepared_transactions": "300"}
			for k, v := range o.Settings {
				settings[k] = v
			}
			c.Servers[i], errs[i] = localpg.Start(ctx, localpg.Options{Dir: dir, Name: shardName(i), OSUser: o.OSUser,
				Superuser: User, SocketDir: SocketDir(c.dir), Install: install, Unsafe: o.Unsafe, Template: o.Template, Settings: settings})
			if errs[i] == nil {
				fmt.Fprintf(o.Progress, "  %s is up on port %d\n", shardName(i), c.Servers[i].Port())
			}
		})
	}
	wg.Wait()
	if err := errors.Join(errs...); err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(c.dir, "shards"), []byte(strconv.Itoa(o.Shards)), 0o644)
}

// stopServers stops what runs, all at once.
func (c *Cluster) stopServers() {
	ctx, stop := context.WithTimeout(context.Background(), time.Minute)
	defer stop()
	var wg sync.WaitGroup
	for _, s := range c.Servers {
		if s != nil {
			wg.Go(func() { s.Stop(ctx) })
		}
	}
	wg.Wait()
}

// URL is the connection string for clients.
func (c *Cluster) URL() string {
	return "postgresql://" + User + "@" + c.Gateway.Addr().String() + "/" + Database
}

// Stop ends the gateway and then the servers. Transactions have until ctx ends.
func (c *Cluster) Stop(ctx context.Context) {
	c.Gateway.Shutdown(ctx)
	c.stopServers()
	c.release()
}
