package faults

import (
	"context"
	"errors"
	"fmt"
	"testing"

	"github.com/jackc/pgx/v5/pgconn"
)

// Time-outs of the client's hold for what the gateway does for it besides, and never make half
// of a commit. What both PostgreSQL and a gateway can show is in gateway/prototest.
func TestTimeouts(t *testing.T) {
	c := newCluster(t, 3)
	url, _ := c.gateway(lively)
	c.open(url)
	conn := c.connect(url)
	defer conn.Close(context.Background())
	fails := func(sql, want string) {
		t.Helper()
		_, err := exec(conn, sql)
		var pe *pgconn.PgError
		if !errors.As(err, &pe) || pe.Code != want {
			t.Errorf("%s: %v, not %s", sql, err, want)
		}
	}
	update := func(shard int) string {
		return fmt.Sprintf("UPDATE account SET balance = balance + 1 WHERE id = %d", c.keys[shard])
	}

	// The fence is waited for no longer than statement_timeout says, and in a COMMIT as long as
	// it takes, whatever lock_timeout says.
	tx, err := c.shard(1).Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := tx.Exec(t.Context(), "LOCK TABLE shardgate.decisions IN ROW EXCLUSIVE MODE"); err != nil {
		t.Fatal(err)
	}
	c.must(conn, "SET statement_timeout = '200ms'")
	fails("SELECT sum(balance) FROM account", "57014")
	c.must(conn, "RESET statement_timeout", "BEGIN", "SET LOCAL statement_timeout = '200ms'")
	fails("SELECT balance FROM account", "57014")
	c.must(conn, "ROLLBACK")
	if _, err := tx.Exec(t.Context(), "ROLLBACK; BEGIN; LOCK TABLE shardgate.decisions IN SHARE MODE"); err != nil {
		t.Fatal(err)
	}
	c.must(conn, "SET lock_timeout = '50ms'", "BEGIN", update(1), update(2))
	go c.shard(1).Exec(context.Background(), "SELECT pg_sleep(0.3); ROLLBACK")
	c.must(conn, "COMMIT", "RESET lock_timeout")
	c.add(map[int]int{c.keys[1]: 1, c.keys[2]: 1})

	// One shard's part has been idle for too long, and the client hasn't.
	c.must(conn, "SET idle_in_transaction_session_timeout = '200ms'", "BEGIN", update(1),
		fmt.Sprintf("SELECT pg_sleep(0.6) FROM account WHERE id = %d", c.keys[2]))
	fails(update(1), "25P03")
	fails(update(2), "25P02")
	c.must(conn, "ROLLBACK", "BEGIN", update(1), update(2), fmt.Sprintf("SELECT pg_sleep(0.6) FROM account WHERE id = %d", c.keys[2]))
	fails("COMMIT", "25P03")
	c.must(conn, "RESET idle_in_transaction_session_timeout")

	// A time-out at any moment of a commit.
	s := scenario{moves: []int{1, 2, 0}}
	done := 0
	for i := range 60 {
		for _, sql := range []string{"BEGIN", update(1), update(2), update(0), fmt.Sprintf("SET LOCAL statement_timeout = %d", 1+i%6)} {
			if _, err := exec(conn, sql); err != nil {
				t.Fatalf("%s: %v", sql, err)
			}
		}
		_, err := exec(conn, "COMMIT")
		if err == nil {
			done++
			c.add(map[int]int{c.keys[0]: 1, c.keys[1]: 1, c.keys[2]: 1})
		} else if unknown(err) {
			t.Error(err)
		}
	}
	t.Logf("%d of 60 committed", done)
	if err := c.settles(); err != nil {
		t.Error(err)
	}
	c.outcome(s, errors.New("all others"))
	if err := c.intact(url, 1); err != nil {
		t.Error(err)
	}
}
