package planner

import (
	"slices"
	"strconv"
	"strings"

	pg "github.com/pganalyze/pg_query_go/v6"
	"google.golang.org/protobuf/reflect/protoreflect"
)

// utility plans what is neither a query nor a change of rows.
func (a *analysis) utility(n *pg.Node) *Statement {
	switch {
	case n.GetTransactionStmt() != nil:
		return &Statement{Node: a.transaction(n.GetTransactionStmt())}
	case n.GetVariableSetStmt() != nil:
		return &Statement{Node: a.set(n.GetVariableSetStmt())}
	case n.GetVariableShowStmt() != nil && settingName(n.GetVariableShowStmt().Name) == InDoubt:
		return &Statement{Node: &Control{Kind: Show, Tag: "SHOW", Name: InDoubt}}
	case n.GetVariableShowStmt() != nil:
		return &Statement{Node: &Route{Place: Home}}
	case n.GetConstraintsSetStmt() != nil:
		return &Statement{Node: &Control{Kind: Constraints, Tag: "SET CONSTRAINTS"}}
	case n.GetDiscardStmt() != nil:
		return a.discard(n.GetDiscardStmt())
	case n.GetDeallocateStmt() != nil:
		d := n.GetDeallocateStmt()
		tag := "DEALLOCATE"
		if d.Name == "" {
			tag = "DEALLOCATE ALL"
		}
		return &Statement{Node: &Control{Kind: Deallocate, Tag: tag, Name: d.Name}}
	case n.GetPrepareStmt() != nil:
		return a.prepare(n.GetPrepareStmt())
	case n.GetExecuteStmt() != nil:
		a.tokens()
		return a.execute(n.GetExecuteStmt(), 0, false)
	case n.GetExplainStmt().GetQuery().GetExecuteStmt() != nil:
		return a.execute(n.GetExplainStmt().Query.GetExecuteStmt(), a.tokenAt(int32(a.explained(n.GetExplainStmt()))), true)
	case n.GetCreateTableAsStmt().GetQuery().GetExecuteStmt() != nil:
		return a.execute(n.GetCreateTableAsStmt().Query.GetExecuteStmt(), a.executeIn(), true)
	case n.GetCopyStmt() != nil:
		c, st := n.GetCopyStmt(), a.copy(n)
		st.TakesData = c.IsFrom && c.Filename == "" && !c.IsProgram
		return st
	case n.GetExplainStmt() != nil:
		return a.explain(n.GetExplainStmt())
	case n.GetDeclareCursorStmt() != nil:
		return a.declare(n.GetDeclareCursorStmt())
	case n.GetFetchStmt() != nil:
		return &Statement{Node: &Cursor{Name: n.GetFetchStmt().Portalname}}
	case n.GetClosePortalStmt() != nil:
		return &Statement{Node: &Cursor{Name: n.GetClosePortalStmt().Portalname, Close: true}}
	case n.GetListenStmt() != nil:
		return &Statement{Node: &Route{Place: Home}, HoldsSession: true}
	case n.GetNotifyStmt() != nil, n.GetUnlistenStmt() != nil:
		return &Statement{Node: &Route{Place: Home}, Writes: n.GetNotifyStmt() != nil}
	case n.GetLockStmt() != nil:
		return a.lock(n.GetLockStmt())
	case n.GetVacuumStmt() != nil:
		return a.vacuum(n.GetVacuumStmt())
	case n.GetTruncateStmt() != nil:
		st := a.onRelations(n.GetTruncateStmt().Relations)
		st.SchemaChange = false
		return st
	case n.GetDoStmt() != nil:
		return a.do(n.GetDoStmt())
	case n.GetCallStmt() != nil:
		a.function(n.GetCallStmt().Funccall)
		a.exprs(n.GetCallStmt().Funccall.Args, &level{}, nil)
		if a.env.Shards > 1 && (a.opaque != "" || len(a.leaves) > 0) {
			refuse(unsupported("a procedure that may read or change distributed tables can't be called", "Send its statements from the client."))
		}
		return &Statement{Node: &Route{Place: Home}, Writes: true, Taints: true}
	}
	return a.ddl(n)
}

