package wire

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"sync"
	"testing"
	"time"

	"pgregory.net/rapid"
)

// scriptedConn is a peer that sends input in pieces of the given sizes, the last
// of which repeats, and then err. It records what is written to it.
type scriptedConn struct {
	net.Conn // nil: what isn't below is not called
	input    []byte
	pieces   []int
	err      error
	written  []byte
	writeErr error
	writes   int
}

func (s *scriptedConn) Read(b []byte) (int, error) {
	if len(b) == 0 {
		panic("a read without room")
	}
	if len(s.input) == 0 {
		return 0, s.err
	}
	n := len(b)
	if len(s.pieces) > 0 {
		n = min(n, s.pieces[0])
		if len(s.pieces) > 1 {
			s.pieces = s.pieces[1:]
		}
	}
	n = copy(b[:n], s.input)
	s.input = s.input[n:]
	return n, nil
}

func (s *scriptedConn) Write(b []byte) (int, error) {
	if s.writeErr != nil {
		return 0, s.writeErr
	}
	s.writes++
	s.written = append(s.written, b...)
	return len(b), nil
}

func (s *scriptedConn) Close() error { return nil }

// scripted makes a connection to such a peer.
func scripted(input []byte, pieces ...int) (*Conn, *scriptedConn) {
	s := &scriptedConn{input: input, pieces: pieces, err: io.EOF}
	return NewConn(s, 1<<24), s
}

// scriptedFresh is such a peer of a socket that takes its buffers when something comes.
type scriptedFresh struct{ *scriptedConn }

func (s scriptedFresh) readFresh(from *sync.Pool) ([]byte, int, error) {
	b := takeBuffer(from)
	copy(b, bytes.Repeat([]byte{0xff}, len(b))) // whoever still uses it will see
	n, err := s.Read(b)
	if err != nil {
		recycle(b)
		return nil, 0, err
	}
	return b, n, nil
}

// scriptedFreshly is scripted with such a peer.
func scriptedFreshly(input []byte, pieces ...int) (*Conn, *scriptedConn) {
	c, s := scripted(input, pieces...)
	c.fresh = scriptedFresh{s}
	return c, s
}

// sink makes a connection to a peer that takes everything.
func sink() (*Conn, *scriptedConn) { return scripted(nil) }

// message makes a message of a whole size in bytes, with contents that differ
// from those of other messages.
func message(typ byte, size, seed int) []byte {
	b := make([]byte, size)
	b[0] = typ
	binary.BigEndian.PutUint32(b[1:], uint32(size-1))
	for i := headerBytes; i < size; i++ {
		b[i] = byte(i*7 + seed*13 + i>>8)
	}
	return b
}

// edgeSizes are those of messages around what the buffers hold.
var edgeSizes = []int{
	5, 6, 7, 118, 1000, readBufferBytes - 5, readBufferBytes - 1, readBufferBytes, readBufferBytes + 1,
	writeBufferBytes - 1, writeBufferBytes, writeBufferBytes + 1,
	bulkBufferBytes - 1, bulkBufferBytes, bulkBufferBytes + 1, 3*bulkBufferBytes + 11, 5,
}

// edgePieces are the sizes of reads that are tried on them.
var edgePieces = [][]int{{1}, {5}, {4, 1 << 30}, {readBufferBytes}, {readBufferBytes - 1, 2, 1 << 30}, {bulkBufferBytes}, {1 << 30}}

func edgeMessages() (list [][]byte, all []byte) {
	for i, size := range edgeSizes {
		m := message("DTCdE"[i%5], size, i)
		list, all = append(list, m), append(all, m...)
	}
	return list, all
}

