package planner

import (
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/shardgate/shardgate/planner/sqltext"
	"github.com/shardgate/shardgate/shardmap"
)

// String renders a plan as text, one fact a line and without a line feed at the
// end. It depends on nothing but the plan, so that equal texts mean equal plans.
func (s *Statement) String() string { return s.Render(nil, nil) }

// Render is String for a plan of a known text: what EXPLAIN, the logs and the golden
// files show.
func (s *Statement) Render(text []byte, lits []sqltext.Literal) string {
	if text != nil {
		text, lits = s.Source(text, lits)
	}
	r := renderer{text: text, lits: lits}
	if s.Node == nil {
		r.line("Undecided")
	} else {
		r.node(s.Node)
	}
	if s.Timed != nil {
		r.line("at one time: %s", r.sql(s.Timed))
	}
	if s.Asked != nil {
		r.line("answered: %s", r.sql(s.Asked.Text))
	}
	r.flags(s)
	return strings.TrimSuffix(r.String(), "\n")
}

// Render gives every field of a refusal, one a line.
func (r *Refusal) Render() string {
	out := "ERROR " + r.Code + ": " + r.Message
	if r.Detail != "" {
		out += "\nDETAIL: " + r.Detail
	}
	if r.Hint != "" {
		out += "\nHINT: " + r.Hint
	}
	if r.Position > 0 {
		out += "\nPOSITION: " + strconv.Itoa(r.Position)
	}
	return out
}

// renderer writes lines at a depth.
type renderer struct {
	strings.Builder
	depth int
	text  []byte // that the plan was made for, if it is known
	lits  []sqltext.Literal
	// For EXPLAIN: see RenderExplained.
	explained bool
	parts     [][]string
	final     []string
}

func (r *renderer) line(format string, args ...any) {
	r.WriteString(strings.Repeat("  ", r.depth))
	fmt.Fprintf(r, format, args...)
	r.WriteByte('\n')
}

// below runs f one level deeper.
func (r *renderer) below(f func()) {
	r.depth++
	f()
	r.depth--
}

func (r *renderer) node(n Node) {
	switch n := n.(type) {
	case *Route:
		r.route(n)
	case *Scatter:
		r.line("Scatter, %s", n.Merge)
		r.below(func() { r.pins(n.Pins) })
	case *Ordered:
		r.ordered(n)
	case *Broadcast:
		r.line("Broadcast, %s%s", n.Merge, when(n.HomeFirst, ", home first")+when(n.Before != "", ", the others after "+n.Before))
		r.below(func() {
			r.pins(n.Pins)
			if len(n.LockReference) > 0 {
				r.line("lock %s", strings.Join(n.LockReference, ", "))
			}
		})
	case *Split:
		r.split(n)
	case *Gather:
		r.gather(n)
	case *Explain:
		r.explain(n)
	case *InsertSelect:
		r.insertSelect(n)
	case *CreateAs:
		r.line("CreateAs %s", n.Table)
		r.below(func() {
			r.line("unless %s", n.Exists)
			r.line("create: %s", r.sql(n.Create))
			q := renderer{depth: r.depth}
			if r.text != nil {
				q.text, q.lits = n.Query.Source(n.QueryText(r.text, r.lits))
			}
			q.node(n.Query.Node)
			r.WriteString(q.String())
		})
	case *Move:
		r.move(n)
	case *Steps:
		r.line("Steps")
		r.below(func() {
			for i := range n.Steps {
				st := &n.Steps[i]
				r.line("step %d%s%s: %s", i+1, when(i == n.Main, ", the answer"), when(st.Shape != nil, ", rows kept"), r.sql(st.Text))
				r.below(func() {
					r.collations(st.Collations)
					if i < len(r.parts) {
						r.notes(r.parts[i])
					}
				})
			}
		})
	case *CopyIn:
		r.line("CopyIn %s%s%s", n.Table, when(n.Format.Binary, ", binary"), when(n.Table.Distribution == Reference, ", all shards"))
		r.below(func() {
			if len(n.Fields) > 0 {
				r.line("key fields %v as %s", n.Fields, typeList(n.Types))
			}
			f := n.Format
			if f.Binary {
				return
			}
			r.line("%s, delimiter %q, null %q%s", choose(f.CSV, "csv", "text"), f.Delimiter, f.Null, when(f.Header, ", header"))
			if f.CSV {
				r.line("quote %q, escape %q", f.Quote, f.Escape)
			}
		})
	case *CopyOut:
		r.line("CopyOut%s%s", when(n.Header, ", one header"), when(n.Binary, ", binary"))
		r.below(func() { r.pins(n.Pins) })
	case *Cursor:
		r.line("Cursor %q%s", n.Name, when(n.Close, ", close"))
	case *Control:
		r.control(n)
	}
}

