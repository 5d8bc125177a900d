package planner

import (
	"slices"

	pg "github.com/pganalyze/pg_query_go/v6"
)

// A shard enforces constraints on its own rows. They are allowed where that is
// as good as enforcing them on all: when rows that can violate a constraint
// together are sure to be on one shard.

// keyRule is the rule that a sharded table follows. It is empty for what is not
// a table with a key, such as an index.
func keyRule(d Distribution, t *Table) Rule {
	rule := Rule{}
	if d == Sharded && t.Key != nil {
		rule.Group = t.Key.Group
		for _, n := range t.Key.Columns {
			rule.Key = append(rule.Key, t.Columns[n].Name)
		}
	}
	return rule
}

// constraints checks the unique constraints of a new sharded table.
func (a *analysis) constraints(c *pg.CreateStmt, rule Rule) {
	for _, e := range c.TableElts {
		if d := e.GetColumnDef(); d != nil {
			for _, k := range d.Constraints {
				a.uniqueKey(k.GetConstraint(), []string{d.Colname}, rule, c.Relation.Relname)
			}
		}
		if k := e.GetConstraint(); k != nil {
			a.uniqueKey(k, stringsOf(k.Keys), rule, c.Relation.Relname)
		}
	}
}

// uniqueKey refuses a unique constraint that one shard alone can't enforce.
func (a *analysis) uniqueKey(k *pg.Constraint, columns []string, rule Rule, table string) {
	if k == nil {
		return
	}
	switch k.Contype {
	case pg.ConstrType_CONSTR_PRIMARY, pg.ConstrType_CONSTR_UNIQUE:
		if k.Indexname != "" {
			return // made from an index that was checked
		}
		for _, key := range rule.Key {
			if !slices.Contains(columns, key) {
				refuse(notUnique(table, key))
			}
		}
	case pg.ConstrType_CONSTR_EXCLUSION:
		refuse(unsupported("exclusion constraints on sharded tables are not supported", "Check the rule within one key by a trigger."))
	}
}

func notUnique(table, key string) *Refusal {
	return &Refusal{Code: "0A000", Message: "a unique constraint of the sharded table \"" + table + "\" must include its key column \"" + key + "\"",
		Detail: "Rows with other keys are on other shards, and no shard sees all of them.",
		Hint:   "Add \"" + key + "\" to the constraint, or make the table a reference table."}
}

// createIndex plans CREATE INDEX.
func (a *analysis) createIndex(x *pg.IndexStmt) *Statement {
	d, t := a.distributionOf(x.Relation.Schemaname, x.Relation.Relname)
	if !distributed(d) {
		st := atHome()
		st.NoTransaction = x.Concurrent
		return st
	}
	if a.env.Shards > 1 {
		if x.Concurrent {
			refuse(unsupported("CREATE INDEX CONCURRENTLY on a distributed table is not supported: it can't be undone on the other shards when it fails on one",
				"Use CREATE INDEX, or run CREATE INDEX CONCURRENTLY on each shard."))
		}
		if d == Sharded && t.Key == nil {
			refuse(a.missing(x.Relation))
		}
		if x.Unique && d == Sharded {
			// Another collation or operator class may find different keys equal.
			var columns []string
			for _, p := range x.IndexParams {
				if e := p.GetIndexElem(); len(e.Collation) == 0 && len(e.Opclass) == 0 {
					columns = append(columns, e.Name)
				}
			}
			for _, n := range t.Key.Columns {
				if !slices.Contains(columns, t.Columns[n].Name) {
					refuse(notUnique(t.Name, t.Columns[n].Name))
				}
			}
		}
	}
	return everywhere()
}

// foreignKeys checks what the constraints of a table may refer to.
func (a *analysis) foreignKeys(c *pg.CreateStmt, table string, d Distribution, rule *Rule) {
	for _, e := range c.TableElts {
		if def := e.GetColumnDef(); def != nil {
			for _, k := range def.Constraints {
				a.foreignKey(k.GetConstraint(), []string{def.Colname}, c.Relation.Schemaname, table, d, rule)
			}
		}
		if k := e.GetConstraint(); k != nil {
			a.foreignKey(k, stringsOf(k.FkAttrs), c.Relation.Schemaname, table, d, rule)
		}
	}
}

func (a *analysis) foreignKey(k *pg.Constraint, columns []string, schema, table string, d Distribution, rule *Rule) {
	if k == nil || k.Contype != pg.ConstrType_CONSTR_FOREIGN || a.env.Shards == 1 {
		return
	}
	td, t := a.distributionOf(k.Pktable.Schemaname, k.Pktable.Relname)
	self := k.Pktable.Relname == table && (k.Pktable.Schemaname == schema || k.Pktable.Schemaname == "")
	if self {
		td = d
	}
	no := func(why, hint string) {
		refuse(&Refusal{Code: "0A000", Message: "the foreign key from \"" + table + "\" to \"" + k.Pktable.Relname + "\" is not supported", Detail: why, Hint: hint})
	}
	if d == Sharded && (td == Reference || td == Sharded) && k.FkMatchtype != "" {
		changes := func(action string) bool { return action == "n" || action == "d" }
		if changes(k.FkDelAction) || changes(k.FkUpdAction) || td == Reference && k.FkUpdAction == "c" {
			for _, own := range rule.Key {
				if slices.Contains(columns, own) {
					no("Its action would give the key column \""+own+"\" another value, and leave the row on the wrong shard.", "Use NO ACTION.")
				}
			}
		}
	}
	switch {
	case td == Sharded && !self && t.Key == nil:
		refuse(a.missing(k.Pktable))
	case td == Reference && (d == Sharded || d == Reference || d == Local):
	case d == Local && td == Local:
	case d == Sharded && td == Sharded:
		group, keys := "", rule.Key
		if self {
			group = rule.Group
		} else {
			group = t.Key.Group
			keys = nil
			for _, n := range t.Key.Columns {
				keys = append(keys, t.Columns[n].Name)
			}
		}
		if group != rule.Group {
			no("The two tables are not in one co-location group: the row referred to may be on another shard.", "Put both into one group in the configuration.")
		}
		attrs := stringsOf(k.PkAttrs)
		for i, own := range rule.Key {
			at := slices.Index(columns, own)
			if at < 0 || i >= len(keys) || len(attrs) > 0 && (at >= len(attrs) || attrs[at] != keys[i]) ||
				len(attrs) == 0 && len(columns) != len(rule.Key) {
				no("The constraint does not tie the keys of both tables together: the row referred to may be on another shard.",
					"Include the key columns of both tables, in the same place.")
			}
		}
	default:
		no("A "+d.String()+" table can't refer to a "+td.String()+" one: the row referred to may be on another shard.",
			"Make \""+k.Pktable.Relname+"\" a reference table, or leave the constraint out.")
	}
}
