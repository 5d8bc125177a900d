package link

import (
	"bufio"
	"encoding/binary"
	"io"
	"net"
)

// Message is a message of PostgreSQL's protocol on its way over a link.
type Message struct {
	Conn     *Conn
	ToServer bool
	Type     byte   // 0 if it has none: a start-up packet or a cancel request
	Frame    []byte // the whole of it; valid until Tap and what it returned have returned
}

// Body is what follows the length.
func (m Message) Body() []byte {
	if m.Type == 0 {
		return m.Frame[4:]
	}
	return m.Frame[5:]
}

// Place is one with respect to a message.
type Place string

const (
	Before Place = "before"
	Amid   Place = "amid" // when half of it was passed on
	After  Place = "after"
)

// Tap sees each message of the connections that were made after it was set, before the
// message is passed on. What it returns is called at the place, by the goroutine that
// passes on what comes in that direction: while it runs, nothing else does. A Tap is called
// by many goroutines at a time.
//
// It sees nothing in connections with TLS, and is not to be used with them.
type Tap func(m Message) (at Place, do func())

// SetTap sets the tap, or takes it away with nil.
func (l *Link) SetTap(t Tap) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.tap = t
}

// Conn is a connection over a link.
type Conn struct {
	Number         int // how many the link had before it
	client, server net.Conn
}

// Cut closes the connection, to both sides.
func (c *Conn) Cut() {
	c.client.Close()
	c.server.Close()
}

// ServerPort is the port from which the server sees the connection come.
func (c *Conn) ServerPort() int { return c.server.LocalAddr().(*net.TCPAddr).Port }

// End tells one side that the other says no more; what that side says still passes.
func (c *Conn) End(toServer bool) {
	side := c.client
	if toServer {
		side = c.server
	}
	side.(*net.TCPConn).CloseWrite()
}

// maxFrameBytes bounds a message, as PostgreSQL does.
const maxFrameBytes = 1 << 30

// passMessages copies one direction, message by message.
func (l *Link) passMessages(tap Tap, c *Conn, toServer bool) {
	from, to, held := c.server, c.client, Mute
	if toServer {
		from, to, held = c.client, c.server, Deaf
	}
	defer to.Close()
	defer from.Close()
	in := bufio.NewReaderSize(from, 32<<10)
	first := toServer // it has no type
	send := func(b []byte) bool {
		if in.Buffered() == 0 { // what came in one piece is delayed as one
			l.slow()
		}
		l.hold(held)
		_, err := to.Write(b)
		return err == nil
	}
	for {
		m := Message{Conn: c, ToServer: toServer}
		var err error
		if m.Type, m.Frame, err = readFrame(in, first); err != nil {
			return
		}
		first = false
		at, do := tap(m)
		half := 0
		if do != nil {
			switch at {
			case Before:
				do()
			case Amid:
				half = len(m.Frame) / 2
				if !send(m.Frame[:half]) {
					return
				}
				do()
			}
		}
		if !send(m.Frame[half:]) {
			return
		}
		if do != nil && at == After {
			do()
		}
	}
}

func readFrame(in *bufio.Reader, first bool) (typ byte, frame []byte, err error) {
	header := 5
	if first {
		header = 4
	}
	frame = make([]byte, header)
	if _, err = io.ReadFull(in, frame); err != nil {
		return 0, nil, err
	}
	n := int(binary.BigEndian.Uint32(frame[header-4:])) - 4
	if n < 0 || n > maxFrameBytes {
		return 0, nil, io.ErrUnexpectedEOF
	}
	if !first {
		typ = frame[0]
	}
	frame = append(frame, make([]byte, n)...)
	_, err = io.ReadFull(in, frame[header:])
	return typ, frame, err
}
