package e2e

import (
	"context"
	"regexp"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgproto3"

	"github.com/shardgate/shardgate/gateway/localpg/pgtest"
)

// asks checks in which forms the status of a transaction, which is committed, can be asked
// for.
func asks(t *testing.T, c *cluster, id string) {
	conn := c.connect("postgres")
	pg := conn.PgConn()
	ctx := t.Context()
	const text, varchar = 25, 1043
	one := func(res *pgconn.Result) (string, pgconn.FieldDescription) {
		t.Helper()
		if res.Err != nil || len(res.Rows) != 1 || len(res.FieldDescriptions) == 0 {
			t.Fatalf("%d rows: %v", len(res.Rows), res.Err)
		}
		return string(res.Rows[0][0]), res.FieldDescriptions[0]
	}
	for sql, want := range map[string]struct {
		value, name string
		oid         uint32
	}{
		sqlf("SELECT shardgate.transaction_status('%s')", id):                                                           {"committed", "transaction_status", text},
		sqlf("select ShardGate . Transaction_Status(E'%s') AS outcome", id):                                             {"committed", "outcome", text},
		sqlf("SELECT shardgate.transaction_status('%s' || '%s')::varchar", id[:10], id[10:]):                            {"committed", "transaction_status", varchar},
		sqlf("SELECT upper(shardgate.transaction_status('sg1:%s:s2:1.1')) x", id):                                       {"COMMITTED", "x", text},
		sqlf("SELECT shardgate.transaction_status('%s') LIKE 'c%%' AND shardgate.transaction_status(NULL) IS NULL", id): {"t", "?column?", 16},
		"SELECT shardgate.transaction_status('" + id[:len(id)-3] + "abc')":                                              {"forgotten", "transaction_status", text},
	} {
		res, err := pg.Exec(ctx, sql).ReadAll()
		if err != nil {
			t.Errorf("%s: %v", sql, err)
			continue
		}
		if got, f := one(res[0]); got != want.value || f.Name != want.name || f.DataTypeOID != want.oid {
			t.Errorf("%s: %s in %s of type %d", sql, got, f.Name, f.DataTypeOID)
		}
		res2 := pg.ExecParams(ctx, sql, nil, nil, nil, nil).Read()
		if got, f := one(res2); got != want.value || f.Name != want.name || f.DataTypeOID != want.oid {
			t.Errorf("%s, extended: %s in %s of type %d", sql, got, f.Name, f.DataTypeOID)
		}
	}
	// Parameters: Describe, declared types, text and binary, several times.
	for _, declared := range [][]uint32{nil, {varchar}, {0, 23}} {
		d, err := pg.Prepare(ctx, "asks", "SELECT shardgate.transaction_status($1) AS s, $2::int + 1", declared)
		if err != nil {
			t.Fatal(err)
		}
		if want := uint32(text); len(d.ParamOIDs) != 2 || d.ParamOIDs[0] != want && d.ParamOIDs[0] != varchar || d.ParamOIDs[1] != 23 || len(d.Fields) != 2 || d.Fields[0].Name != "s" || d.Fields[0].DataTypeOID != want {
			t.Errorf("declared %v: described as %v, %v", declared, d.ParamOIDs, d.Fields)
		}
		for _, format := range []int16{0, 1, 0} {
			for given, want := range map[string]string{id: "committed", id[:len(id)-3] + "abc": "forgotten"} {
				res := pg.ExecPrepared(ctx, "asks", [][]byte{[]byte(given), {0, 0, 0, 6}}, []int16{format, 1}, []int16{format}).Read()
				if got, f := one(res); got != want || f.Format != format || string(res.Rows[0][1]) != map[int16]string{0: "7", 1: "\x00\x00\x00\x07"}[format] {
					t.Errorf("a parameter in format %d: %q in %d, %q", format, got, f.Format, res.Rows[0][1])
				}
			}
		}
		if err := pg.Deallocate(ctx, "asks"); err != nil {
			t.Fatal(err)
		}
	}
	must(t, conn, "BEGIN")
	if got := status(t, conn, id); got != "committed" {
		t.Errorf("in a block: %s", got)
	}
	for given, want := range map[string]string{
		"": "22023", "x": "22023", "a:b:c": "22023", strings.Repeat("x:", 1<<16): "22023", id + "\n": "22023", id + "' OR true --": "22023", strings.ToUpper(id): "22023",
		strings.Replace(id, ":s1:", ":s9:", 1): "22023", "other-00000000" + id[strings.Index(id, ":"):]: "22023", "sg1:" + id: "22023", "é": "22023",
	} {
		var s string
		must(t, conn, "SAVEPOINT a")
		err := conn.QueryRow(ctx, "SELECT shardgate.transaction_status($1)", given).Scan(&s)
		if code(err) != want {
			t.Errorf("%.80q: %s, %v", given, s, err)
		}
		if strings.HasPrefix(given, "other") && !strings.Contains(err.Error(), "another cluster") {
			t.Errorf("another cluster's: %v", err)
		}
		if err := conn.QueryRow(ctx, "SELECT shardgate.transaction_status($1)", id).Scan(&s); code(err) != "25P02" {
			t.Errorf("in a failed transaction: %v", err)
		}
		if _, err := conn.Exec(ctx, "SHOW shardgate.in_doubt"); code(err) != "25P02" {
			t.Errorf("in a failed transaction: %v", err)
		}
		if _, err := conn.Exec(ctx, "SELECT shardgate.transaction_status('"+id+"')", pgx.QueryExecModeSimpleProtocol); code(err) != "25P02" {
			t.Errorf("in a failed transaction: %v", err)
		}
		must(t, conn, "ROLLBACK TO a")
	}
	must(t, conn, "ROLLBACK")
	res, err := pg.Exec(ctx, "SELECT 1; SELECT shardgate.transaction_status('"+id+"'); SHOW shardgate.in_doubt; SELECT 2").ReadAll()
	if err != nil || len(res) != 4 || string(res[1].Rows[0][0]) != "committed" || res[2].CommandTag.String() != "SHOW" {
		t.Errorf("among several statements: %v, %v", res, err)
	}

	// A role without any right on the schema.
	c.onShards("CREATE ROLE plain LOGIN", "REVOKE ALL ON SCHEMA shardgate FROM PUBLIC")
	plain := c.connect("plain")
	if got := status(t, plain, id); got != "committed" {
		t.Errorf("without rights: %s", got)
	}
	if list := inDoubt(t, plain); len(list) != 0 {
		t.Errorf("without rights: %v", list)
	}
	c.onShards("GRANT USAGE ON SCHEMA shardgate TO PUBLIC")
}

