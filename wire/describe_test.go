package wire

import (
	"bytes"
	"math"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5/pgproto3"
	"pgregory.net/rapid"
)

// encoded returns a message as pgproto3 writes it.
func encoded(t interface{ Fatal(...any) }, m pgproto3.Message) []byte {
	b, err := m.Encode(nil)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// refusesCuts checks that a decoder accepts the body whole, no shorter one, and
// none with a byte more.
func refusesCuts(t *rapid.T, what string, body []byte, decode func([]byte) error) {
	if err := decode(body); err != nil {
		t.Fatalf("%s %q: %v", what, body, err)
	}
	for n := range body {
		if decode(slices.Clip(bytes.Clone(body[:n]))) == nil {
			t.Fatalf("%s: accepted the first %d bytes of %q", what, n, body)
		}
	}
	if decode(append(bytes.Clone(body), 0)) == nil {
		t.Fatalf("%s: accepted a byte behind %q", what, body)
	}
}

func TestParseAgainstPgproto3(t *testing.T) {
	var p Parse
	rapid.Check(t, func(t *rapid.T) {
		m := pgproto3.Parse{Name: cString().Draw(t, "name"), Query: cString().Draw(t, "query"),
			ParameterOIDs: rapid.SliceOfN(rapid.Uint32(), 0, 9).Draw(t, "oids")}
		want := encoded(t, &m)
		if got := AppendParse(nil, m.Name, []byte(m.Query), m.ParameterOIDs); !bytes.Equal(got, want) {
			t.Fatalf("got %q, want %q", got, want)
		}
		refusesCuts(t, "Parse", want[headerBytes:], func(b []byte) error { return DecodeParse(b, &p) })
		if err := DecodeParse(want[headerBytes:], &p); err != nil || string(p.Name) != m.Name || string(p.Query) != m.Query ||
			!slices.Equal(p.ParamOIDs, m.ParameterOIDs) {
			t.Fatalf("%+v, %v", p, err)
		}
	})
}

func drawBind(t *rapid.T) pgproto3.Bind {
	value := rapid.Custom(func(t *rapid.T) []byte {
		if rapid.Bool().Draw(t, "null") {
			return nil
		}
		return append([]byte{}, rapid.SliceOfN(rapid.Byte(), 0, 9).Draw(t, "value")...)
	})
	m := pgproto3.Bind{
		DestinationPortal: cString().Draw(t, "portal"),
		PreparedStatement: cString().Draw(t, "statement"),
		Parameters:        rapid.SliceOfN(value, 0, 6).Draw(t, "params"),
		ResultFormatCodes: rapid.SliceOfN(rapid.Int16(), 0, 5).Draw(t, "result formats"),
	}
	n := rapid.SampledFrom([]int{0, 1, len(m.Parameters)}).Draw(t, "formats")
	m.ParameterFormatCodes = rapid.SliceOfN(rapid.Int16(), n, n).Draw(t, "param formats")
	return m
}

func TestBindAgainstPgproto3(t *testing.T) {
	var b Bind
	rapid.Check(t, func(t *rapid.T) {
		m := drawBind(t)
		want := encoded(t, &m)
		got := AppendBind(nil, m.DestinationPortal, []byte(m.PreparedStatement), m.ParameterFormatCodes, m.Parameters, m.ResultFormatCodes)
		if !bytes.Equal(got, want) {
			t.Fatalf("got %q, want %q", got, want)
		}
		refusesCuts(t, "Bind", want[headerBytes:], func(body []byte) error { return DecodeBind(body, &b) })
		if err := DecodeBind(want[headerBytes:], &b); err != nil || string(b.Portal) != m.DestinationPortal ||
			string(b.Statement) != m.PreparedStatement || len(b.Params) != len(m.Parameters) ||
			!slices.Equal(b.ParamFormats, m.ParameterFormatCodes) || !slices.Equal(b.ResultFormats, m.ResultFormatCodes) {
			t.Fatalf("%+v, %v", b, err)
		}
		for i, want := range m.Parameters {
			if got, null := b.Param(i); null != (want == nil) || !bytes.Equal(got, want) || null != b.Params[i].IsNull() {
				t.Fatalf("parameter %d: %q %v", i, got, null)
			}
		}
	})
}

func TestAppendSelected(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		m := drawBind(t)
		var b Bind
		if err := DecodeBind(encoded(t, &m)[headerBytes:], &b); err != nil {
			t.Fatal(err)
		}
		var pick []int
		if n := len(m.Parameters); n > 0 {
			pick = rapid.SliceOfN(rapid.IntRange(0, n-1), 0, 9).Draw(t, "pick")
		}
		var got Bind
		message := AppendSelected(nil, "p", "s", &b, pick, []int16{1})
		if err := DecodeBind(message[headerBytes:], &got); err != nil {
			// Several formats for one parameter that was picked can't happen:
			// their number is that of the parameters.
			t.Fatalf("%q: %v", message, err)
		}
		if string(got.Portal) != "p" || string(got.Statement) != "s" || !slices.Equal(got.ResultFormats, []int16{1}) || len(got.Params) != len(pick) {
			t.Fatalf("%+v", got)
		}
		for to, from := range pick {
			value, null := got.Param(to)
			wantValue, wantNull := b.Param(from)
			if null != wantNull || !bytes.Equal(value, wantValue) || got.ParamFormat(to) != b.ParamFormat(from) {
				t.Fatalf("%d of %d: %q %d", to, from, value, got.ParamFormat(to))
			}
		}
	})
}

