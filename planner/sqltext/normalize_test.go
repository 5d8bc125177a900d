package sqltext

import (
	"bytes"
	"path/filepath"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

// readable spells a key with a word for each marker.
func readable(key []byte) string {
	var b strings.Builder
	for _, c := range key {
		if c >= byte(Integer) && c <= maxMarker {
			b.WriteString([]string{"<int>", "<num>", "<str>", "<esc>", "<uni>", "<bit>", "<dol>", "<nat>"}[c-1])
		} else {
			b.WriteByte(c)
		}
	}
	return b.String()
}

func TestNormalize(t *testing.T) {
	for _, test := range []struct{ text, key string }{
		{"", ""},
		{"SELECT abalance FROM pgbench_accounts WHERE aid = 4711;", "SELECT abalance FROM pgbench_accounts WHERE aid = <int>;"},
		{"select -1, a-1, a - -1", "select -<int>, a-<int>, a - -<int>"},
		{"a--1\n+2", "a--1\n+<int>"},
		{"a+--1\n2", "a+--1\n<int>"},
		{"a*/*1 /* 2 */ 'x*/3", "a*/*1 /* 2 */ 'x*/<int>"},
		{"$1 $2::int $$x$$ a$1 $t$ $$ 'x $t$", "$1 $2::int <dol> a$1 <dol>"},
		{"1$1 1$$x$$", "<int>$1 <int><dol>"},
		{"1.5 .5 1. 1..2 1e5 1E-5 0x1F 0o7 0b1 1_000", "<num> <num> <num> <int>..<int> <num> <num> <num> <num> <num> <num>"},
		{"123456789012345678 1234567890123456789 007", "<int> <num> <int>"},
		{"'' '''' 'it''s' E'\\'' e'\\\\' B'01' x'1f' N'x' U&'\\0061'", "<str> <str> <str> <esc> <esc> <bit> <bit> <nat> <uni>"},
		{"'a'\n  'b' 'c'", "<str> <str>"},
		{"E'a'\n'\\''", "<esc>"},
		{"'a' /* */\n'b'", "<str> /* */\n<str>"},
		{`"a 1 ""2'" U&"1 \0061" "x"`, `"a 1 ""2'" U&"1 \0061" "x"`},
		{`select U&"d!0061t" uescape '!', 'x'`, `select U&"d!0061t" uescape '!', <str>`},
		{`U&'a' UESCAPE /* c */ '?' 'x'`, `<uni> UESCAPE /* c */ '?' <str>`},
		{"tab1 é2 _3 t$4 b4'5' bb'6'", "tab1 é2 _3 t$4 b4<str> bb<str>"},
		{"a.1b", ""},
		{"\"'\" '\"'", "\"'\" <str>"},
		{"{1} \\ 2 $ 3", "{<int>} \\ <int> $ <int>"},
		{"'\x01\x08'", "<str>"},
	} {
		var s Scanner
		key, _, err := s.Normalize([]byte(test.text))
		if err != nil && test.key != "" || readable(key) != test.key {
			t.Errorf("%q: key %q, %v, want %q", test.text, readable(key), err, test.key)
		}
	}
}

func TestNormalizeRefuses(t *testing.T) {
	for text, want := range map[string]error{
		"select 'a":              ErrUnterminated,
		"select 'a''":            ErrUnterminated,
		"select 'a'\n'b":         ErrUnterminated,
		"select E'a\\'":          ErrUnterminated,
		"select E'a\\":           ErrUnterminated,
		"select E'":              ErrUnterminated,
		`select "a""`:            ErrUnterminated,
		`select U&"a`:            ErrUnterminated,
		"select U&'a":            ErrUnterminated,
		"select B'1":             ErrUnterminated,
		"select /* /* */":        ErrUnterminated,
		"select /*/":             ErrUnterminated,
		"select 1 +/*":           ErrUnterminated,
		"select $$ $":            ErrUnterminated,
		"select $a$ $A$":         ErrUnterminated,
		"select 123abc":          ErrNumber,
		"select 1e":              ErrNumber,
		"select 1e+":             ErrNumber,
		"select 1_":              ErrNumber,
		"select 1__0":            ErrNumber,
		"select 1.5x":            ErrNumber,
		"select 0x":              ErrNumber,
		"select 0o8":             ErrNumber,
		"select 0b12":            ErrNumber,
		"select 1é":              ErrNumber,
		"select 1e5$1":           ErrNumber,
		"select \x01":            ErrMarkerByte,
		"select \"\x08\"":        ErrMarkerByte,
		"select /* \x02 */ 1":    ErrMarkerByte,
		"select -- \x03\n1":      ErrMarkerByte,
		"select 'a\x00b'":        ErrMarkerByte,
		"select 'a' uescape\x00": ErrMarkerByte,
	} {
		var s Scanner
		if key, lits, err := s.Normalize([]byte(text)); err != want || key != nil || lits != nil {
			t.Errorf("%q: %q, %v, %v, want %v", text, key, lits, err, want)
		}
	}
}

// checkKey holds what a key and its literals promise: with the literals in place of their markers, the
// key is the text.
func checkKey(t fataler, text, key []byte, lits []Literal) {
	t.Helper()
	var rebuilt []byte
	n := 0
	for _, c := range key {
		if c > maxMarker {
			rebuilt = append(rebuilt, c)
			continue
		}
		if n == len(lits) || byte(lits[n].Kind) != c || int(lits[n].Start) != len(rebuilt) {
			t.Fatalf("%q: marker %d of key %q is not literal %d of %v", text, c, key, n, lits)
		}
		rebuilt = append(rebuilt, text[lits[n].Start:lits[n].End]...)
		n++
	}
	if n != len(lits) || !bytes.Equal(rebuilt, text) {
		t.Fatalf("%q: key %q and literals %v give %q", text, key, lits, rebuilt)
	}
}

func TestNormalizeCorpus(t *testing.T) {
	var s Scanner
	for path, file := range corpus(t) {
		texts := []string{file}
		if strings.HasPrefix(path, "testdata") {
			texts = append(texts, statements(file)...)
		}
		for _, statement := range texts {
			text := []byte(statement)
			key, lits, err := s.Normalize(text)
			if err != nil {
				t.Errorf("%s: %.200q: %v", filepath.Base(path), text, err)
				continue
			}
			checkKey(t, text, key, lits)
		}
	}
}

// literalSpellings are literals of each kind that can stand between blanks.
var literalSpellings = map[LiteralKind][]string{
	Integer:        {"0", "1", "42", "007", "2147483648", "999999999999999999"},
	Numeric:        {"1.5", ".5", "1.", "1e5", "1E-10", "1234567890123456789", "0x1F", "0b01", "0o17", "1_000"},
	String:         {"''", "'a'", "'it''s'", "'a\\'", "'--'", "'/*'", "'$$'", "'\x01'", "'a'\n'b'", "'\"'", "'é'"},
	EscapeString:   {"E''", "e'\\''", "E'\\\\'", "E'a''b'", "E'\\u0041\\n'", "E'a'\n 'b\\''"},
	UnicodeString:  {"U&''", "u&'\\0061'", "U&'a''b'"},
	BitString:      {"B'01'", "x'1F'", "b''", "X'0'\n'1'"},
	DollarString:   {"$$$$", "$$a$$", "$a$ $$ ' $a$", "$_é1$--$_é1$"},
	NationalString: {"N'a'", "n'it''s'"},
}

func drawLiteral(t *rapid.T, label string) (LiteralKind, string) {
	kind := LiteralKind(rapid.IntRange(int(Integer), int(NationalString)).Draw(t, label+" kind"))
	return kind, rapid.SampledFrom(literalSpellings[kind]).Draw(t, label)
}

// TestKeysOfTemplate puts two sets of literals into one statement: the keys are equal exactly if the
// kinds are, and an anchor taken in one text finds its place in the other.
func TestKeysOfTemplate(t *testing.T) {
	gap := rapid.SampledFrom([]string{" = ", ", (", ") AND \"x 1\" IN (", " -- 'c'\n + ", " /* 1 */ :: t1 || -", " $1 @- "})
	rapid.Check(t, func(t *rapid.T) {
		gaps := rapid.SliceOfN(gap, 1, 8).Draw(t, "gaps")
		texts := [2]string{"SELECT a1", "SELECT a1"}
		var places [2][]int // where the gaps begin
		sameKinds := true
		for i, g := range gaps {
			for n := range texts {
				places[n] = append(places[n], len(texts[n]))
				texts[n] += g
			}
			if i == len(gaps)-1 {
				break
			}
			kindA, a := drawLiteral(t, "a")
			kindB, b := drawLiteral(t, "b")
			sameKinds = sameKinds && kindA == kindB
			texts[0] += a
			texts[1] += b
		}
		var scanners [2]Scanner
		var keys [2][]byte
		var lits [2][]Literal
		for n, text := range texts {
			var err error
			if keys[n], lits[n], err = scanners[n].Normalize([]byte(text)); err != nil {
				t.Fatalf("%q: %v", text, err)
			}
			checkKey(t, []byte(text), keys[n], lits[n])
			if len(lits[n]) != len(gaps)-1 {
				t.Fatalf("%q: literals %v, want %d", text, lits[n], len(gaps)-1)
			}
		}
		if bytes.Equal(keys[0], keys[1]) != sameKinds {
			t.Fatalf("%q and %q: keys %q and %q", texts[0], texts[1], keys[0], keys[1])
		}
		if !sameKinds {
			return
		}
		for i, g := range gaps {
			for d := range len(g) + 1 {
				if i < len(gaps)-1 && d == len(g) {
					break // inside the literal
				}
				anchor := AnchorOf(places[0][i]+d, lits[0])
				if got := anchor.Offset(lits[0]); got != places[0][i]+d {
					t.Fatalf("%q: anchor %v of %d gives %d", texts[0], anchor, places[0][i]+d, got)
				}
				if got := anchor.Offset(lits[1]); got != places[1][i]+d {
					t.Fatalf("%q: anchor %v gives %d, want %d", texts[1], anchor, got, places[1][i]+d)
				}
			}
		}
	})
}

// TestKeysTellTextsApart draws texts that are alike: those with one key must have the same tokens, with
// the same spelling but for literals.
func TestKeysTellTextsApart(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		pieces := rapid.SliceOfN(rapid.SampledFrom(lexicalPieces), 1, 10).Draw(t, "a")
		a := strings.Join(pieces, "")
		pieces[rapid.IntRange(0, len(pieces)-1).Draw(t, "at")] = rapid.SampledFrom(lexicalPieces).Draw(t, "piece")
		b := strings.Join(pieces, "")
		checkSameKey(t, []byte(a), []byte(b))
	})
}

