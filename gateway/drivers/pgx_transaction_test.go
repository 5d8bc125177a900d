package drivers

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
)

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
			p.refused(t, exec("UPDATE items SET i = 1 WHERE ctid IN (SELECT ctid FROM items WHERE id <> $1)", key))
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
