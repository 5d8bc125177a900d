// Package txn commits transactions over several shards, and finishes what a lost
// gateway left. It does not know statements or clients.
//
// The governing idea: a transaction over several shards is committed exactly
// when one row on one of them, the decider, says so. The row's primary key makes
// the register write-once, so that a coordinator and any number of recoveries
// agree without a lease or a clock.
package txn

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/shardgate/shardgate/gateway/pool"
	"github.com/shardgate/shardgate/planner"
)

// installSQL makes the register on a shard. Clients' roles reach it through three
// functions alone, which want a proof that a gateway calls (see Register.proof).
//
// Row-level security without a policy keeps the tables from everybody but their
// owner: unlike grants, it holds against pg_read_all_data and against what ALTER
// DEFAULT PRIVILEGES gives to new tables. That is done once, since ALTER TABLE
// would wait for the transactions of other gateways, and they for it.
//
// decisions.unfinished names the shards, joined by commas, on which a decision may have
// to be carried out yet: all that were prepared, until a recovery has seen that none is
// any more. NULL means that they are not known. at is when the row was written, and
// later when that was seen.
//
// lock_timeout is for the client's statements: what a COMMIT waits for on PostgreSQL, it is not
// for.
//
// A decision is on disk before anybody acts by it, whatever the client's synchronous_commit: the
// other shards write to disk what they carry out.
const installSQL = `
BEGIN;
SELECT pg_catalog.pg_advisory_xact_lock(7236154918203651);
CREATE SCHEMA IF NOT EXISTS shardgate;
CREATE TABLE IF NOT EXISTS shardgate.identity (
	one boolean PRIMARY KEY DEFAULT true CHECK (one),
	cluster text NOT NULL,
	shard text NOT NULL,
	token text NOT NULL
);
CREATE TABLE IF NOT EXISTS shardgate.decisions (
	txid text PRIMARY KEY,
	committed boolean NOT NULL,
	backend text NOT NULL,
	at timestamptz NOT NULL DEFAULT pg_catalog.clock_timestamp(),
	unfinished text
);
DO $$ BEGIN -- a cluster that was begun before the column was
	IF NOT EXISTS (SELECT FROM pg_catalog.pg_attribute WHERE attrelid = 'shardgate.decisions'::pg_catalog.regclass AND attname = 'unfinished') THEN
		ALTER TABLE shardgate.decisions ADD COLUMN unfinished text;
	END IF;
END $$;
CREATE UNLOGGED TABLE IF NOT EXISTS shardgate.waits (
	txid text PRIMARY KEY,
	gateway text NOT NULL,
	began bigint NOT NULL,
	since bigint NOT NULL,
	backends text[] NOT NULL,
	at timestamptz NOT NULL DEFAULT pg_catalog.clock_timestamp()
);
CREATE OR REPLACE FUNCTION shardgate.seal() RETURNS void
	LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
	t record;
	g record;
BEGIN
	FOR t IN SELECT c.oid, c.oid::regclass AS name, c.relowner, c.relacl FROM pg_class c
		WHERE c.relnamespace = 'shardgate'::regnamespace AND c.relkind = 'r' AND NOT c.relrowsecurity
	LOOP
		EXECUTE format('ALTER TABLE %s ENABLE ROW LEVEL SECURITY', t.name);
		FOR g IN SELECT DISTINCT a.grantee FROM aclexplode(t.relacl) a WHERE a.grantee <> t.relowner LOOP
			EXECUTE format('REVOKE ALL ON %s FROM %s', t.name, CASE g.grantee WHEN 0 THEN 'PUBLIC' ELSE quote_ident(pg_get_userbyid(g.grantee)) END);
		END LOOP;
	END LOOP;
END $$;
CREATE OR REPLACE FUNCTION shardgate.prove(message text, proof text) RETURNS void
	LANGUAGE plpgsql AS $$
BEGIN -- by the search_path of its callers
	IF NOT EXISTS (SELECT FROM shardgate.identity i
		WHERE encode(sha256(convert_to(i.token, 'UTF8') || sha256(convert_to(i.token || message, 'UTF8'))), 'hex') = proof) THEN
		RAISE EXCEPTION 'permission denied for schema shardgate' USING ERRCODE = '42501';
	END IF;
END $$;
CREATE OR REPLACE FUNCTION shardgate.fence(gid text, proof text) RETURNS void
	LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET lock_timeout = 0 AS $$
BEGIN
	PERFORM shardgate.prove('fence ' || pg_backend_pid() || ' ' || gid, proof);
	LOCK TABLE shardgate.decisions IN ROW EXCLUSIVE MODE;
END $$;
CREATE OR REPLACE FUNCTION shardgate.decide_commit(txid text, backend text, unfinished text, proof text) RETURNS void
	LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET lock_timeout = 0 AS $$
BEGIN
	PERFORM shardgate.prove('decide ' || pg_backend_pid() || ' ' || txid || ' ' || backend || ' ' || unfinished, proof);
	INSERT INTO shardgate.decisions (txid, committed, backend, unfinished)
		VALUES (decide_commit.txid, true, decide_commit.backend, decide_commit.unfinished);
	IF current_setting('synchronous_commit') = 'off' THEN
		PERFORM set_config('synchronous_commit', 'local', true);
	END IF;
END $$;
CREATE OR REPLACE FUNCTION shardgate.share_fence(wait_ms int) RETURNS boolean
	LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
	IF wait_ms = 0 THEN
		LOCK TABLE shardgate.decisions IN SHARE MODE NOWAIT;
	ELSE
		PERFORM set_config('lock_timeout', wait_ms::text, true);
		LOCK TABLE shardgate.decisions IN SHARE MODE;
	END IF;
	RETURN true;
EXCEPTION WHEN lock_not_available THEN -- caught here, it is not in the server's log
	RETURN false;
END $$;
SELECT shardgate.seal();
REVOKE ALL ON FUNCTION shardgate.seal(), shardgate.prove(text, text), shardgate.share_fence(int) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION shardgate.fence(text, text), shardgate.decide_commit(text, text, text, text) TO PUBLIC;
GRANT USAGE ON SCHEMA shardgate TO PUBLIC;
COMMIT;
`

