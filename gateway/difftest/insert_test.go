package difftest

import (
	"fmt"
	"slices"
	"strings"
)

// insert draws an INSERT of VALUES or of a query's rows. A key that is there already is
// an error, or a conflict that is done with; which of two rows of a query with one key is
// inserted is made certain.
func (g *generator) insert(own *scope) string {
	r := own.relations[0]
	columns := slices.Clone(r.columns)
	columns = slices.DeleteFunc(columns, func(c column) bool { return !slices.Contains(r.table.primary, c.name) })
	for range g.below(4) {
		if c := pick(g, r.columns...); !slices.ContainsFunc(columns, func(x column) bool { return x.name == c.name }) {
			columns = append(columns, c)
		}
	}
	if g.oneIn(2) {
		slices.Reverse(columns)
	}
	var names []string
	var want []kind
	for _, c := range columns {
		names, want = append(names, c.name), append(want, c.kind)
	}
	rows := ""
	if g.oneIn(2) {
		rows = part(g, func() string { return g.queryRows(r.table, columns, want) })
	} else {
		rows = part(g, func() string { return g.valueRows(columns) })
	}
	return "INSERT INTO " + r.table.name + " AS target (" + strings.Join(names, ", ") + ") " + rows + g.conflict(r.table, columns) + g.returning(own)
}

// queryRows draws a query that gives values of columns, no two rows with one key.
func (g *generator) queryRows(tb *table, columns []column, want []kind) string {
	q := g.subquery(nil, want, false)
	var key, others, names []string
	for i, c := range columns {
		name := fmt.Sprintf("i%d", i+1)
		names = append(names, name)
		switch {
		case slices.Contains(tb.primary, c.name):
			key = append(key, name)
		case kinds[c.kind].compares:
			others = append(others, name)
		}
	}
	order := strings.Join(slices.Concat(key, others), ", ")
	return "SELECT DISTINCT ON (" + strings.Join(key, ", ") + ") * FROM (" + q.sql + ") AS q (" + strings.Join(names, ", ") + ") ORDER BY " + order
}

// valueRows draws a VALUES list.
func (g *generator) valueRows(columns []column) string {
	var rows []string
	form := make([]int, len(columns)) // of a column's values, for most rows
	for i := range form {
		form[i] = g.below(6)
	}
	for range 1 + g.below(3) {
		var row []string
		for i, c := range columns {
			f := form[i]
			if g.oneIn(10) {
				f = g.below(7)
			}
			switch {
			case f == 5 && g.canNest():
				row = append(row, g.scalar(c.kind, &scope{}))
			case f == 4:
				row = append(row, g.expression(c.kind, &scope{}, 2))
			case f == 3:
				row = append(row, "NULL")
			case f == 6:
				row = append(row, "DEFAULT")
			default:
				row = append(row, g.constant(c.kind, "", f == 0))
			}
		}
		rows = append(rows, "("+strings.Join(row, ", ")+")")
	}
	return "VALUES " + strings.Join(rows, ", ")
}

// conflict draws what is done about keys that are there already.
func (g *generator) conflict(tb *table, columns []column) string {
	switch g.below(4) {
	case 0:
		return ""
	case 1:
		return " ON CONFLICT DO NOTHING"
	}
	var set []string
	for _, c := range columns {
		if !slices.Contains(tb.primary, c.name) {
			set = append(set, c.name+" = "+pick(g, "excluded."+c.name, "coalesce(target."+c.name+", excluded."+c.name+")"))
		}
	}
	if len(set) == 0 {
		return " ON CONFLICT DO NOTHING"
	}
	return " ON CONFLICT (" + strings.Join(tb.primary, ", ") + ") DO UPDATE SET " + strings.Join(set, ", ")
}