func (r *renderer) route(n *Route) {
	r.line("Route %s", n.Place)
	r.below(func() {
		r.pins(n.Pins)
		if n.KeyChange != nil {
			r.line("new key on the same shard: %s", n.KeyChange)
		}
		if n.Else != nil {
			r.line("else")
			r.below(func() { r.node(n.Else) })
		}
		if n.Refusal != nil {
			r.line("else refuse %s: %s", n.Refusal.Code, n.Refusal.Message)
		}
	})
}

func (r *renderer) split(n *Split) {
	r.line("Split %s%s", n.Table, when(n.KeepsOrder, ", keeps order"))
	if r.explained {
		return // where each row begins and ends is of no use to anybody
	}
	r.below(func() {
		for _, row := range n.Rows {
			r.line("row %s to %s: %s%s", anchor(row.Start), anchor(row.End), tuple(row.Key, Value.String), paramList(row.Params))
		}
		r.line("head to %s, tail from %s%s", anchor(n.HeadEnd), anchor(n.TailStart), paramList(n.TailParams))
	})
}

func (r *renderer) control(c *Control) {
	r.line("Control %s, tag %q", c.Kind, c.Tag)
	r.below(func() {
		for _, f := range [][2]string{{"name", c.Name}, {"modes", c.Modes}, {"isolation", c.Isolation}, {"settings", strings.Join(c.Settings, ", ")},
			{"value", when(OwnSetting(c.Name), c.Value)}} {
			if f[1] != "" {
				r.line("%s %s", f[0], f[1])
			}
		}
		if f := when(c.Chain, "chain ") + when(c.Local, "local ") + when(c.Reset, "reset "); f != "" {
			r.line("%s", strings.TrimSpace(f))
		}
		if n := c.Named; n != nil && r.text != nil {
			if c.Kind == Prepare {
				r.line("statement %s", r.text[n.Query:n.End])
			} else {
				r.line("by %s, %d known%s", r.text[n.Start:n.End], n.known(), when(n.Inside, ", inside of another"))
			}
		}
	})
}

func (r *renderer) pins(pins []Pin) {
	for i := range pins {
		r.line("pin %s", pins[i].condition(r.value))
	}
}

func (r *renderer) flags(s *Statement) {
	var on []string
	for _, f := range []struct {
		set  bool
		name string
	}{
		{s.Writes, "writes"}, {s.SchemaChange, "schema change"}, {s.NoTransaction, "no transaction"},
		{s.HoldsSession, "holds session"}, {s.Taints, "taints"}, {s.TextSpecific, "text specific"},
		{s.NeedsParamTypes, "needs parameter types"}, {s.expanded != nil, "views"},
	} {
		if f.set {
			on = append(on, f.name)
		}
	}
	if s.Params > 0 {
		on = append(on, fmt.Sprintf("%d parameters", s.Params))
	}
	if s.Cursor != "" {
		on = append(on, fmt.Sprintf("cursor %q", s.Cursor))
	}
	if s.TempTable != "" {
		on = append(on, fmt.Sprintf("temporary %q", s.TempTable))
	}
	if len(s.instants) > 0 {
		on = append(on, fmt.Sprintf("instants %v", s.instants))
	}
	if len(on) > 0 {
		r.line("(%s)", strings.Join(on, ", "))
	}
}

// String renders a pin as the condition that it stands for.
func (p *Pin) String() string { return p.condition(Value.String) }

// condition renders a pin, with its values as show writes them.
func (p *Pin) condition(show func(Value) string) string {
	var columns []string
	for _, n := range p.Table.Key.Columns {
		columns = append(columns, p.Table.Columns[n].Name)
	}
	left := fmt.Sprintf("%s (%s) as %s", p.Table, strings.Join(columns, ", "), typeList(p.Types))
	if p.Array != nil {
		return left + " = any " + show(*p.Array)
	}
	var keys []string
	for _, k := range p.Keys {
		keys = append(keys, tuple(k, show))
	}
	return left + " = " + strings.Join(keys, " or ")
}

