package load

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"

	"github.com/shardgate/shardgate/bench/measure"
)

// Script is what a client does again and again. Each client has its own.
type Script interface {
	// Transaction runs one transaction. When it returns an error, the client rolls back
	// what is open.
	Transaction(c *Conn, rnd *rand.Rand) error
}

// Options say what clients to open.
type Options struct {
	URL     string
	Beside  []string // URLs to which each client connects as well, for RunEverywhere
	Clients int
	Session []string     // statements run first on each connection
	Prepare []*Statement // made on each connection
	Script  func(client int) Script
	Seed    uint64 // of the clients' random numbers
	// Rate makes an open loop: so many transactions in a second, over all clients, by a
	// schedule that a slow answer does not shift. 0 is a closed loop.
	Rate float64
}

// Clients are connections that run the same script: in a closed loop, in which a client
// sends its next transaction when the last one is answered, or by a schedule. Its methods
// are for one goroutine, but for Committed.
type Clients struct {
	options Options
	list    []*client
}

type client struct {
	conn    *Conn // nil: lost
	script  Script
	rnd     *rand.Rand
	latency *measure.Latency
	rows    int64            // of streamed answers
	first   *measure.Latency // until the first of them; nil: there was none yet
	errors  Errors
	unknown int64
	ended   time.Time
	done    atomic.Int64 // transactions committed in this run
	_       [64]byte     // its own cache line, since another goroutine reads done
}

const (
	dialTimeout = 30 * time.Second
	// answerTimeout is how long after the end of a run an answer is waited for.
	answerTimeout = 60 * time.Second
	redialPause   = 50 * time.Millisecond
)

// Open connects all clients. Close them.
func Open(ctx context.Context, o Options) (*Clients, error) {
	cs := &Clients{options: o}
	for i := range o.Clients {
		c := newClient(o.Script(i), o.Seed, i)
		cs.list = append(cs.list, c)
		if err := cs.dial(ctx, c); err != nil {
			cs.Close()
			return nil, fmt.Errorf("client %d of %d: %w", i+1, o.Clients, err)
		}
	}
	return cs, nil
}

func newClient(s Script, seed uint64, number int) *client {
	return &client{script: s, rnd: rand.New(rand.NewPCG(seed, uint64(number))), latency: measure.NewLatency()}
}

func (cs *Clients) dial(ctx context.Context, c *client) error {
	ctx, stop := context.WithTimeout(ctx, dialTimeout)
	defer stop()
	conn, err := Dial(ctx, cs.options.URL)
	if err != nil {
		return err
	}
	err = cs.dialBeside(ctx, conn)
	deadline, _ := ctx.Deadline()
	if err == nil {
		err = conn.SetDeadline(deadline)
	}
	for _, each := range conn.everywhere() {
		for _, sql := range cs.options.Session {
			if err == nil {
				err = each.Exec(sql, "")
			}
		}
		if err == nil {
			err = each.PrepareAll(cs.options.Prepare)
		}
	}
	if err != nil {
		conn.Close()
		return err
	}
	c.conn = conn
	return nil
}

func (cs *Clients) dialBeside(ctx context.Context, conn *Conn) error {
	for _, url := range cs.options.Beside {
		b, err := Dial(ctx, url)
		if err != nil {
			return err
		}
		conn.beside = append(conn.beside, b)
	}
	return nil
}

// Close closes the connections.
func (cs *Clients) Close() {
	for _, c := range cs.list {
		if c.conn != nil {
			c.conn.Close()
			c.conn = nil
		}
	}
}

// Committed is how many transactions the run under way, or the last one, has committed.
func (cs *Clients) Committed() (n int64) {
	for _, c := range cs.list {
		n += c.done.Load()
	}
	return n
}

