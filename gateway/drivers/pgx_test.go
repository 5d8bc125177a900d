package drivers

import (
	"bytes"
	"context"
	"database/sql/driver"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"os/exec"
	"reflect"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgtype"
	"github.com/jackc/pgx/v5/pgxpool"
)

// moduleVersion is the version of a module that the test is built with.
func moduleVersion(path string) string {
	out, err := exec.Command("go", "list", "-m", "-f", "{{.Version}}", path).Output()
	if err != nil {
		return err.Error()
	}
	return strings.TrimSpace(string(out))
}

// pgxScript is the state of one run of testPgx.
type pgxScript struct {
	target
	next int64 // the next key that is free
}

func testPgx(t *testing.T, tg target) {
	t.Logf("pgx %s, %s", moduleVersion("github.com/jackc/pgx/v5"), runtime.Version())
	p := &pgxScript{target: tg, next: 1}
	for _, part := range []struct {
		name string
		run  func(*testing.T)
	}{
		{"connect", p.connect}, {"types", p.types}, {"rows", p.rows}, {"batch", p.batch}, {"pipeline", p.pipeline},
		{"transactions", p.transactions}, {"errors", p.errors}, {"cancel", p.cancel}, {"copy", p.copy},
		{"notify", p.notify}, {"settings", p.settings}, {"user types", p.userTypes}, {"nested types", p.nestedTypes}, {"metadata", p.metadata},
		{"prepared", p.prepared}, {"cursors", p.cursors}, {"temporary tables", p.temporary}, {"pool", p.pool}, {"large", p.large},
	} {
		t.Run(part.name, part.run)
	}
}

// keys are n keys that nobody has used; with more than a few, they are on all shards.
func (p *pgxScript) keys(n int) []int64 {
	out := make([]int64, n)
	for i := range out {
		out[i] = p.next
		p.next++
	}
	return out
}

func (p *pgxScript) open(t *testing.T, pairs ...string) *pgx.Conn {
	t.Helper()
	conn := connect(t, p.with(append([]string{"search_path", p.schema}, pairs...)...))
	t.Cleanup(func() { conn.Close(context.Background()) })
	return conn
}

// one reads the only value of a query.
func one[T any](t *testing.T, conn interface {
	QueryRow(context.Context, string, ...any) pgx.Row
}, sql string, args ...any) (v T) {
	t.Helper()
	if err := conn.QueryRow(t.Context(), sql, args...).Scan(&v); err != nil {
		t.Fatalf("%s: %v", sql, err)
	}
	return v
}

func equal[T any](t *testing.T, what string, got, want T) {
	t.Helper()
	if !reflect.DeepEqual(got, want) {
		t.Fatalf("%s: got %v, want %v", what, got, want)
	}
}

// failsWith checks an error's SQLSTATE and returns the error.
func failsWith(t *testing.T, err error, code string) *pgconn.PgError {
	t.Helper()
	var pe *pgconn.PgError
	if !errors.As(err, &pe) || pe.Code != code {
		t.Fatalf("got %v, want an error with SQLSTATE %s", err, code)
	}
	return pe
}

// refused checks that the gateway refuses something with a hint; PostgreSQL must
// do it. It says whether it was done.
func (p *pgxScript) refused(t *testing.T, err error) bool {
	t.Helper()
	if !p.gateway {
		if err != nil {
			t.Fatal(err)
		}
		return false
	}
	if pe := failsWith(t, err, "0A000"); pe.Hint == "" || pe.Message == "" {
		t.Fatalf("no hint in %+v", pe)
	}
	return true
}

func (p *pgxScript) connect(t *testing.T) {
	conn := p.open(t, "application_name", "a name", "DateStyle", "German, DMY", "TimeZone", "Asia/Kolkata",
		"options", `-c work_mem=7MB -c my.setting=a\ b`)
	for name, want := range map[string]string{"application_name": "a name", "DateStyle": "German, DMY", "TimeZone": "Asia/Kolkata",
		"work_mem": "7MB", "my.setting": "a b", "search_path": p.schema} {
		equal(t, name, one[string](t, conn, "SHOW "+name), want)
	}
	for name, want := range map[string]string{"application_name": "a name", "DateStyle": "German, DMY", "TimeZone": "Asia/Kolkata",
		"client_encoding": "UTF8", "standard_conforming_strings": "on", "integer_datetimes": "on", "is_superuser": "on",
		"session_authorization": "postgres"} {
		equal(t, "reported "+name, conn.PgConn().ParameterStatus(name), want)
	}
	equal(t, "server_version", conn.PgConn().ParameterStatus("server_version"), one[string](t, conn, "SHOW server_version"))
	equal(t, "a date", one[string](t, conn, "SELECT '2024-02-01'::date::text"), "01.02.2024")
	if err := conn.Ping(t.Context()); err != nil {
		t.Fatal(err)
	}

	for _, bad := range []struct{ key, value, code string }{
		{"DateStyle", "nonsense", "22023"}, {"no_such_setting", "1", "42704"}, {"options", "-c work_mem=-9", "22023"},
	} {
		_, err := pgx.Connect(t.Context(), p.with(bad.key, bad.value))
		failsWith(t, err, bad.code)
	}
	cfg, _ := pgx.ParseConfig(p.url)
	cfg.Database = "nosuch"
	_, err := pgx.ConnectConfig(t.Context(), cfg)
	failsWith(t, err, "3D000")
	cfg.Database, cfg.User = "postgres", "nosuch"
	_, err = pgx.ConnectConfig(t.Context(), cfg)
	failsWith(t, err, "28000")
}

// item is a row of the table items.
type item struct {
	ID int64
	I  *int32
	N  pgtype.Numeric
	T  *string
	B  []byte
	TS *time.Time
	U  pgtype.UUID
	OK *bool
	A  []int32
	TA []*string
	J  document
}

