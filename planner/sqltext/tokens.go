package sqltext

import (
	"bytes"
	"errors"
	"math"
)

// Why a text has no tokens or no key. The values are fixed, so that returning one costs nothing.
var (
	ErrUnterminated = errors.New("unterminated string, identifier or comment")
	ErrNumber       = errors.New("malformed number or trailing junk after it")
	ErrMarkerByte   = errors.New("a control byte 0x01 to 0x08 outside literals, or a NUL")
	ErrTooLong      = errors.New("statement text too long")
)

// TokenKind says what a token is.
type TokenKind uint8

const (
	Identifier       TokenKind = iota + 1 // also every keyword
	QuotedIdentifier                      // "..." and U&"..."
	LiteralToken                          // Token.Literal says which
	Param                                 // $1; Token.ParamNumber says which
	Operator                              // also the single characters + - * / % ^ < > =, and =>
	Punctuation                           // , ( ) [ ] ; . .. : :: :=
	Other                                 // a byte that begins no token of SQL, such as { or a lone $
)

// Token is one token of a text; Start and End are byte offsets, End that of the byte after it.
type Token struct {
	Start, End int32
	Kind       TokenKind
	Literal    LiteralKind // set exactly if Kind is LiteralToken
}

// ParamNumber gives n of the parameter $n; numbers beyond an int32 give math.MaxInt32.
func (t Token) ParamNumber(text []byte) int32 {
	n := int64(0)
	for _, c := range text[t.Start+1 : t.End] {
		n = n*10 + int64(c-'0')
		if n > math.MaxInt32 {
			return math.MaxInt32
		}
	}
	return int32(n)
}

// Is says whether the token is exactly the byte c, as in tok.Is(text, '(').
func (t Token) Is(text []byte, c byte) bool {
	return t.End-t.Start == 1 && text[t.Start] == c
}

// IsKeyword says whether the token is an unquoted identifier that spells lower in any case.
func (t Token) IsKeyword(text []byte, lower string) bool {
	return t.Kind == Identifier && foldEqual(text[t.Start:t.End], lower)
}

// Tokens walks over the tokens of a text. White space and comments are skipped. It is a value without
// buffers of its own: copy it to look ahead.
type Tokens struct {
	text   []byte
	pos    int
	err    error
	marker bool // a byte 0x00 to 0x08 was met outside literals
	joined bool // a string was continued across a comment, which pg_query's lexer does not follow
}

// NewTokens begins at the start of text, which it keeps but does not change.
func NewTokens(text []byte) Tokens { return NewTokensAt(text, 0) }

// NewTokensAt begins at offset, which must be where a token, white space or a comment begins.
func NewTokensAt(text []byte, offset int) Tokens {
	if len(text) > math.MaxInt32 {
		return Tokens{err: ErrTooLong}
	}
	return Tokens{text: text, pos: offset}
}

// Err gives why Next returned false: nil at the end of the text, else ErrUnterminated, ErrNumber or
// ErrTooLong.
func (t *Tokens) Err() error { return t.err }

// Next gives the next token, and false at the end of the text or at an error; it stays false then.
func (t *Tokens) Next() (Token, bool) {
	text, i := t.text, t.pos
	for uint(i) < uint(len(text)) {
		switch classes[text[i]] {
		case classSpace:
			i++
		case classIdent:
			return t.identifier(i)
		case classPunct:
			return t.token(Punctuation, i, i+1)
		case classDigit:
			return t.number(i)
		case classOp:
			if end, ok := t.skipComment(i); ok {
				if t.err != nil {
					return Token{}, false
				}
				i = end
				continue
			}
			return t.token(Operator, i, operatorEnd(text, i))
		case classQuote:
			return t.quoted(String, i, i)
		case classDot:
			switch {
			case i+1 < len(text) && text[i+1] == '.':
				return t.token(Punctuation, i, i+2)
			case i+1 < len(text) && isDigit(text[i+1]):
				return t.number(i)
			}
			return t.token(Punctuation, i, i+1)
		case classColon:
			if i+1 < len(text) && (text[i+1] == ':' || text[i+1] == '=') {
				return t.token(Punctuation, i, i+2)
			}
			return t.token(Punctuation, i, i+1)
		case classDollar:
			return t.dollar(i)
		case classDouble:
			return t.quotedIdentifier(i, i)
		case classMarker:
			t.marker = true
			return t.token(Other, i, i+1)
		default:
			return t.token(Other, i, i+1)
		}
	}
	t.pos = len(text)
	return Token{}, false
}

