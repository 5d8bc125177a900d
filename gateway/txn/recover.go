package txn

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strconv"
	"strings"
	"time"

	"github.com/shardgate/shardgate/gateway/pool"
	"github.com/shardgate/shardgate/planner"
	"github.com/shardgate/shardgate/wire"
)

// settle makes the register say whether txid is committed: if it holds no row,
// it gets one that says no. known is false when the decider can't be reached, also not within
// the time that opening a connection may take: a server that has crashed is often back by then.
func (r *Register) settle(decider int, txid, backend string) (committed, known bool) {
	ctx, stop := context.WithTimeout(context.Background(), r.pools.ConnectTimeout())
	defer stop()
	for {
		if c, err := r.pools.Admin(ctx, decider); err == nil {
			committed, err = settleOn(c, txid, backend)
			c.Close()
			if err == nil {
				return committed, true
			}
		}
		select {
		case <-ctx.Done():
			return false, false
		case <-time.After(settlePause):
		}
	}
}

// settlePause is that between two attempts to ask the register.
const settlePause = 50 * time.Millisecond

func settleOn(c *pool.Conn, txid, backend string) (committed bool, err error) {
	// The INSERT waits for a coordinator whose own is under way.
	if _, err := c.QueryTimeout(fmt.Sprintf("INSERT INTO shardgate.decisions (txid, committed, backend) VALUES (%s, false, %s) ON CONFLICT DO NOTHING",
		planner.QuoteLiteral(txid), planner.QuoteLiteral(backend)), adminTimeout); err != nil {
		return false, err
	}
	res, err := c.QueryTimeout("SELECT committed FROM shardgate.decisions WHERE txid = "+planner.QuoteLiteral(txid), adminTimeout)
	if err != nil {
		return false, err
	}
	if len(res.Rows) != 1 {
		return false, errors.New("the decision is gone: it was carried out by another gateway")
	}
	return res.Value(0) == "t", nil
}

// orphan is a prepared transaction that no coordinator may be looking after.
type orphan struct {
	gid   gid
	name  string
	owner string
	shard int
	age   time.Duration // since it was prepared
}

// Recover looks once at all shards, finishes the distributed transactions that
// were prepared longer ago than grace and are not this process's own, and clears
// decisions that nobody needs any more. It returns how many it finished. An
// error says that some shard could not be dealt with, of which the log is told in
// growing intervals; the next call tries again.
func (r *Register) Recover(ctx context.Context, grace time.Duration, log *slog.Logger) (finished int, err error) {
	pass := &pass{register: r, log: log, admins: make([]*pool.Conn, len(r.pools.Shards)), pending: map[string]bool{}}
	defer pass.close()
	pass.connect(ctx)
	open := pass.unfinished()
	// What is prepared is listed first, and the register written after: a
	// transaction that appears in between has a coordinator of its own.
	orphans := pass.list(grace)
	Reach(Listed, nil)
	for _, o := range orphans {
		if pass.recover(ctx, o) {
			finished++
		}
	}
	Reach(MarkFinished, pass.admins[r.home])
	pass.mark(open)
	Reach(ClearDecisions, pass.admins[r.home])
	r.clearDone(pass.admins)
	Reach(ClearOld, pass.admins[r.home])
	pass.clearOld()
	return finished, pass.tell(ctx)
}

// pass is one run of Recover.
type pass struct {
	register *Register
	log      *slog.Logger
	admins   []*pool.Conn    // by shard; nil for one that can't be dealt with
	pending  map[string]bool // what is prepared, by prepareKey
	doubts   []doubt
	settled  []string // keys of doubts that are none any more
	errs     []error
}

// prepareKey says that a transaction is prepared on a shard.
func prepareKey(txid, shard string) string { return txid + " " + shard }

func (p *pass) close() {
	for _, c := range p.admins {
		if c != nil {
			c.Close()
		}
	}
}

