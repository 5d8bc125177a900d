package wire

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"sync/atomic"
	"time"
)

// Sizes of a connection's buffers, in bytes.
const (
	// readBufferBytes is what a read buffer has to begin with: more than what
	// nearly every request and every single row's answer needs.
	readBufferBytes = 8 << 10
	// bulkBufferBytes is what a read buffer grows to while the peer sends
	// faster than one small buffer a read.
	bulkBufferBytes = 64 << 10
	// writeBufferBytes is how much output is collected before it is written
	// without being asked to.
	writeBufferBytes = 32 << 10
	// headerBytes is the type byte and the length word of a message.
	headerBytes = 5
)

// ErrMessageLength says that a message's length word is below 4 or above the
// connection's limit. The connection can't be used any more, since where the
// next message begins is unknown.
var ErrMessageLength = errors.New("invalid message length")

// Conn frames the messages of one connection, in both directions. Only one
// goroutine may use it, except for Close, NetConn, SetDeadline and Call.
//
// A message returned by Read or Buffered, header included, lies in the read
// buffer. It stays valid until the next call that may read, or, between Hold
// and Release, until Release.
type Conn struct {
	nc    net.Conn
	sock  io.ReadWriter // nc, for reading and writing
	fresh freshReader   // the same; nil where it needs a buffer to wait with
	limit int           // of a whole message without its type byte, in bytes

	buf  []byte // the read buffer; buf[r:w] has been received and not consumed
	r, w int
	held bool // messages before r are still in use

	out []byte // waits for Flush

	dst *Conn // receives what Pass accepts; nil outside BeginRelay/EndRelay
	run int   // buf[run:r] is accepted for dst and not yet handed over

	calls atomic.Uint64 // reads and writes begun, and ended
}

// NewConn wraps nc, which it owns from now on. A message whose length word is
// above limitBytes is refused with ErrMessageLength.
func NewConn(nc net.Conn, limitBytes int) *Conn {
	c := &Conn{nc: nc, sock: Socket(nc), limit: limitBytes}
	c.fresh, _ = c.sock.(freshReader)
	return c
}

// SetLimit changes the limit of a message's length word, in bytes.
func (c *Conn) SetLimit(limitBytes int) { c.limit = limitBytes }

// NetConn returns the connection below, for deadlines and addresses.
func (c *Conn) NetConn() net.Conn { return c.nc }

// Close closes the connection below. It may be called more than once and from
// any goroutine.
func (c *Conn) Close() error { return c.nc.Close() }

// Call tells the read or write that is under way from all others of the connection; it is 0
// while there is none. It may be called by any goroutine.
func (c *Conn) Call() uint64 {
	if n := c.calls.Load(); n%2 == 1 {
		return n
	}
	return 0
}

func (c *Conn) write(b []byte) error {
	c.calls.Add(1)
	_, err := c.sock.Write(b)
	c.calls.Add(1)
	return err
}

// SetDeadline bounds all reads and writes to come; the zero time takes the
// bound away.
func (c *Conn) SetDeadline(t time.Time) error { return c.nc.SetDeadline(t) }

// Header is what the first five bytes of a message say.
type Header struct {
	Type byte
	Size int // of the whole message in bytes, header included
}

// header decodes the header at buf[r:], which must be there.
func (c *Conn) header() (Header, error) {
	n := binary.BigEndian.Uint32(c.buf[c.r+1:])
	if n < 4 || uint64(n) > uint64(c.limit) {
		return Header{}, fmt.Errorf("%w: %d in a message of type %q", ErrMessageLength, n, c.buf[c.r])
	}
	return Header{Type: c.buf[c.r], Size: int(n) + 1}, nil
}

// Peek waits until the next message's header is there and returns it without
// consuming anything. io.EOF means that the peer closed between two messages.
func (c *Conn) Peek() (Header, error) {
	if c.w-c.r < headerBytes {
		if err := c.fill(headerBytes); err != nil {
			return Header{}, err
		}
	}
	return c.header()
}

// Read returns the next message whole, header included, and consumes it.
func (c *Conn) Read() ([]byte, error) {
	m, err := c.whole()
	c.r += len(m)
	return m, err
}

// whole returns the next message, header included, without consuming it.
func (c *Conn) whole() ([]byte, error) {
	h, err := c.Peek()
	if err != nil {
		return nil, err
	}
	if c.w-c.r < h.Size {
		if err := c.fill(h.Size); err != nil {
			return nil, err
		}
	}
	return c.buf[c.r : c.r+h.Size : c.r+h.Size], nil
}

// Buffered returns the next message if all of it has been received already.
// It never reads.
func (c *Conn) Buffered() (m []byte, ok bool, err error) {
	if c.w-c.r < headerBytes {
		return nil, false, nil
	}
	h, err := c.header()
	if err != nil || c.w-c.r < h.Size {
		return nil, false, err
	}
	m = c.buf[c.r : c.r+h.Size : c.r+h.Size]
	c.r += h.Size
	return m, true, nil
}