// document is a JSON object that says itself how it is written, as the modes
// that don't ask the server for types need it.
type document map[string]any

func (d document) Value() (driver.Value, error) {
	b, err := json.Marshal(d)
	return string(b), err
}

const itemColumns = "id, i, n, t, b, ts, u, ok, a, ta, j"

var execModes = []pgx.QueryExecMode{pgx.QueryExecModeCacheStatement, pgx.QueryExecModeCacheDescribe,
	pgx.QueryExecModeDescribeExec, pgx.QueryExecModeExec, pgx.QueryExecModeSimpleProtocol}

// awkward are texts that have to survive quoting.
var awkward = []string{"", "it's", `back\slash`, `"double"`, "línea\nd'été", "日本語 🐘", "$1 ? :x --c /* */ ;", `{"a",NULL}`, `\N`}

func (p *pgxScript) types(t *testing.T) {
	for _, mode := range execModes {
		t.Run(mode.String(), func(t *testing.T) {
			conn := p.open(t, "TimeZone", "UTC", "default_query_exec_mode", map[pgx.QueryExecMode]string{
				pgx.QueryExecModeCacheStatement: "cache_statement", pgx.QueryExecModeCacheDescribe: "cache_describe",
				pgx.QueryExecModeDescribeExec: "describe_exec", pgx.QueryExecModeExec: "exec",
				pgx.QueryExecModeSimpleProtocol: "simple_protocol"}[mode])
			for i, key := range p.keys(len(awkward)) {
				text, number, yes := awkward[i], int32(-i), i%2 == 0
				at := time.Date(2024, 2, 29, 12, 0, i, 123456000, time.UTC)
				want := item{ID: key, I: &number, T: &text, B: []byte{0, 1, 0xff, '\'', '\\'}, TS: &at, OK: &yes, A: []int32{1, -2},
					TA: []*string{&text, nil}, J: document{"k": text, "n": 1.5}}
				if err := want.N.Scan(fmt.Sprintf("-%d.0001", 1<<40+i)); err != nil {
					t.Fatal(err)
				}
				if err := want.U.Scan(fmt.Sprintf("0194fdc2-fa2f-4cc0-81d3-%012d", i)); err != nil {
					t.Fatal(err)
				}
				run(t, conn, "INSERT INTO items("+itemColumns+") VALUES($1,$2,$3,$4,$5,$6,$7,$8,$9,$10,$11)",
					want.ID, want.I, want.N, want.T, want.B, want.TS, want.U, want.OK, want.A, want.TA, want.J)
				rows, err := conn.Query(t.Context(), "SELECT "+itemColumns+" FROM items WHERE id = $1", key)
				if err != nil {
					t.Fatal(err)
				}
				got, err := pgx.CollectExactlyOneRow(rows, pgx.RowToStructByPos[item])
				if err != nil {
					t.Fatal(err)
				}
				utc := got.TS.UTC()
				got.TS = &utc
				equal(t, "the row", got, want)
			}
			nulls := p.keys(1)[0]
			run(t, conn, "INSERT INTO items("+itemColumns+") VALUES($1,$2,$3,$4,$5,$6,$7,$8,$9,$10,$11)",
				nulls, nil, nil, nil, nil, nil, nil, nil, nil, nil, nil)
			equal(t, "nulls", one[bool](t, conn, "SELECT (i,n,t,b,ts,u,ok,a,ta,j) IS NULL FROM items WHERE id=$1", nulls), true)
			run(t, conn, "UPDATE items SET t = $2, i = i + $3 WHERE id = $1", nulls, "changed", 1)
			equal(t, "changed", one[string](t, conn, "SELECT t FROM items WHERE id=$1", nulls), "changed")
			tag, err := conn.Exec(t.Context(), "DELETE FROM items WHERE id = $1", nulls)
			equal(t, "deleted", tag.String(), "DELETE 1")
			equal(t, "error", err, nil)
		})
	}
}

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

