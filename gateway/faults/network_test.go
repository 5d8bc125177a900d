package faults

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"slices"
	"strconv"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/shardgate/shardgate/bench/link"
)

// fault is what happens at a message.
type fault struct {
	name  string
	place link.Place
	do    func(c *cluster, shard int, m link.Message)
	// wide is a fault of the whole link, or of the server, which is healed when the client was
	// answered.
	wide bool
	// drops says that what it held back is lost then.
	drops bool
	// slow is one for which a gateway waits.
	slow bool
}

var faults = []fault{
	{name: "cut", place: link.Before, do: cut},
	{name: "cut", place: link.Amid, do: cut},
	{name: "cut", place: link.After, do: cut},
	{name: "end of what the receiver hears", place: link.After, do: func(_ *cluster, _ int, m link.Message) { m.Conn.End(m.ToServer) }},
	{name: "end of what the sender hears", place: link.After, do: func(_ *cluster, _ int, m link.Message) { m.Conn.End(!m.ToServer) }},
	{name: "delay", place: link.Before, do: func(*cluster, int, link.Message) { time.Sleep(300 * time.Millisecond) }},
	{name: "delay", place: link.Amid, do: func(*cluster, int, link.Message) { time.Sleep(50 * time.Millisecond) }},
	{name: "slow link", place: link.Before, do: set(link.Slow), wide: true},
	{name: "link down", place: link.Before, do: set(link.Cut), wide: true},
	{name: "link down", place: link.Amid, do: set(link.Cut), wide: true},
	{name: "link down", place: link.After, do: set(link.Cut), wide: true},
	{name: "link stalled", place: link.Before, do: set(link.Stall), wide: true, slow: true},
	{name: "link stalled", place: link.Amid, do: set(link.Stall), wide: true, slow: true},
	{name: "link stalled", place: link.After, do: set(link.Stall), wide: true, slow: true},
	{name: "answers lost", place: link.After, do: set(link.Mute), wide: true, drops: true, slow: true},
	{name: "requests lost", place: link.Before, do: set(link.Deaf), wide: true, drops: true, slow: true},
}

func cut(_ *cluster, _ int, m link.Message) { m.Conn.Cut() }

func set(f link.Fault) func(*cluster, int, link.Message) {
	return func(c *cluster, shard int, _ link.Message) { c.links[shard].Set(f) }
}

// scenario is what a client does while a fault happens.
type scenario struct {
	name string
	// moves are the shards between whose accounts money is moved: the first loses what
	// the others get.
	moves []int
	// raises are the shards on which accounts get 1, by one statement on its own: all accounts, or
	// one on a single shard.
	raises   []int
	sql      []string // otherwise
	extended bool     // in the extended protocol
	// total says that the last statement but COMMIT reads all balances.
	total bool
	rows  int
}

var scenarios = []scenario{
	{name: "transfer over 2 shards", moves: []int{1, 2}},
	{name: "transfer over 3 shards", moves: []int{1, 2, 0}},
	{name: "transfer, extended", moves: []int{2, 1}, extended: true},
	{name: "statement on 3 shards", raises: []int{0, 1, 2}},
	{name: "statement on 1 shard", raises: []int{1}},
	{name: "read committed", total: true, sql: []string{"BEGIN", "SELECT balance FROM account", "SELECT id, balance FROM account", "COMMIT"}},
	{name: "repeatable read", total: true, sql: []string{"BEGIN ISOLATION LEVEL REPEATABLE READ", "SELECT 1 FROM account WHERE id = 1", "SELECT id, balance FROM account", "COMMIT"}},
	{name: "gathered", total: true, sql: []string{"SELECT id, sum(balance) OVER (PARTITION BY id % 2, id) FROM account"}},
	{name: "many rows", rows: 3000, sql: []string{"SELECT id, text FROM many"}},
}

// writes says whether the scenario changes anything.
func (s scenario) writes() bool { return s.moves != nil || s.raises != nil }

