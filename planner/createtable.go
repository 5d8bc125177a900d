package planner

import (
	pg "github.com/pganalyze/pg_query_go/v6"

	"github.com/shardgate/shardgate/shardmap"
)

// Whether a new table is sharded, a reference table or local is decided by the
// configuration's rule for its name, and for a partition by its parent; the
// statement itself doesn't say.

// createTable plans CREATE TABLE: where depends on the rule for its name.
func (a *analysis) createTable(c *pg.CreateStmt) *Statement {
	rv := c.Relation
	if a.temporary(rv) {
		return temporaryIn(atHome(), rv)
	}
	schema := rv.Schemaname
	if schema == "" {
		schema = a.env.creationSchema()
	}
	if schema == gatewaySchema {
		refuse(&Refusal{Code: "42501", Message: "permission denied for schema " + gatewaySchema})
	}
	rule, ok := a.env.Schema.rules.Rule(schema, rv.Relname)
	if c.Partbound != nil && len(c.InhRelations) == 1 {
		// A partition is where its parent is.
		p := c.InhRelations[0].GetRangeVar()
		d, t := a.distributionOf(p.Schemaname, p.Relname)
		switch {
		case !distributed(d) && ok && a.env.Shards > 1:
			refuse(unsupported("a partition of a local table can't be distributed", "Make the parent distributed."))
		case !distributed(d):
			return atHome()
		case d == Sharded && a.env.Shards > 1:
			own := keyRule(d, t)
			a.constraints(c, own)
			a.foreignKeys(c, rv.Relname, d, &own)
		}
		return everywhere()
	}
	if !ok {
		for _, p := range c.InhRelations {
			if d, t := a.distributionOf(p.GetRangeVar().Schemaname, p.GetRangeVar().Relname); distributed(d) && a.env.Shards > 1 {
				refuse(unsupported("a local table can't inherit from the distributed table "+t.String(), "Add a rule for its name to the configuration."))
			}
		}
		a.foreignKeys(c, rv.Relname, Local, nil)
		return atHome()
	}
	if a.env.Shards == 1 {
		return everywhere()
	}
	if rule.Reference {
		a.foreignKeys(c, rv.Relname, Reference, nil)
		return everywhere()
	}
	if len(c.InhRelations) > 0 {
		refuse(unsupported("a sharded table can't inherit from another", "Name its columns."))
	}
	a.shardedColumns(c, rule)
	a.foreignKeys(c, rv.Relname, Sharded, &rule)
	return everywhere()
}

// shardedColumns checks the key and the unique constraints of a new sharded table.
func (a *analysis) shardedColumns(c *pg.CreateStmt, rule Rule) {
	types := map[string]*pg.TypeName{}
	for _, e := range c.TableElts {
		if d := e.GetColumnDef(); d != nil {
			types[d.Colname] = d.TypeName
		}
		if l := e.GetTableLikeClause(); l != nil && l.Options != 0 {
			refuse(unsupported("LIKE ... INCLUDING in a sharded table is not supported: it may bring constraints that one shard can't hold", "Write them out."))
		}
	}
	a.constraints(c, rule)
	for _, k := range rule.Key {
		t, ok := types[k]
		if !ok {
			refuse(&Refusal{Code: "42703", Message: "the sharded table \"" + c.Relation.Relname + "\" has no column \"" + k + "\", which the configuration names as its key",
				Hint: "Add the column by its name (not by LIKE or OF), or change the table's key in the configuration."})
		}
		if isSerial(t) {
			continue
		}
		if _, hashable := shardmap.KeyTypeOfOID(typeOID(t)); !hashable || len(t.ArrayBounds) > 0 {
			refuse(&Refusal{Code: "0A000", Message: "a key of type " + unqualified(t.Names) + " is not supported",
				Detail: "Column \"" + k + "\" is the key of the sharded table \"" + c.Relation.Relname + "\".",
				Hint:   "Use smallint, integer, bigint, text, varchar, char, uuid, date, timestamp, timestamptz or bytea."})
		}
	}
}

func isSerial(t *pg.TypeName) bool {
	switch names := t.GetNames(); len(names) {
	case 0:
		return false
	default:
		return serials[unqualified(names)]
	}
}

var serials = set("serial", "bigserial", "smallserial", "serial4", "serial8", "serial2")
