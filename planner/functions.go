package planner

import (
	"slices"
	"strings"

	pg "github.com/pganalyze/pg_query_go/v6"
)

// Functions of pg_catalog that matter to where a statement may run. Everything
// else there depends on its arguments, on settings that every shard has alike,
// or is volatile.
var (
	// clockFunctions give a time that differs between shards.
	clockFunctions = set("now", "transaction_timestamp", "statement_timestamp", "age")
	// shardFunctions tell about the server that they run on.
	shardFunctions = set("pg_backend_pid", "txid_current", "txid_current_if_assigned", "pg_current_xact_id",
		"pg_current_xact_id_if_assigned", "txid_current_snapshot", "pg_current_snapshot", "pg_postmaster_start_time",
		"pg_conf_load_time", "inet_server_addr", "inet_server_port", "inet_client_addr", "inet_client_port",
		"pg_current_wal_lsn", "pg_current_wal_insert_lsn", "pg_is_in_recovery", "pg_export_snapshot")
	// homeFunctions have one state for the cluster, kept on the home shard.
	homeFunctions = set("nextval", "currval", "setval", "lastval", "pg_notify", "lo_create", "lo_creat", "lo_open",
		"lo_unlink", "lo_import", "lo_export", "lo_get", "lo_put", "lo_from_bytea", "loread", "lowrite")
	// oidFunctions and oidTypes give OIDs of a server's objects, and each shard gives its
	// own to the user's. Text search configurations are left out: they are only used.
	oidFunctions = set("pg_typeof", "regclass", "to_regclass", "to_regtype", "to_regproc", "to_regprocedure", "to_regoper", "to_regoperator",
		"to_regnamespace", "to_regrole", "to_regcollation")
	oidTypes = set("regclass", "regtype", "regproc", "regprocedure", "regoper", "regoperator", "regnamespace", "regrole", "regcollation")
	// sqlFunctions run SQL that is given to them as text, or read a table by its name.
	sqlFunctions = set("query_to_xml", "query_to_xmlschema", "query_to_xml_and_xmlschema", "table_to_xml",
		"table_to_xml_and_xmlschema", "schema_to_xml", "schema_to_xml_and_xmlschema", "database_to_xml",
		"database_to_xml_and_xmlschema", "cursor_to_xml", "ts_stat", "ts_rewrite", "dblink", "dblink_exec",
		"pg_prewarm", "crosstab", "crosstab2", "crosstab3", "crosstab4", "connectby", "xpath_table")
)

func set(names ...string) map[string]bool {
	m := make(map[string]bool, len(names))
	for _, n := range names {
		m[n] = true
	}
	return m
}

// function classifies a call.
func (a *analysis) function(f *pg.FuncCall) {
	name := unqualified(f.Funcname)
	if asksStatus(f) {
		a.asks = true
		return
	}
	if len(f.Funcname) > 1 && str(f.Funcname[0]) == gatewaySchema {
		refuse(&Refusal{Code: "42501", Message: "permission denied for schema " + gatewaySchema,
			Detail: "The schema holds the gateway's own functions.", Position: a.position(f.Location)})
	}
	switch {
	case clockFunctions[name] && (name != "age" || len(f.Args) == 1):
		a.clock = name + "()"
		a.tells = a.tells || a.transactionTime(f)
	case shardFunctions[name]:
		a.shardOwn = name + "()"
	case homeFunctions[name]:
		a.home = name + "()"
		// What sequences do is in no transaction; large objects and notifications are.
		a.changes = a.changes || strings.HasPrefix(name, "lo") && name != "lo_get" || name == "pg_notify"
		a.writes = a.writes || a.changes
	case sqlFunctions[name]:
		a.opaque = name + "()"
	case strings.HasPrefix(name, "pg_advisory") || strings.HasPrefix(name, "pg_try_advisory"):
		a.home = name + "()"
		if !strings.Contains(name, "_xact_") {
			a.hold, a.sessionLock = true, true
		}
	case oidFunctions[name]:
		if f != a.named || name != "pg_typeof" {
			a.oid = name + "()"
		}
		a.rowType = a.rowType || name == "pg_typeof" && a.hasRow(f)
	case name == "set_config":
		refuse(&Refusal{Code: "0A000", Message: "set_config() is only supported as the whole of a statement: SELECT set_config('name', 'value', false)",
			Hint: "Use SET or SET LOCAL.", Position: a.position(f.Location)})
	}
	if _, ok := a.env.Schema.functions[name]; !ok && len(f.Funcname) == 1 && len(f.Args) == 1 && a.columnName(name) {
		return // a row's field, which may be written as a function of the row
	}
	a.called(name)
}

