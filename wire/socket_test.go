package wire

import (
	"bytes"
	"errors"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"sync"
	"testing"
	"time"
)

// tcpPair is a connection over the loopback interface.
func tcpPair(t *testing.T) (a, b net.Conn) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	if a, err = net.Dial("tcp", l.Addr().String()); err != nil {
		t.Fatal(err)
	}
	if b, err = l.Accept(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { a.Close(); b.Close() })
	return a, b
}

// Both directions at once, with more data than the system buffers.
func TestSocketBothWays(t *testing.T) {
	a, b := tcpPair(t)
	const size = 16 << 20
	data := make([]byte, size)
	rnd := rand.NewChaCha8([32]byte{1})
	rnd.Read(data)
	var wg sync.WaitGroup
	for _, s := range []io.ReadWriter{Socket(a), Socket(b)} {
		wg.Go(func() {
			if n, err := s.Write(data); n != size || err != nil {
				t.Errorf("wrote %d octets: %v", n, err)
			}
		})
		wg.Go(func() {
			got := make([]byte, size)
			if _, err := io.ReadFull(s, got); err != nil {
				t.Error(err)
			}
			if !bytes.Equal(got, data) {
				t.Error("what was read is not what was written")
			}
		})
	}
	wg.Wait()
}

func TestSocketErrors(t *testing.T) {
	a, b := tcpPair(t)
	s := Socket(a)
	buf := make([]byte, 10)
	a.SetReadDeadline(time.Now().Add(10 * time.Millisecond))
	if _, err := s.Read(buf); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("deadline while waiting: %v", err)
	}
	a.SetReadDeadline(time.Time{})
	b.Write([]byte("x"))
	if n, err := s.Read(buf); n != 1 || err != nil {
		t.Errorf("after a deadline: %d, %v", n, err)
	}
	if n, err := s.Read(nil); n != 0 || err != nil {
		t.Errorf("an empty read: %d, %v", n, err)
	}
	if n, err := s.Write(nil); n != 0 || err != nil {
		t.Errorf("an empty write: %d, %v", n, err)
	}
	b.Close()
	if _, err := s.Read(buf); err != io.EOF {
		t.Errorf("the peer closed: %v", err)
	}
	var err error
	for range 100 {
		if _, err = s.Write(make([]byte, 1<<16)); err != nil {
			break
		}
	}
	if err == nil {
		t.Error("writing to a closed peer never failed")
	}
	c, _ := tcpPair(t)
	sc := Socket(c)
	go func() {
		time.Sleep(10 * time.Millisecond)
		c.Close()
	}()
	if _, err := sc.Read(buf); !errors.Is(err, net.ErrClosed) {
		t.Errorf("closed while waiting: %v", err)
	}
}

func TestSocketAllocatesNothing(t *testing.T) {
	a, b := tcpPair(t)
	sa, sb := Socket(a), Socket(b)
	out, in := make([]byte, 100), make([]byte, 100)
	if n := testing.AllocsPerRun(100, func() {
		sa.Write(out)
		sb.Read(in)
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

// A read that waits is a call, with a read buffer or without, and so each is another one.
func TestCall(t *testing.T) {
	a, b := tcpPair(t)
	c := NewConn(a, 1<<20)
	message := []byte{'Z', 0, 0, 0, 5, 'I'}
	var last uint64
	for _, sent := range [][]byte{nil, message[:3]} { // of the message that is waited for
		if _, err := b.Write(sent); err != nil {
			t.Fatal(err)
		}
		done := make(chan error)
		go func() {
			_, err := c.Read()
			done <- err
		}()
		for c.Call() == 0 || c.Call() == last {
			time.Sleep(time.Millisecond)
		}
		last = c.Call()
		if _, err := b.Write(message[len(sent):]); err != nil {
			t.Fatal(err)
		}
		if err := <-done; err != nil {
			t.Fatal(err)
		}
		if c.Call() != 0 {
			t.Error("a call when nothing is read")
		}
	}
}
