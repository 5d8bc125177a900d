package faults

import (
	"context"
	"errors"
	"fmt"
	"net"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/shardgate/shardgate/bench/link"
)

// change is what a client does while its gateway goes, and what undoes it.
type change struct {
	name string
	sql  []string // a COPY reads rows
	rows string
	undo []string
}

// changes are of each kind that takes several shards.
func (c *cluster) changes() []change {
	k := c.keys
	set := func(add, shard int) string {
		return fmt.Sprintf("UPDATE account SET balance = balance + %d WHERE id = %d", add, k[shard])
	}
	many := fmt.Sprintf("(%d, 7), (%d, 7), (%d, 7)", k[0]+1000, k[1]+1000, k[2]+1000)
	return []change{
		{name: "transfer", sql: []string{"BEGIN", set(-2, 1), set(1, 2), set(1, 0), "COMMIT"},
			undo: []string{"BEGIN", set(2, 1), set(-1, 2), set(-1, 0), "COMMIT"}},
		{name: "transfer past the home shard", sql: []string{"BEGIN", set(-1, 1), fmt.Sprintf("SELECT balance FROM account WHERE id = %d", k[0]), set(1, 2), "COMMIT"},
			undo: []string{"BEGIN", set(1, 1), set(-1, 2), "COMMIT"}},
		{name: "one writer and a reader", sql: []string{"BEGIN", fmt.Sprintf("SELECT balance FROM account WHERE id = %d", k[0]), set(1, 1), "COMMIT"},
			undo: []string{set(-1, 1)}},
		{name: "savepoints", sql: []string{"BEGIN", "SAVEPOINT a", set(5, 0), "ROLLBACK TO a", set(1, 1), set(-1, 2), "RELEASE a", "COMMIT"},
			undo: []string{"BEGIN", set(-1, 1), set(1, 2), "COMMIT"}},
		{name: "temporary table", sql: []string{"BEGIN", "CREATE TEMP TABLE scratch (a int) ON COMMIT DROP", set(1, 1), set(-1, 2), "COMMIT"},
			undo: []string{"BEGIN", set(-1, 1), set(1, 2), "COMMIT"}},
		{name: "batch", sql: []string{set(1, 1) + ";" + set(-1, 2)}, undo: []string{set(-1, 1) + ";" + set(1, 2)}},
		{name: "update", sql: []string{"UPDATE account SET balance = balance + 1"}, undo: []string{"UPDATE account SET balance = balance - 1"}},
		{name: "insert", sql: []string{"INSERT INTO account VALUES " + many}, undo: []string{"DELETE FROM account WHERE balance = 7"}},
		{name: "insert of a query", sql: []string{"INSERT INTO account SELECT id + 1000, 7 FROM account"}, undo: []string{"DELETE FROM account WHERE balance = 7"}},
		{name: "copy", sql: []string{"COPY account FROM STDIN"}, rows: strings.NewReplacer("(", "", "), ", "\n", ")", "\n", ", ", "\t").Replace(many),
			undo: []string{"DELETE FROM account WHERE balance = 7"}},
		{name: "move", sql: []string{fmt.Sprintf("UPDATE account SET id = id + 1000 WHERE id IN (%d, %d, %d)", k[0], k[1], k[2])},
			undo: []string{"UPDATE account SET id = id - 1000 WHERE id > 1000"}},
		{name: "reference table", sql: []string{"INSERT INTO copied VALUES (1)"}, undo: []string{"DELETE FROM copied"}},
		// Undone by a gateway that looks for such changes only when it makes one.
		{name: "schema", sql: []string{"CREATE INDEX extra ON account (balance)"}, undo: []string{"DROP INDEX extra"}},
	}
}

