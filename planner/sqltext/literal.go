package sqltext

import (
	"bytes"
	"unicode/utf8"
)

// LiteralKind says how a literal is spelled. A key holds it as one byte.
type LiteralKind uint8

const (
	Integer        LiteralKind = iota + 1 // at most 18 decimal digits; PostgreSQL makes it int4 or int8
	Numeric                               // any other number: decimals, exponents, longer integers, 0x, 0o, 0b, underscores
	String                                // '...'
	EscapeString                          // E'...'
	UnicodeString                         // U&'...'
	BitString                             // B'...' and X'...'
	DollarString                          // $$...$$ and $tag$...$tag$
	NationalString                        // N'...'
)

// Literal is a literal of a text. Start and End are the byte offsets of its token, quotes, prefix and
// continuation lines included; a sign before a number is not part of it.
type Literal struct {
	Kind       LiteralKind
	Start, End int32
}

// Int64 gives the value of a literal of the kind Integer, and false for others.
func (l Literal) Int64(text []byte) (int64, bool) {
	if l.Kind != Integer {
		return 0, false
	}
	n := int64(0)
	for _, c := range text[l.Start:l.End] {
		n = n*10 + int64(c-'0')
	}
	return n, true
}

// AppendValue appends the literal's value to dst as PostgreSQL's lexer makes it: strings without quotes
// and with escapes resolved, numbers as spelled, bit strings with the leading b or x that bit_in takes.
// It is false, with dst as it was, for an E'...' with an escape that PostgreSQL refuses (the server
// encoding is taken to be UTF-8) and for every U&'...', whose value depends on an UESCAPE after it. The
// literal must be one that the text's Scanner or Tokens gave.
func (l Literal) AppendValue(dst, text []byte) ([]byte, bool) {
	token := text[l.Start:l.End]
	switch l.Kind {
	case Integer, Numeric:
		return append(dst, token...), true
	case String:
		return appendUnquoted(dst, token), true
	case NationalString:
		return appendUnquoted(dst, token[1:]), true
	case BitString:
		return appendUnquoted(append(dst, token[0]|0x20), token[1:]), true
	case DollarString:
		tag := bytes.IndexByte(token[1:], '$') + 2
		return append(dst, token[tag:len(token)-tag]...), true
	case EscapeString:
		return appendUnescaped(dst, token[1:])
	}
	return dst, false
}

// appendUnquoted appends the value of a quoted string: quotes doubled are one, continuation lines joined.
func appendUnquoted(dst, quoted []byte) []byte {
	rest := quoted[1:]
	for {
		n := bytes.IndexByte(rest, '\'')
		dst = append(dst, rest[:n]...)
		if n == len(rest)-1 {
			return dst
		}
		if rest[n+1] == '\'' {
			dst = append(dst, '\'')
			rest = rest[n+2:]
			continue
		}
		next, _ := continuation(rest, n+1)
		rest = rest[next:]
	}
}

// appendUnescaped is appendUnquoted for strings with backslash escapes.
func appendUnescaped(dst, quoted []byte) ([]byte, bool) {
	start := len(dst)
	verify := false // PostgreSQL checks the encoding only if an escape may have broken it
	for i := 1; i < len(quoted); {
		c := quoted[i]
		switch {
		case c == '\\':
			var ok, raw bool
			if dst, i, raw, ok = appendEscape(dst, quoted, i); !ok {
				return dst[:start], false
			}
			verify = verify || raw
		case c != '\'':
			dst = append(dst, c)
			i++
		case i == len(quoted)-1:
			i++
		case quoted[i+1] == '\'':
			dst = append(dst, c)
			i += 2
		default:
			i, _ = continuation(quoted, i+1)
		}
	}
	value := dst[start:]
	if verify && (!utf8.Valid(value) || bytes.IndexByte(value, 0) >= 0) {
		return dst[:start], false
	}
	return dst, true
}

// appendEscape appends what the escape at the backslash i stands for and gives the offset behind it. raw
// says that it gave a NUL or a byte >= 0x80 that may not be well-formed text.
func appendEscape(dst, quoted []byte, i int) (_ []byte, next int, raw, ok bool) {
	c := quoted[i+1]
	switch {
	case c == 'u' || c == 'U':
		r, next, ok := unicodeEscape(quoted, i)
		if !ok {
			return dst, next, false, false
		}
		return utf8.AppendRune(dst, r), next, false, true
	case c == 'x' && isHexDigit(quoted[i+2]):
		value, next := radixValue(quoted, i+2, 2, 16)
		return append(dst, byte(value)), next, byte(value) == 0 || byte(value) >= 0x80, true
	case c-'0' < 8:
		value, next := radixValue(quoted, i+1, 3, 8)
		return append(dst, byte(value)), next, byte(value) == 0 || byte(value) >= 0x80, true
	}
	switch c {
	case 'b':
		c = '\b'
	case 'f':
		c = '\f'
	case 'n':
		c = '\n'
	case 'r':
		c = '\r'
	case 't':
		c = '\t'
	case 'v':
		c = '\v'
	}
	return append(dst, c), i + 2, c == 0 || c >= 0x80, true
}

// unicodeEscape reads the \uXXXX or \UXXXXXXXX at i, or a surrogate pair of two of these.
func unicodeEscape(quoted []byte, i int) (r rune, next int, ok bool) {
	first, next, ok := codeUnit(quoted, i)
	if !ok {
		return 0, next, false
	}
	switch {
	case first >= 0xD800 && first <= 0xDBFF:
		second, next, ok := codeUnit(quoted, next)
		if !ok || second < 0xDC00 || second > 0xDFFF {
			return 0, next, false
		}
		return rune((first&0x3FF)<<10+second&0x3FF) + 0x10000, next, true
	case first >= 0xDC00 && first <= 0xDFFF, first == 0, first > utf8.MaxRune:
		return 0, next, false
	}
	return rune(first), next, true
}

func codeUnit(quoted []byte, i int) (value uint32, next int, ok bool) {
	if i+1 >= len(quoted) || quoted[i] != '\\' {
		return 0, i, false
	}
	length := 0
	switch quoted[i+1] {
	case 'u':
		length = 4
	case 'U':
		length = 8
	default:
		return 0, i, false
	}
	value, next = radixValue(quoted, i+2, length, 16)
	return value, next, next == i+2+length
}

// radixValue reads up to length digits at i. The closing quote of the string ends them at the latest.
func radixValue(quoted []byte, i, length int, radix uint32) (value uint32, next int) {
	for end := i + length; i < end; i++ {
		c := quoted[i]
		digit := uint32(c - '0')
		if !isDigit(c) {
			if !isHexDigit(c) {
				break
			}
			digit = uint32(c|0x20-'a') + 10
		}
		if digit >= radix {
			break
		}
		value = value*radix + digit
	}
	return value, i
}