func TestBindRefuses(t *testing.T) {
	for name, c := range map[string]struct{ body, message string }{
		"formats without parameters": {"\x00\x00\x00\x02\x00\x01\x00\x01\x00\x01\x00\x00\x00\x00\x00\x00", "bind message has 2 parameter formats but 1 parameters"},
		"length below -1":            {"\x00\x00\x00\x00\x00\x01\xff\xff\xff\xfe\x00\x00", "insufficient data left in message"},
		"huge length":                {"\x00\x00\x00\x00\x00\x01\x7f\xff\xff\xffab\x00\x00", "insufficient data left in message"},
		"huge count":                 {"\x00\x00\x00\x00\xff\xff\x00\x00", "insufficient data left in message"},
		"huge formats":               {"\x00\x00\xff\xff\x00\x00", "insufficient data left in message"},
		"open name":                  {"abc", "invalid string in message"},
		"bytes behind":               {"\x00\x00\x00\x00\x00\x00\x00\x00z", "invalid message format"},
	} {
		var b Bind
		if e := AsError(DecodeBind([]byte(c.body), &b)); e == nil || e.Message != c.message || e.Code != ProtocolViolation || e.IsFatal() {
			t.Errorf("%s: %v", name, e)
		}
	}
}

func TestSmallFrontendMessages(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		name := cString().Draw(t, "name")
		kind := rapid.SampledFrom([]Kind{Statement, Portal}).Draw(t, "kind")
		rows := rapid.Int32().Draw(t, "rows")
		size := rapid.IntRange(0, 1<<20).Draw(t, "size")
		for _, c := range []struct {
			got  []byte
			want pgproto3.Message
		}{
			{AppendQuery(nil, name), &pgproto3.Query{String: name}},
			{AppendDescribe(nil, kind, name), &pgproto3.Describe{ObjectType: byte(kind), Name: name}},
			{AppendClose(nil, kind, []byte(name)), &pgproto3.Close{ObjectType: byte(kind), Name: name}},
			{AppendExecute(nil, name, rows), &pgproto3.Execute{Portal: name, MaxRows: uint32(rows)}},
			{AppendSync(nil), &pgproto3.Sync{}},
			{AppendFlush(nil), &pgproto3.Flush{}},
			{AppendTerminate(nil), &pgproto3.Terminate{}},
			{append(AppendCopyDataHeader(nil, len(name)), name...), &pgproto3.CopyData{Data: []byte(name)}},
			{append(AppendCopyDataHeader(nil, size), make([]byte, size)...), &pgproto3.CopyData{Data: make([]byte, size)}},
			{AppendCopyDone(nil), &pgproto3.CopyDone{}},
			{AppendCopyFail(nil, name), &pgproto3.CopyFail{Message: name}},
			{AppendCommandTag(nil, name), &pgproto3.CommandComplete{CommandTag: []byte(name)}},
			{AppendParseComplete(nil), &pgproto3.ParseComplete{}},
			{AppendBindComplete(nil), &pgproto3.BindComplete{}},
			{AppendCloseComplete(nil), &pgproto3.CloseComplete{}},
			{AppendNoData(nil), &pgproto3.NoData{}},
			{AppendEmptyQueryResponse(nil), &pgproto3.EmptyQueryResponse{}},
			{AppendPortalSuspended(nil), &pgproto3.PortalSuspended{}},
		} {
			if want := encoded(t, c.want); !bytes.Equal(c.got, want) {
				t.Fatalf("%T: got %q, want %q", c.want, c.got, want)
			}
		}

		gotKind, got, err := DecodeDescribe(AppendDescribe(nil, kind, name)[headerBytes:])
		if err != nil || gotKind != kind || string(got) != name {
			t.Fatal(gotKind, got, err)
		}
		gotKind, got, err = DecodeClose(AppendClose(nil, kind, name)[headerBytes:])
		if err != nil || gotKind != kind || string(got) != name {
			t.Fatal(gotKind, got, err)
		}
		got, gotRows, err := DecodeExecute(AppendExecute(nil, name, rows)[headerBytes:])
		if err != nil || gotRows != rows || string(got) != name {
			t.Fatal(gotRows, got, err)
		}
		if got, err := DecodeQuery(AppendQuery(nil, name)[headerBytes:]); err != nil || string(got) != name {
			t.Fatal(got, err)
		}
		refusesCuts(t, "Describe", AppendDescribe(nil, kind, name)[headerBytes:], func(b []byte) error { _, _, err := DecodeDescribe(b); return err })
		refusesCuts(t, "Execute", AppendExecute(nil, name, rows)[headerBytes:], func(b []byte) error { _, _, err := DecodeExecute(b); return err })
		refusesCuts(t, "Query", AppendQuery(nil, name)[headerBytes:], func(b []byte) error { _, err := DecodeQuery(b); return err })
	})
	if _, _, err := DecodeDescribe([]byte("Xa\x00")); AsError(err).Message != "invalid DESCRIBE message subtype 88" {
		t.Error(err)
	}
	if _, _, err := DecodeClose([]byte("Xa\x00")); AsError(err).Message != "invalid CLOSE message subtype 88" {
		t.Error(err)
	}
}

