package planner

import (
	"slices"
	"strings"

	"github.com/shardgate/shardgate/planner/sqltext"
	"github.com/shardgate/shardgate/shardmap"
)

// columnTypes are the types that the fixture's columns use.
var columnTypes = map[string]uint32{
	"int2": 21, "int4": 23, "int8": 20, "numeric": 1700, "float8": 701, "json": 114, "text": 25, "citext": 90001, "varchar": 1043,
	"bpchar": 1042, "uuid": 2950, "date": 1082, "timestamp": 1114, "timestamptz": 1184, "bytea": 17, "bool": 16, "regclass": 2205,
	"mood": 90002, "int4[]": 1007, "posint": 23,
}

// carriedTypes are those that travel in a way of their own.
var carriedTypes = map[string]Carried{
	"mood": {Type: "public.mood", Text: true}, "int4[]": {Type: "pg_catalog._int4", Text: true}, "posint": {Type: "public.posint"},
}

// fixtureTable makes a table from "name type flags, ..."; the flags are those of
// the switch below.
func fixtureTable(name string, d Distribution, columns string) *Table {
	t := &Table{Schema: "public", Name: name, Kind: 'r', Distribution: d}
	if schema, rest, ok := strings.Cut(name, "."); ok {
		t.Schema, t.Name = schema, rest
	}
	for _, c := range strings.Split(columns, ", ") {
		words := strings.Fields(c)
		col := Column{Name: words[0], Type: columnTypes[words[1]], Deterministic: true, Carried: carriedTypes[words[1]]}
		col.Scalar = words[1] != "citext" && col.Carried.Type == ""
		for _, w := range words[2:] {
			switch w {
			case "now":
				col.HasDefault, col.Default, col.Expression = true, Stable, "now()"
			case "stable":
				col.HasDefault, col.Default, col.Expression = true, Stable, "public.stamp()"
			case "random":
				col.HasDefault, col.Default, col.Expression = true, Volatile, "gen_random_uuid()"
			case "constant":
				col.HasDefault, col.Expression = true, "'none'"
			case "serial":
				col.HasDefault, col.Default, col.Sequence, col.Expression = true, Volatile, true, "nextval('public.numbers'::regclass)"
			case "always":
				col.Always = true
			case "primary":
				col.Primary, col.Unique, col.NotNull = true, true, true
			case "generated":
				col.Generated = true
			case "bytes":
				col.Bytewise, col.Collation = true, `pg_catalog."C"`
			case "nocase":
				col.Deterministic, col.Collation = false, "public.nocase"
			}
		}
		t.Columns = append(t.Columns, col)
	}
	return t
}

// keyed gives a table its key.
func (t *Table) keyed(group string, names ...string) *Table {
	t.Key = &Key{Group: group}
	for _, n := range names {
		i := t.Column(n)
		k, ok := shardmap.KeyTypeOfOID(t.Columns[i].Type)
		if !ok {
			panic(n)
		}
		t.Key.Columns, t.Key.Types = append(t.Key.Columns, i), append(t.Key.Types, k)
	}
	return t
}

// view gives a view its definition, as PostgreSQL prints it.
func (t *Table) view(definition string, flags ...string) *Table {
	t.View = &View{Definition: definition, Barrier: slices.Contains(flags, "barrier"), OwnersRows: slices.Contains(flags, "owner")}
	return t.kinded('v')
}

func (t *Table) fixed(why string) *Table {
	t.Fixed = why
	return t
}

func (t *Table) triggered() *Table {
	t.Triggers = true
	return t
}

// refers gives a table a foreign key.
func (t *Table) refers(to *Table, column, referred string, acts bool) *Table {
	k := &ForeignKey{From: t, To: to, Columns: []string{column}, Referred: []string{referred}, Acts: acts}
	t.ForeignKeys, to.ForeignKeys = append(t.ForeignKeys, k), append(to.ForeignKeys, k)
	return t
}

func (t *Table) kinded(kind byte) *Table {
	t.Kind = kind
	return t
}

// fixtureRules are the rules of the fixture's tables, and of some that do not
// exist yet.
type fixtureRules map[string]Rule

func (r fixtureRules) Rule(schema, table string) (Rule, bool) {
	rule, ok := r[schema+"."+table]
	return rule, ok
}