// BufferedRow returns the next message, and consumes it, if that is a DataRow of which all
// has been received already. It never reads.
func (c *Conn) BufferedRow() (m []byte, ok bool) {
	if c.w == c.r || c.buf[c.r] != 'D' {
		return nil, false
	}
	m, ok, err := c.Buffered()
	return m, ok && err == nil
}

// HasInput says whether received bytes wait to be consumed.
func (c *Conn) HasInput() bool { return c.w > c.r }

// Hold keeps the messages that are read from now on valid until Release.
func (c *Conn) Hold() { c.held = true }

// Release ends Hold.
func (c *Conn) Release() { c.held = false }

// fill reads until n unconsumed bytes are there. A length is only a claim of the
// peer's: beyond bulkBufferBytes, room is made for as much again as has come.
func (c *Conn) fill(n int) error {
	for {
		want := min(n, max(bulkBufferBytes, 2*(c.w-c.r)))
		if err := c.fillRoom(want); err != nil || want == n {
			return err
		}
	}
}

func (c *Conn) fillRoom(n int) error {
	if c.fresh != nil && c.r == c.w && !c.held && n <= readBufferBytes {
		if err := c.fillFresh(); err != nil || c.w >= n {
			return err
		}
	}
	if err := c.makeRoom(n); err != nil {
		return err
	}
	for c.w-c.r < n {
		c.calls.Add(1)
		m, err := c.sock.Read(c.buf[c.w:])
		c.calls.Add(1)
		c.w += m
		if err != nil && c.w-c.r < n {
			if errors.Is(err, io.EOF) && c.w > c.r {
				return io.ErrUnexpectedEOF
			}
			return err
		}
	}
	return nil
}

// fillFresh reads once, with everything consumed. Until something comes, the connection
// has no read buffer: of thousands that wait, each would have one. What is accepted for
// dst is handed over before, as in makeRoom. The output is not touched: another goroutine
// may write while this one waits.
func (c *Conn) fillFresh() error {
	if c.dst != nil {
		if err := c.handOver(true); err != nil {
			return err
		}
	}
	// A read that filled the buffer to its end says that the peer has more than that to
	// say: larger reads then save system calls.
	buffers := &smallBuffers
	if len(c.buf) > 0 && c.w == len(c.buf) || c.w > readBufferBytes {
		buffers = &bulkBuffers
	}
	recycle(c.buf)
	c.buf, c.r, c.w, c.run = nil, 0, 0, 0
	var err error
	c.calls.Add(1)
	c.buf, c.w, err = c.fresh.readFresh(buffers)
	c.calls.Add(1)
	return err
}

// makeRoom gives buf[r:] a capacity of at least n bytes, and room for one byte
// at least beyond w. What is accepted for dst is handed over first, since the
// buffer may move below it and since the peer should not wait for it while this
// side waits for input.
func (c *Conn) makeRoom(n int) error {
	if c.dst != nil {
		if err := c.handOver(true); err != nil {
			return err
		}
	}
	full := c.w == len(c.buf)
	switch {
	case c.held:
		if len(c.buf)-c.r >= n && !full {
			return nil
		}
		// Messages before r are in use: the old buffer stays as it is.
		c.grow(max(n, 2*(c.w-c.r), readBufferBytes))
	case c.r == c.w && len(c.buf) >= n && len(c.buf) <= bulkBufferBytes:
		// A read that filled the buffer to its end says that the peer has more
		// than that to say: larger reads then save system calls.
		if full && len(c.buf) < bulkBufferBytes {
			c.buf = make([]byte, bulkBufferBytes)
		}
		c.r, c.w = 0, 0
	case len(c.buf) >= n && len(c.buf) <= bulkBufferBytes:
		copy(c.buf, c.buf[c.r:c.w])
		c.r, c.w = 0, c.w-c.r
		if c.w == len(c.buf) {
			c.grow(2 * len(c.buf))
		}
	case n > bulkBufferBytes && len(c.buf)-c.r >= n && !full:
		// One large message is on its way. For smaller ones after it, its buffer
		// is not kept.
	default:
		size := readBufferBytes
		if n > size {
			size = max(n, bulkBufferBytes)
		}
		c.grow(max(size, c.w-c.r+1))
	}
	c.run = c.r
	return nil
}

func (c *Conn) grow(size int) {
	b := make([]byte, size)
	c.w = copy(b, c.buf[c.r:c.w])
	c.buf, c.r = b, 0
}

// Rest gives a large write buffer back to the runtime, if nothing waits for Flush.
func (c *Conn) Rest() {
	if len(c.out) == 0 && cap(c.out) > readBufferBytes {
		c.out = nil
	}
}

// Write appends whole messages, or parts of them, to the output. They are sent
// by Flush, or when much has come together.
func (c *Conn) Write(b []byte) error {
	if len(c.out)+len(b) > writeBufferBytes {
		if err := c.Flush(); err != nil {
			return err
		}
		if len(b) >= writeBufferBytes {
			return c.write(b)
		}
	}
	c.out = append(c.out, b...)
	return nil
}

