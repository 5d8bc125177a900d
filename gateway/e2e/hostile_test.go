package e2e

import (
	"bytes"
	"encoding/binary"
	"io"
	"net"
	"os/exec"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgproto3"
)

// residentKiB is how much memory the process has.
func (p *process) residentKiB(t *testing.T) int {
	t.Helper()
	out, err := exec.Command("ps", "-o", "rss=", "-p", strconv.Itoa(p.cmd.Process.Pid)).Output()
	if err != nil {
		t.Fatal(err)
	}
	n, err := strconv.Atoi(strings.TrimSpace(string(out)))
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// message is a message with the length that it claims.
func message(typ string, length uint32, body string) []byte {
	return append(binary.BigEndian.AppendUint32([]byte(typ), length), body...)
}

// startup is the start-up packet of the user.
func startup(t *testing.T, user string) []byte {
	t.Helper()
	b, err := (&pgproto3.StartupMessage{ProtocolVersion: pgproto3.ProtocolVersion30,
		Parameters: map[string]string{"user": user, "database": "postgres"}}).Encode(nil)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

const loginTimeout = 700 * time.Millisecond

// Whoever breaks the protocol, or does not speak at all, loses its connection. No
// other client notices.
func TestHostileClients(t *testing.T) {
	c := newCluster(t, 2, keyed+`
timeouts: {recovery_interval: 300ms, login: 700ms}
auth: {method: scram-sha-256, users: [{name: postgres, password: secret}]}
`)
	p := c.serve()
	conn := c.connect("postgres:secret")
	ids := c.ids(conn, 1)
	stop, honest := make(chan struct{}), make(chan error, 1)
	other := c.connect("postgres:secret")
	go func() {
		for {
			select {
			case <-stop:
				honest <- nil
				return
			default:
				if _, err := other.Exec(t.Context(), sqlf("UPDATE t SET v = v + 1 WHERE id IN (%d, %d)", ids[0][0], ids[1][0])); err != nil {
					honest <- err
					return
				}
			}
		}
	}()
	t.Run("before", func(t *testing.T) { hostileBefore(t, c) })
	t.Run("after", func(t *testing.T) { hostileAfter(t, c) })
	t.Run("claims", func(t *testing.T) { claims(t, c, p) })
	close(stop)
	if err := <-honest; err != nil {
		t.Errorf("a client that did nothing wrong: %v", err)
	}
}

func hostileBefore(t *testing.T, c *cluster) {
	ssl := message("", 8, "\x04\xd2\x16\x2f")
	hello := startup(t, "postgres")
	var wg sync.WaitGroup
	for name, sends := range map[string][]byte{
		"silent":                  nil,
		"HTTP":                    []byte("GET / HTTP/1.1\r\nHost: x\r\n\r\n"),
		"garbage":                 bytes.Repeat([]byte{0xde, 0xad, 0xbe, 0xef}, 5000),
		"length 0":                message("", 0, ""),
		"length 1":                message("", 1, ""),
		"length 2":                message("", 2, ""),
		"length 3":                message("", 3, ""),
		"length 4":                message("", 4, ""),
		"huge length":             message("", 1<<31-1, "\x00\x03\x00\x00"),
		"negative length":         message("", 1<<32-1, "\x00\x03\x00\x00"),
		"unknown version":         message("", 8, "\x00\x09\x00\x00"),
		"half a packet":           hello[:len(hello)/2],
		"no terminator":           message("", 16, "\x00\x03\x00\x00userpost"),
		"SSLRequest only":         ssl,
		"many SSLRequests":        bytes.Repeat(ssl, 1000),
		"start-up, then silence":  hello,
		"start-up, then a query":  append(bytes.Clone(hello), message("Q", 13, "SELECT 1\x00")...),
		"start-up, length 3":      append(bytes.Clone(hello), message("p", 3, "")...),
		"start-up, huge response": append(bytes.Clone(hello), message("p", 1<<30-1, strings.Repeat("x", 1<<16))...),
		"unknown mechanism":       append(bytes.Clone(hello), message("p", 4+5+4, "PLAIN\x00\x00\x00\x00")...),
		"cancel, wrong key":       message("", 16, "\x04\xd2\x16\x2e\x00\x00\x00\x01\x00\x00\x00\x00"),
		"cancel without a key":    message("", 12, "\x04\xd2\x16\x2e\x00\x00\x00\x01"),
	} {
		wg.Go(func() {
			nc, err := net.Dial("tcp", c.listen)
			if err != nil {
				t.Error(err)
				return
			}
			defer nc.Close()
			nc.Write(sends)
			ends(t, name, nc)
		})
	}
	wg.Go(func() { // one byte now and then
		nc, err := net.Dial("tcp", c.listen)
		if err != nil {
			t.Error(err)
			return
		}
		defer nc.Close()
		go func() {
			for _, b := range hello {
				nc.Write([]byte{b})
				time.Sleep(200 * time.Millisecond)
			}
		}()
		ends(t, "slow", nc)
	})
	wg.Wait()
}

// ends checks that the gateway closes the connection soon.
func ends(t *testing.T, name string, nc net.Conn) {
	t.Helper()
	nc.SetReadDeadline(time.Now().Add(loginTimeout + 2*time.Second))
	got, err := io.ReadAll(nc)
	if ne, ok := err.(net.Error); ok && ne.Timeout() {
		t.Errorf("%s: the connection is still open; it has said %q", name, got)
	}
	if bytes.Contains(got, []byte("goroutine")) || bytes.Contains(got, []byte("XX000")) {
		t.Errorf("%s: %q", name, got)
	}
}

// raw is a connection after authentication.
func (c *cluster) raw(t *testing.T, who string) net.Conn {
	t.Helper()
	h, err := c.connect(who).PgConn().Hijack()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { h.Conn.Close() })
	return h.Conn
}

func hostileAfter(t *testing.T, c *cluster) {
	for name, sends := range map[string][]byte{
		"length 0":          message("Q", 0, ""),
		"length 1":          message("Q", 1, ""),
		"length 2":          message("P", 2, ""),
		"length 3":          message("S", 3, ""),
		"huge length":       message("Q", 1<<31-1, "SELECT"),
		"negative length":   message("B", 1<<32-1, ""),
		"unknown type":      message("z", 4, ""),
		"type 0":            message("\x00", 4, ""),
		"SASL response":     message("p", 4, ""),
		"HTTP":              []byte("GET / HTTP/1.1\r\nHost: x\r\n\r\n"),
		"start-up packet":   startup(t, "postgres"),
		"in a batch":        append(message("P", 15, "\x00SELECT 1\x00\x00\x00"), message("z", 4, "")...),
		"length in a batch": append(message("P", 15, "\x00SELECT 1\x00\x00\x00"), message("B", 2, "")...),
	} {
		nc := c.raw(t, "postgres:secret")
		nc.Write(sends)
		nc.SetReadDeadline(time.Now().Add(3 * time.Second))
		got, err := io.ReadAll(nc)
		if ne, ok := err.(net.Error); ok && ne.Timeout() {
			t.Errorf("%s: the connection is still open", name)
		}
		if !bytes.Contains(got, []byte("FATAL")) || !bytes.Contains(got, []byte("08P01")) {
			t.Errorf("%s: answered by %q", name, got)
		}
	}
}

// claims checks that memory is taken for what comes, not for what is announced.
func claims(t *testing.T, c *cluster, p *process) {
	before := p.residentKiB(t)
	for range 20 {
		nc := c.raw(t, "postgres:secret")
		nc.Write(message("Q", 1<<30-1, "SELECT 1"))
	}
	for range 20 {
		nc := c.raw(t, "postgres:secret")
		nc.Write(message("P", 1<<30-1, "\x00SELECT 1"))
	}
	time.Sleep(200 * time.Millisecond)
	if after := p.residentKiB(t); after > before+64<<10 {
		t.Errorf("40 clients that announce 1 GiB have made the memory grow from %d to %d KiB", before, after)
	}
	// What Go has reserved counts too, where memory is not overcommitted.
	out, err := exec.Command("ps", "-o", "vsz=", "-p", strconv.Itoa(p.cmd.Process.Pid)).Output()
	if n, _ := strconv.Atoi(strings.TrimSpace(string(out))); err != nil || n > 8<<20 {
		t.Errorf("the gateway has reserved %d KiB (%v)", n, err)
	}
}
