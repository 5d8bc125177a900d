package shardmap

import (
	"context"
	"encoding/binary"
	"fmt"
	"math"
	"math/rand/v2"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/shardgate/shardgate/gateway/localpg/pgtest"
)

// These tests ask PostgreSQL what it does, and demand that Go does the same.

func TestMain(m *testing.M) { pgtest.Main(m) }

var allKeyTypes = []KeyType{
	KeyInt2, KeyInt4, KeyInt8, KeyText, KeyVarchar, KeyBpchar, KeyUUID, KeyDate, KeyTimestamp, KeyTimestamptz, KeyBytea,
}

// partitionSeed is HASH_PARTITION_SEED in PostgreSQL's partition.h.
const partitionSeed = 0x7A5B22367996DCFD

// connect returns a connection to a database of the test's own, in the way of
// expressing values that HashText is to read.
func connect(t testing.TB) *pgconn.PgConn {
	t.Helper()
	c := pgtest.Conn(t, pgtest.Database(t, pgtest.Server(t))).PgConn()
	mustRun(t, c, "SET datestyle = 'ISO, MDY'; SET timezone = 'America/St_Johns'")
	return c
}

func mustRun(t testing.TB, c *pgconn.PgConn, sql string) {
	t.Helper()
	if _, err := c.Exec(t.Context(), sql).ReadAll(); err != nil {
		t.Fatalf("%s: %v", sql, err)
	}
}

// ask runs a query with binary parameters and returns its rows in binary.
func ask(ctx context.Context, c *pgconn.PgConn, sql string, params ...[]byte) ([][][]byte, error) {
	binaryFormat := []int16{1}
	r := c.ExecParams(ctx, sql, params, nil, binaryFormat, binaryFormat).Read()
	return r.Rows, r.Err
}

func mustAsk(t testing.TB, c *pgconn.PgConn, sql string, params ...[]byte) [][][]byte {
	t.Helper()
	rows, err := ask(t.Context(), c, sql, params...)
	if err != nil {
		t.Fatalf("%s: %v", sql, err)
	}
	return rows
}

// binaryArray is the binary form of a one-dimensional array of values in binary form.
func binaryArray(element KeyType, values [][]byte) []byte {
	var b []byte
	for _, n := range []uint32{1, 0, element.OID(), uint32(len(values)), 1} {
		b = binary.BigEndian.AppendUint32(b, n)
	}
	for _, v := range values {
		b = binary.BigEndian.AppendUint32(b, uint32(len(v)))
		b = append(b, v...)
	}
	return b
}