func fixtureTables() []*Table {
	// By keys of their own, so that a foreign key leads to another shard.
	shelves := fixtureTable("shelves", Reference, "id int8 primary, name text")
	books := fixtureTable("books", Sharded, "isbn text primary, shelf int8, title text").keyed("books", "isbn").refers(shelves, "shelf", "id", false)
	return []*Table{
		shelves, books,
		fixtureTable("pages", Sharded, "isbn text, n int4").keyed("pages", "isbn").refers(books, "isbn", "isbn", true),
		fixtureTable("watched", Sharded, "id int8, note text").keyed("watched", "id").triggered(),
		// The group "customers".
		fixtureTable("customers", Sharded, "id int8 primary, name text, country text, balance numeric, since date").keyed("customers", "id"),
		fixtureTable("orders", Sharded, "customer_id int4, id int8, country text, total numeric, note text, at timestamptz now, tag uuid random").keyed("customers", "customer_id"),
		fixtureTable("tickets", Sharded, "customer_id int8, n int8 serial, note text, double int8 generated").keyed("customers", "customer_id"),
		fixtureTable("guests", Sharded, "id int8, name text").keyed("customers", "id").fixed("the trigger t"),
		// The group "accounts".
		fixtureTable("accounts", Sharded, "code text, owner text, nick text nocase, amount int8, stamp text bytes").keyed("accounts", "code"),
		fixtureTable("transfers", Sharded, "code varchar, amount int8, at timestamptz").keyed("accounts", "code"),
		fixtureTable("labels", Sharded, "code bpchar, note text").keyed("accounts", "code"),
		// Keys of other types, each table for itself.
		fixtureTable("invoices", Sharded, "id int8 serial always, n int4, kind text constant").keyed("invoices", "id"),
		fixtureTable("tokens", Sharded, "id uuid random, day date now, body text").keyed("tokens", "id", "day"),
		fixtureTable("stamps", Sharded, "id text stable, n int4 serial").keyed("stamps", "id"),
		fixtureTable("documents", Sharded, "id uuid, body text").keyed("documents", "id"),
		fixtureTable("days", Sharded, "day date, n int4").keyed("days", "day"),
		fixtureTable("events", Sharded, "at timestamp, n int4").keyed("events", "at"),
		fixtureTable("logs", Sharded, "at timestamptz, line text").keyed("logs", "at"),
		fixtureTable("terms", Sharded, "id int8, term citext").keyed("terms", "id"),
		fixtureTable("players", Sharded, "id int8, mood mood, marks int4[], level posint").keyed("players", "id"),
		fixtureTable("blobs", Sharded, "hash bytea, data bytea").keyed("blobs", "hash"),
		fixtureTable("objects", Sharded, "id int8, what regclass").keyed("objects", "id"),
		// A key of two columns, in another schema.
		fixtureTable("audit.entries", Sharded, "tenant int4 primary, day date primary, n int4 primary, note text").keyed("audit", "tenant", "day"),
		fixtureTable("audit.details", Sharded, "tenant int8, day date, note text").keyed("audit", "tenant", "day"),
		// Tables that pgbench makes.
		fixtureTable("pgbench_accounts", Sharded, "aid int4, bid int4, abalance int4, filler bpchar").keyed("pgbench", "aid"),
		fixtureTable("pgbench_branches", Reference, "bid int4, bbalance int4, filler bpchar"),
		// Reference tables.
		fixtureTable("countries", Reference, "code text, name text, people int8"),
		fixtureTable("rates", Reference, "id int8 serial, code text, rate float8, at timestamptz now, kind text constant"),
		fixtureTable("tariffs", Reference, "zone text primary, day date primary, cents int8, mood mood, double int8 generated, what regclass"),
		fixtureTable("audited", Reference, "id int8 primary, note text").triggered(),
		// A reference table by the name of a sharded one.
		fixtureTable("twin.customers", Reference, "id int8, name text"),
		// Local ones.
		fixtureTable("settings", Local, "k text, v text"),
		fixtureTable("tasks", Local, "id int4 serial, due timestamptz"),
		// Views, an index and a sequence.
		fixtureTable("customer_names", ShardedView, "id int8, name text").view(" SELECT customers.id,\n    customers.name\n   FROM public.customers\n  WHERE customers.balance > 0::numeric;"),
		fixtureTable("known_orders", ShardedView, "customer text, country text, total numeric").view(" SELECT n.name AS customer,\n    k.name AS country,\n    o.total\n   FROM public.customer_names n\n     JOIN public.orders o ON o.customer_id = n.id\n     LEFT JOIN public.countries k ON k.code = o.country;"),
		fixtureTable("country_totals", ShardedView, "country text, orders int8, total numeric").view(" SELECT orders.country,\n    count(*) AS orders,\n    sum(orders.total) AS total\n   FROM public.orders\n  GROUP BY orders.country\n  ORDER BY orders.country;"),
		fixtureTable("first_customer", ShardedView, "id int8, name text").view(" SELECT customers.id,\n    customers.name\n   FROM public.customers\n  WHERE customers.id = 1;"),
		fixtureTable("chosen", ShardedView, "id int8").view(" WITH countries AS (\n         SELECT customers.id\n           FROM public.customers\n        )\n SELECT countries.id\n   FROM countries;"),
		fixtureTable("guarded", ShardedView, "id int8, name text").view(" SELECT customers.id,\n    customers.name\n   FROM public.customers;", "barrier"),
		fixtureTable("owned", ShardedView, "id int8, name text").view(" SELECT customers.id,\n    customers.name\n   FROM public.customers;", "owner"),
		fixtureTable("rows_of", ShardedView, "of json").view(" SELECT row_to_json(n.*) AS of\n   FROM public.customer_names n;"),
		fixtureTable("with_classes", ShardedView, "id int8").view(" SELECT customers.id\n   FROM public.customers,\n    pg_class;"),
		fixtureTable("country_names", Reference, "code text, name text").kinded('v'),
		fixtureTable("used_countries", MixedView, "code text, name text").kinded('v'),
		fixtureTable("setting_names", Local, "k text").kinded('v'),
		fixtureTable("orders_total", Sharded, "total numeric").kinded('i'),
		fixtureTable("task_numbers", Local, "last_value int8").kinded('S'),
		fixtureTable("pg_catalog.pg_class", Local, "oid int8, relname text"),
		fixtureTable("pg_catalog.pg_settings", Local, "name text, setting text"),
	}
}

