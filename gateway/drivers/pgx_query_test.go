package drivers

import (
	"bytes"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgtype"
)

// rows are statements over many shards.
func (p *pgxScript) rows(t *testing.T) {
	for _, mode := range execModes {
		t.Run(mode.String(), func(t *testing.T) {
			conn := p.open(t)
			keys := p.keys(20)
			var values []string
			args := []any{mode}
			for i, k := range keys {
				values = append(values, fmt.Sprintf("($%d, $%d, $%d::text)", 3*i+1, 3*i+2, 3*i+3))
				args = append(args, k, i, fmt.Sprint("row ", i))
			}
			rows, err := conn.Query(t.Context(), "INSERT INTO items(id, i, t) VALUES "+strings.Join(values, ",")+" RETURNING id", args...)
			if err != nil {
				t.Fatal(err)
			}
			got, err := pgx.CollectRows(rows, pgx.RowTo[int64])
			if err != nil {
				t.Fatal(err)
			}
			equal(t, "RETURNING", got, keys)
			equal(t, "tag", rows.CommandTag().String(), "INSERT 0 20")

			rows, err = conn.Query(t.Context(), "SELECT id, i, t FROM items WHERE id = ANY($1)", mode, keys)
			if err != nil {
				t.Fatal(err)
			}
			found := map[int64]string{}
			for rows.Next() {
				var id int64
				var i int
				var text string
				if err := rows.Scan(&id, &i, &text); err != nil {
					t.Fatal(err)
				}
				found[id] = text
			}
			equal(t, "error", rows.Err(), nil)
			equal(t, "tag", rows.CommandTag().String(), "SELECT 20")
			equal(t, "rows", len(found), 20)
			for i, k := range keys {
				equal(t, "text", found[k], fmt.Sprint("row ", i))
			}

			tag, err := conn.Exec(t.Context(), "UPDATE items SET i = i + $1 WHERE id BETWEEN $2 AND $3", mode, 100, keys[0], keys[9])
			equal(t, "error", err, nil)
			equal(t, "tag", tag.String(), "UPDATE 10")
			// A reader that leaves early must not harm the connection.
			rows, err = conn.Query(t.Context(), "SELECT id FROM items", mode)
			equal(t, "error", err, nil)
			rows.Next()
			rows.Close()
			equal(t, "error", rows.Err(), nil)
			tag, err = conn.Exec(t.Context(), "DELETE FROM items WHERE i >= $1 AND id = ANY($2)", mode, 100, keys)
			equal(t, "error", err, nil)
			equal(t, "tag", tag.String(), "DELETE 10")

			code := fmt.Sprint("c", int(mode))
			tag, err = conn.Exec(t.Context(), "INSERT INTO states VALUES ($1, $2), ($3, $4)", mode, code, "one", code+"x", "two")
			equal(t, "error", err, nil)
			equal(t, "tag", tag.String(), "INSERT 0 2")
			equal(t, "a join with a reference table", one[string](t, conn,
				"SELECT s.name FROM items i JOIN states s ON s.code = $2 WHERE i.id = $1", keys[15], code), "one")
			tag, err = conn.Exec(t.Context(), "INSERT INTO items(id, t) VALUES ($1, $2), ($3, $4) ON CONFLICT (id) DO UPDATE SET t = excluded.t",
				mode, keys[15], "new", keys[16], "new")
			equal(t, "error", err, nil)
			equal(t, "tag", tag.String(), "INSERT 0 2")
		})
	}
}

func (p *pgxScript) prepared(t *testing.T) {
	conn := p.open(t)
	ctx := t.Context()
	keys := p.keys(8)
	d, err := conn.Prepare(ctx, "put", "INSERT INTO items(id, t) VALUES ($1, $2), ($3, $4) RETURNING id, t")
	equal(t, "error", err, nil)
	equal(t, "parameters", d.ParamOIDs, []uint32{pgtype.Int8OID, pgtype.TextOID, pgtype.Int8OID, pgtype.TextOID})
	equal(t, "columns", len(d.Fields), 2)
	for i := 0; i < len(keys); i += 2 {
		rows, err := conn.Query(ctx, "put", keys[i], "a", keys[i+1], "b")
		equal(t, "error", err, nil)
		got, err := pgx.CollectRows(rows, func(r pgx.CollectableRow) (id int64, err error) {
			var text string
			return id, r.Scan(&id, &text)
		})
		equal(t, "error", err, nil)
		equal(t, "ids", got, keys[i:i+2])
	}
	_, err = conn.PgConn().Prepare(ctx, "put", "SELECT 1", nil)
	failsWith(t, err, "42P05")
	equal(t, "deallocate", conn.Deallocate(ctx, "put"), nil)
	if r := conn.PgConn().ExecPrepared(ctx, "put", nil, nil, nil).Read(); true {
		failsWith(t, r.Err, "26000")
	}
	// The schema changes under a prepared statement: the statement cache of pgx
	// gets over what PostgreSQL says of it.
	run(t, conn, "ALTER TABLE notes ADD COLUMN extra int")
	run(t, conn, "SELECT * FROM notes")
	run(t, conn, "ALTER TABLE notes DROP COLUMN extra")
	_, err = conn.Exec(ctx, "SELECT * FROM notes")
	if err != nil {
		failsWith(t, err, "0A000")
		run(t, conn, "SELECT * FROM notes")
	}
	run(t, conn, "DEALLOCATE ALL")
	for mode, text := range map[pgx.QueryExecMode]string{pgx.QueryExecModeDescribeExec: "described", pgx.QueryExecModeExec: "executed"} {
		equal(t, "after DEALLOCATE ALL", one[string](t, conn, "SELECT $1::text", mode, text), text)
	}
	// Two clients with different statements under one name.
	a, b := p.open(t), p.open(t)
	if _, err := a.Prepare(ctx, "same", "SELECT 1 FROM items WHERE id = $1"); err != nil {
		t.Fatal(err)
	}
	if _, err := b.Prepare(ctx, "same", "SELECT t FROM items WHERE t = $1"); err != nil {
		t.Fatal(err)
	}
	for range 10 {
		equal(t, "a's", one[int](t, a, "same", keys[0]), 1)
		equal(t, "b's", one[string](t, b, "same", "b"), "b")
	}
}

