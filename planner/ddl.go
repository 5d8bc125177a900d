package planner

import (
	"strings"

	pg "github.com/pganalyze/pg_query_go/v6"
	"google.golang.org/protobuf/reflect/protoreflect"
)

// A schema change runs where its object is: on all shards for what is distributed,
// types, functions and roles; on the home shard for the rest. What needs more
// than that is in files of its own: CREATE TABLE in createtable.go, ALTER and
// RENAME in altertable.go, and what unique and foreign keys may be in
// constraints.go.

// everywhere runs a schema change on all shards.
func everywhere() *Statement {
	return &Statement{Node: &Broadcast{Merge: First, HomeFirst: true}, Writes: true, SchemaChange: true}
}

// atHome runs a schema change on the home shard.
func atHome() *Statement {
	return &Statement{Node: &Route{Place: Home}, Writes: true, SchemaChange: true}
}

// distributionOf is the distribution of a relation named in a utility statement.
// A relation that no one knows is local: the home shard says that it's missing.
func (a *analysis) distributionOf(schema, name string) (Distribution, *Table) {
	if schema == gatewaySchema {
		refuse(&Refusal{Code: "42501", Message: "permission denied for schema " + gatewaySchema,
			Hint: "The schema is the gateways' own. pg_dump leaves it out with --exclude-schema=" + gatewaySchema + "."})
	}
	t := a.env.find(schema, name)
	if t == nil {
		return Local, nil
	}
	return t.Distribution, t
}

func distributed(d Distribution) bool {
	return d == Sharded || d == Reference || d == ShardedView
}

// onRelations plans a utility statement by the relations that it names.
func (a *analysis) onRelations(rels []*pg.Node) *Statement {
	var names [][2]string
	for _, r := range rels {
		rv := r.GetRangeVar()
		names = append(names, [2]string{rv.GetSchemaname(), rv.GetRelname()})
	}
	return a.onNames(names)
}

func (a *analysis) onNames(names [][2]string) *Statement {
	spread, local := "", ""
	for _, n := range names {
		if d, _ := a.distributionOf(n[0], n[1]); distributed(d) {
			spread = n[1]
		} else {
			local = n[1]
		}
	}
	switch {
	case spread != "" && local != "" && a.env.Shards > 1:
		refuse(unsupported("one statement can't name both the distributed table \""+spread+"\" and the local relation \""+local+"\"",
			"Send a statement for each."))
	case spread != "":
		return everywhere()
	}
	return atHome()
}

