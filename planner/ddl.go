package planner

import (
	"slices"

	pg "github.com/pganalyze/pg_query_go/v6"
	"google.golang.org/protobuf/reflect/protoreflect"

	"github.com/shardgate/shardgate/shardmap"
)

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
		refuse(&Refusal{Code: "42501", Message: "permission denied for schema " + gatewaySchema})
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
		s := n.GetAlterObjectSchemaStmt()
		if s.Relation != nil {
			if d, t := a.distributionOf(s.Relation.Schemaname, s.Relation.Relname); distributed(d) && a.env.Shards > 1 {
				refuse(renamed(t))
			}
			a.newName(s.Newschema, s.Relation.Relname)
			return atHome()
		}
		return everywhere()
	case n.GetCreateTrigStmt() != nil:
		a.noTables(&pg.FuncCall{Funcname: n.GetCreateTrigStmt().Funcname}, "a trigger")
		return a.onRelation(n.GetCreateTrigStmt().Relation)
	case n.GetCreatePolicyStmt() != nil:
		a.policy(n.GetCreatePolicyStmt().Table, n)
		return a.onRelation(n.GetCreatePolicyStmt().Table)
	case n.GetAlterPolicyStmt() != nil:
		a.policy(n.GetAlterPolicyStmt().Table, n)
		return a.onRelation(n.GetAlterPolicyStmt().Table)
	case n.GetRuleStmt() != nil:
		r := n.GetRuleStmt().Relation
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
		if spread && a.env.Shards > 1 && r != nil {
			refuse(unsupported("rules on or with distributed tables are not supported", "Send what the rule would do as statements of their own."))
		}
		return atHome()
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
		a.notDistributed(n.GetCreateSeqStmt().Sequence, "CREATE SEQUENCE")
		if s := n.GetCreateSeqStmt().Sequence; a.temporary(s) {
			return temporaryIn(atHome(), s)
		}
		return atHome()
	case n.GetAlterSeqStmt() != nil:
		return atHome()
	case n.GetRefreshMatViewStmt() != nil:
		return a.onRelation(n.GetRefreshMatViewStmt().Relation)
	case n.GetGrantStmt() != nil:
		return a.grant(n.GetGrantStmt())
	case n.GetCommentStmt() != nil:
		return a.comment(n.GetCommentStmt())
	case n.GetAlterOwnerStmt() != nil, n.GetAlterTypeStmt() != nil, n.GetAlterEnumStmt() != nil,
		n.GetAlterDomainStmt() != nil, n.GetAlterFunctionStmt() != nil, n.GetAlterCollationStmt() != nil,
		n.GetAlterDefaultPrivilegesStmt() != nil, n.GetAlterExtensionStmt() != nil, n.GetAlterOperatorStmt() != nil,
		n.GetAlterOpFamilyStmt() != nil, n.GetAlterRoleStmt() != nil, n.GetAlterRoleSetStmt() != nil,
		n.GetAlterDatabaseSetStmt() != nil, n.GetAlterTsconfigurationStmt() != nil, n.GetAlterTsdictionaryStmt() != nil,
		n.GetCompositeTypeStmt() != nil, n.GetCreateCastStmt() != nil, n.GetCreateConversionStmt() != nil,
		n.GetCreateDomainStmt() != nil, n.GetCreateEnumStmt() != nil, n.GetCreateExtensionStmt() != nil,
		n.GetCreateFunctionStmt() != nil, n.GetCreateOpClassStmt() != nil, n.GetCreateOpFamilyStmt() != nil,
		n.GetCreatePlangStmt() != nil, n.GetCreateRangeStmt() != nil, n.GetCreateRoleStmt() != nil,
		n.GetCreateTransformStmt() != nil, n.GetDefineStmt() != nil, n.GetDropRoleStmt() != nil,
		n.GetGrantRoleStmt() != nil, n.GetCheckPointStmt() != nil, n.GetDropOwnedStmt() != nil, n.GetReassignOwnedStmt() != nil:
		return everywhere()
	}
	if a.env.Shards == 1 && n.GetCreatedbStmt() == nil && n.GetDropdbStmt() == nil {
		return atHome()
	}
	refuse(unsupported("this kind of statement is not supported by the gateway", "Run it on the shards themselves."))
	return nil
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
	name := str(f.Funcname[len(f.Funcname)-1])
	if fn := a.env.Schema.functions[name]; a.env.Shards > 1 && (fn.User && fn.Tables || sqlFunctions[name]) {
		refuse(unsupported("the function "+name+"() may use distributed tables, and "+where+" would run it on the rows of one shard", "Send its statements from the client."))
	}
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
			refuse(&Refusal{Code: "0A000", Message: "a key of type " + str(t.Names[len(t.Names)-1]) + " is not supported",
				Detail: "Column \"" + k + "\" is the key of the sharded table \"" + c.Relation.Relname + "\".",
				Hint:   "Use smallint, integer, bigint, text, varchar, char, uuid, date, timestamp, timestamptz or bytea."})
		}
	}
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

func stringsOf(ns []*pg.Node) []string {
	var out []string
	for _, n := range ns {
		out = append(out, str(n))
	}
	return out
}

// createTableAs plans CREATE TABLE AS and CREATE MATERIALIZED VIEW for local tables.
func (a *analysis) createTableAs(c *pg.CreateTableAsStmt) *Statement {
	a.notDistributed(c.Into.Rel, "CREATE TABLE AS")
	sel := c.Query.GetSelectStmt()
	if sel == nil {
		refuse(unsupported("CREATE TABLE AS EXECUTE is not supported", "Write the query in place."))
	}
	a.query(sel, nil, nil)
	a.complete(c.Query)
	if a.env.Shards > 1 && (len(a.leaves) > 0 || a.opaque != "" || a.nestedDML != "" && (len(a.refs) > 0 || a.mixed)) {
		refuse(unsupported("CREATE TABLE AS over a sharded table is not supported yet", "Create the table, and fill it by COPY."))
	}
	st := atHome()
	if a.temporary(c.Into.Rel) {
		return temporaryIn(st, c.Into.Rel)
	}
	return st
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
	x := &analysis{env: a.env, text: a.text, lits: a.lits, paramNodes: a.paramNodes, paramCount: a.paramCount}
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

func isSerial(t *pg.TypeName) bool {
	switch names := t.GetNames(); len(names) {
	case 0:
		return false
	default:
		return serials[str(names[len(names)-1])]
	}
}

var serials = set("serial", "bigserial", "smallserial", "serial4", "serial8", "serial2")

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

// renameSchema refuses to take tables away from the rules for them, or to give
// them to others.
func (a *analysis) renameSchema(from, to string) {
	for name, t := range a.env.Schema.tables[from] {
		if _, ok := a.env.Schema.rules.Rule(to, name); ok || distributed(t.Distribution) {
			refuse(unsupported("the schema \""+from+"\" can't be renamed: the configuration names tables in it", "Make a new schema, and new tables with rules of their own."))
		}
	}
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
	return [2]string{str(items[len(items)-2]), str(items[len(items)-1])}
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

// createView plans CREATE VIEW: a view is where its tables are.
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
	case local != "":
		return atHome()
	}
	return everywhere()
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
