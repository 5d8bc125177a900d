package workload

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strconv"
	"time"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/shardgate/shardgate/bench/target"
)

// ErrUnchecked is matched where an invariant can't be computed: the target refuses the
// sums, and the servers behind it were not named.
var ErrUnchecked = errors.New("the invariants are not checked: name the servers behind the target with --server")

// database is a connection for what is not measured. It uses the simple protocol, which
// every pooler passes on.
type database struct{ conn *pgconn.PgConn }

func connect(ctx context.Context, url string) (*database, error) {
	conn, err := pgconn.Connect(ctx, url)
	if err != nil {
		return nil, err
	}
	return &database{conn}, nil
}

func (d *database) close() {
	ctx, stop := context.WithTimeout(context.Background(), time.Second)
	defer stop()
	d.conn.Close(ctx) // the socket is closed in any case
}

func (d *database) exec(ctx context.Context, sql string) error {
	if _, err := d.conn.Exec(ctx, sql).ReadAll(); err != nil {
		return fmt.Errorf("%s: %w", sql, err)
	}
	return nil
}

func (d *database) copyIn(ctx context.Context, sql string, from io.Reader) error {
	if _, err := d.conn.CopyFrom(ctx, from, sql); err != nil {
		return fmt.Errorf("%s: %w", sql, err)
	}
	return nil
}

// each runs a query through a connection of its own and gives its rows one by one.
func each(ctx context.Context, url, sql string, row func(values [][]byte) error) error {
	db, err := connect(ctx, url)
	if err != nil {
		return err
	}
	defer db.close()
	return db.each(ctx, sql, row)
}

// each runs a query and gives its rows one by one.
func (d *database) each(ctx context.Context, sql string, row func(values [][]byte) error) error {
	var err error
	results := d.conn.Exec(ctx, sql)
	for err == nil && results.NextResult() {
		for r := results.ResultReader(); err == nil && r.NextRow(); {
			err = row(r.Values())
		}
	}
	if closed := results.Close(); err == nil {
		err = closed
	}
	if err != nil {
		return fmt.Errorf("%s: %w", sql, err)
	}
	return nil
}

// numbers returns the first column of a query's rows.
func (d *database) numbers(ctx context.Context, sql string) ([]int64, error) {
	results, err := d.conn.Exec(ctx, sql).ReadAll()
	if err != nil {
		return nil, fmt.Errorf("%s: %w", sql, err)
	}
	var list []int64
	for _, r := range results {
		for _, row := range r.Rows {
			n, err := strconv.ParseInt(string(row[0]), 10, 64)
			if err != nil {
				return nil, fmt.Errorf("%s: %w", sql, err)
			}
			list = append(list, n)
		}
	}
	return list, nil
}

func hasCode(err error, code string) bool {
	var e *pgconn.PgError
	return errors.As(err, &e) && e.Code == code
}

func refused(err error) bool { return hasCode(err, "0A000") }

func undefinedTable(err error) bool { return hasCode(err, "42P01") }

// servers are the URLs of those that hold the data, or the store's own if they are not known.
func servers(s *target.Store) []string {
	if len(s.Servers) == 0 {
		return []string{s.URL}
	}
	return s.Servers
}

// settleTimeout is how long transactions may stay prepared after the last answer: those
// whose client was told that the outcome is unknown are finished by recovery.
const settleTimeout = 10 * time.Second

// preparedTransactions counts those that stay prepared on the servers, or through the
// store's URL if they are not known.
func preparedTransactions(ctx context.Context, s *target.Store) (int64, error) {
	deadline := time.Now().Add(settleTimeout)
	for {
		var total int64
		for _, url := range servers(s) {
			n, err := preparedAt(ctx, url)
			if err != nil {
				return 0, err
			}
			total += n
		}
		if total == 0 || time.Now().After(deadline) {
			return total, nil
		}
		select {
		case <-ctx.Done():
			return total, ctx.Err()
		case <-time.After(100 * time.Millisecond):
		}
	}
}

func preparedAt(ctx context.Context, url string) (int64, error) {
	db, err := connect(ctx, url)
	if err != nil {
		return 0, err
	}
	defer db.close()
	n, err := db.numbers(ctx, "SELECT count(*) FROM pg_prepared_xacts WHERE database = current_database()")
	if err != nil {
		return 0, err
	}
	return n[0], nil
}
