package load

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"time"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/shardgate/shardgate/wire"
)

// idle is the status in ReadyForQuery of a session that is in no transaction.
const idle = 'I'

// maxKeptBytes bounds a message that has to be looked at as a whole, such as an error.
const maxKeptBytes = 1 << 20

// Conn is a connection to a server, for one goroutine. After an error that is not a
// ServerError or an UnexpectedError it is of no more use.
type Conn struct {
	nc     net.Conn
	socket io.ReadWriter // of nc
	out    []byte        // what the next exchange sends
	in     []byte        // in[r:w] has been read and not been looked at
	r, w   int
	status byte
	texts  [][]byte // scratch of Statement.Append
	digits []byte   // likewise
	rows   rows
	beside []*Conn // to other servers, for RunEverywhere; they live and end with this one

	keep     bool    // the numbers of all rows
	numbers  []int64 // them
	one      [1]string
	wants    []string // of Pipeline: the command tags of all statements
	segments []segment
	outcomes []Outcome
}

// Dial connects and logs in. ctx bounds that only.
func Dial(ctx context.Context, url string) (*Conn, error) {
	pc, err := pgconn.Connect(ctx, url)
	if err != nil {
		return nil, err
	}
	// pgconn reads in the background when a write took long, and has to stop that.
	if err := pc.SyncConn(ctx); err != nil {
		pc.Close(ctx)
		return nil, err
	}
	h, err := pc.Hijack()
	if err != nil {
		pc.Close(ctx)
		return nil, err
	}
	return newConn(h.Conn), nil
}

func newConn(nc net.Conn) *Conn {
	return &Conn{nc: nc, socket: wire.Socket(nc), in: make([]byte, 16<<10), out: make([]byte, 0, 1<<10), status: idle}
}

// SetDeadline ends reads and writes that wait longer, as a net.Conn's does.
func (c *Conn) SetDeadline(t time.Time) error {
	for _, b := range c.beside {
		if err := b.SetDeadline(t); err != nil {
			return err
		}
	}
	return c.nc.SetDeadline(t)
}

// Close says good-bye and closes. It may be called again.
func (c *Conn) Close() error {
	for _, b := range c.beside {
		b.Close()
	}
	_ = c.nc.SetWriteDeadline(time.Now().Add(time.Second))
	_, _ = c.nc.Write(wire.AppendTerminate(nil)) // the server sees the end either way
	return c.nc.Close()
}

// ServerError is an ErrorResponse. The connection can be used on.
type ServerError struct {
	Code    string // SQLSTATE
	Message string
}

func (e *ServerError) Error() string { return e.Message + " (" + e.Code + ")" }

// UnexpectedError says that a server reported success, but not the one that was wanted.
type UnexpectedError struct{ Want, Got string }

func (e *UnexpectedError) Error() string {
	return fmt.Sprintf("the server answered %q in place of %q", e.Got, e.Want)
}

// Exec runs a text of the simple protocol whose last statement's command tag is to be
// want; "" takes any.
func (c *Conn) Exec(sql, want string) error {
	c.out = wire.AppendQuery(c.out[:0], sql)
	return c.exchange(want)
}

// Prepare makes a prepared statement of that name.
func (c *Conn) Prepare(name, sql string) error {
	c.out = wire.AppendParse(c.out[:0], name, sql, nil)
	c.out = wire.AppendSync(c.out)
	return c.exchange("")
}

// exchange sends what is in c.out and reads the answer.
func (c *Conn) exchange(want string) error {
	if _, err := c.socket.Write(c.out); err != nil {
		return err
	}
	return c.answerOne(want)
}

// answerOne is answer for a text whose last statement has this command tag.
func (c *Conn) answerOne(want string) error {
	c.one[0] = want
	return c.answer(c.one[:])
}