// String renders a value as "literal 0" (its position among the text's
// literals), "$1" or "NULL", with its declared type.
func (v Value) String() string {
	out := "NULL"
	switch v.Source {
	case FromLiteral:
		out = "literal " + strconv.Itoa(v.Index)
	case Computed:
		return "(computed)"
	case FromParam:
		out = "$" + strconv.Itoa(v.Index+1)
	}
	if v.Negative {
		out = "-" + out
	}
	if t, ok := shardmap.KeyTypeOfOID(v.Type); ok {
		out += "::" + t.SQLName()
	} else if v.Type != 0 {
		out += "::" + strconv.FormatUint(uint64(v.Type), 10)
	}
	return out
}

func tuple(values []Value, show func(Value) string) string {
	var out []string
	for _, v := range values {
		out = append(out, show(v))
	}
	return "(" + strings.Join(out, ", ") + ")"
}

func typeList(types []shardmap.KeyType) string {
	var out []string
	for _, t := range types {
		out = append(out, t.SQLName())
	}
	return strings.Join(out, ", ")
}

func anchor(a sqltext.Anchor) string { return fmt.Sprintf("%d+%d", a.Literal, a.Delta) }

func paramList(params []ParamRef) string {
	out := ""
	for _, p := range params {
		out += fmt.Sprintf(" $%d at %s", p.N, anchor(p.At))
	}
	return out
}

func when(b bool, s string) string { return choose(b, s, "") }

func (p Place) String() string {
	return [...]string{Pinned: "by key", Home: "home", Any: "any"}[p]
}

func (m Merge) String() string {
	return [...]string{Concat: "concat", AddIntegers: "add integers", First: "first"}[m]
}

func (k ControlKind) String() string {
	return [...]string{
		Begin: "Begin", Commit: "Commit", Rollback: "Rollback", Savepoint: "Savepoint", Release: "Release",
		RollbackTo: "RollbackTo", Set: "Set", DiscardAll: "DiscardAll", Deallocate: "Deallocate", Prepare: "Prepare", Execute: "Execute",
		Constraints: "Constraints", Show: "Show", Empty: "Empty",
	}[k]
}

// collations renders those of columns that have one.
func (r *renderer) collations(names []string) {
	for i, c := range names {
		if c != "" {
			r.line("column %d collate %s", i+1, c)
		}
	}
}

func (r *renderer) gather(g *Gather) {
	r.line("Gather%s%s%s", [...]string{"", ", inside a block", ", inside the transaction"}[g.Inside],
		when(g.Declares != "", fmt.Sprintf(", cursor %q", g.Declares)), when(g.InTables, ", in tables"))
	r.below(func() {
		for i := range g.Parts {
			p := &g.Parts[i]
			r.line("part %d, %s%s: %s", i+1, choose(p.Place == Pinned, "shards", p.Place.String()), when(p.Plain, ", plain")+when(p.Changes, ", at last"), r.sql(p.Query))
			r.below(func() {
				r.pins(p.Pins)
				if k := p.KeyIn; k != nil {
					r.line("shards of part %d column %d, as %s", k.Part+1, k.Column+1, k.Type.SQLName())
				}
				r.collations(p.Collations)
				if len(p.Index) > 0 {
					r.line("index on %s", strings.Join(p.Index, ", "))
				}
				if len(p.Primary) > 0 {
					r.line("primary key %s", strings.Join(p.Primary, ", "))
				}
				if i < len(r.parts) {
					r.notes(r.parts[i])
				}
			})
		}
		r.line("final%s: %s", r.target(g.Target), r.sql(g.Final))
		r.below(func() {
			if g.Target != nil {
				r.pins(g.Target.Pins)
			}
			r.notes(r.final)
			if c := g.Target.copies(); c != nil {
				r.line("other copies, by the last %d columns: %s", c.Columns, r.sql(c.Change))
			}
		})
	})
}

// target says where a final statement runs that changes a table.
func (r *renderer) target(t *Target) string {
	switch {
	case t == nil:
		return ""
	case t.Table == nil:
		return ", home"
	}
	return ", " + t.Table.String() + when(len(t.LockReference) > 0, ", locked on all shards, "+choose(t.Copies == nil, "home first", "on home"))
}

