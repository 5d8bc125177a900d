package drivers

import (
	"bytes"
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/lib/pq"
)

// pqScript is the state of one run of testPq.
type pqScript struct {
	target
	unusedKeys
}

func testPq(t *testing.T, tg target) {
	t.Logf("lib/pq %s, %s", moduleVersion("github.com/lib/pq"), runtime.Version())
	p := &pqScript{target: tg}
	for _, part := range []struct {
		name string
		run  func(*testing.T, *sql.DB)
	}{
		{"connect", p.connect}, {"types", p.types}, {"rows", p.rows}, {"statements", p.statements}, {"transactions", p.transactions},
		{"errors", p.errors}, {"cancel", p.cancel}, {"copy", p.copy}, {"user types", p.userTypes}, {"metadata", p.metadata}, {"pool", p.pool},
	} {
		// With binary parameters lib/pq binds without asking for the types first.
		for _, binary := range []string{"no", "yes"} {
			t.Run(part.name+" binary "+binary, func(t *testing.T) { part.run(t, p.open(t, "binary_parameters", binary)) })
		}
	}
	t.Run("notify", p.notify)
}

func (p *pqScript) open(t *testing.T, pairs ...string) *sql.DB {
	t.Helper()
	db, err := sql.Open("postgres", p.with(append([]string{"search_path", p.schema, "sslmode", "disable"}, pairs...)...))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { db.Close() })
	return db
}

// queryer is a *sql.DB, *sql.Conn, *sql.Tx.
type queryer interface {
	QueryContext(context.Context, string, ...any) (*sql.Rows, error)
	ExecContext(context.Context, string, ...any) (sql.Result, error)
}

// column reads the only column of a query.
func column[T any](t *testing.T, db queryer, query string, args ...any) (out []T) {
	t.Helper()
	rows, err := db.QueryContext(t.Context(), query, args...)
	if err != nil {
		t.Fatalf("%s: %v", query, err)
	}
	defer rows.Close()
	for rows.Next() {
		var v T
		if err := rows.Scan(&v); err != nil {
			t.Fatalf("%s: %v", query, err)
		}
		out = append(out, v)
	}
	if err := rows.Err(); err != nil {
		t.Fatalf("%s: %v", query, err)
	}
	return out
}

func change(t *testing.T, db queryer, query string, args ...any) int64 {
	t.Helper()
	res, err := db.ExecContext(t.Context(), query, args...)
	if err != nil {
		t.Fatalf("%s: %v", query, err)
	}
	n, err := res.RowsAffected()
	if err != nil {
		n = -1
	}
	return n
}

func pqFails(t *testing.T, err error, code string) *pq.Error {
	t.Helper()
	var pe *pq.Error
	if !errors.As(err, &pe) || string(pe.Code) != code {
		t.Fatalf("got %v, want an error with SQLSTATE %s", err, code)
	}
	return pe
}

func (p *pqScript) connect(t *testing.T, _ *sql.DB) {
	db := p.open(t, "application_name", "a name", "options", "-c work_mem=7MB")
	equal(t, "ping", db.PingContext(t.Context()), nil)
	for name, want := range map[string]string{"application_name": "a name", "work_mem": "7MB", "search_path": p.schema} {
		equal(t, name, column[string](t, db, "SHOW "+name), []string{want})
	}
	db = p.open(t, "work_mem", "nonsense")
	pqFails(t, db.PingContext(t.Context()), "22023")
}

