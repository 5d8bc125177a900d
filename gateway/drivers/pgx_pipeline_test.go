package drivers

import (
	"fmt"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgtype"
)

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
