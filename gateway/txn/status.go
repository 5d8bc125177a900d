package txn

import (
	"cmp"
	"context"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/shardgate/shardgate/gateway/pool"
	"github.com/shardgate/shardgate/planner"
	"github.com/shardgate/shardgate/wire"
)

const (
	// lookTimeout bounds a look at all shards: one that has not answered by then counts
	// as unreachable.
	lookTimeout = 5 * time.Second
	// maxLooks is how many such looks there are at a time, each with a connection of the
	// gateway's own to each shard.
	maxLooks = 4
)

// The states of a transaction that isn't finished everywhere.
const (
	stateUndecided = "undecided"
	stateCommitted = "committed, finishing"
	stateAborted   = "aborted, finishing"
	stateUnknown   = "unknown" // its decider can't be asked
)

func decided(committed bool) string {
	if committed {
		return stateCommitted
	}
	return stateAborted
}

// id is what clients and operators call a transaction. It says where to ask.
func (r *Register) id(decider, txid string) string {
	return r.Cluster + ":" + decider + ":" + txid
}

// idForm is that of an id. The name of one of its prepared transactions is taken as well.
var idForm = regexp.MustCompile(`^([a-z0-9_-]{1,41}):([a-z0-9_-]{1,32}):([0-9a-f]{32})$`)

// parseID reads an id, or the name of a prepared transaction.
func (r *Register) parseID(s string) (gid, *wire.Error) {
	g, ok := parseGid(s)
	if ok {
		s = g.cluster + ":" + g.decider + ":" + g.txid
	}
	m := idForm.FindStringSubmatch(s)
	if m == nil {
		return g, wire.Errorf(wire.InvalidParameterValue, "invalid transaction id").
			WithHint("An id is in the error that tells of a transaction whose outcome is not known, in SHOW shardgate.in_doubt, and in the gateways' logs: cluster:shard:number.")
	}
	g.cluster, g.decider, g.txid = m[1], m[2], m[3]
	if g.cluster != r.Cluster {
		return g, wire.Errorf(wire.InvalidParameterValue, "transaction %s is of another cluster", s).
			WithDetail("It is of %s, and this is %s.", g.cluster, r.Cluster).
			WithHint("Ask a gateway of that cluster.")
	}
	if r.shard(g.decider) < 0 {
		return g, wire.Errorf(wire.InvalidParameterValue, "transaction %s names a shard that there is not: %s", s, g.decider)
	}
	return g, nil
}

// look is one look at all shards, with connections of the gateway's own.
type look struct {
	register *Register
	conns    []*pool.Conn // by shard; nil for one that can't be asked
	until    time.Time
}

// look connects to all shards at once. The caller closes it.
func (r *Register) look() *look {
	r.looks <- struct{}{} // given back by close; each is over within lookTimeout
	l := &look{register: r, conns: make([]*pool.Conn, len(r.pools.Shards)), until: time.Now().Add(lookTimeout)}
	ctx, stop := context.WithDeadline(context.Background(), l.until)
	defer stop()
	var wg sync.WaitGroup
	for i := range l.conns {
		wg.Go(func() {
			if c, err := r.pools.Admin(ctx, i); err == nil {
				l.conns[i] = c
			}
		})
	}
	wg.Wait()
	return l
}

func (l *look) close() {
	for _, c := range l.conns {
		if c != nil {
			c.Close()
		}
	}
	<-l.register.looks
}

// left is the time that the look has yet.
func (l *look) left() time.Duration { return time.Until(l.until) }

// each asks all shards at once. One that fails is not asked again.
func (l *look) each(f func(shard int, c *pool.Conn) error) {
	var wg sync.WaitGroup
	for i, c := range l.conns {
		if c == nil {
			continue
		}
		wg.Go(func() {
			if err := f(i, c); err != nil {
				c.Close()
				l.conns[i] = nil
			}
		})
	}
	wg.Wait()
}

// missing are the names of the shards that could not be asked.
func (l *look) missing() (names []string) {
	for i, c := range l.conns {
		if c == nil {
			names = append(names, l.register.pools.Shards[i].Name)
		}
	}
	return names
}

// prepared lists what is prepared, by transaction.
func (l *look) prepared() map[string][]orphan {
	lists := make([][]orphan, len(l.conns))
	l.each(func(i int, c *pool.Conn) (err error) {
		lists[i], err = l.register.prepared(c, i, l.left())
		return err
	})
	out := map[string][]orphan{}
	for _, list := range lists {
		for _, o := range list {
			out[o.gid.txid] = append(out[o.gid.txid], o)
		}
	}
	return out
}

// Unfinished is a distributed transaction that is not finished on all shards.
type Unfinished struct {
	ID, State string
	Age       time.Duration
	// Prepared are the shards on which it is prepared. Unreachable are those that could
	// not be asked, and may have a part of it.
	Prepared, Unreachable []string
}