func (p *pass) connect(ctx context.Context) {
	for i := range p.admins {
		c, err := p.register.pools.Admin(ctx, i)
		if err != nil {
			p.without(i, err)
			continue
		}
		p.admins[i] = c
	}
}

// without goes on without a shard.
func (p *pass) without(shard int, err error) {
	if c := p.admins[shard]; c != nil {
		c.Close()
		p.admins[shard] = nil
	}
	name := p.register.pools.Shards[shard].Name
	p.errs = append(p.errs, fmt.Errorf("shard %s: %w", name, err))
	p.doubts = append(p.doubts, doubt{shard: name, reason: err.Error()})
}

// list finds what is prepared, and what of it is to be finished here.
func (p *pass) list(grace time.Duration) (orphans []orphan) {
	r := p.register
	for i, c := range p.admins {
		if c == nil {
			continue
		}
		list, err := r.prepared(c, i, adminTimeout)
		if err != nil {
			p.without(i, err)
			continue
		}
		for _, o := range list {
			p.pending[prepareKey(o.gid.txid, r.pools.Shards[i].Name)] = true
			if o.age >= grace && !r.inFlight.has(o.gid.txid) {
				orphans = append(orphans, o)
			}
		}
	}
	return orphans
}

// recover finishes an orphan, or notes why it can't be finished.
func (p *pass) recover(ctx context.Context, o orphan) bool {
	r := p.register
	d := doubt{id: r.id(o.gid.decider, o.gid.txid), shard: r.pools.Shards[o.shard].Name, state: stateUnknown, age: o.age}
	committed, err := false, fmt.Errorf("it waits for its decider, shard %s", o.gid.decider)
	if decider := r.shard(o.gid.decider); decider >= 0 && p.admins[decider] != nil {
		committed, err = settleOn(p.admins[decider], o.gid.txid, o.gid.backend)
		Reach(Settled, p.admins[decider])
		if err == nil {
			d.state = decided(committed)
			err = r.finish(ctx, o, committed)
		}
	}
	if err != nil {
		d.reason = err.Error()
		p.doubts = append(p.doubts, d)
		p.errs = append(p.errs, fmt.Errorf("prepared transaction %s on shard %s: %w", o.name, d.shard, err))
		return false
	}
	p.settled = append(p.settled, d.key())
	r.recovered = append(r.recovered, planner.QuoteLiteral(o.gid.txid))
	p.log.Info("finished a distributed transaction", "transaction", d.id, "shard", d.shard, "committed", committed, "age", o.age)
	return true
}

func (r *Register) shard(name string) int {
	for i, s := range r.pools.Shards {
		if s.Name == name {
			return i
		}
	}
	return -1
}

// prepared lists a shard's prepared transactions of this cluster.
func (r *Register) prepared(c *pool.Conn, shard int, within time.Duration) (out []orphan, err error) {
	res, err := c.QueryTimeout("SELECT gid, owner, "+microseconds("prepared")+
		" FROM pg_catalog.pg_prepared_xacts WHERE database = pg_catalog.current_database()", within)
	if err != nil {
		return nil, err
	}
	for _, row := range res.Rows {
		if g, ok := parseGid(string(row[0])); ok && g.cluster == r.Cluster {
			out = append(out, orphan{gid: g, name: string(row[0]), owner: string(row[1]), shard: shard, age: age(row[2])})
		}
	}
	return out, nil
}

// microseconds is SQL for how long ago an instant is, and age reads it.
func microseconds(at string) string {
	return "(pg_catalog.date_part('epoch', pg_catalog.clock_timestamp() - " + at + ") * 1000000)::bigint"
}

func age(value []byte) time.Duration {
	n, _ := strconv.ParseInt(string(value), 10, 64)
	return max(0, time.Duration(n)*time.Microsecond)
}

