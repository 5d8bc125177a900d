package link

import (
	"io"
	"net"
	"testing"
	"time"

	"go.uber.org/goleak"
)

// echo answers every byte with itself, until the test ends.
func echo(t *testing.T) string {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { ln.Close() })
	go func() {
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			go func() { io.Copy(c, c); c.Close() }()
		}
	}()
	return ln.Addr().String()
}

func dial(t *testing.T, l *Link) net.Conn {
	t.Helper()
	c, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

// answered says whether a byte comes back in time.
func answered(t *testing.T, c net.Conn, within time.Duration) bool {
	t.Helper()
	if _, err := c.Write([]byte{7}); err != nil {
		return false
	}
	return arrives(c, within)
}

func arrives(c net.Conn, within time.Duration) bool {
	c.SetReadDeadline(time.Now().Add(within))
	_, err := io.ReadFull(c, make([]byte, 1))
	return err == nil
}

const (
	soon  = 5 * time.Second
	never = 50 * time.Millisecond
)

func TestFaults(t *testing.T) {
	t.Cleanup(func() { goleak.VerifyNone(t) }) // the last to run
	l, err := Listen(echo(t))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(l.Close)
	c := dial(t, l)
	if !answered(t, c, soon) {
		t.Fatal("nothing passes")
	}
	for _, f := range []Fault{Stall, Mute, Deaf} {
		l.Set(f)
		if answered(t, c, never) {
			t.Errorf("%s: a byte passes", f)
		}
		l.Set(None)
		if !arrives(c, soon) {
			t.Errorf("%s: what was held back does not arrive", f)
		}
	}
	l.Set(Slow)
	began := time.Now()
	if !answered(t, c, soon) || time.Since(began) < 2*delay {
		t.Errorf("slow: %v", time.Since(began))
	}
	l.Set(Cut)
	if answered(t, c, soon) || answered(t, dial(t, l), soon) {
		t.Error("cut: a byte passes")
	}
	l.Set(None)
	if c := dial(t, l); !answered(t, c, soon) {
		t.Error("healed: nothing passes")
	} else if l.Set(Mute); answered(t, c, never) {
		t.Error("mute: a byte passes")
	} else if l.Drop(); arrives(c, soon) {
		t.Error("dropped: a byte arrives")
	}
}

// Close does not wait for what is held back.
func TestCloseWhileStalled(t *testing.T) {
	l, err := Listen(echo(t))
	if err != nil {
		t.Fatal(err)
	}
	c := dial(t, l)
	l.Set(Stall)
	c.Write([]byte{1})
	done := make(chan struct{})
	go func() { l.Close(); close(done) }()
	select {
	case <-done:
	case <-time.After(soon):
		t.Fatal("still waiting")
	}
}

// A tap sees whole messages, the first without a type, and acts before one, in the middle,
// or after.
func TestTap(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { ln.Close() })
	l, err := Listen(ln.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(l.Close)
	startup, message := "\x00\x00\x00\x08abcd", "Q\x00\x00\x00\x06ef"
	for at, passed := range map[Place]string{Before: startup, Amid: startup + message[:3], After: startup + message} {
		seen := make(chan string, 2)
		l.SetTap(func(m Message) (Place, func()) {
			seen <- string(m.Type) + string(m.Body())
			if m.Type != 'Q' {
				return "", nil
			}
			return at, m.Conn.Cut
		})
		c := dial(t, l)
		io.WriteString(c, startup+message)
		server, err := ln.Accept()
		if err != nil {
			t.Fatal(err)
		}
		server.SetReadDeadline(time.Now().Add(soon))
		got, err := io.ReadAll(server)
		server.Close()
		if string(got) != passed || err != nil {
			t.Errorf("%s: %q, %v", at, got, err)
		}
		if a, b := <-seen, <-seen; a != "\x00abcd" || b != "Qef" {
			t.Errorf("%s: seen %q, %q", at, a, b)
		}
	}
}