// edges are the values of a type, in binary form, that are most likely to go wrong.
func edges(t KeyType) (values [][]byte) {
	number := func(octets int, ns ...int64) {
		for _, n := range ns {
			values = append(values, binary.BigEndian.AppendUint64(nil, uint64(n))[8-octets:])
		}
	}
	switch t {
	case KeyInt2:
		for n := range int64(1 << 16) {
			number(2, n)
		}
	case KeyInt4:
		number(4, 0, 1, -1, 2, -2, math.MinInt16, math.MaxInt16, math.MinInt16-1, math.MaxInt16+1, math.MinInt32, math.MaxInt32, math.MinInt32+1)
	case KeyInt8:
		number(8, 0, 1, -1, 2, -2, math.MinInt16, math.MaxInt16, math.MinInt32, math.MaxInt32, math.MinInt32-1, math.MaxInt32+1,
			1<<32, -1<<32, 1<<32-1, -1<<32-1, math.MinInt64, math.MaxInt64, math.MinInt64+1)
	case KeyText, KeyVarchar, KeyBpchar:
		for n := range 41 {
			values = append(values, []byte(strings.Repeat("q", n)), []byte(strings.Repeat(" ", n)),
				[]byte(strings.Repeat("é", n)), []byte("a"+strings.Repeat(" ", n)), []byte(" a "+strings.Repeat("\t", n)))
		}
		values = append(values, []byte(strings.Repeat("長い", 20000)), []byte("\u00a0"), []byte("a\u3000"), []byte("a \n"),
			[]byte("\U0010ffff"), []byte(`\x41`), []byte(`\`))
	case KeyUUID:
		values = append(values, make([]byte, 16), []byte(strings.Repeat("\xff", 16)))
	case KeyDate:
		// The ends of the range, infinities, year 1 and before, 9999 and after.
		number(4, -2451545, 2145031948, math.MinInt32, math.MaxInt32, 0, 1, -1, -730119, -730120, -730485, 2921939, 2921940)
	case KeyTimestamp, KeyTimestamptz:
		number(8, -211813488000000000, 9223371331199999999, math.MinInt64, math.MaxInt64, 0, 1, -1, 999999, -999999,
			-730119*microsPerDay, -730119*microsPerDay-1, 2921940*microsPerDay-1, 2921940*microsPerDay)
	case KeyBytea:
		for n := range 41 {
			values = append(values, make([]byte, n), []byte(strings.Repeat("\xff", n)), []byte(strings.Repeat(`\`, n)))
		}
		values = append(values, make([]byte, 100000))
	}
	return values
}

// randomValue is a value of a type in binary form.
func randomValue(t KeyType, rng *rand.Rand) []byte {
	number := func(octets int, n int64) []byte { return binary.BigEndian.AppendUint64(nil, uint64(n))[8-octets:] }
	someBytes := func(n int) []byte {
		b := make([]byte, n)
		for i := range b {
			b[i] = byte(rng.Uint32())
		}
		return b
	}
	switch t {
	case KeyInt2:
		return number(2, rng.Int64())
	case KeyInt4:
		return number(4, int64(rng.Uint64())>>rng.IntN(64))
	case KeyInt8:
		return number(8, int64(rng.Uint64())>>rng.IntN(64))
	case KeyText, KeyVarchar, KeyBpchar:
		return randomString(rng)
	case KeyUUID:
		return someBytes(16)
	case KeyDate:
		if rng.IntN(8) == 0 {
			return number(4, rng.Int64N(2145031949+2451545)-2451545)
		}
		return number(4, rng.Int64N(2921940+740000)-740000)
	case KeyTimestamp, KeyTimestamptz:
		var micros int64
		if rng.IntN(8) == 0 {
			micros = int64(rng.Uint64N(9223371331200000000+211813488000000000)) - 211813488000000000
		} else {
			micros = (rng.Int64N(2921940+740000)-740000)*microsPerDay + rng.Int64N(microsPerDay)
		}
		// Fractions of every number of digits.
		unit := int64(math.Pow10(rng.IntN(9)))
		return number(8, micros/unit*unit)
	case KeyBytea:
		return someBytes(rng.IntN(60))
	}
	panic("no such type")
}

// randomString is valid UTF-8 without a zero octet, often with blanks at the end.
func randomString(rng *rand.Rand) []byte {
	n := rng.IntN(41)
	if rng.IntN(100) == 0 {
		n = rng.IntN(3000)
	}
	var b []byte
	for len(b) < n {
		switch rng.IntN(4) {
		case 0:
			b = utf8.AppendRune(b, []rune("éß長 \u00a0\u3000🐘\n\t")[rng.IntN(9)])
		default:
			b = append(b, byte(' '+rng.IntN(95)))
		}
	}
	if rng.IntN(4) == 0 {
		b = append(b, strings.Repeat(" ", rng.IntN(15))...)
	}
	return b
}

// A server's hash of a value, with seed 0 by HashSQL and with partitionSeed.
func hashesSQL(t KeyType) string {
	return fmt.Sprintf("%s, hash_record_extended(ROW(v), %d)", t.HashSQL("v"), int64(partitionSeed))
}

func TestHashAgainstServer(t *testing.T) {
	for _, kt := range allKeyTypes {
		t.Run(kt.SQLName(), func(t *testing.T) {
			rng := seeded(t)
			c := connect(t)
			values := edges(kt)
			for range 12000 {
				values = append(values, randomValue(kt, rng))
			}
			sql := fmt.Sprintf("SELECT %s, v::text FROM unnest($1::%s[]) WITH ORDINALITY u(v, n) ORDER BY n", hashesSQL(kt), kt.SQLName())
			rows := mustAsk(t, c, sql, binaryArray(kt, values))
			if len(rows) != len(values) {
				t.Fatalf("%d rows for %d values", len(rows), len(values))
			}
			asText := 0
			for i, row := range rows {
				want, wantSeeded, text := binary.BigEndian.Uint64(row[0]), binary.BigEndian.Uint64(row[1]), row[2]
				if got, ok := kt.HashBinary(values[i]); !ok || got != want {
					t.Fatalf("%x (%.100q) hashes to %x, %v, the server says %x", values[i], text, got, ok, want)
				}
				if got, ok := kt.hashBinary(values[i], partitionSeed); !ok || got != wantSeeded {
					t.Fatalf("%x (%.100q) hashes with a seed to %x, %v, the server says %x", values[i], text, got, ok, wantSeeded)
				}
				got, ok := kt.HashText(text)
				if ok {
					asText++
					if got != want {
						t.Fatalf("text %.100q hashes to %x, the server says %x", text, got, want)
					}
					if got, ok := kt.hashText(text, partitionSeed); !ok || got != wantSeeded {
						t.Fatalf("text %.100q hashes with a seed to %x, %v, the server says %x", text, got, ok, wantSeeded)
					}
				} else if mustReadText(kt, text) {
					t.Fatalf("text %.100q, as the server writes it, is not read", text)
				}
			}
			if asText < 10000 {
				t.Errorf("only %d texts were read", asText)
			}
		})
	}
}

// mustReadText reports whether HashText has to read what the server has written.
func mustReadText(t KeyType, text []byte) bool {
	switch t {
	case KeyDate, KeyTimestamp, KeyTimestamptz:
		// A year of five digits, or one before Christ.
		return text[4] == '-' && !strings.HasSuffix(string(text), "BC")
	}
	return true
}

// The integer types take each other's values, since they hash alike.
func TestHashBinaryLengths(t *testing.T) {
	for _, n := range []int64{0, 1, -1, math.MinInt16, math.MaxInt16} {
		for _, kt := range []KeyType{KeyInt2, KeyInt4, KeyInt8} {
			for _, octets := range []int{2, 4, 8} {
				b := binary.BigEndian.AppendUint64(nil, uint64(n))[8-octets:]
				if got, ok := kt.HashBinary(b); !ok || got != HashInt64(n) {
					t.Errorf("%v: %x hashes to %x, %v, not %x", kt, b, got, ok, HashInt64(n))
				}
			}
		}
	}
	right := map[KeyType][]int{
		KeyInt2: {2, 4, 8}, KeyInt4: {2, 4, 8}, KeyInt8: {2, 4, 8},
		KeyUUID: {16}, KeyDate: {4}, KeyTimestamp: {8}, KeyTimestamptz: {8}, KeyInvalid: {}, KeyBytea + 1: {},
	}
	for kt, lengths := range right {
		for n := range 40 {
			want := false
			for _, l := range lengths {
				want = want || l == n
			}
			if _, ok := kt.HashBinary(make([]byte, n)); ok != want {
				t.Errorf("%v: %d octets are taken: %v", kt, n, ok)
			}
		}
	}
}

func TestCombineAgainstServer(t *testing.T) {
	rng := seeded(t)
	c := connect(t)
	const rowCount, modulus = 2000, math.MaxInt32 // a prime, so that every bit of the hash matters
	for columns := 1; columns <= len(allKeyTypes); columns++ {
		types := make([]KeyType, columns)
		names := make([]string, columns)
		for i, at := range rng.Perm(len(allKeyTypes))[:columns] {
			types[i] = allKeyTypes[at]
			names[i] = fmt.Sprintf("c%d", i)
		}
		table, arrays := make([]string, columns), make([]string, columns)
		params := make([][]byte, columns+1)
		remainders := make([][]byte, rowCount)
		hashes := make([]uint64, rowCount)
		for i, kt := range types {
			table[i] = names[i] + " " + kt.SQLName()
			arrays[i] = fmt.Sprintf("$%d::%s[]", i+1, kt.SQLName())
			values := make([][]byte, rowCount)
			for j := range values {
				values[j] = randomValue(kt, rng)
				h, ok := kt.hashBinary(values[j], partitionSeed)
				if !ok {
					t.Fatalf("%v: %x isn't hashed", kt, values[j])
				}
				hashes[j] = Combine(hashes[j], h)
			}
			params[i] = binaryArray(kt, values)
		}
		for j, h := range hashes {
			remainders[j] = binary.BigEndian.AppendUint32(nil, uint32(h%modulus))
		}
		params[columns] = binaryArray(KeyInt4, remainders)
		mustRun(t, c, fmt.Sprintf("CREATE TABLE t%d (%s) PARTITION BY HASH (%s)", columns, strings.Join(table, ", "), strings.Join(names, ", ")))
		rows := mustAsk(t, c, fmt.Sprintf(
			"SELECT count(*), count(*) FILTER (WHERE satisfies_hash_partition('t%d'::regclass, %d, r, %s)) FROM unnest(%s, $%d::int4[]) u(%[3]s, r)",
			columns, modulus, strings.Join(names, ", "), strings.Join(arrays, ", "), columns+1), params...)
		if all, right := binary.BigEndian.Uint64(rows[0][0]), binary.BigEndian.Uint64(rows[0][1]); all != rowCount || right != all {
			t.Errorf("key of %v: %d of %d rows hash as on the server", types, right, all)
		}
	}
}

func TestSlotSQLAgainstServer(t *testing.T) {
	rng := seeded(t)
	c := connect(t)
	const rowCount = 1000
	for columns := 1; columns <= MaxKeyColumns; columns++ {
		for range 4 {
			types, names, arrays := make([]KeyType, columns), make([]string, columns), make([]string, columns)
			params := make([][]byte, columns)
			hashes := make([]uint64, rowCount)
			for i := range types {
				kt := allKeyTypes[rng.IntN(len(allKeyTypes))]
				types[i], names[i], arrays[i] = kt, fmt.Sprintf("c%d", i), fmt.Sprintf("$%d::%s[]", i+1, kt.SQLName())
				values := make([][]byte, rowCount)
				for j := range values {
					values[j] = randomValue(kt, rng)
					h, _ := kt.HashBinary(values[j])
					if columns > 1 {
						h = Combine(hashes[j], h)
					}
					hashes[j] = h
				}
				params[i] = binaryArray(kt, values)
			}
			slot, err := SlotSQL(types, names)
			if err != nil {
				t.Fatal(err)
			}
			rows := mustAsk(t, c, fmt.Sprintf("SELECT %s FROM ROWS FROM (unnest(%s)) WITH ORDINALITY u(%s, n) ORDER BY n",
				slot, strings.Join(arrays, ", "), strings.Join(names, ", ")), params...)
			for j, row := range rows {
				if got, want := binary.BigEndian.Uint64(row[0]), uint64(SlotOf(hashes[j])); got != want {
					t.Fatalf("key of %v, row %d: %s gives %d, the slot is %d", types, j, slot, got, want)
				}
			}
		}
	}
}

// What moves a slot's rows is a publication with this row filter.
func TestSlotSQLIsARowFilter(t *testing.T) {
	c := connect(t)
	for i, kt := range append([]KeyType{KeyInvalid}, allKeyTypes...) {
		types, names := allKeyTypes[:MaxKeyColumns], []string{"a", "b", "c", "d", "e", "f"}
		if kt.valid() {
			types, names = []KeyType{kt}, []string{"a"}
		}
		var columns []string
		for j, name := range names {
			columns = append(columns, name+" "+types[j].SQLName())
		}
		slot, err := SlotSQL(types, names)
		if err != nil {
			t.Fatal(err)
		}
		mustRun(t, c, fmt.Sprintf("CREATE TABLE t%d (%s, PRIMARY KEY (%s))", i, strings.Join(columns, ", "), strings.Join(names, ", ")))
		mustRun(t, c, fmt.Sprintf("CREATE PUBLICATION p%d FOR TABLE t%[1]d WHERE (%s = 5)", i, slot))
		mustRun(t, c, fmt.Sprintf("CREATE INDEX ON t%d ((%s))", i, slot))
	}
}

func TestSlotSQLRefuses(t *testing.T) {
	for _, types := range [][]KeyType{nil, make([]KeyType, 1), {KeyInt4, KeyBytea + 1}, allKeyTypes[:MaxKeyColumns+1]} {
		if sql, err := SlotSQL(types, make([]string, len(types))); err == nil || sql != "" {
			t.Errorf("%v: %q, %v", types, sql, err)
		}
	}
	if sql, err := SlotSQL([]KeyType{KeyInt4}, []string{"a", "b"}); err == nil || sql != "" {
		t.Errorf("%q, %v", sql, err)
	}
}

func TestKeyTypesAgainstServer(t *testing.T) {
	c := connect(t)
	for _, kt := range allKeyTypes {
		if got, ok := KeyTypeOfOID(kt.OID()); !ok || got != kt {
			t.Errorf("%v: its OID is that of %v, %v", kt, got, ok)
		}
		rows := mustAsk(t, c, fmt.Sprintf(`
			SELECT t.oid::int8, p.proname::text, current_setting('server_version_num')::int8
			FROM pg_type t, pg_opclass o, pg_amproc a, pg_proc p
			WHERE t.typname = '%s' AND t.typnamespace = 'pg_catalog'::regnamespace
			AND o.opcmethod = (SELECT oid FROM pg_am WHERE amname = 'hash') AND o.opcdefault
			AND o.opcintype = CASE t.typname WHEN 'varchar' THEN 'text'::regtype ELSE t.oid END
			AND a.amprocfamily = o.opcfamily AND a.amproclefttype = o.opcintype AND a.amprocnum = 2
			AND p.oid = a.amproc`, kt.SQLName()))
		if len(rows) != 1 {
			t.Fatalf("%v: %d hash functions", kt, len(rows))
		}
		if oid := binary.BigEndian.Uint64(rows[0][0]); oid != uint64(kt.OID()) {
			t.Errorf("%v: the OID is %d, not %d", kt, oid, kt.OID())
		}
		// Later versions have functions of their own for date and timestamptz.
		if version := binary.BigEndian.Uint64(rows[0][2]); version >= 160000 && (kt == KeyDate || kt == KeyTimestamptz) {
			continue
		}
		if name := string(rows[0][1]); name != kt.HashFunc() {
			t.Errorf("%v: the hash function is %s, not %s", kt, name, kt.HashFunc())
		}
	}
	for _, kt := range []KeyType{KeyInvalid, KeyBytea + 1, 255} {
		if kt.OID() != 0 || kt.SQLName() != "invalid" || kt.String() != "invalid" || kt.HashFunc() != "" || kt.HashSQL("x") != "" {
			t.Errorf("%d pretends to be a type", uint8(kt))
		}
		if _, ok := kt.HashText([]byte("1")); ok {
			t.Errorf("%d hashes", uint8(kt))
		}
	}
	if kt, ok := KeyTypeOfOID(1700); ok || kt != KeyInvalid {
		t.Errorf("numeric has the key type %v", kt)
	}
}