// transaction plans BEGIN, COMMIT, SAVEPOINT and the like.
func (a *analysis) transaction(t *pg.TransactionStmt) Node {
	c := &Control{Chain: t.Chain}
	switch t.Kind {
	case pg.TransactionStmtKind_TRANS_STMT_BEGIN:
		c.Kind, c.Tag = Begin, "BEGIN"
	case pg.TransactionStmtKind_TRANS_STMT_START:
		c.Kind, c.Tag = Begin, "START TRANSACTION"
	case pg.TransactionStmtKind_TRANS_STMT_COMMIT:
		c.Kind, c.Tag = Commit, "COMMIT"
	case pg.TransactionStmtKind_TRANS_STMT_ROLLBACK:
		c.Kind, c.Tag = Rollback, "ROLLBACK"
	case pg.TransactionStmtKind_TRANS_STMT_SAVEPOINT:
		c.Kind, c.Tag, c.Name = Savepoint, "SAVEPOINT", t.SavepointName
	case pg.TransactionStmtKind_TRANS_STMT_RELEASE:
		c.Kind, c.Tag, c.Name = Release, "RELEASE", t.SavepointName
	case pg.TransactionStmtKind_TRANS_STMT_ROLLBACK_TO:
		c.Kind, c.Tag, c.Name = RollbackTo, "ROLLBACK", t.SavepointName
	default:
		refuse(unsupported("PREPARE TRANSACTION, COMMIT PREPARED and ROLLBACK PREPARED are not supported",
			"Use COMMIT: a transaction over several shards is committed atomically by the gateway."))
	}
	c.Modes, c.Isolation = modes(t.Options)
	return c
}

// modes writes transaction modes as SQL.
func modes(options []*pg.Node) (sql, isolation string) {
	var parts []string
	for _, o := range options {
		d := o.GetDefElem()
		arg := d.Arg.GetAConst()
		switch d.Defname {
		case "transaction_isolation":
			isolation = arg.GetSval().GetSval()
			parts = append(parts, "ISOLATION LEVEL "+strings.ToUpper(isolation))
		case "transaction_read_only":
			parts = append(parts, choose(arg.GetIval().GetIval() != 0, "READ ONLY", "READ WRITE"))
		case "transaction_deferrable":
			parts = append(parts, choose(arg.GetIval().GetIval() != 0, "DEFERRABLE", "NOT DEFERRABLE"))
		}
	}
	return strings.Join(parts, ", "), isolation
}

func choose[T any](b bool, yes, no T) T {
	if b {
		return yes
	}
	return no
}

// settingName is the name under which a setting is remembered: names of
// settings don't depend on case.
func settingName(name string) string { return strings.ToLower(name) }

// set plans SET and RESET.
func (a *analysis) set(v *pg.VariableSetStmt) Node {
	c := &Control{Kind: Set, Tag: "SET", Name: settingName(v.Name), Local: v.IsLocal}
	switch v.Kind {
	case pg.VariableSetKind_VAR_SET_VALUE:
		refuseSetting(v.Name, settingValue(v))
		if OwnSetting(c.Name) && len(v.Args) > 1 {
			refuse(&Refusal{Code: "22023", Message: "SET " + c.Name + " takes only one argument"})
		}
		c.Settings, c.Value = []string{c.Name}, settingValue(v)
		switch c.Name {
		case "transaction_isolation":
			c.Settings, c.Isolation = nil, strings.ToLower(settingValue(v))
		case "transaction_read_only", "transaction_deferrable":
			c.Settings = nil // gone with the transaction
		}
	case pg.VariableSetKind_VAR_SET_DEFAULT:
		refuseSetting(v.Name, "")
		c.Reset = true
		c.Settings = []string{c.Name}
	case pg.VariableSetKind_VAR_RESET:
		c.Tag, c.Reset = "RESET", true
		c.Settings = []string{c.Name}
		refuseSetting(v.Name, "")
	case pg.VariableSetKind_VAR_RESET_ALL:
		c.Tag, c.Reset, c.Name = "RESET", true, ""
	case pg.VariableSetKind_VAR_SET_CURRENT:
		refuse(unsupported("SET FROM CURRENT is only allowed in CREATE FUNCTION", "Name the value."))
	case pg.VariableSetKind_VAR_SET_MULTI:
		switch v.Name {
		case "TRANSACTION":
			_, c.Isolation = modes(v.Args)
			c.Name, c.Local = "transaction", true
		case "SESSION CHARACTERISTICS":
			c.Name = ""
			for _, o := range v.Args {
				c.Settings = append(c.Settings, "default_"+o.GetDefElem().Defname)
			}
		default:
			refuse(unsupported("SET TRANSACTION SNAPSHOT is not supported: a snapshot belongs to one shard", "Use ISOLATION LEVEL REPEATABLE READ."))
		}
	}
	return c
}