func TestConnReadsWhatCame(t *testing.T) {
	list, all := edgeMessages()
	for _, pieces := range edgePieces {
		t.Run(fmt.Sprint(pieces), func(t *testing.T) {
			c, _ := scripted(all, pieces...)
			for i, want := range list {
				h, err := c.Peek()
				if err != nil || h != (Header{want[0], len(want)}) {
					t.Fatal(i, h, err)
				}
				if i%2 == 0 {
					body, err := c.Body()
					if err != nil || !bytes.Equal(body, want[headerBytes:]) {
						t.Fatalf("body of message %d: %d bytes, %v", i, len(body), err)
					}
				}
				got, err := c.Read()
				if err != nil || !bytes.Equal(got, want) {
					t.Fatalf("message %d: %d bytes of %d, %v", i, len(got), len(want), err)
				}
			}
			if _, err := c.Read(); err != io.EOF {
				t.Error(err)
			}
		})
	}
}

// Each message is passed, or dropped where its number says so; all of them; or none.
func TestConnRelaysWhatCame(t *testing.T) {
	list, all := edgeMessages()
	for _, pieces := range edgePieces {
		for every := 1; every <= 4; every++ {
			t.Run(fmt.Sprint(pieces, every), func(t *testing.T) {
				c, _ := scripted(all, pieces...)
				dst, peer := sink()
				var want []byte
				c.BeginRelay(dst)
				for i, m := range list {
					var err error
					if i%every == 0 {
						want = append(want, m...)
						err = c.Pass()
					} else {
						err = c.Drop()
					}
					if err != nil {
						t.Fatal(i, err)
					}
				}
				if err := c.EndRelay(true); err != nil || !bytes.Equal(peer.written, want) {
					t.Errorf("%d bytes of %d arrived, %v", len(peer.written), len(want), err)
				}
				if c.HasInput() || dst.Pending() != 0 {
					t.Error("something is left")
				}
			})
		}
	}
}

func TestConnHoldsFrames(t *testing.T) {
	list, all := edgeMessages()
	list, all = append(list, list...), append(all, all...)
	for _, pieces := range edgePieces {
		c, _ := scripted(all, pieces...)
		c.Hold()
		var got [][]byte
		for range list {
			m, ok, err := c.Buffered()
			if err == nil && !ok {
				m, err = c.Read()
			}
			if err != nil {
				t.Fatal(err)
			}
			got = append(got, m)
		}
		for i := range list {
			if !bytes.Equal(got[i], list[i]) {
				t.Errorf("pieces of %v: message %d has changed", pieces, i)
			}
		}
		// A message can't be appended to at the cost of the next one.
		for _, m := range got {
			_ = append(m, "overwritten"...)
		}
		for i := range list {
			if !bytes.Equal(got[i], list[i]) {
				t.Errorf("pieces of %v: message %d was overwritten", pieces, i)
			}
		}
		c.Release()
	}
}

func TestConnPassesRows(t *testing.T) {
	var rows, all []byte
	n := 0
	for size := headerBytes; size < 3*bulkBufferBytes; size = size*3/2 + 1 {
		for range 1 + bulkBufferBytes/size {
			rows = append(rows, message('D', size, n)...)
			n++
		}
	}
	all = append(append(all, rows...), message('C', 20, 0)...)
	for _, pieces := range edgePieces {
		c, _ := scripted(all, pieces...)
		dst, peer := sink()
		c.BeginRelay(dst)
		got, err := c.PassRows()
		if err != nil || got != int64(n) {
			t.Fatal(got, n, err)
		}
		if err := c.EndRelay(true); err != nil || !bytes.Equal(peer.written, rows) {
			t.Errorf("pieces of %v: %d bytes of %d arrived, %v", pieces, len(peer.written), len(rows), err)
		}
		if h, err := c.Peek(); err != nil || h.Type != 'C' {
			t.Error(h, err)
		}
		if got, err := c.PassRows(); got != 0 || err != nil {
			t.Error(got, err)
		}
	}
}