// SkipToClose gives the parenthesis or bracket that closes the one that Next gave last, and goes on behind
// it. It is false where the text ends before.
func (t *Tokens) SkipToClose() (Token, bool) {
	for depth := 1; ; {
		tok, ok := t.Next()
		if !ok {
			return Token{}, false
		}
		if tok.Kind != Punctuation {
			continue
		}
		switch t.text[tok.Start] {
		case '(', '[':
			depth++
		case ')', ']':
			if depth--; depth == 0 {
				return tok, true
			}
		}
	}
}

func (t *Tokens) token(kind TokenKind, start, end int) (Token, bool) {
	t.pos = end
	return Token{Start: int32(start), End: int32(end), Kind: kind}, true
}

func (t *Tokens) literal(kind LiteralKind, start, end int) (Token, bool) {
	t.pos = end
	return Token{Start: int32(start), End: int32(end), Kind: LiteralToken, Literal: kind}, true
}

func (t *Tokens) fail(err error) (Token, bool) {
	t.pos, t.err = len(t.text), err
	return Token{}, false
}

// identifier reads an identifier or keyword at i, or what its first letter makes of a quote after it.
func (t *Tokens) identifier(i int) (Token, bool) {
	text := t.text
	j := i + 1
	for j < len(text) && isIdentCont(text[j]) {
		j++
	}
	if j != i+1 || j == len(text) {
		return t.token(Identifier, i, j)
	}
	switch text[j] {
	case '\'':
		switch text[i] | 0x20 {
		case 'e':
			return t.escapeString(i)
		case 'b', 'x':
			return t.quoted(BitString, i, j)
		case 'n':
			return t.quoted(NationalString, i, j)
		}
	case '&':
		if text[i]|0x20 == 'u' && j+1 < len(text) {
			switch text[j+1] {
			case '\'':
				return t.quoted(UnicodeString, i, j+1)
			case '"':
				return t.quotedIdentifier(i, j+1)
			}
		}
	}
	return t.token(Identifier, i, j)
}

// quotedIdentifier reads an identifier that begins at start and whose opening quote is at quote.
func (t *Tokens) quotedIdentifier(start, quote int) (Token, bool) {
	text := t.text
	for j := quote + 1; j < len(text); j++ {
		switch c := text[j]; {
		case c == '"':
			if j+1 == len(text) || text[j+1] != '"' {
				return t.token(QuotedIdentifier, start, j+1)
			}
			j++
		case c <= maxMarker:
			t.marker = true
		}
	}
	return t.fail(ErrUnterminated)
}

// quoted reads a string without backslash escapes, which begins at start and whose opening quote is at
// quote. Two quotes in it stand for one, except in bit strings, which end at the first.
func (t *Tokens) quoted(kind LiteralKind, start, quote int) (Token, bool) {
	text := t.text
	j := quote + 1
	for {
		n := bytes.IndexByte(text[j:], '\'')
		if n < 0 {
			return t.fail(ErrUnterminated)
		}
		j += n + 1
		if j < len(text) && text[j] == '\'' && kind != BitString {
			j++
			continue
		}
		next := t.continuation(j)
		if next < 0 {
			return t.literal(kind, start, j)
		}
		j = next
	}
}

// escapeString reads the E'...' at i, where a backslash takes the next byte with it.
func (t *Tokens) escapeString(i int) (Token, bool) {
	text := t.text
	for j := i + 2; j < len(text); {
		switch text[j] {
		case '\\':
			j += 2
		case '\'':
			j++
			if j < len(text) && text[j] == '\'' {
				j++
				continue
			}
			next := t.continuation(j)
			if next < 0 {
				return t.literal(EscapeString, i, j)
			}
			j = next
		default:
			j++
		}
	}
	return t.fail(ErrUnterminated)
}

