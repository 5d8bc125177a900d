package sqltext

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	pg_query "github.com/pganalyze/pg_query_go/v6"
	"pgregory.net/rapid"
)

// The tests of this file hold the lexer against PostgreSQL's own, which pg_query.Scan runs.

// pgTokens gives the tokens of PostgreSQL's lexer in this package's terms, and its error.
func pgTokens(text string) ([]Token, error) {
	result, err := pg_query.Scan(text)
	if err != nil {
		return nil, err
	}
	var tokens []Token
	for _, t := range result.Tokens {
		tok := Token{Start: t.Start, End: t.End}
		spelled := text[t.Start:t.End]
		switch t.Token {
		case pg_query.Token_SQL_COMMENT, pg_query.Token_C_COMMENT:
			continue
		case pg_query.Token_ICONST, pg_query.Token_FCONST:
			tok.Kind, tok.Literal = LiteralToken, Numeric
			if len(spelled) <= 18 && strings.Trim(spelled, "0123456789") == "" {
				tok.Literal = Integer
			}
		case pg_query.Token_SCONST:
			tok.Kind, tok.Literal = LiteralToken, String
			switch spelled[0] {
			case 'e', 'E':
				tok.Literal = EscapeString
			case '$':
				tok.Literal = DollarString
			}
			// PostgreSQL makes of n'x' the keyword NCHAR and a string.
			if n := len(tokens) - 1; n >= 0 && spelled[0] == '\'' && tokens[n].End == tok.Start &&
				strings.EqualFold(text[tokens[n].Start:tokens[n].End], "n") {
				tok.Literal, tok.Start = NationalString, tokens[n].Start
				tokens = tokens[:n]
			}
		case pg_query.Token_USCONST:
			tok.Kind, tok.Literal = LiteralToken, UnicodeString
		case pg_query.Token_BCONST, pg_query.Token_XCONST:
			tok.Kind, tok.Literal = LiteralToken, BitString
		case pg_query.Token_PARAM:
			tok.Kind = Param
		case pg_query.Token_UIDENT:
			tok.Kind = QuotedIdentifier
		case pg_query.Token_TYPECAST, pg_query.Token_DOT_DOT, pg_query.Token_COLON_EQUALS:
			tok.Kind = Punctuation
		case pg_query.Token_Op, pg_query.Token_NOT_EQUALS, pg_query.Token_LESS_EQUALS,
			pg_query.Token_GREATER_EQUALS, pg_query.Token_EQUALS_GREATER:
			tok.Kind = Operator
		default:
			switch {
			case t.Token == pg_query.Token_IDENT && spelled[0] == '"':
				tok.Kind = QuotedIdentifier
			case t.Token == pg_query.Token_IDENT || t.KeywordKind != pg_query.KeywordKind_NO_KEYWORD:
				tok.Kind = Identifier
			case strings.Contains(",()[];.:", spelled):
				tok.Kind = Punctuation
			case strings.Contains("+-*/%^<>=", spelled):
				tok.Kind = Operator
			default:
				tok.Kind = Other
			}
		}
		tokens = append(tokens, tok)
	}
	return tokens, nil
}

func allTokens(text []byte) (list []Token, joined bool, err error) {
	tokens := NewTokens(text)
	for {
		tok, ok := tokens.Next()
		if !ok {
			return list, tokens.joined, tokens.Err()
		}
		list = append(list, tok)
	}
}

// errorIsPostgresAlone says whether an error of PostgreSQL's lexer is about what this one leaves to the
// parser: the content of tokens whose ends are known.
func errorIsPostgresAlone(err error) bool {
	for _, message := range []string{
		"invalid Unicode", "invalid byte sequence", "zero-length delimited identifier", "operator too long",
		"unsafe use of", "conversion between",
	} {
		if strings.Contains(err.Error(), message) {
			return true
		}
	}
	return false
}

type fataler interface {
	Helper()
	Fatalf(format string, args ...any)
}

// compareWithPostgres fails unless both lexers see the same tokens at the same offsets, or both see an
// error.
func compareWithPostgres(t fataler, text string) {
	t.Helper()
	if strings.IndexByte(text, 0) >= 0 { // ends the text for PostgreSQL
		return
	}
	want, wantErr := pgTokens(text)
	got, joined, err := allTokens([]byte(text))
	if joined { // a server reads it as this package does; TestStringJoinedAcrossComment
		return
	}
	if wantErr != nil {
		if err == nil && !errorIsPostgresAlone(wantErr) {
			t.Fatalf("PostgreSQL refuses %q: %v", text, wantErr)
		}
		return
	}
	if err != nil {
		t.Fatalf("%q: %v, but PostgreSQL reads it", text, err)
	}
	if len(got) != len(want) {
		t.Fatalf("%q: %d tokens, want %d\n got %v\nwant %v", text, len(got), len(want), got, want)
	}
	for i := range got {
		if got[i] != want[i] {
			t.Fatalf("%q: token %d is %+v %q, want %+v %q", text, i,
				got[i], text[got[i].Start:got[i].End], want[i], text[want[i].Start:want[i].End])
		}
	}
}

// corpus is every statement file of testdata and every SQL file of a PostgreSQL that is installed here,
// by name.
func corpus(t testing.TB) map[string]string {
	t.Helper()
	texts := map[string]string{}
	for _, pattern := range []string{
		"testdata/*.sql",
		"/usr/share/postgresql/*/*.sql",
		"/usr/share/postgresql/*/extension/*.sql",
	} {
		paths, err := filepath.Glob(pattern)
		if err != nil {
			t.Fatal(err)
		}
		for _, path := range paths {
			text, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			texts[path] = string(text)
		}
	}
	return texts
}