// settingValue is the text of the value that SET gives, of the first one in a list.
func settingValue(v *pg.VariableSetStmt) string {
	if len(v.Args) == 0 {
		return ""
	}
	return constant(v.Args[0].GetAConst())
}

// refuseDefault is refuseSetting for what a role or a database begins with.
func refuseDefault(v *pg.VariableSetStmt) {
	if OwnSetting(settingName(v.Name)) {
		refuse(unsupported("the gateway's settings can't be made a role's or a database's", "Set them in the session, or in its start-up options."))
	}
	if v.Kind == pg.VariableSetKind_VAR_SET_VALUE {
		refuseSetting(v.Name, settingValue(v))
	}
}

// InDoubt is the table of distributed transactions that are not finished everywhere.
const InDoubt = gatewaySchema + ".in_doubt"

// OwnSetting says whether a setting, by its name in lower case, is one of the gateway's own.
func OwnSetting(name string) bool { return strings.HasPrefix(name, gatewaySchema+".") }

// constant is the text of a setting's value.
func constant(c *pg.A_Const) string {
	switch {
	case c.GetIval() != nil:
		return strconv.Itoa(int(c.GetIval().GetIval()))
	case c.GetFval() != nil:
		return c.GetFval().GetFval()
	}
	return c.GetSval().GetSval()
}

// unsafeEncodings are client encodings in which a byte below 0x80 can be part of
// a longer character, so that the text can't be read byte by byte.
var unsafeEncodings = set("sjis", "shiftjis", "mskanji", "win932", "windows932", "big5", "win950", "windows950",
	"gbk", "win936", "windows936", "uhc", "win949", "windows949", "johab", "gb18030", "shiftjis2004")

// refuseSetting refuses the settings that would make the gateway misread what
// follows, and one that can't be read back and taken to another connection.
func refuseSetting(name, value string) {
	switch settingName(name) {
	case "standard_conforming_strings":
		if v := strings.ToLower(value); v != "on" && v != "true" && v != "1" && v != "yes" && v != "" {
			refuse(unsupported("standard_conforming_strings can't be turned off", "Write strings with backslash escapes as E'...'."))
		}
	case "client_encoding":
		v := strings.NewReplacer("-", "", "_", "", " ", "").Replace(strings.ToLower(value))
		if unsafeEncodings[v] {
			refuse(unsupported("the client encoding "+value+" is not supported", "Use UTF8."))
		}
	case "seed":
		refuse(unsupported("SET seed is not supported: it belongs to one connection to a shard", "Call setseed() in the transaction block that calls random()."))
	case "session_authorization":
		refuse(unsupported("SET SESSION AUTHORIZATION is not supported", "Connect as that role, or use SET ROLE."))
	}
}

// RefusedSetting is refuseSetting for settings that come with the start-up
// packet. The error is a *Refusal.
func RefusedSetting(name, value string) (err error) {
	defer func() {
		if r, ok := recover().(*Refusal); ok {
			err = r
		}
	}()
	refuseSetting(name, value)
	return nil
}

func (a *analysis) discard(d *pg.DiscardStmt) *Statement {
	switch d.Target {
	case pg.DiscardMode_DISCARD_ALL:
		return &Statement{Node: &Control{Kind: DiscardAll, Tag: "DISCARD ALL"}}
	case pg.DiscardMode_DISCARD_PLANS:
		return &Statement{Node: &Route{Place: Any}}
	case pg.DiscardMode_DISCARD_TEMP:
		return &Statement{Node: &Route{Place: Home}, SchemaChange: true}
	default:
		return &Statement{Node: &Route{Place: Home}, Taints: true}
	}
}

// lock plans LOCK TABLE.
func (a *analysis) lock(l *pg.LockStmt) *Statement {
	st := a.onRelations(l.Relations)
	st.SchemaChange = false
	st.BlockOnly = "LOCK TABLE"
	return st
}

