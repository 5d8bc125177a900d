package load

import (
	"bytes"
	"errors"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"testing"
	"time"
)

// connected returns both ends of a TCP connection.
func connected(t testing.TB) (a, b net.Conn) {
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
	t.Cleanup(func() {
		a.Close()
		b.Close()
	})
	return a, b
}

// More than the system buffers arrives whole, and then the end.
func TestSocketCarriesAll(t *testing.T) {
	a, b := connected(t)
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	rnd := rand.New(rand.NewPCG(seed, 0))
	sent := make([]byte, 20<<20)
	for i := range sent {
		sent[i] = byte(rnd.Uint32())
	}
	done := make(chan error, 1)
	go func() {
		n, err := socketOf(a).Write(sent)
		if err == nil && n != len(sent) {
			err = io.ErrShortWrite
		}
		done <- errors.Join(err, a.Close())
	}()
	time.Sleep(50 * time.Millisecond) // so that the writer has to wait
	got, err := io.ReadAll(struct{ io.Reader }{socketOf(b)})
	if err != nil || !bytes.Equal(got, sent) {
		t.Errorf("%d of %d bytes, %v", len(got), len(sent), err)
	}
	if err := <-done; err != nil {
		t.Error(err)
	}
}

func TestSocketErrors(t *testing.T) {
	a, b := connected(t)
	s := socketOf(a)
	if err := a.SetDeadline(time.Now().Add(20 * time.Millisecond)); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Read(make([]byte, 1)); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("a read that waits: %v", err)
	}
	if _, err := s.Write(make([]byte, 64<<20)); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("a write that waits: %v", err)
	}
	a.Close()
	if _, err := s.Read(make([]byte, 1)); !errors.Is(err, net.ErrClosed) {
		t.Errorf("a read after Close: %v", err)
	}
	if _, err := s.Write([]byte("x")); !errors.Is(err, net.ErrClosed) {
		t.Errorf("a write after Close: %v", err)
	}
	// The peer is gone: it may take a write to hear of it.
	other := socketOf(b)
	var err error
	for range 50 {
		if _, err = other.Write([]byte("x")); err != nil {
			break
		}
		time.Sleep(2 * time.Millisecond)
	}
	if err == nil {
		t.Error("writes to a peer that has gone succeed")
	}
}

// BenchmarkSocket is an exchange of one byte, in each way.
func BenchmarkSocket(b *testing.B) {
	for _, direct := range []bool{false, true} {
		name := "net"
		if direct {
			name = "direct"
		}
		b.Run(name, func(b *testing.B) {
			near, far := connected(b)
			go io.Copy(struct{ io.Writer }{far}, struct{ io.Reader }{far}) // ends with the connection
			var s socket = near
			if direct {
				s = socketOf(near)
			}
			buf := []byte{1}
			b.ReportAllocs()
			for range b.N {
				if _, err := s.Write(buf); err != nil {
					b.Fatal(err)
				}
				if _, err := s.Read(buf); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
