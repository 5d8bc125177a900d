package planner

import (
	"slices"

	pg "github.com/pganalyze/pg_query_go/v6"
)

// A distributed table keeps its name, its schema and its key, since the
// configuration names them; a local one can't take a name of theirs.

// alterTable plans ALTER TABLE.
func (a *analysis) alterTable(s *pg.AlterTableStmt) *Statement {
	d, t := a.distributionOf(s.Relation.Schemaname, s.Relation.Relname)
	if s.Objtype == pg.ObjectType_OBJECT_TYPE {
		return everywhere() // a composite type's attributes
	}
	rule := keyRule(d, t)
	for _, n := range s.Cmds {
		c := n.GetAlterTableCmd()
		switch c.Subtype {
		case pg.AlterTableType_AT_AddConstraint:
			k := c.Def.GetConstraint()
			if d == Sharded && a.env.Shards > 1 {
				a.uniqueKey(k, stringsOf(k.Keys), rule, t.Name)
			}
			a.foreignKey(k, stringsOf(k.FkAttrs), s.Relation.Schemaname, s.Relation.Relname, d, &rule)
		case pg.AlterTableType_AT_AddColumn:
			def := c.Def.GetColumnDef()
			a.filled(c.Def, d, t)
			for _, k := range def.GetConstraints() {
				if d == Sharded && a.env.Shards > 1 {
					a.uniqueKey(k.GetConstraint(), []string{def.Colname}, rule, t.Name)
				}
				a.foreignKey(k.GetConstraint(), []string{def.Colname}, s.Relation.Schemaname, s.Relation.Relname, d, &rule)
			}
		case pg.AlterTableType_AT_DetachPartition, pg.AlterTableType_AT_DropInherit:
			if distributed(d) && a.env.Shards > 1 {
				refuse(unsupported("DETACH PARTITION and NO INHERIT on distributed tables are not supported yet: the rows would be in no distributed table any more", "Copy the rows to another table, and drop the partition."))
			}
		case pg.AlterTableType_AT_DropColumn, pg.AlterTableType_AT_AlterColumnType:
			if c.Subtype == pg.AlterTableType_AT_AlterColumnType {
				a.filled(c.Def, d, t)
			}
			if d == Sharded && slices.Contains(rule.Key, c.Name) && a.env.Shards > 1 {
				refuse(unsupported("the key column \""+c.Name+"\" of the sharded table "+t.String()+" can't be dropped or changed",
					"Make a new table with the other key, and copy the rows."))
			}
		case pg.AlterTableType_AT_AddInherit, pg.AlterTableType_AT_AttachPartition:
			if distributed(d) && a.env.Shards > 1 {
				refuse(unsupported("ATTACH PARTITION and INHERIT on distributed tables are not supported yet", "Create the partition with CREATE TABLE ... PARTITION OF."))
			}
		}
	}
	if distributed(d) {
		return everywhere()
	}
	return atHome()
}

// filled refuses to fill a column of existing rows with what each shard would
// compute otherwise.
func (a *analysis) filled(def *pg.Node, d Distribution, t *Table) {
	if !distributed(d) || a.env.Shards == 1 {
		return
	}
	x := &analysis{env: a.env, text: a.text, lits: a.lits, paramNodes: a.paramNodes, paramRefs: a.paramRefs}
	x.expr(def, &level{}, nil)
	serial := isSerial(def.GetColumnDef().GetTypeName())
	for _, k := range def.GetColumnDef().GetConstraints() {
		serial = serial || k.GetConstraint().GetContype() == pg.ConstrType_CONSTR_IDENTITY
	}
	for _, i := range x.dated {
		if st := (&Statement{instants: []int{i}}); st.instantIn([]byte(a.text), a.lits) != nil {
			x.clock = "the default"
		}
	}
	if serial || x.home != "" || x.opaque != "" || x.multi() != nil || x.volatile && d == Reference {
		refuse(unsupported("a column of the distributed table "+t.String()+" can't be filled with what would differ between shards",
			"Add the column without a default, and fill it by UPDATE."))
	}
}

// rename plans ALTER ... RENAME.
func (a *analysis) rename(r *pg.RenameStmt) *Statement {
	if r.Relation == nil {
		if r.RenameType == pg.ObjectType_OBJECT_SCHEMA && a.env.Shards > 1 {
			a.renameSchema(r.Subname, r.Newname)
		}
		return everywhere()
	}
	if r.RenameType == pg.ObjectType_OBJECT_ATTRIBUTE {
		return everywhere() // of a composite type
	}
	d, t := a.distributionOf(r.Relation.Schemaname, r.Relation.Relname)
	if distributed(d) {
		if a.env.Shards > 1 {
			if r.RenameType == pg.ObjectType_OBJECT_TABLE {
				refuse(renamed(t))
			}
			if i := t.Column(r.Subname); r.RenameType == pg.ObjectType_OBJECT_COLUMN && t.Key != nil && slices.Contains(t.Key.Columns, i) {
				refuse(unsupported("the key column \""+r.Subname+"\" can't be renamed: the configuration names it", "Rename another column."))
			}
		}
		return everywhere()
	}
	switch r.RenameType {
	case pg.ObjectType_OBJECT_TABLE, pg.ObjectType_OBJECT_VIEW, pg.ObjectType_OBJECT_MATVIEW, pg.ObjectType_OBJECT_FOREIGN_TABLE:
		a.newName(r.Relation.Schemaname, r.Newname)
	}
	return atHome()
}

func renamed(t *Table) *Refusal {
	return unsupported("the distributed table "+t.String()+" can't be renamed: the configuration names it", "Create a table with the new name and a rule of its own.")
}

// newName refuses to give a local relation a name that a rule has for a
// distributed one.
func (a *analysis) newName(schema, name string) {
	if schema == "" {
		schema = a.env.creationSchema()
	}
	if _, ok := a.env.Schema.rules.Rule(schema, name); ok && a.env.Shards > 1 {
		refuse(unsupported("a local table can't be given the name of a distributed one: \""+name+"\"", "Create the distributed table, and copy the rows."))
	}
}

// renameSchema refuses to take tables away from the rules for them, or to give
// them to others.
func (a *analysis) renameSchema(from, to string) {
	for name, t := range a.env.Schema.tables[from] {
		if _, ok := a.env.Schema.rules.Rule(to, name); ok || distributed(t.Distribution) {
			refuse(unsupported("the schema \""+from+"\" can't be renamed: the configuration names tables in it", "Make a new schema, and new tables with rules of their own."))
		}
	}
}
