package planner

import (
	"cmp"
	"strings"

	pg "github.com/pganalyze/pg_query_go/v6"
	"google.golang.org/protobuf/reflect/protoreflect"

	"github.com/shardgate/shardgate/planner/sqltext"
)

// byteRange is a piece of a statement's text.
type byteRange struct{ start, end int }

// paramAt is a $n at an offset.
type paramAt struct{ at, n int }

// rowRanges finds the parenthesised rows of the VALUES list of an INSERT, and
// every parameter. ok is false when the text isn't of that form.
func rowRanges(text string) (rows []byteRange, params []paramAt, ok bool) {
	b := []byte(text)
	toks := sqltext.NewTokens(b)
	depth := 0
	state := 0 // 0: before VALUES, 1: a row is expected, 2: a comma or the end, 3: after the rows
	start := 0
	for {
		t, more := toks.Next()
		if !more {
			break
		}
		if t.Kind == sqltext.Param {
			params = append(params, paramAt{int(t.Start), int(t.ParamNumber(b))})
		}
		switch {
		case t.Is(b, '('), t.Is(b, '['):
			if depth == 0 && state == 1 {
				start = int(t.Start)
			}
			depth++
		case t.Is(b, ')'), t.Is(b, ']'):
			depth--
			if depth == 0 && state == 1 {
				rows = append(rows, byteRange{start, int(t.End)})
				state = 2
			}
		case depth > 0:
		case state == 0 && t.IsKeyword(b, "values"):
			state = 1
		case state == 1:
			return nil, nil, false
		case state == 2:
			if t.Is(b, ',') {
				state = 1
			} else {
				state = 3
			}
		}
	}
	return rows, params, toks.Err() == nil && state >= 2
}

// QuoteIdent quotes a name for SQL.
func QuoteIdent(name string) string { return `"` + strings.ReplaceAll(name, `"`, `""`) + `"` }

// QuoteLiteral quotes a string for SQL, whatever standard_conforming_strings says.
func QuoteLiteral(s string) string {
	q := "'" + strings.ReplaceAll(s, "'", "''") + "'"
	if strings.ContainsRune(s, '\\') {
		return " E" + strings.ReplaceAll(q, `\`, `\\`)
	}
	return q
}

func quoteTable(t *Table) string { return QuoteIdent(t.Schema) + "." + QuoteIdent(t.Name) }

// quotedList is a list of names in SQL.
func quotedList(names []string) string {
	var quoted []string
	for _, n := range names {
		quoted = append(quoted, QuoteIdent(n))
	}
	return strings.Join(quoted, ", ")
}

// selectColumns is a query of a table's columns; of none, its rows count and nothing of
// them.
func selectColumns(names []string, t *Table, rv *pg.RangeVar) string {
	return "SELECT " + cmp.Or(quotedList(names), "true") + " FROM " + choose(rv.Inh, "", "ONLY ") + quoteTable(t)
}

// children calls f for each node directly below n.
func children(n *pg.Node, f func(*pg.Node)) {
	var visit func(m protoreflect.Message)
	visit = func(m protoreflect.Message) {
		if c, ok := m.Interface().(*pg.Node); ok {
			f(c)
		} else {
			eachField(m, visit)
		}
	}
	eachField(n.ProtoReflect(), visit)
}