// ddl plans the statements that change the schema.
func (a *analysis) ddl(n *pg.Node) *Statement {
	if namesGateway(n) {
		refuse(gatewayOwn())
	}
	switch {
	case n.GetCreateStmt() != nil:
		return a.createTable(n.GetCreateStmt())
	case n.GetCreateTableAsStmt() != nil:
		return a.createTableAs(n.GetCreateTableAsStmt())
	case n.GetIndexStmt() != nil:
		return a.createIndex(n.GetIndexStmt())
	case n.GetAlterTableStmt() != nil:
		return a.alterTable(n.GetAlterTableStmt())
	case n.GetRenameStmt() != nil:
		return a.rename(n.GetRenameStmt())
	case n.GetDropStmt() != nil:
		return a.drop(n.GetDropStmt())
	case n.GetViewStmt() != nil:
		return a.createView(n)
	case n.GetCreateSchemaStmt() != nil:
		if len(n.GetCreateSchemaStmt().SchemaElts) > 0 && a.env.Shards > 1 {
			refuse(unsupported("CREATE SCHEMA with elements is not supported", "Create the schema and its elements by statements of their own."))
		}
		return everywhere()
	case n.GetAlterObjectSchemaStmt() != nil:
		return a.setSchema(n.GetAlterObjectSchemaStmt())
	case n.GetCreateTrigStmt() != nil:
		a.noTables(&pg.FuncCall{Funcname: n.GetCreateTrigStmt().Funcname}, "a trigger")
		a.sameOnCopies(n.GetCreateTrigStmt())
		return a.onRelation(n.GetCreateTrigStmt().Relation)
	case n.GetCreatePolicyStmt() != nil:
		a.policy(n.GetCreatePolicyStmt().Table, n)
		return a.onRelation(n.GetCreatePolicyStmt().Table)
	case n.GetAlterPolicyStmt() != nil:
		a.policy(n.GetAlterPolicyStmt().Table, n)
		return a.onRelation(n.GetAlterPolicyStmt().Table)
	case n.GetRuleStmt() != nil:
		return a.rule(n)
	case n.GetCreateStatsStmt() != nil:
		return a.onRelations(n.GetCreateStatsStmt().Relations)
	case n.GetClusterStmt() != nil && n.GetClusterStmt().Relation != nil:
		return a.onRelation(n.GetClusterStmt().Relation)
	case n.GetReindexStmt() != nil:
		if n.GetReindexStmt().Relation == nil {
			refuse(unsupported("REINDEX of a schema or a database is not supported", "Use REINDEX TABLE."))
		}
		return a.onRelation(n.GetReindexStmt().Relation)
	case n.GetCreateSeqStmt() != nil:
		return a.createSequence(n.GetCreateSeqStmt().Sequence)
	case n.GetAlterSeqStmt() != nil:
		return atHome()
	case n.GetRefreshMatViewStmt() != nil:
		return a.onRelation(n.GetRefreshMatViewStmt().Relation)
	case n.GetGrantStmt() != nil:
		return a.grant(n.GetGrantStmt())
	case n.GetCommentStmt() != nil:
		return a.comment(n.GetCommentStmt())
	case n.GetAlterRoleSetStmt() != nil:
		refuseDefault(n.GetAlterRoleSetStmt().Setstmt)
		return everywhere()
	case n.GetAlterDatabaseSetStmt() != nil:
		refuseDefault(n.GetAlterDatabaseSetStmt().Setstmt)
		return everywhere()
	case n.GetAlterOwnerStmt() != nil, n.GetAlterTypeStmt() != nil, n.GetAlterEnumStmt() != nil,
		n.GetAlterDomainStmt() != nil, n.GetAlterFunctionStmt() != nil, n.GetAlterCollationStmt() != nil,
		n.GetAlterDefaultPrivilegesStmt() != nil, n.GetAlterExtensionStmt() != nil, n.GetAlterOperatorStmt() != nil,
		n.GetAlterOpFamilyStmt() != nil, n.GetAlterRoleStmt() != nil,
		n.GetAlterTsconfigurationStmt() != nil, n.GetAlterTsdictionaryStmt() != nil,
		n.GetCompositeTypeStmt() != nil, n.GetCreateCastStmt() != nil, n.GetCreateConversionStmt() != nil,
		n.GetCreateDomainStmt() != nil, n.GetCreateEnumStmt() != nil, n.GetCreateExtensionStmt() != nil,
		n.GetCreateOpClassStmt() != nil, n.GetCreateOpFamilyStmt() != nil,
		n.GetCreatePlangStmt() != nil, n.GetCreateRangeStmt() != nil, n.GetCreateRoleStmt() != nil,
		n.GetCreateTransformStmt() != nil, n.GetDefineStmt() != nil, n.GetDropRoleStmt() != nil,
		n.GetGrantRoleStmt() != nil, n.GetCheckPointStmt() != nil, n.GetDropOwnedStmt() != nil, n.GetReassignOwnedStmt() != nil:
		return everywhere()
	case n.GetCreateFunctionStmt() != nil:
		a.staysHarmless(n.GetCreateFunctionStmt())
		return createFunction()
	}
	if a.env.Shards == 1 && n.GetCreatedbStmt() == nil && n.GetDropdbStmt() == nil {
		return atHome()
	}
	refuse(unsupported("this kind of statement is not supported by the gateway", "Run it on the shards themselves."))
	return nil
}

