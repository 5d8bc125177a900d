package exec

import "bytes"

// extract appends the value of field n of a row to s.field.
func (s *Splitter) extract(line []byte, n int) (null, ok bool) {
	if s.Plan.Format.CSV {
		return s.extractCSV(line, n)
	}
	d := s.Plan.Format.Delimiter
	start := 0
	for i := 0; i <= len(line); i++ {
		if i < len(line) && line[i] == '\\' {
			i++
			continue
		}
		if i < len(line) && line[i] != d {
			continue
		}
		if n > 0 {
			n--
			start = i + 1
			continue
		}
		raw := line[start:min(i, len(line))]
		if string(raw) == s.Plan.Format.Null {
			return true, true
		}
		s.field = appendUnescaped(s.field, raw)
		return false, true
	}
	return false, false
}

// appendUnescaped decodes the escapes of COPY's text format.
func appendUnescaped(dst, raw []byte) []byte {
	for i := 0; i < len(raw); i++ {
		c := raw[i]
		if c != '\\' || i+1 == len(raw) {
			dst = append(dst, c)
			continue
		}
		i++
		c = raw[i]
		switch {
		case c >= '0' && c <= '7':
			v := int(c - '0')
			for k := 0; k < 2 && i+1 < len(raw) && raw[i+1] >= '0' && raw[i+1] <= '7'; k++ {
				i++
				v = v<<3 | int(raw[i]-'0')
			}
			dst = append(dst, byte(v))
		case c == 'x' && i+1 < len(raw) && hexDigit(raw[i+1]) >= 0:
			v := 0
			for k := 0; k < 2 && i+1 < len(raw) && hexDigit(raw[i+1]) >= 0; k++ {
				i++
				v = v<<4 | hexDigit(raw[i])
			}
			dst = append(dst, byte(v))
		default:
			if k := bytes.IndexByte([]byte("bfnrtv"), c); k >= 0 {
				c = "\b\f\n\r\t\v"[k]
			}
			dst = append(dst, c)
		}
	}
	return dst
}

func hexDigit(c byte) int {
	switch {
	case c >= '0' && c <= '9':
		return int(c - '0')
	case c >= 'a' && c <= 'f':
		return int(c-'a') + 10
	case c >= 'A' && c <= 'F':
		return int(c-'A') + 10
	}
	return -1
}

// extractCSV is extract for CSV (CopyReadAttributesCSV in copyfromparse.c).
func (s *Splitter) extractCSV(line []byte, n int) (null, ok bool) {
	f := &s.Plan.Format
	i := 0
	for {
		start := len(s.field)
		first := i
		sawQuote := false
		quoted := false
		for ; i < len(line); i++ {
			c := line[i]
			if !quoted {
				if c == f.Delimiter {
					break
				}
				if c == f.Quote {
					sawQuote, quoted = true, true
					continue
				}
			} else {
				if c == f.Escape && i+1 < len(line) && (line[i+1] == f.Escape || line[i+1] == f.Quote) {
					i++
					s.field = append(s.field, line[i])
					continue
				}
				if c == f.Quote {
					quoted = false
					continue
				}
			}
			s.field = append(s.field, c)
		}
		if n == 0 {
			return !sawQuote && string(line[first:min(i, len(line))]) == f.Null, true
		}
		s.field = s.field[:start]
		if i >= len(line) {
			return false, false
		}
		i++
		n--
	}
}

func isASCII(b []byte) bool {
	for _, c := range b {
		if c >= 0x80 {
			return false
		}
	}
	return true
}
