package session

import (
	"bytes"
	"errors"
	"io"
	"net"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/shardgate/shardgate/gateway/pool"
	"github.com/shardgate/shardgate/wire"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// What is done with each type of message in each state. A type that is not named
// breaks the protocol.
var wantActions = []struct {
	name  string
	state sessionState
	types string
	want  action
}{
	{"a query", stateReady, "Q", actQuery},
	{"the extended protocol", stateReady, "PBDECHS", actExtended},
	{"a function call", stateReady, "F", actFunction},
	{"COPY data that comes too late", stateReady, "dcf", actIgnore},
	{"goodbye", stateReady, "X", actTerminate},
	{"everything up to Sync", stateSkip, "QPBDECHFdcf", actIgnore},
	{"Sync", stateSkip, "S", actExtended},
	{"goodbye while skipping", stateSkip, "X", actTerminate},
}

func TestTransitions(t *testing.T) {
	for state := range stateCount {
		want := map[byte]action{}
		for _, w := range wantActions {
			for _, typ := range []byte(w.types) {
				if w.state == state {
					want[typ] = w.want
				}
			}
		}
		for typ := range 256 {
			if got := transitions[state].action(byte(typ)); got != want[byte(typ)] {
				t.Errorf("state %d, message %q: action %d, want %d", state, byte(typ), got, want[byte(typ)])
			}
		}
	}
}

// script is a client that has sent something already, and keeps what it is sent.
type script struct {
	net.Conn
	in  *bytes.Reader
	out bytes.Buffer
}

func (c *script) Read(b []byte) (int, error)  { return c.in.Read(b) }
func (c *script) Write(b []byte) (int, error) { return c.out.Write(b) }
func (c *script) SetDeadline(time.Time) error { return nil }
func (c *script) Close() error                { return nil }

// A message that is ignored is consumed without a word; one that breaks the
// protocol ends the session with an error; nothing is asked of a shard.
func TestIgnoredAndRefusedMessages(t *testing.T) {
	for state := range stateCount {
		for typ := range 256 {
			act := transitions[state].action(byte(typ))
			if act != actIgnore && act != actViolation && act != actTerminate {
				continue
			}
			c := &script{in: bytes.NewReader([]byte{byte(typ), 0, 0, 0, 4})}
			s := New(&Host{Pools: &pool.Pools{}}, wire.NewConn(c, 100), 1, "postgres", pool.Defaults{SearchPath: "public", Isolation: "read committed"}, nil, map[string]string{})
			s.skip = state == stateSkip
			h, err := s.client.Peek()
			if err != nil {
				t.Fatal(err)
			}
			err = s.message(h.Type)
			switch act {
			case actIgnore:
				if _, next := s.client.Peek(); err != nil || !errors.Is(next, io.EOF) || s.state() != state || s.client.Pending() > 0 {
					t.Errorf("state %d, message %q is not ignored: %v", state, byte(typ), err)
				}
			case actTerminate:
				if !errors.Is(err, errTerminate) {
					t.Errorf("state %d, message %q: %v", state, byte(typ), err)
				}
			case actViolation:
				var we *wire.Error
				if !errors.As(err, &we) || we.Code != wire.ProtocolViolation || !we.IsFatal() {
					t.Errorf("state %d, message %q: %v", state, byte(typ), err)
				}
			}
		}
	}
}

// The client hears why its session ends.
func TestViolationIsTold(t *testing.T) {
	for name, sent := range map[string]string{
		"type":          "?\x00\x00\x00\x04",
		"length below":  "Q\x00\x00\x00\x03",
		"length beyond": "Q\x7f\xff\xff\xff",
	} {
		t.Run(name, func(t *testing.T) {
			c := &script{in: bytes.NewReader([]byte(sent))}
			s := New(&Host{Pools: &pool.Pools{}}, wire.NewConn(c, 100), 1, "postgres", pool.Defaults{SearchPath: "public", Isolation: "read committed"}, nil, map[string]string{})
			if err := s.Serve(); err == nil {
				t.Fatal("the session goes on")
			}
			b := c.out.Bytes()
			if len(b) < 5 || b[0] != 'E' {
				t.Fatalf("the client was sent %q", b)
			}
			e, err := wire.ParseError(b[5:])
			if err != nil || e.Code != wire.ProtocolViolation || e.Severity != "FATAL" {
				t.Fatalf("the client was told %v, %v", e, err)
			}
		})
	}
}
