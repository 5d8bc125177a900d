package pgtest

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/shardgate/shardgate/gateway/localpg"
)

var databases atomic.Int64

// Database makes a fresh database and returns the superuser's connection URL for it. Its name is unique in this
// process. It is dropped at the end of the test, with the sessions and prepared transactions that are left in it.
func Database(tb testing.TB, s *localpg.Server) string {
	tb.Helper()
	_, urls := Databases(tb, s)
	return urls[0]
}

// Databases makes a fresh database of the same name on each of the servers, and returns the name and the superuser's
// connection URLs in the order of the servers. For the rest it is like Database.
func Databases(tb testing.TB, servers ...*localpg.Server) (name string, urls []string) {
	tb.Helper()
	name = databaseName(tb.Name())
	create := "CREATE DATABASE " + pgx.Identifier{name}.Sanitize()
	// Registered first: what was made is dropped also when another server's fails.
	tb.Cleanup(func() {
		if err := onEach(servers, func(ctx context.Context, s *localpg.Server) error { return drop(ctx, s, name) }); err != nil {
			tb.Error(err)
		}
	})
	if err := onEach(servers, func(ctx context.Context, s *localpg.Server) error { return run(ctx, s.URL("", ""), create) }); err != nil {
		tb.Fatal(err)
	}
	for _, s := range servers {
		urls = append(urls, s.URL("", name))
	}
	return name, urls
}

// databaseName makes a name that needs no quotes and says which test it is of, within PostgreSQL's 63 octets.
func databaseName(test string) string {
	word := strings.Map(func(r rune) rune {
		switch {
		case 'a' <= r && r <= 'z' || '0' <= r && r <= '9':
			return r
		case 'A' <= r && r <= 'Z':
			return r - 'A' + 'a'
		}
		return '_'
	}, test)
	return fmt.Sprintf("%.40s_%d", word, databases.Add(1))
}

func onEach(servers []*localpg.Server, f func(context.Context, *localpg.Server) error) error {
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	errs := make([]error, len(servers))
	var wg sync.WaitGroup
	for i, s := range servers {
		wg.Go(func() {
			if err := f(ctx, s); err != nil {
				errs[i] = fmt.Errorf("%s: %w", s.Name(), err)
			}
		})
	}
	wg.Wait()
	return errors.Join(errs...)
}

// run runs statements, one after the other, on a connection of its own.
func run(ctx context.Context, url string, statements ...string) error {
	conn, err := pgx.Connect(ctx, url)
	if err != nil {
		return err
	}
	defer conn.Close(ctx)
	for _, sql := range statements {
		if _, err := conn.Exec(ctx, sql); err != nil {
			return fmt.Errorf("%s: %w", sql, err)
		}
	}
	return nil
}

// drop removes a database. On a server that the test has left stopped it stays.
func drop(ctx context.Context, s *localpg.Server, name string) error {
	if s.PID() == 0 {
		return nil
	}
	if err := s.Resume(); err != nil {
		return err
	}
	if err := rollbackPrepared(ctx, s, name); err != nil {
		return err
	}
	return run(ctx, s.URL("", ""), "DROP DATABASE IF EXISTS "+pgx.Identifier{name}.Sanitize()+" WITH (FORCE)")
}

// rollbackPrepared ends the prepared transactions of a database, which would keep it from being dropped.
func rollbackPrepared(ctx context.Context, s *localpg.Server, name string) error {
	conn, err := pgx.Connect(ctx, s.URL("", ""))
	if err != nil {
		return err
	}
	defer conn.Close(ctx)
	rows, err := conn.Query(ctx, "SELECT format('ROLLBACK PREPARED %L', gid) FROM pg_prepared_xacts WHERE database = $1", name)
	if err != nil {
		return err
	}
	statements, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil || len(statements) == 0 {
		return err
	}
	return run(ctx, s.URL("", name), statements...)
}

// Conn returns a connection, which is closed at the end of the test.
func Conn(tb testing.TB, url string) *pgx.Conn {
	tb.Helper()
	ctx, cancel := context.WithTimeout(tb.Context(), 15*time.Second)
	defer cancel()
	conn, err := pgx.Connect(ctx, url)
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
		defer cancel()
		// The server may have been stopped by the test; the socket is closed in any case.
		if err := conn.Close(ctx); err != nil && !errors.Is(err, os.ErrDeadlineExceeded) {
			tb.Logf("closing a connection: %v", err)
		}
	})
	return conn
}
