package catalog

import (
	"fmt"
	"strconv"

	"github.com/shardgate/shardgate/configs"
	"github.com/shardgate/shardgate/gateway/pool"
	"github.com/shardgate/shardgate/planner"
	"github.com/shardgate/shardgate/shardmap"
)

// rules answers the planner from the configuration.
type rules struct{ config *configs.Config }

func (r rules) Rule(schema, table string) (planner.Rule, bool) {
	t, ok := r.config.Rule(schema, table)
	if !ok {
		return planner.Rule{}, false
	}
	return planner.Rule{Reference: t.Reference, Key: t.Key, Group: t.GroupOf(schema, table)}, true
}

const (
	// relationsSQL lists user relations, and the names of the system's. parent is
	// the table that a partition or an index belongs to.
	relationsSQL = `SELECT n.nspname, c.relname, c.oid, c.relkind,
			coalesce((SELECT i.indrelid FROM pg_index i WHERE i.indexrelid = c.oid),
				(SELECT h.inhparent FROM pg_inherits h WHERE h.inhrelid = c.oid ORDER BY h.inhseqno LIMIT 1), 0)
		FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
		WHERE c.relkind IN ('r', 'v', 'm', 'p', 'f', 'i', 'I', 'S') AND n.nspname NOT LIKE 'pg\_toast%' AND n.nspname NOT LIKE 'pg\_temp%'
			AND n.nspname NOT IN ('information_schema', 'shardgate') AND (n.nspname <> 'pg_catalog' OR c.relkind IN ('r', 'v'))`
	// columnsSQL lists the columns of user relations, with the worst volatility of
	// a default expression's functions; domains are resolved to their base types.
	columnsSQL = `WITH RECURSIVE base(oid, typ, typmod) AS (
			SELECT oid, oid, -1 FROM pg_type WHERE typtype <> 'd'
			UNION ALL
			SELECT t.oid, b.typ, CASE WHEN t.typtypmod >= 0 THEN t.typtypmod ELSE b.typmod END
			FROM pg_type t JOIN base b ON t.typbasetype = b.oid WHERE t.typtype = 'd')
		SELECT a.attrelid, a.attname, coalesce(b.typ, a.atttypid), CASE WHEN a.atttypmod >= 0 THEN a.atttypmod ELSE coalesce(b.typmod, -1) END,
			a.attnotnull, d.oid IS NOT NULL OR a.attidentity <> '', a.attgenerated <> '',
			a.attidentity <> '' OR coalesce(pg_get_expr(d.adbin, d.adrelid) LIKE '%nextval(%', false),
			CASE WHEN d.oid IS NULL THEN 'i'
				WHEN EXISTS (SELECT FROM pg_depend p JOIN pg_proc f ON f.oid = p.refobjid WHERE p.classid = 'pg_attrdef'::regclass AND p.objid = d.oid
					AND p.refclassid = 'pg_proc'::regclass AND f.provolatile = 'v') THEN 'v'
				ELSE coalesce((SELECT CASE WHEN bool_or(f.provolatile = 'v') THEN 'v' WHEN bool_or(f.provolatile = 's') THEN 's' END
					FROM pg_proc f WHERE f.pronamespace = 'pg_catalog'::regnamespace AND f.provolatile <> 'i'
					AND pg_get_expr(d.adbin, d.adrelid) ~ ('\m' || f.proname || '\(')),
					CASE WHEN pg_get_expr(d.adbin, d.adrelid) ~ '(CURRENT_|LOCALTIME)' THEN 's' ELSE 'i' END) END,
			coalesce((SELECT l.collisdeterministic FROM pg_collation l WHERE l.oid = a.attcollation), true)
		FROM pg_attribute a JOIN pg_class c ON c.oid = a.attrelid JOIN pg_namespace n ON n.oid = c.relnamespace
		LEFT JOIN pg_attrdef d ON d.adrelid = a.attrelid AND d.adnum = a.attnum
		LEFT JOIN base b ON b.oid = a.atttypid
		WHERE a.attnum > 0 AND NOT a.attisdropped AND c.relkind IN ('r', 'v', 'm', 'p', 'f')
			AND n.nspname NOT IN ('pg_catalog', 'information_schema', 'shardgate') AND n.nspname NOT LIKE 'pg\_%'
		ORDER BY a.attrelid, a.attnum`
	// viewsSQL lists what each view reads directly.
	viewsSQL = `SELECT DISTINCT w.ev_class, p.refobjid FROM pg_rewrite w
		JOIN pg_depend p ON p.classid = 'pg_rewrite'::regclass AND p.objid = w.oid AND p.refclassid = 'pg_class'::regclass
		JOIN pg_class c ON c.oid = w.ev_class AND c.relkind = 'v'
		JOIN pg_namespace n ON n.oid = c.relnamespace
		WHERE p.refobjid <> w.ev_class AND n.nspname NOT IN ('pg_catalog', 'information_schema')`
	// functionsSQL lists functions by name, with the source of the user's own.
	functionsSQL = `SELECT f.proname, max(CASE f.provolatile WHEN 'i' THEN 0 WHEN 's' THEN 1 ELSE 2 END),
			bool_or(f.prokind = 'a'), bool_or(f.prokind = 'w'), bool_or(f.pronamespace <> 'pg_catalog'::regnamespace),
			string_agg(CASE WHEN f.pronamespace <> 'pg_catalog'::regnamespace AND l.lanname NOT IN ('c', 'internal')
				THEN coalesce(f.prosrc, '') || ' ' || coalesce(pg_get_function_sqlbody(f.oid), '') END, E'\n')
		FROM pg_proc f JOIN pg_language l ON l.oid = f.prolang
		WHERE f.pronamespace NOT IN (SELECT oid FROM pg_namespace WHERE nspname IN ('information_schema', 'shardgate'))
		GROUP BY f.proname`
)

