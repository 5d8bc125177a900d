package e2e

import (
	"sync"
	"testing"

	"github.com/jackc/pgx/v5"
)

// Clients that take the first jobs which nobody has, from all shards, do each job once.
func TestQueue(t *testing.T) {
	c := newCluster(t, 3, keyed)
	c.serve()
	conn := c.connect("postgres")
	must(t, conn, "CREATE TABLE t (id int PRIMARY KEY, taken int NOT NULL DEFAULT 0)", "INSERT INTO t SELECT generate_series(1, 120)")
	const workers = 4
	conns := make([]*pgx.Conn, workers)
	for i := range conns {
		conns[i] = c.connect("postgres")
	}
	work := func(conn *pgx.Conn) (left bool, err error) {
		tx, err := conn.Begin(t.Context())
		if err != nil {
			return false, err
		}
		defer tx.Rollback(t.Context())
		rows, err := tx.Query(t.Context(), "SELECT id FROM t WHERE taken = 0 ORDER BY id LIMIT $1 FOR UPDATE SKIP LOCKED", 4)
		if err != nil {
			return false, err
		}
		jobs, err := pgx.CollectRows(rows, pgx.RowTo[int])
		if err != nil {
			return false, err
		}
		if _, err := tx.Exec(t.Context(), "UPDATE t SET taken = taken + 1 WHERE id = ANY ($1)", jobs); err != nil {
			return false, err
		}
		if err := tx.Commit(t.Context()); err != nil {
			return false, err
		}
		err = conn.QueryRow(t.Context(), "SELECT count(*) > 0 FROM t WHERE taken = 0").Scan(&left)
		return left, err
	}
	var wg sync.WaitGroup
	for _, conn := range conns {
		wg.Go(func() {
			for left := true; left; {
				var err error
				if left, err = work(conn); err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	wg.Wait()
	var once bool
	if err := conn.QueryRow(t.Context(), "SELECT bool_and(taken = 1) FROM t").Scan(&once); err != nil || !once {
		t.Errorf("each job was taken once: %t, %v", once, err)
	}
}

// Clients that change or delete the jobs that a subquery has chosen and locked get each job
// once, in statements of their own and in transactions, of which some are rolled back.
func TestQueueInOneStatement(t *testing.T) {
	c := newCluster(t, 3, keyed)
	c.serve()
	conn := c.connect("postgres")
	must(t, conn, "CREATE TABLE t (id int PRIMARY KEY, taken int NOT NULL DEFAULT 0)", "INSERT INTO t SELECT generate_series(1, 90)")
	statements := []string{
		"UPDATE t SET taken = taken + 1 WHERE id IN (SELECT id FROM t WHERE taken = 0 ORDER BY id LIMIT 3 FOR UPDATE SKIP LOCKED) RETURNING id",
		"WITH next AS (SELECT id FROM t WHERE taken = 0 ORDER BY id LIMIT 2 FOR UPDATE SKIP LOCKED) UPDATE t SET taken = taken + 1 FROM next WHERE next.id = t.id RETURNING t.id",
		"DELETE FROM t WHERE id = (SELECT id FROM t WHERE taken = 0 ORDER BY id DESC FOR UPDATE SKIP LOCKED LIMIT 1) RETURNING id",
	}
	var mu sync.Mutex
	got := map[int]int{} // how often a job was got, by a transaction that was committed
	work := func(conn *pgx.Conn, n int) (done bool, err error) {
		before, after := "", "" // in a statement of its own
		if n%2 == 0 {
			before, after = "BEGIN", []string{"COMMIT", "ROLLBACK"}[n/2%2]
		}
		if _, err := conn.Exec(t.Context(), before); err != nil {
			return false, err
		}
		rows, err := conn.Query(t.Context(), statements[n%len(statements)])
		if err != nil {
			return false, err
		}
		jobs, err := pgx.CollectRows(rows, pgx.RowTo[int])
		if err != nil {
			return false, err
		}
		if _, err := conn.Exec(t.Context(), after); err != nil || after == "ROLLBACK" {
			return false, err
		}
		mu.Lock()
		defer mu.Unlock()
		for _, id := range jobs {
			got[id]++
		}
		return len(got) == 90, nil
	}
	var wg sync.WaitGroup
	for range 3 {
		conn := c.connect("postgres")
		wg.Go(func() {
			for n := 0; n < 300; n++ {
				if done, err := work(conn, n); err != nil || done {
					if err != nil {
						t.Error(err)
					}
					return
				}
			}
		})
	}
	wg.Wait()
	for id := 1; id <= 90; id++ {
		if got[id] != 1 {
			t.Errorf("job %d was got %d times", id, got[id])
		}
	}
	var rest bool
	if err := conn.QueryRow(t.Context(), "SELECT coalesce(bool_and(taken = 1), true) FROM t").Scan(&rest); err != nil || !rest {
		t.Errorf("each job that is left was taken once: %t, %v", rest, err)
	}
}
