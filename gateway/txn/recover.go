package txn

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"time"

	"github.com/shardgate/shardgate/gateway/pool"
	"github.com/shardgate/shardgate/planner"
	"github.com/shardgate/shardgate/wire"
)

// settle makes the register say whether txid is committed: if it holds no row,
// it gets one that says no. known is false when the decider can't be reached.
func (r *Register) settle(decider int, txid, backend string) (committed, known bool) {
	ctx, stop := context.WithTimeout(context.Background(), adminTimeout)
	defer stop()
	c, err := r.pools.Admin(ctx, decider)
	if err != nil {
		return false, false
	}
	defer c.Close()
	committed, err = settleOn(c, txid, backend)
	return committed, err == nil
}

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
}

// Recover looks once at all shards, finishes the distributed transactions that
// were prepared longer ago than grace and are not this process's own, and clears
// decisions that nobody needs any more. It returns how many it finished. An
// error says that some shard could not be dealt with; the next call tries again.
func (r *Register) Recover(ctx context.Context, grace time.Duration, log *slog.Logger) (finished int, err error) {
	admins := make([]*pool.Conn, len(r.pools.Shards))
	defer func() {
		for _, c := range admins {
			if c != nil {
				c.Close()
			}
		}
	}()
	var errs []error
	for i := range admins {
		c, err := r.pools.Admin(ctx, i)
		if err != nil {
			errs = append(errs, err)
			continue
		}
		admins[i] = c
	}
	// What is prepared is listed first, and the register written after: a
	// transaction that appears in between has a coordinator of its own.
	var orphans []orphan
	pending := map[string]bool{} // transactions that have a prepared participant somewhere
	for i, c := range admins {
		if c == nil {
			continue
		}
		list, err := r.prepared(c, i, grace, pending)
		if err != nil {
			errs = append(errs, err)
			c.Close()
			admins[i] = nil
			continue
		}
		orphans = append(orphans, list...)
	}
	Reach(Listed, nil)
	for _, o := range orphans {
		d := r.shard(o.gid.decider)
		if d < 0 || admins[d] == nil {
			errs = append(errs, fmt.Errorf("prepared transaction %s on shard %s waits for its decider, shard %s", o.name, r.pools.Shards[o.shard].Name, o.gid.decider))
			continue
		}
		committed, err := settleOn(admins[d], o.gid.txid, o.gid.backend)
		Reach(Settled, admins[d])
		if err == nil {
			err = r.finish(ctx, o, committed)
		}
		if err != nil {
			errs = append(errs, fmt.Errorf("prepared transaction %s on shard %s: %w", o.name, r.pools.Shards[o.shard].Name, err))
			continue
		}
		finished++
		log.Info("finished a distributed transaction", "txid", o.gid.txid, "shard", r.pools.Shards[o.shard].Name, "committed", committed)
	}
	Reach(ClearDecisions, admins[r.home])
	r.clearDone(admins)
	if len(errs) == 0 {
		if err := r.clearOld(admins, pending); err != nil {
			errs = append(errs, err)
		}
	}
	return finished, errors.Join(errs...)
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
func (r *Register) prepared(c *pool.Conn, shard int, grace time.Duration, pending map[string]bool) ([]orphan, error) {
	res, err := c.QueryTimeout("SELECT gid, owner, prepared < pg_catalog.clock_timestamp() - interval '"+
		fmt.Sprintf("%d milliseconds", grace.Milliseconds())+"' FROM pg_catalog.pg_prepared_xacts WHERE database = pg_catalog.current_database()", adminTimeout)
	if err != nil {
		return nil, err
	}
	var out []orphan
	for _, row := range res.Rows {
		g, ok := parseGid(string(row[0]))
		if !ok || g.cluster != r.Cluster {
			continue
		}
		pending[g.txid] = true
		if string(row[2]) != "t" || r.inFlight.has(g.txid) {
			continue
		}
		out = append(out, orphan{gid: g, name: string(row[0]), owner: string(row[1]), shard: shard})
	}
	return out, nil
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

// Finish commits a participant whose transaction is decided, on behalf of the
// role that prepared it. It is for a session that waits for its own commit.
func (r *Register) Finish(shard int, role, name string) error {
	ctx, stop := context.WithTimeout(context.Background(), adminTimeout)
	defer stop()
	return r.finish(ctx, orphan{name: name, owner: role, shard: shard}, true)
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

// keepDecisions is for how long a decision is kept although nothing seems to
// need it: longer than any coordinator takes from its last PREPARE to its last
// COMMIT PREPARED.
const keepDecisions = "10 minutes"

// clearOld deletes old decisions whose transaction is prepared nowhere, all
// shards having been looked at. One that says no goes only when, besides, the
// decider's backend is gone: it could still try to commit otherwise.
func (r *Register) clearOld(admins []*pool.Conn, pending map[string]bool) error {
	for _, c := range admins {
		res, err := c.QueryTimeout(`SELECT d.txid FROM shardgate.decisions d
			WHERE d.at < pg_catalog.clock_timestamp() - interval '`+keepDecisions+`' AND (d.committed OR NOT EXISTS (
				SELECT FROM pg_catalog.pg_stat_get_activity(NULL) a
				WHERE a.pid = pg_catalog.split_part(d.backend, '.', 1)::int
				AND (a.backend_start IS NULL OR (extract(epoch FROM a.backend_start) * 1000000)::bigint = pg_catalog.split_part(d.backend, '.', 2)::bigint)
				AND (a.xact_start IS NULL AND a.backend_start IS NULL OR a.xact_start < d.at)))
			LIMIT 1000`, adminTimeout)
		if err != nil {
			return err
		}
		var ids []string
		for _, row := range res.Rows {
			if !pending[string(row[0])] {
				ids = append(ids, planner.QuoteLiteral(string(row[0])))
			}
		}
		if len(ids) > 0 {
			if _, err := c.QueryTimeout("DELETE FROM shardgate.decisions WHERE txid IN ("+strings.Join(ids, ",")+")", adminTimeout); err != nil {
				return err
			}
		}
	}
	return nil
}
