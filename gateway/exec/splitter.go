package exec

import (
	"errors"
	"strconv"
	"strings"

	"github.com/shardgate/shardgate/planner"
	"github.com/shardgate/shardgate/shardmap"
	"github.com/shardgate/shardgate/wire"
)

// Splitter divides COPY data by rows and finds each row's shard. It is used for
// one COPY. Each row is passed on byte for byte; what concerns the data as a whole,
// such as mixed line ends, is checked here, since a shard sees some rows only.
type Splitter struct {
	Plan *planner.CopyIn
	// Target gives the position among the operation's connections of the shard
	// of a slot.
	Target func(shardmap.Slot) int
	// ASCIIOnly says that text beyond ASCII comes in another encoding than the
	// server's, so that its hash can't be computed here.
	ASCIIOnly bool

	rest    []byte // a row that has begun
	scanned int    // of rest; what it says is in the fields below
	quoted  bool
	escaped bool
	eol     lineEnd
	line    int
	done    bool // \. was seen
	field   []byte
	values  [][]byte

	// In binary format:
	begun   bool // the header was seen
	whole   bool // what comes is no row any more, and goes to wholeTo, see passWhole
	wholeTo int
	fields  [][]byte // of the row
}

// lineEnd is how the lines of the data end: all as the first one does.
type lineEnd uint8

const (
	unknownEnd lineEnd = iota
	lf
	cr
	crlf
)

// split takes a piece of the data and gives out the rows that are whole.
func (s *Splitter) split(b []byte, row func(int, []byte) *wire.Error) *wire.Error {
	if s.done {
		return nil
	}
	data := b
	if len(s.rest) > 0 {
		s.rest = append(s.rest, b...)
		data = s.rest
	}
	var e *wire.Error
	if s.Plan.Format.Binary {
		data, e = s.binaryRows(data, row)
	} else {
		data, e = s.textRows(data, false, row)
	}
	s.rest = append(s.rest[:0:cap(s.rest)], data...)
	return e
}

// end takes the last row, which may lack its line end.
func (s *Splitter) end(row func(int, []byte) *wire.Error) *wire.Error {
	if s.done {
		return nil
	}
	if s.Plan.Format.Binary {
		return row(0, s.rest) // data that ends amid a row are an error there
	}
	line, e := s.textRows(s.rest, true, row)
	if e != nil || s.done || len(line) == 0 {
		return e
	}
	text := line
	if !s.Plan.Format.CSV && s.scanned < len(line) {
		text = line[:s.scanned] // a backslash with nothing behind it is none
	}
	return s.emit(line, text, row)
}

// textRows gives out the rows that are whole, and returns what comes after them. last
// says that no more data will come.
func (s *Splitter) textRows(data []byte, last bool, row func(int, []byte) *wire.Error) ([]byte, *wire.Error) {
	for len(data) > 0 && !s.done {
		text, n, e := s.next(data, last)
		if n == 0 || e != nil {
			return data, e
		}
		if !s.done || text > 0 {
			if e := s.emit(data[:n], data[:text], row); e != nil {
				return data, e
			}
		}
		data = data[n:]
		s.scanned = 0
	}
	return data, nil
}

// next finds the end of the first row: b[:text] are its fields, b[:n] is the row
// with its line end. n is 0 when more data is needed. The rules are those of
// CopyReadLineText in PostgreSQL's copyfromparse.c.
func (s *Splitter) next(b []byte, last bool) (text, n int, e *wire.Error) {
	csv := s.Plan.Format.CSV
	i := s.scanned
	for ; i < len(b); i++ {
		c := b[i]
		if c == '\\' && (!csv || i == 0) {
			if i+1 == len(b) && (!csv || !last) {
				break
			}
			if i+1 < len(b) && b[i+1] == '.' {
				n, more, e := s.endMarker(b[i:], last)
				if more {
					break
				}
				if s.done = n > 0; s.done || e != nil {
					return i, i + n, e
				}
			}
			if !csv {
				i++ // whatever follows a backslash is data
				continue
			}
		}
		if csv && s.inQuotes(c) {
			continue
		}
		if c != '\n' && c != '\r' {
			continue
		}
		if c == '\r' && i+1 == len(b) && !last && (s.eol == unknownEnd || s.eol == crlf) {
			break // whether a \n follows says which line end it is
		}
		found, size := lf, 1
		if c == '\r' {
			found = cr
			if (s.eol == unknownEnd || s.eol == crlf) && i+1 < len(b) && b[i+1] == '\n' {
				found, size = crlf, 2
			}
		}
		if s.eol == unknownEnd {
			s.eol = found
		}
		if found != s.eol {
			return 0, 0, s.mixedEnds(c)
		}
		return i, i + size, nil
	}
	s.scanned = i
	return 0, 0, nil
}

