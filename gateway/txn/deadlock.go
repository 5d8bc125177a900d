package txn

import (
	"context"
	"fmt"
	"log/slog"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/shardgate/shardgate/gateway/pool"
	"github.com/shardgate/shardgate/planner"
)

// Waiter is a transaction on several shards that waits for an answer.
type Waiter struct {
	ID       string // of the transaction, as in the names of what it has prepared
	Began    int64  // nanoseconds since 1970 by its gateway's clock
	Since    int64  // when this wait began; it tells one wait from the next
	Backends []Backend
}

// Backend is a connection's on a shard.
type Backend struct {
	Shard string
	PID   string
	Start string // microseconds since 1970 by the server's clock, "" if that is not known
}

func (b Backend) String() string { return b.Shard + "/" + b.PID + "/" + b.Start }

func parseBackend(s string) (b Backend, ok bool) {
	parts := strings.Split(s, "/")
	if len(parts) < 3 {
		return b, false
	}
	n := len(parts)
	return Backend{strings.Join(parts[:n-2], "/"), parts[n-2], parts[n-1]}, true
}

// Watch finds deadlocks over several shards and ends them. A server sees the waits on
// itself only; they are joined by the transactions that wait on one shard and hold locks
// on another.
//
// Each gateway writes those of its transactions that have waited for longer than Timeout
// to the table shardgate.waits of the home shard, for all to read. A circle counts when
// two readings show it, with the same backends in the same waits. Its youngest
// transaction is the victim, and only the gateway that runs it acts, on connections of
// its own, so that a PID which was reused does no harm.
type Watch struct {
	Register *Register
	Timeout  time.Duration
	// Waiting are the gateway's transactions that have waited for longer than that.
	Waiting func(longer time.Duration) []Waiter
	// Strike cancels what the transaction waits for, unless it no longer does. detail
	// tells of the circle.
	Strike func(w Waiter, detail string)
	Log    *slog.Logger

	gateway   string // names this one among others
	published bool
	conns     []*pool.Conn // one a shard; nil if there is none
}

const (
	// waitsOld is the age at which a gateway's word about a wait is not taken any more,
	// and waitsGone that at which it is deleted, by the home server's clock.
	waitsOld  = "3 seconds"
	waitsGone = "1 minute"
)

// Run watches until ctx is over.
func (w *Watch) Run(ctx context.Context) {
	w.gateway = randomHex(8)
	w.conns = make([]*pool.Conn, len(w.Register.pools.Shards))
	defer func() {
		for _, c := range w.conns {
			if c != nil {
				c.Close()
			}
		}
	}()
	pause := min(max(w.Timeout/4, 10*time.Millisecond), 250*time.Millisecond)
	tick := time.NewTicker(pause)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		if err := w.look(ctx, pause); err != nil && ctx.Err() == nil {
			w.Log.Warn("deadlocks over several shards can't be looked for", "error", err)
		}
	}
}

// look looks once.
func (w *Watch) look(ctx context.Context, pause time.Duration) error {
	own := w.Waiting(w.Timeout)
	if len(own) == 0 && !w.published {
		return nil
	}
	first, err := w.read(ctx, own)
	if err != nil || len(first.circles(first)) == 0 {
		return err
	}
	select {
	case <-ctx.Done():
		return nil
	case <-time.After(pause):
	}
	own = w.Waiting(w.Timeout)
	second, err := w.read(ctx, own)
	if err != nil {
		return err
	}
	for _, circle := range first.circles(second) {
		victim := slices.MaxFunc(circle, func(a, b wait) int {
			x, y := second.waiters[a.from], second.waiters[b.from]
			switch {
			case x.ID == "" || y.ID == "": // not one of a gateway's
				return strings.Compare(x.ID, y.ID)
			case x.Began != y.Began:
				return int(min(max(x.Began-y.Began, -1), 1))
			}
			return strings.Compare(x.ID, y.ID)
		})
		i := slices.IndexFunc(own, func(o Waiter) bool { return o.ID == victim.from })
		if i < 0 {
			continue // another gateway's
		}
		w.Log.Info("ending a deadlock over several shards", "txid", own[i].ID)
		w.Strike(own[i], describeCircle(circle, second))
	}
	return nil
}

// wait is that of a transaction, or of a backend without one that spans shards, for
// another, on a shard.
type wait struct{ shard, from, to string }

// graph is one reading of all waits.
type graph struct {
	waiters map[string]Waiter // by ID
	waits   map[wait]bool
}

