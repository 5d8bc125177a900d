package faults

import (
	"context"
	"errors"
	"fmt"
	"syscall"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/shardgate/shardgate/bench/link"
)

// crashes are faults of a whole server.
var crashes = []fault{
	{name: "kill -9 of the backend", place: link.After, do: (*cluster).killBackend, wide: true},
	{name: "kill -9 of the backend", place: link.Before, do: (*cluster).killBackend, wide: true},
	{name: "immediate shutdown", place: link.After, do: (*cluster).shutDown, wide: true},
	{name: "immediate shutdown", place: link.Before, do: (*cluster).shutDown, wide: true},
}

// killBackend kills the server's process that works for a connection, at which the server
// ends all others, and recovers.
func (c *cluster) killBackend(shard int, m link.Message) {
	var pid int
	conn, err := pgx.Connect(context.Background(), c.servers[shard].URL("postgres", "postgres"))
	if err == nil {
		defer conn.Close(context.Background())
		err = conn.QueryRow(context.Background(), "SELECT pid FROM pg_stat_activity WHERE client_port = $1", m.Conn.ServerPort()).Scan(&pid)
	}
	if err == nil {
		err = syscall.Kill(pid, syscall.SIGKILL)
	}
	if err != nil && !errors.Is(err, pgx.ErrNoRows) && !errors.Is(err, syscall.ESRCH) { // it has ended by itself
		c.t.Error(err)
	}
}

// shutDown shuts a server down without a checkpoint. It is started when the client was
// answered.
func (c *cluster) shutDown(shard int, _ link.Message) {
	if err := c.servers[shard].StopImmediate(context.Background()); err != nil {
		c.t.Error(err)
	}
}

// TestCrashes crashes a server at each message of transfers over several shards.
func TestCrashes(t *testing.T) {
	c := newCluster(t, 3)
	taps := c.tap()
	url, stop := c.gateway(quiet)
	c.open(url)
	tried := scenarios[:4]
	messages := c.messages(taps, url, tried)
	stop()
	url, _ = c.gateway(lively)
	trials, missed := 0, 0
	for _, s := range tried {
		for i, m := range messages[s.name] {
			for j, f := range crashes {
				if !long() && (i%3 != 0 || i/3%len(crashes) != j || s.extended || !s.writes() || testing.Short()) {
					continue
				}
				trials++
				t.Run(fmt.Sprintf("%s/%s %s %v", s.name, f.name, f.place, m), func(t *testing.T) {
					at := *c
					at.t = t
					if !at.try(taps, url, s, m, f, trials) {
						missed++
					}
				})
			}
		}
	}
	if missed > trials/20 {
		t.Errorf("%d of %d crashes did not happen", missed, trials)
	}
}