func TestConnRefusesLengths(t *testing.T) {
	const limit = 100
	reads := map[string]func(*Conn) error{
		"Peek":     func(c *Conn) error { _, err := c.Peek(); return err },
		"Read":     func(c *Conn) error { _, err := c.Read(); return err },
		"Body":     func(c *Conn) error { _, err := c.Body(); return err },
		"Pass":     (*Conn).Pass,
		"Drop":     (*Conn).Drop,
		"PassRows": func(c *Conn) error { _, err := c.PassRows(); return err },
		"Buffered": func(c *Conn) error {
			_, first := c.Peek()
			_, _, err := c.Buffered()
			if first != nil && err == nil {
				t.Error("what Peek refuses is given out")
			}
			return err
		},
	}
	for name, read := range reads {
		for _, n := range []uint32{0, 1, 2, 3, limit + 1, 1 << 31, 1<<32 - 1} {
			c, _ := scripted(append(binary.BigEndian.AppendUint32([]byte{'D'}, n), make([]byte, 200)...))
			c.SetLimit(limit)
			dst, peer := sink()
			c.BeginRelay(dst)
			if err := read(c); !errors.Is(err, ErrMessageLength) {
				t.Errorf("%s, length %d: %v", name, n, err)
			}
			if err := c.EndRelay(true); err != nil || len(peer.written) > 0 {
				t.Errorf("%s, length %d: %d bytes were passed, %v", name, n, len(peer.written), err)
			}
		}
		for _, n := range []int{5, limit + 1} { // a length word of 4, and of the limit itself
			c, _ := scripted(append(message('D', n, 0), message('Z', 6, 0)...))
			c.SetLimit(limit)
			dst, _ := sink()
			c.BeginRelay(dst)
			if err := read(c); err != nil {
				t.Errorf("%s, size %d: %v", name, n, err)
			}
		}
	}
}

func TestConnEOF(t *testing.T) {
	first, second := message('D', 10, 1), message('D', 2*bulkBufferBytes, 2)
	for _, cut := range []int{0, 1, 4, 5, 6, readBufferBytes, bulkBufferBytes, 2*bulkBufferBytes - 1} {
		want := io.ErrUnexpectedEOF
		if cut == 0 {
			want = io.EOF
		}
		for name, read := range map[string]func(*Conn) error{
			"Read": func(c *Conn) error { _, err := c.Read(); return err },
			"Body": func(c *Conn) error { _, err := c.Body(); return err },
			"Pass": (*Conn).Pass,
			"Drop": (*Conn).Drop,
			"PassRows": func(c *Conn) error {
				n, err := c.PassRows()
				if n != 0 {
					t.Error("a row was counted that didn't come")
				}
				return err
			},
		} {
			c, _ := scripted(append(bytes.Clone(first), second[:cut]...), 3000)
			dst, peer := sink()
			c.BeginRelay(dst)
			if err := c.Pass(); err != nil {
				t.Fatal(err)
			}
			if err := read(c); err != want {
				t.Errorf("%s, %d bytes of the message: %v", name, cut, err)
			}
			if err := c.EndRelay(true); err != nil || !bytes.HasPrefix(peer.written, first) {
				t.Errorf("%s, %d bytes of the message: the message before it didn't arrive, %v", name, cut, err)
			}
		}
	}
	c, peer := scripted(first[:7])
	peer.err = net.ErrClosed
	if _, err := c.Read(); err != net.ErrClosed {
		t.Error(err)
	}
}