func TestRowDescriptionAgainstPgproto3(t *testing.T) {
	var d RowDescription
	field := rapid.Custom(func(t *rapid.T) pgproto3.FieldDescription {
		return pgproto3.FieldDescription{
			Name: []byte(cString().Draw(t, "name")), TableOID: rapid.Uint32().Draw(t, "table"),
			TableAttributeNumber: rapid.Uint16().Draw(t, "attribute"), DataTypeOID: rapid.Uint32().Draw(t, "type"),
			DataTypeSize: rapid.Int16().Draw(t, "size"), TypeModifier: rapid.Int32().Draw(t, "modifier"), Format: rapid.Int16().Draw(t, "format"),
		}
	})
	rapid.Check(t, func(t *rapid.T) {
		m := pgproto3.RowDescription{Fields: rapid.SliceOfN(field, 0, 5).Draw(t, "fields")}
		body := encoded(t, &m)[headerBytes:]
		refusesCuts(t, "RowDescription", body, func(b []byte) error { return DecodeRowDescription(b, &d) })
		if err := DecodeRowDescription(body, &d); err != nil || d.Len() != len(m.Fields) {
			t.Fatal(d, err)
		}
		for i, f := range m.Fields {
			if string(d.Name(i)) != string(f.Name) || d.TableOID(i) != f.TableOID || uint16(d.Attribute(i)) != f.TableAttributeNumber ||
				d.TypeOID(i) != f.DataTypeOID || d.TypeSize(i) != f.DataTypeSize || d.TypeModifier(i) != f.TypeModifier || d.Format(i) != f.Format {
				t.Fatalf("column %d", i)
			}
			d.SetTableOID(i, 7)
			d.SetTypeOID(i, f.DataTypeOID+1)
			d.SetFormat(i, 1)
			m.Fields[i].TableOID, m.Fields[i].DataTypeOID, m.Fields[i].Format = 7, f.DataTypeOID+1, 1
		}
		if want := encoded(t, &m)[headerBytes:]; !bytes.Equal(body, want) {
			t.Fatalf("changed to %q, want %q", body, want)
		}
	})
}