func (p *pqScript) types(t *testing.T, db *sql.DB) {
	for i, key := range p.keys(len(awkward)) {
		at := time.Date(2024, 2, 29, 12, 0, i, 123456000, time.UTC)
		blob := []byte{0, 1, 0xff, '\'', '\\'}
		doc, _ := json.Marshal(map[string]any{"k": awkward[i]})
		n := change(t, db, "INSERT INTO items("+itemColumns+") VALUES($1,$2,$3,$4,$5,$6,$7,$8,$9,$10,$11)", key, -i, fmt.Sprintf("-%d.0001", 1<<40+i),
			awkward[i], blob, at, "0194fdc2-fa2f-4cc0-81d3-ff12045b73c8", i%2 == 0, pq.Array([]int64{1, -2}), pq.Array([]string{awkward[i], "x"}), string(doc))
		equal(t, "inserted", n, 1)
		var (
			id, number     int64
			numeric, text  string
			bytesBack      []byte
			ts             time.Time
			uuid, document string
			ok             bool
			ints           []int64
			texts          []string
		)
		err := db.QueryRowContext(t.Context(), "SELECT "+itemColumns+" FROM items WHERE id = $1", key).Scan(&id, &number, &numeric, &text,
			&bytesBack, &ts, &uuid, &ok, pq.Array(&ints), pq.Array(&texts), &document)
		if err != nil {
			t.Fatal(err)
		}
		equal(t, "the row", []any{id, number, numeric, text, ts.UTC(), uuid, ok, ints, texts}, []any{key, int64(-i), fmt.Sprintf("-%d.0001", 1<<40+i),
			awkward[i], at, "0194fdc2-fa2f-4cc0-81d3-ff12045b73c8", i%2 == 0, []int64{1, -2}, []string{awkward[i], "x"}})
		equal(t, "bytea", bytes.Equal(bytesBack, blob), true)
		var back map[string]string
		if err := json.Unmarshal([]byte(document), &back); err != nil || back["k"] != awkward[i] {
			t.Fatal(document, err)
		}
	}
	key := p.keys(1)[0]
	change(t, db, "INSERT INTO items("+itemColumns+") VALUES($1,$2,$3,$4,$5,$6,$7,$8,$9,$10,$11)", key, nil, nil, nil, nil, nil, nil, nil, nil, nil, nil)
	equal(t, "nulls", column[bool](t, db, "SELECT (i,n,t,b,ts,u,ok,a,ta,j) IS NULL FROM items WHERE id=$1", key), []bool{true})
	equal(t, "NULL", column[sql.NullString](t, db, "SELECT t FROM items WHERE id=$1", key), []sql.NullString{{}})
}

func (p *pqScript) rows(t *testing.T, db *sql.DB) {
	keys := p.keys(20)
	var values []string
	var args []any
	for i, k := range keys {
		values = append(values, fmt.Sprintf("($%d, $%d)", 2*i+1, 2*i+2))
		args = append(args, k, fmt.Sprint("row ", i))
	}
	equal(t, "RETURNING", column[int64](t, db, "INSERT INTO items(id, t) VALUES "+strings.Join(values, ",")+" RETURNING id", args...), keys)
	equal(t, "rows", len(column[int64](t, db, "SELECT id FROM items WHERE id = ANY($1)", pq.Array(keys))), 20)
	equal(t, "updated", change(t, db, "UPDATE items SET t = $1 WHERE id = ANY($2)", "new", pq.Array(keys[:15])), 15)
	equal(t, "updated", change(t, db, "UPDATE items SET t = 'newer' WHERE t = 'new'"), 15)
	equal(t, "deleted", change(t, db, "DELETE FROM items WHERE id >= $1 AND id <= $2", keys[0], keys[19]), 20)
	change(t, db, "INSERT INTO states VALUES ($1, $2)", fmt.Sprint("s", keys[0]), "a state")
	for range 6 {
		equal(t, "a reference table", column[string](t, db, "SELECT name FROM states WHERE code = $1", fmt.Sprint("s", keys[0])), []string{"a state"})
	}
	// Several results of one simple Query.
	rows, err := db.QueryContext(t.Context(), "SELECT 1; SELECT 'two'")
	equal(t, "error", err, nil)
	defer rows.Close()
	var n int
	var two string
	if !rows.Next() || rows.Scan(&n) != nil || rows.Next() || !rows.NextResultSet() || !rows.Next() || rows.Scan(&two) != nil || n != 1 || two != "two" {
		t.Fatal(n, two, rows.Err())
	}
}