// run runs the statements up to the first error.
func (x change) run(conn *pgconn.PgConn) error {
	for _, sql := range x.sql {
		var err error
		if x.rows != "" {
			ctx, stop := context.WithTimeout(context.Background(), answerTimeout)
			_, err = conn.CopyFrom(ctx, strings.NewReader(x.rows), sql)
			stop()
		} else {
			_, err = exec(conn, sql)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// image is what is on the shards: their rows and indexes, shard by shard.
func (c *cluster) image() string {
	c.t.Helper()
	var b strings.Builder
	for i := range c.servers {
		for _, sql := range []string{"SELECT a::text FROM account a", "SELECT a::text FROM copied a", "SELECT indexname::text FROM pg_indexes WHERE schemaname = 'public'"} {
			var text string
			if err := c.shard(i).QueryRow(c.t.Context(), "SELECT coalesce(string_agg(x, ' ' ORDER BY x), '') FROM ("+sql+") s (x)").Scan(&text); err != nil {
				c.t.Fatal(err)
			}
			fmt.Fprintf(&b, "s%d: %s\n", i+1, text)
		}
	}
	return b.String()
}

// TestGatewayGone takes a gateway from all its shards at each message of changes of each kind,
// which to them is as if it were killed. Another one, which waits for nobody, finishes what it has
// left: on all shards or on none, and as the client was told.
func TestGatewayGone(t *testing.T) {
	c := newCluster(t, 3)
	taps := c.tap()
	url, _ := c.gateway(quiet)
	c.open(url)
	conn := c.connect(url)
	c.must(conn, "CREATE TABLE copied (a int PRIMARY KEY)")
	before := c.image()
	changes, messages, done := c.changes(), map[string][]target{}, map[string]string{}
	for _, x := range changes {
		for range 2 { // the first time opens connections
			messages[x.name] = c.record(taps, func() {
				if err := x.run(conn); err != nil {
					t.Fatalf("%s: %v", x.name, err)
				}
			})
			done[x.name] = c.image()
			c.must(conn, x.undo...)
		}
	}
	conn.Close(context.Background())
	second := c.beside()
	other, _ := second.gateway("recovery_interval: 100ms, recovery_grace: 0s, schema_poll: 1h, deadlock: 1h")
	trials, missed, unsure := 0, 0, 0
	for n, x := range changes {
		for i, m := range messages[x.name] {
			for j, place := range []link.Place{link.Before, link.After} {
				// Else some of each, which are others for each change.
				if !long() && (n+2*i+j)%(1+len(messages[x.name])/3) != 0 || testing.Short() {
					continue
				}
				trials++
				t.Run(fmt.Sprintf("%s/%s %v", x.name, place, m), func(t *testing.T) {
					at := *c
					at.t = t
					struck, told := at.tryGone(taps, url, other, x, m, place, before, done[x.name])
					if !struck {
						missed++
					}
					if unknown(told) {
						unsure++
					}
				})
			}
		}
	}
	t.Logf("%d trials, of which %d did not happen; the client was not told the outcome in %d", trials, missed, unsure)
	if missed > trials/20 {
		t.Errorf("%d of %d did not happen", missed, trials)
	}
}

// beside is the cluster over links of their own.
func (c *cluster) beside() *cluster {
	second := *c
	second.links = nil
	for _, s := range c.servers {
		l, err := link.Listen(net.JoinHostPort(s.Host(), strconv.Itoa(s.Port())))
		if err != nil {
			c.t.Fatal(err)
		}
		c.t.Cleanup(l.Close)
		second.links = append(second.links, l)
	}
	return &second
}

// tryGone makes a change through the gateway at url, which loses all its shards at a message.
// It says whether that happened, and what the client was told.
func (c *cluster) tryGone(taps *taps, url, other string, x change, m target, place link.Place, before, done string) (struck bool, told error) {
	t := c.t
	conn := c.connect(url)
	defer conn.Close(context.Background())
	disarm := taps.arm(m, place, func(link.Message) {
		for _, l := range c.links {
			l.Set(link.Cut)
		}
	})
	told = x.run(conn)
	struck = disarm()
	if err := c.settles(); err != nil {
		t.Error(err)
	}
	after := c.image()
	helper := c.connect(other)
	defer helper.Close(context.Background())
	switch {
	case after != before && after != done:
		t.Errorf("half of it was done: before\n%s, after\n%s", before, after)
	case after == done && told != nil && !unknown(told):
		t.Errorf("it was done, and the client was told: %v", told)
	case after == before && told == nil:
		t.Error("it was not done, and the client was told that it was")
	default:
		c.tells(helper, told, after == done)
	}
	if after != before {
		c.must(helper, x.undo...)
	}
	if now := c.image(); now != before {
		t.Fatalf("before\n%s, and undone\n%s", before, now)
	}
	for _, l := range c.links {
		l.Set(link.None)
	}
	if err := c.intact(url, 1); err != nil {
		t.Error(err)
	}
	return struck, told
}

// doubtful finds the id of a transaction in an error.
var doubtful = regexp.MustCompile(`transaction_status\('([^']+)'\)`)

// tells wants that a client that was not told the outcome learns it by the id that it was told.
func (c *cluster) tells(conn *pgconn.PgConn, told error, committed bool) {
	var pe *pgconn.PgError
	if !errors.As(told, &pe) || pe.Code != "40003" {
		return
	}
	id := doubtful.FindStringSubmatch(pe.Hint)
	if id == nil {
		c.t.Errorf("no id: %s", pe.Hint)
		return
	}
	want := "aborted"
	if committed {
		want = "committed"
	}
	rows, err := exec(conn, "SELECT shardgate.transaction_status('"+id[1]+"')")
	if err != nil || len(rows) != 1 || string(rows[0][0]) != want {
		c.t.Errorf("the status of %s is %q, %v; it is %s", id[1], rows, err, want)
	}
}
