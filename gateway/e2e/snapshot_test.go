package e2e

import (
	"bytes"
	"context"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
)

const bankRule = `
tables:
  - {name: account, key: id}
  - {name: owner, key: name}
`

const (
	accounts     = 24
	startBalance = 100
)

// bank makes accounts on all shards, and a table of their owners in another group.
func (c *cluster) bank() *pgx.Conn {
	c.t.Helper()
	conn := c.connect("postgres")
	must(c.t, conn, "CREATE TABLE account (id int PRIMARY KEY, balance int NOT NULL)")
	must(c.t, conn, "CREATE TABLE owner (name text PRIMARY KEY, account int NOT NULL)")
	for i := range accounts {
		must(c.t, conn, fmt.Sprintf("INSERT INTO account VALUES (%d, %d)", i, startBalance))
		must(c.t, conn, fmt.Sprintf("INSERT INTO owner VALUES ('owner %d', %d)", i, i))
	}
	return conn
}

// transfers moves money from account to account until ctx is over.
func transfers(ctx context.Context, t *testing.T, conn *pgx.Conn, seed uint64) {
	rnd := rand.New(rand.NewPCG(7, seed))
	for ctx.Err() == nil {
		from, to := rnd.IntN(accounts), rnd.IntN(accounts)
		if from > to {
			from, to = to, from // no deadlocks
		}
		amount := rnd.IntN(21) - 10
		if _, err := conn.Exec(context.Background(), fmt.Sprintf(`BEGIN;
			UPDATE account SET balance = balance + %d WHERE id = %d; UPDATE account SET balance = balance - %d WHERE id = %d; COMMIT`, amount, from, amount, to)); err != nil {
			t.Error(err)
			return
		}
	}
}

// bankReads are ways to read all balances; each gives the sum, or the balances.
var bankReads = []string{
	"SELECT sum(balance) FROM account",
	"SELECT balance FROM account",
	"SELECT balance FROM account ORDER BY id",
	readByKeys,
	"SELECT balance FROM account WHERE id < 1000 ORDER BY balance DESC LIMIT 1000",
	"SELECT a.balance FROM owner o JOIN account a ON a.id = o.account",
	"SELECT a.balance FROM owner o JOIN account a ON a.id = o.account WHERE o.name LIKE 'owner%'",
	"SELECT (SELECT a.balance FROM account a WHERE a.id = o.account) FROM owner o",
	"WITH a AS (SELECT * FROM account) SELECT balance FROM a WHERE id IN (SELECT account FROM owner)",
}

// readByKeys names all accounts.
const readByKeys = "SELECT balance FROM account WHERE id IN (0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20, 21, 22, 23)"

type querier interface {
	Query(context.Context, string, ...any) (pgx.Rows, error)
}

func total(t *testing.T, q querier, sql string, mode pgx.QueryExecMode) int {
	t.Helper()
	rows, err := q.Query(context.Background(), sql, mode)
	if err != nil {
		t.Error(err)
		return -1
	}
	balances, err := pgx.CollectRows(rows, pgx.RowTo[int])
	if err != nil {
		t.Error(err)
	}
	sum := 0
	for _, b := range balances {
		sum += b
	}
	return sum
}

