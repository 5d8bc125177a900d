// Command shardgate makes several stock PostgreSQL servers look like one.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/signal"
	"path/filepath"
	"runtime/debug"
	"syscall"
	"time"

	"github.com/alecthomas/kong"

	"github.com/shardgate/shardgate/configs"
	"github.com/shardgate/shardgate/gateway"
	"github.com/shardgate/shardgate/gateway/admin"
	"github.com/shardgate/shardgate/gateway/dev"
	"github.com/shardgate/shardgate/wire"
)

// devShutdown bounds how long a development cluster waits for transactions.
const devShutdown = 5 * time.Second

// version is set by the linker for a release.
var version = ""

type cli struct {
	Dev     devCommand     `cmd:"" help:"Run a whole cluster on this machine: PostgreSQL servers of its own and a gateway."`
	Serve   serveCommand   `cmd:"" help:"Run a gateway before the servers of a configuration."`
	Check   checkCommand   `cmd:"" help:"Check a configuration and the servers that it names."`
	Version versionCommand `cmd:"" help:"Print the version."`
}

func main() {
	var c cli
	k := kong.Parse(&c, kong.Name("shardgate"), kong.UsageOnError(),
		kong.Description("A gateway that makes several PostgreSQL servers look like one."))
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	k.BindTo(ctx, (*context.Context)(nil))
	if err := k.Run(); err != nil {
		fmt.Fprintf(os.Stderr, "shardgate: %v\n", err)
		var we *wire.Error
		if errors.As(err, &we) { // what a shard has to say stands in its fields
			for _, f := range []struct{ name, text string }{{"detail", we.Detail}, {"hint", we.Hint}} {
				if f.text != "" {
					fmt.Fprintf(os.Stderr, "    %s: %s\n", f.name, f.text)
				}
			}
		}
		os.Exit(1)
	}
}

type devCommand struct {
	Shards    int    `default:"4" help:"Number of shards."`
	Listen    string `help:"Address to listen on." placeholder:"127.0.0.1:6432"`
	Data      string `help:"Folder for the servers' data." placeholder:"DIR" type:"path"`
	Config    string `short:"c" help:"File with tables and settings; the shards are the cluster's own." placeholder:"FILE" type:"existingfile"`
	Ephemeral bool   `help:"Use a temporary folder, and throw it away at the end."`
	User      string `help:"Operating system user for the servers, when this runs as root." default:"postgres"`
}

// Run runs the cluster until it is interrupted.
func (d *devCommand) Run(ctx context.Context) error {
	cfg, err := d.config()
	if err != nil {
		return err
	}
	dir := d.Data
	switch {
	case d.Ephemeral:
		if dir, err = temporaryDir(); err != nil {
			return err
		}
		defer os.RemoveAll(dir)
	case dir == "":
		if dir, err = dataDir(); err != nil {
			return err
		}
	}
	gateway.UseProcessors(cfg.Processors)
	log := logger(cfg, os.Stderr)
	c, err := dev.Start(ctx, dev.Options{Shards: d.Shards, Dir: dir, Config: cfg, OSUser: d.User, Progress: os.Stdout, Log: log})
	if err != nil {
		if ctx.Err() != nil {
			return errors.New("interrupted")
		}
		return err
	}
	stopMetrics, err := admin.Serve(cfg.Metrics.Listen, c.Gateway)
	if err != nil {
		log.Error("metrics are not served", "error", err)
	}
	data := "the data stay in " + dir
	if d.Ephemeral {
		data = "the data are thrown away then"
	}
	fmt.Printf("\nready: psql %s\nCtrl-C stops it; %s\n", c.URL(), data)
	<-ctx.Done()
	fmt.Println("\nstopping")
	stopMetrics()
	grace, cancel := context.WithTimeout(context.Background(), min(cfg.Timeouts.Shutdown, devShutdown))
	defer cancel()
	c.Stop(grace)
	return nil
}

