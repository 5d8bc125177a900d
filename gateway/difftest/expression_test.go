package difftest

import (
	"fmt"
	"slices"
	"strings"

	"pgregory.net/rapid"
)

// column is something that an expression may refer to.
type column struct {
	name   string // in what a query gives; quoted if need be
	sql    string // how it is referred to
	kind   kind
	values []string // some of those that it has
	// local says that subqueries can't refer to it: an aggregate, or a name that
	// theirs may hide.
	local bool
}

// relation is an entry of FROM.
type relation struct {
	alias   string
	columns []column
	// key are the columns that no two rows agree in, by their place; nil if there are
	// none to be known.
	key   []int
	table *table // nil for what is not a table
	// scalar says that the alias stands for a value and not for a row.
	scalar bool
	rows   int // about
}

// scope is what the expressions of a query may refer to.
type scope struct {
	relations []*relation
	outer     *scope
	// merged says that USING or NATURAL has changed what * stands for.
	merged bool
}

// columns of the query itself, of a kind; "" is any.
func (s *scope) columns(k kind) (found []column) {
	for _, r := range s.relations {
		for _, c := range r.columns {
			if k == "" || c.kind == k {
				found = append(found, c)
			}
		}
	}
	return found
}

// outerColumns are those of the queries around it.
func (s *scope) outerColumns(k kind) (found []column) {
	for o := s.outer; o != nil; o = o.outer {
		found = append(found, slices.DeleteFunc(o.columns(k), func(c column) bool { return c.local })...)
	}
	return found
}

func (s *scope) rows() int {
	n := 1
	for _, r := range s.relations {
		n *= max(1, r.rows)
	}
	return n
}

// key returns columns that no two rows of the whole FROM agree in, or nil.
func (s *scope) key() (key []column) {
	for _, r := range s.relations {
		if r.key == nil {
			return nil
		}
		for _, i := range r.key {
			key = append(key, r.columns[i])
		}
	}
	return key
}

// generator draws a statement. Whatever it draws first is the simplest choice, so
// that rapid shrinks toward that.
type generator struct {
	t      *rapid.T
	tables []*table
	params []param
	ctes   []*relation
	used   map[string]bool // tables that stand without an alias
	// noViews leaves out views.
	noViews bool
	names   int // given so far
	depth   int // of subqueries
	nested  int // how many subqueries may still be drawn
	// shadows are names of columns that are around, which a column of the result may have
	// as well: they are only referred to with their entries' names.
	shadows []string
}

// below draws a number from 0 to n-1.
func (g *generator) below(n int) int {
	if n <= 1 {
		return 0
	}
	return rapid.IntRange(0, n-1).Draw(g.t, "")
}

// oneIn is true once in n times, and false when shrunk.
func (g *generator) oneIn(n int) bool { return g.below(n) == n-1 }

// part draws something that rapid may try to do without as a whole.
func part[T any](g *generator, f func() T) T {
	return rapid.Custom(func(t *rapid.T) T {
		defer func(outer *rapid.T) { g.t = outer }(g.t)
		g.t = t
		return f()
	}).Draw(g.t, "")
}

func pick[T any](g *generator, list ...T) T { return list[g.below(len(list))] }

// name makes a new name.
func (g *generator) name(prefix string) string {
	g.names++
	return fmt.Sprintf("%s%d", prefix, g.names)
}

// expression draws an expression of a kind. At depth 0 it is a column or a constant.
func (g *generator) expression(k kind, s *scope, depth int) string {
	own := s.columns(k)
	if depth > 0 && g.oneIn(2) {
		return part(g, func() string { return g.operation(k, s, depth) })
	}
	if len(own) > 0 && !g.oneIn(6) {
		return pick(g, own...).sql
	}
	if outer := s.outerColumns(k); len(outer) > 0 && g.oneIn(2) {
		return pick(g, outer...).sql
	}
	if len(own) == 0 && depth > 0 && len(operations[k]) > 0 && g.oneIn(2) {
		return g.operation(k, s, depth)
	}
	return g.constant(k, "", true)
}

