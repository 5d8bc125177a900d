package difftest

import (
	"flag"
	"fmt"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

var changesFlag = flag.Int("changes", 200, "how many statements that change rows are drawn")

// mostChangesRefused is the share of them that may be refused. In the long run it is below
// one in a hundred; of a few, more may be.
const mostChangesRefused = 0.03

// TestChanges compares what random UPDATE, DELETE, MERGE and INSERT answer and leave behind.
func TestChanges(t *testing.T) {
	p := newPair(t, max(*shardsFlag, 3))
	p.random(t, *seedFlag, *changesFlag, fmt.Sprintf("TestChanges -shards %d -changes 1", max(*shardsFlag, 3)), drawChange)
	p.report(t)
	if share := p.refusedShare(); share > mostChangesRefused {
		t.Errorf("%.1f%% of the statements were refused; at most %.1f%% may be", 100*share, 100*mostChangesRefused)
	}
}

// drawChange draws a statement that changes a table. What it does to a row depends on
// that row, and on whether others are found: which of several that is, PostgreSQL leaves
// open.
func drawChange(t *rapid.T, tables []*table) *statement {
	g := &generator{t: t, tables: tables, used: map[string]bool{}, noViews: true}
	g.nested = pick(g, 1, 0, 1, 2, 3)
	byName := map[string]*table{}
	for _, tb := range tables {
		byName[tb.name] = tb
	}
	target := byName[pick(g, "customers", "orders", "stock", "events", "items", "customers", "notes", "countries")]
	r := &relation{table: target, rows: target.rows, alias: "target"}
	for _, c := range target.columns {
		c.sql = "target." + c.name
		r.columns = append(r.columns, c)
	}
	g.used[target.name] = true
	own := &scope{relations: []*relation{r}}
	st := &statement{inBlock: true, after: "TABLE " + target.name}
	switch g.below(8) {
	case 0, 1:
		st.text = "UPDATE " + target.name + " AS target SET " + g.assignments(own) + g.others(" FROM ", own) + g.returning(own)
	case 2, 3:
		st.text = "DELETE FROM " + target.name + " AS target" + g.others(" USING ", own) + g.returning(own)
	case 4:
		st.text = "MERGE INTO " + target.name + " AS target USING " + g.source(own) + g.matched(own)
	case 5, 6:
		st.text = g.insert(own)
	default:
		st.text = g.upsert(byName)
		st.after = "TABLE customers; TABLE items; TABLE notes"
	}
	st.keepUsed(g.params)
	return st
}

// assignable are the kinds of columns that a change assigns: values of theirs fit.
var assignable = []kind{"text", "int4", "bool", "date", "num2", "big"}

// assignments draws a SET list.
func (g *generator) assignments(own *scope) string {
	r := own.relations[0]
	var items, names []string
	for range 1 + g.below(3) {
		var fitting []column
		for _, c := range r.columns {
			if slices.Contains(assignable, c.kind) && !slices.Contains(r.table.primary, c.name) && !slices.Contains(names, c.name) {
				fitting = append(fitting, c)
			}
		}
		if len(fitting) == 0 {
			break
		}
		c := pick(g, fitting...)
		names = append(names, c.name)
		items = append(items, c.name+" = "+part(g, func() string {
			if g.canNest() && g.oneIn(2) {
				return g.scalar(c.kind, own)
			}
			return g.expression(c.kind, own, 2)
		}))
	}
	return strings.Join(items, ", ")
}

// others draws other relations by which rows are found, or none, and a condition.
func (g *generator) others(word string, own *scope) string {
	if g.oneIn(3) {
		return " WHERE " + g.found(own)
	}
	from, s := g.from(nil)
	on := "true"
	if len(s.relations) == 1 {
		on = g.tied(own, s.relations[0])
	} else {
		on = g.tied(own, pick(g, s.relations...))
	}
	all := &scope{relations: append(slices.Clone(own.relations), s.relations...)}
	if g.oneIn(2) {
		on += " AND " + g.condition(all)
	}
	return word + from + " WHERE " + on
}

// tied is a condition that ties rows of the target to those of a relation.
func (g *generator) tied(own *scope, r *relation) string {
	if on := g.equality(own, r); on != "" {
		return on
	}
	return g.single(r)
}

// found draws a condition on the rows of the target, often by a subquery.
func (g *generator) found(own *scope) string {
	if g.canNest() {
		return g.subqueryCondition(own)
	}
	return g.condition(own)
}

// returning draws a RETURNING of the target's columns, or none.
func (g *generator) returning(own *scope) string {
	if g.oneIn(2) {
		return ""
	}
	var items []string
	for range 1 + g.below(3) {
		items = append(items, pick(g, own.relations[0].columns...).sql)
	}
	return " RETURNING " + strings.Join(items, ", ")
}

// source draws what a MERGE compares its table with, and by what.
func (g *generator) source(own *scope) string {
	from, r := g.relation(&scope{})
	return from + " ON " + g.tied(own, r)
}

// matched draws the actions of a MERGE that inserts nothing.
func (g *generator) matched(own *scope) string {
	when := " WHEN MATCHED"
	if g.oneIn(2) {
		when += " AND " + g.condition(own)
	}
	switch g.below(3) {
	case 0:
		return when + " THEN UPDATE SET " + g.assignments(own)
	case 1:
		return when + " THEN DELETE WHEN NOT MATCHED THEN DO NOTHING"
	}
	return " WHEN MATCHED AND " + g.condition(own) + " THEN DO NOTHING WHEN MATCHED THEN UPDATE SET " + g.assignments(own)
}

// upsert draws a MERGE that inserts the rows of a source whose keys differ.
func (g *generator) upsert(byName map[string]*table) string {
	target := byName[pick(g, "customers", "items", "customers", "notes")]
	key := target.columns[0]
	var value column
	for _, c := range target.columns {
		if c.kind == "text" && c.name != key.name {
			value = c
		}
	}
	if value.name == "" {
		value = target.columns[1]
	}
	q := g.subquery(nil, []kind{key.kind, "text", "int4"}, false)
	source := "(SELECT DISTINCT ON (k) * FROM (" + q.sql + ") AS q (k, v, n)" + pick(g, " WHERE k IS NOT NULL", " WHERE k IS NOT NULL", "") + " ORDER BY k, v, n) AS s"
	sql := "MERGE INTO " + target.name + " AS target USING " + source + " ON target." + key.name + " = s.k" + pick(g, "", "", " AND s.n > 0")
	sql += pick(g, "", " WHEN MATCHED AND s.n < 5 THEN DELETE", " WHEN MATCHED AND s.v IS NULL THEN DO NOTHING")
	sql += " WHEN MATCHED THEN UPDATE SET " + value.name + " = s.v"
	sql += pick(g, "", " WHEN NOT MATCHED AND s.n > 3 THEN DO NOTHING")
	return sql + " WHEN NOT MATCHED THEN INSERT (" + value.name + ", " + key.name + ") VALUES (s.v, s.k)"
}