// endMarker looks at a \. in the data, which must be followed by the end of the
// line. n is its length with that, or 0 if it is data; more says that more data is
// needed to tell.
func (s *Splitter) endMarker(b []byte, last bool) (n int, more bool, e *wire.Error) {
	at := func(i int) byte {
		if i < len(b) {
			return b[i]
		}
		more = more || !last
		return 0
	}
	n = 2
	if s.eol == crlf {
		if at(n) == '\r' {
			n++
		} else if at(n) == '\n' && !s.Plan.Format.CSV {
			return 0, false, s.badMarker("end-of-copy marker does not match previous newline style")
		}
	}
	c := at(n)
	whole := (c == '\n' || c == '\r') && (s.eol != crlf || n == 3)
	switch {
	case more:
		return 0, true, nil
	case whole && (s.eol == lf || s.eol == crlf) && c != '\n', whole && s.eol == cr && c != '\r':
		return 0, false, s.badMarker("end-of-copy marker does not match previous newline style")
	case whole:
		return n + 1, false, nil
	case s.Plan.Format.CSV:
		return 0, false, nil // alone on a line, it ends the data; else it is some
	}
	return 0, false, s.badMarker("end-of-copy marker corrupt")
}

// inQuotes says whether what follows c in a row in CSV is quoted.
func (s *Splitter) inQuotes(c byte) bool {
	f := &s.Plan.Format
	if s.quoted && c == f.Escape && f.Escape != f.Quote {
		s.escaped = !s.escaped
	}
	if c == f.Quote && !s.escaped {
		s.quoted = !s.quoted
	}
	if c != f.Escape {
		s.escaped = false
	}
	return s.quoted
}

const badCopyFileFormat = "22P04"

func (s *Splitter) badMarker(message string) *wire.Error {
	s.line++
	return s.error(badCopyFileFormat, message)
}

// mixedEnds is the error of a line end that isn't as those before it.
func (s *Splitter) mixedEnds(c byte) *wire.Error {
	name, escape := "newline", `"\n"`
	if c == '\r' {
		name, escape = "carriage return", `"\r"`
	}
	s.line++
	if s.Plan.Format.CSV {
		return s.error(badCopyFileFormat, "unquoted "+name+" found in data").
			WithHint("Use quoted CSV field to represent %s.", name)
	}
	return s.error(badCopyFileFormat, "literal "+name+" found in data").
		WithHint("Use %s to represent %s.", escape, name)
}

// emit finds the shard of one row, of which text is without its line end.
func (s *Splitter) emit(line, text []byte, row func(int, []byte) *wire.Error) *wire.Error {
	s.line++
	if s.Plan.Format.Header && s.line == 1 || s.Plan.Types == nil {
		return row(-1, line)
	}
	s.values = s.values[:0]
	s.field = s.field[:0]
	for _, n := range s.Plan.Fields {
		start := len(s.field)
		null, ok := s.extract(text, n)
		if !ok {
			// A row with too few fields is an error on whichever shard it goes to.
			return row(0, line)
		}
		if null {
			return s.error(wire.NotNullViolation, "null value in key column of sharded table "+s.Plan.Table.String())
		}
		s.values = append(s.values, s.field[start:len(s.field):len(s.field)])
	}
	hash := uint64(0)
	for i, t := range s.Plan.Types {
		typmod := s.Plan.Table.KeyTypmod(i)
		v := StoredText(t, typmod, s.values[i])
		if rounds(t, typmod, v) {
			return s.error(wire.FeatureNotSupported, "the key \""+string(v)+"\" has more digits of a second than its column stores").
				WithHint("Round it in the data.")
		}
		h, ok := t.HashText(v)
		if s.ASCIIOnly && !isASCII(v) {
			ok = false
		}
		if !ok {
			if t == shardmap.KeyInt2 || t == shardmap.KeyInt4 || t == shardmap.KeyInt8 || t == shardmap.KeyUUID {
				return s.badKey(t, string(s.values[i]))
			}
			return s.error(wire.FeatureNotSupported, "the key \""+string(s.values[i])+"\" of type "+t.SQLName()+" is not in a form that is read alike under every setting")
		}
		hash = combine(len(s.Plan.Types), hash, h)
	}
	return row(s.Target(shardmap.SlotOf(hash)), line)
}

// badKey is PostgreSQL's error for a value that is none of its type.
func (s *Splitter) badKey(t shardmap.KeyType, value string) *wire.Error {
	name := t.SQLName()
	switch t {
	case shardmap.KeyInt2:
		name = "smallint"
	case shardmap.KeyInt4:
		name = "integer"
	case shardmap.KeyInt8:
		name = "bigint"
	}
	if _, err := strconv.ParseInt(strings.TrimSpace(value), 10, 64); t != shardmap.KeyUUID && (err == nil || errors.Is(err, strconv.ErrRange)) {
		return s.error("22003", "value \""+value+"\" is out of range for type "+name)
	}
	return s.error("22P02", "invalid input syntax for type "+name+": \""+value+"\"")
}

func (s *Splitter) error(code, message string) *wire.Error {
	e := wire.Errorf(code, "%s", message)
	e.Where = "COPY " + s.Plan.Table.String() + ", line " + strconv.Itoa(s.line)
	if code == wire.FeatureNotSupported {
		return e.WithHint("Write dates and times in ISO form.")
	}
	return e
}
