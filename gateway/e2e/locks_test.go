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