// operation draws an expression that does something.
func (g *generator) operation(k kind, s *scope, depth int) string {
	templates := operations[k]
	switch {
	case len(templates) == 0 || g.oneIn(8):
		templates = general
	case kinds[k].compares && g.oneIn(12):
		templates = comparing
	case g.oneIn(12) && g.canNest():
		return g.scalar(k, s)
	case k == "bool" && g.oneIn(2):
		return "(" + g.condition(s) + ")"
	}
	return g.fill(pick(g, templates...), k, s, depth-1)
}

// fill replaces what stands in braces in a template; see operations.
func (g *generator) fill(template string, k kind, s *scope, depth int) string {
	var b strings.Builder
	first := ""
	for rest := template; ; {
		before, after, ok := strings.Cut(rest, "{")
		b.WriteString(before)
		if !ok {
			return b.String()
		}
		var word string
		word, rest, ok = strings.Cut(after, "}")
		_, known := kinds[kind(strings.TrimSuffix(word, "!"))]
		var text string
		switch {
		case word == "^":
			text = first
		case word == "n":
			text = fmt.Sprint(g.below(6))
		case word == "pattern":
			text = quote(pick(g, "A%", "%a%", "sku-_", "", "%", "B_n", "%e", "Ä%"))
		case word == "":
			text = g.expression(k, s, depth)
		case known && strings.HasSuffix(word, "!"):
			text = g.constant(kind(strings.TrimSuffix(word, "!")), "", true)
		case known && ok:
			text = g.expression(kind(word), s, depth)
		default: // braces of SQL
			text = "{" + word + "}"
		}
		if first == "" {
			first = text
		}
		b.WriteString(text)
	}
}

// constant draws a literal or a parameter. value is its text, "" for any. If it is
// not typed, PostgreSQL is left to infer the type.
func (g *generator) constant(k kind, value string, typed bool) string {
	info := kinds[k]
	if value == "" {
		if typed && g.oneIn(20) {
			return "NULL::" + info.name
		}
		value = pick(g, info.literals...)
	}
	number := k == "int2" || k == "int4" || k == "int8"
	switch form := g.below(8); {
	case form >= 6 && len(g.params) < 8:
		declared := typed && form == 6
		g.params = append(g.params, param{value: value, kind: k, declared: declared})
		text := mark(len(g.params) - 1)
		if typed && !declared {
			text += "::" + info.name
		}
		return text
	case !typed && number && form < 4:
		return strings.Replace(value, "-", "- ", 1)
	case !typed:
		return quote(value)
	case form == 5:
		return "CAST(" + quote(value) + " AS " + info.name + ")"
	}
	return quote(value) + "::" + info.name
}

// condition draws a condition: on a key, on a column, on a subquery, or several.
func (g *generator) condition(s *scope) string {
	switch g.below(12) {
	case 7, 8:
		if c := g.pin(s); c != "" {
			return c
		}
	case 9:
		return "(" + g.condition(s) + pick(g, " AND ", " OR ", " OR ") + g.condition(s) + ")"
	case 10:
		if g.canNest() {
			return g.subqueryCondition(s)
		}
	case 11:
		return g.fill(pick(g, operations["bool"]...), "bool", s, 1)
	case 6:
		return g.between(s)
	}
	return g.comparison(s)
}

// comparison compares a column with constants, mostly with values that it has.
func (g *generator) comparison(s *scope) string {
	candidates := slices.DeleteFunc(s.columns(""), func(c column) bool { return !kinds[c.kind].compares })
	if len(candidates) == 0 {
		return g.fill(pick(g, operations["bool"]...), "bool", s, 1)
	}
	c := pick(g, candidates...)
	value := func() string { return g.constant(c.kind, g.value(c), false) }
	switch g.below(17) {
	case 0, 1:
		return c.sql + " = " + value()
	case 13, 14:
		return c.sql + pick(g, " > ", " >= ", " <> ", " < ") + value()
	case 15:
		return "(" + c.sql + pick(g, " >= ", " <= ") + value() + " OR " + c.sql + " IS NULL)"
	case 2:
		return c.sql + " IS NOT NULL"
	case 3:
		return c.sql + " IS NULL"
	case 4:
		return c.sql + pick(g, " < ", " > ", " <= ", " >= ", " <> ") + value()
	case 5:
		return c.sql + " IN (" + value() + ", " + value() + ", " + value() + ")"
	case 6:
		return c.sql + " NOT IN (" + value() + pick(g, "", ", NULL", ", "+value()) + ")"
	case 7:
		return c.sql + pick(g, " BETWEEN ", " BETWEEN SYMMETRIC ", " NOT BETWEEN ") + value() + " AND " + value()
	case 8:
		return c.sql + pick(g, " IS DISTINCT FROM ", " IS NOT DISTINCT FROM ") + value()
	case 9:
		return "(" + value() + " = " + c.sql + pick(g, " OR ", " AND ") + g.comparison(s) + ")"
	case 10:
		return "NOT (" + c.sql + pick(g, " = ", " < ") + value() + ")"
	case 11:
		return "coalesce(" + c.sql + pick(g, " = ", " > ") + value() + ", " + pick(g, "true", "false") + ")"
	case 12:
		return "CASE WHEN " + c.sql + " = " + value() + " THEN " + g.comparison(s) + " ELSE " + pick(g, "true", "false", "NULL") + " END"
	}
	return g.anyOf(c)
}