func (d *devCommand) config() (*configs.Config, error) {
	var cfg *configs.Config
	var err error
	if d.Config != "" {
		cfg, err = configs.LoadWithoutShards(d.Config)
	} else {
		cfg, err = configs.ParseWithoutShards("dev.yaml", configs.Dev())
	}
	if err != nil {
		return nil, err
	}
	warn(cfg)
	if d.Listen != "" {
		if err := cfg.SetListen("--listen", d.Listen); err != nil {
			return nil, err
		}
	}
	return cfg, nil
}

// dataDir is where development clusters are kept by default. The servers' user must
// be able to reach it, which under root's home it can't.
func dataDir() (string, error) {
	if os.Geteuid() == 0 {
		return "/var/lib/shardgate/dev", nil
	}
	if d := os.Getenv("XDG_DATA_HOME"); d != "" {
		return filepath.Join(d, "shardgate", "dev"), nil
	}
	home, err := os.UserHomeDir()
	if err != nil {
		return "", fmt.Errorf("no folder for the data: %w; name one with --data", err)
	}
	return filepath.Join(home, ".local", "share", "shardgate", "dev"), nil
}

func temporaryDir() (string, error) {
	dir, err := os.MkdirTemp("", "shardgate-")
	if err != nil {
		return "", err
	}
	return dir, os.Chmod(dir, 0o755)
}

type serveCommand struct {
	Config string `short:"c" required:"" help:"The configuration." placeholder:"FILE" type:"existingfile"`
}

// Run serves until it is interrupted.
func (s *serveCommand) Run(ctx context.Context) error {
	cfg, err := configs.Load(s.Config)
	if err != nil {
		return err
	}
	warn(cfg)
	gateway.UseProcessors(cfg.Processors)
	log := logger(cfg, os.Stderr)
	g, err := gateway.Start(ctx, cfg, log)
	if err != nil {
		return err
	}
	stopMetrics, err := admin.Serve(cfg.Metrics.Listen, g)
	if err != nil {
		return err
	}
	log.Info("listening", "address", g.Addr().String(), "shards", len(cfg.Shards))
	<-ctx.Done()
	log.Info("stopping: waiting for transactions to end", "at_most", cfg.Timeouts.Shutdown)
	stopMetrics()
	grace, cancel := context.WithTimeout(context.Background(), cfg.Timeouts.Shutdown)
	defer cancel()
	g.Shutdown(grace)
	return nil
}

type checkCommand struct {
	Config string `short:"c" required:"" help:"The configuration." placeholder:"FILE" type:"existingfile"`
}

// Run checks and reports. Problems make the exit status 1.
func (c *checkCommand) Run(ctx context.Context) error {
	cfg, err := configs.Load(c.Config)
	if err != nil {
		return err
	}
	warn(cfg)
	problems := admin.Check(ctx, cfg, os.Stdout)
	if problems > 0 {
		return fmt.Errorf("%d problems", problems)
	}
	fmt.Println("no problem found")
	return nil
}

type versionCommand struct{}

// Run prints the version.
func (versionCommand) Run() error {
	fmt.Println("shardgate", buildVersion())
	return nil
}

func buildVersion() string {
	if version != "" {
		return version
	}
	if info, ok := debug.ReadBuildInfo(); ok {
		for _, s := range info.Settings {
			if s.Key == "vcs.revision" {
				return "devel " + s.Value
			}
		}
	}
	return "devel"
}

// warn prints what a valid configuration should be told about.
func warn(cfg *configs.Config) {
	for _, w := range cfg.Warnings {
		fmt.Fprintf(os.Stderr, "warning: %v\n", w)
	}
}

func logger(cfg *configs.Config, w io.Writer) *slog.Logger {
	o := &slog.HandlerOptions{Level: cfg.Log.SlogLevel()}
	if cfg.Log.Format == configs.LogJSON {
		return slog.New(slog.NewJSONHandler(w, o))
	}
	return slog.New(slog.NewTextHandler(w, o))
}
