package catalog

import (
	"fmt"
	"strconv"
	"strings"

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
	// columnsSQL lists the columns of user relations with their default expressions.
	columnsSQL = `SELECT a.attrelid, a.attname, a.atttypid, a.atttypmod, a.attnotnull, a.attgenerated <> '', a.attidentity <> '',
			CASE WHEN a.attidentity <> '' THEN
				(SELECT format('nextval(%L::regclass)', s.oid::regclass) FROM pg_depend e JOIN pg_class s ON s.oid = e.objid AND s.relkind = 'S'
					WHERE e.classid = 'pg_class'::regclass AND e.refclassid = 'pg_class'::regclass AND e.refobjid = a.attrelid AND e.refobjsubid = a.attnum AND e.deptype = 'i')
			ELSE pg_get_expr(d.adbin, d.adrelid) END,
			a.attcollation = 0 OR (SELECT l.collisdeterministic FROM pg_collation l WHERE l.oid = a.attcollation),
			t.oid < 16384 AND t.typtype IN ('b', 'r', 'm') AND t.typcategory <> 'A',
			(SELECT quote_ident(s.nspname) || '.' || quote_ident(l.collname) FROM pg_collation l JOIN pg_namespace s ON s.oid = l.collnamespace
				WHERE l.oid = a.attcollation AND l.oid <> 100),
			coalesce((SELECT CASE l.collprovider WHEN 'b' THEN true WHEN 'c' THEN l.collcollate IN ('C', 'POSIX')
					WHEN 'd' THEN (SELECT d.datlocprovider = 'b' OR d.datlocprovider = 'c' AND d.datcollate IN ('C', 'POSIX')
						FROM pg_database d WHERE d.datname = current_database()) END
				FROM pg_collation l WHERE l.oid = a.attcollation), false),
			EXISTS (SELECT FROM pg_index i WHERE i.indrelid = a.attrelid AND i.indisprimary AND i.indimmediate AND a.attnum = ANY (i.indkey)),
			EXISTS (SELECT FROM pg_index i WHERE i.indrelid = a.attrelid AND (i.indisunique OR i.indisexclusion)
				AND (a.attnum = ANY (i.indkey) OR 0 = ANY (i.indkey) OR i.indpred IS NOT NULL)),
			a.attidentity = 'a'
		FROM pg_attribute a JOIN pg_class c ON c.oid = a.attrelid JOIN pg_namespace n ON n.oid = c.relnamespace
		JOIN pg_type t ON t.oid = a.atttypid
		LEFT JOIN pg_attrdef d ON d.adrelid = a.attrelid AND d.adnum = a.attnum
		WHERE a.attnum > 0 AND NOT a.attisdropped AND c.relkind IN ('r', 'v', 'm', 'p', 'f')
			AND n.nspname NOT IN ('pg_catalog', 'information_schema', 'shardgate') AND n.nspname NOT LIKE 'pg\_%'
		ORDER BY a.attrelid, a.attnum`
	// domainsSQL lists domains with the types below them.
	domainsSQL = `SELECT oid, typbasetype, typtypmod FROM pg_type WHERE typtype = 'd' AND oid >= 16384`
	// carriedSQL lists types with the names by which planner.Carried knows them, and whether
	// their values travel as text: enums, citext, and arrays and composites of types whose text
	// says all under any settings. Those by OID are bool, bytea, "char", name, int8, int2, int4,
	// text, oid, json, jsonb, uuid, numeric, bpchar, varchar, bit, varbit, inet, cidr, macaddr,
	// macaddr8, tsvector, tsquery, and the ranges and multiranges of numbers.
	carriedSQL = `WITH plain AS (SELECT oid, typtype FROM pg_type t
			WHERE oid = ANY ('{16,17,18,19,20,21,23,25,26,114,3802,2950,1700,1042,1043,1560,1562,869,650,829,774,3614,3615,3904,3906,3926,4451,4532,4536}')
				OR oid >= 16384 AND typtype = 'e'
				OR oid >= 16384 AND typtype = 'b' AND EXISTS (SELECT FROM pg_proc f WHERE f.oid = t.typinput AND f.prosrc = 'textin' AND f.prolang = 12)),
			lists AS (SELECT t.oid FROM pg_type t JOIN plain p ON p.oid = t.typelem WHERE t.typcategory = 'A' AND t.typlen = -1),
			composites AS (SELECT t.oid FROM pg_type t JOIN pg_class c ON c.oid = t.typrelid
				WHERE t.typtype = 'c' AND c.relkind = 'c' AND NOT EXISTS (SELECT FROM pg_attribute a WHERE a.attrelid = c.oid
					AND NOT a.attisdropped AND a.atttypid NOT IN (SELECT oid FROM plain UNION ALL SELECT oid FROM lists))),
			carried AS (SELECT oid FROM plain WHERE oid >= 16384 UNION ALL SELECT oid FROM lists UNION ALL SELECT oid FROM composites
				UNION ALL SELECT t.oid FROM pg_type t JOIN composites c ON c.oid = t.typelem WHERE t.typcategory = 'A')
		SELECT t.oid, quote_ident(n.nspname) || '.' || quote_ident(t.typname), c.oid IS NOT NULL
		FROM pg_type t JOIN pg_namespace n ON n.oid = t.typnamespace
		LEFT JOIN carried c ON c.oid = CASE t.typtype WHEN 'd' THEN t.typbasetype ELSE t.oid END
		WHERE (c.oid IS NOT NULL OR t.typtype = 'd' AND EXISTS (SELECT FROM pg_type b
				WHERE b.oid = t.typbasetype AND b.oid < 16384 AND b.typtype IN ('b', 'r', 'm') AND b.typcategory <> 'A'))
			AND n.nspname NOT IN ('information_schema', 'shardgate') AND n.nspname NOT LIKE 'pg\_t%'`
	// viewsSQL lists what each view reads directly.
	viewsSQL = `SELECT DISTINCT w.ev_class, p.refobjid FROM pg_rewrite w
		JOIN pg_depend p ON p.classid = 'pg_rewrite'::regclass AND p.objid = w.oid AND p.refclassid = 'pg_class'::regclass
		JOIN pg_class c ON c.oid = w.ev_class AND c.relkind = 'v'
		JOIN pg_namespace n ON n.oid = c.relnamespace
		WHERE p.refobjid <> w.ev_class AND n.nspname NOT IN ('pg_catalog', 'information_schema')`
	// viewSQL reads the definitions of views, which of them are security barriers, and
	// which show their owner's rows of a table with row level security.
	viewSQL = `SELECT c.oid, pg_get_viewdef(c.oid),
			EXISTS (SELECT FROM pg_options_to_table(c.reloptions) WHERE option_name = 'security_barrier' AND option_value::bool),
			NOT EXISTS (SELECT FROM pg_options_to_table(c.reloptions) WHERE option_name = 'security_invoker' AND option_value::bool)
				AND EXISTS (SELECT FROM pg_rewrite w JOIN pg_depend p ON p.classid = 'pg_rewrite'::regclass AND p.objid = w.oid
					JOIN pg_class t ON p.refclassid = 'pg_class'::regclass AND t.oid = p.refobjid
					WHERE w.ev_class = c.oid AND t.relrowsecurity)
		FROM pg_class c WHERE c.oid = ANY ('{%s}')`
	// fixedSQL lists what makes it another thing to delete a row of a table and to insert
	// it anew than to update it: foreign keys whose actions differ or change rows, triggers
	// that may change or keep the row, and row level security. AFTER triggers see a
	// DELETE and an INSERT, as they do when PostgreSQL moves a row to another partition.
	fixedSQL = `SELECT f.confrelid, format('the foreign key "%s" of %s', f.conname, f.conrelid::regclass) FROM pg_constraint f
			WHERE f.contype = 'f' AND NOT (f.confdeltype = f.confupdtype AND f.confdeltype IN ('a', 'r'))
		UNION ALL SELECT t.tgrelid, format('the trigger "%s"', t.tgname) FROM pg_trigger t
			WHERE NOT t.tgisinternal AND t.tgenabled <> 'D' AND t.tgtype & 3 = 3
		UNION ALL SELECT c.oid, 'its row level security' FROM pg_class c WHERE c.relrowsecurity
		ORDER BY 1, 2`
	// triggersSQL lists the tables of which a change may do more than change their rows.
	triggersSQL = `SELECT tgrelid FROM pg_trigger WHERE NOT tgisinternal AND tgenabled <> 'D'
		UNION SELECT ev_class FROM pg_rewrite WHERE ev_type <> '1'
		UNION SELECT oid FROM pg_class WHERE relrowsecurity`
	// foreignKeysSQL lists foreign keys with the columns of both sides, whose names are separated
	// by a character that no name has.
	foreignKeysSQL = `SELECT f.conrelid, f.confrelid, f.confdeltype NOT IN ('a', 'r') OR f.confupdtype NOT IN ('a', 'r'),
			(SELECT string_agg(a.attname, chr(1)) FROM pg_attribute a WHERE a.attrelid = f.conrelid AND a.attnum = ANY (f.conkey)),
			(SELECT string_agg(a.attname, chr(1)) FROM pg_attribute a WHERE a.attrelid = f.confrelid AND a.attnum = ANY (f.confkey))
		FROM pg_constraint f WHERE f.contype = 'f'`
	// functionsSQL lists functions by name, with the source of the user's own.
	functionsSQL = `SELECT f.proname, max(CASE f.provolatile WHEN 'i' THEN 0 WHEN 's' THEN 1 ELSE 2 END),
			bool_or(f.prokind = 'a'), bool_or(f.prokind = 'w'), bool_or(f.proretset), bool_or(f.pronamespace <> 'pg_catalog'::regnamespace),
			string_agg(CASE WHEN f.pronamespace = 'pg_catalog'::regnamespace THEN NULL
				WHEN f.prokind = 'a' THEN concat_ws(' ', a.aggtransfn, a.aggfinalfn, a.aggcombinefn, a.aggmtransfn, a.aggmfinalfn)
				WHEN l.lanname NOT IN ('c', 'internal') THEN coalesce(f.prosrc, '') || ' ' || coalesce(pg_get_function_sqlbody(f.oid), '') END, E'\n'),
			CASE WHEN min(f.prorettype) = max(f.prorettype) THEN min(f.prorettype) ELSE 0 END
		FROM pg_proc f JOIN pg_language l ON l.oid = f.prolang LEFT JOIN pg_aggregate a ON a.aggfnoid = f.oid
		WHERE f.pronamespace NOT IN (SELECT oid FROM pg_namespace WHERE nspname IN ('information_schema', 'shardgate'))
		GROUP BY f.proname`
	// unseenSQL lists what calls functions out of the planner's sight: the functions of triggers,
	// and the texts of policies and rules.
	unseenSQL = `SELECT f.proname FROM pg_trigger t JOIN pg_proc f ON f.oid = t.tgfoid WHERE NOT t.tgisinternal
		UNION SELECT concat_ws(' ', pg_get_expr(polqual, polrelid), pg_get_expr(polwithcheck, polrelid)) FROM pg_policy
		UNION SELECT pg_get_ruledef(oid) FROM pg_rewrite WHERE ev_type <> '1' AND oid >= 16384`
	// operatorsSQL lists the operators whose function is the user's own.
	operatorsSQL = `SELECT o.oprname, f.proname FROM pg_operator o JOIN pg_proc f ON f.oid = o.oprcode
		WHERE f.pronamespace <> 'pg_catalog'::regnamespace`
)

