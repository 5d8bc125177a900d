package exec

import (
	"bytes"
	"context"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"strconv"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/jackc/pgx/v5/pgconn"
	pg "github.com/pganalyze/pg_query_go/v6"
	"google.golang.org/protobuf/reflect/protoreflect"
	"pgregory.net/rapid"

	"github.com/shardgate/shardgate/gateway/localpg/pgtest"
	"github.com/shardgate/shardgate/gateway/pool"
	"github.com/shardgate/shardgate/planner"
	"github.com/shardgate/shardgate/planner/sqltext"
	"github.com/shardgate/shardgate/shardmap"
	"github.com/shardgate/shardgate/wire"
)

// elements collects what an array's reader gives.
func elements(read func([]byte, func([]byte) *wire.Error) *wire.Error, b []byte) (list []string, err *wire.Error) {
	err = read(b, func(e []byte) *wire.Error {
		list = append(list, string(e))
		return nil
	})
	return list, err
}

// askArray has PostgreSQL read an array in text form, and returns its elements and
// the whole in binary format.
func askArray(c *pgconn.PgConn, text []byte) (list []string, binary []byte, err error) {
	res := c.ExecParams(background, "SELECT x, array_send($1) FROM (SELECT) d LEFT JOIN unnest($1::text[]) x ON true",
		[][]byte{text}, []uint32{1009}, nil, []int16{0, 0}).Read()
	for _, r := range res.Rows {
		if r[0] != nil {
			list = append(list, string(r[0]))
		}
		binary, _ = hex.DecodeString(string(r[1][2:]))
	}
	return list, binary, res.Err
}