func fixtureSchema() *Schema {
	rules := fixtureRules{
		"public.future":     {Key: []string{"id"}, Group: "customers"},
		"public.future_ref": {Reference: true},
		"public.line_items": {Key: []string{"customer_id"}, Group: "customers"},
	}
	tables := fixtureTables()
	for _, t := range tables {
		if t.Kind == 'r' && t.Distribution == Reference {
			rules[t.Schema+"."+t.Name] = Rule{Reference: true}
		}
		if t.Key != nil {
			rules[t.Schema+"."+t.Name] = keyRule(Sharded, t)
		}
	}
	functions := map[string]Function{
		"now": {Volatility: Stable}, "current_setting": {Volatility: Stable}, "lower": {}, "length": {Result: 23}, "abs": {}, "make_date": {Result: 1082}, "gcd": {}, "generate_series": {}, "unnest": {}, "age": {Volatility: Stable},
		"random": {Volatility: Volatile}, "clock_timestamp": {Volatility: Volatile}, "gen_random_uuid": {Volatility: Volatile},
		"nextval": {Volatility: Volatile}, "currval": {Volatility: Volatile}, "pg_typeof": {Volatility: Stable}, "pg_backend_pid": {Volatility: Stable}, "set_config": {Volatility: Volatile},
		"pg_advisory_lock": {Volatility: Volatile}, "pg_advisory_xact_lock": {Volatility: Volatile}, "lo_create": {Volatility: Volatile},
		"count": {Aggregate: true}, "sum": {Aggregate: true}, "avg": {Aggregate: true}, "min": {Aggregate: true}, "max": {Aggregate: true},
		"row_to_json": {Volatility: Stable}, "string_agg": {Aggregate: true}, "array_agg": {Aggregate: true}, "row_number": {Window: true}, "rank": {Window: true, Aggregate: true},
		"median": {Aggregate: true, User: true}, "taxed": {User: true}, "touch": {User: true, Volatility: Volatile},
		"today_in": {User: true, Volatility: Stable}, "setting": {User: true, Volatility: Stable, Home: true}, "order_total": {User: true, Volatility: Stable, Tables: true},
		"audit_trigger": {User: true, Volatility: Volatile, Tables: true}, "plain_trigger": {User: true, Volatility: Volatile},
	}
	s := NewSchema(1, tables, functions, rules)
	s.Collated = map[uint32]string{90050: "loose"}
	s.Carried = map[uint32]Carried{columnTypes["mood"]: carriedTypes["mood"], columnTypes["int4[]"]: carriedTypes["int4[]"]}
	s.Unseen = map[string]bool{"plain_trigger": true, "later": true}
	return s
}

func fixtureEnv() *Env {
	return &Env{Schema: fixtureSchema(), Shards: 4, SearchPath: []string{"public"}, Temp: map[string]bool{"scratch": true}}
}

// plan plans a text as Planner does without its cache.
func plan(text string, env *Env) (*Statement, error) {
	var sc sqltext.Scanner
	_, lits, err := sc.Normalize([]byte(text))
	if err != nil {
		lits = nil
	}
	p, err := Parse(text, sqltext.GuardLimits{})
	if err != nil {
		return nil, err
	}
	return p.Plan(lits, env)
}
