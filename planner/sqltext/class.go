package sqltext

// charClass says how a byte begins a token. The order matters: a byte continues an identifier exactly if
// its class is at most classDollar.
type charClass uint8

const (
	classIdent  charClass = iota // letter, underscore, byte >= 0x80: begins an identifier
	classDigit                   // 0-9
	classDollar                  // $
	classSpace                   // white space of scan.l: blank, \t, \n, \r, \f, \v
	classOp                      // bytes that operators are made of
	classPunct                   // , ( ) [ ] ;
	classDot                     // .
	classColon                   // :
	classQuote                   // '
	classDouble                  // "
	classOther                   // no token of SQL begins with it; PostgreSQL returns it as it is
	classMarker                  // 0x00 to 0x08: what keys mark literals with, and NUL
)

var classes = func() (table [256]charClass) {
	for c := range table {
		switch {
		case c >= 'a' && c <= 'z', c >= 'A' && c <= 'Z', c == '_', c >= 0x80:
			table[c] = classIdent
		case c >= '0' && c <= '9':
			table[c] = classDigit
		case c <= int(maxMarker):
			table[c] = classMarker
		default:
			table[c] = classOther
		}
	}
	for class, bytes := range map[charClass]string{
		classDollar: "$",
		classSpace:  " \t\n\r\f\v",
		classOp:     "~!@#^&|`?+-*/%<>=",
		classPunct:  ",()[];",
		classDot:    ".",
		classColon:  ":",
		classQuote:  "'",
		classDouble: `"`,
	} {
		for i := 0; i < len(bytes); i++ {
			table[bytes[i]] = class
		}
	}
	return table
}()

func isIdentStart(c byte) bool { return classes[c] == classIdent }
func isIdentCont(c byte) bool  { return classes[c] <= classDollar }
func isDigit(c byte) bool      { return c-'0' <= 9 }

// isTagCont says whether c continues the tag of a dollar quote: an identifier without $.
func isTagCont(c byte) bool { return classes[c] <= classDigit }

func isHexDigit(c byte) bool {
	c |= 0x20
	return isDigit(c) || c >= 'a' && c <= 'f'
}

// foldEqual says whether word is lower, which is in lower-case ASCII, in any case.
func foldEqual(word []byte, lower string) bool {
	if len(word) != len(lower) {
		return false
	}
	for i, c := range word {
		if c-'A' < 26 {
			c |= 0x20
		}
		if c != lower[i] {
			return false
		}
	}
	return true
}