func TestSmallBackendMessages(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		oids := pgproto3.ParameterDescription{ParameterOIDs: rapid.SliceOfN(rapid.Uint32(), 0, 6).Draw(t, "oids")}
		body := encoded(t, &oids)[headerBytes:]
		refusesCuts(t, "ParameterDescription", body, func(b []byte) error { _, err := DecodeParameterDescription(b); return err })
		d, err := DecodeParameterDescription(body)
		if err != nil || d.Len() != len(oids.ParameterOIDs) {
			t.Fatal(d, err)
		}
		for i, oid := range oids.ParameterOIDs {
			if d.OID(i) != oid {
				t.Fatal(i, d.OID(i))
			}
			d.SetOID(i, oid+1)
			oids.ParameterOIDs[i]++
		}
		if !bytes.Equal(body, encoded(t, &oids)[headerBytes:]) {
			t.Fatalf("changed to %q", body)
		}

		cp := pgproto3.CopyInResponse{OverallFormat: rapid.ByteRange(0, 1).Draw(t, "format"),
			ColumnFormatCodes: rapid.SliceOfN(rapid.Uint16(), 0, 6).Draw(t, "formats")}
		body = encoded(t, &cp)[headerBytes:]
		refusesCuts(t, "CopyInResponse", body, func(b []byte) error { _, err := DecodeCopyResponse(b); return err })
		r, err := DecodeCopyResponse(body)
		if err != nil || r.Len() != len(cp.ColumnFormatCodes) || r.Binary != (cp.OverallFormat == 1) {
			t.Fatal(r, err)
		}
		for i, f := range cp.ColumnFormatCodes {
			if r.Format(i) != int16(f) {
				t.Fatal(i, r.Format(i))
			}
		}

		name, value := cString().Draw(t, "name"), cString().Draw(t, "value")
		body = AppendParameterStatus(nil, name, value)[headerBytes:]
		refusesCuts(t, "ParameterStatus", body, func(b []byte) error { _, _, err := DecodeParameterStatus(b); return err })
		if n, v, err := DecodeParameterStatus(body); err != nil || string(n) != name || string(v) != value {
			t.Fatal(n, v, err)
		}
		body = AppendCommandTag(nil, name)[headerBytes:]
		if tag, err := DecodeCommandComplete(body); err != nil || string(tag) != name {
			t.Fatal(tag, err)
		}
	})
	for _, status := range []byte{TxIdle, TxActive, TxFailed} {
		if got, err := DecodeReadyForQuery([]byte{status}); err != nil || got != status {
			t.Error(got, err)
		}
	}
	for _, body := range []string{"", "II", "X"} {
		if _, err := DecodeReadyForQuery([]byte(body)); err == nil {
			t.Errorf("accepted %q", body)
		}
	}
	if _, err := DecodeCopyResponse([]byte{2, 0, 0}); err == nil {
		t.Error("accepted format 2")
	}
}

func TestSplitTag(t *testing.T) {
	for _, c := range []struct {
		tag, verb string
		rows      uint64
		counted   bool
	}{
		{"SELECT 3", "SELECT", 3, true},
		{"INSERT 0 5", "INSERT", 5, true},
		{"INSERT 16384 1", "INSERT", 1, true},
		{"UPDATE 0", "UPDATE", 0, true},
		{"COPY 18446744073709551615", "COPY", math.MaxUint64, true},
		{"COPY 18446744073709551616", "COPY 18446744073709551616", 0, false},
		{"COPY -1", "COPY -1", 0, false},
		{"CREATE TABLE", "CREATE TABLE", 0, false},
		{"PREPARE TRANSACTION", "PREPARE TRANSACTION", 0, false},
		{"BEGIN", "BEGIN", 0, false},
		{"SELECT ", "SELECT ", 0, false},
		{"", "", 0, false},
	} {
		verb, rows, counted := SplitTag([]byte(c.tag))
		if string(verb) != c.verb || rows != c.rows || counted != c.counted {
			t.Errorf("%q: %q %d %v", c.tag, verb, rows, counted)
		}
	}
	for _, c := range []struct{ verb, tag string }{{"INSERT", "INSERT 0 12"}, {"MERGE", "MERGE 12"}} {
		if got := AppendCommandComplete(nil, c.verb, 12); !bytes.Equal(got, AppendCommandTag(nil, c.tag)) {
			t.Errorf("%q", got)
		}
	}
}

