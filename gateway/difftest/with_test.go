package difftest

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

// mostWithRefused is as mostChangesRefused, of WITH: several items may change one table.
const mostWithRefused = 0.2

// TestWith compares what random statements with items of WITH that change rows answer and
// leave behind.
func TestWith(t *testing.T) {
	p := newPair(t, max(*shardsFlag, 3))
	p.random(t, *seedFlag, max(1, *changesFlag/4), fmt.Sprintf("TestWith -shards %d -changes 4", max(*shardsFlag, 3)), drawWith)
	p.report(t)
	if share := p.refusedShare(); share > mostWithRefused {
		t.Errorf("%.1f%% of the statements were refused; at most %.1f%% may be", 100*share, 100*mostWithRefused)
	}
}

// drawWith draws a query or a change with one or two items of WITH that change tables, which
// what follows may read.
func drawWith(t *rapid.T, tables []*table) *statement {
	g := &generator{t: t, tables: tables, used: map[string]bool{}, noViews: true}
	targets := []string{"customers", "orders", "stock", "events", "items", "notes", "countries"}
	var items []string
	for range 1 + g.below(2) {
		items = append(items, g.changingItem(&targets))
	}
	if g.oneIn(3) {
		name := g.name("q")
		q := g.subquery(nil, nil, false)
		items = append(items, name+" AS ("+q.sql+")")
		g.ctes = append(g.ctes, q.relation(name))
	}
	st := &statement{inBlock: true, after: "TABLE customers; TABLE orders; TABLE stock; TABLE events; TABLE items; TABLE notes; TABLE countries"}
	g.nested = pick(g, 0, 1, 2)
	if g.oneIn(2) {
		st.text = g.subquery(nil, nil, false).sql
	} else {
		st.text, _ = g.plainChange(&targets, false)
	}
	st.text = "WITH " + strings.Join(items, ", ") + " " + st.text
	st.keepUsed(g.params)
	return st
}

// changingItem draws an item of WITH that changes one of the targets, which then is none
// any more.
func (g *generator) changingItem(targets *[]string) string {
	g.nested = pick(g, 0, 0, 1)
	name := g.name("d")
	sql, r := g.plainChange(targets, true)
	r.alias = name
	g.ctes = append(g.ctes, r)
	return name + " AS (" + sql + ")"
}

// plainChange draws an UPDATE or DELETE, with columns of the target, and expressions of such,
// in RETURNING if they are wanted.
func (g *generator) plainChange(targets *[]string, returning bool) (string, *relation) {
	name := pick(g, *targets...)
	*targets = slices.DeleteFunc(*targets, func(s string) bool { return s == name })
	at := slices.IndexFunc(g.tables, func(tb *table) bool { return tb.name == name })
	r := &relation{table: g.tables[at], rows: g.tables[at].rows, alias: "target"}
	for _, c := range r.table.columns {
		c.sql = "target." + c.name
		r.columns = append(r.columns, c)
	}
	own := &scope{relations: []*relation{r}}
	var sql string
	if g.oneIn(2) {
		sql = "UPDATE " + name + " AS target SET " + g.assignments(own) + g.others(" FROM ", own)
	} else {
		sql = "DELETE FROM " + name + " AS target" + g.others(" USING ", own)
	}
	if !returning {
		return sql + g.returning(own), nil
	}
	out := &relation{rows: r.rows}
	var list []string
	for i := range 1 + g.below(4) {
		c := pick(g, r.columns...)
		as := fmt.Sprintf("c%d", i+1)
		value := c.sql
		if g.oneIn(3) {
			value = g.expression(c.kind, own, 2)
		}
		list = append(list, value+" AS "+as)
		out.columns = append(out.columns, column{name: as, kind: c.kind, values: c.values})
	}
	return sql + " RETURNING " + strings.Join(list, ", "), out
}
