package planner

import (
	"slices"
	"strings"

	pg "github.com/pganalyze/pg_query_go/v6"
)

// Defaults that no shard can compute for itself: of keys, since they decide on the shard; of
// sequences, of which the home shard's is the one for all; and of reference tables, if each copy
// would get another value. The rows of an INSERT ... VALUES are given them: those that are volatile
// as values, which the home shard computes before, any other as the expression that it is.

// AskedDefault is a default of one row, which the home shard computes.
type AskedDefault struct {
	// Expr is the expression, with a cast to a type whose text says all.
	Expr string
	// Sample is a value of that type, by which the statement can be described.
	Sample string
}

// givenTypes are the types of which a volatile default may be, by what the text of their values
// is in any session, with a sample.
var givenTypes = map[uint32][2]string{
	16: {"bool", "f"}, 21: {"int2", "0"}, 23: {"int4", "0"}, oidInt8: {"int8", "0"}, 25: {"text", ""}, 1043: {"varchar", ""}, 1042: {"bpchar", ""},
	1700: {"numeric", "0"}, 2950: {"uuid", "00000000-0000-0000-0000-000000000000"},
}

// giveDefaults has the statement run by a text in which the rows of an INSERT have the defaults
// that no shard can compute for itself. It says whether there are any.
func (a *analysis) giveDefaults(ins *pg.InsertStmt, t *Table) bool {
	sel := ins.SelectStmt.GetSelectStmt()
	if t == nil || t.Distribution == Local || a.expansion != nil || ins.Override == pg.OverridingKind_OVERRIDING_USER_VALUE || sel == nil && len(ins.Cols) > 0 {
		return false
	}
	lists := []*pg.Node{{}} // of DEFAULT VALUES
	if sel != nil {
		lists = sel.ValuesLists
	}
	width := len(lists[0].GetList().GetItems())
	names := insertColumns(ins, t)
	if sel == nil {
		names = nil
	}
	if width > len(names) || slices.ContainsFunc(lists, func(l *pg.Node) bool { return len(l.GetList().GetItems()) != width }) {
		return false // PostgreSQL says so
	}
	names = names[:width]
	g := &giver{a: a, out: &Asked{}, added: make([]SQL, len(lists))}
	for i := range t.Columns {
		c := &t.Columns[i]
		at := slices.Index(names, c.Name)
		if c.Generated {
			continue
		}
		needed := at < 0
		for _, l := range lists {
			if at >= 0 && l.GetList().Items[at].GetSetToDefault() != nil {
				needed = true
			} else if at >= 0 {
				g.always = g.always || c.Always
			}
		}
		if !needed || !a.givable(c, t) {
			continue
		}
		if at < 0 {
			g.names = append(g.names, c.Name)
		}
		for r, l := range lists {
			if at < 0 {
				g.added[r] = append(append(g.added[r], Piece{Own: ", "}), g.value(c)...)
			} else if d := l.GetList().Items[at].GetSetToDefault(); d != nil && !g.replace(d.Location, c) {
				return false
			}
		}
	}
	if len(g.names)+len(g.edits) == 0 || !g.write(ins, names) {
		return false
	}
	a.given = g.out
	return true
}

// givenInside refuses what can't be run by another text.
func givenInside() *Refusal {
	return unsupported("an INSERT whose rows get a default of the home shard's can't be a part of another statement yet", "Give the column a value.")
}

// givable says whether a column's default has to be given to rows, and can be.
func (a *analysis) givable(c *Column, t *Table) bool {
	if !c.HasDefault || c.Expression == "" {
		return false
	}
	key := t.Distribution == Sharded && slices.Contains(t.keyColumns(), t.Column(c.Name))
	if !key && !c.Sequence && (t.Distribution != Reference || c.Default != Volatile) {
		return false
	}
	if c.Default != Volatile {
		return true
	}
	_, ok := givenTypes[c.Type]
	n := parseOne("SELECT " + c.Expression)
	if !ok || n == nil {
		return false
	}
	eachMessageBelow(n, func(m protoMessage) {
		switch v := m.Interface().(type) {
		case *pg.FuncCall:
			f, known := a.env.Schema.functions[unqualified(v.Funcname)]
			ok = ok && known && (!f.User || f.Volatility == Immutable && !f.Tables || uuidFunctions[unqualified(v.Funcname)])
		case *pg.A_Expr:
			ok = ok && len(a.env.Schema.Operators[unqualified(v.Name)]) == 0
		case *pg.SubLink:
			ok = false
		}
	})
	return ok
}