// finish carries a decision out on one participant, as the role that prepared it.
func (r *Register) finish(ctx context.Context, o orphan, committed bool) error {
	c, err := r.pools.Dial(ctx, o.shard, o.owner)
	setRole := false
	if err != nil {
		// The role may have no way to log in from here; a member of it has its rights.
		if c, err = r.pools.Admin(ctx, o.shard); err != nil {
			return err
		}
		setRole = true
	}
	defer c.Close()
	Reach(FinishOrphan, c)
	if setRole {
		if _, err := c.QueryTimeout("SET ROLE "+planner.QuoteIdent(o.owner), adminTimeout); err != nil {
			return err
		}
	}
	if err := finishOn(c, o.name, committed); err != nil {
		return err
	}
	Reach(OrphanFinished, nil)
	return nil
}

func finishOn(c *pool.Conn, name string, committed bool) error {
	verb := "ROLLBACK PREPARED "
	if committed {
		verb = "COMMIT PREPARED "
	}
	for wait := time.Millisecond; ; wait *= 2 {
		_, err := c.QueryTimeout(verb+planner.QuoteLiteral(name), adminTimeout)
		switch {
		case isCode(err, wire.UndefinedObject):
			return nil // someone else was faster
		case isCode(err, wire.ObjectNotInPrerequisiteState) && wait < time.Second:
			time.Sleep(wait) // busy: someone else is at it just now
		default:
			return err
		}
	}
}

// Finish commits a participant whose transaction is decided. It is for a session that waits
// for its own commit.
func (r *Register) Finish(shard int, name string) error {
	ctx, stop := context.WithTimeout(context.Background(), adminTimeout)
	defer stop()
	c, err := r.pools.Admin(ctx, shard)
	if err != nil {
		return err
	}
	defer c.Close()
	list, err := r.prepared(c, shard, adminTimeout)
	if err != nil {
		return err
	}
	for _, o := range list {
		if o.name == name { // its owner need not be the role that the session logged in as
			return r.finish(ctx, o, true)
		}
	}
	return nil
}

// clearDone deletes the decisions that this process has carried out everywhere.
func (r *Register) clearDone(admins []*pool.Conn) {
	for shard, ids := range r.done.take() {
		c := admins[shard]
		if c == nil || c.Broken {
			for _, id := range ids {
				r.done.add(shard, id)
			}
			continue
		}
		quoted := make([]string, len(ids))
		for i, id := range ids {
			quoted[i] = planner.QuoteLiteral(id)
		}
		c.QueryTimeout("DELETE FROM shardgate.decisions WHERE txid IN ("+strings.Join(quoted, ",")+")", adminTimeout)
	}
}

// coordinatorDone is how old a decision has to be for a recovery to look whether it has
// been carried out everywhere, unless it has done so itself: before, its coordinator will
// have deleted it.
const coordinatorDone = "1 minute"

// decision is a row of the register that names shards on which it may have to be carried
// out yet.
type decision struct {
	decider   int
	txid      string
	committed bool
	shards    []string // nil: not known
	age       time.Duration
}

// decisions reads rows of the register.
func (r *Register) decisions(c *pool.Conn, shard int, where string, within time.Duration) (out []decision, err error) {
	res, err := c.QueryTimeout("SELECT txid, committed, unfinished, "+microseconds("at")+" FROM shardgate.decisions WHERE "+where, within)
	if err != nil {
		return nil, err
	}
	for _, row := range res.Rows {
		d := decision{decider: shard, txid: string(row[0]), committed: string(row[1]) == "t", age: age(row[3])}
		if row[2] != nil {
			d.shards = strings.FieldsFunc(string(row[2]), func(r rune) bool { return r == ',' })
		}
		out = append(out, d)
	}
	return out, nil
}

