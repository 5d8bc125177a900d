// Package scenario runs clients against gateways and writes down what they were told: the
// histories that package history checks.
//
// It breaks nothing (package nemesis does) and judges nothing.
//
// The governing idea: a client claims no more than it knows. A COMMIT that was answered is
// committed, an error before it is a rollback, and a COMMIT whose answer was lost is
// neither.
package scenario

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/shardgate/shardgate/bench/history"
)

// Tables are the rules for the tables in a gateway's configuration: each by its key, and
// none co-located with another.
const Tables = `tables:
  - {name: histories_bank, key: id}
  - {name: histories_lists, key: k}
  - {name: histories_registers, key: k}
  - {name: histories_fork, key: k}
`

// Options say what to run.
type Options struct {
	URLs      []string // of the gateways, in turn for each connection
	Clients   int
	Workloads []history.Workload
	Seed      uint64
	Settings  []string // "name=value", for each session
}

// Run is one run. Its methods are called one after the other: Setup, Clients, Final,
// History.
type Run struct {
	Options
	header   history.Header
	began    time.Time
	sessions atomic.Int64
	values   atomic.Int64 // unique, for what is appended and written
	Done     atomic.Int64 // transactions, for whoever shows progress

	lists     listKeys
	registers recentWrites
	groups    forkGroups

	mu   sync.Mutex
	txns []*history.Txn
}

const (
	accounts     = 20
	firstBalance = 1000
	forkGroup    = 4 // keys
)

// New makes a run.
func New(o Options) *Run {
	return &Run{Options: o, began: time.Now(),
		header: history.Header{Seed: o.Seed, Accounts: accounts, Total: accounts * firstBalance, Group: forkGroup}}
}

// Now is the time in the run's history.
func (r *Run) Now() time.Duration { return time.Since(r.began) }

var tables = map[history.Workload][]string{
	history.Bank: {
		"DROP TABLE IF EXISTS histories_bank",
		"CREATE TABLE histories_bank (id int PRIMARY KEY, balance bigint NOT NULL)",
	},
	history.Lists: {
		"DROP TABLE IF EXISTS histories_lists",
		"CREATE TABLE histories_lists (k bigint PRIMARY KEY, v text NOT NULL)",
	},
	// Without a unique index, so that a write which is done twice is there twice.
	history.Registers: {
		"DROP TABLE IF EXISTS histories_registers",
		"CREATE TABLE histories_registers (k bigint NOT NULL, v bigint NOT NULL)",
		"CREATE INDEX ON histories_registers (k)",
	},
	history.LongFork: {
		"DROP TABLE IF EXISTS histories_fork",
		"CREATE TABLE histories_fork (k bigint PRIMARY KEY, v bigint NOT NULL)",
	},
}

// Setup makes the tables anew. What was in them is lost.
func (r *Run) Setup(ctx context.Context) error {
	conn, err := pgx.Connect(ctx, r.URLs[0])
	if err != nil {
		return err
	}
	defer conn.Close(context.WithoutCancel(ctx))
	for _, w := range r.Workloads {
		statements := tables[w]
		if w == history.Bank {
			var rows []string
			for id := range accounts {
				rows = append(rows, fmt.Sprintf("(%d, %d)", id, firstBalance))
			}
			statements = append(slices.Clone(statements), "INSERT INTO histories_bank VALUES "+strings.Join(rows, ", "))
		}
		for _, sql := range statements {
			if _, err := conn.Exec(ctx, sql); err != nil {
				return fmt.Errorf("%s: %w", sql, err)
			}
		}
	}
	return r.await(ctx)
}

// await waits until every gateway has noticed the tables, which are new, and tries the
// settings.
func (r *Run) await(ctx context.Context) error {
	for _, url := range r.URLs {
		conn, err := pgx.Connect(ctx, url)
		if err != nil {
			return err
		}
		defer conn.Close(context.WithoutCancel(ctx))
		if err := r.set(ctx, conn); err != nil {
			return err
		}
		for _, w := range r.Workloads {
			deadline := time.Now().Add(10 * time.Second)
			for {
				if _, err = conn.Exec(ctx, finalRead[w]); err == nil {
					break
				}
				if time.Now().After(deadline) || ctx.Err() != nil {
					return fmt.Errorf("after the tables were made: %w", err)
				}
				time.Sleep(100 * time.Millisecond)
			}
		}
	}
	// A gateway that has kept an older schema would have failed above, or, where the
	// tables were there before, learns of the new ones within its schema_poll.
	time.Sleep(time.Second)
	return nil
}

// Clients runs the clients for a time, or until ctx ends, and returns when the last
// transaction of each has ended.
func (r *Run) Clients(ctx context.Context, d time.Duration) {
	ctx, stop := context.WithTimeout(ctx, d)
	defer stop()
	var wait sync.WaitGroup
	for i := range r.Options.Clients {
		c := &client{run: r, id: i, rand: rand.New(rand.NewPCG(r.Seed, uint64(i)+1))}
		wait.Go(func() { c.loop(ctx) })
	}
	wait.Wait()
}

// finalTimeout bounds how long the reads at the end are tried.
const finalTimeout = time.Minute

// Final reads everything through each gateway.
func (r *Run) Final(ctx context.Context) error {
	for g := range r.URLs {
		c := &client{run: r, id: r.Options.Clients + g, rand: rand.New(rand.NewPCG(r.Seed, 0)), only: &g}
		defer c.close()
		for _, w := range r.Workloads {
			deadline := time.Now().Add(finalTimeout)
			for {
				last := c.final(ctx, w)
				if last == nil {
					break
				}
				if time.Now().After(deadline) || ctx.Err() != nil {
					return fmt.Errorf("reading what is there at the end, of %s, through gateway %d: %w", w, g+1, last)
				}
				time.Sleep(100 * time.Millisecond)
			}
		}
	}
	return nil
}

// History is what was recorded, in the order in which the transactions began.
func (r *Run) History(faults []history.Fault) *history.History {
	r.mu.Lock()
	defer r.mu.Unlock()
	slices.SortStableFunc(r.txns, func(a, b *history.Txn) int { return int(a.Start - b.Start) })
	for i, t := range r.txns {
		t.ID = i + 1
	}
	return &history.History{Header: r.header, Txns: r.txns, Faults: faults}
}

func (r *Run) record(txns []*history.Txn) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.txns = append(r.txns, txns...)
}

// Query is one for all shards.
func (r *Run) Query() string { return finalRead[r.Workloads[0]] }

// errWrong is an answer that can't be.
type errWrong struct{ text string }

func (e errWrong) Error() string { return e.text }

func wrong(format string, args ...any) error { return errWrong{fmt.Sprintf(format, args...)} }

func isWrong(err error) (text string, ok bool) {
	var w errWrong
	if errors.As(err, &w) {
		return w.text, true
	}
	return "", false
}
