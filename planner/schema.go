package planner

import (
	"slices"
	"strings"

	"github.com/shardgate/shardgate/shardmap"
)

// Distribution says where a relation's rows are.
type Distribution uint8

const (
	// Local relations live on the home shard only. It is the zero value: a
	// table that no rule names is local.
	Local Distribution = iota
	// Sharded relations have each row on the shard that owns its key's slot.
	Sharded
	// Reference relations have a full copy on every shard.
	Reference
	// ShardedView is a view that reads a sharded table somewhere below.
	ShardedView
	// MixedView is a view that reads reference tables and local ones.
	MixedView
)

func (d Distribution) String() string {
	switch d {
	case Sharded:
		return "sharded"
	case Reference:
		return "reference"
	case ShardedView:
		return "view over a sharded table"
	case MixedView:
		return "view over local tables"
	default:
		return "local"
	}
}

// Rule is what the configuration says of a table, by name.
type Rule struct {
	Reference bool
	Key       []string // the key's columns, in order; nil for a reference table
	Group     string   // tables of one group with equal keys are co-located
}

// Rules finds the rule for a table name. It is asked for names that the schema
// does not hold as well, since a table's distribution is decided by its name
// before the table exists.
type Rules interface {
	Rule(schema, table string) (Rule, bool)
}

// Volatility of a function, as in pg_proc.provolatile.
type Volatility uint8

const (
	Immutable Volatility = iota
	Stable
	Volatile
)

// Function is what the planner knows of all functions of one name.
type Function struct {
	Volatility Volatility // the worst of the overloads
	Aggregate  bool       // one overload at least is an aggregate
	Window     bool
	ReturnsSet bool   // one overload at least does
	User       bool   // one overload at least is not in pg_catalog
	Result     uint32 // OID of the type that all overloads return, 0 if they differ
	// Tables says that a body mentions a distributed table or runs dynamic SQL,
	// so that the answer may depend on rows of other shards.
	Tables bool
	// Home says that a body uses what only the home shard has: a local table, or a sequence.
	Home bool
}

// Column of a relation.
type Column struct {
	Name    string
	Type    uint32 // base type's OID, domains resolved
	NotNull bool
	Primary bool // a part of the primary key, on which the other columns depend
	// Unique says that a unique index or exclusion constraint may look at it.
	Unique bool
	// Default is the volatility of the default expression; HasDefault says
	// whether there is one. Sequence says that it takes the next value of a
	// sequence (serial or identity).
	HasDefault bool
	Default    Volatility
	// Expression is the default as PostgreSQL prints it, of an identity column a call of
	// nextval; Always says that this is GENERATED ALWAYS.
	Expression string
	Sequence   bool
	Always     bool
	Generated  bool
	// Deterministic is false for a text column whose collation may find
	// different bytes equal. Such a column can't be a key.
	Deterministic bool
	// Bytewise says that text is sorted by its bytes: the collation is C.
	Bytewise bool
	// Scalar says that the type is PostgreSQL's own and no array, domain,
	// composite or pseudo-type.
	Scalar bool
	// Carried says how its values travel if it isn't Scalar.
	Carried Carried
	// Collation is the name, as SQL has it and with its schema, of a collation other
	// than the database's, or "".
	Collation string
}

// Table is a relation of the schema snapshot.
type Table struct {
	Schema, Name string
	OID          uint32 // on the home shard
	Kind         byte   // pg_class.relkind
	Distribution Distribution
	Key          *Key // of a sharded table
	Columns      []Column
	View         *View // of a view over sharded tables
	// Fixed is what makes it another thing to delete a row and to insert it with a new
	// key than to update it ("the trigger ..."), or "".
	Fixed string
	// Root is the table at the top of those that it inherits from, or is a partition of;
	// nil for one that has no parent.
	Root *Table
	// Triggers says that a change of its rows may do more than that: by triggers of the
	// user's, rules, or row level security.
	Triggers bool
	// ForeignKeys are its own and those that refer to it. They are kept at the root.
	ForeignKeys []*ForeignKey
}

// ForeignKey ties the rows of two tables, which are roots.
type ForeignKey struct {
	From, To *Table
	// Columns are those of From, Referred those of To.
	Columns, Referred []string
	// Acts says that a change of a row of To may change rows of From.
	Acts bool
}

