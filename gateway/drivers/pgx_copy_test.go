package drivers

import (
	"bytes"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"
)

func (p *pgxScript) copy(t *testing.T) {
	conn := p.open(t)
	ctx := t.Context()
	// pgx copies in binary.
	source := func(keys []int64) pgx.CopyFromSource {
		return pgx.CopyFromSlice(len(keys), func(i int) ([]any, error) { return []any{keys[i], "copied in binary"}, nil })
	}
	n, err := conn.CopyFrom(ctx, pgx.Identifier{"items"}, []string{"id", "t"}, source(p.keys(10)))
	equal(t, "error", err, nil)
	equal(t, "rows", n, 10)
	tx, _ := conn.Begin(ctx)
	run(t, conn, "SELECT 1")
	_, err = tx.CopyFrom(ctx, pgx.Identifier{"items"}, []string{"id", "t"}, source(p.keys(10)))
	equal(t, "error", err, nil)
	equal(t, "rollback", tx.Rollback(ctx), nil)
	// Copied out in binary, and into a local table, it is the same.
	run(t, conn, "CREATE TABLE back(LIKE items)")
	var all bytes.Buffer
	sent, err := conn.PgConn().CopyTo(ctx, &all, "COPY items TO STDOUT (FORMAT binary)")
	equal(t, "error", err, nil)
	back, err := conn.PgConn().CopyFrom(ctx, &all, "COPY back FROM STDIN (FORMAT binary)")
	equal(t, "error", err, nil)
	equal(t, "rows", back.RowsAffected(), sent.RowsAffected())
	const sums = "SELECT count(*) || ' ' || sum(id) || ' ' || md5(string_agg(t, ',' ORDER BY id)) FROM "
	equal(t, "copied", one[string](t, conn, sums+"back"), one[string](t, conn, sums+"items"))
	run(t, conn, "DROP TABLE back")
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