// reading is one reading of the catalog, with what it finds wrong with the keys of
// sharded tables.
type reading struct {
	*Catalog
	problems []error
}

// relation is a table while the schema is put together.
type relation struct {
	*planner.Table
	defaults []string // default expressions by column; "" for none
	parent   uint32
	typmods  []int32
	reads    []uint32 // of a view
	decided  bool
}

// loadSchema reads the home shard's catalog.
func (c *reading) loadSchema(home *pool.Conn, version int64) (*planner.Schema, error) {
	carried, err := loadCarried(home)
	if err != nil {
		return nil, err
	}
	rels, order, err := c.loadRelations(home, carried)
	if err != nil {
		return nil, err
	}
	for _, oid := range order {
		c.distribute(rels, rels[oid], 0)
	}
	if err := loadViews(home, rels, order); err != nil {
		return nil, err
	}
	if err := loadFixed(home, rels); err != nil {
		return nil, err
	}
	if err := loadTies(home, rels); err != nil {
		return nil, err
	}
	var tables []*planner.Table
	for _, oid := range order {
		tables = append(tables, rels[oid].Table)
	}
	functions, bodies, err := loadFunctions(home, func(f map[string]planner.Function) *planner.Schema {
		return planner.NewSchema(version, tables, f, rules{c.config})
	})
	if err != nil {
		return nil, err
	}
	for _, r := range rels {
		for i, expr := range r.defaults {
			r.Columns[i].Default, r.Columns[i].Expression = defaultVolatility(expr, functions), expr
		}
	}
	schema := planner.NewSchema(version, tables, functions, rules{c.config})
	res, err := home.QueryTimeout("SELECT nspname FROM pg_namespace", timeout)
	if err != nil {
		return nil, fmt.Errorf("reading schemas: %w", err)
	}
	if schema.Operators, err = loadOperators(home); err != nil {
		return nil, err
	}
	if schema.Unseen, err = loadUnseen(home, bodies); err != nil {
		return nil, err
	}
	schema.Namespaces = map[string]bool{}
	for _, row := range res.Rows {
		schema.Namespaces[string(row[0])] = true
	}
	schema.Carried = carried
	if schema.Collated, err = loadCollated(home); err != nil {
		return nil, err
	}
	return schema, nil
}

