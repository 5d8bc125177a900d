package drivers

import (
	"database/sql/driver"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgtype"
)

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