// shows checks SHOW shardgate.in_doubt message by message. There are two rows.
func shows(t *testing.T, c *cluster) {
	conn := pgtest.Conn(t, c.as("postgres")).PgConn()
	f := conn.Frontend()
	say := func(want string, messages ...pgproto3.FrontendMessage) (got []pgproto3.BackendMessage) {
		t.Helper()
		for _, m := range append(messages, &pgproto3.Sync{}) {
			f.Send(m)
		}
		if err := f.Flush(); err != nil {
			t.Fatal(err)
		}
		var types string
		for {
			m, err := f.Receive()
			if err != nil {
				t.Fatal(err)
			}
			switch m := m.(type) {
			case *pgproto3.ParseComplete:
				types += "1"
			case *pgproto3.BindComplete:
				types += "2"
			case *pgproto3.ParameterDescription:
				types += "t" + sqlf("%d", len(m.ParameterOIDs))
			case *pgproto3.RowDescription:
				types += "T"
				for _, f := range m.Fields {
					types += sqlf("%d", f.Format)
					if f.DataTypeOID != 25 {
						t.Errorf("%s is of type %d", f.Name, f.DataTypeOID)
					}
				}
			case *pgproto3.DataRow:
				types += "D"
				if age := string(m.Values[2]); !regexp.MustCompile(`^\d\d:\d\d:\d\d$`).MatchString(age) {
					t.Errorf("the age is %q", age)
				}
			case *pgproto3.PortalSuspended:
				types += "s"
			case *pgproto3.CommandComplete:
				types += string(m.CommandTag)
			case *pgproto3.ErrorResponse:
				types += m.Code
			case *pgproto3.ReadyForQuery:
				if types != want {
					t.Errorf("the answers are %s, want %s", types, want)
				}
				return got
			}
		}
	}
	parse := &pgproto3.Parse{Name: "s", Query: "SHOW shardgate.in_doubt"}
	say("1t0T00000", parse, &pgproto3.Describe{ObjectType: 'S', Name: "s"})
	bind := func(formats ...int16) *pgproto3.Bind {
		return &pgproto3.Bind{PreparedStatement: "s", ResultFormatCodes: formats}
	}
	describe := &pgproto3.Describe{ObjectType: 'P'}
	say("2T00000DDSHOW", bind(), describe, &pgproto3.Execute{})
	say("2T11111DDSHOW", bind(1), describe, &pgproto3.Execute{})
	say("2T01000DDSHOW", bind(0, 1, 0, 0, 0), describe, &pgproto3.Execute{})
	say("2DsDsSHOW", bind(), &pgproto3.Execute{MaxRows: 1}, &pgproto3.Execute{MaxRows: 1}, &pgproto3.Execute{MaxRows: 1})
	say("2DDSHOWSHOW", bind(), &pgproto3.Execute{MaxRows: 3}, &pgproto3.Execute{})
	say("08P01", bind(0, 1))
	say("08P01", &pgproto3.Bind{PreparedStatement: "s", Parameters: [][]byte{nil}})
	if res, err := conn.Exec(context.Background(), "SHOW Shardgate.IN_doubt").ReadAll(); err != nil || len(res[0].Rows) != 2 {
		t.Errorf("a simple Query: %v, %v", res, err)
	}
}