func checkSameKey(t fataler, a, b []byte) {
	t.Helper()
	var scannerA, scannerB Scanner
	keyA, _, errA := scannerA.Normalize(a)
	keyB, _, errB := scannerB.Normalize(b)
	if errA != nil || errB != nil || !bytes.Equal(keyA, keyB) {
		return
	}
	tokensA, _, _ := allTokens(a)
	tokensB, _, _ := allTokens(b)
	if len(tokensA) != len(tokensB) {
		t.Fatalf("%q and %q have the key %q", a, b, keyA)
	}
	for i, x := range tokensA {
		y := tokensB[i]
		if x.Kind != y.Kind || x.Literal != y.Literal || x.Kind != LiteralToken &&
			!bytes.Equal(a[x.Start:x.End], b[y.Start:y.End]) {
			t.Fatalf("%q and %q have the key %q", a, b, keyA)
		}
	}
}

func TestScannerIsReusable(t *testing.T) {
	var s Scanner
	big := insertRows(20_000)
	if _, lits, err := s.Normalize(big); err != nil || len(lits) != 80_000 {
		t.Fatalf("%d literals, %v", len(lits), err)
	}
	if _, _, err := s.Normalize([]byte("SELECT 'x")); err != ErrUnterminated {
		t.Fatal(err)
	}
	key, lits, err := s.Normalize([]byte("SELECT 1"))
	if err != nil || string(key) != "SELECT \x01" || len(lits) != 1 {
		t.Fatalf("%q, %v, %v", key, lits, err)
	}
	if cap(s.key) > keptKeyBytes || cap(s.lits) > keptLiterals {
		t.Errorf("the scanner keeps %d bytes and %d literals", cap(s.key), cap(s.lits))
	}
}