// statements are the scenario's, and what they add to which account.
func (s scenario) statements(c *cluster) (sql []string, adds map[int]int) {
	switch {
	case len(s.raises) == 1:
		id := c.keys[s.raises[0]]
		return []string{fmt.Sprintf("UPDATE account SET balance = balance + 1 WHERE id = %d", id)}, map[int]int{id: 1}
	case s.raises != nil:
		adds = map[int]int{}
		for id := range c.model {
			adds[id] = 1
		}
		return []string{"UPDATE account SET balance = balance + 1"}, adds
	case s.moves == nil:
		return s.sql, nil
	}
	sql, adds = []string{"BEGIN"}, map[int]int{}
	for i, shard := range s.moves {
		id, add := c.keys[shard], 1
		if i == 0 {
			add = 1 - len(s.moves)
		}
		adds[id] = add
		sql = append(sql, fmt.Sprintf("UPDATE account SET balance = balance + %d WHERE id = %d", add, id))
	}
	return append(sql, "COMMIT"), adds
}

// run runs the statements up to the first error, and checks what is read.
func (s scenario) run(c *cluster, conn *pgconn.PgConn) (told error) {
	sql, _ := s.statements(c)
	run := exec
	if s.extended {
		run = execExtended
	}
	for i, q := range sql {
		rows, err := run(conn, q)
		if err != nil {
			return err
		}
		reads := i == len(sql)-1 && len(sql) == 1 || i == len(sql)-2
		if s.total && reads {
			got := map[int]int{}
			for _, row := range rows {
				id, _ := strconv.Atoi(string(row[0]))
				got[id], _ = strconv.Atoi(string(row[1]))
			}
			if !maps.Equal(got, c.model) {
				c.t.Errorf("%s reads %v, not %v", q, got, c.model)
			}
		}
		if s.rows > 0 && len(rows) != s.rows {
			c.t.Errorf("%s gives %d rows", q, len(rows))
		}
	}
	return nil
}

// long says that everything is to be tried, not a part of it: SHARDGATE_FAULTS=all.
func long() bool { return os.Getenv("SHARDGATE_FAULTS") == "all" }

// chosen says whether the i-th message of a scenario is hit by the j-th fault. Each message
// of those that write is hit by one at least, and each fault happens at many messages.
func chosen(s scenario, i, j int) bool {
	quick := slices.IndexFunc(faults, func(f fault) bool { return f.slow }) // the slow ones come last
	slow := len(faults) - quick
	switch {
	case testing.Short():
		return j < quick && (i+j)%(4*quick) == 0 || long() && j < quick
	case long():
		return true
	case j >= quick:
		return s.moves != nil && !s.extended && i%8 == 0 && i/8%slow == j-quick
	case s.writes():
		return (i+j)%quick == 0
	}
	return i%4 == 0 && i/4%quick == j
}

