// Package catalog reads the schema from the shards and keeps the shard map on the
// home shard. What it gives out are immutable snapshots: a statement takes one
// and plans and runs by it.
//
// The governing idea: the home shard's catalog is the truth about the schema, and
// the map stored there the truth about where rows are; what a gateway has in
// memory is a copy with a version.
package catalog

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/shardgate/shardgate/configs"
	"github.com/shardgate/shardgate/gateway/pool"
	"github.com/shardgate/shardgate/planner"
	"github.com/shardgate/shardgate/planner/sqltext"
	"github.com/shardgate/shardgate/shardmap"
)

// Snapshot is one version of the schema and of the shard map.
type Snapshot struct {
	Schema *planner.Schema
	Map    *shardmap.Map
	// OIDs translate, for each shard, its OIDs of user-defined types and tables
	// to the home shard's; nil where none differ.
	OIDs []map[uint32]uint32
	// Own are the inverse.
	Own []map[uint32]uint32
	// Nested are the user-defined types whose values in binary have OIDs of types
	// in them, by the home shard's OIDs: 'a' for arrays of user-defined types, 'r'
	// for composite types.
	Nested map[uint32]byte

	// Active are the shards that hold slots, and the home shard, which comes first.
	Active []int

	shards   []int // the map's shard indexes -> the pools'
	catalog  *Catalog
	mu       sync.Mutex
	planners map[string]*planner.Planner
}

// ShardOf returns the index of the shard that has a slot.
func (s *Snapshot) ShardOf(slot shardmap.Slot) int { return s.shards[s.Map.ShardOf(slot)] }

// maxPlanners bounds the search paths for which plans are cached separately.
const maxPlanners = 100