func (r *renderer) ordered(n *Ordered) {
	r.line("Scatter, ordered")
	r.below(func() {
		r.pins(n.Pins)
		var keys []string
		for _, k := range n.Keys {
			nulls := ""
			if k.NullsFirst != k.Descending {
				nulls = choose(k.NullsFirst, " nulls first", " nulls last")
			}
			t := sortTypes[k.Type]
			if k.Type == 0 {
				t = "expression" + when(k.Bytewise, " in C")
			}
			keys = append(keys, t+when(k.Descending, " desc")+nulls)
		}
		r.line("merge by %s", strings.Join(keys, ", "))
		if n.Distinct > 0 {
			r.line("distinct by %d", n.Distinct)
		}
		if n.Limit != nil {
			r.line("limit %s", *n.Limit)
		}
		if n.Offset != nil {
			r.line("offset %s", *n.Offset)
		}
		r.line("query: %s", r.sql(n.Query))
	})
}

func (r *renderer) insertSelect(n *InsertSelect) {
	to, by := "home", ""
	if n.Table != nil {
		to = n.Table.String() + when(n.Table.Distribution == Reference, ", all shards")
	}
	for _, k := range n.Keys {
		if by += " "; k.Value != nil {
			by += tuple([]Value{*k.Value}, Value.String)
		} else {
			by += fmt.Sprintf("column %d", k.Column+1)
		}
		by += " as " + k.Type.String()
	}
	r.line("InsertSelect%s into %s%s%s", when(n.Merges, ", merge"), to, when(by != "", ", by")+by, when(n.KeepsOrder, ", keeps order"))
	r.below(func() {
		if len(n.LockReference) > 0 {
			r.line("lock %s", strings.Join(n.LockReference, ", "))
		}
		if n.MinColumns > 0 {
			r.line("at least %d columns: %s", n.MinColumns, n.Refusal.Message)
		}
		rows := SQL{{Part: 1}}
		for _, c := range n.Constants {
			if c != nil {
				rows = rows.add(", ", c, "")
			}
		}
		r.collations(n.Collations)
		r.line("insert: %s", r.sql(slices.Concat(n.Head, rows, n.Fills, n.Tail)))
		q := renderer{depth: r.depth, explained: r.explained, parts: r.parts, final: r.final}
		if r.text != nil {
			q.text, q.lits = n.QueryText(r.text, r.lits)
		}
		if r.explained {
			q.noted(n.Query.Node)
		} else {
			q.node(n.Query.Node)
		}
		r.WriteString(q.String())
	})
}

// AppendSource is a PartWriter's.
func (r *renderer) AppendSource(dst []byte, part int) []byte {
	return fmt.Appendf(dst, "<part %d>", part+1)
}

// AppendCast is a PartWriter's.
func (r *renderer) AppendCast(dst []byte, part, column int) []byte {
	return fmt.Appendf(dst, "<cast as part %d column %d>", part+1, column+1)
}

// AppendKeys is a PartWriter's.
func (r *renderer) AppendKeys(dst []byte, expr string, part, column int) []byte {
	return fmt.Appendf(dst, "%s = ANY (<part %d column %d>)", expr, part+1, column+1)
}

// AppendClock is a PartWriter's.
func (r *renderer) AppendClock(dst []byte) []byte { return append(dst, "<now>"...) }

// lineBreak is where a text goes on in another line, as a view's definition does: in an
// answer of lines, it stays in one.
var lineBreak = regexp.MustCompile(`\s*\n\s*`)

// sql renders a statement. The pieces of a text that isn't known are their anchors.
func (r *renderer) sql(q SQL) string {
	if r.text != nil {
		text := string(q.Append(nil, r.text, r.lits, r))
		if r.explained {
			text = lineBreak.ReplaceAllString(text, " ")
		}
		return text
	}
	var b strings.Builder
	for _, p := range q {
		switch {
		case p.Clock:
			b.Write(r.AppendClock(nil))
		case p.Keys:
			b.Write(r.AppendKeys(nil, p.Own, p.Part-1, p.Column-1))
		case p.Column > 0:
			b.Write(r.AppendCast(nil, p.Part-1, p.Column-1))
		case p.Part > 0:
			b.Write(r.AppendSource(nil, p.Part-1))
		case p.Start == p.End:
			b.WriteString(p.Own)
		default:
			fmt.Fprintf(&b, "<%s to %s>", anchor(p.Start), anchor(p.End))
		}
	}
	return b.String()
}
