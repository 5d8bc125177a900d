package load

import (
	"context"
	"sync"
	"time"

	"github.com/shardgate/shardgate/bench/measure"
)

// Connected are clients that have connected and do nothing else. Close them.
type Connected struct {
	Conns   []*Conn
	Errors  Errors           // of those that were not let in, or whose statement failed
	Elapsed time.Duration    // until the last one was in
	Latency *measure.Latency // of those that are in, from the beginning of their connecting
}

// Connect lets n clients connect, at most atOnce of them at a time, and run a statement
// that is answered with a row, if it is not "". ctx bounds it all.
func Connect(ctx context.Context, url string, n, atOnce int, sql string) *Connected {
	c := &Connected{Errors: Errors{}, Latency: measure.NewLatency()}
	var mu sync.Mutex
	var wait sync.WaitGroup
	begin := make(chan struct{})
	numbers := make(chan struct{}, n)
	for range n {
		numbers <- struct{}{}
	}
	close(numbers)
	for range min(n, atOnce) {
		wait.Go(func() { // ends when all have connected
			<-begin
			for range numbers {
				began := time.Now()
				conn, err := connectOne(ctx, url, sql)
				took := time.Since(began)
				mu.Lock()
				if err != nil {
					c.Errors.add(err)
				} else {
					c.Conns = append(c.Conns, conn)
					c.Latency.Record(took)
				}
				mu.Unlock()
			}
		})
	}
	began := time.Now()
	close(begin)
	wait.Wait()
	c.Elapsed = time.Since(began)
	return c
}

func connectOne(ctx context.Context, url, sql string) (*Conn, error) {
	conn, err := Dial(ctx, url)
	if err != nil || sql == "" {
		return conn, err
	}
	deadline, _ := ctx.Deadline()
	if err = conn.SetDeadline(deadline); err == nil {
		err = conn.Exec(sql, "SELECT 1")
	}
	if err != nil {
		conn.Close()
		return nil, err
	}
	return conn, nil
}

// Result is what happened, one client that gets in being one transaction.
func (c *Connected) Result() *Result {
	return &Result{Elapsed: c.Elapsed, Committed: int64(len(c.Conns)), Errors: c.Errors, Latency: c.Latency, FirstRow: measure.NewLatency()}
}

// Close closes the connections.
func (c *Connected) Close() {
	for _, conn := range c.Conns {
		conn.Close()
	}
}