func (p *pgxScript) batch(t *testing.T) {
	conn := p.open(t)
	keys := p.keys(30)
	b := &pgx.Batch{}
	for i, k := range keys {
		b.Queue("INSERT INTO items(id, i) VALUES($1, $2)", k, i)
	}
	for _, k := range keys {
		b.Queue("SELECT i FROM items WHERE id = $1", k)
	}
	b.Queue("SELECT 1 FROM items WHERE id = ANY($1)", keys)
	res := conn.SendBatch(t.Context(), b)
	for range keys {
		tag, err := res.Exec()
		equal(t, "error", err, nil)
		equal(t, "tag", tag.String(), "INSERT 0 1")
	}
	for i := range keys {
		var n int
		if err := res.QueryRow().Scan(&n); err != nil {
			t.Fatal(err)
		}
		equal(t, "i", n, i)
	}
	tag, err := res.Exec()
	equal(t, "error", err, nil)
	equal(t, "tag", tag.String(), "SELECT 30")
	equal(t, "close", res.Close(), nil)

	// A batch is one transaction: the error undoes what came before.
	more := p.keys(5)
	b = &pgx.Batch{}
	for _, k := range more {
		b.Queue("INSERT INTO items(id) VALUES($1)", k)
	}
	b.Queue("INSERT INTO items(id) VALUES($1)", keys[0])
	b.Queue("INSERT INTO items(id) VALUES($1)", p.keys(1)[0])
	res = conn.SendBatch(t.Context(), b)
	for range more {
		if _, err := res.Exec(); err != nil {
			t.Fatal(err)
		}
	}
	_, err = res.Exec()
	failsWith(t, err, "23505")
	res.Close()
	tag, err = conn.Exec(t.Context(), "SELECT 1 FROM items WHERE id = ANY($1)", more)
	equal(t, "error", err, nil)
	equal(t, "rows of the batch that failed", tag.RowsAffected(), 0)

	// A batch with transaction control in it.
	b = &pgx.Batch{}
	b.Queue("BEGIN")
	for _, k := range more {
		b.Queue("INSERT INTO items(id) VALUES($1)", k)
	}
	b.Queue("SAVEPOINT a")
	b.Queue("UPDATE items SET i = 7 WHERE id = ANY($1)", more)
	b.Queue("ROLLBACK TO a")
	b.Queue("COMMIT")
	equal(t, "close", conn.SendBatch(t.Context(), b).Close(), nil)
	tag, err = conn.Exec(t.Context(), "SELECT 1 FROM items WHERE id = ANY($1) AND i IS NULL", more)
	equal(t, "error", err, nil)
	equal(t, "rows", tag.RowsAffected(), 5)

	// Inside a transaction.
	err = pgx.BeginFunc(t.Context(), conn, func(tx pgx.Tx) error {
		b := &pgx.Batch{}
		for _, k := range p.keys(8) {
			b.Queue("INSERT INTO items(id, t) VALUES($1, 'in a transaction')", k)
		}
		return tx.SendBatch(t.Context(), b).Close()
	})
	equal(t, "error", err, nil)
	tag, _ = conn.Exec(t.Context(), "SELECT 1 FROM items WHERE t = 'in a transaction'")
	equal(t, "rows", tag.RowsAffected(), 8)

	// Several statements in one simple Query.
	results, err := conn.PgConn().Exec(t.Context(), fmt.Sprintf("SELECT 1; INSERT INTO items(id) VALUES(%d); SHOW work_mem; SELECT 2 AS two",
		p.keys(1)[0])).ReadAll()
	equal(t, "error", err, nil)
	equal(t, "results", len(results), 4)
	equal(t, "the last", string(results[3].Rows[0][0]), "2")
}

func (p *pgxScript) pipeline(t *testing.T) {
	conn := p.open(t).PgConn()
	pl := conn.StartPipeline(t.Context())
	keys := p.keys(6)
	pl.SendPrepare("ins", "INSERT INTO items(id) VALUES($1) RETURNING id", nil)
	for _, k := range keys {
		pl.SendQueryPrepared("ins", [][]byte{[]byte(fmt.Sprint(k))}, nil, nil)
	}
	pl.SendPipelineSync()
	pl.SendQueryPrepared("ins", [][]byte{[]byte(fmt.Sprint(keys[0]))}, nil, nil)
	pl.SendQueryParams("SELECT 1", nil, nil, nil, nil)
	pl.SendPipelineSync()
	pl.SendQueryParams("SELECT $1::int4 + 1", [][]byte{[]byte("41")}, nil, nil, nil)
	pl.SendDeallocate("ins")
	pl.SendPipelineSync()
	if err := pl.Flush(); err != nil {
		t.Fatal(err)
	}
	next := func() any {
		t.Helper()
		r, err := pl.GetResults()
		if err != nil {
			return err
		}
		return r
	}
	if d, ok := next().(*pgconn.StatementDescription); !ok || d.ParamOIDs[0] != pgtype.Int8OID || d.Fields[0].DataTypeOID != pgtype.Int8OID {
		t.Fatalf("description %+v", d)
	}
	for _, k := range keys {
		r, ok := next().(*pgconn.ResultReader)
		if !ok {
			t.Fatal("no result")
		}
		res := r.Read()
		equal(t, "error", res.Err, nil)
		equal(t, "id", string(res.Rows[0][0]), fmt.Sprint(k))
	}
	if _, ok := next().(*pgconn.PipelineSync); !ok {
		t.Fatal("no sync")
	}
	var failed error
	switch r := next().(type) {
	case error:
		failed = r
	case *pgconn.ResultReader:
		_, failed = r.Close()
	}
	failsWith(t, failed, "23505")
	if r, ok := next().(*pgconn.PipelineSync); !ok {
		t.Fatalf("no sync but %T", r)
	}
	r, ok := next().(*pgconn.ResultReader)
	if !ok {
		t.Fatal("no result")
	}
	equal(t, "answer", string(r.Read().Rows[0][0]), "42")
	if _, ok := next().(*pgconn.CloseComplete); !ok {
		t.Fatal("no CloseComplete")
	}
	if _, ok := next().(*pgconn.PipelineSync); !ok {
		t.Fatal("no sync")
	}
	equal(t, "close", pl.Close(), nil)
	res, err := conn.Exec(t.Context(), "SELECT 1").ReadAll()
	equal(t, "error", err, nil)
	equal(t, "results", len(res), 1)
}