// Run lets the clients work for a while, or until ctx ends, and then waits for their last
// transactions, so that the result counts all that was sent. A client that has lost its
// connection connects again. In an open loop the clients also send what is overdue at the
// end, for as long again and five seconds at most.
func (cs *Clients) Run(ctx context.Context, d time.Duration) (*Result, error) {
	begin := time.Now()
	until := begin.Add(d)
	for _, c := range cs.list {
		c.latency.Reset()
		if c.first != nil {
			c.first.Reset()
		}
		c.rows = 0
		c.errors, c.unknown = Errors{}, 0
		c.done.Store(0)
	}
	var open *schedule
	if cs.options.Rate > 0 {
		open = newSchedule(begin, d, cs.options.Rate)
	}
	var wg sync.WaitGroup
	for _, c := range cs.list {
		// Each ends with its first transaction after the end, or with the schedule.
		wg.Go(func() { cs.work(ctx, c, until, open) })
	}
	wg.Wait()
	r := &Result{Errors: Errors{}, Latency: measure.NewLatency(), FirstRow: measure.NewLatency(), Committed: cs.Committed()}
	var errs []error
	for _, c := range cs.list {
		r.Elapsed = max(r.Elapsed, c.ended.Sub(begin))
		r.Unknown += c.unknown
		r.Errors.Merge(c.errors)
		r.Rows += c.rows
		errs = append(errs, r.Latency.Merge(c.latency))
		if c.first != nil {
			errs = append(errs, r.FirstRow.Merge(c.first))
		}
	}
	if open != nil {
		open.account(r, begin.Add(r.Elapsed))
		if ctx.Err() == nil {
			r.Elapsed = max(r.Elapsed, d)
		}
	}
	return r, errors.Join(errs...)
}

// work runs one client. open is nil in a closed loop.
func (cs *Clients) work(ctx context.Context, c *client, until time.Time, open *schedule) {
	end := until
	if open != nil {
		end = open.giveUp
	}
	deadline := end.Add(answerTimeout)
	if c.conn != nil {
		if err := c.conn.SetDeadline(deadline); err != nil {
			c.lose(err)
		}
	}
	stopped := ctx.Done()
	now := time.Now()
	defer func() { c.ended = now }()
	for now.Before(end) {
		select {
		case <-stopped:
			return
		default:
		}
		if c.conn == nil {
			again := cs.redial(ctx, c, deadline)
			now = time.Now() // connecting is no part of a transaction
			if !again {
				continue
			}
		}
		began := now
		if open != nil {
			var ok bool
			if began, ok = open.next(ctx, now); !ok {
				return
			}
		}
		err := c.script.Transaction(c.conn, c.rnd)
		now = time.Now()
		if batch := c.conn.takeOutcomes(); len(batch) > 0 {
			c.count(batch)
			if err != nil {
				c.conn.Close()
				c.conn = nil
			}
			continue
		}
		if err == nil {
			c.latency.Record(now.Sub(began))
			c.done.Store(c.done.Load() + 1)
			if r := &c.conn.rows; r.count > 0 {
				c.rows += r.count
				if r.first > 0 {
					if c.first == nil {
						c.first = measure.NewLatency()
					}
					c.first.Record(r.first)
				}
			}
			continue
		}
		c.fail(err)
		now = time.Now() // nor is rolling back
	}
}

// count takes the outcomes of a batch, which has left no transaction open.
func (c *client) count(batch []Outcome) {
	for _, o := range batch {
		if o.Err == nil {
			c.latency.Record(o.Took)
			c.done.Store(c.done.Load() + 1)
			continue
		}
		c.errors.add(o.Err)
		if unknown(o.Err) {
			c.unknown++
		}
	}
}

// redial takes a lost connection up again, and else waits a moment.
func (cs *Clients) redial(ctx context.Context, c *client, deadline time.Time) bool {
	err := cs.dial(ctx, c)
	if err == nil {
		if err = c.conn.SetDeadline(deadline); err == nil {
			return true
		}
		c.lose(err)
	} else {
		c.errors.add(err)
	}
	select {
	case <-ctx.Done():
	case <-time.After(redialPause):
	}
	return false
}

// fail counts an error and ends what the transaction has left open.
func (c *client) fail(err error) {
	c.errors.add(err)
	if unknown(err) {
		c.unknown++
	}
	if !usable(err) {
		c.conn.Close()
		c.conn = nil
		return
	}
	if c.conn.status != idle {
		if err := c.conn.Exec("ROLLBACK", "ROLLBACK"); err != nil {
			c.lose(err)
		}
	}
}

// lose gives a connection up for a reason that is counted beside the transactions'.
func (c *client) lose(err error) {
	c.errors.add(err)
	c.conn.Close()
	c.conn = nil
}