// circles are the circles of waits that both graphs have. Each takes in more than one
// shard: the others are PostgreSQL's own to end.
func (g *graph) circles(later *graph) (out [][]wait) {
	next := map[string][]wait{}
	for e := range g.waits {
		same := func(id string) bool { return g.waiters[id].Since == later.waiters[id].Since }
		if later.waits[e] && same(e.from) && same(e.to) {
			next[e.from] = append(next[e.from], e)
		}
	}
	done := map[string]bool{}
	var path []wait
	var visit func(at string)
	visit = func(at string) {
		for _, e := range next[at] {
			if i := slices.IndexFunc(path, func(p wait) bool { return p.from == e.to }); i >= 0 || e.to == at {
				circle := append(slices.Clone(path[max(i, 0):]), e)
				if e.to == at && i < 0 {
					circle = []wait{e}
				}
				if slices.ContainsFunc(circle, func(c wait) bool { return c.shard != e.shard }) {
					out = append(out, circle)
				}
				continue
			}
			if !done[e.to] {
				path = append(path, e)
				visit(e.to)
				path = path[:len(path)-1]
			}
		}
		done[at] = true
	}
	var starts []string
	for id := range next {
		starts = append(starts, id)
	}
	slices.Sort(starts)
	for _, id := range starts {
		if !done[id] {
			visit(id)
		}
	}
	return out
}

// describeCircle says who waits for whom.
func describeCircle(circle []wait, g *graph) string {
	name := func(id string) string {
		if _, ok := g.waiters[id]; ok {
			return "transaction " + id
		}
		if b, ok := parseBackend(id); ok {
			return "process " + b.PID
		}
		return id
	}
	var b strings.Builder
	for i, e := range circle {
		text := fmt.Sprintf("%s waits on shard %s for %s", name(e.from), e.shard, name(e.to))
		if i > 0 {
			b.WriteString("; ")
		} else {
			text = strings.ToUpper(text[:1]) + text[1:]
		}
		b.WriteString(text)
	}
	return b.String() + "."
}

// read writes the gateway's own waits down and reads everybody's.
func (w *Watch) read(ctx context.Context, own []Waiter) (*graph, error) {
	g := &graph{waiters: map[string]Waiter{}, waits: map[wait]bool{}}
	backends := map[string]string{} // transactions by shard and PID
	starts := map[string]string{}
	if err := w.publish(ctx, own, g); err != nil {
		return nil, err
	}
	for id, x := range g.waiters {
		for _, b := range x.Backends {
			key := b.Shard + "/" + b.PID
			backends[key], starts[key] = id, b.Start
		}
	}
	node := func(b Backend) string {
		key := b.Shard + "/" + b.PID
		if id := backends[key]; id != "" && (b.Start == "" || b.Start == starts[key]) {
			return id
		}
		return b.String()
	}
	results := make([][]lockWait, len(w.conns))
	errs := make([]error, len(w.conns))
	var wg sync.WaitGroup
	for i := range w.conns {
		wg.Go(func() { results[i], errs[i] = w.lockWaits(ctx, i) })
	}
	wg.Wait()
	for i, list := range results {
		if errs[i] != nil {
			// A shard that can't be asked has no part in a circle that can be seen.
			w.Log.Debug("a shard's waits can't be read", "shard", w.Register.pools.Shards[i].Name, "error", errs[i])
		}
		for _, l := range list {
			to := l.prepared
			if to == "" {
				to = node(l.to)
			}
			g.waits[wait{l.from.Shard, node(l.from), to}] = true
		}
	}
	return g, nil
}

// conn gets the connection for reading on a shard.
func (w *Watch) conn(ctx context.Context, shard int) (*pool.Conn, error) {
	if c := w.conns[shard]; c != nil {
		if !c.Broken {
			return c, nil
		}
		c.Close()
		w.conns[shard] = nil
	}
	ctx, stop := context.WithTimeout(ctx, adminTimeout)
	defer stop()
	c, err := w.Register.pools.Admin(ctx, shard)
	if err != nil {
		return nil, err
	}
	// The planner takes the system's functions to give many rows: it would compile.
	if _, err := c.QueryTimeout("SET jit = off", adminTimeout); err != nil {
		c.Close()
		return nil, err
	}
	w.conns[shard] = c
	return c, nil
}