func (p *pqScript) statements(t *testing.T, db *sql.DB) {
	put, err := db.PrepareContext(t.Context(), "INSERT INTO items(id, t) VALUES($1, $2), ($3, $4)")
	equal(t, "error", err, nil)
	defer put.Close()
	get, err := db.PrepareContext(t.Context(), "SELECT t FROM items WHERE id = $1")
	equal(t, "error", err, nil)
	defer get.Close()
	keys := p.keys(40)
	for i := 0; i < len(keys); i += 2 {
		res, err := put.ExecContext(t.Context(), keys[i], "a", keys[i+1], "b")
		equal(t, "error", err, nil)
		n, _ := res.RowsAffected()
		equal(t, "inserted", n, 2)
	}
	for i, k := range keys {
		var text string
		if err := get.QueryRowContext(t.Context(), k).Scan(&text); err != nil {
			t.Fatal(err)
		}
		equal(t, "text", text, []string{"a", "b"}[i%2])
	}
	_, err = db.PrepareContext(t.Context(), "SELECT nosuch FROM items")
	pqFails(t, err, "42703")
}

func (p *pqScript) transactions(t *testing.T, db *sql.DB) {
	keys := p.keys(12)
	present := func() int { return len(column[int](t, db, "SELECT 1 FROM items WHERE id = ANY($1)", pq.Array(keys))) }
	begin := func(o *sql.TxOptions) *sql.Tx {
		t.Helper()
		tx, err := db.BeginTx(t.Context(), o)
		if err != nil {
			t.Fatal(err)
		}
		return tx
	}
	tx := begin(nil)
	for _, k := range keys {
		change(t, tx, "INSERT INTO items(id) VALUES($1)", k)
	}
	equal(t, "rollback", tx.Rollback(), nil)
	equal(t, "rows", present(), 0)

	tx = begin(nil)
	for _, k := range keys[:6] {
		change(t, tx, "INSERT INTO items(id) VALUES($1)", k)
	}
	change(t, tx, "SAVEPOINT a")
	_, err := tx.Exec("INSERT INTO items(id) VALUES($1), ($2)", keys[7], keys[0])
	pqFails(t, err, "23505")
	_, err = tx.Exec("SELECT 1 FROM items WHERE id = $1", keys[0])
	pqFails(t, err, "25P02")
	change(t, tx, "ROLLBACK TO a")
	change(t, tx, "INSERT INTO items(id) VALUES($1)", keys[8])
	equal(t, "commit", tx.Commit(), nil)
	equal(t, "rows", present(), 7)

	tx = begin(nil)
	change(t, tx, "DELETE FROM items WHERE id = ANY($1)", pq.Array(keys))
	_, err = tx.Exec("SELECT * FROM nosuch")
	pqFails(t, err, "42P01")
	if err := tx.Commit(); err == nil {
		t.Fatal("COMMIT of a failed transaction succeeded")
	}
	equal(t, "rows", present(), 7)

	tx = begin(&sql.TxOptions{Isolation: sql.LevelSerializable, ReadOnly: true})
	equal(t, "level", column[string](t, tx, "SHOW transaction_isolation"), []string{"serializable"})
	_, err = tx.Exec("DELETE FROM items WHERE id = $1", keys[0])
	pqFails(t, err, "25006")
	equal(t, "rollback", tx.Rollback(), nil)
}