func TestNormalizeDoesNotAllocate(t *testing.T) {
	var s Scanner
	texts := [][]byte{insertRows(100), []byte("SELECT 'open"), []byte("SELECT 1a"), []byte("\x01")}
	for _, statement := range pgbenchStatements {
		texts = append(texts, []byte(statement.text))
	}
	var params []ParamRef
	allocations := testing.AllocsPerRun(100, func() {
		for _, text := range texts {
			_, _, _ = s.Normalize(text)
			params, _ = Params(params[:0], text)
			_ = Guard(text, GuardLimits{})
		}
	})
	if allocations > 0 {
		t.Errorf("%v allocations a run", allocations)
	}
}

func TestParams(t *testing.T) {
	text := []byte("SELECT $1, '$2', a$3, $4::int, $$ $5 $$, \"$6\" /* $7 */, $1, $99999999999 -- $8")
	params, err := Params(nil, text)
	if err != nil {
		t.Fatal(err)
	}
	want := []ParamRef{{1, 7, 9}, {4, 22, 24}, {1, 56, 58}, {1<<31 - 1, 60, 72}}
	if len(params) != len(want) {
		t.Fatalf("%v, want %v", params, want)
	}
	for i := range want {
		if params[i] != want[i] {
			t.Errorf("%v, want %v", params[i], want[i])
		}
	}
	if _, err := Params(nil, []byte("SELECT $1, 'x")); err != ErrUnterminated {
		t.Error(err)
	}
}

func FuzzNormalize(f *testing.F) {
	for _, text := range corpus(f) {
		for _, statement := range statements(text) {
			if len(statement) < 2000 {
				f.Add([]byte(statement), []byte(strings.ReplaceAll(statement, "1", "'a'")))
			}
		}
	}
	f.Fuzz(func(t *testing.T, a, b []byte) {
		var s Scanner
		key, lits, err := s.Normalize(a)
		if err != nil {
			return
		}
		checkKey(t, a, key, lits)
		for _, l := range lits {
			l.AppendValue(nil, a)
			l.Int64(a)
		}
		checkSameKey(t, a, b)
	})
}