// relation is a table while the schema is put together.
type relation struct {
	*planner.Table
	parent  uint32
	typmods []int32
	reads   []uint32 // of a view
	decided bool
}

// loadSchema reads the home shard's catalog.
func (c *Catalog) loadSchema(home *pool.Conn, version int64) (*planner.Schema, error) {
	rels, order, err := c.loadRelations(home)
	if err != nil {
		return nil, err
	}
	for _, oid := range order {
		c.distribute(rels, rels[oid], 0)
	}
	var tables []*planner.Table
	for _, oid := range order {
		tables = append(tables, rels[oid].Table)
	}
	// Which functions mention distributed tables needs those tables to be known.
	half := planner.NewSchema(version, tables, nil, rules{c.config})
	functions, err := loadFunctions(home, half)
	if err != nil {
		return nil, err
	}
	schema := planner.NewSchema(version, tables, functions, rules{c.config})
	res, err := home.QueryTimeout("SELECT nspname FROM pg_namespace", timeout)
	if err != nil {
		return nil, fmt.Errorf("reading schemas: %w", err)
	}
	schema.Namespaces = map[string]bool{}
	for _, row := range res.Rows {
		schema.Namespaces[string(row[0])] = true
	}
	return schema, nil
}

func (c *Catalog) loadRelations(home *pool.Conn) (map[uint32]*relation, []uint32, error) {
	res, err := home.QueryTimeout(relationsSQL, timeout)
	if err != nil {
		return nil, nil, fmt.Errorf("reading relations: %w", err)
	}
	rels := make(map[uint32]*relation, len(res.Rows))
	var order []uint32
	for _, row := range res.Rows {
		oid := number(row[2])
		rels[oid] = &relation{Table: &planner.Table{Schema: string(row[0]), Name: string(row[1]), OID: oid, Kind: row[3][0]}, parent: number(row[4])}
		order = append(order, oid)
	}
	if res, err = home.QueryTimeout(columnsSQL, timeout); err != nil {
		return nil, nil, fmt.Errorf("reading columns: %w", err)
	}
	for _, row := range res.Rows {
		r := rels[number(row[0])]
		if r == nil {
			continue
		}
		typmod, _ := strconv.ParseInt(string(row[3]), 10, 32)
		r.typmods = append(r.typmods, int32(typmod))
		r.Columns = append(r.Columns, planner.Column{
			Name: string(row[1]), Type: number(row[2]), NotNull: isTrue(row[4]), HasDefault: isTrue(row[5]),
			Generated: isTrue(row[6]), Sequence: isTrue(row[7]), Default: volatility(row[8]), Deterministic: isTrue(row[9]),
		})
	}
	if res, err = home.QueryTimeout(viewsSQL, timeout); err != nil {
		return nil, nil, fmt.Errorf("reading views: %w", err)
	}
	for _, row := range res.Rows {
		if r := rels[number(row[0])]; r != nil {
			r.reads = append(r.reads, number(row[1]))
		}
	}
	return rels, order, nil
}

