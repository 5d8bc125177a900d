package tpch

import (
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
)

// answer is what a query returns, as text.
type answer struct {
	columns []string // names with the OIDs of types
	rows    [][]string
}

const null = "(null)"

// ask runs a query, and returns how long that took, in milliseconds.
func ask(t *testing.T, conn *pgconn.PgConn, sql string) (*answer, float64, error) {
	t.Helper()
	begin := time.Now()
	results, err := conn.Exec(t.Context(), sql).ReadAll()
	took := float64(time.Since(begin).Microseconds()) / 1000
	if err != nil {
		return nil, took, err
	}
	if len(results) != 1 {
		return nil, took, fmt.Errorf("%d results", len(results))
	}
	a := &answer{}
	for _, f := range results[0].FieldDescriptions {
		a.columns = append(a.columns, fmt.Sprintf("%s (type %d)", f.Name, f.DataTypeOID))
	}
	for _, values := range results[0].Rows {
		row := make([]string, len(values))
		for i, v := range values {
			if row[i] = string(v); v == nil {
				row[i] = null
			}
		}
		a.rows = append(a.rows, row)
	}
	return a, took, nil
}

func isRefusal(err error) bool {
	var e *pgconn.PgError
	return errors.As(err, &e) && e.Code == "0A000"
}

// empty says that nothing was found: the sum of nothing is null.
func (a *answer) empty() bool {
	return len(a.rows) == 0 || len(a.rows) == 1 && slices.Equal(a.rows[0], []string{null})
}

// ties are the columns, from 0, by which a query orders its rows, if rows that are equal
// there may come in any order.
var ties = map[int][]int{3: {1, 2}, 5: {1}, 10: {2}, 11: {1}, 18: {4, 3}}

// difference says in what way another answer differs; "" if it does not.
func (a *answer) difference(other *answer, by []int) string {
	if !slices.Equal(a.columns, other.columns) {
		return fmt.Sprintf("columns %v\nin place of %v", other.columns, a.columns)
	}
	if len(a.rows) != len(other.rows) {
		return fmt.Sprintf("%d rows in place of %d", len(other.rows), len(a.rows))
	}
	want, got := settled(a.rows, by), settled(other.rows, by)
	for i := range want {
		if !slices.Equal(want[i], got[i]) {
			return fmt.Sprintf("row %d is %q\nin place of %q", i+1, got[i], want[i])
		}
	}
	return ""
}

// settled sorts rows that follow each other and are equal in some columns.
func settled(rows [][]string, by []int) [][]string {
	if by == nil {
		return rows
	}
	equal := func(a, b []string) bool {
		return !slices.ContainsFunc(by, func(column int) bool { return a[column] != b[column] })
	}
	rows = slices.Clone(rows)
	for i := 0; i < len(rows); {
		end := i + 1
		for end < len(rows) && equal(rows[i], rows[end]) {
			end++
		}
		slices.SortFunc(rows[i:end], slices.Compare)
		i = end
	}
	return rows
}

func TestDifference(t *testing.T) {
	a := &answer{columns: []string{"k", "v"}, rows: [][]string{{"1", "a"}, {"1", "b"}, {"2", "c"}}}
	for _, c := range []struct {
		rows [][]string
		by   []int
		same bool
	}{
		{[][]string{{"1", "a"}, {"1", "b"}, {"2", "c"}}, nil, true},
		{[][]string{{"1", "b"}, {"1", "a"}, {"2", "c"}}, nil, false},
		{[][]string{{"1", "b"}, {"1", "a"}, {"2", "c"}}, []int{0}, true},
		{[][]string{{"2", "c"}, {"1", "a"}, {"1", "b"}}, []int{0}, false},
		{[][]string{{"1", "a"}, {"1", "a"}, {"2", "c"}}, []int{0}, false},
		{[][]string{{"1", "a"}, {"1", "b"}}, []int{0}, false},
	} {
		if diff := a.difference(&answer{columns: a.columns, rows: c.rows}, c.by); (diff == "") != c.same {
			t.Errorf("%v by %v: %q", c.rows, c.by, diff)
		}
	}
	if a.difference(&answer{columns: []string{"k", "w"}, rows: a.rows}, nil) == "" {
		t.Error("columns are not compared")
	}
}