// statements splits a file of testdata, whose statements are separated by empty lines.
func statements(text string) []string {
	return strings.Split(strings.TrimSuffix(text, "\n"), "\n\n")
}

func TestTokensOfCorpus(t *testing.T) {
	for path, text := range corpus(t) {
		t.Run(filepath.Base(path), func(t *testing.T) {
			compareWithPostgres(t, text)
			for _, statement := range statements(text) {
				compareWithPostgres(t, statement)
			}
		})
	}
}

// TestTokensOfPieces compares all texts of up to three pieces, which meet at every joint that the rules
// of scan.l speak of.
func TestTokensOfPieces(t *testing.T) {
	pieces := lexicalPieces
	for _, a := range pieces {
		for _, b := range pieces {
			compareWithPostgres(t, a+b)
		}
	}
}

// lexicalPieces are what random texts are made of.
var lexicalPieces = []string{
	" ", "\n", "\t", "\v", "\r", "--", "-- c\n", "--'\n", "/*", "*/", "/* c */", "/*/**/*/", "//", "**",
	"'", "''", "'a'", "'a\\'", `\`, `\'`, `\\`, "E'", "e'a\\'b'", "E'\\u0041'", "b'", "B'01'", "x'", "X'1F'",
	"n'", "N'a'", "U&", "U&'", "u&'d\\0061'", `U&"`, `u&"a"`, `"`, `""`, `"a""b"`, "uescape", "UESCAPE '!'",
	"$", "$$", "$$a$$", "$a$", "$a$ $$ $a$", "$1", "$12", "$a", "$é$", "_", "a", "A1", "e", "E", "x", "b", "n", "u", "é",
	"a$b", "select", "0", "1", "12", "123456789012345678", "1234567890123456789", "1.", ".5", "1.5", "1..2", "1e5",
	"1e", "e+", "1E-3", "1_0", "1__0", "_1", "0x1F", "0x", "0X_f", "0o7", "0o8", "0b1", "0b2", ".", "..", ":", "::",
	":=", "=>", "<=", "<>", "!=", "+", "-", "*", "/", "%", "^", "@", "#", "~", "|", "&", "?", "!", "=", "<", ">",
	"@-", "+-", "->>", ",", "(", ")", "[", "]", ";", "{", "}", "\x01", "\x7f", "\xff",
}

func drawText(t *rapid.T, label string) string {
	return strings.Join(rapid.SliceOfN(rapid.SampledFrom(lexicalPieces), 0, 12).Draw(t, label), "")
}

// TestStringJoinedAcrossComment holds what a server does: SELECT 'a' -- c, a line break and 'b' give ab.
// The comment of pg_query's lexer, which hands out comments as tokens, ends the string.
func TestStringJoinedAcrossComment(t *testing.T) {
	text := []byte("select 'a' -- c '\n \t-- d\n'b' -- e\n, E'a' --\n'\\'' /* f */ 'g'")
	var s Scanner
	key, lits, err := s.Normalize(text)
	if want := "select \x03 -- e\n, \x04 /* f */ \x03"; err != nil || string(key) != want {
		t.Fatalf("key %q, %v, want %q", key, err, want)
	}
	for i, want := range []string{"ab", "a'", "g"} {
		if value, ok := lits[i].AppendValue(nil, text); !ok || string(value) != want {
			t.Errorf("literal %d is %q, %v, want %q", i, value, ok, want)
		}
	}
	for _, text := range []string{string(text), "DO E'a' --\n'\\'; SELECT 1 --'"} {
		if err := Guard([]byte(text), GuardLimits{}); err != ErrJoinedString {
			t.Errorf("Guard of %q gives %v", text, err)
		}
	}
}

func TestTokensOfRandomTexts(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) { compareWithPostgres(t, drawText(t, "text")) })
}

func FuzzTokens(f *testing.F) {
	for _, text := range corpus(f) {
		for _, statement := range statements(text) {
			if len(statement) < 2000 {
				f.Add(statement)
			}
		}
	}
	f.Fuzz(func(t *testing.T, text string) { compareWithPostgres(t, text) })
}

func TestSkipToClose(t *testing.T) {
	text := []byte("VALUES (1, f(')', a[2]), \")\" /* ) */), (3)")
	tokens := NewTokens(text)
	for {
		tok, ok := tokens.Next()
		if !ok {
			t.Fatal("no parenthesis")
		}
		if tok.Is(text, '(') {
			break
		}
	}
	closing, ok := tokens.SkipToClose()
	if want := strings.Index(string(text), "), (3"); !ok || int(closing.Start) != want {
		t.Errorf("closed at %v, %v, want %d", closing, ok, want)
	}
	if next, ok := tokens.Next(); !ok || !next.Is(text, ',') {
		t.Errorf("then %v, %v", next, ok)
	}
	rest := NewTokensAt(text, int(closing.End))
	if next, ok := rest.Next(); !ok || !next.Is(text, ',') {
		t.Errorf("from there %v, %v", next, ok)
	}
	if _, ok := rest.SkipToClose(); ok {
		t.Error("closed beyond the end")
	}
}

func ExampleTokens() {
	text := []byte("VALUES (1, 'it''s'), ($2::int)")
	tokens := NewTokens(text)
	for {
		tok, ok := tokens.Next()
		if !ok {
			break
		}
		fmt.Printf("%s ", text[tok.Start:tok.End])
	}
	// Output: VALUES ( 1 , 'it''s' ) , ( $2 :: int )
}