func TestConnRelayError(t *testing.T) {
	for _, cause := range []error{net.ErrClosed, io.EOF} {
		// The destination is written to at different moments.
		for name, relay := range map[string]func(c *Conn) error{
			"EndRelay": func(c *Conn) error { return errors.Join(c.Pass(), c.EndRelay(true)) },
			"Body":     func(c *Conn) error { _, err := c.Body(); return errors.Join(c.Pass(), c.Pass(), err, readBody(c)) },
			"Drop large": func(c *Conn) error {
				return errors.Join(c.Pass(), c.Pass(), c.Drop())
			},
			"Pass large": func(c *Conn) error { return errors.Join(c.Pass(), c.Pass(), c.Pass()) },
			"PassRows":   func(c *Conn) error { _, err := c.PassRows(); return err },
		} {
			in := append(message('D', 10, 0), message('D', 20, 0)...)
			in = append(in, message('D', 4*bulkBufferBytes, 0)...)
			c, _ := scripted(in, 30, 1000)
			dst, peer := sink()
			peer.writeErr = cause
			c.BeginRelay(dst)
			err := relay(c)
			var re *RelayError
			if !errors.As(err, &re) || re.Err != cause || !errors.Is(err, cause) || re.Error() != cause.Error() {
				t.Errorf("%s, %v: %v", name, cause, err)
			}
		}
	}
	// The source's own error is none.
	c, _ := scripted(message('D', 10, 0))
	dst, _ := sink()
	c.BeginRelay(dst)
	_, err := c.PassRows()
	var re *RelayError
	if errors.As(err, &re) || err != io.EOF {
		t.Error(err)
	}
}

func readBody(c *Conn) error {
	_, err := c.Body()
	return err
}

// A relay hands over what it has before it waits: the peer may be waiting for it.
func TestConnRelayDoesNotSitOnMessages(t *testing.T) {
	server, source := net.Pipe()
	client, peer := net.Pipe()
	defer server.Close()
	defer peer.Close()
	c, dst := NewConn(source, 1<<20), NewConn(client, 1<<20)
	defer c.Close()
	defer dst.Close()
	row := message('D', 50, 1)
	done := make(chan error, 1)
	go func() { // ends when the row and the Z have been passed, or a pipe is closed
		c.BeginRelay(dst)
		_, err := c.PassRows()
		done <- errors.Join(err, c.Pass(), c.EndRelay(true))
	}()
	server.SetDeadline(time.Now().Add(5 * time.Second))
	peer.SetDeadline(time.Now().Add(5 * time.Second))
	if _, err := server.Write(row); err != nil {
		t.Fatal(err)
	}
	got := make([]byte, len(row))
	if _, err := io.ReadFull(peer, got); err != nil || !bytes.Equal(got, row) {
		t.Fatal("the row waits for the next message:", err)
	}
	if _, err := server.Write(message('Z', 6, 0)); err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadFull(peer, got[:6]); err != nil || got[0] != 'Z' {
		t.Fatal(err)
	}
	if err := <-done; err != nil {
		t.Error(err)
	}
}

// Over TCP, reads end wherever they end.
func TestConnOverTCP(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	list, all := edgeMessages()
	go func() { // ends when all has been written
		nc, err := l.Accept()
		if err != nil {
			return
		}
		defer nc.Close()
		for n := 1; len(all) > 0; n = n*2 + 1 {
			n = min(n, len(all))
			if _, err := nc.Write(all[:n]); err != nil {
				return
			}
			all = all[n:]
		}
	}()
	nc, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	c := NewConn(nc, 1<<24)
	defer c.Close()
	c.SetDeadline(time.Now().Add(10 * time.Second))
	dst, peer := sink()
	var want []byte
	for i, m := range list {
		if i%3 == 0 {
			if got, err := c.Read(); err != nil || !bytes.Equal(got, m) {
				t.Fatal(i, err)
			}
			continue
		}
		c.BeginRelay(dst)
		want = append(want, m...)
		if err := errors.Join(c.Pass(), c.EndRelay(i%2 == 0)); err != nil {
			t.Fatal(i, err)
		}
	}
	if _, err := c.Read(); err != io.EOF {
		t.Error(err)
	}
	if err := dst.Flush(); err != nil || !bytes.Equal(peer.written, want) {
		t.Error("what arrived differs from what was passed", err)
	}
}