// TestEncodersKeepTheirFrame checks that a NUL in a name can't become the end
// of a field, and that impossible counts are not written.
func TestEncodersKeepTheirFrame(t *testing.T) {
	if got, err := DecodeQuery(AppendQuery(nil, "a\x00b")[headerBytes:]); err != nil || string(got) != "ab" {
		t.Errorf("%q %v", got, err)
	}
	var p Parse
	if err := DecodeParse(AppendParse(nil, []byte("x\x00"), "q", make([]uint32, maxCount))[headerBytes:], &p); err != nil || len(p.ParamOIDs) != maxCount {
		t.Error(len(p.ParamOIDs), err)
	}
	var b Bind
	if err := DecodeBind(AppendBind(nil, "", "", nil, make([][]byte, maxCount), nil)[headerBytes:], &b); err != nil || len(b.Params) != maxCount {
		t.Error(len(b.Params), err)
	}
	defer func() {
		if recover() == nil {
			t.Error("wrote a count of 65,536")
		}
	}()
	AppendBind(nil, "", "", nil, make([][]byte, maxCount+1), nil)
}

// TestDecodersDoNotAllocate holds for values that are reused.
func TestDecodersDoNotAllocate(t *testing.T) {
	parse := AppendParse(nil, "s", "SELECT $1", []uint32{23, 25})[headerBytes:]
	bind := AppendBind(nil, "p", "s", []int16{1}, [][]byte{[]byte("x"), nil}, []int16{0, 1})[headerBytes:]
	rows := encoded(t, &pgproto3.RowDescription{Fields: []pgproto3.FieldDescription{{Name: []byte("a")}, {Name: []byte("b")}}})[headerBytes:]
	execute := AppendExecute(nil, "p", 3)[headerBytes:]
	tag := []byte("INSERT 0 5")
	out := make([]byte, 0, 1024)
	var p Parse
	var b Bind
	var d RowDescription
	pick, formats := []int{1, 0}, []int16{1}
	allocs := testing.AllocsPerRun(100, func() {
		_ = DecodeParse(parse, &p)
		_ = DecodeBind(bind, &b)
		_ = DecodeRowDescription(rows, &d)
		_, _, _ = DecodeExecute(execute)
		_, _, _ = DecodeDescribe(parse[:0])
		_, _, _ = SplitTag(tag)
		out = AppendParse(out[:0], "name", p.Query, p.ParamOIDs)
		out = AppendSelected(out, "", "name", &b, pick, formats)
		out = AppendExecute(out, b.Portal, 0)
		out = AppendCommandComplete(out, "SELECT", 7)
		out = AppendReadyForQuery(AppendSync(out), TxIdle)
	})
	if allocs != 0 {
		t.Errorf("%v allocations", allocs)
	}
}

func FuzzDecodeParse(f *testing.F) {
	f.Add([]byte("s\x00SELECT $1\x00\x00\x01\x00\x00\x00\x17"))
	f.Add([]byte("s\x00SELECT\x00\xff\xff"))
	f.Fuzz(func(t *testing.T, body []byte) {
		var p Parse
		if DecodeParse(body, &p) != nil {
			return
		}
		if got := AppendParse(nil, p.Name, p.Query, p.ParamOIDs)[headerBytes:]; !bytes.Equal(got, body) {
			t.Errorf("%q became %q", body, got)
		}
		var m pgproto3.Parse
		if err := m.Decode(body); err != nil || m.Query != string(p.Query) {
			t.Errorf("pgproto3: %v", err)
		}
	})
}

func FuzzDecodeBind(f *testing.F) {
	f.Add([]byte("p\x00s\x00\x00\x01\x00\x01\x00\x02\xff\xff\xff\xff\x00\x00\x00\x01x\x00\x01\x00\x01"))
	f.Add([]byte("p\x00s\x00\x00\x02\x00\x01\x00\x00\x00\x02\x00\x00\x00\x00\x7f\xff\xff\xff\x00\x00"))
	f.Fuzz(func(t *testing.T, body []byte) {
		var b Bind
		if DecodeBind(body, &b) != nil {
			return
		}
		all := make([]int, len(b.Params))
		for i := range all {
			all[i] = i
			b.ParamFormat(i)
		}
		if got := AppendSelected(nil, b.Portal, b.Statement, &b, all, b.ResultFormats)[headerBytes:]; !bytes.Equal(got, body) {
			t.Errorf("%q became %q", body, got)
		}
		var m pgproto3.Bind
		if err := m.Decode(body); err != nil || len(m.Parameters) != len(b.Params) {
			t.Errorf("pgproto3: %v", err)
		}
	})
}

