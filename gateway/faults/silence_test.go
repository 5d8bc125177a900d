package faults

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
)

// What takes long is not taken for dead, whoever it is that is waited for.
func TestLong(t *testing.T) {
	c := newCluster(t, 2)
	url, _ := c.gateway(lively)
	c.open(url)
	const long = 1500 * time.Millisecond // five times timeouts.silence
	locked := make(chan struct{})
	all := map[string]func(conn *pgconn.PgConn) error{
		"statement": func(conn *pgconn.PgConn) error {
			_, err := exec(conn, fmt.Sprintf("SELECT pg_sleep(%f)", long.Seconds()))
			return err
		},
		"lock": func(conn *pgconn.PgConn) error {
			<-locked
			_, err := exec(conn, fmt.Sprintf("UPDATE account SET balance = balance WHERE id = %d", c.keys[1]))
			return err
		},
		"client that reads nothing": func(conn *pgconn.PgConn) error {
			results := conn.Exec(context.Background(), "SELECT repeat(text, 30) FROM many")
			if !results.NextResult() || !results.ResultReader().NextRow() {
				return errors.New("no row")
			}
			time.Sleep(long)
			n := 1
			for results.ResultReader().NextRow() {
				n++
			}
			if n != 3000 {
				return fmt.Errorf("%d rows", n)
			}
			return results.Close()
		},
		"client that sends nothing": func(conn *pgconn.PgConn) error {
			_, err := conn.CopyFrom(context.Background(), &late{after: long, text: "10001\ta\n10002\tb\n10003\tc\n"}, "COPY many FROM STDIN")
			return err
		},
		"transaction": func(conn *pgconn.PgConn) error {
			for _, sql := range []string{"BEGIN", "SELECT sum(balance) FROM account", "SELECT balance FROM account", "COMMIT"} {
				if _, err := exec(conn, sql); err != nil {
					return err
				}
				time.Sleep(long / 3)
			}
			return nil
		},
		"notification": func(conn *pgconn.PgConn) error {
			if _, err := exec(conn, "LISTEN late"); err != nil {
				return err
			}
			time.AfterFunc(long, func() { c.shard(0).Exec(context.Background(), "NOTIFY late") })
			ctx, stop := context.WithTimeout(context.Background(), answerTimeout)
			defer stop()
			return conn.WaitForNotification(ctx)
		},
	}
	var work sync.WaitGroup
	for name, f := range all {
		conn := c.connect(url)
		work.Go(func() {
			defer conn.Close(context.Background())
			if err := f(conn); err != nil {
				t.Errorf("%s: %v", name, err)
			}
		})
	}
	tx, err := c.shard(1).Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := tx.Exec(t.Context(), "UPDATE account SET balance = balance WHERE id = $1", c.keys[1]); err != nil {
		t.Fatal(err)
	}
	close(locked)
	time.Sleep(long)
	if err := tx.Rollback(t.Context()); err != nil {
		t.Fatal(err)
	}
	work.Wait()
}

// late is a text that comes late.
type late struct {
	after time.Duration
	text  string
}

func (l *late) Read(b []byte) (int, error) {
	if l.text == "" {
		return 0, io.EOF
	}
	time.Sleep(l.after)
	n := copy(b, l.text)
	l.text = l.text[n:]
	return n, nil
}

// A server that is frozen, with a statement or a transaction under way on it, is given up
// soon, and used again when it goes on.
func TestFrozen(t *testing.T) {
	c := newCluster(t, 3)
	url, _ := c.gateway(lively)
	c.open(url)
	asleep, within := c.connect(url), c.connect(url)
	defer asleep.Close(context.Background())
	defer within.Close(context.Background())
	c.must(within, "BEGIN", fmt.Sprintf("UPDATE account SET balance = balance - 1 WHERE id = %d", c.keys[1]),
		fmt.Sprintf("UPDATE account SET balance = balance + 1 WHERE id = %d", c.keys[2]))
	ended := make(chan error, 1)
	go func() {
		_, err := exec(asleep, fmt.Sprintf("SELECT pg_sleep(2) FROM account WHERE id = %d", c.keys[1]))
		ended <- err
	}()
	time.Sleep(50 * time.Millisecond)
	if err := c.servers[1].Pause(); err != nil {
		t.Fatal(err)
	}
	for what, err := range map[string]error{"statement": <-ended, "commit": second(exec(within, "COMMIT"))} {
		var pe *pgconn.PgError
		if !errors.As(err, &pe) || pe.Code != "08006" || !strings.Contains(pe.Message, "shard s2") || pe.Detail != "The server did not answer in time." {
			t.Errorf("%s: %v", what, err)
		}
	}
	other := c.connect(url)
	defer other.Close(context.Background())
	c.must(other, fmt.Sprintf("SELECT balance FROM account WHERE id = %d", c.keys[2]))
	if err := c.servers[1].Resume(); err != nil {
		t.Fatal(err)
	}
	if err := c.settles(); err != nil {
		t.Error(err)
	}
	c.outcome(scenarios[0], errors.New("rolled back"))
	if err := c.intact(url, 1); err != nil {
		t.Error(err)
	}
}

func second[T any](_ T, err error) error { return err }
