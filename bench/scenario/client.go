package scenario

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/shardgate/shardgate/bench/history"
)

const (
	// txnTimeout bounds one transaction; beyond it the client gives its connection up.
	txnTimeout     = 20 * time.Second
	connectTimeout = 3 * time.Second
	// lockTimeout ends waits that lead nowhere, such as those for a transaction that a
	// fault has left prepared.
	lockTimeout = "2s"
	// pause is between two attempts to connect.
	pause = 50 * time.Millisecond
)

// client has one connection and runs one transaction after the other.
type client struct {
	run     *Run
	id      int
	rand    *rand.Rand
	only    *int // the gateway to connect to; nil: any
	conn    *pgx.Conn
	session int
	gateway int
	txns    []*history.Txn
}

var scripts = map[history.Workload]func(*client){
	history.Bank: (*client).bank, history.Lists: (*client).list, history.Registers: (*client).register, history.LongFork: (*client).fork}

// loop runs transactions until ctx ends. The last one is carried to its end.
func (c *client) loop(ctx context.Context) {
	defer func() { c.close(); c.run.record(c.txns) }()
	for ctx.Err() == nil {
		if !c.connected(ctx) {
			select {
			case <-ctx.Done():
			case <-time.After(pause):
			}
			continue
		}
		scripts[c.run.Workloads[c.rand.IntN(len(c.run.Workloads))]](c)
		c.run.Done.Add(1)
	}
}

// connected makes a connection if there is none: to one gateway or the other.
func (c *client) connected(ctx context.Context) bool {
	if c.conn != nil && !c.conn.IsClosed() {
		return true
	}
	c.close()
	c.gateway = c.rand.IntN(len(c.run.URLs))
	if c.only != nil {
		c.gateway = *c.only
	}
	cfg, err := pgx.ParseConfig(c.run.URLs[c.gateway])
	if err != nil {
		return false // Setup has read it
	}
	// Both protocols are used.
	cfg.DefaultQueryExecMode = pgx.QueryExecModeSimpleProtocol
	if c.id%2 == 1 {
		cfg.DefaultQueryExecMode = pgx.QueryExecModeCacheStatement
	}
	ctx, stop := context.WithTimeout(ctx, connectTimeout)
	defer stop()
	if c.conn, err = pgx.ConnectConfig(ctx, cfg); err != nil {
		c.conn = nil
		return false
	}
	c.session = int(c.run.sessions.Add(1))
	if err := c.run.set(ctx, c.conn); err != nil {
		c.close()
		return false
	}
	return true
}

// set gives a session its settings.
func (r *Run) set(ctx context.Context, conn *pgx.Conn) error {
	for _, setting := range append([]string{"lock_timeout=" + lockTimeout}, r.Settings...) {
		name, value, _ := strings.Cut(setting, "=")
		sql := "SET " + name + " = '" + strings.ReplaceAll(value, "'", "''") + "'"
		if _, err := conn.Exec(ctx, sql); err != nil {
			return fmt.Errorf("%s: %w", sql, err)
		}
	}
	return nil
}

func (c *client) close() {
	if c.conn == nil {
		return
	}
	ctx, stop := context.WithTimeout(context.Background(), time.Second)
	defer stop()
	c.conn.Close(ctx) // the socket is closed in any case
	c.conn = nil
}

// chance is true so many times of a hundred.
func (c *client) chance(percent int) bool { return c.rand.IntN(100) < percent }

// level draws one.
func (c *client) level() history.Isolation {
	if c.chance(50) {
		return history.ReadCommitted
	}
	return history.RepeatableRead
}

// txn is a transaction under way.
type txn struct {
	*history.Txn
	ctx  context.Context
	conn *pgx.Conn
}

// block runs a transaction between BEGIN and COMMIT, and records it.
func (c *client) block(w history.Workload, level history.Isolation, body func(*txn) error) {
	c.transact(w, level, func(t *txn) (err error, committing bool) {
		if _, err := t.conn.Exec(t.ctx, "BEGIN ISOLATION LEVEL "+string(level)); err != nil {
			return err, false
		}
		if err := body(t); err != nil {
			if !t.conn.IsClosed() {
				if _, err := t.conn.Exec(t.ctx, "ROLLBACK"); err != nil {
					c.close()
				}
			}
			return err, false
		}
		tag, err := t.conn.Exec(t.ctx, "COMMIT")
		if err == nil && tag.String() == "ROLLBACK" {
			return &pgconn.PgError{Code: "25P02"}, false // a rollback without an error message
		}
		return err, true
	})
}

// single runs a statement outside a block: a transaction of its own, whose answer is that
// of its commit as well.
func (c *client) single(w history.Workload, body func(*txn) error) {
	c.transact(w, history.ReadCommitted, func(t *txn) (error, bool) { return body(t), true })
}

func (c *client) transact(w history.Workload, level history.Isolation, run func(*txn) (err error, committing bool)) {
	ctx, stop := context.WithTimeout(context.Background(), txnTimeout)
	defer stop()
	h := &history.Txn{Workload: w, Process: c.id, Session: c.session, Gateway: c.gateway, Isolation: level, Start: c.run.Now()}
	err, committing := run(&txn{h, ctx, c.conn})
	h.End = c.run.Now()
	h.Outcome, h.Error = outcome(err, committing)
	c.txns = append(c.txns, h)
}

// outcome is what a client knows from an error: that the transaction was rolled back, but
// where the answer to its COMMIT is lost, or says that it is not known.
func outcome(err error, committing bool) (history.Outcome, string) {
	if err == nil {
		return history.OK, ""
	}
	var pe *pgconn.PgError
	text, isWrong := isWrong(err)
	code := "lost"
	switch {
	case isWrong && committing:
		return history.Unknown, history.WrongAnswer + text
	case isWrong:
		return history.Fail, history.WrongAnswer + text
	case errors.As(err, &pe):
		code = pe.Code
	}
	if committing && (code == "lost" || code == "40003" || code == "08007") {
		return history.Unknown, code
	}
	return history.Fail, code
}

// exec runs a statement that has to change so many rows. Its operations are recorded
// before it, since it may take effect without an answer.
func (t *txn) exec(rows int64, sql string, args ...any) error {
	t.Statements++
	tag, err := t.conn.Exec(t.ctx, sql, args...)
	if err == nil && tag.RowsAffected() != rows {
		return wrong("%s for %d rows of %s", tag, rows, sql)
	}
	return err
}

// query runs a statement and returns its rows of two columns.
func query[A, B any](t *txn, sql string, args ...any) ([]pair[A, B], error) {
	t.Statements++
	rows, err := t.conn.Query(t.ctx, sql, args...)
	if err != nil {
		return nil, err
	}
	var list []pair[A, B]
	var p pair[A, B]
	_, err = pgx.ForEachRow(rows, []any{&p.a, &p.b}, func() error {
		list = append(list, p)
		return nil
	})
	return list, err
}

type pair[A, B any] struct {
	a A
	b B
}