func TestConnOutput(t *testing.T) {
	c, peer := sink()
	var want []byte
	for i, size := range edgeSizes {
		m := message('D', size, i)
		want = append(want, m...)
		if i%3 == 0 {
			c.SetOut(append(c.Out(), m...))
		} else if err := c.Write(m); err != nil {
			t.Fatal(err)
		}
		if c.Pending()+len(peer.written) != len(want) {
			t.Errorf("%d bytes wait, %d are written, of %d", c.Pending(), len(peer.written), len(want))
		}
	}
	if err := c.Flush(); err != nil || c.Pending() != 0 || !bytes.Equal(peer.written, want) {
		t.Error(err, c.Pending())
	}
	writes := peer.writes
	if err := c.Flush(); err != nil || peer.writes != writes {
		t.Error("nothing was written")
	}
	peer.writeErr = io.ErrClosedPipe
	if err := c.Write(message('D', 10, 0)); err != nil {
		t.Error(err)
	}
	if err := c.Flush(); err != io.ErrClosedPipe {
		t.Error(err)
	}
}

// A length is believed as far as the bytes come.
func TestConnClaimedLength(t *testing.T) {
	m := message('d', 3*bulkBufferBytes, 0)
	binary.BigEndian.PutUint32(m[1:], 1<<30)
	c, _ := scripted(m)
	c.SetLimit(1<<31 - 1)
	if _, err := c.Read(); err != io.ErrUnexpectedEOF {
		t.Fatal(err)
	}
	if len(c.buf) > 8*bulkBufferBytes {
		t.Errorf("%d bytes were made room for", len(c.buf))
	}
}

// A connection that waits has no read buffer, and no large write buffer.
func TestConnIdle(t *testing.T) {
	a, b := tcpPair(t)
	c, peer := NewConn(a, 1<<24), NewConn(b, 1<<24)
	for _, size := range []int{10, readBufferBytes, 3 * bulkBufferBytes, 10} {
		m := message('Q', size, size)
		peer.SetOut(append(peer.Out(), m...))
		done := make(chan error)
		go func() { done <- peer.Flush() }()
		got, err := c.Read()
		if err != nil || !bytes.Equal(got, m) {
			t.Fatalf("%d bytes of %d: %v", len(got), size, err)
		}
		if err := <-done; err != nil {
			t.Fatal(err)
		}
		c.SetOut(append(c.Out(), m...))
		go func() {
			_, err := peer.Read()
			done <- err
		}()
		if err := c.Flush(); err != nil {
			t.Fatal(err)
		}
		if err := <-done; err != nil {
			t.Fatal(err)
		}
		c.Rest()
		c.SetDeadline(time.Now().Add(time.Millisecond))
		if _, err := c.Peek(); !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Fatal(err)
		}
		c.SetDeadline(time.Time{})
		if c.buf != nil || cap(c.out) > readBufferBytes {
			t.Errorf("after %d bytes: buffers of %d and %d", size, len(c.buf), cap(c.out))
		}
	}
}

// One huge message must not cost memory for as long as the connection lives.
func TestConnBuffersShrink(t *testing.T) {
	huge := message('d', 5<<20, 0)
	for i := range 4 {
		held, scripted := i%2 == 0, []func([]byte, ...int) (*Conn, *scriptedConn){scripted, scriptedFreshly}[i/2]
		in := bytes.Clone(huge)
		for range 20 {
			in = append(in, message('d', 100, 1)...)
		}
		c, peer := scripted(in, len(huge), 100)
		if held {
			c.Hold()
		}
		if _, err := c.Read(); err != nil {
			t.Fatal(err)
		}
		c.Release()
		for range 20 {
			if _, err := c.Read(); err != nil {
				t.Fatal(err)
			}
		}
		if len(c.buf) > bulkBufferBytes {
			t.Errorf("held %v: the read buffer still has %d bytes", held, len(c.buf))
		}
		if err := c.Write([]byte("x")); err != nil {
			t.Fatal(err)
		}
		c.SetOut(append(c.Out(), huge...))
		if err := c.Flush(); err != nil || len(peer.written) != len(huge)+1 {
			t.Fatal(err)
		}
		if cap(c.out) > 2*writeBufferBytes {
			t.Errorf("the write buffer still has %d bytes", cap(c.out))
		}
	}
}

