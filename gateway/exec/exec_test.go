package exec

import (
	"context"
	"testing"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/shardgate/shardgate/gateway/localpg/pgtest"
	"github.com/shardgate/shardgate/planner"
	"github.com/shardgate/shardgate/shardmap"
)

func TestMain(m *testing.M) { pgtest.Main(m) }

// server connects to a database of the test's own.
func server(t *testing.T) *pgconn.PgConn {
	return pgtest.Conn(t, pgtest.Database(t, pgtest.Server(t))).PgConn()
}

var background = context.Background()

type fataler interface {
	Helper()
	Fatalf(string, ...any)
}

// ask runs SQL and returns the last result's rows in text form.
func ask(t fataler, c *pgconn.PgConn, sql string) [][]string {
	t.Helper()
	results, err := c.Exec(background, sql).ReadAll()
	if err != nil {
		t.Fatalf("%s: %v", sql, err)
	}
	var out [][]string
	for _, row := range results[len(results)-1].Rows {
		var values []string
		for _, v := range row {
			values = append(values, string(v))
		}
		out = append(out, values)
	}
	return out
}

// keyed is a sharded table with columns of the given types, of which those at the
// positions in key are the key.
func keyed(name string, types []shardmap.KeyType, typmods []int32, key ...int) *planner.Table {
	t := &planner.Table{Schema: "public", Name: name, Kind: 'r', Distribution: planner.Sharded, Key: &planner.Key{Group: name}}
	for i, k := range types {
		t.Columns = append(t.Columns, planner.Column{Name: string(rune('a' + i)), Type: k.OID(), Deterministic: true})
	}
	for _, i := range key {
		t.Key.Columns, t.Key.Types = append(t.Key.Columns, i), append(t.Key.Types, types[i])
		if typmods != nil {
			t.Key.Typmods = append(t.Key.Typmods, typmods[i])
		}
	}
	return t
}