func (p *pgxScript) cursors(t *testing.T) {
	conn := p.open(t)
	ctx := t.Context()
	key := p.keys(1)[0]
	run(t, conn, "INSERT INTO items(id) VALUES($1)", key)
	for i := range 10 {
		run(t, conn, "INSERT INTO lines VALUES($1, $2, 'x')", key, i)
	}
	tx, err := conn.Begin(ctx)
	equal(t, "error", err, nil)
	run(t, conn, fmt.Sprintf("DECLARE c CURSOR FOR SELECT line FROM lines WHERE item = %d ORDER BY line", key))
	for _, want := range [][]int{{0, 1, 2, 3}, {4, 5, 6, 7}, {8, 9}} {
		rows, err := tx.Query(ctx, "FETCH 4 FROM c")
		equal(t, "error", err, nil)
		got, err := pgx.CollectRows(rows, pgx.RowTo[int])
		equal(t, "error", err, nil)
		equal(t, "fetched", got, want)
	}
	run(t, conn, "CLOSE c")
	run(t, conn, fmt.Sprintf("DECLARE c CURSOR FOR SELECT line, count(*) FROM lines WHERE item <= %d GROUP BY line ORDER BY line DESC LIMIT 5", key))
	for _, want := range [][]int{{9, 8, 7}, {6, 5}} {
		rows, err := tx.Query(ctx, "FETCH 3 FROM c")
		equal(t, "error", err, nil)
		got, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (line int, err error) { return line, row.Scan(&line, nil) })
		equal(t, "error", err, nil)
		equal(t, "fetched", got, want)
	}
	equal(t, "rollback", tx.Rollback(ctx), nil)
}

// temporary tables, holdable cursors and advisory locks are the session's own.
func (p *pgxScript) temporary(t *testing.T) {
	conn := p.open(t)
	run(t, conn, "CREATE TEMPORARY TABLE scratch(a int)")
	run(t, conn, "INSERT INTO scratch SELECT generate_series(1, 10)")
	equal(t, "rows", one[int](t, conn, "SELECT count(*)::int FROM scratch"), 10)
	n, err := conn.CopyFrom(t.Context(), pgx.Identifier{"scratch"}, []string{"a"}, pgx.CopyFromRows([][]any{{1}, {2}}))
	equal(t, "error", err, nil)
	equal(t, "copied", n, 2)
	_, err = p.open(t).Exec(t.Context(), "SELECT 1 FROM scratch")
	failsWith(t, err, "42P01")
	run(t, conn, "DROP TABLE scratch")
}

func (p *pgxScript) large(t *testing.T) {
	conn := p.open(t)
	big := bytes.Repeat([]byte("\x00é'\\"), 1<<20)
	key := p.keys(1)[0]
	run(t, conn, "INSERT INTO items(id, b) VALUES($1, $2)", key, big)
	if got := one[[]byte](t, conn, "SELECT b FROM items WHERE id=$1", key); !bytes.Equal(got, big) {
		t.Fatal("another value came back")
	}
	keys := p.keys(3000)
	var text strings.Builder
	for _, k := range keys {
		fmt.Fprintf(&text, "%d\t%s\n", k, strings.Repeat("x", 300))
	}
	if _, err := conn.PgConn().CopyFrom(t.Context(), strings.NewReader(text.String()), "COPY items(id, t) FROM STDIN"); err != nil {
		t.Fatal(err)
	}
	rows, err := conn.Query(t.Context(), "SELECT id FROM items WHERE id = ANY($1)", keys)
	equal(t, "error", err, nil)
	got, err := pgx.CollectRows(rows, pgx.RowTo[int64])
	equal(t, "error", err, nil)
	slices.Sort(got)
	if !slices.Equal(got, keys) {
		t.Fatalf("%d rows", len(got))
	}
	// A batch that is larger than what the gateway collects at once.
	b := &pgx.Batch{}
	more := p.keys(1500)
	for _, k := range more {
		b.Queue("INSERT INTO items(id, t) VALUES($1, $2)", k, strings.Repeat("y", 100))
	}
	equal(t, "close", conn.SendBatch(t.Context(), b).Close(), nil)
	tag, err := conn.Exec(t.Context(), "DELETE FROM items WHERE id = ANY($1)", more)
	equal(t, "error", err, nil)
	equal(t, "deleted", tag.RowsAffected(), 1500)
}
