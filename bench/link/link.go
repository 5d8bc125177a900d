// Package link is a TCP connection between two processes that can be broken: a proxy that
// copies bytes, and stops, cuts or delays them when told. Of PostgreSQL's protocol it knows
// where a message ends (see Tap), so that a fault can hit one message alone.
//
// The governing idea: what a network does to two machines is done where no privilege is
// needed, between two sockets on the same one.
package link

import (
	"context"
	"net"
	"sync"
	"time"
)

// Fault is what is wrong with a link.
type Fault string

const (
	None Fault = "none"
	// Cut closes all connections, and new ones as soon as they are made.
	Cut Fault = "cut"
	// Stall passes nothing on, in either direction; the connections stay.
	Stall Fault = "stall"
	// Mute lets requests through and holds the answers back: what was asked is done, and
	// the one who asked does not hear of it.
	Mute Fault = "mute"
	// Deaf holds requests back, and lets answers through.
	Deaf Fault = "deaf"
	// Slow delays everything.
	Slow Fault = "slow"
)

// delay is that of Slow, for each piece of data in each direction.
const delay = 20 * time.Millisecond

// Link is a listener that passes its connections on to an address. Its methods may be
// called by several goroutines.
type Link struct {
	listener net.Listener
	to       string
	wait     sync.WaitGroup

	mu      sync.Mutex
	fault   Fault
	changed chan struct{} // closed when fault changes
	conns   map[net.Conn]bool
	closed  bool
	tap     Tap
	opened  int // connections so far
}

// Listen makes a link to an address. A goroutine accepts until Close, and each connection
// has two, which end with it.
func Listen(to string) (*Link, error) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	l := &Link{listener: ln, to: to, fault: None, changed: make(chan struct{}), conns: map[net.Conn]bool{}}
	l.wait.Go(l.accept)
	return l, nil
}

// Addr is where to connect.
func (l *Link) Addr() *net.TCPAddr { return l.listener.Addr().(*net.TCPAddr) }

// Set breaks the link, or heals it with None. Connections that were cut stay so. What was
// held back is passed on when the link is healed; with Drop it is lost with its connection.
func (l *Link) Set(f Fault) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.fault = f
	close(l.changed)
	l.changed = make(chan struct{})
	if f == Cut {
		l.closeConns()
	}
}

// Drop closes all connections, with what is on its way in them.
func (l *Link) Drop() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.closeConns()
}

func (l *Link) closeConns() {
	for c := range l.conns {
		c.Close()
	}
	clear(l.conns)
}

// Close ends the link and waits for its goroutines.
func (l *Link) Close() {
	l.mu.Lock()
	l.closed = true
	l.closeConns()
	l.mu.Unlock()
	l.Set(None) // wakes those that hold something back
	l.listener.Close()
	l.wait.Wait()
}

func (l *Link) accept() {
	for {
		client, err := l.listener.Accept()
		if err != nil {
			return
		}
		if !l.keep(client) {
			continue
		}
		l.wait.Go(func() { l.serve(client) })
	}
}

// keep notes a connection, or closes it if the link is cut.
func (l *Link) keep(c net.Conn) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed || l.fault == Cut {
		c.Close()
		return false
	}
	l.conns[c] = true
	return true
}

func (l *Link) forget(c net.Conn) {
	c.Close()
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.conns, c)
}

// serve connects to the other side and passes on until either side ends.
func (l *Link) serve(client net.Conn) {
	defer l.forget(client)
	ctx, stop := context.WithTimeout(context.Background(), 5*time.Second)
	defer stop()
	server, err := new(net.Dialer).DialContext(ctx, "tcp", l.to)
	if err != nil {
		return
	}
	defer l.forget(server)
	if !l.keep(server) {
		return
	}
	l.mu.Lock()
	tap, c := l.tap, &Conn{Number: l.opened, client: client, server: server}
	l.opened++
	l.mu.Unlock()
	var both sync.WaitGroup
	if tap == nil {
		both.Go(func() { l.pass(client, server, Deaf) })
		both.Go(func() { l.pass(server, client, Mute) })
	} else {
		both.Go(func() { l.passMessages(tap, c, true) })
		both.Go(func() { l.passMessages(tap, c, false) })
	}
	both.Wait()
}

// pass copies one direction, which the fault held stops besides Stall.
func (l *Link) pass(from, to net.Conn, held Fault) {
	defer to.Close()
	defer from.Close()
	buf := make([]byte, 32<<10)
	for {
		n, err := from.Read(buf)
		if n > 0 {
			l.slow()
			l.hold(held)
			if _, err := to.Write(buf[:n]); err != nil {
				return
			}
		}
		if err != nil {
			return
		}
	}
}

// hold waits while a fault stops a direction.
func (l *Link) hold(held Fault) {
	for {
		l.mu.Lock()
		fault, changed := l.fault, l.changed
		l.mu.Unlock()
		switch fault {
		case Stall, held:
			<-changed
		default:
			return
		}
	}
}

// slow delays a piece of data on a slow link.
func (l *Link) slow() {
	l.mu.Lock()
	fault := l.fault
	l.mu.Unlock()
	if fault == Slow {
		time.Sleep(delay)
	}
}
