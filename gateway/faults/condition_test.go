package faults

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/shardgate/shardgate/bench/link"
	"github.com/shardgate/shardgate/gateway/admin"
)

// TestConditions has servers in conditions in which they refuse something: who is concerned
// is told so, nobody else is, and all is well when it is over.
func TestConditions(t *testing.T) {
	conditions := map[string]func(*cluster, *taps, string){
		"no room for prepared transactions": (*cluster).noRoomToPrepare,
		"read only":                         (*cluster).readOnly,
		"standby":                           (*cluster).standby,
		"no room for connections":           (*cluster).noRoomToConnect,
		"no way in":                         (*cluster).noWayIn,
	}
	c := newClusterWith(t, 3, map[string]string{"max_prepared_transactions": "4", "max_connections": "30"})
	taps := c.tap()
	url, _ := c.gateway(lively)
	c.open(url)
	for name, f := range conditions {
		t.Run(name, func(t *testing.T) {
			at := *c
			at.t = t
			f(&at, taps, url)
			at.fine(taps, url)
		})
	}
}

// transfer moves money from a shard to others through a new connection.
func (c *cluster) transfer(url string, shards ...int) error {
	s := scenario{moves: shards}
	conn := c.connect(url)
	defer conn.Close(context.Background())
	told := s.run(c, conn)
	if told != nil {
		if _, err := exec(conn, "ROLLBACK"); err != nil {
			c.t.Error(err)
		}
	}
	if err := c.settles(); err != nil {
		c.t.Error(err)
	}
	c.outcome(s, told)
	return told
}

// fine wants that all is well.
func (c *cluster) fine(taps *taps, url string) {
	taps.set(nil)
	if err := c.settles(); err != nil {
		c.t.Error(err)
	}
	if err := c.intact(url, 1); err != nil {
		c.t.Error(err)
	}
	if err := c.transfer(url, 0, 1, 2); err != nil {
		c.t.Error(err)
	}
}

// refused wants an error with a code that names the shard, and other words in the whole.
func (c *cluster) refused(err error, code, shard string, words ...string) {
	c.t.Helper()
	var pe *pgconn.PgError
	if !errors.As(err, &pe) {
		c.t.Errorf("%v, not %s", err, code)
		return
	}
	text := strings.Join([]string{pe.Message, pe.Detail, pe.Hint, pe.Where}, "\n")
	if pe.Code != code {
		c.t.Errorf("%s, not %s: %s", pe.Code, code, text)
	}
	for _, w := range append(words, "shard "+shard) {
		if !strings.Contains(text, w) {
			c.t.Errorf("%q is not in: %s", w, text)
		}
	}
}

// on runs a statement on a shard.
func (c *cluster) on(shard int, sql string) {
	c.t.Helper()
	if _, err := c.shard(shard).Exec(c.t.Context(), sql); err != nil {
		c.t.Fatalf("%s: %v", sql, err)
	}
}

func (c *cluster) noRoomToPrepare(_ *taps, url string) {
	for i := range 4 {
		c.on(1, fmt.Sprintf("BEGIN; CREATE TABLE foreign%d (); PREPARE TRANSACTION 'foreign%d'", i, i))
	}
	s := scenario{moves: []int{1, 2}}
	conn := c.connect(url)
	defer conn.Close(context.Background())
	c.refused(s.run(c, conn), "53200", "s2", "max_prepared_transactions", "pg_prepared_xacts")
	c.outcome(s, errors.New("rolled back"))
	c.must(conn, fmt.Sprintf("UPDATE account SET balance = balance WHERE id = %d", c.keys[1])) // one shard
	c.must(conn, "BEGIN", fmt.Sprintf("UPDATE account SET balance = balance WHERE id = %d", c.keys[0]),
		fmt.Sprintf("UPDATE account SET balance = balance WHERE id = %d", c.keys[2]), "COMMIT")
	for i := range 4 {
		c.on(1, fmt.Sprintf("ROLLBACK PREPARED 'foreign%d'", i))
	}
}

// inDoubt leaves a transfer from s2 to s3 decided, and prepared on s2, whose link is cut then.
// Meanwhile what comes to pass on the shards is f.
func (c *cluster) inDoubt(taps *taps, url string, f func()) {
	s := scenario{moves: []int{1, 2}}
	taps.set(func(shard int, m link.Message) (link.Place, func()) {
		if shard == 1 && m.ToServer && m.Type == 'Q' && bytes.Contains(m.Body(), []byte("COMMIT PREPARED")) {
			return link.Before, func() { c.links[1].Set(link.Cut) }
		}
		return "", nil
	})
	conn := c.connect(url)
	defer conn.Close(context.Background())
	told := s.run(c, conn)
	taps.set(nil)
	if told != nil {
		c.t.Errorf("it was decided: %v", told)
	}
	f()
	c.links[1].Set(link.None)
	c.outcomeLater = func() { c.outcome(s, told) }
}

