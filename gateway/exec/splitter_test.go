package exec

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5/pgconn"
	"pgregory.net/rapid"

	"github.com/shardgate/shardgate/planner"
	"github.com/shardgate/shardgate/shardmap"
	"github.com/shardgate/shardgate/wire"
)

const copyTargets = 3

// divided is what a Splitter made of some data.
type divided struct {
	data [copyTargets]bytes.Buffer
	err  *wire.Error
}

// divide gives data to a Splitter in pieces that end where pieces says.
func divide(plan *planner.CopyIn, data []byte, piece func() int) *divided {
	d := &divided{}
	s := &Splitter{Plan: plan, Target: func(slot shardmap.Slot) int { return int(slot) % copyTargets }}
	row := func(target int, line []byte) *wire.Error {
		for i := range d.data {
			if target < 0 || target == i {
				d.data[i].Write(line)
			}
		}
		return nil
	}
	for len(data) > 0 && d.err == nil {
		n := min(max(piece(), 1), len(data))
		// What was given is the reader's buffer: it is overwritten by the next read.
		b := bytes.Clone(data[:n])
		d.err = s.split(b, row)
		clear(b)
		data = data[n:]
	}
	if d.err == nil {
		d.err = s.end(row)
	}
	return d
}

// copyOptions are those of a COPY, as SQL and as the plan has them.
func copyOptions(t *rapid.T, csv bool) (planner.CopyFormat, string) {
	quote := func(b ...byte) string { return planner.QuoteLiteral(string(b)) }
	f := planner.CopyFormat{CSV: csv, Delimiter: '\t', Null: `\N`, Header: rapid.IntRange(0, 3).Draw(t, "header") == 0}
	if csv {
		f.Delimiter = rapid.SampledFrom([]byte(`,,,;|"'\*`+"\t")).Draw(t, "delimiter")
		f.Quote = rapid.SampledFrom([]byte(`"""'|\*`)).Draw(t, "quote")
		f.Escape = f.Quote
		if rapid.Bool().Draw(t, "own escape") {
			f.Escape = rapid.SampledFrom([]byte(`\*"'e`)).Draw(t, "escape")
		}
		f.Null = rapid.SampledFrom([]string{"", "", `\N`, "NULL", "n", "*"}).Draw(t, "null")
	} else {
		f.Delimiter = rapid.SampledFrom([]byte("\t\t|,;\x01\"'* ")).Draw(t, "delimiter")
		f.Null = rapid.SampledFrom([]string{`\N`, `\N`, "", "NULL", "n", `\x`, "*"}).Draw(t, "null")
	}
	sql := fmt.Sprintf("FORMAT text, DELIMITER %s, NULL %s, HEADER %v", quote(f.Delimiter), planner.QuoteLiteral(f.Null), f.Header)
	if csv {
		sql = strings.Replace(sql, "text", "csv", 1) + fmt.Sprintf(", QUOTE %s, ESCAPE %s", quote(f.Quote), quote(f.Escape))
	}
	return f, sql
}