// What is read of an array is what PostgreSQL reads; and the usual is read.
func TestArrayElementsAgainstPostgreSQL(t *testing.T) {
	c := server(t)
	token := rapid.SampledFrom([]string{"a", "b ", "12", "é", "\u00a0", " ", "\t", "\r", "\v", "\f", "\n", "null", "NULL", "nul",
		`"`, `""`, `"a"`, `"x\"y"`, `"\\"`, `" , "`, `"{}"`, `\`, `\a`, "{", "}", ",", ",", ",", ",", "[0:1]=", "."})
	read, refused, wrong := 0, 0, 0
	rapid.Check(t, func(t *rapid.T) {
		for range 10 {
			text := strings.Join(rapid.SliceOfN(token, 0, 8).Draw(t, "tokens"), "")
			if rapid.IntRange(0, 9).Draw(t, "braces") > 0 {
				text = "{" + text + "}"
			}
			want, sent, pgErr := askArray(c, []byte(text))
			got, err := elements(eachTextElement, []byte(text))
			switch {
			case pgErr != nil:
				wrong++ // whichever shard gets it refuses it
				continue
			case err != nil:
				refused++
			case fmt.Sprintf("%q", got) != fmt.Sprintf("%q", want):
				t.Fatalf("%q is read as %q, PostgreSQL reads %q", text, got, want)
			default:
				read++
			}
			got, err = elements(eachBinaryElement, sent)
			if err != nil || fmt.Sprintf("%q", got) != fmt.Sprintf("%q", want) {
				t.Fatalf("%x is read as %q, PostgreSQL reads %q: %v", sent, got, want, err)
			}
		}
	})
	t.Logf("%d arrays are read, %d left to PostgreSQL, %d are none", read, refused, wrong)
	for _, text := range []string{"{}", " { } ", "{1,2,NULL}", "{ 1 , 2\r}", `{"a b","c\"d"}`, "{\"a\"\t,\"b\"}", "{a b}", `{""}`} {
		want, _, pgErr := askArray(c, []byte(text))
		got, err := elements(eachTextElement, []byte(text))
		if pgErr != nil || err != nil || fmt.Sprintf("%q", got) != fmt.Sprintf("%q", want) {
			t.Errorf("%q is read as %q, PostgreSQL reads %q: %v, %v", text, got, want, err, pgErr)
		}
	}
	for _, text := range []string{"", "{", "}", "{1,}", "{,1}", "{{1}}", "[1:1]={1}", `{\a}`, `{a"b"}`, `{"a}`, "1,2"} {
		if got, err := elements(eachTextElement, []byte(text)); err == nil || err.Code != wire.FeatureNotSupported || err.Hint == "" {
			t.Errorf("%q is read as %q: %v", text, got, err)
		}
	}
}

func TestBinaryArrayIsBounded(t *testing.T) {
	array := func(dims uint32, sizes []uint32, rest ...byte) []byte {
		b := binary.BigEndian.AppendUint32(nil, dims)
		b = append(b, 0, 0, 0, 0, 0, 0, 0, 25)
		for _, n := range sizes {
			b = binary.BigEndian.AppendUint32(b, n)
			b = append(b, 0, 0, 0, 1)
		}
		return append(b, rest...)
	}
	for _, b := range [][]byte{
		nil, array(1, nil), array(7, []uint32{1, 1, 1, 1, 1, 1, 1}), array(1<<31, nil),
		array(1, []uint32{maxArrayKeys + 1}), array(2, []uint32{1 << 12, 1 << 12}), array(1, []uint32{1 << 31}),
		array(1, []uint32{1}), array(1, []uint32{1}, 0, 0, 0, 2, 'a'), array(1, []uint32{1}, 0x7f, 0xff, 0xff, 0xff),
	} {
		if got, err := elements(eachBinaryElement, b); err == nil || err.Code != "22P03" {
			t.Errorf("%x is read as %q, %v", b, got, err)
		}
	}
	for _, b := range [][]byte{array(0, nil), array(1, []uint32{0}), array(1, []uint32{1}, 0xff, 0xff, 0xff, 0xff)} {
		if got, err := elements(eachBinaryElement, b); err != nil || got != nil {
			t.Errorf("%x is read as %q, %v", b, got, err)
		}
	}
}

func FuzzArrayElements(f *testing.F) {
	f.Add([]byte(`{a,"b\"c",NULL, d }`))
	f.Add([]byte("\x00\x00\x00\x01\x00\x00\x00\x00\x00\x00\x00\x19\x00\x00\x00\x01\x00\x00\x00\x01\x00\x00\x00\x01a"))
	f.Fuzz(func(t *testing.T, b []byte) {
		given := bytes.Clone(b)
		for _, read := range []func([]byte, func([]byte) *wire.Error) *wire.Error{eachTextElement, eachBinaryElement} {
			n := 0
			list, _ := elements(read, b)
			for _, e := range list {
				n += len(e)
			}
			if n > len(b) || !bytes.Equal(b, given) {
				t.Fatal("elements were made up, or the array was changed")
			}
		}
	})
}

// bind makes a Bind as it comes from a client.
func bind(t fataler, format int16, params ...[]byte) *wire.Bind {
	b := &wire.Bind{}
	if err := wire.DecodeBind(wire.AppendBind(nil, "", "", []int16{format}, params, nil)[5:], b); err != nil {
		t.Fatalf("%v", err)
	}
	return b
}

// textArray and binaryArray make arrays of values, none of them NULL.
func textArray(values []string) []byte {
	var b []byte
	for _, v := range values {
		b = append(b, `,"`+strings.NewReplacer(`\`, `\\`, `"`, `\"`).Replace(v)+`"`...)
	}
	return append(append([]byte{'{'}, b[min(1, len(b)):]...), '}')
}

func binaryArray(t shardmap.KeyType, values [][]byte) []byte {
	b := binary.BigEndian.AppendUint32(nil, 1)
	b = binary.BigEndian.AppendUint32(b, 0)
	b = binary.BigEndian.AppendUint32(b, t.OID())
	b = binary.BigEndian.AppendUint32(b, uint32(len(values)))
	b = binary.BigEndian.AppendUint32(b, 1)
	for _, v := range values {
		b = append(binary.BigEndian.AppendUint32(b, uint32(len(v))), v...)
	}
	return b
}

// keySamples are values of each type, also such as only a server can read, and
// type modifiers. What PostgreSQL refuses is left out.
var keySamples = map[shardmap.KeyType]struct {
	typmods []int32
	values  []string
}{
	shardmap.KeyInt2:    {values: []string{"0", "-1", " 7", "32767", "+12", "-32768", "007"}},
	shardmap.KeyInt4:    {values: []string{"0", "-1", " 7 ", "2147483647", "-2147483648"}},
	shardmap.KeyInt8:    {values: []string{"0", "-1", "\t7", "9223372036854775807", "-9223372036854775808", "123456789012"}},
	shardmap.KeyText:    {values: []string{"", " ", "a", "a ", "日本語", `\`, "it's", `a"b`, "{}", "NULL"}},
	shardmap.KeyVarchar: {typmods: []int32{4 + 3, 4 + 1}, values: []string{"", " ", "a", "abc", "abc ", "ab   ", "a   ", "日本語", "日本語  ", "日  "}},
	shardmap.KeyBpchar:  {typmods: []int32{4 + 3, 4 + 1}, values: []string{"", " ", "a", "abc", "abc ", "ab   ", "a   ", "日本語", "日本語  "}},
	shardmap.KeyUUID:    {values: []string{"a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11", "A0EEBC999C0B4EF8BB6D6BB9BD380A11", "{a0eebc99-9c0b4ef8-bb6d6bb9-bd380a11}"}},
	shardmap.KeyDate:    {values: []string{"2000-01-01", "0044-03-15 BC", "1/8/1999", "infinity", "January 8, 1999", "19990108"}},
	shardmap.KeyTimestamp: {typmods: []int32{0, 3, 6}, values: []string{"2000-01-01", "1999-12-31 23:59:59.5", "1999-12-31 23:59:59.999999",
		"2024-02-29T12:00:00.1234", "infinity", "Jan 8 1999 04:05:06.789", "epoch"}},
	shardmap.KeyTimestamptz: {typmods: []int32{0, 3}, values: []string{"2000-01-01", "1999-12-31 23:59:59.5+00", "2024-02-29 12:00:00.9996-05:30",
		"-infinity", "2024-02-29 12:00:00 Europe/Paris", "2024-07-01 00:00"}},
	shardmap.KeyBytea: {values: []string{"", "abc", `\x00ff`, `\000\\`, `\xDE AD`}},
}

// fixture is a Values that may ask a server.
type fixture struct {
	Values
	c     *pgconn.PgConn
	asked int
}

func newFixture(t *testing.T) *fixture {
	url := pgtest.Database(t, pgtest.Server(t))
	cfg, err := pgconn.ParseConfig(url)
	if err != nil {
		t.Fatal(err)
	}
	pools := pool.NewPools([]*pool.Shard{{Name: "one", Config: cfg}}, pool.Options{Size: 1, ConnectTimeout: 5 * time.Second, PreparedStatements: 5})
	conn, err := pools.Admin(context.Background(), 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	f := &fixture{c: pgtest.Conn(t, url).PgConn()}
	f.Hash = func(t shardmap.KeyType, typmod int32, value []byte, binary bool, from uint32) (uint64, *wire.Error) {
		f.asked++
		return HashByShard(conn, t, typmod, value, binary, from)
	}
	return f
}

// slotOf has the server compute the slot of a value, stored in a column or not, and
// send the value in binary format as it was given. ok is false if it's refused.
func (f *fixture) slotOf(t *testing.T, kt shardmap.KeyType, typmod int32, stored bool, value string) (slot shardmap.Slot, sent []byte, ok bool) {
	literal := planner.QuoteLiteral(value) + "::" + kt.SQLName()
	from := "SELECT " + literal + " AS k"
	if stored {
		ask(t, f.c, "DROP TABLE IF EXISTS s; CREATE TEMP TABLE s (k "+modified(kt, typmod)+")")
		if _, err := f.c.Exec(background, "INSERT INTO s "+from).ReadAll(); err != nil {
			return 0, nil, false
		}
		from = "SELECT k FROM s"
	}
	expr, err := shardmap.SlotSQL([]shardmap.KeyType{kt}, []string{"k"})
	if err != nil {
		t.Fatal(err)
	}
	send := map[shardmap.KeyType]string{shardmap.KeyTimestamptz: "timestamptz_send", shardmap.KeyTimestamp: "timestamp_send",
		shardmap.KeyUUID: "uuid_send", shardmap.KeyDate: "date_send"}[kt]
	if send == "" {
		send = kt.SQLName() + "send"
	}
	rows := ask(t, f.c, "SELECT "+expr+", "+send+"("+literal+") FROM ("+from+") x")
	n, err := strconv.Atoi(rows[0][0])
	if err != nil {
		t.Fatal(err)
	}
	sent, err = hex.DecodeString(rows[0][1][2:])
	if err != nil {
		t.Fatal(err)
	}
	return shardmap.Slot(n), sent, true
}

// A key's slot is that which PostgreSQL computes of the value it reads, or stores.
func TestSlotsAgainstPostgreSQL(t *testing.T) {
	f := newFixture(t)
	for kt, samples := range keySamples {
		for _, typmod := range append([]int32{-1}, samples.typmods...) {
			for _, stored := range []bool{false, true} {
				table := keyed("t", []shardmap.KeyType{kt}, []int32{typmod}, 0)
				for _, value := range samples.values {
					want, sent, ok := f.slotOf(t, kt, typmod, stored, value)
					if !ok {
						continue
					}
					for _, from := range []uint32{0, kt.OID()} {
						for form, prepare := range map[string]func(v *planner.Value){
							"text parameter":   func(v *planner.Value) { f.Bind = bind(t, wire.FormatText, []byte(value)) },
							"binary parameter": func(v *planner.Value) { f.Bind = bind(t, wire.FormatBinary, sent) },
							"string": func(v *planner.Value) {
								v.Source = planner.FromLiteral
								f.literal(t, planner.QuoteLiteral(value))
							},
						} {
							v := planner.Value{Source: planner.FromParam, Type: from}
							prepare(&v)
							pin := &planner.Pin{Table: table, Types: table.Key.Types, Stores: stored, Keys: [][]planner.Value{{v}}}
							set, err := f.Slots(pin, nil)
							if err != nil || len(set.Slots) != 1 || set.Slots[0] != want || set.Nothing {
								t.Errorf("%s, stored %v, as a %s: %q is in %v, PostgreSQL says %d: %v", modified(kt, typmod), stored, form, value, set, want, err)
							}
						}
					}
				}
			}
		}
	}
	if f.asked == 0 {
		t.Error("no shard was asked")
	}
}

// literal makes the values' text one with a single literal.
func (f *fixture) literal(t fataler, sql string) {
	f.Text = []byte("SELECT " + sql)
	_, lits, err := new(sqltext.Scanner).Normalize(f.Text)
	if err != nil || len(lits) != 1 {
		t.Fatalf("%s: %v", f.Text, err)
	}
	f.Literals = append([]sqltext.Literal(nil), lits...)
}

func TestArraySlotsAgainstPostgreSQL(t *testing.T) {
	f := newFixture(t)
	for kt, samples := range keySamples {
		var values []string
		var sent [][]byte
		var want []shardmap.Slot
		for _, value := range samples.values {
			slot, b, _ := f.slotOf(t, kt, -1, false, value)
			values, sent, want = append(values, value), append(sent, b), append(want, slot)
		}
		table := keyed("t", []shardmap.KeyType{kt}, nil, 0)
		for form, prepare := range map[string]func(v *planner.Value){
			"text parameter":   func(v *planner.Value) { f.Bind = bind(t, wire.FormatText, textArray(values)) },
			"binary parameter": func(v *planner.Value) { f.Bind = bind(t, wire.FormatBinary, binaryArray(kt, sent)) },
			"string": func(v *planner.Value) {
				v.Source = planner.FromLiteral
				f.literal(t, planner.QuoteLiteral(string(textArray(values))))
			},
		} {
			v := &planner.Value{Source: planner.FromParam}
			prepare(v)
			set, err := f.Slots(&planner.Pin{Table: table, Types: table.Key.Types, Array: v}, nil)
			if err != nil || fmt.Sprint(set.Slots) != fmt.Sprint(want) || set.Nothing {
				t.Errorf("%s as a %s: %v, PostgreSQL says %v: %v", kt, form, set, want, err)
			}
		}
	}
	pin := &planner.Pin{Types: []shardmap.KeyType{shardmap.KeyText}, Array: &planner.Value{Source: planner.FromParam}}
	for _, b := range []*wire.Bind{bind(t, 0, nil), bind(t, 0, []byte("{}")), bind(t, 0, []byte("{NULL}")), bind(t, 1, binaryArray(shardmap.KeyText, nil))} {
		f.Bind = b
		if set, err := f.Slots(pin, nil); err != nil || !set.Nothing || len(set.Slots) > 0 {
			t.Error(set, err)
		}
	}
}

// A shard hashes text in the client's encoding, in whichever form it comes.
func TestSlotsInAnotherEncoding(t *testing.T) {
	f := newFixture(t)
	f.ASCIIOnly = true
	f.Hash = func(shardmap.KeyType, int32, []byte, bool, uint32) (uint64, *wire.Error) {
		f.asked++
		return 0, nil
	}
	pin := func(array bool) *planner.Pin {
		v := planner.Value{Source: planner.FromParam}
		p := &planner.Pin{Types: []shardmap.KeyType{shardmap.KeyText}, Keys: [][]planner.Value{{v}}}
		if array {
			p.Array = &v
		}
		return p
	}
	for _, c := range []struct {
		array bool
		b     *wire.Bind
		asked int
	}{
		{false, bind(t, 0, []byte("\xe9t\xe9")), 1}, {false, bind(t, 1, []byte("\xe9t\xe9")), 1}, {false, bind(t, 0, []byte("ete")), 0},
		{true, bind(t, 0, []byte("{\xe9t\xe9,ete}")), 1}, {true, bind(t, 1, binaryArray(shardmap.KeyText, [][]byte{[]byte("\xe9t\xe9"), []byte("ete")})), 1},
	} {
		f.Bind, f.asked = c.b, 0
		if _, err := f.Slots(pin(c.array), nil); err != nil || f.asked != c.asked {
			t.Errorf("%+v: a shard was asked %d times, %v", c, f.asked, err)
		}
	}
}

func TestSlotsOfIntegersAndNulls(t *testing.T) {
	f := newFixture(t)
	two := keyed("t", []shardmap.KeyType{shardmap.KeyInt4, shardmap.KeyText}, nil, 0, 1)
	lit := func(i int, negative bool) planner.Value {
		return planner.Value{Source: planner.FromLiteral, Index: i, Negative: negative}
	}
	f.Text = []byte("SELECT 5, 'x', 3000000000")
	_, lits, err := new(sqltext.Scanner).Normalize(f.Text)
	if err != nil {
		t.Fatal(err)
	}
	f.Literals = lits
	pin := &planner.Pin{Table: two, Types: two.Key.Types, Keys: [][]planner.Value{
		{lit(0, false), lit(1, false)}, {lit(0, true), lit(1, false)}, {lit(2, false), lit(1, false)},
		{lit(0, false), {Source: planner.IsNull}}, {{Source: planner.IsNull}, lit(1, false)},
	}}
	set, e := f.Slots(pin, []shardmap.Slot{9, 9})
	expr, err := shardmap.SlotSQL([]shardmap.KeyType{shardmap.KeyInt8, shardmap.KeyText}, []string{"a", "b"})
	if err != nil {
		t.Fatal(err)
	}
	want := ask(t, f.c, "SELECT string_agg(("+expr+")::text, ' ' ORDER BY n) FROM (VALUES (1, 5::int8, 'x'::text), (2, -5, 'x'), (3, 3000000000, 'x')) v(n, a, b)")
	if e != nil || fmt.Sprint(set.Slots) != "["+want[0][0]+"]" || set.Nothing {
		t.Error(set, want, e)
	}
	pin.Keys = pin.Keys[3:]
	if set, e := f.Slots(pin, nil); e != nil || !set.Nothing {
		t.Error(set, e)
	}
	f.Bind = bind(t, 0, []byte("1"))
	pin.Keys = [][]planner.Value{{{Source: planner.FromParam, Index: 1}, lit(1, false)}}
	if _, e := f.Slots(pin, nil); e == nil || e.Code != "42P02" {
		t.Error(e)
	}
	pin.Keys = [][]planner.Value{{{Source: planner.FromParam, Index: 0}, lit(1, false)}}
	f.Bind = bind(t, 0, []byte("x"))
	if _, e := f.Slots(pin, nil); e == nil || e.Code != "22P02" {
		t.Error("the server's error was not passed on:", e)
	}
}

func TestStoredText(t *testing.T) {
	for _, s := range []string{"", "a", "abc", "abc ", "abcd", "abc d ", "   ", "     ", "日本語  "} {
		got := string(StoredText(shardmap.KeyVarchar, 4+3, []byte(s)))
		if !strings.HasPrefix(s, got) || strings.TrimRight(s[len(got):], " ") != "" ||
			utf8.RuneCountInString(got) > 3 && strings.HasSuffix(got, " ") || got != s && utf8.RuneCountInString(got) < 3 {
			t.Errorf("%q is stored as %q", s, got)
		}
		if string(StoredText(shardmap.KeyVarchar, -1, []byte(s))) != s || string(StoredText(shardmap.KeyText, 7, []byte(s))) != s {
			t.Errorf("%q is cut without a modifier", s)
		}
	}
}

// planSplit plans an INSERT over two shards.
func planSplit(t fataler, text string) (*planner.Split, []sqltext.Literal) {
	table := keyed("t", []shardmap.KeyType{shardmap.KeyInt8, shardmap.KeyText, shardmap.KeyText}, nil, 0)
	env := &planner.Env{Schema: planner.NewSchema(1, []*planner.Table{table}, map[string]planner.Function{"lower": {}}, nil), Shards: 2, SearchPath: []string{"public"}}
	for i := range 21 {
		env.ParamTypes = append(env.ParamTypes, shardmap.KeyText.OID())
		if i == 10 { // the key's
			env.ParamTypes[i] = shardmap.KeyInt8.OID()
		}
	}
	_, lits, err := new(sqltext.Scanner).Normalize([]byte(text))
	if err != nil {
		t.Fatalf("%s: %v", text, err)
	}
	p, err := planner.Parse(text, sqltext.GuardLimits{})
	if err != nil {
		t.Fatalf("%s: %v", text, err)
	}
	st, err := p.Plan(lits, env)
	if err != nil {
		t.Fatalf("%s: %v", text, err)
	}
	node := st.Node
	if r, ok := node.(*planner.Route); ok {
		node = r.Else
	}
	split, ok := node.(*planner.Split)
	if !ok {
		t.Fatalf("%s: %T", text, node)
	}
	return split, lits
}

// deparsed is PostgreSQL's spelling of a statement, after its tree was changed.
func deparsed(t fataler, text string, change func(tree *pg.ParseResult)) string {
	tree, err := pg.Parse(text)
	if err != nil {
		t.Fatalf("%s: %v", text, err)
	}
	change(tree)
	s, err := pg.Deparse(tree)
	if err != nil {
		t.Fatalf("%s: %v", text, err)
	}
	return s
}

// eachParam calls f for each parameter of a tree.
func eachParam(m protoreflect.Message, f func(*pg.ParamRef)) {
	if p, ok := m.Interface().(*pg.ParamRef); ok {
		f(p)
	}
	m.Range(func(fd protoreflect.FieldDescriptor, v protoreflect.Value) bool {
		switch {
		case fd.Message() == nil:
		case fd.IsList():
			for i := range v.List().Len() {
				eachParam(v.List().Get(i).Message(), f)
			}
		default:
			eachParam(v.Message(), f)
		}
		return true
	})
}

// A part of an INSERT holds the rows that were asked for, each with its own values,
// also when the plan was made for another text of the same kind.
func TestSplitText(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		n := rapid.IntRange(2, 6).Draw(t, "rows")
		kinds := rapid.SliceOfN(rapid.SliceOfN(rapid.IntRange(0, 7), 3, 3), n, n).Draw(t, "kinds")
		space := rapid.SliceOfN(rapid.SampledFrom([]string{"", " ", "\n", " /* ),( */ ", " -- ( \n"}), 4, 4).Draw(t, "space")
		tail := rapid.SampledFrom([]string{"", " RETURNING a, b || $1", " ON CONFLICT DO NOTHING", " RETURNING $21::text, $2::int", ";"}).Draw(t, "tail")
		head := rapid.SampledFrom([]string{"INSERT INTO t VALUES ", "INSERT /* '$1' */ INTO t (a, b, c) VALUES"}).Draw(t, "head")
		// Texts of the same kind differ in the values of their literals.
		write := func(label string) string {
			value := func(kind, column int) string {
				if column == 0 {
					kind %= 3 // the key
				}
				switch kind {
				case 0:
					return strconv.Itoa(rapid.IntRange(0, 1<<40).Draw(t, label))
				case 1:
					return "-" + strconv.Itoa(rapid.IntRange(0, 999).Draw(t, label))
				case 2, 3:
					return "$" + strconv.Itoa(1+(column*7+kind*5)%21)
				case 4:
					return planner.QuoteLiteral(rapid.SampledFrom([]string{"", "it's", "),(", "$1", "日本"}).Draw(t, label))
				case 5:
					return "lower($2 || $3)"
				case 6:
					return "(1, ($10))::text"
				}
				return "NULL"
			}
			var rows []string
			for _, k := range kinds {
				rows = append(rows, "("+value(k[0], 0)+space[0]+","+space[1]+value(k[1], 1)+","+value(k[2], 2)+space[2]+")")
			}
			return head + strings.Join(rows, space[3]+",") + tail
		}
		planned, text := write("planned"), write("run")
		split, _ := planSplit(t, planned)
		_, lits, err := new(sqltext.Scanner).Normalize([]byte(text))
		if err != nil {
			t.Fatalf("%s: %v", text, err)
		}
		rows := rapid.SliceOfNDistinct(rapid.IntRange(0, n-1), 1, n, rapid.ID).Draw(t, "picked")
		part, params := SplitText([]byte("kept "), split, &Values{Text: []byte(text), Literals: lits}, rows, []int{30}[:0])
		part, ok := bytes.CutPrefix(part, []byte("kept "))
		if !ok {
			t.Fatalf("%q", part)
		}
		insert := func(tree *pg.ParseResult) *pg.SelectStmt {
			return tree.Stmts[0].Stmt.GetInsertStmt().SelectStmt.GetSelectStmt()
		}
		got := deparsed(t, string(part), func(tree *pg.ParseResult) {
			used := map[int32]bool{}
			eachParam(tree.ProtoReflect(), func(p *pg.ParamRef) {
				used[p.Number] = true
				p.Number = int32(params[p.Number-1] + 1)
			})
			if len(used) != len(params) {
				t.Fatalf("%s: parameters %v, of which %v are used", part, params, used)
			}
		})
		want := deparsed(t, text, func(tree *pg.ParseResult) {
			s := insert(tree)
			all := s.ValuesLists
			s.ValuesLists = nil
			for _, r := range rows {
				s.ValuesLists = append(s.ValuesLists, all[r])
			}
		})
		if got != want {
			t.Fatalf("%s\nrows %v: %s\nis %s\nnot %s", text, rows, part, got, want)
		}
	})
}

// An error about a value says where the client gave it, not where the hash was computed.
func TestMisreadKey(t *testing.T) {
	f := newFixture(t)
	pin := planner.Pin{Table: keyed("t", []shardmap.KeyType{shardmap.KeyInt4}, []int32{-1}, 0), Types: []shardmap.KeyType{shardmap.KeyInt4}}
	f.Text, f.Literals = []byte("SELECT 'é', 'x'"), []sqltext.Literal{{Kind: sqltext.String, Start: 13, End: 16}}
	_, _, err := f.Slot(&pin, []planner.Value{{Source: planner.FromLiteral}})
	if err == nil || err.Code != "22P02" || err.Position != 13 || err.Where != "" {
		t.Errorf("%+v", err)
	}
	for _, test := range []struct {
		portal, where string
		format        int16
	}{
		{"", "unnamed portal parameter $2 = '...'", wire.FormatText},
		{"p", "portal \"p\" parameter $2 = '...'", wire.FormatText},
		{"", "unnamed portal parameter $2", wire.FormatBinary},
	} {
		msg := wire.AppendBind(nil, test.portal, "", []int16{test.format}, [][]byte{{0}, {'x'}}, nil)
		var bind wire.Bind
		if err := wire.DecodeBind(msg[5:], &bind); err != nil {
			t.Fatal(err)
		}
		f.Bind = &bind
		_, _, err := f.Slot(&pin, []planner.Value{{Source: planner.FromParam, Index: 1}})
		if err == nil || err.Where != test.where {
			t.Errorf("%+v", err)
		}
	}
}