func (p *pqScript) errors(t *testing.T, db *sql.DB) {
	key := p.keys(1)[0]
	change(t, db, "INSERT INTO items(id) VALUES($1)", key)
	_, err := db.Exec("INSERT INTO items(id) VALUES($1)", key)
	pe := pqFails(t, err, "23505")
	equal(t, "fields", []string{pe.Severity, pe.Schema, pe.Table, pe.Constraint, pe.Detail},
		[]string{"ERROR", p.schema, "items", "items_pkey", fmt.Sprintf("Key (id)=(%d) already exists.", key)})
	for query, code := range map[string]string{"SELEC 1": "42601", "SELECT 1 FROM nosuch": "42P01", "SELECT 1/0": "22012",
		"INSERT INTO states VALUES('x', NULL)": "23502", fmt.Sprintf("INSERT INTO lines VALUES(%d, 1)", key+1_000_000): "23503"} {
		_, err := db.Exec(query)
		pqFails(t, err, code)
	}
	for query, code := range map[string]string{"SELEC $1": "42601", "SELECT $1::int FROM nosuch": "42P01", "SELECT 1 / ($1::int - $1::int)": "22012"} {
		_, err := db.Exec(query, 1)
		pqFails(t, err, code)
	}
	_, err = db.Exec("UPDATE items SET i = 1 WHERE ctid IN (SELECT ctid FROM items WHERE id <> $1)", key)
	if p.gateway {
		if pe := pqFails(t, err, "0A000"); pe.Hint == "" {
			t.Error("no hint")
		}
	} else if err != nil {
		t.Fatal(err)
	}
}

func (p *pqScript) cancel(t *testing.T, db *sql.DB) {
	change(t, db, "INSERT INTO items(id) VALUES($1)", p.keys(1)[0])
	db.SetMaxOpenConns(1) // the connection must be usable afterwards
	for _, query := range []string{"SELECT pg_sleep(20)", "SELECT pg_sleep(20) FROM items", "SELECT pg_sleep($1::int)"} {
		ctx, stop := context.WithTimeout(t.Context(), 150*time.Millisecond)
		var args []any
		if strings.Contains(query, "$1") {
			args = []any{20}
		}
		begun := time.Now()
		_, err := db.ExecContext(ctx, query, args...)
		stop()
		if err == nil || time.Since(begun) > 10*time.Second {
			t.Fatal(err, time.Since(begun))
		}
		if !errors.Is(err, context.DeadlineExceeded) {
			pqFails(t, err, "57014")
		}
		equal(t, "after the cancel", column[int](t, db, "SELECT 1"), []int{1})
	}
}

func (p *pqScript) copy(t *testing.T, db *sql.DB) {
	load := func(keys []int64, fail bool) error {
		tx, err := db.Begin()
		if err != nil {
			t.Fatal(err)
		}
		defer tx.Rollback()
		st, err := tx.Prepare(`COPY "` + p.schema + `"."items" ("id", "t", "b") FROM STDIN`)
		if err != nil {
			return err
		}
		for i, k := range keys {
			if _, err := st.Exec(k, awkward[i%len(awkward)], []byte{byte(i), 0, '\\'}); err != nil {
				return err
			}
		}
		if fail {
			if _, err := st.Exec(keys[0], "twice", nil); err != nil {
				return err
			}
		}
		if _, err := st.Exec(); err != nil {
			return err
		}
		if err := st.Close(); err != nil {
			return err
		}
		return tx.Commit()
	}
	keys := p.keys(500)
	equal(t, "copy", load(keys, false), nil)
	for i := range keys[:50] {
		equal(t, "copied", column[string](t, db, "SELECT t FROM items WHERE id = $1 AND b = $2", keys[i], []byte{byte(i), 0, '\\'}), []string{awkward[i%len(awkward)]})
	}
	more := p.keys(300)
	pqFails(t, load(more, true), "23505")
	equal(t, "rows of the COPY that failed", column[int](t, db, "SELECT 1 FROM items WHERE id = ANY($1)", pq.Array(more)), nil)
	tx, err := db.Begin()
	equal(t, "begin", err, nil)
	_, err = tx.Prepare(`COPY "nosuch" ("a") FROM STDIN`)
	pqFails(t, err, "42P01")
	equal(t, "rollback", tx.Rollback(), nil)
	equal(t, "the connection goes on", column[int](t, db, "SELECT 1"), []int{1})
}