// adminTimeout bounds one statement of the gateway's own on a shard.
const adminTimeout = 10 * time.Second

// Register is the decision register of a cluster, as this gateway uses it.
type Register struct {
	Cluster string // identifies the cluster in the names of prepared transactions
	token   string // the key of proofs
	pools   *pool.Pools
	home    int

	// Fence keeps half a commit from those who read.
	Fence *Fence

	// Retention is for how long the decision on a transaction that was in doubt is kept
	// when it has been carried out everywhere.
	Retention time.Duration

	inFlight inFlight
	done     doneList
	doubts   doubts
	// recovered are the transactions of which the latest Recover has finished a part, or has
	// seen that something is yet to be finished.
	recovered []string
	looks     chan struct{} // one for each look at all shards that is under way
}

// Install makes the register on every shard, or checks what is there: that each
// server is the shard that the configuration takes it for. The cluster's
// identity is made on the home shard.
//
// name is the cluster's in the configuration; what identifies it in the names of
// prepared transactions is that and a random part, so that clusters of one name
// that share a server are told apart.
func Install(ctx context.Context, pools *pool.Pools, home int, name string) (*Register, error) {
	r := &Register{pools: pools, home: home, looks: make(chan struct{}, maxLooks)}
	r.Fence = newFence(r)
	order := []int{home}
	for i := range pools.Shards {
		if i != home {
			order = append(order, i)
		}
	}
	for _, i := range order {
		if err := r.install(ctx, i, name); err != nil {
			return nil, fmt.Errorf("shard %s: %w", pools.Shards[i].Name, err)
		}
	}
	return r, nil
}

func (r *Register) install(ctx context.Context, shard int, clusterName string) error {
	c, err := r.pools.Admin(ctx, shard)
	if err != nil {
		return err
	}
	defer c.Close()
	res, err := c.QueryTimeout("SELECT pg_catalog.pg_is_in_recovery()", adminTimeout)
	if err != nil {
		return err
	}
	if res.Value(0) == "t" {
		return errors.New("the server is a standby, which takes no writes: promote it, or give the URL of the primary")
	}
	if _, err := c.QueryTimeout(installSQL, time.Minute); err != nil {
		return fmt.Errorf("making the schema shardgate: %w", err)
	}
	name := r.pools.Shards[shard].Name
	cluster, token := r.Cluster, r.token
	if cluster == "" {
		cluster, token = clusterName+"-"+randomHex(4), randomHex(16)
	}
	insert := fmt.Sprintf("INSERT INTO shardgate.identity (cluster, shard, token) VALUES (%s, %s, %s) ON CONFLICT DO NOTHING",
		planner.QuoteLiteral(cluster), planner.QuoteLiteral(name), planner.QuoteLiteral(token))
	if _, err := c.QueryTimeout(insert, adminTimeout); err != nil {
		return err
	}
	res, err = c.QueryTimeout("SELECT cluster, shard, token FROM shardgate.identity", adminTimeout)
	if err != nil {
		return err
	}
	gotCluster, gotShard, gotToken := res.Value(0), res.Value(1), res.Value(2)
	if r.Cluster == "" {
		r.Cluster, r.token = gotCluster, gotToken
	}
	if had, _, _ := cutLast(gotCluster, "-"); had != clusterName {
		return fmt.Errorf("the server belongs to a cluster of the name %q, and cluster.name is %q: it can't be changed", had, clusterName)
	}
	if gotCluster != r.Cluster || gotToken != r.token {
		return fmt.Errorf("the server belongs to another cluster (%s, not %s): is the URL right?", gotCluster, r.Cluster)
	}
	if gotShard != name {
		return fmt.Errorf("the server is shard %q of this cluster: are the URLs of two shards exchanged, or was the shard renamed?", gotShard)
	}
	return nil
}

// cutLast cuts s at the last sep.
func cutLast(s, sep string) (before, after string, found bool) {
	if i := strings.LastIndex(s, sep); i >= 0 {
		return s[:i], s[i+len(sep):], true
	}
	return s, "", false
}

func randomHex(n int) string {
	b := make([]byte, n)
	rand.Read(b)
	return hex.EncodeToString(b)
}

// gid is the name of one participant's prepared transaction. It tells any
// gateway all that it needs to finish it.
type gid struct {
	cluster     string
	decider     string // shard
	txid        string
	participant string // shard
	backend     string // the decider's: pid.start
}

const gidPrefix = "sg1:"

func (g gid) String() string {
	return gidPrefix + strings.Join([]string{g.cluster, g.decider, g.txid, g.participant, g.backend}, ":")
}

func parseGid(s string) (gid, bool) {
	rest, ok := strings.CutPrefix(s, gidPrefix)
	parts := strings.Split(rest, ":")
	if !ok || len(parts) != 5 {
		return gid{}, false
	}
	return gid{parts[0], parts[1], parts[2], parts[3], parts[4]}, true
}
