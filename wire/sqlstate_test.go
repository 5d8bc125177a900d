package wire

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5/pgproto3"
	"pgregory.net/rapid"
)

// cString draws a string that can stand in a message: no NUL, any other byte.
func cString() *rapid.Generator[string] {
	return rapid.Map(rapid.SliceOfN(rapid.ByteRange(1, 255), 0, 20), func(b []byte) string { return string(b) })
}

func drawError(t *rapid.T) *Error {
	text := func(label string) string { return cString().Draw(t, label) }
	number := func(label string) int32 { return rapid.Int32().Draw(t, label) }
	e := &Error{
		Severity: rapid.SampledFrom([]string{SeverityError, SeverityFatal, SeverityPanic}).Draw(t, "severity"),
		Code:     rapid.StringMatching("[0-9A-Z]{5}").Draw(t, "code"),
		Message:  "m" + text("message"), Detail: text("detail"), Hint: text("hint"),
		Position: number("position"), InternalPosition: number("internal position"),
		InternalQuery: text("internal query"), Where: text("where"),
		Schema: text("schema"), Table: text("table"), Column: text("column"),
		DataType: text("data type"), Constraint: text("constraint"),
		File: text("file"), Line: number("line"), Routine: text("routine"),
	}
	if s := text("localized"); s != e.Severity {
		e.LocalizedSeverity = s
	}
	if value := text("unknown"); value != "" {
		e.Unknown = []UnknownField{{'x', value}}
	}
	return e
}

func TestErrorRoundTrip(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		e := drawError(t)
		message := e.Append([]byte("before"))[len("before"):]
		if message[0] != 'E' {
			t.Fatalf("type %q", message[0])
		}
		got, err := ParseError(message[headerBytes:])
		if err != nil || !reflect.DeepEqual(got, e) {
			t.Fatalf("got %#v, %v\nwant %#v", got, err, e)
		}

		var peer pgproto3.ErrorResponse
		if err := peer.Decode(message[headerBytes:]); err != nil {
			t.Fatal(err)
		}
		again, err := peer.Encode(nil)
		if err != nil || !bytes.Equal(again, message) {
			t.Fatalf("pgproto3 made %q, %v\nof %q", again, err, message)
		}
	})
}

func TestErrorBytes(t *testing.T) {
	got := Errorf(FeatureNotSupported, "no %s", "way").WithDetail("D%d.", 1).WithHint("H.").WithPosition(7).Append(nil)
	want := "E\x00\x00\x00\x2eSERROR\x00VERROR\x00C0A000\x00Mno way\x00DD1.\x00HH.\x00P7\x00\x00"
	if string(got) != want {
		t.Errorf("got  %q\nwant %q", got, want)
	}
	if got := string((&Error{}).AppendNotice(nil)[headerBytes:]); got != "SNOTICE\x00VNOTICE\x00CXX000\x00M\x00\x00" {
		t.Errorf("empty notice: %q", got)
	}
	if got := string((&Error{Message: "a\x00Cevil"}).Append(nil)); !strings.Contains(got, "MaCevil\x00\x00") {
		t.Errorf("NUL in a message: %q", got)
	}
}

func TestErrorOfOldServer(t *testing.T) {
	e, err := ParseError([]byte("SFEHLER\x00C42601\x00Mx\x00Pmany\x00\x00"))
	if err != nil || e.Severity != "FEHLER" || e.LocalizedSeverity != "" || e.Position != 0 {
		t.Errorf("%#v, %v", e, err)
	}
	e, err = ParseError([]byte("SFEHLER\x00VERROR\x00C42601\x00Mx\x00\x00"))
	if err != nil || e.Severity != SeverityError || e.LocalizedSeverity != "FEHLER" {
		t.Errorf("%#v, %v", e, err)
	}
}

func TestParseErrorRefuses(t *testing.T) {
	for _, body := range []string{"", "S", "SERROR", "SERROR\x00", "SERROR\x00\x00x"} {
		if e, err := ParseError([]byte(body)); err == nil {
			t.Errorf("%q gave %#v", body, e)
		}
	}
}

func TestErrorValues(t *testing.T) {
	base := Errorf(LockNotAvailable, "m")
	changed := base.WithHint("h").WithDetail("d").WithPosition(3)
	if base.Hint != "" || base.Detail != "" || base.Position != 0 {
		t.Error("a With method changed its receiver")
	}
	wrapped := fmt.Errorf("somewhere: %w", changed)
	if AsError(wrapped) != changed || AsError(nil) != nil {
		t.Error("AsError lost the error")
	}
	if e := AsError(errors.New("x")); e.Code != InternalError || e.Message != "x" {
		t.Errorf("%v", e)
	}
	if got := base.Error(); got != "ERROR: m (SQLSTATE 55P03)" {
		t.Error(got)
	}
	if base.IsFatal() || !Fatalf(AdminShutdown, "m").IsFatal() || base.SQLState() != LockNotAvailable {
		t.Error("severity or code")
	}
	notice := Noticef(SeverityWarning, NoActiveTransaction, "there is no transaction in progress").AppendNotice(nil)
	if !bytes.HasPrefix(notice[headerBytes:], []byte("SWARNING\x00VWARNING\x00C25P01\x00")) || notice[0] != 'N' {
		t.Errorf("%q", notice)
	}
}

// TestConditionNames compares the catalogue with PostgreSQL's, where its list
// is installed.
func TestConditionNames(t *testing.T) {
	for code, name := range conditions {
		if len(code) != 5 || name == "" || ConditionName(code) != name {
			t.Errorf("%q %q", code, name)
		}
	}
	if ConditionName("99999") != "" {
		t.Error("a name for an unknown code")
	}
	lists, _ := filepath.Glob("/usr/share/postgresql/*/errcodes.txt")
	if len(lists) == 0 {
		t.Skip("PostgreSQL's errcodes.txt is not installed")
	}
	f, err := os.Open(lists[0])
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	known := map[string]bool{}
	for lines := bufio.NewScanner(f); lines.Scan(); {
		if w := strings.Fields(lines.Text()); len(w) == 4 {
			known[w[0]+" "+w[3]] = true
		}
	}
	for code, name := range conditions {
		if !known[code+" "+name] {
			t.Errorf("PostgreSQL has no %s %s", code, name)
		}
	}
}

func FuzzParseError(f *testing.F) {
	f.Add([]byte("SERROR\x00VERROR\x00C42601\x00Msyntax error\x00P5\x00xnew\x00\x00"))
	f.Add([]byte("SERROR\x00C42601"))
	f.Add([]byte{0})
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, body []byte) {
		e, err := ParseError(body)
		if err != nil {
			return
		}
		first := e.Append(nil)
		again, err := ParseError(first[headerBytes:])
		if err != nil || !bytes.Equal(again.Append(nil), first) {
			t.Errorf("%q became %q, %v", body, first, err)
		}
	})
}