// copyData makes rows of three fields, the last of which holds digits, and some
// disorder.
func copyData(t *rapid.T, f *planner.CopyFormat) []byte {
	eol := rapid.SampledFrom([]string{"\n", "\n", "\r\n", "\r"}).Draw(t, "line end")
	d, q, e := string(f.Delimiter), string(f.Quote), string(f.Escape)
	plain := rapid.SampledFrom([]string{"a", "b", "x7", "é", " ", "0", ".", "n", "日本"})
	wild := rapid.SampledFrom([]string{"\n", "\r", "\r\n", `\.`, eol + `\.` + eol, eol + `\.`, `\`, q, e, d, eol, eol + eol, "\x00", "\xff", `\.` + eol})
	digits := rapid.SampledFrom([]string{"1", "2", "34", "-5", " 6", "007", "99999999999", ""})
	pieces := plain
	if !f.CSV {
		pieces = rapid.OneOf(plain, plain, rapid.SampledFrom([]string{
			`\` + d, `\\`, `\` + "\n", `\n`, `\r`, `\t`, `\x41`, `\x4`, `\101`, `\7`, `\xg`, `\q`, `\N`, f.Null, "\"", `\377`, `\x00`, `\` + eol,
		}))
	}
	quoted := rapid.OneOf(plain, plain, rapid.SampledFrom([]string{e + q, e + e, d, eol, "\n", "\r", `\.`, eol + `\.` + eol, f.Null, e + "a"}))
	field := func(t *rapid.T) string {
		switch kind := rapid.IntRange(0, 9).Draw(t, "field"); {
		case kind == 0:
			return f.Null
		case f.CSV && kind < 6:
			s := q + strings.Join(rapid.SliceOfN(quoted, 0, 4).Draw(t, "quoted"), "") + q
			if kind == 5 { // quotes need not enclose the whole field
				s = plain.Draw(t, "before") + s + plain.Draw(t, "after")
			}
			return s
		}
		return strings.Join(rapid.SliceOfN(pieces, 0, 4).Draw(t, "plain"), "")
	}
	var b strings.Builder
	rows := rapid.IntRange(0, 7).Draw(t, "rows")
	for i := range rows {
		b.WriteString(field(t) + d + field(t) + d + digits.Draw(t, "digits"))
		if i < rows-1 || rapid.Bool().Draw(t, "ended") {
			b.WriteString(eol)
		}
		if rapid.IntRange(0, 25).Draw(t, "disorder") == 25 {
			b.WriteString(wild.Draw(t, "wild"))
		}
	}
	if rapid.IntRange(0, 4).Draw(t, "end") == 4 {
		b.WriteString(wild.Draw(t, "at the end"))
	}
	return []byte(b.String())
}

// binaryCopyData draws data in the binary format, for columns as copyData's: at times with
// something wrong.
func binaryCopyData(t *rapid.T) []byte {
	disorder := func(often int, name string) bool { return rapid.IntRange(0, often).Draw(t, name) == often }
	data := bytes.Clone(copyHeader)
	if disorder(5, "extension") {
		data = append(data[:len(data)-1], 3, 'a', 'b', 'c')
	}
	field := func(b []byte) {
		data = append(binary.BigEndian.AppendUint32(data, uint32(len(b))), b...)
	}
	texts := rapid.SampledFrom([]string{"", "a", "a ", "abc", "é", "日本", "ab    ", "\\N", "\xff"})
	for range rapid.IntRange(0, 6).Draw(t, "rows") {
		fields := 3
		if disorder(30, "fields") {
			fields = rapid.IntRange(0, 4).Draw(t, "fields")
		}
		data = binary.BigEndian.AppendUint16(data, uint16(fields))
		for i := range fields {
			switch {
			case disorder(15, "null"):
				data = append(data, 0xff, 0xff, 0xff, 0xff)
			case i == 2:
				field(binary.BigEndian.AppendUint32(nil, uint32(rapid.Int32().Draw(t, "number"))))
			default:
				field([]byte(texts.Draw(t, "text")))
			}
		}
	}
	if rapid.Bool().Draw(t, "trailer") {
		data = append(data, copyTrailer...)
	}
	if disorder(6, "damage") {
		n := rapid.IntRange(0, len(data)).Draw(t, "at")
		if rapid.Bool().Draw(t, "cut") {
			return data[:n]
		}
		data = slices.Concat(data[:n], []byte{rapid.Byte().Draw(t, "byte")}, data[min(n+1, len(data)):])
	}
	return data
}

// copyTables makes a table and its shards, temporary ones, and returns how a row's
// slot is computed.
func copyTables(t *testing.T, c *pgconn.PgConn, table *planner.Table) string {
	var columns, keys []string
	for i := range table.Columns {
		k, _ := shardmap.KeyTypeOfOID(table.Columns[i].Type)
		columns = append(columns, table.Columns[i].Name+" "+k.SQLName())
	}
	for i, k := range table.Key.Columns {
		columns[k] = table.Columns[k].Name + " " + modified(table.Key.Types[i], table.KeyTypmod(i)) + " NOT NULL"
		keys = append(keys, table.Columns[k].Name)
	}
	sql := "DROP TABLE IF EXISTS whole, shard0, shard1, shard2; CREATE TEMP TABLE whole (" + strings.Join(columns, ",") + ");"
	for i := range copyTargets {
		sql += fmt.Sprintf("CREATE TEMP TABLE shard%d (LIKE whole);", i)
	}
	ask(t, c, sql)
	slot, err := shardmap.SlotSQL(table.Key.Types, keys)
	if err != nil {
		t.Fatal(err)
	}
	return slot
}

// copied copies data into a table and returns PostgreSQL's error.
func copied(c *pgconn.PgConn, table, options string, data []byte) error {
	_, err := c.CopyFrom(background, bytes.NewReader(data), "COPY "+table+" FROM STDIN WITH ("+options+")")
	return err
}

// What the shards make of their parts is what PostgreSQL makes of the whole: the
// same rows, each on its shard, or an error where it makes one.
func TestSplitterAgainstPostgreSQL(t *testing.T) {
	text, number, varchar := shardmap.KeyText, shardmap.KeyInt4, shardmap.KeyVarchar
	c := server(t)
	for _, table := range []*planner.Table{
		keyed("first", []shardmap.KeyType{text, text, number}, nil, 0),
		keyed("second", []shardmap.KeyType{text, varchar, number}, []int32{-1, 6, -1}, 1),
		keyed("number", []shardmap.KeyType{text, text, number}, nil, 2),
		keyed("several", []shardmap.KeyType{text, text, number}, nil, 2, 0),
	} {
		slot := copyTables(t, c, table)
		for _, format := range []string{"text", "csv", "binary"} {
			good, bad := 0, 0
			t.Run(table.Name+"/"+format, rapid.MakeCheck(func(t *rapid.T) {
				f, options := planner.CopyFormat{Binary: true}, "FORMAT binary"
				var data []byte
				if format == "binary" {
					data = binaryCopyData(t)
				} else {
					f, options = copyOptions(t, format == "csv")
					data = copyData(t, &f)
				}
				ask(t, c, "DELETE FROM whole; DELETE FROM shard0; DELETE FROM shard1; DELETE FROM shard2")
				want := copied(c, "whole", options, data)
				if want != nil && strings.HasPrefix(want.Error(), "ERROR: COPY ") {
					return // PostgreSQL doesn't take these options together
				}
				plan := &planner.CopyIn{Table: table, Types: table.Key.Types, Fields: table.Key.Columns, Format: f}
				d := divide(plan, data, func() int { return rapid.IntRange(1, 12).Draw(t, "piece") })
				var got error
				if d.err != nil {
					got = d.err
				}
				for i := range d.data {
					if got == nil {
						got = copied(c, fmt.Sprintf("shard%d", i), options, d.data[i].Bytes())
					}
				}
				if (got == nil) != (want == nil) {
					t.Fatalf("COPY WITH (%s) of %q:\nPostgreSQL says %v\nthe shards say  %v", options, data, want, got)
				}
				if want != nil {
					bad++
					return
				}
				good++
				diff := ask(t, c, `SELECT (SELECT count(*) FROM (TABLE whole EXCEPT ALL (TABLE shard0 UNION ALL TABLE shard1 UNION ALL TABLE shard2)) x),
					(SELECT count(*) FROM ((TABLE shard0 UNION ALL TABLE shard1 UNION ALL TABLE shard2) EXCEPT ALL TABLE whole) x)`)
				if diff[0][0] != "0" || diff[0][1] != "0" {
					t.Fatalf("COPY WITH (%s) of %q: %s rows are missing, %s are too many", options, data, diff[0][0], diff[0][1])
				}
				for i := range copyTargets {
					if n := ask(t, c, fmt.Sprintf("SELECT count(*) FROM shard%d WHERE %s %% %d <> %d", i, slot, copyTargets, i)); n[0][0] != "0" {
						t.Fatalf("COPY WITH (%s) of %q: %s rows are on the wrong shard", options, data, n[0][0])
					}
				}
			}))
			t.Logf("%d copies succeeded, %d failed", good, bad)
			if good == 0 || bad == 0 {
				t.Error("the data have no variety")
			}
		}
	}
}

// Where a time would be stored rounded, its hash isn't that of the text.
func TestSplitterRoundedTimes(t *testing.T) {
	c := server(t)
	for _, kt := range []shardmap.KeyType{shardmap.KeyTimestamp, shardmap.KeyTimestamptz} {
		for typmod := int32(-1); typmod <= 6; typmod++ {
			table := keyed("times", []shardmap.KeyType{kt}, []int32{typmod}, 0)
			slot := copyTables(t, c, table)
			plan := &planner.CopyIn{Table: table, Types: table.Key.Types, Fields: table.Key.Columns, Format: planner.CopyFormat{Delimiter: '\t', Null: `\N`}}
			for digits := range 7 {
				value := "1999-12-31 23:59:59"
				if digits > 0 {
					value += ".987654"[:digits+1]
				}
				if kt == shardmap.KeyTimestamptz {
					value += "+00"
				}
				d := divide(plan, []byte(value+"\n"), func() int { return 100 })
				if refused := d.err != nil; refused != (typmod >= 0 && digits > int(typmod)) {
					t.Errorf("%s in %s: %v", value, modified(kt, typmod), d.err)
				} else if refused {
					continue
				}
				for i := range copyTargets {
					if err := copied(c, "shard0", "FORMAT text", d.data[i].Bytes()); err != nil {
						t.Fatal(err)
					}
					if n := ask(t, c, fmt.Sprintf("WITH d AS (DELETE FROM shard0 RETURNING *) SELECT count(*) FROM d WHERE %s %% %d <> %d", slot, copyTargets, i)); n[0][0] != "0" {
						t.Errorf("%s in %s is on the wrong shard", value, modified(kt, typmod))
					}
				}
			}
		}
	}
}

func TestSplitterErrors(t *testing.T) {
	table := keyed("t", []shardmap.KeyType{shardmap.KeyInt4, shardmap.KeyText}, nil, 0)
	names := keyed("t", []shardmap.KeyType{shardmap.KeyText}, nil, 0)
	text := planner.CopyFormat{Delimiter: '\t', Null: `\N`}
	csv := planner.CopyFormat{CSV: true, Delimiter: ',', Quote: '"', Escape: '"'}
	for _, c := range []struct {
		table   *planner.Table
		format  planner.CopyFormat
		data    string
		code    string
		message string
	}{
		{table, text, "1\ta\r\n2\tb\n", "22P04", "literal newline found in data"},
		{table, text, "1\ta\n2\tb\r\n", "22P04", "literal carriage return found in data"},
		{table, csv, "1,a\r2,b\n", "22P04", "unquoted newline found in data"},
		{table, csv, "1,a\n2,b\r", "22P04", "unquoted carriage return found in data"},
		{table, text, "1\ta\n\\.x\n", "22P04", "end-of-copy marker corrupt"},
		{table, text, "1\ta\n\\.", "22P04", "end-of-copy marker corrupt"},
		{table, text, "1\ta\n\\.\r", "22P04", "end-of-copy marker does not match previous newline style"},
		{table, text, "1\ta\r\n\\.\n", "22P04", "end-of-copy marker does not match previous newline style"},
		{table, text, "\\N\ta\n", wire.NotNullViolation, `null value in key column of sharded table t`},
		{names, text, "a\x00b\n", wire.FeatureNotSupported, "is not in a form"},
	} {
		plan := &planner.CopyIn{Table: c.table, Types: c.table.Key.Types, Fields: c.table.Key.Columns, Format: c.format}
		d := divide(plan, []byte(c.data), func() int { return 1 })
		if d.err == nil || d.err.Code != c.code || !strings.Contains(d.err.Message, c.message) || !strings.HasPrefix(d.err.Where, "COPY t, line ") {
			t.Errorf("%q: %+v", c.data, d.err)
		}
	}
	// Text in another encoding can't be hashed here; ASCII can.
	s := &Splitter{Plan: &planner.CopyIn{Table: names, Types: names.Key.Types, Fields: []int{0}, Format: text}, ASCIIOnly: true,
		Target: func(shardmap.Slot) int { return 0 }}
	row := func(int, []byte) *wire.Error { return nil }
	if e := s.split([]byte("ascii\n"), row); e != nil {
		t.Error(e)
	}
	if e := s.split([]byte("\xe9t\xe9\n"), row); e == nil || e.Code != wire.FeatureNotSupported {
		t.Error(e)
	}
}

// However the data are cut into pieces, the same comes out, and no byte of it is
// not in the data.
func FuzzSplitter(f *testing.F) {
	f.Add([]byte("1\ta\n2\tb\n\\.\n"), false, byte('\t'), byte(0), byte(0), false)
	f.Add([]byte("1,\"a\"\"\n\"\r\n2,b\r\n\\.x"), true, byte(','), byte('"'), byte('"'), true)
	f.Add([]byte("1;'a\\'\n'\n\\."), true, byte(';'), byte('\''), byte('\\'), false)
	table := keyed("t", []shardmap.KeyType{shardmap.KeyText, shardmap.KeyText}, nil, 1, 0)
	f.Fuzz(func(t *testing.T, data []byte, csv bool, delimiter, quote, escape byte, header bool) {
		for _, b := range []byte{delimiter, quote, escape} {
			if b == '\n' || b == '\r' {
				return
			}
		}
		plan := &planner.CopyIn{Table: table, Types: table.Key.Types, Fields: table.Key.Columns,
			Format: planner.CopyFormat{CSV: csv, Delimiter: delimiter, Quote: quote, Escape: escape, Null: `\N`, Header: header}}
		whole := divide(plan, data, func() int { return len(data) })
		for _, n := range []int{1, 2, 3, 7} {
			d := divide(plan, data, func() int { return n })
			if (d.err == nil) != (whole.err == nil) || d.err != nil && d.err.Message != whole.err.Message {
				t.Fatalf("in pieces of %d: %v; in one: %v", n, d.err, whole.err)
			}
			for i := range d.data {
				if !bytes.Equal(d.data[i].Bytes(), whole.data[i].Bytes()) {
					t.Fatalf("in pieces of %d, shard %d gets %q; in one: %q", n, i, d.data[i].Bytes(), whole.data[i].Bytes())
				}
			}
		}
		if !header && max(whole.data[0].Len(), whole.data[1].Len(), whole.data[2].Len()) > len(data) {
			t.Fatal("bytes were made up")
		}
	})
}