// connModel is what a connection and the destination of its relay should do.
type connModel struct {
	c, dst  *Conn
	peer    *scriptedConn
	msgs    [][]byte // to come
	want    []byte   // at the destination, what waits for a flush included
	relayed bool
	held    bool
	kept    [][2][]byte // held messages and what they should be
	own     int         // messages written to the destination itself
}

func (m *connModel) take() []byte {
	b := m.msgs[0]
	m.msgs = m.msgs[1:]
	return b
}

func (m *connModel) keep(t *rapid.T, got []byte, want []byte) {
	if !bytes.Equal(got, want) {
		t.Fatalf("read %d bytes of a message of %d", len(got), len(want))
	}
	if m.held {
		m.kept = append(m.kept, [2][]byte{got, want})
	}
}

// relay passes or drops the next message after an operation may have looked at it.
func (m *connModel) relay(t *rapid.T, op string) {
	switch op {
	case "pass":
		m.want = append(m.want, m.take()...)
		check(t, m.c.Pass())
	case "drop":
		m.take()
		check(t, m.c.Drop())
	case "change":
		b, err := m.c.Body()
		if check(t, err); !bytes.Equal(b, m.msgs[0][headerBytes:]) {
			t.Fatal("the body differs")
		}
		if len(b) > 0 {
			b[len(b)-1] ^= 0x55
		}
		m.want = append(m.want, m.take()[:headerBytes]...)
		m.want = append(m.want, b...)
		check(t, m.c.Pass())
	case "look and drop":
		b, err := m.c.Body()
		if check(t, err); !bytes.Equal(b, m.take()[headerBytes:]) {
			t.Fatal("the body differs")
		}
		check(t, m.c.Drop())
	case "rows":
		n := int64(0)
		for len(m.msgs) > 0 && m.msgs[0][0] == 'D' {
			m.want = append(m.want, m.take()...)
			n++
		}
		if len(m.msgs) == 0 {
			return // it would wait
		}
		if got, err := m.c.PassRows(); err != nil || got != n {
			t.Fatal(got, n, err)
		}
	}
}

func (m *connModel) read(t *rapid.T, op string) {
	switch op {
	case "read":
		want := m.take()
		got, err := m.c.Read()
		check(t, err)
		m.keep(t, got, want)
	case "buffered":
		got, ok, err := m.c.Buffered()
		if check(t, err); ok {
			m.keep(t, got, m.take())
		}
	case "peek":
		if h, err := m.c.Peek(); err != nil || h != (Header{m.msgs[0][0], len(m.msgs[0])}) {
			t.Fatal(h, err)
		}
	case "hold":
		m.c.Hold()
		m.held = true
	case "release":
		for _, k := range m.kept {
			if !bytes.Equal(k[0], k[1]) {
				t.Fatal("a held message has changed")
			}
		}
		m.kept, m.held = nil, false
		m.c.Release()
	case "own", "own by buffer":
		b := message('N', 5+m.own*997%9000, m.own)
		m.own++
		m.want = append(m.want, b...)
		if op == "own" {
			check(t, m.dst.Write(b))
		} else {
			m.dst.SetOut(append(m.dst.Out(), b...))
		}
	}
}