// continuation is the function of that name, and notes comments in the continuation.
func (t *Tokens) continuation(i int) int {
	next, comment := continuation(t.text, i)
	if next >= 0 && comment {
		t.joined = true
	}
	return next
}

// continuation looks behind the closing quote of a string, at i, for one that continues it: white space
// with a line break in it (-- comments count as white space), then a quote. It gives the offset behind
// that quote, or -1, and whether there was a comment.
func continuation(text []byte, i int) (next int, comment bool) {
	newline := false
	for i < len(text) {
		switch text[i] {
		case '\n', '\r':
			newline = true
			i++
		case ' ', '\t', '\f', '\v':
			i++
		case '-':
			if i+1 == len(text) || text[i+1] != '-' {
				return -1, comment
			}
			comment = true
			i = lineEnd(text, i+2)
		case '\'':
			if newline {
				return i + 1, comment
			}
			return -1, comment
		default:
			return -1, comment
		}
	}
	return -1, comment
}

// lineEnd gives the offset of the first line break at or after i, or the text's length.
func lineEnd(text []byte, i int) int {
	for i < len(text) && text[i] != '\n' && text[i] != '\r' {
		i++
	}
	return i
}

// skipComment gives the end of the comment that begins at i, if one does. In an unterminated one it sets
// the error.
func (t *Tokens) skipComment(i int) (end int, ok bool) {
	text := t.text
	if i+1 >= len(text) {
		return 0, false
	}
	switch {
	case text[i] == '-' && text[i+1] == '-':
		for i += 2; i < len(text) && text[i] != '\n' && text[i] != '\r'; i++ {
			if text[i] <= maxMarker {
				t.marker = true
			}
		}
		return i, true
	case text[i] == '/' && text[i+1] == '*':
		return t.skipBlockComment(i + 2), true
	}
	return 0, false
}

func (t *Tokens) skipBlockComment(i int) int {
	text := t.text
	for depth := 1; i < len(text); i++ {
		switch c := text[i]; {
		case c == '/' && i+1 < len(text) && text[i+1] == '*':
			depth++
			i++
		case c == '*' && i+1 < len(text) && text[i+1] == '/':
			depth--
			i++
			if depth == 0 {
				return i + 1
			}
		case c <= maxMarker:
			t.marker = true
		}
	}
	t.fail(ErrUnterminated)
	return i
}

// operatorEnd gives the end of the operator at i, which no comment begins at. A comment ends an operator,
// and + and - end one only if it has a byte that operators of the SQL standard don't have.
func operatorEnd(text []byte, i int) int {
	j := i + 1
	for j < len(text) && classes[text[j]] == classOp {
		if c := text[j]; j+1 < len(text) && (c == '-' && text[j+1] == '-' || c == '/' && text[j+1] == '*') {
			break
		}
		j++
	}
	if j == i+1 || text[j-1] != '+' && text[j-1] != '-' {
		return j
	}
	for _, c := range text[i : j-1] {
		switch c {
		case '~', '!', '@', '#', '^', '&', '|', '`', '?', '%':
			return j
		}
	}
	for j > i+1 && (text[j-1] == '+' || text[j-1] == '-') {
		j--
	}
	return j
}

// dollar reads a parameter or a dollar-quoted string at i, or the lone $.
func (t *Tokens) dollar(i int) (Token, bool) {
	text := t.text
	j := i + 1
	if j < len(text) && isDigit(text[j]) {
		for j < len(text) && isDigit(text[j]) {
			j++
		}
		return t.token(Param, i, j)
	}
	if j < len(text) && isIdentStart(text[j]) {
		for j < len(text) && isTagCont(text[j]) {
			j++
		}
	}
	if j == len(text) || text[j] != '$' {
		return t.token(Other, i, i+1)
	}
	j++
	n := bytes.Index(text[j:], text[i:j])
	if n < 0 {
		return t.fail(ErrUnterminated)
	}
	return t.literal(DollarString, i, j+n+j-i)
}