// root is the table that stands for all that share rows with t.
func (t *Table) root() *Table {
	if t.Root != nil {
		return t.Root
	}
	return t
}

func (t *Table) String() string {
	if t.Schema == "public" {
		return t.Name
	}
	return t.Schema + "." + t.Name
}

// Column returns the position of the column named so, or -1.
func (t *Table) Column(name string) int {
	for i := range t.Columns {
		if t.Columns[i].Name == name {
			return i
		}
	}
	return -1
}

// KeyNullable says whether a row may have NULL in its key.
func (t *Table) KeyNullable() bool {
	return slices.ContainsFunc(t.Key.Columns, func(i int) bool { return !t.Columns[i].NotNull })
}

// KeyTypmod is the type modifier of the key's column i, -1 for none.
func (t *Table) KeyTypmod(i int) int32 {
	if i < len(t.Key.Typmods) {
		return t.Key.Typmods[i]
	}
	return -1
}

// Key is a sharded table's key.
type Key struct {
	Columns []int // positions in Table.Columns, in the key's order
	Types   []shardmap.KeyType
	// Typmods are the columns' type modifiers (pg_attribute.atttypmod), -1 for none.
	Typmods []int32
	Group   string // co-location group: equal keys of one group are on one shard
}

// keyColumns are the positions of the key's columns, if it has a key.
func (t *Table) keyColumns() []int {
	if t.Key == nil {
		return nil
	}
	return t.Key.Columns
}

// colocated says whether equal keys of a and b are in one slot.
func colocated(a, b *Key) bool {
	if a.Group != b.Group || len(a.Types) != len(b.Types) {
		return false
	}
	for i := range a.Types {
		if familyOf(a.Types[i]) != familyOf(b.Types[i]) {
			return false
		}
	}
	return true
}

// Schema is an immutable snapshot of the home shard's catalog.
type Schema struct {
	Version int64 // counts the DDL statements that gateways have run
	// Operators are the user-defined operators by name, with the functions below them.
	Operators map[string][]string
	// Namespaces are the schemas that exist; nil means that all names do.
	Namespaces map[string]bool
	// Unseen are the names of functions, whether they exist or not, in small letters, that triggers,
	// policies and rules call, or that functions called by these do: they run out of the planner's sight.
	Unseen map[string]bool
	// Carried says by OID how values of the types travel that are no Column's Scalar.
	Carried map[uint32]Carried
	// Collated are the names, by OID, of the user's domains with a collation of their own, and of
	// composites with columns that have one: what is cast to the one, or a part of the other,
	// has a collation of which a statement says nothing.
	Collated  map[uint32]string
	tables    map[string]map[string]*Table
	functions map[string]Function
	rules     Rules
}

// NewSchema makes a snapshot. Function names are unqualified.
func NewSchema(version int64, tables []*Table, functions map[string]Function, rules Rules) *Schema {
	s := &Schema{Version: version, tables: map[string]map[string]*Table{}, functions: functions, rules: rules}
	for _, t := range tables {
		m := s.tables[t.Schema]
		if m == nil {
			m = map[string]*Table{}
			s.tables[t.Schema] = m
		}
		m[t.Name] = t
	}
	return s
}

// Table returns the relation of that schema and name, or nil.
func (s *Schema) Table(schema, name string) *Table { return s.tables[schema][name] }

// Distributed calls f for each relation that is sharded or a reference table.
func (s *Schema) Distributed(f func(*Table)) {
	for _, m := range s.tables {
		for _, t := range m {
			if t.Distribution == Sharded || t.Distribution == Reference {
				f(t)
			}
		}
	}
}

// Env is what a statement is planned against besides its text.
type Env struct {
	Schema *Schema
	// Shards is their number: with one, everything is on it.
	Shards int
	// SearchPath are the schemas in which an unqualified name is looked up, in
	// order, "$user" resolved. Temporary relations come first unless pg_temp is
	// named, and then pg_catalog unless it is.
	SearchPath []string
	// Temp holds the names of the session's temporary relations.
	Temp map[string]bool
	// ParamTypes are the parameters' type OIDs as far as they are declared.
	ParamTypes []uint32
	// Panicked is told when planning has panicked; the statement is refused then, and nobody
	// else is harmed. Where it is nil, the panic goes on.
	Panicked func(value any, stack []byte)
}

