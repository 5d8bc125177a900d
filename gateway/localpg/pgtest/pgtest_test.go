package pgtest_test

import (
	"testing"

	"github.com/shardgate/shardgate/gateway/localpg/pgtest"
)

func TestMain(m *testing.M) { pgtest.Main(m) }

func TestDatabase(t *testing.T) {
	s := pgtest.Server(t)
	conn := pgtest.Conn(t, pgtest.Database(t, s))
	var one int
	if err := conn.QueryRow(t.Context(), "SELECT 1").Scan(&one); err != nil || one != 1 {
		t.Fatal(one, err)
	}
	_, urls := pgtest.Databases(t, pgtest.Servers(t, 3)...)
	for _, u := range urls {
		pgtest.Conn(t, u)
	}
}
