package exec

import (
	"cmp"
	"encoding/binary"
	"fmt"
	"testing"
	"time"

	"github.com/shardgate/shardgate/planner"
)

// Values of the types of keys: edges, and an expression with random ones in it, often equal.
var sortedValues = []struct {
	oid    uint32
	name   string
	edges  string
	random string
}{
	{oidBool, "bool", "true, false", "random() < 0.5"},
	{oidInt2, "int2", "-32768, -1, 0, 1, 32767", "random() * 50 - 25"},
	{oidInt4, "int4", "-2147483648, -1, 0, 1, 2147483647", "hashint4(g)"},
	{oidInt8, "int8", "-9223372036854775808, -1, 0, 1, 9223372036854775807", "hashint8extended(g, 1)"},
	{oidFloat4, "float4", "'nan', 'inf', '-inf', 0, '-0', 1e-45, -1e-45, 3.4e38, -3.4e38", "(random() - 0.5) * 10 ^ (random() * 60 - 30)"},
	{oidFloat8, "float8", "'nan', '-nan', 'inf', '-inf', 0, '-0', 5e-324, -5e-324, 1.7e308, -1.7e308, 1, 1.0000000000000002", "(random() - 0.5) * 10 ^ (random() * 600 - 300)"},
	{oidNumeric, "numeric", "'nan', 'inf', '-inf', 0, 0.000, -0.0, 1, 1.00, -1, 10000, 9999, 10001, 1e200, -1e200, 1e-200, -1e-200, 99999999.9999, 0.00010000, 0.0001, 10000.0001, 100000000, 100000000.00000001",
		"CASE g % 3 WHEN 0 THEN (random() * 20 - 10)::numeric(4, 1) WHEN 1 THEN ((random() - 0.5)::numeric * 10::numeric ^ (random() * 40 - 20)::int) ELSE round((random() * 3 - 1)::numeric, g % 7) * 10000::numeric ^ (g % 5) END"},
	{oidDate, "date", "'infinity', '-infinity', '4714-11-24 BC', '5874897-12-31', '2000-01-01', '1999-12-31'", "'2000-01-01'::date + (random() * 100 - 50)::int"},
	{oidTime, "time", "'00:00', '24:00', '23:59:59.999999', '00:00:00.000001'", "'00:00'::time + random() * interval '24 hours'"},
	{oidInterval, "interval", "'1 month', '30 days', '29 days 24 hours', '-1 day', '-24 hours', '-1 month 30 days', '1 day -24 hours', '0', '-0.000001 s', '178000000 years', '-178000000 years', '1 day -0.000001 s', '23:59:59.999999', '3 months -90 days 1 s'",
		"(g % 3 - 1) * interval '1 month' + (g % 61 - 30) * interval '1 day' + (g % 5 - 2) * interval '12 hours' + (g % 2) * interval '1 us'"},
	{oidTimetz, "timetz", "'00:00+00', '24:00+00', '00:00+15:59', '00:00-15:59', '12:00+01', '13:00+02', '11:00+00', '10:00-01', '12:00:00.000001+01', '12:00+01:00:01'",
		"(make_time((random() * 23)::int, 0, 0)::text || CASE WHEN g % 2 = 0 THEN '+' ELSE '-' END || (random() * 15)::int)::timetz"},
	{oidTimestamp, "timestamp", "'infinity', '-infinity', '4714-11-24 BC', '294276-12-31 23:59:59.999999', '2000-01-01', '1999-12-31 23:59:59.999999'", "'2000-01-01'::timestamp + (random() - 0.5) * interval '1 day'"},
	{oidTimestamptz, "timestamptz", "'infinity', '-infinity', '4714-11-24 BC', '294276-12-31 23:59:59.999999+00', '2000-01-01+00', '2000-01-01+01'", "'2000-01-01'::timestamptz + (random() - 0.5) * interval '1 day'"},
	{oidUUID, "uuid", "'00000000-0000-0000-0000-000000000000', 'ffffffff-ffff-ffff-ffff-ffffffffffff', '80000000-0000-0000-0000-000000000000', '7fffffff-0000-0000-0000-000000000000'", "md5((g % 50)::text)::uuid"},
	{oidBytea, "bytea", `'', '\x00', '\x0000', '\xff', '\x7f', '\x80', '\xff00'`, "decode(substr(md5(g::text), 1, 2 * (g % 4)), 'hex')"},
	{oidText, "text", "'', ' ', 'a', 'A', 'a ', 'ab', 'é', 'e', 'ß', 'z', 'Z', '~', '日本', '😀', U&'\\FFFD', '_', E'\\t'", "substr(md5(g::text), 1, g % 4)"},
	{oidVarchar, "varchar", "'', 'a', 'B', 'b', 'é'", "chr(97 + g % 26) || chr(64 + g % 26)"},
}