// vacuum plans VACUUM and ANALYZE. Each shard does its own; the work of one does
// not depend on the others, so that no distributed transaction is needed.
func (a *analysis) vacuum(v *pg.VacuumStmt) *Statement {
	var rels []*pg.Node
	for _, r := range v.Rels {
		rels = append(rels, &pg.Node{Node: &pg.Node_RangeVar{RangeVar: r.GetVacuumRelation().Relation}})
	}
	if len(rels) == 0 {
		return &Statement{Node: &Broadcast{Merge: First}, NoTransaction: v.IsVacuumcmd, Writes: true}
	}
	st := a.onRelations(rels)
	st.SchemaChange = false
	st.NoTransaction = v.IsVacuumcmd
	return st
}

// do plans an anonymous code block, which runs on the home shard and so must
// not touch what is spread.
func (a *analysis) do(d *pg.DoStmt) *Statement {
	for _, arg := range d.Args {
		if body := arg.GetDefElem().GetArg().GetString_(); body != nil && a.env.Shards > 1 && arg.GetDefElem().Defname == "as" {
			if name := a.env.Schema.Mentions(body.Sval); name != "" {
				refuse(unsupported("a DO block can't be seen through, and this one mentions "+name, "Send its statements from the client."))
			}
		}
	}
	return &Statement{Node: &Route{Place: Home}, Writes: true, Taints: true, SchemaChange: true}
}

// Mentions says what makes a function's body look as if it read or changed
// distributed tables: the name of one, or dynamic SQL. It errs on the side of
// suspicion. The empty string means that there is no sign.
func (s *Schema) Mentions(body string) string {
	said := map[string]bool{}
	for _, w := range Words(body) {
		said[w] = true
	}
	var found []string
	spread := false
	for _, m := range s.tables {
		for _, t := range m {
			if !distributed(t.Distribution) && t.Distribution != MixedView {
				continue
			}
			spread = true
			if said[strings.ToLower(t.Name)] {
				found = append(found, t.String())
			}
		}
	}
	if !spread {
		return ""
	}
	for name := range said {
		if fn := s.functions[name]; fn.User && fn.Tables || sqlFunctions[name] || dynamicSQL[name] {
			found = append(found, strings.ToUpper(name))
		}
	}
	if len(found) == 0 {
		return ""
	}
	return slices.Min(found)
}

// Words are the words of a function's body, in small letters.
func Words(body string) (out []string) {
	start := -1
	for i := 0; i <= len(body); i++ {
		if i < len(body) && (body[i] == '_' || body[i] >= '0' && body[i] <= '9' || body[i] >= 'a' && body[i] <= 'z' || body[i] >= 'A' && body[i] <= 'Z' || body[i] >= 0x80) {
			if start < 0 {
				start = i
			}
		} else if start >= 0 {
			out = append(out, strings.ToLower(body[start:i]))
			start = -1
		}
	}
	return out
}

// UsesLocal says whether a function's body uses what only the home shard has: it reads or
// changes a local table, takes a sequence's next value, or calls a function that does. A table
// is noticed by its name behind one of the words that names of tables follow.
func (s *Schema) UsesLocal(body string) bool {
	before, schema := "", ""
	for _, w := range Words(body) {
		if _, ok := s.tables[w]; ok && tableWords[before] {
			schema = w // the table's name is next
			continue
		}
		switch {
		case s.functions[w].Home, homeFunctions[w]:
			return true
		case schema != "":
			if t := s.tables[schema][w]; t != nil && t.Distribution == Local {
				return true
			}
		case tableWords[before]:
			for name, m := range s.tables {
				if t := m[w]; t != nil && t.Distribution == Local && name != "pg_catalog" && name != "information_schema" {
					return true
				}
			}
		}
		before, schema = w, ""
	}
	return false
}

// tableWords are the words of SQL that the name of a table follows.
var tableWords = set("from", "join", "only", "into", "update", "table", "using")

// dynamicSQL are the words by which procedural languages run SQL from a string.
var dynamicSQL = set("execute", "spi_exec_query", "spi_query", "spi_prepare", "spi_exec_prepared", "spi_query_prepared")

// eachMessageBelow is eachMessage for a node.
func eachMessageBelow(n *pg.Node, f func(protoreflect.Message)) { eachMessage(n.ProtoReflect(), f) }