// Whoever reads all balances finds all the money, in whatever way and at whatever level,
// while it is moved through two gateways.
func TestAtomicReads(t *testing.T) {
	c := newCluster(t, 4, bankRule)
	c.serve()
	c.bank()
	second := *c
	second.listen = freeAddress(t)
	second.configure(bankRule)
	second.serve()

	ctx, stop := context.WithTimeout(t.Context(), 4*time.Second)
	defer stop()
	var work sync.WaitGroup
	for i := range 4 {
		conn := []*cluster{c, &second}[i%2].connect("postgres")
		work.Go(func() { transfers(ctx, t, conn, uint64(i)) })
	}
	reads := 0
	var mu sync.Mutex
	check := func(what, sql string, got int) bool {
		mu.Lock()
		defer mu.Unlock()
		reads++
		if got != accounts*startBalance {
			t.Errorf("%s, %s: %d", what, sql, got)
			stop()
		}
		return got == accounts*startBalance
	}
	for i := range 3 {
		conn := []*cluster{c, &second}[i%2].connect("postgres")
		work.Go(func() {
			rnd := rand.New(rand.NewPCG(8, uint64(i)))
			for ctx.Err() == nil {
				sql := bankReads[rnd.IntN(len(bankReads))]
				mode := []pgx.QueryExecMode{pgx.QueryExecModeSimpleProtocol, pgx.QueryExecModeCacheStatement, pgx.QueryExecModeExec}[rnd.IntN(3)]
				switch way := rnd.IntN(4); way {
				case 0:
					check("alone", sql, total(t, conn, sql, mode))
				case 1:
					var b bytes.Buffer
					if _, err := conn.PgConn().CopyTo(context.Background(), &b, "COPY account (balance) TO STDOUT"); err != nil {
						t.Error(err)
					}
					sum := 0
					for _, line := range strings.Fields(b.String()) {
						n := 0
						fmt.Sscan(line, &n)
						sum += n
					}
					check("alone", "COPY", sum)
				case 2, 3:
					level := []pgx.TxIsoLevel{pgx.ReadCommitted, pgx.RepeatableRead}[way-2]
					tx, err := conn.BeginTx(context.Background(), pgx.TxOptions{IsoLevel: level})
					if err != nil {
						t.Error(err)
						return
					}
					if rnd.IntN(2) == 0 { // begun on one shard already
						if _, err := tx.Exec(context.Background(), fmt.Sprintf("UPDATE account SET balance = balance WHERE id = %d", 100+rnd.IntN(10))); err != nil {
							t.Error(err)
						}
					}
					for range 2 {
						sql := bankReads[rnd.IntN(len(bankReads))]
						if !check(string(level), sql, total(t, tx, sql, mode)) {
							break
						}
					}
					if err := tx.Commit(context.Background()); err != nil {
						t.Error(err)
					}
				}
			}
		})
	}
	work.Wait()
	t.Logf("%d reads", reads)
}

// What a transaction at REPEATABLE READ sees does not change, whatever it has touched
// when others commit; nor do copies of a reference table come to differ by it.
func TestRepeatableRead(t *testing.T) {
	c := newCluster(t, 3, bankRule+"  - {name: rate, reference: true}\n")
	c.serve()
	other := c.bank()
	must(t, other, "CREATE TABLE rate (id int PRIMARY KEY, v int)", "INSERT INTO rate VALUES (1, 1), (2, 2)")
	conn := c.connect("postgres")
	sum := func() (n int) {
		return total(t, conn, "SELECT sum(balance) FROM account", pgx.QueryExecModeCacheStatement)
	}
	must(t, conn, "BEGIN ISOLATION LEVEL REPEATABLE READ", "SELECT balance FROM account WHERE id = 1")
	must(t, other, "UPDATE account SET balance = balance + 1", "UPDATE rate SET v = v + 10 WHERE id = 1", "INSERT INTO rate VALUES (3, 3)")
	if n := sum(); n != accounts*startBalance {
		t.Errorf("%d", n)
	}
	must(t, conn, "UPDATE rate SET v = v + 100 WHERE id = 2", "DELETE FROM rate WHERE id = 3")
	if _, err := conn.Exec(t.Context(), "UPDATE rate SET v = v + 100 WHERE id = 1"); code(err) != "40001" {
		t.Error(err)
	}
	must(t, conn, "ROLLBACK", "BEGIN ISOLATION LEVEL REPEATABLE READ", "DELETE FROM rate WHERE v = 11", "COMMIT")
	if n := c.sum("SELECT sum(v) FROM rate"); n != 3*5 {
		t.Errorf("%d", n)
	}
	if n := sum(); n != accounts*(startBalance+1) {
		t.Errorf("%d", n)
	}
	for _, sql := range []string{"SELECT sum(balance) FROM account", "UPDATE account SET balance = 0", "SELECT balance FROM account WHERE id = 1; SELECT balance FROM account WHERE id < 100"} {
		if _, err := conn.Exec(t.Context(), "BEGIN ISOLATION LEVEL SERIALIZABLE; "+sql); code(err) != "0A000" {
			t.Errorf("%s: %v", sql, err)
		}
		must(t, conn, "ROLLBACK")
	}
	must(t, conn, "BEGIN ISOLATION LEVEL SERIALIZABLE", "SHOW transaction_isolation", "SELECT now()", "SET LOCAL work_mem = '1MB'")
	for range 2 { // prepared on a shard that isn't the row's, maybe
		if n := total(t, conn, "SELECT balance FROM account WHERE id = 3", pgx.QueryExecModeCacheStatement); n != startBalance+1 {
			t.Errorf("%d", n)
		}
	}
	must(t, conn, "COMMIT")
	must(t, conn, "BEGIN ISOLATION LEVEL SERIALIZABLE; UPDATE account SET balance = 0 WHERE id = 1; COMMIT")

	// The level may be a role's own, on all shards or, by an oversight, on some.
	must(t, other, "CREATE ROLE repeats LOGIN", "GRANT ALL ON account TO repeats", "ALTER ROLE repeats SET default_transaction_isolation = 'repeatable read'")
	c.onShard(1, "postgres", "ALTER ROLE repeats RESET default_transaction_isolation")
	before := total(t, other, "SELECT sum(balance) FROM account", pgx.QueryExecModeExec)
	conn = c.connect("repeats")
	must(t, conn, "BEGIN", "SELECT balance FROM account WHERE id = 1")
	must(t, other, "UPDATE account SET balance = balance + 1")
	for range 2 {
		if n := sum(); n != before {
			t.Errorf("%d, and it was %d", n, before)
		}
	}
	must(t, conn, "COMMIT")
}