// setSchema plans ALTER ... SET SCHEMA.
func (a *analysis) setSchema(s *pg.AlterObjectSchemaStmt) *Statement {
	if s.Relation == nil {
		return everywhere()
	}
	if d, t := a.distributionOf(s.Relation.Schemaname, s.Relation.Relname); distributed(d) && a.env.Shards > 1 {
		refuse(renamed(t))
	}
	a.newName(s.Newschema, s.Relation.Relname)
	return atHome()
}

// rule plans CREATE RULE.
func (a *analysis) rule(n *pg.Node) *Statement {
	spread := false
	eachMessage(n.ProtoReflect(), func(m protoreflect.Message) {
		switch v := m.Interface().(type) {
		case *pg.RangeVar:
			d, _ := a.distributionOf(v.Schemaname, v.Relname)
			spread = spread || distributed(d) || d == MixedView
		case *pg.FuncCall:
			a.noTables(v, "a rule")
		}
	})
	if spread && a.env.Shards > 1 && n.GetRuleStmt().Relation != nil {
		refuse(unsupported("rules on or with distributed tables are not supported", "Send what the rule would do as statements of their own."))
	}
	return atHome()
}

func (a *analysis) createSequence(rv *pg.RangeVar) *Statement {
	a.notDistributed(rv, "CREATE SEQUENCE")
	if a.temporary(rv) {
		return temporaryIn(atHome(), rv)
	}
	return atHome()
}

// namesGateway says whether a statement names the schema of the gateways or
// something in it.
func namesGateway(n *pg.Node) bool {
	if n.GetRenameStmt() != nil && n.GetRenameStmt().RenameType == pg.ObjectType_OBJECT_SCHEMA {
		return n.GetRenameStmt().Subname == gatewaySchema || n.GetRenameStmt().Newname == gatewaySchema
	}
	found := n.GetCreateSchemaStmt().GetSchemaname() == gatewaySchema || n.GetAlterObjectSchemaStmt().GetNewschema() == gatewaySchema
	objects := n.GetDropStmt().GetObjects()
	if n.GetGrantStmt().GetObjtype() == pg.ObjectType_OBJECT_SCHEMA || n.GetGrantStmt().GetTargtype() == pg.GrantTargetType_ACL_TARGET_ALL_IN_SCHEMA {
		objects = n.GetGrantStmt().GetObjects()
	}
	if o := n.GetAlterOwnerStmt(); o.GetObjectType() == pg.ObjectType_OBJECT_SCHEMA {
		objects = []*pg.Node{o.Object}
	}
	for _, o := range objects {
		found = found || str(o) == gatewaySchema
	}
	eachMessage(n.ProtoReflect(), func(m protoreflect.Message) {
		switch v := m.Interface().(type) {
		case *pg.RangeVar:
			found = found || v.Schemaname == gatewaySchema
		case *pg.List:
			found = found || len(v.Items) > 1 && str(v.Items[0]) == gatewaySchema
		case *pg.ObjectWithArgs:
			found = found || len(v.Objname) > 1 && str(v.Objname[0]) == gatewaySchema
		}
	})
	return found
}

// noTables refuses a function that may use distributed tables where it would run
// out of the planner's sight.
func (a *analysis) noTables(f *pg.FuncCall, where string) {
	name := unqualified(f.Funcname)
	if fn := a.env.Schema.functions[name]; a.env.Shards > 1 && (fn.User && fn.Tables || sqlFunctions[name]) {
		refuse(unsupported("the function "+name+"() may use distributed tables, and "+where+" would run it on the rows of one shard", "Send its statements from the client."))
	}
}