func (p *pgxScript) transactions(t *testing.T) {
	conn := p.open(t)
	ctx := t.Context()
	keys := p.keys(12)
	present := func() int64 {
		t.Helper()
		tag, err := conn.Exec(ctx, "SELECT 1 FROM items WHERE id = ANY($1)", keys)
		equal(t, "error", err, nil)
		return tag.RowsAffected()
	}
	insert := func(tx pgx.Tx, k int64) {
		t.Helper()
		if _, err := tx.Exec(ctx, "INSERT INTO items(id) VALUES($1)", k); err != nil {
			t.Fatal(err)
		}
	}
	tx, err := conn.Begin(ctx)
	equal(t, "begin", err, nil)
	for _, k := range keys {
		insert(tx, k)
	}
	equal(t, "its own rows", present(), 12)
	equal(t, "rollback", tx.Rollback(ctx), nil)
	equal(t, "rows after ROLLBACK", present(), 0)

	tx, _ = conn.Begin(ctx)
	for _, k := range keys[:6] {
		insert(tx, k)
	}
	inner, err := tx.Begin(ctx) // SAVEPOINT
	equal(t, "savepoint", err, nil)
	for _, k := range keys[6:] {
		insert(inner, k)
	}
	equal(t, "rollback to savepoint", inner.Rollback(ctx), nil)
	inner, _ = tx.Begin(ctx)
	_, err = inner.Exec(ctx, "INSERT INTO items(id) VALUES($1)", keys[0])
	failsWith(t, err, "23505")
	_, err = inner.Exec(ctx, "SELECT 1")
	failsWith(t, err, "25P02")
	equal(t, "status", conn.PgConn().TxStatus(), 'E')
	equal(t, "rollback to savepoint", inner.Rollback(ctx), nil)
	equal(t, "status", conn.PgConn().TxStatus(), 'T')
	inner, _ = tx.Begin(ctx)
	insert(inner, keys[11])
	equal(t, "release", inner.Commit(ctx), nil)
	equal(t, "commit", tx.Commit(ctx), nil)
	equal(t, "rows", present(), 7)

	// An error fails the transaction on every shard; its COMMIT is a rollback.
	tx, _ = conn.Begin(ctx)
	insert(tx, keys[6])
	insert(tx, keys[7])
	_, err = tx.Exec(ctx, "INSERT INTO items(id) VALUES($1)", keys[0])
	failsWith(t, err, "23505")
	_, err = tx.Exec(ctx, "SELECT 1 FROM items WHERE id=$1", keys[6])
	failsWith(t, err, "25P02")
	equal(t, "commit", tx.Commit(ctx), pgx.ErrTxCommitRollback)
	equal(t, "rows", present(), 7)
	equal(t, "status", conn.PgConn().TxStatus(), 'I')

	for _, o := range []pgx.TxOptions{{IsoLevel: pgx.RepeatableRead}, {IsoLevel: pgx.Serializable, AccessMode: pgx.ReadOnly, DeferrableMode: pgx.Deferrable}} {
		tx, err = conn.BeginTx(ctx, o)
		equal(t, "begin", err, nil)
		equal(t, "level", one[string](t, tx, "SHOW transaction_isolation"), string(o.IsoLevel))
		if o.AccessMode == pgx.ReadOnly {
			_, err = tx.Exec(ctx, "INSERT INTO items(id) VALUES($1)", keys[7])
			failsWith(t, err, "25006")
		}
		tx.Rollback(ctx)
	}

	// Two connections: what one has not committed the other doesn't see.
	other := p.open(t)
	tx, _ = conn.Begin(ctx)
	insert(tx, keys[8])
	insert(tx, keys[9])
	tag, err := other.Exec(ctx, "SELECT 1 FROM items WHERE id = ANY($1)", keys)
	equal(t, "error", err, nil)
	equal(t, "what the other sees", tag.RowsAffected(), 7)
	equal(t, "commit", tx.Commit(ctx), nil)
	tag, _ = other.Exec(ctx, "SELECT 1 FROM items WHERE id = ANY($1)", keys)
	equal(t, "what the other sees", tag.RowsAffected(), 9)
}

func (p *pgxScript) errors(t *testing.T) {
	for _, mode := range execModes {
		t.Run(mode.String(), func(t *testing.T) {
			conn := p.open(t)
			key := p.keys(1)[0]
			exec := func(sql string, args ...any) error {
				_, err := conn.Exec(t.Context(), sql, append([]any{mode}, args...)...)
				return err
			}
			equal(t, "insert", exec("INSERT INTO items(id) VALUES($1)", key), nil)
			pe := failsWith(t, exec("INSERT INTO items(id) VALUES($1)", key), "23505")
			equal(t, "fields", []string{pe.Severity, pe.SeverityUnlocalized, pe.SchemaName, pe.TableName, pe.ConstraintName, pe.Detail},
				[]string{"ERROR", "ERROR", p.schema, "items", "items_pkey", fmt.Sprintf("Key (id)=(%d) already exists.", key)})
			if pe.File == "" || pe.Line == 0 || pe.Routine == "" {
				t.Errorf("no source in %+v", pe)
			}
			pe = failsWith(t, exec("SELEC 1"), "42601")
			equal(t, "position", pe.Position, 1)
			pe = failsWith(t, exec("SELECT 1 FROM nosuch"), "42P01")
			equal(t, "position", pe.Position, 15)
			pe = failsWith(t, exec("SELECT id, nosuch FROM items WHERE id = 1"), "42703")
			equal(t, "position", pe.Position, 12)
			failsWith(t, exec("SELECT 1/i FROM (VALUES (0)) v(i)"), "22012")
			failsWith(t, exec("INSERT INTO lines VALUES($1, 1, 'no item')", key+1_000_000), "23503")
			failsWith(t, exec("INSERT INTO states VALUES($1, NULL)", "x"), "23502")
			failsWith(t, exec("SELECT $1::int", "not a number"), "22P02")
			if mode != pgx.QueryExecModeSimpleProtocol {
				failsWith(t, exec("SELECT $1::int; SELECT 2", 1), "42601")
			}
			p.refused(t, exec("UPDATE items SET id = id + 1000000000 WHERE id = $1", key))
			equal(t, "the connection goes on", one[int](t, conn, "SELECT 1"), 1)
		})
	}
}

