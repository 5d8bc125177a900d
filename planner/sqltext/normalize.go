package sqltext

import "bytes"

// maxMarker is the highest byte that stands for a literal in a key.
const maxMarker = byte(NationalString)

// What a Scanner keeps between calls is bounded: after a text that needed more, a small one drops it.
const (
	keptKeyBytes = 256 << 10
	keptLiterals = 32 << 10
)

// Scanner makes keys of statements and keeps the buffers for them. It is for one goroutine at a time; the
// zero value is ready.
type Scanner struct {
	key  []byte
	lits []Literal
}

// Normalize gives the key of a text: each literal replaced by one byte that tells its kind (0x01 to
// 0x08), everything else, white space and comments included, byte for byte. Texts have the same key
// exactly if they are the same but for the values of literals of the same kinds; so the offset of every
// other byte follows from the literals (see Anchor). Parameters ($1) are not literals, nor is a sign. The
// string after UESCAPE stays in the key, since it changes what names are spelled before it.
//
// A plan that is cached under a key must not depend on a literal's value unless it looks at the value
// again each time: ORDER BY 1, LIMIT 10 and nextval('s') are literals as well.
//
// Key and literals belong to the Scanner and are valid until the next call. The errors are
// ErrUnterminated, ErrNumber, ErrTooLong and ErrMarkerByte; the text is one for the real parser then. A
// nil error does not say that PostgreSQL's lexer takes the text: escapes within literals are not looked at.
func (s *Scanner) Normalize(text []byte) (key []byte, lits []Literal, err error) {
	if bytes.IndexByte(text, 0) >= 0 {
		return nil, nil, ErrMarkerByte
	}
	s.trim(len(text))
	key, lits = s.key[:0], s.lits[:0]
	tokens := NewTokens(text)
	copied := 0
	afterUescape := false
	for {
		tok, ok := tokens.Next()
		if !ok {
			break
		}
		if tok.Kind != LiteralToken || afterUescape {
			afterUescape = tok.Kind == Identifier && tok.End-tok.Start == 7 && tok.IsKeyword(text, "uescape")
			continue
		}
		key = append(key, text[copied:tok.Start]...)
		key = append(key, byte(tok.Literal))
		lits = append(lits, Literal{Kind: tok.Literal, Start: tok.Start, End: tok.End})
		copied = int(tok.End)
	}
	if tokens.err == nil && tokens.marker {
		tokens.err = ErrMarkerByte
	}
	if tokens.err == nil {
		key = append(key, text[copied:]...)
	}
	s.key, s.lits = key, lits
	if tokens.err != nil {
		return nil, nil, tokens.err
	}
	return key, lits, nil
}

// trim drops buffers that a text of n bytes has no use for.
func (s *Scanner) trim(n int) {
	if cap(s.key) > keptKeyBytes && n <= keptKeyBytes {
		s.key = nil
	}
	if cap(s.lits) > keptLiterals && n <= keptLiterals {
		s.lits = nil
	}
}

// Anchor is a position in the text of a key that holds in every text with that key: Delta bytes behind
// the end of literal number Literal, or behind the start of the text if that is -1.
type Anchor struct {
	Literal int
	Delta   int
}

// AnchorOf gives the anchor of offset in the text whose literals are lits. An offset inside a literal
// counts from the end of the one before it, and so has no meaning in another text.
func AnchorOf(offset int, lits []Literal) Anchor {
	low, high := 0, len(lits)
	for low < high {
		mid := int(uint(low+high) >> 1)
		if int(lits[mid].End) <= offset {
			low = mid + 1
		} else {
			high = mid
		}
	}
	if low == 0 {
		return Anchor{Literal: -1, Delta: offset}
	}
	return Anchor{Literal: low - 1, Delta: offset - int(lits[low-1].End)}
}

// Offset gives the anchor's byte offset in the text whose literals are lits.
func (a Anchor) Offset(lits []Literal) int {
	if a.Literal < 0 {
		return a.Delta
	}
	return int(lits[a.Literal].End) + a.Delta
}

// ParamRef is one $n of a text.
type ParamRef struct {
	Number     int32
	Start, End int32
}

// Params appends to dst the parameters of text in the order of the text, repeated ones each time. The
// error is that of Tokens.Err.
func Params(dst []ParamRef, text []byte) ([]ParamRef, error) {
	tokens := NewTokens(text)
	for {
		tok, ok := tokens.Next()
		if !ok {
			return dst, tokens.Err()
		}
		if tok.Kind == Param {
			dst = append(dst, ParamRef{Number: tok.ParamNumber(text), Start: tok.Start, End: tok.End})
		}
	}
}
