package faults

import (
	"context"
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/shardgate/shardgate/bench/link"
)

// TestDiskFull has a server's disk full when it is to write down what is prepared, decided,
// or carried out: it panics. A limit of the size of its files stands in for the disk, which
// needs no privileges.
func TestDiskFull(t *testing.T) {
	c := newCluster(t, 3)
	taps := c.tap()
	url, stop := c.gateway(quiet)
	c.open(url)
	s := scenarios[1]
	messages := c.messages(taps, url, scenarios[1:2])[s.name]
	stop()
	url, _ = c.gateway(lively)
	full := fault{name: "full disk", place: link.Before, do: (*cluster).fillDisk, wide: true}
	tried := 0
	for i, m := range messages {
		writes := strings.Contains(m.gist, "PREPARE") || strings.Contains(m.gist, "COMMIT")
		if !m.toServer || !writes {
			continue
		}
		tried++
		t.Run(fmt.Sprintf("%v", m), func(t *testing.T) {
			at := *c
			at.t = t
			if !at.try(taps, url, s, m, full, i) {
				t.Error("it did not happen")
			}
			if log := c.servers[m.shard].Log(); !strings.Contains(log, "PANIC:") {
				t.Error("the server did not panic")
			}
		})
	}
	if tried < 5 { // two prepared, one decision, two carried out
		t.Errorf("%d messages", tried)
	}
}

// fillDisk lets a server write no more than the first 256 KiB of its files: its log, and none
// of the WAL that is to come. It is killed and started anew when
// the client was answered.
func (c *cluster) fillDisk(shard int, _ link.Message) {
	c.broken[shard] = true
	postmaster := c.servers[shard].PID()
	children, err := os.ReadFile(fmt.Sprintf("/proc/%d/task/%d/children", postmaster, postmaster))
	if err != nil {
		c.t.Error(err)
	}
	conn, err := pgx.Connect(context.Background(), c.servers[shard].URL("postgres", "postgres"))
	if err != nil {
		c.t.Error(err)
		return
	}
	defer conn.Close(context.Background())
	// By the server's own user, who may do so, as others may not. Some process may have ended;
	// or one meets its limit at once, and ends this connection with all others: that the
	// server has panicked is looked at afterwards.
	if _, err := conn.Exec(context.Background(), fmt.Sprintf("COPY (SELECT) TO PROGRAM 'for p in %d %s; do prlimit --pid $p --fsize=262144: || true; done'",
		postmaster, strings.TrimSpace(string(children)))); err != nil {
		c.t.Log(err)
	}
}