func (p *pgxScript) cancel(t *testing.T) {
	conn := p.open(t)
	run(t, conn, "INSERT INTO items(id) VALUES($1)", p.keys(1)[0])
	for _, sql := range []string{"SELECT pg_sleep(20)", "SELECT pg_sleep(20) FROM items", "UPDATE items SET i = length(pg_sleep(20)::text)"} {
		for _, block := range []bool{false, true} {
			if block {
				run(t, conn, "BEGIN")
			}
			stopped := make(chan error, 1)
			timer := time.AfterFunc(150*time.Millisecond, func() { stopped <- conn.PgConn().CancelRequest(context.Background()) })
			begun := time.Now()
			_, err := conn.Exec(t.Context(), sql)
			timer.Stop()
			equal(t, "cancel", <-stopped, nil)
			failsWith(t, err, "57014")
			if d := time.Since(begun); d > 10*time.Second {
				t.Fatalf("the query ended after %v", d)
			}
			if block {
				_, err := conn.Exec(t.Context(), "SELECT 1")
				failsWith(t, err, "25P02")
				run(t, conn, "ROLLBACK")
			}
			equal(t, "the connection goes on", one[int](t, conn, "SELECT 1"), 1)
		}
	}
	// A cancel that comes late hits nothing.
	equal(t, "cancel", conn.PgConn().CancelRequest(t.Context()), nil)
	for range 20 {
		equal(t, "after a late cancel", one[int](t, conn, "SELECT 1"), 1)
	}
	// pgx closes a connection whose context ends; its query is cancelled.
	ctx, stop := context.WithTimeout(t.Context(), 150*time.Millisecond)
	defer stop()
	_, err := conn.Exec(ctx, "SELECT pg_sleep(21)")
	if !errors.Is(err, context.DeadlineExceeded) {
		t.Fatal(err)
	}
	conn = p.open(t)
	for deadline := time.Now().Add(10 * time.Second); ; time.Sleep(20 * time.Millisecond) {
		if one[int](t, conn, "SELECT count(*)::int FROM pg_stat_activity WHERE query = 'SELECT pg_sleep(21)' AND state = 'active'") == 0 {
			break
		}
		if time.Now().After(deadline) {
			t.Fatal("the query runs on")
		}
	}
}