// loadCollated reads planner.Schema's Collated. 100 is the database's collation.
func loadCollated(home *pool.Conn) (map[uint32]string, error) {
	res, err := home.QueryTimeout(`SELECT oid, typname FROM pg_catalog.pg_type t WHERE oid >= 16384 AND (typtype = 'd' AND typcollation NOT IN (0, 100)
		OR typtype = 'c' AND EXISTS (SELECT FROM pg_catalog.pg_class c JOIN pg_catalog.pg_attribute a ON a.attrelid = c.oid
			WHERE c.oid = t.typrelid AND c.relkind = 'c' AND NOT a.attisdropped AND a.attcollation NOT IN (0, 100)))`, timeout)
	if err != nil {
		return nil, fmt.Errorf("reading types: %w", err)
	}
	types := map[uint32]string{}
	for _, row := range res.Rows {
		types[number(row[0])] = string(row[1])
	}
	return types, nil
}

// loadCarried reads how values of the types travel that are no planner.Column's Scalar.
func loadCarried(home *pool.Conn) (map[uint32]planner.Carried, error) {
	res, err := home.QueryTimeout(carriedSQL, timeout)
	if err != nil {
		return nil, fmt.Errorf("reading types: %w", err)
	}
	carried := map[uint32]planner.Carried{}
	for _, row := range res.Rows {
		carried[number(row[0])] = planner.Carried{Type: string(row[1]), Text: isTrue(row[2])}
	}
	return carried, nil
}