// value draws a value for a column, one that it has if that is known.
func (g *generator) value(c column) string {
	if len(c.values) == 0 || g.oneIn(8) {
		return pick(g, kinds[c.kind].literals...)
	}
	return pick(g, c.values...)
}

// anyOf compares a column with the elements of an array.
func (g *generator) anyOf(c column) string {
	name := kinds[c.kind].name
	if strings.HasSuffix(name, "[]") || strings.Contains(name, "(") {
		return c.sql + " IS NOT NULL"
	}
	elements := []string{g.value(c), g.value(c)}
	list := make([]string, len(elements))
	for i, e := range elements {
		list[i] = quote(e) + "::" + name
	}
	array := "ARRAY[" + strings.Join(list, ", ") + "]"
	if (c.kind == "int4" || c.kind == "int8") && g.oneIn(2) && len(g.params) < 8 {
		g.params = append(g.params, param{value: "{" + strings.Join(elements, ",") + "}", kind: "ints", declared: c.kind == "int4" && g.oneIn(2)})
		array = mark(len(g.params) - 1)
	}
	return c.sql + pick(g, " = ANY (", " = ANY (", " <> ALL (", " > ANY (", " <= ALL (") + array + ")"
}

// between compares two columns of a kind.
func (g *generator) between(s *scope) string {
	own := s.columns("")
	if len(own) == 0 {
		return g.comparison(s)
	}
	c := pick(g, own...)
	others := append(s.columns(c.kind), s.outerColumns(c.kind)...)
	if !kinds[c.kind].compares || len(others) < 2 {
		return g.comparison(s)
	}
	return c.sql + pick(g, " = ", " < ", " <> ", " >= ", " IS DISTINCT FROM ") + pick(g, others...).sql
}

// pin draws a condition on the key of a sharded table, "" if there is none.
func (g *generator) pin(s *scope) string {
	var sharded []*relation
	for _, r := range s.relations {
		if r.table != nil && len(r.table.key) > 0 {
			sharded = append(sharded, r)
		}
	}
	if len(sharded) == 0 {
		return ""
	}
	r := pick(g, sharded...)
	key := r.shardKey()
	if len(key) == 1 {
		c := key[0]
		value := func() string { return g.constant(c.kind, g.value(c), g.oneIn(4)) }
		switch g.below(6) {
		case 0, 1, 2:
			return c.sql + " = " + value()
		case 3:
			return c.sql + " IN (" + value() + ", " + value() + ")"
		case 4:
			return "(" + c.sql + " = " + value() + " OR " + c.sql + " = " + value() + ")"
		}
		return g.anyOf(c)
	}
	one := func() string {
		var parts []string
		for _, c := range key {
			parts = append(parts, c.sql+" = "+g.constant(c.kind, g.value(c), g.oneIn(4)))
		}
		return "(" + strings.Join(parts, " AND ") + ")"
	}
	if g.oneIn(3) {
		return "(" + one() + " OR " + one() + ")"
	}
	return one()
}

// shardKey are the columns that decide on the shard.
func (r *relation) shardKey() (key []column) {
	for i, c := range r.table.columns {
		if slices.Contains(r.table.key, c.name) {
			key = append(key, r.columns[i])
		}
	}
	return key
}
