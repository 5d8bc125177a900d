package load

import (
	"math/rand/v2"
	"time"

	"github.com/shardgate/shardgate/wire"
)

// Work is what one transaction does: statements with their arguments, in order. It is
// drawn anew for each transaction, in memory that is used again.
type Work struct {
	steps []step
	args  []int64
}

type step struct {
	statement *Statement
	from, to  int // of its arguments
}

// Reset forgets all.
func (w *Work) Reset() { w.steps, w.args = w.steps[:0], w.args[:0] }

// Add appends a statement.
func (w *Work) Add(s *Statement, args ...int64) {
	from := len(w.args)
	w.args = append(w.args, args...)
	w.steps = append(w.steps, step{s, from, len(w.args)})
}

// Do runs the statements, each when the one before is answered, until one fails.
func (c *Conn) Do(p Protocol, w *Work) error {
	for _, s := range w.steps {
		if err := c.Run(p, s.statement, w.args[s.from:s.to]...); err != nil {
			return err
		}
	}
	return nil
}

// Outcome is how one transaction of a batch ended.
type Outcome struct {
	Err  error
	Took time.Duration // from the write of the batch to this transaction's answer
}

// Pipeline draws n transactions, sends all of them in one write, and then reads the
// answers; Outcomes has them. The statements have been prepared. As in libpq's pipeline
// mode, there is no answer up to a Sync; after an error the server skips what is before
// the next one. There is a Sync after each transaction, and, if it has several statements, one
// before its last, which is COMMIT: so that ends the transaction even if a statement before has
// failed, and the next transaction of the batch is not in vain.
//
// The error is that of a connection that is of no more use. The transaction whose
// answer it came in place of, and all after it, are among the outcomes, with that error.
func (c *Conn) Pipeline(n int, w *Work, rnd *rand.Rand, draw func(w *Work, rnd *rand.Rand)) error {
	c.out, c.wants, c.outcomes = c.out[:0], c.wants[:0], c.outcomes[:0]
	c.segments = c.segments[:0]
	for range n {
		w.Reset()
		draw(w, rnd)
		for i, s := range w.steps {
			if i > 0 && i == len(w.steps)-1 {
				c.sync(false)
			}
			c.out = s.statement.appendExecution(c.out, c, Pipelined, w.args[s.from:s.to])
			c.wants = append(c.wants, s.statement.want)
		}
		c.sync(true)
	}
	began := time.Now()
	_, lost := c.socket.Write(c.out)
	var failed error // in this transaction
	from := 0
	for _, s := range c.segments {
		err := lost
		if lost == nil {
			if err = c.answer(c.wants[from:s.to]); err != nil && !usable(err) {
				lost = err
			}
		}
		from = s.to
		if failed == nil {
			failed = err
		}
		if s.last {
			c.outcomes = append(c.outcomes, Outcome{failed, time.Since(began)})
			failed = nil
		}
	}
	return lost
}

// segment is what ends with a Sync.
type segment struct {
	to   int  // in wants
	last bool // of its transaction
}

func (c *Conn) sync(last bool) {
	c.out = wire.AppendSync(c.out)
	c.segments = append(c.segments, segment{len(c.wants), last})
}

// takeOutcomes are those of a batch, once; nil: there was none.
func (c *Conn) takeOutcomes() []Outcome {
	list := c.outcomes
	c.outcomes = c.outcomes[:0]
	return list
}
