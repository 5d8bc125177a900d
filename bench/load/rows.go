package load

import "time"

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
		switch err := each.answer(s.want); {
		case err != nil && !usable(err):
			return err
		case failed == nil:
			failed = err
		}
	}
	return failed
}