func (c *cluster) readOnly(taps *taps, url string) {
	c.inDoubt(taps, url, func() {
		for _, shard := range []int{1, 2} {
			c.on(shard, "ALTER SYSTEM SET default_transaction_read_only = on")
			c.on(shard, "SELECT pg_reload_conf()")
		}
	})
	if err := c.settles(); err != nil {
		c.t.Error(err)
	}
	c.outcomeLater()
	conn := c.connect(url)
	defer conn.Close(context.Background())
	_, err := exec(conn, fmt.Sprintf("UPDATE account SET balance = 0 WHERE id = %d", c.keys[1]))
	c.refused(err, "25006", "s2")
	c.refused(c.transfer(url, 0, 1), "25006", "s2")
	c.must(conn, "SELECT sum(balance) FROM account")
	for _, shard := range []int{1, 2} {
		c.on(shard, "SET default_transaction_read_only = off")
		c.on(shard, "ALTER SYSTEM RESET default_transaction_read_only")
		c.on(shard, "SELECT pg_reload_conf()")
	}
}

func (c *cluster) standby(_ *taps, url string) {
	s := c.servers[1]
	if err := s.Stop(c.t.Context()); err != nil {
		c.t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(s.Dir(), "standby.signal"), nil, 0o666); err != nil {
		c.t.Fatal(err)
	}
	if err := s.Restart(c.t.Context()); err != nil {
		c.t.Fatal(err)
	}
	conn := c.connect(url)
	defer conn.Close(context.Background())
	for {
		if _, err := exec(conn, fmt.Sprintf("SELECT balance FROM account WHERE id = %d", c.keys[1])); err == nil {
			break
		} else if !lost(err) {
			c.t.Fatal(err)
		}
	}
	_, err := exec(conn, fmt.Sprintf("UPDATE account SET balance = 0 WHERE id = %d", c.keys[1]))
	c.refused(err, "25006", "s2")
	c.refused(c.transfer(url, 0, 1), "25006", "s2")
	_, err = exec(conn, "SELECT sum(balance) FROM account")
	c.refused(err, "25006", "s2", "standby")
	c.must(conn, fmt.Sprintf("UPDATE account SET balance = balance WHERE id = %d", c.keys[2]))
	if g, err := c.start(lively); err == nil {
		g.Shutdown(c.t.Context())
		c.t.Error("a gateway starts before a standby")
	} else if !strings.Contains(err.Error(), "shard s2") || !strings.Contains(err.Error(), "standby") {
		c.t.Errorf("a gateway does not start before a standby: %v", err)
	}
	var report bytes.Buffer
	if admin.Check(c.t.Context(), c.config(lively), &report); !strings.Contains(report.String(), "shard s2: the server is a standby") {
		c.t.Errorf("the check says: %s", &report)
	}
	c.on(1, "SELECT pg_promote()")
}

func (c *cluster) noRoomToConnect(taps *taps, url string) {
	var conns []*pgx.Conn
	c.inDoubt(taps, url, func() {
		for {
			conn, err := pgx.Connect(c.t.Context(), c.servers[1].URL("postgres", "postgres"))
			if err != nil {
				break
			}
			conns = append(conns, conn)
		}
	})
	conn := c.connect(url)
	defer conn.Close(context.Background())
	_, err := exec(conn, fmt.Sprintf("SELECT balance FROM account WHERE id = %d", c.keys[1]))
	c.refused(err, "53300", "s2")
	c.must(conn, fmt.Sprintf("SELECT balance FROM account WHERE id = %d", c.keys[0]))
	for _, conn := range conns {
		conn.Close(context.Background())
	}
	if err := c.settles(); err != nil {
		c.t.Error(err)
	}
	c.outcomeLater()
}

func (c *cluster) noWayIn(taps *taps, url string) {
	hba := filepath.Join(c.servers[1].Dir(), "pg_hba.conf")
	before, err := os.ReadFile(hba)
	if err != nil {
		c.t.Fatal(err)
	}
	c.shard(1) // stays
	allow := func(text []byte) {
		if err := os.WriteFile(hba, text, 0o600); err != nil {
			c.t.Fatal(err)
		}
		c.on(1, "SELECT pg_reload_conf()")
	}
	c.inDoubt(taps, url, func() { allow([]byte("host all all all reject\n")) })
	conn := c.connect(url)
	defer conn.Close(context.Background())
	var pe *pgconn.PgError
	for until := time.Now().Add(answerTimeout); time.Now().Before(until); {
		_, err = exec(conn, fmt.Sprintf("SELECT balance FROM account WHERE id = %d", c.keys[1]))
		if errors.As(err, &pe) && pe.Code == "28000" { // the server has read the file
			break
		}
	}
	c.refused(err, "28000", "s2")
	c.must(conn, fmt.Sprintf("SELECT balance FROM account WHERE id = %d", c.keys[0]))
	allow(before)
	if err := c.settles(); err != nil {
		c.t.Error(err)
	}
	c.outcomeLater()
}

// A client may ask for a COMMIT that is lost in a crash, and gets it as a whole: what one shard
// has forgotten, the others would have kept.
func TestAsynchronousCommit(t *testing.T) {
	c := newCluster(t, 2)
	url, _ := c.gateway(lively)
	c.open(url)
	s := scenario{moves: []int{1, 0}}
	for range 3 {
		conn := c.connect(url)
		c.must(conn, "SET synchronous_commit = off")
		told := s.run(c, conn)
		c.shutDown(0, link.Message{})
		c.heal(0, false)
		if err := c.settles(); err != nil {
			t.Error(err)
		}
		c.outcome(s, told)
		conn.Close(context.Background())
		if err := c.intact(url, 1); err != nil {
			t.Error(err)
		}
	}
}