func (p *pgxScript) copy(t *testing.T) {
	conn := p.open(t)
	ctx := t.Context()
	// pgx copies in binary.
	source := func(keys []int64) pgx.CopyFromSource {
		return pgx.CopyFromSlice(len(keys), func(i int) ([]any, error) { return []any{keys[i], "copied in binary"}, nil })
	}
	n, err := conn.CopyFrom(ctx, pgx.Identifier{"items"}, []string{"id", "t"}, source(p.keys(10)))
	if !p.refused(t, err) {
		equal(t, "rows", n, 10)
	}
	equal(t, "the connection goes on", one[int](t, conn, "SELECT 1"), 1)
	tx, _ := conn.Begin(ctx)
	run(t, conn, "SELECT 1")
	_, err = tx.CopyFrom(ctx, pgx.Identifier{"items"}, []string{"id", "t"}, source(p.keys(10)))
	if p.refused(t, err) {
		_, err = tx.Exec(ctx, "SELECT 1")
		failsWith(t, err, "25P02")
	}
	equal(t, "rollback", tx.Rollback(ctx), nil)
	// A local table takes anything.
	n, err = conn.CopyFrom(ctx, pgx.Identifier{"notes"}, []string{"id", "note"}, pgx.CopyFromRows([][]any{{1, "one"}, {2, nil}}))
	equal(t, "error", err, nil)
	equal(t, "rows", n, 2)
	equal(t, "notes", one[int](t, conn, "SELECT count(*)::int FROM notes"), 2)

	pc := conn.PgConn()
	var text, csv bytes.Buffer
	keys := p.keys(100)
	for i, k := range keys[:50] {
		fmt.Fprintf(&text, "%d\t%s\n", k, strings.NewReplacer(`\`, `\\`, "\n", `\n`, "\t", `\t`).Replace(awkward[i%len(awkward)]))
	}
	for i, k := range keys[50:] {
		fmt.Fprintf(&csv, "%d,\"%s\"\n", k, strings.ReplaceAll(awkward[i%len(awkward)], `"`, `""`))
	}
	tag, err := pc.CopyFrom(ctx, &text, "COPY items(id, t) FROM STDIN")
	equal(t, "error", err, nil)
	equal(t, "tag", tag.String(), "COPY 50")
	tag, err = pc.CopyFrom(ctx, &csv, "COPY items(id, t) FROM STDIN (FORMAT csv)")
	equal(t, "error", err, nil)
	equal(t, "tag", tag.String(), "COPY 50")
	for i, k := range keys {
		equal(t, "copied", one[string](t, conn, "SELECT t FROM items WHERE id=$1", k), awkward[i%50%len(awkward)])
	}
	var out bytes.Buffer
	tag, err = pc.CopyTo(ctx, &out, fmt.Sprintf("COPY (SELECT id, t FROM items WHERE id BETWEEN %d AND %d) TO STDOUT", keys[0], keys[99]))
	equal(t, "error", err, nil)
	equal(t, "tag", tag.String(), "COPY 100")
	equal(t, "lines", bytes.Count(out.Bytes(), []byte("\n")), 100)
	out.Reset()
	tag, err = pc.CopyTo(ctx, &out, "COPY lines TO STDOUT (FORMAT csv, HEADER)")
	equal(t, "error", err, nil)
	equal(t, "tag", tag.String(), "COPY 0")
	equal(t, "header", out.String(), "item,line,note\n")

	// Errors: on the shard, in the data, and by the client.
	before := one[int64](t, conn, "SELECT count(*) FROM notes")
	for data, code := range map[string]string{
		fmt.Sprintf("%d\tx\n%d\ttwice\n", p.keys(1)[0], keys[3]): "23505",
		"abc\tx\n": "22P02",
		fmt.Sprintf("%d\tx\ttoo many\n", p.keys(1)[0]): "22P04",
		fmt.Sprintf("%d\n", p.keys(1)[0]):              "22P04",
	} {
		_, err = pc.CopyFrom(ctx, strings.NewReader(data), "COPY items(id, t) FROM STDIN")
		failsWith(t, err, code)
		equal(t, "the connection goes on", one[int](t, conn, "SELECT 1"), 1)
	}
	_, err = pc.CopyFrom(ctx, failingReader{}, "COPY items(id, t) FROM STDIN")
	if pe := failsWith(t, err, "57014"); !strings.HasPrefix(pe.Message, "COPY from stdin failed") {
		t.Errorf("message %q", pe.Message)
	}
	_, err = pc.CopyFrom(ctx, strings.NewReader(""), "COPY nosuch FROM STDIN")
	failsWith(t, err, "42P01")
	equal(t, "notes", one[int64](t, conn, "SELECT count(*) FROM notes"), before)

	// In a transaction that is rolled back.
	tx, _ = conn.Begin(ctx)
	more := p.keys(20)
	text.Reset()
	for _, k := range more {
		fmt.Fprintf(&text, "%d\tagain\n", k)
	}
	tag, err = pc.CopyFrom(ctx, &text, "COPY items(id, t) FROM STDIN")
	equal(t, "error", err, nil)
	equal(t, "tag", tag.String(), "COPY 20")
	got, err := tx.Exec(ctx, "SELECT 1 FROM items WHERE t = 'again'")
	equal(t, "error", err, nil)
	equal(t, "rows", got.RowsAffected(), 20)
	equal(t, "rollback", tx.Rollback(ctx), nil)
	got, _ = conn.Exec(ctx, "SELECT 1 FROM items WHERE t = 'again'")
	equal(t, "rows", got.RowsAffected(), 0)
}

type failingReader struct{}

func (failingReader) Read([]byte) (int, error) { return 0, errors.New("the source is broken") }

func (p *pgxScript) notify(t *testing.T) {
	listener, sender := p.open(t), p.open(t)
	run(t, listener, "LISTEN news")
	run(t, sender, "NOTIFY news, 'first'")
	run(t, sender, "SELECT pg_notify('news', $1)", "second")
	run(t, listener, "NOTIFY news, 'own'")
	for _, want := range []string{"first", "second", "own"} {
		ctx, stop := context.WithTimeout(t.Context(), 10*time.Second)
		n, err := listener.WaitForNotification(ctx)
		stop()
		if err != nil {
			t.Fatal(err)
		}
		equal(t, "channel", n.Channel, "news")
		equal(t, "payload", n.Payload, want)
	}
	run(t, listener, "UNLISTEN *")
	equal(t, "the connection goes on", one[int](t, listener, "SELECT 1"), 1)
}

func (p *pgxScript) settings(t *testing.T) {
	conn := p.open(t)
	show := func(name, want string) {
		t.Helper()
		equal(t, name, one[string](t, conn, "SHOW "+name), want)
		// Every shard has it.
		for _, k := range []int64{1, 2, 3, 4, 5, 6, 7, 8} {
			var got string
			err := conn.QueryRow(t.Context(), "SELECT current_setting($2) FROM items WHERE id = $1", k, name).Scan(&got)
			if err != nil && !errors.Is(err, pgx.ErrNoRows) {
				t.Fatal(err)
			} else if err == nil {
				equal(t, name+" on a shard", got, want)
			}
		}
	}
	run(t, conn, "SET work_mem = '5MB'")
	show("work_mem", "5MB")
	run(t, conn, "SELECT set_config('work_mem', '6MB', false)")
	run(t, conn, "SET work_mem = '5MB'")
	run(t, conn, "BEGIN")
	run(t, conn, "SET LOCAL work_mem = '8MB'")
	run(t, conn, "SET TimeZone = 'Asia/Tokyo'")
	equal(t, "TimeZone", conn.PgConn().ParameterStatus("TimeZone"), "Asia/Tokyo")
	show("work_mem", "8MB")
	show("TimeZone", "Asia/Tokyo")
	run(t, conn, "COMMIT")
	show("work_mem", "5MB")
	show("TimeZone", "Asia/Tokyo")
	run(t, conn, "BEGIN")
	run(t, conn, "SET work_mem = '9MB'")
	run(t, conn, "SET application_name = 'in vain'")
	run(t, conn, "ROLLBACK")
	show("work_mem", "5MB")
	equal(t, "application_name", conn.PgConn().ParameterStatus("application_name"), "")
	run(t, conn, "BEGIN")
	run(t, conn, "SET LOCAL DateStyle = 'German'")
	equal(t, "DateStyle", conn.PgConn().ParameterStatus("DateStyle"), "German, DMY")
	run(t, conn, "COMMIT")
	equal(t, "DateStyle", conn.PgConn().ParameterStatus("DateStyle"), "ISO, MDY")
	run(t, conn, "RESET work_mem")
	show("work_mem", "4MB")
	run(t, conn, "SET application_name = 'it''s'")
	equal(t, "reported", conn.PgConn().ParameterStatus("application_name"), "it's")
	run(t, conn, "SET search_path = public")
	_, err := conn.Exec(t.Context(), "SELECT 1 FROM items WHERE id = 1", pgx.QueryExecModeExec)
	failsWith(t, err, "42P01")
	run(t, conn, "RESET search_path")
	run(t, conn, "SELECT 1 FROM items WHERE id = 1")
	_, err = conn.Exec(t.Context(), "SET work_mem = 'much'")
	failsWith(t, err, "22023")
	// What one client sets another does not see.
	equal(t, "another client's", one[string](t, p.open(t), "SHOW TimeZone"), one[string](t, p.open(t), "SHOW TimeZone"))
	if _, err := conn.Exec(t.Context(), "DISCARD ALL", pgx.QueryExecModeSimpleProtocol); err != nil {
		t.Fatal(err)
	}
	equal(t, "application_name", conn.PgConn().ParameterStatus("application_name"), "")
	equal(t, "search_path", one[string](t, conn, "SHOW search_path", pgx.QueryExecModeSimpleProtocol), p.schema)
}

type place struct {
	X int32
	Y string
}

func (p *pgxScript) userTypes(t *testing.T) {
	conn := p.open(t)
	types, err := conn.LoadTypes(t.Context(), []string{p.schema + ".mood", p.schema + "._mood", p.schema + ".place"})
	if err != nil {
		t.Fatal(err)
	}
	conn.TypeMap().RegisterTypes(types)
	oid := map[string]uint32{}
	for _, typ := range types {
		oid[strings.TrimPrefix(typ.Name, p.schema+".")] = typ.OID
	}
	keys := p.keys(24)
	for i, k := range keys {
		run(t, conn, "INSERT INTO moods VALUES($1, $2, $3, $4)", k, []string{"sad", "ok", "happy"}[i%3], place{int32(i), `a "b", (c)`},
			[]string{"ok", "sad"})
	}
	rows, err := conn.Query(t.Context(), "INSERT INTO moods VALUES($1, $2, $3, NULL), ($4, $5, $6, NULL), ($7, $8, $9, NULL), ($10, 'ok', NULL, NULL) RETURNING m",
		p.keys(1)[0], "sad", place{1, "x"}, p.keys(1)[0], "ok", place{2, "y"}, p.keys(1)[0], "happy", nil, p.keys(1)[0])
	equal(t, "error", err, nil)
	ms, err := pgx.CollectRows(rows, pgx.RowTo[string])
	equal(t, "error", err, nil)
	equal(t, "RETURNING", ms, []string{"sad", "ok", "happy", "ok"})
	for i, k := range keys {
		var m string
		var at place
		var list []string
		rows, err := conn.Query(t.Context(), "SELECT m, p, ms FROM moods WHERE id = $1", k)
		equal(t, "error", err, nil)
		if !rows.Next() {
			t.Fatal("no row", rows.Err())
		}
		if err := rows.Scan(&m, &at, &list); err != nil {
			t.Fatal(err)
		}
		for c, d := range rows.FieldDescriptions() {
			equal(t, "type of "+d.Name, d.DataTypeOID, []uint32{oid["mood"], oid["place"], oid["_mood"]}[c])
		}
		rows.Close()
		equal(t, "m", m, []string{"sad", "ok", "happy"}[i%3])
		equal(t, "p", at, place{int32(i), `a "b", (c)`})
		equal(t, "ms", list, []string{"ok", "sad"})
	}
	rows, err = conn.Query(t.Context(), "SELECT p FROM moods WHERE m = $1 AND ms IS NOT NULL", "happy")
	equal(t, "error", err, nil)
	all, err := pgx.CollectRows(rows, pgx.RowTo[place])
	equal(t, "error", err, nil)
	equal(t, "happy", len(all), 8)
	_, err = conn.Exec(t.Context(), "INSERT INTO moods(id, m) VALUES($1, $2)", p.keys(1)[0], "bored")
	failsWith(t, err, "22P02")
	d, err := conn.Prepare(t.Context(), "described", "INSERT INTO moods(id, m, p, ms) VALUES ($1, $2, $3, $4)")
	equal(t, "error", err, nil)
	equal(t, "parameters", d.ParamOIDs, []uint32{pgtype.Int8OID, oid["mood"], oid["place"], oid["_mood"]})
}

// nestedTypes are within the values of others: in binary their OIDs are in the values
// too.
func (p *pgxScript) nestedTypes(t *testing.T) {
	conn := p.open(t)
	mood := one[uint32](t, conn, "SELECT 'mood'::regtype::oid")
	moods, pairs := one[uint32](t, conn, "SELECT 'mood[]'::regtype::oid"), one[uint32](t, conn, "SELECT 'pair[]'::regtype::oid")
	pc := conn.PgConn()
	const query = "SELECT ms, q, ROW(m, q), m FROM moods WHERE id = $1"
	if _, err := pc.Prepare(t.Context(), "nested", query, nil); err != nil {
		t.Fatal(err)
	}
	if _, err := pc.Prepare(t.Context(), "change", "UPDATE moods SET ms = $1, q = $2 WHERE id = $3", nil); err != nil {
		t.Fatal(err)
	}
	var first [][]byte
	for round := range 2 {
		for _, k := range p.keys(12) {
			key := [][]byte{[]byte(fmt.Sprint(k))}
			run(t, conn, "INSERT INTO moods(id, m, ms, q) VALUES ($1, 'ok', '[2:3]={sad,NULL}', ARRAY[ROW('happy', ROW(7, 'x'))::pair, NULL])", k)
			for range 2 {
				// With a Describe of the portal, and without one.
				for _, res := range []*pgconn.Result{
					pc.ExecParams(t.Context(), query, key, []uint32{pgtype.Int8OID}, nil, []int16{1}).Read(),
					pc.ExecPrepared(t.Context(), "nested", key, nil, []int16{1}).Read(),
					pc.ExecStatement(t.Context(), describedAs(pc, t, query), key, nil, []int16{1}).Read(),
				} {
					equal(t, "error", res.Err, nil)
					if first == nil {
						first = res.Rows[0]
						equal(t, "type of the elements", binary.BigEndian.Uint32(first[0][8:]), mood)
					}
					equal(t, "the row", res.Rows[0], first)
				}
			}
			args := [][]byte{first[0], first[1], key[0]}
			var res *pgconn.Result
			if round == 0 {
				res = pc.ExecPrepared(t.Context(), "change", args, []int16{1, 1, 0}, nil).Read()
			} else {
				res = pc.ExecParams(t.Context(), "UPDATE moods SET ms = $1, q = $2 WHERE id = $3", args, []uint32{moods, pairs, 0}, []int16{1, 1, 0}, nil).Read()
			}
			equal(t, "error", res.Err, nil)
		}
	}
	res := pc.ExecParams(t.Context(), "SELECT ms, q, ROW(m, q), m FROM moods WHERE q IS NOT NULL", nil, nil, nil, []int16{1}).Read()
	equal(t, "error", res.Err, nil)
	equal(t, "rows", len(res.Rows), 24)
	for _, row := range res.Rows {
		equal(t, "a row of all", row, first)
	}
	next := p.keys(3)
	res = pc.ExecParams(t.Context(), "INSERT INTO moods(id, ms) VALUES ($1, $4), ($2, $5), ($3, $6) RETURNING ms", [][]byte{[]byte(fmt.Sprint(next[0])),
		[]byte(fmt.Sprint(next[1])), []byte(fmt.Sprint(next[2])), first[0], first[0], first[0]}, []uint32{0, 0, 0, moods, moods, moods},
		[]int16{0, 0, 0, 1, 1, 1}, []int16{1}).Read()
	equal(t, "error", res.Err, nil)
	equal(t, "RETURNING", res.Rows, [][][]byte{first[:1], first[:1], first[:1]})
}

// describedAs is the description by which pgconn binds without asking for the
// portal's.
func describedAs(pc *pgconn.PgConn, t *testing.T, sql string) *pgconn.StatementDescription {
	t.Helper()
	sd, err := pc.Prepare(t.Context(), "", sql, nil)
	if err != nil {
		t.Fatal(err)
	}
	return sd
}

func (p *pgxScript) metadata(t *testing.T) {
	conn := p.open(t)
	table := one[uint32](t, conn, "SELECT 'items'::regclass::oid")
	for _, mode := range execModes {
		for _, sql := range []string{"SELECT id, t AS name, n, 1+1 FROM items WHERE id = 3", "SELECT id, t AS name, n, 1+1 FROM items"} {
			rows, err := conn.Query(t.Context(), sql, mode)
			equal(t, "error", err, nil)
			rows.Close()
			f := rows.FieldDescriptions()
			equal(t, "columns", len(f), 4)
			equal(t, "names", []string{f[0].Name, f[1].Name, f[3].Name}, []string{"id", "name", "?column?"})
			equal(t, "tables", []uint32{f[0].TableOID, f[1].TableOID, f[3].TableOID}, []uint32{table, table, 0})
			equal(t, "attributes", []uint16{f[0].TableAttributeNumber, f[1].TableAttributeNumber}, []uint16{1, 4})
			equal(t, "types", []uint32{f[0].DataTypeOID, f[1].DataTypeOID, f[2].DataTypeOID, f[3].DataTypeOID},
				[]uint32{pgtype.Int8OID, pgtype.TextOID, pgtype.NumericOID, pgtype.Int4OID})
			equal(t, "modifier", f[2].TypeModifier, 20<<16+4+4)
		}
	}
	rows, _ := conn.Query(t.Context(), "SELECT column_name::text FROM information_schema.columns WHERE table_schema = $1 AND table_name = 'lines' ORDER BY ordinal_position", p.schema)
	names, err := pgx.CollectRows(rows, pgx.RowTo[string])
	equal(t, "error", err, nil)
	equal(t, "columns", names, []string{"item", "line", "note"})
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
	_, err = tx.Exec(ctx, "DECLARE c CURSOR FOR SELECT id FROM items")
	p.refused(t, err)
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

func (p *pgxScript) pool(t *testing.T) {
	cfg, err := pgxpool.ParseConfig(p.with("search_path", p.schema))
	equal(t, "error", err, nil)
	cfg.MaxConns = 8
	cfg.ConnConfig.StatementCacheCapacity = 4 // statements come and go
	pool, err := pgxpool.NewWithConfig(t.Context(), cfg)
	equal(t, "error", err, nil)
	defer pool.Close()
	const workers, rounds = 24, 20
	keys := p.keys(workers * rounds)
	var wg sync.WaitGroup
	errs := make(chan error, workers)
	for w := range workers {
		wg.Go(func() {
			for r := range rounds {
				if err := poolRound(t.Context(), pool, keys[w*rounds+r], w, r); err != nil {
					errs <- fmt.Errorf("worker %d, round %d: %w", w, r, err)
					return
				}
			}
		})
	}
	wg.Wait()
	close(errs)
	for err := range errs {
		t.Error(err)
	}
	tag, err := pool.Exec(t.Context(), "SELECT 1 FROM lines WHERE note = 'pool'")
	equal(t, "error", err, nil)
	equal(t, "rows", tag.RowsAffected(), workers*rounds)
}

// poolRound writes an item and its line, and reads them in ways of its own.
func poolRound(ctx context.Context, pool *pgxpool.Pool, key int64, w, r int) error {
	err := pgx.BeginFunc(ctx, pool, func(tx pgx.Tx) error {
		if _, err := tx.Exec(ctx, "INSERT INTO items(id, i) VALUES($1, $2)", key, r); err != nil {
			return err
		}
		_, err := tx.Exec(ctx, "INSERT INTO lines(item, line, note) VALUES($1, $2, 'pool')", key, w)
		return err
	})
	if err != nil {
		return err
	}
	var line, i int
	sql := fmt.Sprintf("SELECT l.line, i.i, %d FROM items i JOIN lines l ON l.item = i.id WHERE i.id = $1", (w+r)%10)
	if err := pool.QueryRow(ctx, sql, key).Scan(&line, &i, nil); err != nil {
		return err
	}
	if line != w || i != r {
		return fmt.Errorf("got line %d of %d", line, i)
	}
	if r%5 == 0 {
		_, err := pool.Exec(ctx, "INSERT INTO items(id) VALUES($1)", key)
		var pe *pgconn.PgError
		if !errors.As(err, &pe) || pe.Code != "23505" {
			return fmt.Errorf("a second row: %v", err)
		}
	}
	return nil
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