// A read that waits for a table lets writers of several shards on, and is complete when it
// has the table.
func TestReadsWaitWithoutFence(t *testing.T) {
	c := newCluster(t, 3, bankRule)
	c.serve()
	writer := c.bank()
	locker, err := pgx.Connect(t.Context(), c.shards[1].URL("postgres", "postgres"))
	if err != nil {
		t.Fatal(err)
	}
	defer locker.Close(context.Background())
	modes := []pgx.QueryExecMode{pgx.QueryExecModeSimpleProtocol, pgx.QueryExecModeCacheStatement, pgx.QueryExecModeDescribeExec, pgx.QueryExecModeExec}
	for round := range 2 {
		must(t, locker, "BEGIN", "LOCK TABLE account")
		var readers sync.WaitGroup
		waiting := 0
		for _, mode := range modes {
			for _, sql := range []string{"SELECT balance FROM account", readByKeys, "SELECT balance FROM account ORDER BY id", "SELECT sum(balance) FROM account"} {
				conn := c.connect("postgres")
				waiting++
				readers.Go(func() {
					if n := total(t, conn, sql, mode); n != accounts*startBalance {
						t.Errorf("%s, %v: %d", sql, mode, n)
					}
					if n := total(t, conn, sql, mode); n != accounts*startBalance {
						t.Errorf("%s, %v, once more: %d", sql, mode, n)
					}
				})
			}
		}
		// Described or read, each waits for the table on that shard; where it is the home
		// shard, or is asked to describe it, some wait for a connection.
		for blocked := 0; blocked < waiting/2; time.Sleep(10 * time.Millisecond) {
			if err := locker.QueryRow(t.Context(), "SELECT count(*) FROM pg_locks WHERE relation = 'account'::regclass AND NOT granted").Scan(&blocked); err != nil {
				t.Fatal(err)
			}
		}
		ctx, stop := context.WithTimeout(t.Context(), 20*time.Second)
		if _, err := writer.Exec(ctx, "UPDATE owner SET account = account"); err != nil {
			t.Errorf("round %d: %v", round, err)
		}
		stop()
		must(t, locker, "COMMIT")
		readers.Wait()
	}
}