func (c *reading) loadRelations(home *pool.Conn, carried map[uint32]planner.Carried) (map[uint32]*relation, []uint32, error) {
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
	if err := loadColumns(home, rels, carried); err != nil {
		return nil, nil, err
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

// loadViews reads the definitions of the views over sharded tables. The search path
// has nothing of the user's in it, so that they name its schemas.
func loadViews(home *pool.Conn, rels map[uint32]*relation, order []uint32) error {
	var oids []string
	for _, oid := range order {
		if rels[oid].Distribution == planner.ShardedView {
			oids = append(oids, strconv.FormatUint(uint64(oid), 10))
		}
	}
	if len(oids) == 0 {
		return nil
	}
	res, err := home.QueryTimeout(fmt.Sprintf(viewSQL, strings.Join(oids, ",")), timeout)
	if err != nil {
		return fmt.Errorf("reading the definitions of views: %w", err)
	}
	for _, row := range res.Rows {
		rels[number(row[0])].View = &planner.View{Definition: string(row[1]), Barrier: isTrue(row[2]), OwnersRows: isTrue(row[3])}
	}
	return nil
}

// loadFixed reads what keeps the rows of tables where they are. A partition's is its
// table's as well.
func loadFixed(home *pool.Conn, rels map[uint32]*relation) error {
	res, err := home.QueryTimeout(fixedSQL, timeout)
	if err != nil {
		return fmt.Errorf("reading what keeps rows in place: %w", err)
	}
	for _, row := range res.Rows {
		r := rels[number(row[0])]
		for range maxNesting {
			if r == nil || r.Fixed != "" {
				break
			}
			r.Fixed = string(row[1])
			r = rels[r.parent]
		}
	}
	return nil
}

// loadTies reads what a change of a table's rows may do besides, and with which other
// tables they are tied. It is kept at the root of a table, as what its partitions have.
func loadTies(home *pool.Conn, rels map[uint32]*relation) error {
	for _, r := range rels {
		p := r
		for i := 0; i < maxNesting && rels[p.parent] != nil; i++ {
			p = rels[p.parent]
		}
		if p != r {
			r.Root = p.Table
		}
	}
	root := func(oid []byte) *planner.Table {
		r := rels[number(oid)]
		switch {
		case r == nil:
			return nil
		case r.Root != nil:
			return r.Root
		}
		return r.Table
	}
	res, err := home.QueryTimeout(triggersSQL, timeout)
	if err != nil {
		return fmt.Errorf("reading triggers: %w", err)
	}
	for _, row := range res.Rows {
		if t := root(row[0]); t != nil {
			t.Triggers = true
		}
	}
	if res, err = home.QueryTimeout(foreignKeysSQL, timeout); err != nil {
		return fmt.Errorf("reading foreign keys: %w", err)
	}
	for _, row := range res.Rows {
		from, to := root(row[0]), root(row[1])
		if from == nil || to == nil {
			continue
		}
		k := &planner.ForeignKey{From: from, To: to, Acts: isTrue(row[2]),
			Columns: strings.Split(string(row[3]), "\x01"), Referred: strings.Split(string(row[4]), "\x01")}
		from.ForeignKeys = append(from.ForeignKeys, k)
		if to != from {
			to.ForeignKeys = append(to.ForeignKeys, k)
		}
	}
	return nil
}

// loadColumns reads the relations' columns. Domains are resolved to the types
// below them.
func loadColumns(home *pool.Conn, rels map[uint32]*relation, carried map[uint32]planner.Carried) error {
	type domain struct {
		base   uint32
		typmod int32
	}
	res, err := home.QueryTimeout(domainsSQL, timeout)
	if err != nil {
		return fmt.Errorf("reading domains: %w", err)
	}
	domains := map[uint32]domain{}
	for _, row := range res.Rows {
		domains[number(row[0])] = domain{number(row[1]), typmod(row[2])}
	}
	if res, err = home.QueryTimeout(columnsSQL, timeout); err != nil {
		return fmt.Errorf("reading columns: %w", err)
	}
	for _, row := range res.Rows {
		r := rels[number(row[0])]
		if r == nil {
			continue
		}
		typ, mod := number(row[2]), typmod(row[3])
		for d, ok := domains[typ]; ok; d, ok = domains[typ] {
			typ = d.base
			if d.typmod >= 0 {
				mod = d.typmod
			}
		}
		identity := isTrue(row[6])
		expr := string(row[7])
		r.typmods = append(r.typmods, mod)
		r.defaults = append(r.defaults, expr)
		r.Columns = append(r.Columns, planner.Column{
			Name: string(row[1]), Type: typ, NotNull: isTrue(row[4]), HasDefault: expr != "" || identity,
			Generated: isTrue(row[5]), Sequence: identity || strings.Contains(expr, "nextval("), Deterministic: isTrue(row[8]),
			Scalar: isTrue(row[9]), Carried: carried[number(row[2])], Collation: string(row[10]), Bytewise: isTrue(row[11]), Primary: isTrue(row[12]), Unique: isTrue(row[13]), Always: isTrue(row[14]),
		})
	}
	return nil
}

func typmod(b []byte) int32 {
	n, _ := strconv.ParseInt(string(b), 10, 32)
	return int32(n)
}

// defaultVolatility is the worst volatility of the functions that a default
// expression, as PostgreSQL prints it, calls.
func defaultVolatility(expr string, functions map[string]planner.Function) planner.Volatility {
	worst := planner.Immutable
	word := ""
	for i := 0; i <= len(expr); i++ {
		if i < len(expr) && (expr[i] == '_' || expr[i] >= '0' && expr[i] <= '9' || expr[i] >= 'a' && expr[i] <= 'z' || expr[i] >= 'A' && expr[i] <= 'Z' || expr[i] >= 0x80) {
			word += expr[i : i+1]
			continue
		}
		if i < len(expr) && expr[i] == '(' && word != "" {
			worst = max(worst, functions[word].Volatility)
		}
		if strings.HasPrefix(word, "CURRENT_") || strings.HasPrefix(word, "LOCALTIME") {
			worst = max(worst, planner.Stable)
		}
		word = ""
	}
	return worst
}

// maxNesting bounds views over views and partitions of partitions.
const maxNesting = 100

// distribute decides where a relation's rows are.
func (c *reading) distribute(rels map[uint32]*relation, r *relation, depth int) {
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

func (c *reading) distributeView(rels map[uint32]*relation, r *relation, depth int) {
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

// problem notes what is wrong with the key of a sharded table, at the place in the
// configuration that names it.
func (c *reading) problem(r *relation, column int, hint, format string, args ...any) {
	e := &configs.Error{Message: fmt.Sprintf(format, args...), Hint: hint}
	if t, ok := c.config.Rule(r.Schema, r.Name); ok {
		if e.Position = t.Pos; column < len(t.KeyPos) {
			e.Position = t.KeyPos[column]
		}
	}
	c.problems = append(c.problems, e)
}

// key makes a sharded table's key. It is nil, and the table can't be used, when
// the table does not have the columns or they can't be hashed.
func (c *reading) key(r *relation, names []string, group string) *planner.Key {
	k := &planner.Key{Group: group}
	for n, name := range names {
		i := r.Column(name)
		if i < 0 {
			c.problem(r, n, "name one of the table's columns, or add the column to the table", "the table %s has no column %q", r.Table, name)
			return nil
		}
		t, ok := shardmap.KeyTypeOfOID(r.Columns[i].Type)
		if !ok {
			c.problem(r, n, "use a column of type smallint, integer, bigint, text, varchar, char, uuid, date, timestamp, timestamptz or bytea",
				"the column %q of the table %s has a type that can't be a key", name, r.Table)
			return nil
		}
		if !r.Columns[i].Deterministic {
			c.problem(r, n, "give the column a deterministic collation: others find different texts equal, which would be on different shards",
				"the column %q of the table %s has a collation that can't be a key's", name, r.Table)
			return nil
		}
		k.Columns = append(k.Columns, i)
		k.Types = append(k.Types, t)
		k.Typmods = append(k.Typmods, r.typmods[i])
	}
	return k
}

// loadFunctions reads the functions. Which of them may read distributed tables, or local ones,
// depends on the tables and on each other: schema makes a schema of both. The bodies are
// those of the user's own.
func loadFunctions(home *pool.Conn, schema func(map[string]planner.Function) *planner.Schema) (out map[string]planner.Function, bodies map[string]string, err error) {
	res, err := home.QueryTimeout(functionsSQL, timeout)
	if err != nil {
		return nil, nil, fmt.Errorf("reading functions: %w", err)
	}
	out = make(map[string]planner.Function, len(res.Rows))
	bodies = map[string]string{}
	for _, row := range res.Rows {
		name := string(row[0])
		out[name] = planner.Function{Volatility: planner.Volatility(number(row[1])), Aggregate: isTrue(row[2]), Window: isTrue(row[3]),
			ReturnsSet: isTrue(row[4]), User: isTrue(row[5]), Result: number(row[7])}
		if row[6] != nil {
			bodies[name] = string(row[6])
		}
	}
	s := schema(out)
	for changed := true; changed; {
		changed = false
		for name, body := range bodies {
			f := out[name]
			tables, home := f.Tables || s.Mentions(body) != "", f.Home || f.Volatility != planner.Immutable && s.UsesLocal(body)
			if tables != f.Tables || home != f.Home {
				f.Tables, f.Home = tables, home
				out[name] = f
				changed = true
			}
		}
	}
	return out, bodies, nil
}

// loadUnseen finds planner.Schema.Unseen. It takes every word of a body for a call.
func loadUnseen(home *pool.Conn, bodies map[string]string) (map[string]bool, error) {
	res, err := home.QueryTimeout(unseenSQL, timeout)
	if err != nil {
		return nil, fmt.Errorf("reading triggers, policies and rules: %w", err)
	}
	lower := map[string]string{}
	for name, body := range bodies {
		lower[strings.ToLower(name)] += body + "\n"
	}
	out := map[string]bool{}
	var add func(text string)
	add = func(text string) {
		for _, w := range planner.Words(text) {
			if !out[w] {
				out[w] = true
				add(lower[w])
			}
		}
	}
	for _, row := range res.Rows {
		add(string(row[0]))
	}
	return out, nil
}

// loadOperators reads the user-defined operators.
func loadOperators(home *pool.Conn) (map[string][]string, error) {
	res, err := home.QueryTimeout(operatorsSQL, timeout)
	if err != nil {
		return nil, fmt.Errorf("reading operators: %w", err)
	}
	out := map[string][]string{}
	for _, row := range res.Rows {
		out[string(row[0])] = append(out[string(row[0])], string(row[1]))
	}
	return out, nil
}

func number(b []byte) uint32 {
	n, _ := strconv.ParseUint(string(b), 10, 32)
	return uint32(n)
}

func isTrue(b []byte) bool { return len(b) == 1 && b[0] == 't' }