// sameOnCopies refuses a trigger that may change a row of a reference table, unless
// its function promises to do so alike on each copy.
func (a *analysis) sameOnCopies(t *pg.CreateTrigStmt) {
	const before = 1 << 1 // TRIGGER_TYPE_BEFORE in pg_trigger.h
	name := unqualified(t.Funcname)
	d, table := a.distributionOf(t.Relation.Schemaname, t.Relation.Relname)
	if d != Reference || !t.Row || t.Timing != before || a.env.Shards == 1 || a.env.Schema.functions[name].Volatility == Immutable {
		return
	}
	refuse(unsupported("a trigger with "+name+"() may change the copies of the reference table "+table.Name+" differently",
		"Compute the values in the statement, or declare the function IMMUTABLE if what it does depends on the row alone."))
}

// policy refuses row security that one shard can't decide: its subqueries may
// read reference tables only, where the table is distributed.
func (a *analysis) policy(table *pg.RangeVar, n *pg.Node) {
	on, _ := a.distributionOf(table.Schemaname, table.Relname)
	eachMessage(n.ProtoReflect(), func(m protoreflect.Message) {
		switch v := m.Interface().(type) {
		case *pg.FuncCall:
			a.noTables(v, "a policy")
		case *pg.RangeVar:
			d, _ := a.distributionOf(v.Schemaname, v.Relname)
			if a.env.Shards > 1 && v != table && d != Reference && (distributed(d) || distributed(on)) {
				refuse(unsupported("a policy that reads \""+v.Relname+"\" is not supported: one shard doesn't have all of its rows", "Read reference tables only."))
			}
		}
	})
}

func (a *analysis) onRelation(rv *pg.RangeVar) *Statement {
	return a.onNames([][2]string{{rv.GetSchemaname(), rv.GetRelname()}})
}

// nameOf reads a qualified name from a list of strings.
func nameOf(n *pg.Node) [2]string {
	items := n.GetList().GetItems()
	switch {
	case len(items) == 0:
		return [2]string{"", str(n)}
	case len(items) == 1:
		return [2]string{"", str(items[0])}
	}
	return [2]string{str(items[len(items)-2]), unqualified(items)}
}

// drop plans DROP.
func (a *analysis) drop(d *pg.DropStmt) *Statement {
	var names [][2]string
	switch d.RemoveType {
	case pg.ObjectType_OBJECT_TABLE, pg.ObjectType_OBJECT_INDEX, pg.ObjectType_OBJECT_VIEW,
		pg.ObjectType_OBJECT_MATVIEW, pg.ObjectType_OBJECT_FOREIGN_TABLE, pg.ObjectType_OBJECT_SEQUENCE:
		for _, o := range d.Objects {
			names = append(names, nameOf(o))
		}
	case pg.ObjectType_OBJECT_TRIGGER, pg.ObjectType_OBJECT_RULE, pg.ObjectType_OBJECT_POLICY:
		// The object's name comes last, after its table's.
		for _, o := range d.Objects {
			items := o.GetList().GetItems()
			table := &pg.Node{Node: &pg.Node_List{List: &pg.List{Items: items[:len(items)-1]}}}
			names = append(names, nameOf(table))
		}
	default:
		return everywhere()
	}
	if d.Concurrent && a.env.Shards > 1 {
		for _, n := range names {
			if x, _ := a.distributionOf(n[0], n[1]); distributed(x) {
				refuse(unsupported("DROP INDEX CONCURRENTLY on a distributed table is not supported", "Use DROP INDEX."))
			}
		}
	}
	st := a.onNames(names)
	st.NoTransaction = d.Concurrent
	return st
}

// staysHarmless refuses a function that something runs out of the planner's sight already,
// if it would use distributed tables from now on: noTables has let its earlier form pass.
func (a *analysis) staysHarmless(f *pg.CreateFunctionStmt) {
	name := unqualified(f.Funcname)
	if a.env.Shards == 1 || !a.env.Schema.Unseen[strings.ToLower(name)] {
		return
	}
	bodies := ""
	for _, o := range f.Options {
		if o.GetDefElem().GetDefname() == "as" {
			eachMessageBelow(o, func(m protoreflect.Message) {
				if s, ok := m.Interface().(*pg.String); ok {
					bodies += s.Sval + "\n"
				}
			})
		}
	}
	if f.SqlBody != nil {
		bodies += a.text
	}
	if found := a.env.Schema.Mentions(bodies); found != "" {
		refuse(unsupported("a trigger, a policy or a rule calls "+name+"(), and would run it on the rows of one shard: it mentions "+found, "Send its statements from the client."))
	}
}