func check(t *rapid.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// Any sequence of operations does what each of them says.
func TestConnModel(t *testing.T) {
	size := rapid.OneOf(rapid.SampledFrom(edgeSizes), rapid.IntRange(5, 300), rapid.IntRange(5, 20000))
	relayOps := rapid.SampledFrom([]string{"pass", "pass", "drop", "change", "look and drop", "rows", "end", "end and flush"})
	readOps := rapid.SampledFrom([]string{"read", "read", "buffered", "peek", "hold", "release", "own", "own by buffer", "begin", "begin"})
	rapid.Check(t, func(t *rapid.T) {
		m := &connModel{}
		var all []byte
		for i, s := range rapid.SliceOfN(size, 1, 40).Draw(t, "sizes") {
			b := message("DDDDCZT"[i*5%7], s, i)
			m.msgs, all = append(m.msgs, b), append(all, b...)
		}
		m.msgs, all = append(m.msgs, message('Z', 6, 0)), append(all, message('Z', 6, 0)...)
		pieces := rapid.SliceOfN(rapid.OneOf(rapid.IntRange(1, 9), rapid.IntRange(1, 100000)), 1, 40).Draw(t, "pieces")
		m.c, _ = scripted(all, pieces...)
		if rapid.Bool().Draw(t, "fresh") {
			m.c, _ = scriptedFreshly(all, pieces...)
		}
		m.dst, m.peer = sink()
		for len(m.msgs) > 0 {
			if !m.relayed {
				if op := readOps.Draw(t, "op"); op == "begin" {
					m.c.BeginRelay(m.dst)
					m.relayed = true
				} else {
					m.read(t, op)
				}
				continue
			}
			switch op := relayOps.Draw(t, "op"); op {
			case "end", "end and flush":
				check(t, m.c.EndRelay(op == "end and flush"))
				m.relayed = false
				if got := append(bytes.Clone(m.peer.written), m.dst.Out()...); !bytes.Equal(got, m.want) {
					t.Fatalf("%d bytes were passed, of %d", len(got), len(m.want))
				}
				if op == "end and flush" && m.dst.Pending() > 0 {
					t.Fatal("not flushed")
				}
			default:
				m.relay(t, op)
			}
		}
		m.read(t, "release")
		check(t, m.c.EndRelay(false))
		check(t, m.dst.Flush())
		if !bytes.Equal(m.peer.written, m.want) {
			t.Fatalf("%d bytes arrived, of %d", len(m.peer.written), len(m.want))
		}
	})
}

// Whatever comes in, what goes out is a prefix of the messages in it, and nothing
// is made up or read twice.
func FuzzConn(f *testing.F) {
	f.Add([]byte("D\x00\x00\x00\x05xZ\x00\x00\x00\x05I"), []byte{0, 1, 2, 3}, uint8(1))
	f.Add([]byte("D\x00\x00\x00\x03"), []byte{1}, uint8(5))
	f.Add([]byte("D\xff\xff\xff\xff"), []byte{4}, uint8(2))
	f.Add(append(message('D', 300, 0), message('D', 70000, 0)...), []byte{4, 5}, uint8(0))
	f.Fuzz(func(t *testing.T, input, ops []byte, piece uint8) {
		c, _ := scripted(bytes.Clone(input), int(piece)+1)
		if len(ops)%2 == 1 {
			c, _ = scriptedFreshly(bytes.Clone(input), int(piece)+1)
		}
		c.SetLimit(1 << 17)
		dst, peer := sink()
		c.BeginRelay(dst)
		var want []byte
		rest := input // from where the connection is
		for i := 0; i < 1000; i++ {
			op := byte(0)
			if i < len(ops) {
				op = ops[i]
			}
			h, err := c.Peek()
			if err != nil {
				break
			}
			if len(rest) < headerBytes || h.Type != rest[0] || h.Size != int(binary.BigEndian.Uint32(rest[1:]))+1 {
				t.Fatalf("header %v of %q", h, rest[:min(9, len(rest))])
			}
			whole := len(rest) >= h.Size
			pass := false
			switch op % 4 {
			case 0:
				err, pass = c.Pass(), true
			case 1:
				err = c.Drop()
			case 2:
				if _, err = c.Body(); err == nil {
					err, pass = c.Pass(), true
				}
			case 3:
				before := rest
				for len(rest) >= headerBytes && rest[0] == 'D' {
					n := int(binary.BigEndian.Uint32(rest[1:])) + 1
					if n < headerBytes || n-1 > 1<<17 || n > len(rest) {
						break
					}
					rest = rest[n:]
				}
				want = append(want, before[:len(before)-len(rest)]...)
				if _, err = c.PassRows(); err != nil {
					break
				}
				continue
			}
			if err == nil != whole && op%4 != 3 {
				t.Fatalf("a message of %d bytes, of which %d came: %v", h.Size, len(rest), err)
			}
			if err != nil {
				break
			}
			if pass {
				want = append(want, rest[:h.Size]...)
			}
			rest = rest[h.Size:]
		}
		if err := c.EndRelay(true); err != nil {
			t.Fatal(err)
		}
		// Of a large message that broke off, a part may have been passed.
		if !bytes.HasPrefix(peer.written, want) || len(peer.written) > len(input) {
			t.Fatalf("%q was passed, not %q", peer.written, want)
		}
	})
}

// endless is a peer that sends the same bytes again and again, as much at a time
// as there is room for.
type endless struct {
	net.Conn
	input []byte
	at    int
}

func (e *endless) Read(b []byte) (int, error) {
	n := copy(b, e.input[e.at:])
	e.at = (e.at + n) % len(e.input)
	return n, nil
}

func (e *endless) Write(b []byte) (int, error) { return len(b), nil }

// The answer to a select by key: what the client is given of it, and the
// ReadyForQuery that the gateway looks at.
func BenchmarkConnRelayAnswer(b *testing.B) {
	answer := bytes.Join([][]byte{message('2', 5, 0), message('D', 118, 0), message('C', 14, 0), message('Z', 6, 0)}, nil)
	c, dst := NewConn(&endless{input: answer}, 1<<20), NewConn(&endless{}, 1<<20)
	b.ReportAllocs()
	b.SetBytes(int64(len(answer)))
	for b.Loop() {
		c.BeginRelay(dst)
		for {
			h, err := c.Peek()
			if err != nil {
				b.Fatal(err)
			}
			if h.Type == 'D' {
				_, err = c.PassRows()
			} else {
				err = c.Pass()
			}
			if err != nil {
				b.Fatal(err)
			}
			if h.Type == 'Z' {
				break
			}
		}
		if err := c.EndRelay(true); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkConnPassRows(b *testing.B) {
	const rows, size = 10000, 118
	var all []byte
	for i := range rows {
		all = append(all, message('D', size, i)...)
	}
	all = append(all, message('C', 14, 0)...)
	c, dst := NewConn(&endless{input: all}, 1<<20), NewConn(&endless{}, 1<<20)
	b.ReportAllocs()
	b.SetBytes(int64(len(all)))
	for b.Loop() {
		c.BeginRelay(dst)
		if n, err := c.PassRows(); n != rows || err != nil {
			b.Fatal(n, err)
		}
		if err := errors.Join(c.Drop(), c.EndRelay(true)); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/rows, "ns/row")
}

// A read that waits can be told from others, whichever way it waits.
func TestConnCall(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	dialed, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	accepted, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	near, far := net.Pipe()
	for name, pair := range map[string][2]net.Conn{"TCP": {dialed, accepted}, "other": {near, far}} {
		c, peer := NewConn(pair[0], 1<<20), pair[1]
		small := []byte{'Z', 0, 0, 0, 5, 'I'}
		large := append([]byte{'D', 0, 1, 0, 4}, make([]byte, 1<<16)...)
		last := uint64(0)
		// A small message, the same once more, and a large one of which the rest is waited for.
		for i, parts := range [][][]byte{{small}, {small}, {large[:20], large[20:]}} {
			done := make(chan error, 1)
			go func() {
				_, err := c.Read()
				done <- err
			}()
			for _, part := range parts {
				for c.Call() == 0 || c.Call() == last {
					time.Sleep(time.Millisecond) // ends by the test's time-out
				}
				last = c.Call()
				if _, err := peer.Write(part); err != nil {
					t.Fatal(err)
				}
			}
			if err := <-done; err != nil || c.Call() != 0 {
				t.Errorf("%s %d: %v, call %d", name, i, err, c.Call())
			}
		}
		c.Close()
		peer.Close()
	}
}