func (p *pqScript) userTypes(t *testing.T, db *sql.DB) {
	keys := p.keys(16)
	for i, k := range keys {
		change(t, db, "INSERT INTO moods(id, m, p, ms) VALUES($1, $2, $3, $4)", k, []string{"sad", "ok", "happy"}[i%3], fmt.Sprintf("(%d,y)", i), pq.Array([]string{"sad"}))
	}
	for i, k := range keys {
		equal(t, "m", column[string](t, db, "SELECT m FROM moods WHERE id = $1 AND ms = $2", k, pq.Array([]string{"sad"})), []string{[]string{"sad", "ok", "happy"}[i%3]})
		equal(t, "p", column[int](t, db, "SELECT (p).x FROM moods WHERE id = $1", k), []int{i})
	}
	equal(t, "sad ones", len(column[int64](t, db, "SELECT id FROM moods WHERE m = $1 AND id >= $2", "sad", keys[0])), 6)
	_, err := db.Exec("INSERT INTO moods(id, m) VALUES($1, $2)", p.keys(1)[0], "bored")
	pqFails(t, err, "22P02")
}

func (p *pqScript) metadata(t *testing.T, db *sql.DB) {
	rows, err := db.Query("SELECT id, t AS name, n, b, ok, ts FROM items WHERE id = $1", 1)
	equal(t, "error", err, nil)
	defer rows.Close()
	types, err := rows.ColumnTypes()
	equal(t, "error", err, nil)
	var names []string
	for _, c := range types {
		names = append(names, c.Name()+" "+c.DatabaseTypeName())
	}
	equal(t, "columns", names, []string{"id INT8", "name TEXT", "n NUMERIC", "b BYTEA", "ok BOOL", "ts TIMESTAMPTZ"})
	precision, scale, _ := types[2].DecimalSize()
	equal(t, "numeric", []int64{precision, scale}, []int64{20, 4})
}

func (p *pqScript) pool(t *testing.T, db *sql.DB) {
	db.SetMaxOpenConns(8)
	get, err := db.Prepare("SELECT l.note FROM items i JOIN lines l ON l.item = i.id WHERE i.id = $1")
	equal(t, "error", err, nil)
	defer get.Close()
	const workers, rounds = 16, 12
	keys := p.keys(workers * rounds)
	var wg sync.WaitGroup
	for w := range workers {
		wg.Go(func() {
			for r := range rounds {
				if err := pqRound(db, get, keys[w*rounds+r]); err != nil {
					t.Errorf("worker %d, round %d: %v", w, r, err)
					return
				}
			}
		})
	}
	wg.Wait()
}

// pqRound writes an item and a line, and reads by a statement that is shared.
func pqRound(db *sql.DB, get *sql.Stmt, key int64) error {
	tx, err := db.Begin()
	if err != nil {
		return err
	}
	defer tx.Rollback()
	if _, err := tx.Exec("INSERT INTO items(id) VALUES($1), ($2)", key, -key); err != nil {
		return err
	}
	if _, err := tx.Exec("INSERT INTO lines VALUES($1, 1, $2)", key, fmt.Sprint("of ", key)); err != nil {
		return err
	}
	var note string
	if err := tx.Stmt(get).QueryRow(key).Scan(&note); err != nil {
		return err
	}
	if err := tx.Commit(); err != nil {
		return err
	}
	if err := get.QueryRow(key).Scan(&note); err != nil || note != fmt.Sprint("of ", key) {
		return fmt.Errorf("note %q, %v", note, err)
	}
	return nil
}

func (p *pqScript) notify(t *testing.T) {
	l := pq.NewListener(p.with("search_path", p.schema, "sslmode", "disable"), time.Second, time.Second, nil)
	defer l.Close()
	equal(t, "listen", l.Listen("pq_news"), nil)
	db := p.open(t)
	change(t, db, "NOTIFY pq_news, 'hello'")
	change(t, db, "SELECT pg_notify($1, $2)", "pq_news", "again")
	for _, want := range []string{"hello", "again"} {
		select {
		case n := <-l.Notify:
			if n == nil || n.Extra != want {
				t.Fatalf("got %+v, want %q", n, want)
			}
		case <-time.After(10 * time.Second):
			t.Fatal("no notification")
		}
	}
	equal(t, "ping", l.Ping(), nil)
	equal(t, "unlisten", l.Unlisten("pq_news"), nil)
}
