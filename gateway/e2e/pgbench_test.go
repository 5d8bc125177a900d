package e2e

import (
	"flag"
	"math/rand/v2"
	"strings"
	"testing"
	"time"
)

// pgbench's transaction touches up to four shards. In each protocol no
// transaction may fail, and the sums must agree.
func TestPgbench(t *testing.T) {
	c := newCluster(t, 4, pgbenchTables)
	c.serve()
	if out, err := c.pgbench("-i", "-s", "2", "-q"); err != nil {
		t.Fatalf("pgbench -i: %v\n%s", err, out)
	}
	if n := c.sum("SELECT count(*) FROM pgbench_accounts"); n != 200_000 {
		t.Fatalf("%d accounts", n)
	}
	// The first run does without -n: pgbench then vacuums, and empties the history.
	for i, args := range [][]string{{"-M", "simple"}, {"-n", "-M", "extended"}, {"-n", "-M", "prepared"}} {
		mode := []string{"simple", "extended", "prepared"}[i]
		out, err := c.pgbench(append(args, "-c", "8", "-j", "2", "-T", "3")...)
		if err != nil || !strings.Contains(out, "number of failed transactions: 0") || strings.Contains(out, "ERROR") {
			t.Fatalf("-M %s: %v\n%s", mode, err, out)
		}
		c.balanced()
	}
	c.settled()
}

var kills = flag.Int("kills", 5, "how often TestKillGateway kills the gateway")

// A gateway that is killed at any moment leaves nothing undecided, and no half of
// a transaction.
func TestKillGateway(t *testing.T) {
	c := newCluster(t, 4, pgbenchTables)
	p := c.serve()
	if out, err := c.pgbench("-i", "-s", "2", "-q"); err != nil {
		t.Fatalf("pgbench -i: %v\n%s", err, out)
	}
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	rnd := rand.New(rand.NewPCG(seed, 0))
	modes := []string{"simple", "extended", "prepared"}
	for i := range *kills {
		done := make(chan string, 1)
		go func() {
			out, _ := c.pgbench("-n", "-c", "8", "-j", "2", "-T", "20", "-M", modes[i%3])
			done <- out
		}()
		time.Sleep(300*time.Millisecond + time.Duration(rnd.IntN(1_200_000))*time.Microsecond)
		p.kill()
		<-done
		p = c.serve()
		c.settled()
		c.balanced()
	}
	if n := c.sum("SELECT count(*) FROM pgbench_history"); n == 0 {
		t.Fatal("nothing was committed between the kills")
	} else {
		t.Logf("%d transactions were committed between the kills", n)
	}
}