// hasRow says whether a whole row of a relation is among what a function is called with.
func (a *analysis) hasRow(f *pg.FuncCall) bool {
	has := false
	eachMessage(f.ProtoReflect(), func(m protoMessage) {
		ref, ok := m.Interface().(*pg.ColumnRef)
		if !ok {
			return
		}
		last := ref.Fields[len(ref.Fields)-1]
		has = has || last.GetAStar() != nil || !a.columnName(str(last)) && slices.ContainsFunc(a.uses, func(u use) bool { return u.rte.name == str(last) })
	})
	return has
}

// builtin is the name of a function if it is certain to be PostgreSQL's own, else "".
func (a *analysis) builtin(f *pg.FuncCall) string {
	n := len(f.Funcname)
	name := unqualified(f.Funcname)
	switch {
	case n == 2 && str(f.Funcname[0]) == "pg_catalog":
		return name
	case n == 1 && !a.env.Schema.functions[name].User:
		return name
	}
	return ""
}

// oidCast says whether a cast gives the OID of one of a server's objects.
func oidCast(c *pg.TypeCast) bool {
	return oidTypes[unqualified(c.TypeName.GetNames())]
}

// operator classifies the use of an operator by the function below it, where that
// is the user's own.
func (a *analysis) operator(name []*pg.Node) {
	for _, f := range a.env.Schema.Operators[unqualified(name)] {
		a.called(f)
	}
}

// called notes what the functions of a name may do.
func (a *analysis) called(name string) {
	fn, ok := a.env.Schema.functions[name]
	if !ok {
		a.unknown = name
		return
	}
	if fn.Volatility == Volatile {
		a.volatile = true
	}
	if fn.User {
		if fn.Tables {
			a.opaque = name + "()"
		}
		if fn.Home {
			a.usesHome = name + "()"
		}
		switch fn.Volatility {
		case Volatile:
			a.writes, a.changes, a.taints = true, true, true
		case Stable:
			a.stable = name + "()" // it may read the clock
		}
	}
}

// aggregate says whether a call is, or may be, an aggregate of its query level.
func (a *analysis) aggregate(f *pg.FuncCall) bool {
	if f.Over != nil {
		return false
	}
	if f.AggStar || f.AggDistinct || f.AggWithinGroup || f.AggFilter != nil || len(f.AggOrder) > 0 {
		return true
	}
	return a.env.Schema.functions[unqualified(f.Funcname)].Aggregate
}

// valueFunction classifies CURRENT_DATE, CURRENT_USER and the like.
func (a *analysis) valueFunction(f *pg.SQLValueFunction) {
	switch f.Op {
	case pg.SQLValueFunctionOp_SVFOP_CURRENT_ROLE, pg.SQLValueFunctionOp_SVFOP_CURRENT_USER,
		pg.SQLValueFunctionOp_SVFOP_USER, pg.SQLValueFunctionOp_SVFOP_SESSION_USER,
		pg.SQLValueFunctionOp_SVFOP_CURRENT_CATALOG, pg.SQLValueFunctionOp_SVFOP_CURRENT_SCHEMA:
	default:
		a.clock, a.tells = "CURRENT_TIMESTAMP", true
	}
}
