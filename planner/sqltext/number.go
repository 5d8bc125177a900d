package sqltext

// maxIntegerDigits is the length up to which every decimal integer fits an int64.
const maxIntegerDigits = 18

// number reads the number at i, which begins with a digit or with a dot and a digit. A letter, an
// underscore or a byte >= 0x80 right behind a number is an error since PostgreSQL 15.
func (t *Tokens) number(i int) (Token, bool) {
	text := t.text
	if text[i] == '0' && i+2 < len(text) {
		switch text[i+1] | 0x20 {
		case 'x', 'o', 'b':
			return t.radixInteger(i)
		}
	}
	kind := Integer
	j := i
	if text[i] != '.' {
		end, plain := digits(text, i)
		if !plain || end-i > maxIntegerDigits {
			kind = Numeric
		}
		j = end
	}
	// A second dot makes it the integer and the token `..`.
	if j < len(text) && text[j] == '.' && (j+1 == len(text) || text[j+1] != '.') {
		kind = Numeric
		j++
		if j < len(text) && isDigit(text[j]) {
			j, _ = digits(text, j)
		}
	}
	if j < len(text) && text[j]|0x20 == 'e' {
		k := j + 1
		if k < len(text) && (text[k] == '+' || text[k] == '-') {
			k++
		}
		if k == len(text) || !isDigit(text[k]) {
			return t.fail(ErrNumber)
		}
		kind = Numeric
		j, _ = digits(text, k)
	}
	if j < len(text) && isIdentCont(text[j]) && (text[j] != '$' || endsInWord(text[i:j])) {
		return t.fail(ErrNumber)
	}
	return t.literal(kind, i, j)
}

// endsInWord says whether the end of a number is also one of an identifier, as the e5 of 1e5 and the _0
// of 1_0. A $ behind it goes with that identifier, which is junk behind the number, and not by itself.
func endsInWord(number []byte) bool {
	for j := len(number) - 1; j >= 0 && isIdentCont(number[j]); j-- {
		if isIdentStart(number[j]) {
			return true
		}
	}
	return false
}

// digits gives the end of the decimal digits at i, single underscores between them included, and whether
// there were none of these.
func digits(text []byte, i int) (end int, plain bool) {
	plain = true
	for i++; i < len(text); i++ {
		c := text[i]
		if isDigit(c) {
			continue
		}
		if c != '_' || i+1 == len(text) || !isDigit(text[i+1]) {
			break
		}
		plain = false
	}
	return i, plain
}

// radixInteger reads the 0x, 0o or 0b integer at i. Any byte of an identifier behind its digits, $
// included, makes it an error: to PostgreSQL it is then the integer 0 and an identifier.
func (t *Tokens) radixInteger(i int) (Token, bool) {
	text := t.text
	isRadixDigit := isHexDigit
	switch text[i+1] | 0x20 {
	case 'o':
		isRadixDigit = func(c byte) bool { return c-'0' < 8 }
	case 'b':
		isRadixDigit = func(c byte) bool { return c-'0' < 2 }
	}
	j := i + 2
	for j < len(text) {
		k := j
		if text[k] == '_' {
			k++
		}
		if k == len(text) || !isRadixDigit(text[k]) {
			break
		}
		j = k + 1
	}
	if j == i+2 || j < len(text) && isIdentCont(text[j]) {
		return t.fail(ErrNumber)
	}
	return t.literal(Numeric, i, j)
}