// unfinished reads the decisions of which it has to be found out whether they have been
// carried out.
func (p *pass) unfinished() (out []decision) {
	where := "unfinished IS DISTINCT FROM '' AND (at < pg_catalog.clock_timestamp() - interval '" + coordinatorDone + "'"
	if r := p.register; len(r.recovered) > 0 {
		where += " OR txid IN (" + strings.Join(r.recovered, ",") + ")"
		r.recovered = nil
	}
	for i, c := range p.admins {
		if c == nil {
			continue
		}
		list, err := p.register.decisions(c, i, where+") LIMIT 1000", adminTimeout)
		if err != nil {
			p.without(i, err)
			continue
		}
		out = append(out, list...)
	}
	return out
}

// mark notes in the register which of the decisions have been carried out everywhere. They
// were read before it was listed what is prepared, and all participants are prepared before
// there is a decision to commit: what is prepared nowhere then is finished. A participant
// that is prepared after a decision to roll back is dealt with as any other.
func (p *pass) mark(open []decision) {
	r := p.register
	done := map[int][]string{}
	for _, d := range open {
		names, prepared, missing := d.shards, false, ""
		if names == nil {
			for _, s := range r.pools.Shards {
				names = append(names, s.Name)
			}
		}
		for _, name := range names {
			prepared = prepared || p.pending[prepareKey(d.txid, name)]
			if i := r.shard(name); i < 0 || p.admins[i] == nil {
				missing = name
			}
		}
		if missing == "" && !prepared {
			done[d.decider] = append(done[d.decider], planner.QuoteLiteral(d.txid))
			continue
		}
		r.recovered = append(r.recovered, planner.QuoteLiteral(d.txid)) // to be looked at again
		if missing != "" && d.shards != nil {
			p.doubts = append(p.doubts, doubt{id: r.id(r.pools.Shards[d.decider].Name, d.txid), shard: missing,
				state: decided(d.committed), age: d.age, reason: "the shard can't be reached"})
		}
	}
	for shard, ids := range done {
		p.run(shard, "UPDATE shardgate.decisions SET unfinished = '', at = pg_catalog.clock_timestamp() WHERE txid IN ("+strings.Join(ids, ",")+")")
	}
}

// run runs a statement on a shard if it can be reached.
func (p *pass) run(shard int, sql string) {
	if c := p.admins[shard]; c != nil {
		if _, err := c.QueryTimeout(sql, adminTimeout); err != nil {
			p.without(shard, err)
		}
	}
}

// clearOld deletes the decisions that have been carried out everywhere, after the time for
// which they are kept. One that says no goes only when, besides, the decider's backend is
// gone: it could still try to commit otherwise.
func (p *pass) clearOld() {
	for i, c := range p.admins {
		if c == nil {
			continue
		}
		// Nothing is deleted where there is nothing: a DELETE takes the fence.
		res, err := c.QueryTimeout(`SELECT pg_catalog.quote_literal(d.txid) FROM shardgate.decisions d
			WHERE d.unfinished = '' AND d.at < pg_catalog.clock_timestamp() - interval '`+fmt.Sprintf("%d milliseconds", p.register.Retention.Milliseconds())+`' AND (d.committed OR NOT EXISTS (
				SELECT FROM pg_catalog.pg_stat_get_activity(NULL) a
				WHERE a.pid = pg_catalog.split_part(d.backend, '.', 1)::int
				AND (a.backend_start IS NULL OR (extract(epoch FROM a.backend_start) * 1000000)::bigint = pg_catalog.split_part(d.backend, '.', 2)::bigint)
				AND (a.xact_start IS NULL AND a.backend_start IS NULL OR a.xact_start < d.at)))
			LIMIT 1000`, adminTimeout)
		if err != nil {
			p.without(i, err)
			continue
		}
		if ids := column(res); len(ids) > 0 {
			p.run(i, "DELETE FROM shardgate.decisions WHERE txid IN ("+strings.Join(ids, ",")+")")
		}
	}
}

// column is the first column of a result.
func column(res *pool.Result) (out []string) {
	for _, row := range res.Rows {
		out = append(out, string(row[0]))
	}
	return out
}
