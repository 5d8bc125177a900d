package load

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/shardgate/shardgate/wire"
)

// rows is what a connection has seen of the rows of an answer that is streamed.
type rows struct {
	on    bool
	began time.Time
	count int64
	first time.Duration // until the first row
	at    int64         // the row after which the client pauses; 0: none
	pause time.Duration
}

// seen counts one row.
func (r *rows) seen() {
	if r.count++; r.count == 1 {
		r.first = time.Since(r.began)
	}
	if r.count == r.at {
		time.Sleep(r.pause)
	}
}

// Stream executes the statement as Run does, counts the rows and takes the time to the
// first one. If at is not 0, the client stops reading after so many rows for a while.
func (c *Conn) Stream(p Protocol, s *Statement, at int64, pause time.Duration) (count int64, err error) {
	c.rows = rows{on: true, began: time.Now(), at: at, pause: pause}
	err = c.Run(p, s)
	c.rows.on = false
	return c.rows.count, err
}

// Numbers executes the statement and returns the columns of all its rows, one after the
// other, which have to be whole numbers; NULL is 0. They are valid until the next call.
func (c *Conn) Numbers(p Protocol, s *Statement, args ...int64) ([]int64, error) {
	c.keep, c.numbers = true, c.numbers[:0]
	err := c.Run(p, s, args...)
	c.keep = false
	return c.numbers, err
}

// keepNumbers reads a DataRow's body.
func (c *Conn) keepNumbers(body []byte) error {
	if len(body) < 2 {
		return errDataRow
	}
	columns := int(binary.BigEndian.Uint16(body))
	body = body[2:]
	for range columns {
		if len(body) < 4 {
			return errDataRow
		}
		length := int(int32(binary.BigEndian.Uint32(body)))
		body = body[4:]
		if length < 0 { // NULL
			c.numbers = append(c.numbers, 0)
			continue
		}
		if len(body) < length {
			return errDataRow
		}
		n, ok := parseNumber(body[:length])
		if !ok {
			return fmt.Errorf("%q is not a whole number", body[:length])
		}
		c.numbers = append(c.numbers, n)
		body = body[length:]
	}
	return nil
}

var errDataRow = errors.New("a DataRow that is too short")

// parseNumber reads a number of up to 18 digits without allocating.
func parseNumber(text []byte) (n int64, ok bool) {
	digits := text
	if len(text) > 0 && text[0] == '-' {
		digits = text[1:]
	}
	if len(digits) == 0 || len(digits) > 18 {
		return 0, false
	}
	for _, d := range digits {
		if d < '0' || d > '9' {
			return 0, false
		}
		n = n*10 + int64(d-'0')
	}
	if len(digits) < len(text) {
		n = -n
	}
	return n, true
}

// CopyOut runs COPY ... TO STDOUT, counts the rows and takes the time to the first one.
func (c *Conn) CopyOut(sql string) (count int64, err error) {
	c.rows = rows{on: true, began: time.Now()}
	err = c.Exec(sql, "")
	c.rows.on = false
	return c.rows.count, err
}

// copyChunk is how much data is in a CopyData message: what psql 15 sends.
const copyChunk = 8 << 10

// CopyIn runs COPY ... FROM STDIN with the data of from, which are count rows.
func (c *Conn) CopyIn(sql string, from io.Reader, count int64) error {
	c.rows = rows{}
	c.out = wire.AppendQuery(c.out[:0], sql)
	if _, err := c.socket.Write(c.out); err != nil {
		return err
	}
	for {
		typ, body, err := c.next()
		if err != nil {
			return err
		}
		if typ == 'G' {
			break
		}
		if typ == 'E' {
			refused := serverError(body)
			if err := c.answerOne(""); err != nil { // what is left of it
				return err
			}
			return refused
		}
	}
	const header = 5
	if cap(c.out) < header+copyChunk {
		c.out = make([]byte, 0, header+copyChunk)
	}
	for {
		b := c.out[header : header+copyChunk]
		n, err := io.ReadFull(from, b)
		if n > 0 {
			wire.AppendCopyDataHeader(c.out[:0], n)
			if _, err := c.socket.Write(c.out[:header+n]); err != nil {
				return err
			}
		}
		if err == io.EOF || err == io.ErrUnexpectedEOF {
			break
		}
		if err != nil {
			return err
		}
	}
	c.out = wire.AppendCopyDone(c.out[:0])
	err := c.exchange(fmt.Sprintf("COPY %d", count))
	if err == nil {
		c.rows.count = count
	}
	return err
}

// everywhere are the connection and those beside it.
func (c *Conn) everywhere() []*Conn { return append([]*Conn{c}, c.beside...) }

// RunEverywhere executes the statement on the connection and on all beside it at once,
// and waits for all answers.
func (c *Conn) RunEverywhere(p Protocol, s *Statement) error {
	all := c.everywhere()
	for _, each := range all {
		each.out = s.appendTo(each.out[:0], each, p, nil)
		if _, err := each.socket.Write(each.out); err != nil {
			return err
		}
	}
	var failed error
	for _, each := range all {
		switch err := each.answerOne(s.want); {
		case err != nil && !usable(err):
			return err
		case failed == nil:
			failed = err
		}
	}
	return failed
}