// Unfinished looks at all shards, and lists the distributed transactions of this cluster
// that are not finished everywhere, the oldest first. unreachable are the shards that could
// not be asked: what is prepared there alone is not listed.
func (r *Register) Unfinished() (list []Unfinished, unreachable []string) {
	l := r.look()
	defer l.close()
	first := l.prepared()
	rows := l.decisions(first)
	// What was finished meanwhile is not listed: its decision may have been deleted.
	now := l.prepared()
	unreachable = l.missing()
	for txid, parts := range first {
		u := Unfinished{ID: r.id(parts[0].gid.decider, txid), State: stateUndecided, Unreachable: unreachable}
		if d, ok := rows[txid]; ok {
			u.State, u.Unreachable = decided(d.committed), d.among(unreachable)
		} else if slices.Contains(unreachable, parts[0].gid.decider) {
			u.State = stateUnknown
		}
		for _, o := range now[txid] {
			u.Prepared = append(u.Prepared, r.pools.Shards[o.shard].Name)
		}
		for _, o := range parts {
			u.Age = max(u.Age, o.age)
		}
		if len(u.Prepared) > 0 || rows[txid].txid != "" && len(u.Unreachable) > 0 {
			list = append(list, u)
		}
	}
	for txid, d := range rows {
		if on := d.among(unreachable); first[txid] == nil && len(on) > 0 {
			list = append(list, Unfinished{ID: r.id(r.pools.Shards[d.decider].Name, txid), State: decided(d.committed), Age: d.age, Unreachable: on})
		}
	}
	slices.SortFunc(list, func(a, b Unfinished) int { return cmp.Or(cmp.Compare(b.Age, a.Age), cmp.Compare(a.ID, b.ID)) })
	return list, unreachable
}

// among are those of some shards on which the decision may have to be carried out yet.
func (d *decision) among(shards []string) (out []string) {
	for _, s := range shards {
		if d.shards == nil || slices.Contains(d.shards, s) {
			out = append(out, s)
		}
	}
	return out
}

// decisions reads the decisions about transactions, and those that may have to be carried
// out on a shard that can't be asked.
func (l *look) decisions(about map[string][]orphan) map[string]decision {
	ids := []string{"''"}
	for txid := range about {
		ids = append(ids, planner.QuoteLiteral(txid))
	}
	where := "txid IN (" + strings.Join(ids, ",") + ")"
	for _, name := range l.missing() {
		where += " OR unfinished IS NULL OR " + planner.QuoteLiteral(name) + " = ANY(pg_catalog.string_to_array(unfinished, ','))"
	}
	lists := make([][]decision, len(l.conns))
	l.each(func(i int, c *pool.Conn) (err error) {
		lists[i], err = l.register.decisions(c, i, where, l.left())
		return err
	})
	out := map[string]decision{}
	for _, list := range lists {
		for _, d := range list {
			out[d.txid] = d
		}
	}
	return out
}

// Status says what has become of a transaction: committed, aborted, in progress, forgotten
// or, if its decider can't be asked, unknown; and on which shards it is yet to be finished.
//
// A transaction that was finished before its decision was looked for has left the decision
// there, unless that was deleted; so one of which there is no decision, and nothing is
// prepared afterwards, and no decision then, is forgotten, or has not been prepared.
func (r *Register) Status(id string) (string, *wire.Error) {
	g, err := r.parseID(id)
	if err != nil {
		return "", err
	}
	l := r.look()
	defer l.close()
	decider := r.shard(g.decider)
	for range 2 {
		var rows []decision
		if c := l.conns[decider]; c != nil {
			var err error
			if rows, err = r.decisions(c, decider, "txid = "+planner.QuoteLiteral(g.txid), l.left()); err != nil {
				c.Close()
				l.conns[decider] = nil
			}
		}
		var on []string
		for _, o := range l.prepared()[g.txid] {
			on = append(on, r.pools.Shards[o.shard].Name)
		}
		missing := l.missing()
		switch {
		case len(rows) > 0:
			return rows[0].status(on, missing), nil
		case slices.Contains(missing, g.decider):
			return "unknown; unreachable: " + strings.Join(missing, ", "), nil
		case len(on) > 0:
			return "in progress", nil
		case len(missing) > 0:
			return "unknown; unreachable: " + strings.Join(missing, ", "), nil
		}
	}
	return "forgotten", nil
}

// status is the outcome, and where it is yet to be carried out.
func (d *decision) status(on, missing []string) string {
	out := "aborted"
	if d.committed {
		out = "committed"
	}
	missing = d.among(missing)
	if d.shards != nil { // they are its shards
		on, missing = append(on, missing...), nil
	}
	if len(on) > 0 {
		slices.Sort(on)
		out += ", finishing on: " + strings.Join(on, ", ")
	}
	if len(missing) > 0 {
		out += fmt.Sprintf("; unreachable: %s", strings.Join(missing, ", "))
	}
	return out
}