// maxNesting bounds views over views and partitions of partitions.
const maxNesting = 100

// distribute decides where a relation's rows are.
func (c *Catalog) distribute(rels map[uint32]*relation, r *relation, depth int) {
	if r.decided || depth > maxNesting {
		return
	}
	r.decided = true
	if r.Schema == "pg_catalog" || r.Kind == 'S' {
		return
	}
	if p := rels[r.parent]; p != nil {
		// An index or a partition is where its table is.
		c.distribute(rels, p, depth+1)
		r.Distribution = p.Distribution
		if p.Key != nil && r.Kind != 'i' && r.Kind != 'I' {
			r.Key = c.key(r, keyNames(p), p.Key.Group)
		}
		return
	}
	if r.Kind == 'v' {
		c.distributeView(rels, r, depth)
		return
	}
	rule, ok := rules{c.config}.Rule(r.Schema, r.Name)
	if !ok || r.Kind == 'm' || r.Kind == 'f' || r.Kind == 'i' || r.Kind == 'I' {
		return
	}
	if rule.Reference {
		r.Distribution = planner.Reference
		return
	}
	r.Distribution = planner.Sharded
	r.Key = c.key(r, rule.Key, rule.Group)
}

func (c *Catalog) distributeView(rels map[uint32]*relation, r *relation, depth int) {
	sharded, reference, local := false, false, false
	for _, oid := range r.reads {
		b := rels[oid]
		if b == nil {
			local = true
			continue
		}
		c.distribute(rels, b, depth+1)
		switch b.Distribution {
		case planner.Sharded, planner.ShardedView:
			sharded = true
		case planner.Reference:
			reference = true
		default:
			local = true
		}
	}
	switch {
	case sharded:
		r.Distribution = planner.ShardedView
	case reference && local:
		r.Distribution = planner.MixedView
	case reference:
		r.Distribution = planner.Reference
	}
}

func keyNames(r *relation) []string {
	var out []string
	for _, n := range r.Key.Columns {
		out = append(out, r.Columns[n].Name)
	}
	return out
}

// key makes a sharded table's key. It is nil, and the table can't be used, when
// the table does not have the columns or they can't be hashed.
func (c *Catalog) key(r *relation, names []string, group string) *planner.Key {
	k := &planner.Key{Group: group}
	for _, name := range names {
		i := r.Column(name)
		if i < 0 {
			c.log.Error("a sharded table lacks its key column", "table", r.Table.String(), "column", name)
			return nil
		}
		t, ok := shardmap.KeyTypeOfOID(r.Columns[i].Type)
		if !ok || !r.Columns[i].Deterministic {
			c.log.Error("a sharded table's key column has a type or a collation that can't be a key", "table", r.Table.String(), "column", name)
			return nil
		}
		k.Columns = append(k.Columns, i)
		k.Types = append(k.Types, t)
		k.Typmods = append(k.Typmods, r.typmods[i])
	}
	return k
}

func loadFunctions(home *pool.Conn, schema *planner.Schema) (map[string]planner.Function, error) {
	res, err := home.QueryTimeout(functionsSQL, timeout)
	if err != nil {
		return nil, fmt.Errorf("reading functions: %w", err)
	}
	out := make(map[string]planner.Function, len(res.Rows))
	for _, row := range res.Rows {
		f := planner.Function{Volatility: planner.Volatility(number(row[1])), Aggregate: isTrue(row[2]), Window: isTrue(row[3]), User: isTrue(row[4])}
		if row[5] != nil {
			f.Tables = schema.Mentions(string(row[5])) != ""
		}
		out[string(row[0])] = f
	}
	return out, nil
}

func number(b []byte) uint32 {
	n, _ := strconv.ParseUint(string(b), 10, 32)
	return uint32(n)
}

func isTrue(b []byte) bool { return len(b) == 1 && b[0] == 't' }

func volatility(b []byte) planner.Volatility {
	switch string(b) {
	case "i":
		return planner.Immutable
	case "s":
		return planner.Stable
	}
	return planner.Volatile
}