// Planner returns the planner, with its cache, for a search_path and a role.
func (s *Snapshot) Planner(path, role string, names func(string) []string) *planner.Planner {
	key := path
	if strings.Contains(path, "$user") {
		key += "\x00" + role
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	p := s.planners[key]
	if p == nil {
		if len(s.planners) >= maxPlanners {
			clear(s.planners)
		}
		p = s.newPlanner(names(path), nil, s.catalog.planEntries)
		s.planners[key] = p
	}
	return p
}

// PrivatePlanner returns a planner for a session with temporary relations.
func (s *Snapshot) PrivatePlanner(path []string, temp map[string]bool) *planner.Planner {
	return s.newPlanner(path, temp, 256)
}

func (s *Snapshot) newPlanner(path []string, temp map[string]bool, entries int) *planner.Planner {
	return &planner.Planner{
		Env: planner.Env{Schema: s.Schema, Shards: len(s.catalog.pools.Shards), SearchPath: path, Temp: temp,
			Panicked: s.catalog.planPanicked},
		Guard: sqltext.GuardLimits{Bytes: s.catalog.statementBytes}, Cached: planner.NewCache(entries),
	}
}

// Catalog gives out the current snapshot.
type Catalog struct {
	pools          *pool.Pools
	home           int
	config         *configs.Config
	log            *slog.Logger
	planEntries    int
	statementBytes int

	current atomic.Pointer[Snapshot]
	loading sync.Mutex
}

// Current returns the latest snapshot.
func (c *Catalog) Current() *Snapshot { return c.current.Load() }

const timeout = 30 * time.Second

// installSQL makes the map's table and the schema's version on the home shard.
// A client's transaction raises the version by a gateway's call only. txn.Install has
// made the rest of the schema shardgate.
const installSQL = `
BEGIN;
SELECT pg_catalog.pg_advisory_xact_lock(7236154918203651);
CREATE TABLE IF NOT EXISTS shardgate.map (version bigint PRIMARY KEY, map bytea NOT NULL, at timestamptz NOT NULL DEFAULT pg_catalog.now());
CREATE TABLE IF NOT EXISTS shardgate.schema_version (one boolean PRIMARY KEY DEFAULT true CHECK (one), version bigint NOT NULL);
INSERT INTO shardgate.schema_version (version) VALUES (1) ON CONFLICT DO NOTHING;
` + placedSQL + `;
CREATE OR REPLACE FUNCTION shardgate.schema_changed(nonce text, proof text) RETURNS void
	LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
	PERFORM shardgate.prove('schema ' || pg_backend_pid() || ' ' || nonce, proof);
	UPDATE shardgate.schema_version SET version = version + 1;
END $$;
SELECT shardgate.seal();
GRANT EXECUTE ON FUNCTION shardgate.schema_changed(text, text) TO PUBLIC;
COMMIT;
`

// Open reads the catalog, and makes the shard map if there is none yet.
func Open(ctx context.Context, pools *pool.Pools, home int, cfg *configs.Config, log *slog.Logger) (*Catalog, error) {
	c := &Catalog{pools: pools, home: home, config: cfg, log: log,
		planEntries: cfg.Limits.PlanCacheEntries, statementBytes: int(cfg.Limits.StatementBytes)}
	conn, err := pools.Admin(ctx, home)
	if err != nil {
		return nil, err
	}
	defer conn.Close()
	if _, err := conn.QueryTimeout(installSQL, timeout); err != nil {
		return nil, fmt.Errorf("making the catalog on the home shard: %w", err)
	}
	problems, err := c.load(ctx)
	if err == nil {
		err = errors.Join(problems...)
	}
	if err != nil {
		return nil, err
	}
	return c, nil
}

// Version reads the schema's version on the home shard.
func (c *Catalog) version(conn *pool.Conn) (int64, error) {
	res, err := conn.QueryTimeout("SELECT version FROM shardgate.schema_version", timeout)
	if err != nil {
		return 0, err
	}
	return strconv.ParseInt(res.Value(0), 10, 64)
}

// planPanicked logs a fault of the planner. The statement's text may hold secrets.
func (c *Catalog) planPanicked(value any, stack []byte) {
	c.log.Error("the planner has panicked at a statement, which was refused", "panic", fmt.Sprint(value), "stack", string(stack))
}

// Reload reads the catalog anew.
func (c *Catalog) Reload(ctx context.Context) error {
	problems, err := c.load(ctx)
	for _, p := range problems {
		c.log.Error("a sharded table can't be used", "error", p)
	}
	return err
}

// Poll reloads if another gateway has changed the schema.
func (c *Catalog) Poll(ctx context.Context) error {
	conn, err := c.pools.Admin(ctx, c.home)
	if err != nil {
		return err
	}
	defer conn.Close()
	v, err := c.version(conn)
	if err != nil || v == c.Current().Schema.Version {
		return err
	}
	return c.Reload(ctx)
}

// load reads everything. The problems are those of tables that can't be used; the
// snapshot is in force all the same.
func (c *Catalog) load(ctx context.Context) (problems []error, err error) {
	c.loading.Lock()
	defer c.loading.Unlock()
	conns := make([]*pool.Conn, len(c.pools.Shards))
	defer func() {
		for _, conn := range conns {
			if conn != nil {
				conn.Close()
			}
		}
	}()
	for i := range conns {
		conn, err := c.pools.Admin(ctx, i)
		if err != nil {
			return nil, err
		}
		conns[i] = conn
	}
	home := conns[c.home]
	if _, err := home.QueryTimeout("SET search_path = pg_catalog", timeout); err != nil {
		return nil, err
	}
	// The version is read first: what changes meanwhile is then read once more.
	version, err := c.version(home)
	if err != nil {
		return nil, err
	}
	m, err := c.loadMap(home)
	if err != nil {
		return nil, err
	}
	r := &reading{Catalog: c}
	s := &Snapshot{Map: m, catalog: c, planners: map[string]*planner.Planner{}}
	if s.shards, err = c.indexes(m); err != nil {
		return nil, err
	}
	s.Active = append(s.Active, c.home)
	for _, i := range s.shards {
		if i != c.home {
			s.Active = append(s.Active, i)
		}
	}
	if s.Schema, err = r.loadSchema(home, version); err != nil {
		return nil, err
	}
	if s.OIDs, s.Own, err = c.loadOIDs(conns); err != nil {
		return nil, err
	}
	if s.Nested, err = loadNested(home); err != nil {
		return nil, err
	}
	if err := r.verify(conns, s); err != nil {
		return nil, fmt.Errorf("looking whether rows are where they belong: %w", err)
	}
	c.current.Store(s)
	return r.problems, nil
}

// Within reads the schema as the transaction of conn, a connection to the home
// shard, sees it: with what the transaction has created. The snapshot is for that
// transaction only.
//
// It may wait for locks that other transactions hold, and so holds none itself that
// they may come to want.
func (c *Catalog) Within(conn *pool.Conn) (*Snapshot, error) {
	base := c.Current()
	if _, err := conn.QueryTimeout("SAVEPOINT shardgate; SET LOCAL search_path = pg_catalog, pg_temp", timeout); err != nil {
		return nil, err
	}
	schema, err := (&reading{Catalog: c}).loadSchema(conn, base.Schema.Version)
	if _, e := conn.QueryTimeout("ROLLBACK TO SAVEPOINT shardgate; RELEASE SAVEPOINT shardgate", timeout); err == nil {
		err = e
	}
	if err != nil {
		return nil, err
	}
	s := &Snapshot{Schema: schema, Map: base.Map, OIDs: base.OIDs, Own: base.Own, Nested: base.Nested, Active: base.Active, shards: base.shards,
		catalog: c, planners: map[string]*planner.Planner{}}
	return s, nil
}

// loadMap reads the newest map, or places the slots for the first time.
func (c *Catalog) loadMap(home *pool.Conn) (*shardmap.Map, error) {
	const read = "SELECT encode(map, 'hex') FROM shardgate.map ORDER BY version DESC LIMIT 1"
	res, err := home.QueryTimeout(read, timeout)
	if err != nil {
		return nil, err
	}
	if len(res.Rows) == 0 {
		var shards []shardmap.Shard
		for _, s := range c.config.Shards {
			shards = append(shards, shardmap.Shard{Name: s.Name, Weight: s.Weight})
		}
		m, err := shardmap.Place(shards)
		if err != nil {
			return nil, err
		}
		b, err := m.MarshalBinary()
		if err != nil {
			return nil, err
		}
		// Another gateway may be faster: what is stored then counts.
		insert := fmt.Sprintf(`INSERT INTO shardgate.map (version, map) VALUES (%d, '\x%x') ON CONFLICT DO NOTHING`, m.Version(), b)
		if _, err := home.QueryTimeout(insert, timeout); err != nil {
			return nil, err
		}
		if res, err = home.QueryTimeout(read, timeout); err != nil {
			return nil, err
		}
	}
	b := make([]byte, len(res.Value(0))/2)
	if _, err := fmt.Sscanf(res.Value(0), "%x", &b); err != nil {
		return nil, fmt.Errorf("the stored shard map can't be read: %w", err)
	}
	m, err := shardmap.ParseMap(b)
	if err != nil {
		return nil, fmt.Errorf("the stored shard map can't be read: %w", err)
	}
	return m, nil
}

// indexes finds the map's shards among the configured ones.
func (c *Catalog) indexes(m *shardmap.Map) ([]int, error) {
	out := make([]int, len(m.Shards()))
	known := map[string]bool{}
	for i, name := range m.Shards() {
		known[name] = true
		out[i] = -1
		for k, s := range c.pools.Shards {
			if s.Name == name {
				out[i] = k
			}
		}
		if out[i] < 0 {
			return nil, fmt.Errorf("shard %q holds rows by the stored shard map, and is not in the configuration: add it", name)
		}
	}
	for _, s := range c.pools.Shards {
		if !known[s.Name] {
			c.log.Warn("a shard of the configuration takes no part: the stored shard map was made without it", "shard", s.Name)
		}
	}
	return out, nil
}

// loadOIDs compares the OIDs of user-defined types and tables by their names.
func (c *Catalog) loadOIDs(conns []*pool.Conn) (toHome, toOwn []map[uint32]uint32, err error) {
	const query = `SELECT 't.' || quote_ident(n.nspname) || '.' || quote_ident(t.typname), t.oid
		FROM pg_catalog.pg_type t JOIN pg_catalog.pg_namespace n ON n.oid = t.typnamespace
		WHERE t.oid >= 16384 AND n.nspname NOT LIKE 'pg\_%'
		UNION ALL
		SELECT 'c.' || quote_ident(n.nspname) || '.' || quote_ident(r.relname), r.oid
		FROM pg_catalog.pg_class r JOIN pg_catalog.pg_namespace n ON n.oid = r.relnamespace
		WHERE r.oid >= 16384 AND r.relkind IN ('r', 'v', 'm', 'p', 'f') AND n.nspname NOT LIKE 'pg\_%'`
	names := make([]map[string]uint32, len(conns))
	for i, conn := range conns {
		res, err := conn.QueryTimeout(query, timeout)
		if err != nil {
			return nil, nil, err
		}
		names[i] = make(map[string]uint32, len(res.Rows))
		for _, row := range res.Rows {
			oid, _ := strconv.ParseUint(string(row[1]), 10, 32)
			names[i][string(row[0])] = uint32(oid)
		}
	}
	toHome = make([]map[uint32]uint32, len(conns))
	toOwn = make([]map[uint32]uint32, len(conns))
	for i := range conns {
		for name, own := range names[i] {
			if home, ok := names[c.home][name]; ok && home != own {
				if toHome[i] == nil {
					toHome[i], toOwn[i] = map[uint32]uint32{}, map[uint32]uint32{}
				}
				toHome[i][own] = home
				toOwn[i][home] = own
			}
		}
	}
	return toHome, toOwn, nil
}

// loadNested reads Snapshot.Nested. A domain is like the type that it is over.
func loadNested(home *pool.Conn) (map[uint32]byte, error) {
	res, err := home.QueryTimeout(`WITH RECURSIVE based(oid, base) AS (
			SELECT oid, oid FROM pg_catalog.pg_type WHERE oid >= 16384
			UNION ALL SELECT b.oid, t.typbasetype FROM based b JOIN pg_catalog.pg_type t ON t.oid = b.base WHERE t.typtype = 'd')
		SELECT b.oid, CASE t.typtype WHEN 'c' THEN 'r' ELSE 'a' END FROM based b JOIN pg_catalog.pg_type t ON t.oid = b.base
		WHERE t.typtype = 'c' OR t.typsubscript = 'pg_catalog.array_subscript_handler'::pg_catalog.regproc AND t.typelem >= 16384`, timeout)
	if err != nil {
		return nil, err
	}
	nested := make(map[uint32]byte, len(res.Rows))
	for _, row := range res.Rows {
		oid, _ := strconv.ParseUint(string(row[0]), 10, 32)
		nested[uint32(oid)] = row[1][0]
	}
	return nested, nil
}