// The order of keys is PostgreSQL's, NULLs and directions included.
func TestSortOrderAgainstPostgreSQL(t *testing.T) {
	c := server(t)
	seed := float64(time.Now().UnixNano()%1_000_000) / 1_000_000
	t.Logf("seed %v", seed)
	ask(t, c, fmt.Sprintf("SELECT setseed(%v)", seed))
	types := map[uint32]bool{}
	for _, v := range sortedValues {
		types[v.oid] = true
		collate := ""
		if (planner.SortKey{Type: v.oid}).Text() {
			collate = ` COLLATE "C"`
		}
		ask(t, c, fmt.Sprintf("CREATE TEMPORARY TABLE %[1]s_values AS SELECT v FROM unnest(ARRAY[%[2]s]::%[1]s[]) v UNION ALL SELECT (%[3]s)::%[1]s FROM generate_series(1, 120) g UNION ALL VALUES (NULL::%[1]s), (NULL)",
			v.name, v.edges, v.random))
		for _, key := range []planner.SortKey{
			{Type: v.oid}, {Type: v.oid, NullsFirst: true}, {Type: v.oid, Descending: true}, {Type: v.oid, Descending: true, NullsFirst: true},
		} {
			order := "v" + collate + " ASC"
			if key.Descending {
				order = "v" + collate + " DESC"
			}
			if key.NullsFirst {
				order += " NULLS FIRST"
			} else {
				order += " NULLS LAST"
			}
			sql := fmt.Sprintf("SELECT v, dense_rank() OVER (ORDER BY %s), v::text FROM %s_values", order, v.name)
			res := c.ExecParams(background, sql, nil, nil, nil, []int16{1, 1, 0}).Read()
			if res.Err != nil {
				t.Fatal(sql, res.Err)
			}
			values := make([]keyValue, len(res.Rows))
			ranks := make([]uint64, len(res.Rows))
			for i, row := range res.Rows {
				if !values[i].set(row[0], row[0] == nil, v.oid) {
					t.Fatalf("%s %s: %x can't be read", v.name, row[2], row[0])
				}
				ranks[i] = binary.BigEndian.Uint64(row[1])
			}
			for i := range values {
				for j := range values {
					if got, want := values[i].compare(&values[j], key), cmp.Compare(ranks[i], ranks[j]); got != want {
						t.Fatalf("%s, ORDER BY %s: %s and %s compare as %d, not %d", v.name, order, res.Rows[i][2], res.Rows[j][2], got, want)
					}
				}
			}
		}
	}
	for oid := range uint32(10_000) {
		if planner.Sortable(oid) != types[oid] {
			t.Errorf("type %d: the planner says %v", oid, planner.Sortable(oid))
		}
	}
}

// A row whose keys can't be read is an error, and not a row out of its place.
func TestTakeRefusesOtherRows(t *testing.T) {
	row := func(values ...[]byte) []byte {
		m := append([]byte{'D', 0, 0, 0, 0}, 0, byte(len(values)))
		for _, v := range values {
			m = append(binary.BigEndian.AppendUint32(m, uint32(len(v))), v...)
		}
		return m
	}
	keys := []planner.SortKey{{Type: oidInt4}}
	s := sortedRows{keys: make([]keyValue, 1)}
	good := row([]byte("text"), []byte{0, 0, 0, 7})
	if !s.take(good, keys) || len(s.row) != 5+2+4+4 || s.row[6] != 1 || s.keys[0].number != signed(7) {
		t.Errorf("taken as %x, %v", s.row, s.keys)
	}
	for _, m := range [][]byte{
		nil, {'D', 0, 0, 0, 6, 0}, row(), row([]byte("texts")), row([]byte("text"), []byte{7}), append(row([]byte{0, 0, 0, 7}), 0),
		row([]byte("text"), []byte{0, 0, 0, 7})[:14], row(nil, []byte{0, 0, 0, 0, 0, 0, 0, 7}),
	} {
		if s.take(m, keys) {
			t.Errorf("%x is taken", m)
		}
	}
	for oid, v := range map[uint32][]byte{oidNumeric: {0, 1, 0, 0, 0, 0, 0, 0}, oidUUID: {1}, 25000: {1}} {
		var k keyValue
		if k.set(v, false, oid) {
			t.Errorf("%x is read as type %d", v, oid)
		}
	}
}