func FuzzDecodeRowDescription(f *testing.F) {
	body, _ := (&pgproto3.RowDescription{Fields: []pgproto3.FieldDescription{{Name: []byte("a"), DataTypeOID: 23}, {Name: []byte("b")}}}).Encode(nil)
	f.Add(body[headerBytes:])
	f.Add([]byte("\xff\xffa\x00"))
	f.Fuzz(func(t *testing.T, body []byte) {
		var d RowDescription
		if DecodeRowDescription(body, &d) != nil {
			return
		}
		m := pgproto3.RowDescription{}
		for i := range d.Len() {
			m.Fields = append(m.Fields, pgproto3.FieldDescription{Name: d.Name(i), TableOID: d.TableOID(i), TableAttributeNumber: uint16(d.Attribute(i)),
				DataTypeOID: d.TypeOID(i), DataTypeSize: d.TypeSize(i), TypeModifier: d.TypeModifier(i), Format: d.Format(i)})
		}
		if got := encoded(t, &m)[headerBytes:]; !bytes.Equal(got, body) {
			t.Errorf("%q became %q", body, got)
		}
	})
}

// FuzzDecodeSmall fuzzes the decoders of the other messages, which the type
// byte chooses.
func FuzzDecodeSmall(f *testing.F) {
	for _, seed := range []string{"Dsname\x00", "DSname\x00", "CPname\x00", "Eportal\x00\x00\x00\x00\x05", "QSELECT 1\x00",
		"t\x00\x02\x00\x00\x00\x17\x00\x00\x00\x19", "cINSERT 0 5\x00", "Sname\x00value\x00", "ZT", "G\x01\x00\x01\x00\x01"} {
		f.Add(seed[0], []byte(seed[1:]))
	}
	f.Fuzz(func(t *testing.T, typ byte, body []byte) {
		got, err := body, error(nil)
		switch typ {
		case 'D', 'C':
			decode, appendTo := DecodeDescribe, AppendDescribe[[]byte]
			if typ == 'C' {
				decode, appendTo = DecodeClose, AppendClose[[]byte]
			}
			var kind Kind
			var name []byte
			if kind, name, err = decode(body); err == nil {
				got = appendTo(nil, kind, name)[headerBytes:]
			}
		case 'E':
			var name []byte
			var rows int32
			if name, rows, err = DecodeExecute(body); err == nil {
				got = AppendExecute(nil, name, rows)[headerBytes:]
			}
		case 'Q':
			var query []byte
			if query, err = DecodeQuery(body); err == nil {
				got = AppendQuery(nil, query)[headerBytes:]
			}
		case 'S':
			var name, value []byte
			if name, value, err = DecodeParameterStatus(body); err == nil {
				got = AppendParameterStatus(nil, string(name), string(value))[headerBytes:]
			}
		case 'c':
			var tag []byte
			if tag, err = DecodeCommandComplete(body); err == nil {
				checkTag(t, tag)
			}
		case 't':
			var d ParameterDescription
			if d, err = DecodeParameterDescription(body); err == nil {
				m := pgproto3.ParameterDescription{}
				for i := range d.Len() {
					m.ParameterOIDs = append(m.ParameterOIDs, d.OID(i))
				}
				got = encoded(t, &m)[headerBytes:]
			}
		case 'G':
			var r CopyResponse
			if r, err = DecodeCopyResponse(body); err == nil {
				m := pgproto3.CopyInResponse{OverallFormat: body[0]}
				for i := range r.Len() {
					m.ColumnFormatCodes = append(m.ColumnFormatCodes, uint16(r.Format(i)))
				}
				got = encoded(t, &m)[headerBytes:]
			}
		case 'Z':
			_, _ = DecodeReadyForQuery(body)
		}
		if err == nil && !bytes.Equal(got, body) {
			t.Errorf("%c %q became %q", typ, body, got)
		}
	})
}

// checkTag checks that what SplitTag took apart can be put together again.
func checkTag(t *testing.T, tag []byte) {
	verb, rows, counted := SplitTag(tag)
	if !counted {
		if !reflect.DeepEqual(verb, tag) {
			t.Errorf("%q: verb %q", tag, verb)
		}
		return
	}
	if !bytes.HasPrefix(tag, verb) || !strings.HasSuffix(string(tag), strings.TrimLeft(strconv.FormatUint(rows, 10), "0")) {
		t.Errorf("%q: %q %d", tag, verb, rows)
	}
	again, count, _ := SplitTag(mustTag(AppendCommandComplete(nil, verb, rows)))
	if !bytes.Equal(again, verb) || count != rows {
		t.Errorf("%q: %q %d", tag, again, count)
	}
}

func mustTag(message []byte) []byte { return message[headerBytes : len(message)-1] }