// publish writes the gateway's own waits on the home shard, and reads all gateways'.
func (w *Watch) publish(ctx context.Context, own []Waiter, g *graph) error {
	c, err := w.conn(ctx, w.Register.home)
	if err != nil {
		return err
	}
	var b strings.Builder
	fmt.Fprintf(&b, "DELETE FROM shardgate.waits WHERE gateway = '%s' OR at < pg_catalog.clock_timestamp() - interval '%s';", w.gateway, waitsGone)
	for i, x := range own {
		b.WriteString(choose(i == 0, "INSERT INTO shardgate.waits (txid, gateway, began, since, backends) VALUES ", ","))
		var list []string
		for _, k := range x.Backends {
			list = append(list, planner.QuoteLiteral(k.String()))
		}
		fmt.Fprintf(&b, "('%s','%s',%d,%d,ARRAY[%s]::text[])", x.ID, w.gateway, x.Began, x.Since, strings.Join(list, ","))
	}
	if len(own) > 0 {
		b.WriteString(" ON CONFLICT DO NOTHING;")
	}
	b.WriteString("SELECT txid, began, since, k FROM shardgate.waits, pg_catalog.unnest(backends) k WHERE at > pg_catalog.clock_timestamp() - interval '" + waitsOld + "'")
	res, err := c.QueryTimeout(b.String(), adminTimeout)
	if err != nil {
		return err
	}
	w.published = len(own) > 0
	for _, row := range res.Rows {
		x := g.waiters[string(row[0])]
		x.ID = string(row[0])
		x.Began, _ = strconv.ParseInt(string(row[1]), 10, 64)
		x.Since, _ = strconv.ParseInt(string(row[2]), 10, 64)
		if k, ok := parseBackend(string(row[3])); ok {
			x.Backends = append(x.Backends, k)
		}
		g.waiters[x.ID] = x
	}
	return nil
}

func choose[T any](cond bool, a, b T) T {
	if cond {
		return a
	}
	return b
}

// lockWait is the wait of one backend for another, or for a prepared transaction.
type lockWait struct {
	from, to Backend
	prepared string
}

// lockWaits asks a shard who waits for whom. pg_blocking_pids says no more of a prepared
// transaction than that there is one: its locks are compared here.
func (w *Watch) lockWaits(ctx context.Context, shard int) ([]lockWait, error) {
	c, err := w.conn(ctx, shard)
	if err != nil {
		return nil, err
	}
	res, err := c.QueryTimeout(`SELECT w.pid, w.start, b.pid, (extract(epoch FROM a.backend_start) * 1000000)::bigint, NULL, NULL, NULL FROM (
			SELECT DISTINCT coalesce(a.leader_pid, l.pid) AS pid, l.pid AS waits, (extract(epoch FROM a.backend_start) * 1000000)::bigint AS start
			FROM pg_catalog.pg_locks l LEFT JOIN LATERAL pg_catalog.pg_stat_get_activity(l.pid) a ON true WHERE NOT l.granted AND l.pid IS NOT NULL) w
		CROSS JOIN LATERAL pg_catalog.unnest(pg_catalog.pg_blocking_pids(w.waits)) b(pid)
		LEFT JOIN LATERAL pg_catalog.pg_stat_get_activity(b.pid) a ON true
		WHERE b.pid <> 0
	UNION ALL
		SELECT w.pid, (extract(epoch FROM a.backend_start) * 1000000)::bigint, NULL, NULL, p.gid, w.mode, h.mode FROM pg_catalog.pg_locks w
		JOIN pg_catalog.pg_locks h ON h.pid IS NULL AND h.granted
			AND (w.locktype, w.database, w.relation, w.page, w.tuple, w.transactionid, w.classid, w.objid, w.objsubid)
			IS NOT DISTINCT FROM (h.locktype, h.database, h.relation, h.page, h.tuple, h.transactionid, h.classid, h.objid, h.objsubid)
		JOIN pg_catalog.pg_locks x ON x.pid IS NULL AND x.virtualtransaction = h.virtualtransaction AND x.locktype = 'transactionid' AND x.mode = 'ExclusiveLock'
		JOIN pg_catalog.pg_prepared_xacts p ON p.transaction = x.transactionid
		LEFT JOIN LATERAL pg_catalog.pg_stat_get_activity(w.pid) a ON true
		WHERE NOT w.granted AND w.pid IS NOT NULL`, adminTimeout)
	if err != nil {
		return nil, err
	}
	name := w.Register.pools.Shards[shard].Name
	var out []lockWait
	for _, row := range res.Rows {
		l := lockWait{from: Backend{name, string(row[0]), string(row[1])}}
		if row[4] == nil {
			l.to = Backend{name, string(row[2]), string(row[3])}
		} else if g, ok := parseGid(string(row[4])); ok && conflict(string(row[5]), string(row[6])) {
			l.prepared = g.txid
		} else {
			continue // another's, which waits for nothing that is known
		}
		out = append(out, l)
	}
	return out, nil
}

// lockModes are PostgreSQL's, from weak to strong, and with which of them each conflicts
// (its documentation, "Explicit Locking").
var lockModes = []string{"AccessShareLock", "RowShareLock", "RowExclusiveLock", "ShareUpdateExclusiveLock",
	"ShareLock", "ShareRowExclusiveLock", "ExclusiveLock", "AccessExclusiveLock"}

var lockConflicts = []string{"       x", "      xx", "    xxxx", "   xxxxx", "  xx xxx", "  xxxxxx", " xxxxxxx", "xxxxxxxx"}

func conflict(a, b string) bool {
	i, j := slices.Index(lockModes, a), slices.Index(lockModes, b)
	return i >= 0 && j >= 0 && lockConflicts[i][j] == 'x'
}
