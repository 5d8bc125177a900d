package target

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/shardgate/shardgate/bench/link"
	"github.com/shardgate/shardgate/configs"
	"github.com/shardgate/shardgate/gateway"
	"github.com/shardgate/shardgate/gateway/dev"
	"github.com/shardgate/shardgate/gateway/localpg"
)

// GatewayCommand is the argument with which the program runs itself as a gateway.
const GatewayCommand = "gateway"

// ClusterOptions say what to start.
type ClusterOptions struct {
	Shards, Gateways int
	Tables           string    // of the configuration, in YAML
	Dir              string    // where to make a folder for the data; "": that for temporary files
	Log              io.Writer // takes what the gateways log; nil: nothing
}

// Cluster is shards with several gateways before them, each a process of its own, and a
// link between each gateway and each shard. All of these can be broken.
type Cluster struct {
	Servers  []*localpg.Server
	Gateways []*GatewayProcess
	Links    [][]*link.Link // by gateway and shard

	root string
}

// StartCluster starts one. The caller stops it. fsync is off: processes are killed, and
// not the machine.
func StartCluster(ctx context.Context, o ClusterOptions) (*Cluster, error) {
	root, err := os.MkdirTemp(o.Dir, "shardgate-histories-")
	if err != nil {
		return nil, err
	}
	c := &Cluster{root: root, Servers: make([]*localpg.Server, o.Shards)}
	if err := c.start(ctx, o); err != nil {
		c.Stop()
		return nil, err
	}
	return c, nil
}

func (c *Cluster) start(ctx context.Context, o ClusterOptions) error {
	if err := os.Chmod(c.root, 0o755); err != nil { // under root, the servers are another user's
		return err
	}
	template := localpg.NewTemplate(filepath.Join(c.root, "template"))
	errs := make([]error, o.Shards)
	var wait sync.WaitGroup
	for i := range o.Shards {
		wait.Go(func() {
			c.Servers[i], errs[i] = localpg.Start(ctx, localpg.Options{Dir: filepath.Join(c.root, shardName(i)), Name: shardName(i),
				Superuser: dev.User, Unsafe: true, Template: template,
				Settings: map[string]string{"max_prepared_transactions": "300", "shared_buffers": "32MB"}})
		})
	}
	wait.Wait()
	if err := errors.Join(errs...); err != nil {
		return err
	}
	for i := range o.Gateways {
		if err := c.addGateway(ctx, i, o); err != nil {
			return fmt.Errorf("gateway %d: %w", i+1, err)
		}
	}
	return nil
}

func shardName(i int) string { return "s" + strconv.Itoa(i+1) }

func (c *Cluster) addGateway(ctx context.Context, i int, o ClusterOptions) error {
	address, err := freeAddress()
	if err != nil {
		return err
	}
	var config strings.Builder
	fmt.Fprintf(&config, "listen: %s\ntimeouts: {recovery_interval: 1s}\nshards:\n", address)
	var links []*link.Link
	for _, s := range c.Servers {
		l, err := link.Listen(net.JoinHostPort(s.Host(), strconv.Itoa(s.Port())))
		if err != nil {
			return err
		}
		links = append(links, l)
		fmt.Fprintf(&config, "  - {name: %s, servers: [\"postgres://%s@%s/%s?sslmode=disable\"]}\n", s.Name(), dev.User, l.Addr(), dev.Database)
	}
	c.Links = append(c.Links, links)
	config.WriteString(o.Tables)
	file := filepath.Join(c.root, fmt.Sprintf("gateway%d.yaml", i+1))
	if err := os.WriteFile(file, []byte(config.String()), 0o600); err != nil {
		return err
	}
	g := &GatewayProcess{URL: "postgresql://" + dev.User + "@" + address + "/" + dev.Database + "?sslmode=disable", config: file, log: o.Log}
	c.Gateways = append(c.Gateways, g)
	return g.Start(ctx)
}

// freeAddress is one on the loopback interface that nobody uses just now.
func freeAddress() (string, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	return l.Addr().String(), l.Close()
}

// Stop ends everything and removes the data.
func (c *Cluster) Stop() {
	for _, g := range c.Gateways {
		g.Kill()
	}
	for _, links := range c.Links {
		for _, l := range links {
			l.Close()
		}
	}
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	var wait sync.WaitGroup
	for _, s := range c.Servers {
		if s != nil {
			wait.Go(func() { report(s.StopImmediate(ctx)) })
		}
	}
	wait.Wait()
	os.RemoveAll(c.root)
}

// GatewayProcess is a gateway that can be killed, paused and started again at the same
// address. Its methods are for one goroutine at a time.
type GatewayProcess struct {
	URL    string
	config string
	log    io.Writer
	cmd    *exec.Cmd
	done   chan struct{}
}

// Start starts the gateway and waits until it listens, trying again while a shard can't
// be reached.
func (g *GatewayProcess) Start(ctx context.Context) error {
	for {
		err := g.try(ctx)
		if err == nil || ctx.Err() != nil {
			return err
		}
		select {
		case <-ctx.Done():
			return err
		case <-time.After(200 * time.Millisecond):
		}
	}
}

func (g *GatewayProcess) try(ctx context.Context) error {
	self, err := os.Executable()
	if err != nil {
		return err
	}
	g.cmd, g.done = exec.Command(self, GatewayCommand, g.config), make(chan struct{})
	g.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true} // Ctrl-C is for us
	dieWithUs(g.cmd.SysProcAttr)
	g.cmd.Stderr = g.log
	out, err := g.cmd.StdoutPipe()
	if err != nil {
		return err
	}
	started := make(chan error, 1)
	said := make(chan string, 1)
	go g.run(out, started, said)
	if err := <-started; err != nil {
		return err
	}
	select {
	case line := <-said:
		if line == gatewayReady {
			return nil
		}
		g.Kill()
		return errors.New(line)
	case <-ctx.Done():
		g.Kill()
		return ctx.Err()
	}
}

// gatewayReady is what the process says when it listens; anything else is an error.
const gatewayReady = "ready"

// run keeps its thread until the gateway ends: the signal that ends it with us is sent
// when the thread that forked ends.
func (g *GatewayProcess) run(out io.Reader, started chan<- error, said chan<- string) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	cmd, done := g.cmd, g.done
	err := cmd.Start()
	started <- err
	if err != nil {
		close(done)
		return
	}
	line, err := bufio.NewReader(out).ReadString('\n')
	if err != nil {
		line = "the gateway ended while it started"
	}
	said <- strings.TrimSpace(line)
	cmd.Wait() // how it ended is of interest to nobody
	close(done)
}

// Kill ends the gateway by SIGKILL. One that has ended is no error.
func (g *GatewayProcess) Kill() {
	if g.cmd == nil || g.cmd.Process == nil {
		return
	}
	g.cmd.Process.Kill()
	<-g.done
}

// Signal sends a signal to the gateway.
func (g *GatewayProcess) Signal(s os.Signal) error { return g.cmd.Process.Signal(s) }

// runGateway serves a configuration until it is killed, or returns why it can't.
func runGateway(config string) error {
	cfg, err := configs.Load(config)
	if err != nil {
		return err
	}
	log := slog.New(slog.NewTextHandler(os.Stderr, nil))
	gateway.UseProcessors(cfg.Processors)
	if _, err := gateway.Start(context.Background(), cfg, log); err != nil {
		return err
	}
	fmt.Println(gatewayReady)
	select {}
}