// Out returns the output buffer for appending: c.SetOut(Append...(c.Out(), ..)).
func (c *Conn) Out() []byte { return c.out }

// SetOut puts back what Out gave, extended.
func (c *Conn) SetOut(b []byte) { c.out = b }

// Pending is the number of bytes that wait for Flush.
func (c *Conn) Pending() int { return len(c.out) }

// Flush sends the output.
func (c *Conn) Flush() error {
	if len(c.out) == 0 {
		return nil
	}
	err := c.write(c.out)
	if cap(c.out) > 2*writeBufferBytes {
		c.out = nil
	} else {
		c.out = c.out[:0]
	}
	return err
}

// BeginRelay starts passing messages on to dst: from now to EndRelay, Pass
// accepts the next message for dst and Drop leaves it out. Accepted messages
// that lie side by side are handed over as one piece, straight from this
// connection's read buffer where dst has nothing else to send.
func (c *Conn) BeginRelay(dst *Conn) {
	c.dst, c.run = dst, c.r
}

// EndRelay hands over what is accepted. With flush, dst is flushed as well.
// It may be called without a BeginRelay.
func (c *Conn) EndRelay(flush bool) error {
	if c.dst == nil {
		return nil
	}
	err := c.handOver(flush)
	c.dst = nil
	return err
}

// handOver gives buf[run:r] to dst.
func (c *Conn) handOver(flush bool) error {
	b := c.buf[c.run:c.r]
	c.run = c.r
	if len(b) == 0 {
		if flush {
			if err := c.dst.Flush(); err != nil {
				return &RelayError{err}
			}
		}
		return nil
	}
	if flush && len(c.dst.out) == 0 {
		if err := c.dst.write(b); err != nil {
			return &RelayError{err}
		}
		return nil
	}
	if err := c.dst.Write(b); err != nil {
		return &RelayError{err}
	}
	if flush {
		if err := c.dst.Flush(); err != nil {
			return &RelayError{err}
		}
	}
	return nil
}

// RelayError is an error of the connection that a relay writes to, as opposed
// to the one that it reads from.
type RelayError struct{ Err error }

func (e *RelayError) Error() string { return e.Err.Error() }

func (e *RelayError) Unwrap() error { return e.Err }

// Body returns the next message whole without consuming it, for looking into
// it, or changing it in place, before Pass or Drop.
func (c *Conn) Body() ([]byte, error) {
	m, err := c.whole()
	if err != nil {
		return nil, err
	}
	return m[headerBytes:], nil
}

// Pass accepts the next message for the relay's destination. A message larger
// than the buffer flows through in pieces.
func (c *Conn) Pass() error {
	h, err := c.Peek()
	if err != nil {
		return err
	}
	if c.w-c.r >= h.Size {
		c.r += h.Size
		return nil
	}
	if h.Size <= bulkBufferBytes {
		if err := c.fill(h.Size); err != nil {
			return err
		}
		c.r += h.Size
		return nil
	}
	return c.eachPiece(h.Size, func(int) error { return c.handOver(true) })
}

// Drop consumes the next message without passing it on.
func (c *Conn) Drop() error {
	h, err := c.Peek()
	if err != nil {
		return err
	}
	if c.dst != nil {
		if err := c.handOver(false); err != nil {
			return err
		}
	}
	err = c.eachPiece(h.Size, func(int) error { c.run = c.r; return nil })
	c.run = c.r
	return err
}

// eachPiece consumes size bytes as they come, and calls f after each piece.
func (c *Conn) eachPiece(size int, f func(n int) error) error {
	for size > 0 {
		if c.r == c.w {
			if err := c.fill(1); err != nil {
				if errors.Is(err, io.EOF) {
					return io.ErrUnexpectedEOF
				}
				return err
			}
		}
		n := min(size, c.w-c.r)
		c.r += n
		size -= n
		if size == 0 {
			return nil
		}
		if err := f(n); err != nil {
			return err
		}
	}
	return nil
}

// PassRows accepts DataRow messages ('D') up to the first message of another
// type, which it leaves. It returns their number.
func (c *Conn) PassRows() (rows int64, err error) {
	for {
		// The loop over what is buffered is the hottest of all: five bytes
		// looked at for each row.
		for c.w-c.r >= headerBytes {
			if c.buf[c.r] != 'D' {
				return rows, nil
			}
			n := int(binary.BigEndian.Uint32(c.buf[c.r+1:])) + 1
			if n < headerBytes || n-1 > c.limit || c.w-c.r < n {
				break
			}
			c.r += n
			rows++
		}
		h, err := c.Peek()
		if err != nil {
			return rows, err
		}
		if h.Type != 'D' {
			return rows, nil
		}
		if err := c.Pass(); err != nil {
			return rows, err
		}
		rows++
	}
}