// TestMessages breaks the network at each message of each scenario.
func TestMessages(t *testing.T) {
	c := newCluster(t, 3)
	taps := c.tap()
	url, stop := c.gateway(quiet)
	c.open(url)
	messages := c.messages(taps, url, scenarios)
	stop()
	url, _ = c.gateway(lively)
	trials, missed, began := 0, 0, time.Now()
	for _, s := range scenarios {
		t.Logf("%s: %d messages", s.name, len(messages[s.name]))
		for i, m := range messages[s.name] {
			for j, f := range faults {
				if !chosen(s, i, j) {
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
	t.Logf("%d faults in %v, of which %d did not happen", trials, time.Since(began).Round(time.Second), missed)
	if missed > trials/4 { // how readers meet at the fence differs from run to run
		t.Errorf("%d of %d faults did not happen", missed, trials)
	}
}

// messages are those of each scenario, by its name.
func (c *cluster) messages(taps *taps, url string, scenarios []scenario) map[string][]target {
	c.t.Helper()
	out := map[string][]target{}
	for _, s := range scenarios {
		conn := c.connect(url)
		for range 2 { // the first time opens connections
			out[s.name] = c.record(taps, func() {
				if err := s.run(c, conn); err != nil {
					c.t.Fatal(err)
				}
			})
			_, adds := s.statements(c)
			c.add(adds)
		}
		conn.Close(context.Background())
	}
	return out
}

func (c *cluster) add(adds map[int]int) {
	for id, n := range adds {
		c.model[id] += n
	}
}

// try runs a scenario with a fault, and says whether the fault happened.
func (c *cluster) try(taps *taps, url string, s scenario, m target, f fault, n int) (struck bool) {
	t := c.t
	conn := c.connect(url)
	defer conn.Close(context.Background())
	port := 0
	disarm := taps.arm(m, f.place, func(msg link.Message) {
		port = msg.Conn.ServerPort()
		f.do(c, m.shard, msg)
	})
	began := time.Now()
	told := s.run(c, conn)
	took := time.Since(began)
	struck = disarm()
	if f.wide {
		c.heal(m.shard, f.drops)
	}
	if unknown(told) {
		c.gone(m.shard, port)
	}
	c.judge(conn, s, told, m, f)
	if err := c.settles(); err != nil {
		t.Error(err)
	}
	c.outcome(s, told)
	if err := c.intact(url, n); err != nil {
		t.Error(err)
	}
	if t.Failed() {
		t.Logf("told after %v: %v", took, told)
	}
	return struck
}

// heal heals a shard's link, and starts its server if it was stopped.
func (c *cluster) heal(shard int, drops bool) {
	l := c.links[shard]
	if drops {
		l.Drop()
	}
	l.Set(link.None)
	s := c.servers[shard]
	if c.broken[shard] {
		if err := s.Kill(); err != nil {
			c.t.Fatal(err)
		}
		delete(c.broken, shard)
	}
	if s.PID() == 0 {
		if err := s.Restart(c.t.Context()); err != nil {
			c.t.Fatal(err)
		}
	}
}

// gone waits until a server has nothing more to do with a connection: what the link held back
// may still have arrived, and be carried out. One that is idle for long is another than was lost.
func (c *cluster) gone(shard, port int) {
	for until := time.Now().Add(answerTimeout); time.Now().Before(until); time.Sleep(10 * time.Millisecond) {
		var n int
		err := c.shard(shard).QueryRow(c.t.Context(), "SELECT count(*) FROM pg_stat_activity WHERE client_port = $1 AND (state <> 'idle' OR state_change > now() - interval '1 s')", port).Scan(&n)
		if err == nil && n == 0 {
			return
		}
	}
	c.t.Error("a connection that was lost is still open")
}

// judge looks at what the client was told, and whether it can go on.
func (c *cluster) judge(conn *pgconn.PgConn, s scenario, told error, m target, f fault) {
	t := c.t
	var pe *pgconn.PgError
	if told != nil && !errors.As(told, &pe) {
		t.Errorf("no answer: %v", told)
		return
	}
	if unknown(told) && !f.wide && len(s.raises) != 1 { // nobody could be asked about one shard's
		t.Errorf("not known, although the shard could be asked: %v", told)
	}
	if unknown(told) && !s.writes() {
		t.Errorf("nothing was written: %v", told)
	}
	if told != nil {
		if _, err := exec(conn, "ROLLBACK"); err != nil {
			t.Errorf("ROLLBACK: %v", err)
		}
	}
	rows, err := exec(conn, "SELECT 42")
	// Lost while it was idle, or the server is starting.
	for until := time.Now().Add(answerTimeout); lost(err) && time.Now().Before(until); time.Sleep(10 * time.Millisecond) {
		rows, err = exec(conn, "SELECT 42")
	}
	if err != nil || len(rows) != 1 || string(rows[0][0]) != "42" {
		t.Errorf("the session's next statement: %q, %v", rows, err)
	}
}

// unknown says whether an error leaves open if the transaction is committed.
func unknown(err error) bool {
	var pe *pgconn.PgError
	return errors.As(err, &pe) && (pe.Code == "40003" || pe.Code == "08007")
}

// outcome compares the accounts with what they have to be, all or nothing, as the client
// was told.
func (c *cluster) outcome(s scenario, told error) {
	_, adds := s.statements(c)
	got, done := c.balances(), maps.Clone(c.model)
	for id, n := range adds {
		done[id] += n
	}
	switch {
	case adds == nil && maps.Equal(got, c.model):
	case adds != nil && maps.Equal(got, done) && (told == nil || unknown(told)):
		c.add(adds)
	case adds != nil && maps.Equal(got, c.model) && told != nil:
	default:
		c.t.Errorf("told %v, and the balances are %v; before they were %v", told, got, c.model)
		maps.Copy(c.model, got)
	}
}
