package faults

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
)

// A cancel request at any time of a COMMIT, which takes a while on each shard, ends it or does not:
// the client is told which, and goes on. Nobody else's statement is canceled.
func TestCancelOfCommit(t *testing.T) {
	c := newCluster(t, 3)
	url, _ := c.gateway(lively)
	c.open(url)
	for i := range c.servers {
		c.on(i, "CREATE FUNCTION doze() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN PERFORM pg_sleep(0.02); RETURN NULL; END'")
		c.on(i, "CREATE CONSTRAINT TRIGGER doze AFTER UPDATE ON account DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION doze()")
	}
	bystander := c.connect(url)
	defer bystander.Close(context.Background())
	over := make(chan struct{})
	var others sync.WaitGroup
	others.Go(func() {
		for {
			select {
			case <-over:
				return
			default:
			}
			if _, err := exec(bystander, fmt.Sprintf("SELECT balance FROM account WHERE id = %d", c.keys[2])); err != nil {
				t.Errorf("another client: %v", err)
			}
		}
	})
	conn := c.connect(url)
	defer conn.Close(context.Background())
	done, canceled := 0, 0
	for range 40 {
		if c.cancelCommit(conn, time.Duration(rand.IntN(70))*time.Millisecond) == nil {
			done++
		} else {
			canceled++
		}
	}
	close(over)
	others.Wait()
	t.Logf("%d committed, %d canceled", done, canceled)
	if err := c.settles(); err != nil {
		t.Error(err)
	}
	if done == 0 || canceled == 0 {
		t.Error("it was always the same")
	}
}

// cancelCommit cancels the COMMIT of a transfer after a while.
func (c *cluster) cancelCommit(conn *pgconn.PgConn, after time.Duration) (told error) {
	t := c.t
	s := scenarios[1]
	sql, _ := s.statements(c)
	c.must(conn, sql[:len(sql)-1]...)
	sent := make(chan error, 1)
	time.AfterFunc(after, func() {
		ctx, stop := context.WithTimeout(context.Background(), answerTimeout)
		defer stop()
		sent <- conn.CancelRequest(ctx)
	})
	_, told = exec(conn, "COMMIT")
	if err := <-sent; err != nil {
		t.Error(err)
	}
	var pe *pgconn.PgError
	if told != nil && (!errors.As(told, &pe) || pe.Code != "57014") {
		t.Errorf("%v, not 57014", told)
	}
	if err := c.settles(); err != nil {
		t.Error(err)
	}
	c.outcome(s, told)
	return told
}

// Whoever is amid a COMMIT when a gateway is stopped, at its ease or in haste, is told what became
// of it, or hears nothing more.
func TestStopDuringCommit(t *testing.T) {
	c := newCluster(t, 3)
	url, _ := c.gateway(lively) // recovers what the others leave
	c.open(url)
	s := scenario{moves: []int{1, 2, 0}}
	_, adds := s.statements(c)
	all := 0
	for i := range 6 {
		g, err := c.start(quiet)
		if err != nil {
			t.Fatal(err)
		}
		url := "postgresql://postgres@" + g.Addr().String() + "/postgres?sslmode=disable"
		var mu sync.Mutex
		committed, unsure := 0, 0
		var work sync.WaitGroup
		for range 3 {
			conn := c.connect(url)
			work.Go(func() {
				defer conn.Close(context.Background())
				var told error
				for told == nil {
					told = s.run(c, conn)
					mu.Lock()
					var pe *pgconn.PgError
					if told == nil {
						committed++
					} else if !errors.As(told, &pe) || unknown(told) {
						unsure++
					}
					mu.Unlock()
				}
			})
		}
		time.Sleep(time.Duration(50+rand.IntN(50)) * time.Millisecond)
		ctx, cancel := context.WithTimeout(context.Background(), time.Duration(i%3)*30*time.Millisecond)
		g.Shutdown(ctx)
		cancel()
		work.Wait()
		if err := c.settles(); err != nil {
			t.Fatal(err)
		}
		id := c.keys[s.moves[1]] // gets 1 by each
		n := c.balances()[id] - c.model[id]
		if n < committed || n > committed+unsure {
			t.Errorf("%d were committed, and %d may have been; %d are there", committed, unsure, n)
		}
		for id, add := range adds {
			c.model[id] += n * add
		}
		c.outcome(scenario{sql: []string{}}, nil) // no other account, and no half of any
		all += n
	}
	t.Logf("%d transactions", all)
}
