package workload

import (
	"errors"
	"testing"

	"github.com/shardgate/shardgate/bench/load"
	"github.com/shardgate/shardgate/gateway/localpg/pgtest"
)

// A COPY that fails leaves the connection in order, whether it is refused at once or breaks
// off.
func TestCopyFails(t *testing.T) {
	url := pgtest.Database(t, pgtest.Server(t))
	exec(t, pgtest.Conn(t, url), "CREATE TABLE bench_copied ("+accountColumns+" CHECK (aid <> 90000))")
	conn, err := load.Dial(t.Context(), url)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	for sql, code := range map[string]string{"COPY nothing FROM STDIN": "42P01", "COPY bench_copied (" + copiedColumns + ") FROM STDIN": "23514"} {
		err := conn.CopyIn(sql, &rows{last: 100_000, row: accountRow}, 100_000)
		var failed *load.ServerError
		if !errors.As(err, &failed) || failed.Code != code {
			t.Errorf("%s: %v", sql, err)
		}
		if err := conn.Exec("SELECT 1", "SELECT 1"); err != nil {
			t.Errorf("afterwards: %v", err)
		}
	}
	if _, err := conn.CopyOut("COPY nothing TO STDOUT"); err == nil {
		t.Error("nothing was copied")
	}
	if err := conn.Exec("COPY bench_copied TO STDOUT", ""); err == nil {
		t.Error("a COPY that nobody asked for")
	}
}