// answer reads up to ReadyForQuery. The error is the server's first one, or else about
// the command tags: wants has one for each statement, "" for any; a single one is for
// the last of however many there are.
func (c *Conn) answer(wants []string) error {
	var failed error
	seen := 0
	want, got := wants[0], "" // of the last statement, or of the first that is wrong
	matched := want == ""
	for {
		typ, body, err := c.next()
		if err != nil {
			if failed != nil {
				// A fatal error, after which the server hangs up: it says more than the end of the stream.
				return errors.Join(failed, err)
			}
			return err
		}
		switch typ {
		case 'D':
			if c.rows.on {
				c.rows.seen()
			}
			if c.keep {
				if err := c.keepNumbers(body); err != nil {
					return err
				}
			}
		case 'd':
			c.rows.seen()
		case 'C':
			if len(wants) > 1 && seen > 0 && !matched {
				continue // it is wrong already
			}
			want = wants[min(seen, len(wants)-1)]
			seen++
			matched = want == "" || len(body) == len(want)+1 && string(body[:len(want)]) == want
			if !matched {
				got = string(bytes.TrimRight(body, "\x00"))
			}
		case 'E':
			if failed == nil {
				failed = serverError(body)
			}
		case 'Z':
			if len(body) != 1 {
				return fmt.Errorf("a ReadyForQuery of %d octets", len(body))
			}
			c.status = body[0]
			if failed == nil && !matched {
				failed = &UnexpectedError{Want: want, Got: got}
			}
			if failed == nil && seen < len(wants) && len(wants) > 1 {
				failed = &UnexpectedError{Want: wants[seen], Got: ""}
			}
			return failed
		case 'H':
			if !c.rows.on {
				return errCopy
			}
		case 'G', 'W':
			return errCopy
		}
	}
}

var errCopy = errors.New("a COPY began, which is not asked for here")

// next returns the next message. Only those that exchange looks at have a body; it is
// valid until the next call.
func (c *Conn) next() (typ byte, body []byte, err error) {
	for c.w-c.r < 5 {
		if err := c.fill(); err != nil {
			return 0, nil, err
		}
	}
	typ = c.in[c.r]
	length := int(binary.BigEndian.Uint32(c.in[c.r+1:]))
	if length < 4 {
		return 0, nil, fmt.Errorf("a message %q of length %d", typ, length)
	}
	total := 1 + length
	switch typ {
	case 'C', 'E', 'Z', 'D':
		if typ == 'D' && !c.keep {
			break
		}
		if total > maxKeptBytes {
			return 0, nil, fmt.Errorf("a message %q of %d octets", typ, length)
		}
		for c.w-c.r < total {
			if err := c.fill(); err != nil {
				return 0, nil, err
			}
		}
		body = c.in[c.r+5 : c.r+total]
		c.r += total
		return typ, body, nil
	}
	for total > c.w-c.r {
		total -= c.w - c.r
		c.r, c.w = 0, 0
		if err := c.fill(); err != nil {
			return 0, nil, err
		}
	}
	c.r += total
	return typ, nil, nil
}

// fill reads once, at least one byte. It moves what is unread.
func (c *Conn) fill() error {
	if c.r == c.w {
		c.r, c.w = 0, 0
	}
	if c.w == len(c.in) {
		if c.r > 0 {
			c.w = copy(c.in, c.in[c.r:c.w])
			c.r = 0
		} else {
			c.in = append(c.in, make([]byte, len(c.in))...)
		}
	}
	n, err := c.socket.Read(c.in[c.w:])
	c.w += n
	if n > 0 {
		return nil
	}
	return err
}

// serverError reads an ErrorResponse's body.
func serverError(body []byte) *ServerError {
	e := &ServerError{Code: "XX000"}
	for _, field := range strings.Split(string(body), "\x00") {
		if field == "" {
			break
		}
		switch field[0] {
		case 'C':
			e.Code = field[1:]
		case 'M':
			e.Message = field[1:]
		}
	}
	return e
}
