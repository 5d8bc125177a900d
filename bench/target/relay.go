package target

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"os/signal"
	"strings"
	"syscall"
	"time"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/shardgate/shardgate/bench/measure"
	"github.com/shardgate/shardgate/gateway/dev"
	"github.com/shardgate/shardgate/gateway/localpg"
)

// RelayCommand is the argument with which the program runs itself as a bare relay.
const RelayCommand = "relay"

// relay is a process that copies bytes between clients and the plain PostgreSQL, a
// connection for each client. It looks at nothing, so its CPU time is what any gateway
// written in Go pays on this machine at this moment before it does anything of its own:
// the yardstick where a machine is shared.
type relay struct {
	cmd     *exec.Cmd
	in      io.Closer
	address string
}

func startRelay(ctx context.Context, server *localpg.Server) (*relay, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	network, address := pgconn.NetworkAddress(hostOf(server), uint16(server.Port()))
	r := &relay{cmd: exec.Command(self, RelayCommand, network+" "+address)}
	r.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	r.cmd.Stderr = os.Stderr
	if r.in, err = r.cmd.StdinPipe(); err != nil {
		return nil, err
	}
	out, err := r.cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := r.cmd.Start(); err != nil {
		return nil, err
	}
	stop := context.AfterFunc(ctx, func() { r.cmd.Process.Kill() })
	defer stop()
	line, err := bufio.NewReader(out).ReadString('\n')
	if err != nil {
		r.stop()
		return nil, fmt.Errorf("starting the relay: %w", err)
	}
	r.address = strings.TrimSpace(line)
	return r, nil
}

// stop ends the relay and waits.
func (r *relay) stop() {
	r.in.Close()
	kill := time.AfterFunc(5*time.Second, func() { r.cmd.Process.Kill() })
	defer kill.Stop()
	r.cmd.Wait() // how it ended is of interest to nobody
}

// describe is the target that goes through it to the plain PostgreSQL.
func (r *relay) describe(plain described) described {
	d := plain
	d.Name, d.URL = Relay, "postgresql://"+dev.User+"@"+r.address+"/"+dev.Database+"?sslmode=disable"
	d.Parts = append([]Part{{Role: Gateway, Name: Relay, CPU: measure.CPU{PID: r.cmd.Process.Pid}}}, plain.Parts...)
	return d
}

// runRelay is the relay's process, before the server with a network and an address. It ends
// with its input.
func runRelay(server string) error {
	signal.Notify(make(chan os.Signal, 1), os.Interrupt, syscall.SIGTERM)
	network, address, _ := strings.Cut(server, " ")
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	fmt.Println(l.Addr())
	go func() {
		io.Copy(io.Discard, os.Stdin)
		l.Close()
	}()
	for {
		client, err := l.Accept()
		if errors.Is(err, net.ErrClosed) {
			return nil
		}
		if err != nil {
			return err
		}
		upstream, err := net.Dial(network, address)
		if err != nil {
			client.Close()
			continue
		}
		// Each ends when either side hangs up.
		go pump(upstream, client)
		go pump(client, upstream)
	}
}

// pump copies until an end, and then closes both.
func pump(to, from net.Conn) {
	defer to.Close()
	defer from.Close()
	b := make([]byte, 16<<10)
	for {
		n, err := from.Read(b)
		if err != nil {
			return
		}
		if _, err := to.Write(b[:n]); err != nil {
			return
		}
	}
}