// systemSchema says whether a schema is part of PostgreSQL itself: its relations
// describe the server they are read on, and the home shard answers for all.
func systemSchema(name string) bool {
	return name == "pg_catalog" || name == "information_schema" ||
		strings.HasPrefix(name, "pg_toast") || strings.HasPrefix(name, "pg_temp")
}

// gatewaySchema holds what the gateways keep on the shards. No client's
// statement may name it.
const gatewaySchema = "shardgate"

// find resolves a relation's name as PostgreSQL does. Nil means that the
// relation is the home shard's business: a system or temporary relation, or one
// that exists nowhere.
func (e *Env) find(schema, name string) *Table {
	if schema != "" {
		if systemSchema(schema) {
			return nil
		}
		if t := e.Schema.Table(schema, name); t != nil {
			return t
		}
		return e.ruled(schema, name)
	}
	if e.Temp[name] && !slices.Contains(e.SearchPath, "pg_temp") {
		return nil
	}
	if !slices.Contains(e.SearchPath, "pg_catalog") && e.Schema.Table("pg_catalog", name) != nil {
		return nil
	}
	for _, s := range e.SearchPath {
		if s == "pg_temp" && e.Temp[name] {
			return nil
		}
		if t := e.Schema.Table(s, name); t != nil {
			return t
		}
	}
	for _, s := range e.SearchPath {
		if t := e.ruled(s, name); t != nil {
			return t
		}
	}
	return nil
}

// system says whether a name that find doesn't know may be that of a system or temporary
// relation. Of the system's, the snapshot holds those in pg_catalog.
func (e *Env) system(schema, name string) bool {
	switch schema {
	case "":
		return e.Temp[name] || e.Schema.Table("pg_catalog", name) != nil ||
			slices.ContainsFunc(e.SearchPath, func(s string) bool { return systemSchema(s) && s != "pg_catalog" && s != "pg_temp" })
	case "pg_catalog":
		return e.Schema.Table(schema, name) != nil
	case "pg_temp":
		return e.Temp[name]
	}
	return systemSchema(schema)
}

// ruled stands for a table that a rule names and the snapshot does not hold: a
// statement about it must not be answered by the home shard alone, should the
// table have been made by another gateway a moment ago.
func (e *Env) ruled(schema, name string) *Table {
	r, ok := e.Schema.rules.Rule(schema, name)
	if !ok {
		return nil
	}
	t := &Table{Schema: schema, Name: name, Distribution: Sharded}
	if r.Reference {
		t.Distribution = Reference
	}
	return t
}

// creationSchema is the schema in which an unqualified CREATE makes its object.
func (e *Env) creationSchema() string {
	for _, s := range e.SearchPath {
		if s == "pg_temp" || s != "pg_catalog" && (e.Schema.Namespaces == nil || e.Schema.Namespaces[s]) {
			return s
		}
	}
	return "public"
}

// family groups key types whose values are compared with one another by
// PostgreSQL without changing their hash.
type family uint8

const (
	familyNone family = iota
	familyInt
	familyText
	familyBpchar
	familyUUID
	familyDate
	familyTimestamp
	familyTimestamptz
	familyBytea
)

func familyOf(t shardmap.KeyType) family {
	switch t {
	case shardmap.KeyInt2, shardmap.KeyInt4, shardmap.KeyInt8:
		return familyInt
	case shardmap.KeyText, shardmap.KeyVarchar:
		return familyText
	case shardmap.KeyBpchar:
		return familyBpchar
	case shardmap.KeyUUID:
		return familyUUID
	case shardmap.KeyDate:
		return familyDate
	case shardmap.KeyTimestamp:
		return familyTimestamp
	case shardmap.KeyTimestamptz:
		return familyTimestamptz
	case shardmap.KeyBytea:
		return familyBytea
	}
	return familyNone
}

// familyOfOID is familyOf of a type's OID.
func familyOfOID(oid uint32) family {
	t, ok := shardmap.KeyTypeOfOID(oid)
	if !ok {
		return familyNone
	}
	return familyOf(t)
}
