package difftest

import (
	"strings"
	"testing"
)

// TestDifference checks that the comparison sees what it has to, and no more.
func TestDifference(t *testing.T) {
	rows := func(text string) (a answer) {
		a.columns, a.floats = []string{"a", "b"}, []bool{false, true}
		for row := range strings.FieldsSeq(text) {
			x, y, _ := strings.Cut(row, ",")
			a.rows = append(a.rows, [][]byte{[]byte(x), []byte(y)})
		}
		return a
	}
	for _, c := range []struct {
		about, want, got string
		statement        statement
		kind             string
	}{
		{about: "another order", want: "1,1 2,2", got: "2,2 1,1"},
		{about: "another order of a list", want: "1,1 2,2", got: "2,2 1,1", statement: statement{listed: true}, kind: "rows"},
		{about: "another order of what is not sorted by", want: "1,1 1,2", got: "1,2 1,1", statement: statement{sorted: []int{0}}},
		{about: "another order of what is sorted by", want: "1,1 2,2", got: "2,2 1,1", statement: statement{sorted: []int{0}}, kind: "order"},
		{about: "a row too few", want: "1,1 1,1", got: "1,1", kind: "rows"},
		{about: "a row too many", want: "1,1", got: "1,1 1,1", kind: "rows"},
		{about: "another row twice", want: "1,1 1,1 2,2", got: "1,1 2,2 2,2", kind: "rows"},
		{about: "a last digit", want: "1,0.1", got: "1,0.10000000000000001", kind: "rows"},
		{about: "a last digit that may differ", want: "1,0.1 2,0", got: "2,1e-17 1,0.10000000000000001", statement: statement{approximate: []int{1}}},
		{about: "another number where digits may differ", want: "1,0.1", got: "1,0.1001", statement: statement{approximate: []int{1}}, kind: "rows"},
	} {
		t.Run(c.about, func(t *testing.T) {
			if kind, detail := new(pair).difference(t, simple, &c.statement, rows(c.want), rows(c.got)); kind != c.kind {
				t.Errorf("%q: %s", kind, detail)
			}
		})
	}
}
