package e2e

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

const deadlockRule = `
timeouts: {recovery_interval: 300ms, deadlock: 300ms}
tables:
  - {name: t, key: id}
`

// lockable makes a table, and returns the key of one row on each shard.
func (c *cluster) lockable(conn *pgx.Conn) (keys []int) {
	c.t.Helper()
	for _, ids := range c.ids(conn, 1) {
		keys = append(keys, ids[0])
	}
	return keys
}

// A circle of waits over several shards, and through two gateways, ends with 40P01 for one
// of the transactions; the others get on.
func TestDeadlocks(t *testing.T) {
	c := newCluster(t, 4, deadlockRule)
	c.serve()
	keys := c.lockable(c.connect("postgres"))
	second := *c
	second.listen = freeAddress(t)
	second.configure(deadlockRule)
	second.serve()
	for n := 2; n <= 4; n++ {
		for _, mixed := range []bool{false, true} {
			t.Run(fmt.Sprintf("%d shards, two gateways %v", n, mixed), func(t *testing.T) {
				var conns []*pgx.Conn
				for i := range n {
					at := c
					if mixed && i%2 == 1 {
						at = &second
					}
					conn := at.connect("postgres")
					conns = append(conns, conn)
					must(t, conn, "BEGIN", fmt.Sprintf("UPDATE t SET v = v + 1 WHERE id = %d", keys[i]))
				}
				began := time.Now()
				errs := make([]error, n)
				var work sync.WaitGroup
				for i, conn := range conns {
					work.Go(func() {
						_, errs[i] = conn.Exec(context.Background(), fmt.Sprintf("UPDATE t SET v = v + 1 WHERE id = %d", keys[(i+1)%n]))
						end := "COMMIT"
						if errs[i] != nil {
							end = "ROLLBACK"
						}
						if _, err := conn.Exec(context.Background(), end); err != nil {
							t.Error(err)
						}
					})
				}
				work.Wait()
				victims := 0
				for _, err := range errs {
					if err == nil {
						continue
					}
					victims++
					var pe *pgconn.PgError
					if !errors.As(err, &pe) || pe.Code != "40P01" || strings.Count(pe.Detail, " waits on shard ") != n {
						t.Errorf("%v: %q", err, pe.Detail)
					}
				}
				if victims != 1 {
					t.Errorf("%d victims", victims)
				}
				t.Logf("ended after %v", time.Since(began))
			})
		}
	}
	c.settled()
}

// Who waits long, but not in a circle, is left alone.
func TestNoDeadlock(t *testing.T) {
	rule := strings.Replace(deadlockRule, "300ms}", "50ms}", 1)
	c := newCluster(t, 3, rule)
	c.serve()
	keys := c.lockable(c.connect("postgres"))
	second := *c
	second.listen = freeAddress(t)
	second.configure(rule)
	second.serve()
	var work sync.WaitGroup
	runs := 0
	var mu sync.Mutex
	for i := range 8 {
		at := []*cluster{c, &second}[i%2]
		conn := at.connect("postgres")
		work.Go(func() {
			rnd := rand.New(rand.NewPCG(3, uint64(i)))
			for range 25 {
				tx, err := conn.Begin(context.Background())
				if err != nil {
					t.Error(err)
					return
				}
				for _, k := range keys {
					if rnd.IntN(4) == 0 {
						continue
					}
					if _, err := tx.Exec(context.Background(), fmt.Sprintf("UPDATE t SET v = v + 1 WHERE id = %d", k)); err != nil {
						t.Error(err)
					}
					if rnd.IntN(8) == 0 {
						time.Sleep(time.Duration(rnd.IntN(150)) * time.Millisecond)
					}
				}
				if err := tx.Commit(context.Background()); err != nil {
					t.Error(err)
				}
				mu.Lock()
				runs++
				mu.Unlock()
			}
		})
	}
	work.Wait()
	if runs != 200 {
		t.Errorf("%d runs", runs)
	}
}