// createFunction plans CREATE FUNCTION and CREATE PROCEDURE. The home shard checks the
// body: it alone has the local tables and the sequences that are named in it.
func createFunction() *Statement {
	st := everywhere()
	st.Node = &Broadcast{Merge: First, HomeFirst: true, Before: "SET LOCAL check_function_bodies TO off"}
	return st
}

// createView plans CREATE VIEW: a view is where its tables are, and one without tables
// is local.
func (a *analysis) createView(n *pg.Node) *Statement {
	v := n.GetViewStmt()
	a.notDistributed(v.View, "CREATE VIEW")
	spread, local := "", ""
	eachMessageBelow(v.Query, func(m protoreflect.Message) {
		if f, ok := m.Interface().(*pg.FuncCall); ok {
			a.noTables(f, "a view")
		}
		rv, ok := m.Interface().(*pg.RangeVar)
		if !ok {
			return
		}
		if t := a.env.find(rv.Schemaname, rv.Relname); t == nil || systemSchema(t.Schema) {
			// A system view, a CTE, or a table that does not exist.
		} else if distributed(t.Distribution) {
			spread = rv.Relname
		} else {
			local = rv.Relname
		}
	})
	switch {
	case spread != "" && local != "" && a.env.Shards > 1:
		refuse(unsupported("a view over both the distributed table \""+spread+"\" and the local table \""+local+"\" is not supported yet", "Make a view for each."))
	case a.temporary(v.View):
		if spread != "" && a.env.Shards > 1 {
			refuse(unsupported("a temporary view over distributed tables is not supported yet", "Make a view that is not temporary."))
		}
		return temporaryIn(atHome(), v.View)
	case spread != "":
		return everywhere()
	}
	if d, t := a.distributionOf(v.View.Schemaname, v.View.Relname); distributed(d) && a.env.Shards > 1 {
		refuse(unsupported("the view "+t.String()+" over distributed tables can't be replaced by one over none", "Drop it first."))
	}
	return atHome()
}

// grant plans GRANT and REVOKE.
func (a *analysis) grant(g *pg.GrantStmt) *Statement {
	if g.Targtype != pg.GrantTargetType_ACL_TARGET_OBJECT || g.Objtype != pg.ObjectType_OBJECT_TABLE && g.Objtype != pg.ObjectType_OBJECT_SEQUENCE {
		return everywhere()
	}
	return a.onRelations(g.Objects)
}

// comment plans COMMENT ON.
func (a *analysis) comment(c *pg.CommentStmt) *Statement {
	items := c.Object.GetList().GetItems()
	switch c.Objtype {
	case pg.ObjectType_OBJECT_TABLE, pg.ObjectType_OBJECT_INDEX, pg.ObjectType_OBJECT_VIEW,
		pg.ObjectType_OBJECT_MATVIEW, pg.ObjectType_OBJECT_SEQUENCE, pg.ObjectType_OBJECT_FOREIGN_TABLE:
		return a.onNames([][2]string{nameOf(c.Object)})
	case pg.ObjectType_OBJECT_COLUMN, pg.ObjectType_OBJECT_TABCONSTRAINT, pg.ObjectType_OBJECT_TRIGGER,
		pg.ObjectType_OBJECT_POLICY, pg.ObjectType_OBJECT_RULE:
		if len(items) > 1 {
			return a.onNames([][2]string{nameOf(&pg.Node{Node: &pg.Node_List{List: &pg.List{Items: items[:len(items)-1]}}})})
		}
	}
	return everywhere()
}