// uuidFunctions are those of the extension uuid-ossp that make a new value.
var uuidFunctions = set("uuid_generate_v1", "uuid_generate_v1mc", "uuid_generate_v4")

// giver writes an INSERT with its defaults.
type giver struct {
	a      *analysis
	out    *Asked
	names  []string // of the columns that are added
	added  []SQL    // their values, for each row
	edits  []edit
	always bool // a column that is GENERATED ALWAYS has a value of the client's
	forced bool // one is given its default
}

// value is a column's default for one row.
func (g *giver) value(c *Column) SQL {
	g.forced = g.forced || c.Always
	if c.Default != Volatile {
		return own("(" + c.Expression + ")")
	}
	typ := givenTypes[c.Type]
	g.out.Defaults = append(g.out.Defaults, AskedDefault{Expr: "CAST(" + c.Expression + " AS pg_catalog." + typ[0] + ")", Sample: QuoteLiteral(typ[1])})
	return SQL{{Part: len(g.out.Defaults)}}
}

// replace puts a column's default in the place of DEFAULT.
func (g *giver) replace(location int32, c *Column) bool {
	i := g.a.tokenAt(location)
	if !g.a.keyword(i, "default") {
		return false
	}
	g.edits = append(g.edits, edit{g.a.between(i, i+1), g.value(c)})
	return true
}

// write makes the text. It returns false where the places in the client's can't be found.
func (g *giver) write(ins *pg.InsertStmt, names []string) bool {
	a := g.a
	at := a.tokenAt(ins.Relation.Location)
	values := -1
	for i := at; at >= 0 && i < len(a.toks) && values < 0; i++ {
		switch {
		case a.is(i, '('):
			i = a.closing(i)
		case a.keyword(i, "values"):
			values = i
		}
	}
	if values < 0 {
		return false
	}
	before := values // the first token of what stands between the columns and the rows
	if ins.SelectStmt == nil {
		before--
	}
	overriding := ins.Override == pg.OverridingKind_OVERRIDING_SYSTEM_VALUE
	if overriding {
		before -= 3
	}
	text := ""
	if len(ins.Cols) == 0 && len(g.names) > 0 {
		names = slices.Concat(names, g.names)
		for i := range names {
			names[i] = QuoteIdent(names[i])
		}
		text = "(" + strings.Join(names, ", ") + ") "
	} else if len(g.names) > 0 {
		if !a.is(before-1, ')') {
			return false
		}
		more := ""
		for _, n := range g.names {
			more += ", " + QuoteIdent(n)
		}
		end := int(a.toks[before-1].Start)
		g.edits = append(g.edits, edit{byteRange{end, end}, own(more)})
	}
	if g.forced && !g.always && !overriding {
		text += "OVERRIDING SYSTEM VALUE "
	}
	if start := int(a.toks[before].Start); text != "" {
		g.edits = append(g.edits, edit{byteRange{start, start}, own(text)})
	}
	if !g.writeRows(ins, values) {
		return false
	}
	ok := false
	g.out.Text, ok = a.edited(byteRange{0, len(a.text)}, g.edits)
	return ok
}

// writeRows adds the values of the added columns to the rows.
func (g *giver) writeRows(ins *pg.InsertStmt, values int) bool {
	if len(g.names) == 0 {
		return true
	}
	if ins.SelectStmt == nil {
		r := g.a.between(values-1, values+1)
		g.edits = append(g.edits, edit{r, SQL{{Own: "VALUES ("}}.add("", g.added[0][1:], ")")})
		return true
	}
	rows, _, ok := rowRanges(g.a.text)
	if !ok || len(rows) != len(g.added) {
		return false
	}
	for i, r := range rows {
		g.edits = append(g.edits, edit{byteRange{r.end - 1, r.end - 1}, g.added[i]})
	}
	return true
}
