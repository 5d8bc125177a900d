package sqltext

import (
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"unicode/utf8"

	pg_query "github.com/pganalyze/pg_query_go/v6"
	"pgregory.net/rapid"
)

// pgValue gives the value that PostgreSQL's lexer makes of a literal, and false if it refuses it or makes
// something else of the text.
func pgValue(literal string) (string, bool) {
	tree, err := pg_query.Parse("SELECT " + literal)
	if err != nil || len(tree.Stmts) != 1 {
		return "", false
	}
	targets := tree.Stmts[0].GetStmt().GetSelectStmt().GetTargetList()
	if len(targets) != 1 {
		return "", false
	}
	value := targets[0].GetResTarget().GetVal()
	if cast := value.GetTypeCast(); cast != nil { // N'...'
		value = cast.GetArg()
	}
	switch c := value.GetAConst(); {
	case c == nil:
		return "", false
	case c.GetIval() != nil:
		return strconv.Itoa(int(c.GetIval().Ival)), true
	case c.GetFval() != nil:
		return c.GetFval().Fval, true
	case c.GetSval() != nil:
		return c.GetSval().Sval, true
	case c.GetBsval() != nil:
		return c.GetBsval().Bsval, true
	}
	return "", false
}

// compareValue holds the value of a text that is one literal against PostgreSQL's.
func compareValue(t fataler, text string) {
	t.Helper()
	if !utf8.ValidString(text) { // pg_query can't hand it out, and a server refuses it before its lexer
		return
	}
	tokens, joined, err := allTokens([]byte(text))
	if err != nil || joined || len(tokens) != 1 || tokens[0].Kind != LiteralToken {
		return
	}
	l := Literal{Kind: tokens[0].Literal, Start: tokens[0].Start, End: tokens[0].End}
	got, ok := l.AppendValue([]byte("before "), []byte(text))
	if !strings.HasPrefix(string(got), "before ") || !ok && len(got) != len("before ") {
		t.Fatalf("%q: AppendValue gives %q, %v", text, got, ok)
	}
	want, wantOK := pgValue(text)
	switch {
	case l.Kind == UnicodeString:
		if ok {
			t.Fatalf("%q: a value without knowing UESCAPE", text)
		}
		return
	case l.Kind == Integer:
		n, ok := l.Int64([]byte(text))
		if want, err := strconv.ParseInt(text[l.Start:l.End], 10, 64); !ok || err != nil || n != want {
			t.Fatalf("%q: Int64 gives %d, %v", text, n, ok)
		}
		return
	case l.Kind == Numeric:
		want, wantOK = text[l.Start:l.End], true
	}
	if ok != wantOK || ok && string(got[len("before "):]) != want {
		t.Fatalf("%q: value %q, %v, want %q, %v", text, got[len("before "):], ok, want, wantOK)
	}
}

func TestLiteralValues(t *testing.T) {
	for _, spellings := range literalSpellings {
		for _, spelling := range spellings {
			compareValue(t, spelling)
		}
	}
	for _, text := range []string{
		`E'\b\f\n\r\t\v\a\q\\\'\"'`, `E'\0'`, `E'\000'`, `E'\1\12\123\1234'`, `E'\777'`, `E'\8'`, `E'\x'`, `E'\x4'`,
		`E'\x41\x4142'`, `E'\xg'`, `E'\x00'`, `E'\xc3\xa9'`, `E'\303\251'`, `E'\xc3'`, `E'\xff'`, `E'\é'`, `E'\u0041'`,
		`E'\u00e9\U000000E9'`, `E'\u004'`, `E'\u'`, `E'\U0001F60'`, `E'\U0001F600'`, `E'\U00110000'`, `E'\u0000'`,
		`E'\ud83d\ude00'`, `E'\ud83d\U0000de00'`, `E'\U0000D83D\ude00'`, `E'\ud83d'`, `E'\ud83dx'`, `E'\ude00'`,
		`E'\ud83d\ud83d'`, `E'\ud83d\n'`, "E'\\ud83d'\n'\\ude00'", "E'a'\n\t'b\\n'\n'c'''", `E'a''b'`, `E'\X41'`, "E'\\\n'",
		"'a\\nb'", "'a'\n''", "''\n''\n'x'", "''''", "$$it's$$", "$a$ $b$ $$ $a$", "$$\n$$", "N'it''s'", "n'a'\n'b'",
		"B'01'", "X'fF'", "b'0'\n'1'", "B''", "'é'", "'\U0001F600'",
	} {
		compareValue(t, text)
	}
}

func TestLiteralValuesOfCorpus(t *testing.T) {
	for path, file := range corpus(t) {
		if !strings.HasPrefix(path, "testdata") {
			continue
		}
		t.Run(filepath.Base(path), func(t *testing.T) {
			tokens, _, err := allTokens([]byte(file))
			if err != nil {
				t.Fatal(err)
			}
			for _, tok := range tokens {
				if tok.Kind == LiteralToken {
					compareValue(t, file[tok.Start:tok.End])
				}
			}
		})
	}
}

func TestLiteralValuesOfRandomStrings(t *testing.T) {
	prefix := rapid.SampledFrom([]string{"'", "E'", "E'", "e'", "N'", "B'", "U&'"})
	piece := rapid.SampledFrom([]string{
		"a", "é", "''", `\\`, `\'`, `\n`, `\`, `\u`, `\U`, `\x`, `\1`, `\7`, "0", "1", "00e9", "d83d", `\ud83d`,
		`\ude00`, "0000", "c3", "a9", "'\n'", "' \t\r\n  '", "\n", "\x01", `\xc3\xa9`, `\303`, `\251`, "g", "8",
	})
	rapid.Check(t, func(t *rapid.T) {
		text := prefix.Draw(t, "prefix") + strings.Join(rapid.SliceOfN(piece, 0, 8).Draw(t, "pieces"), "") + "'"
		compareValue(t, text)
	})
}

func FuzzLiteralValue(f *testing.F) {
	for _, spellings := range literalSpellings {
		for _, spelling := range spellings {
			f.Add(spelling)
		}
	}
	f.Fuzz(func(t *testing.T, text string) {
		if strings.IndexByte(text, 0) < 0 {
			compareValue(t, text)
		}
	})
}
