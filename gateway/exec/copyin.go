package exec

import (
	"bytes"
	"errors"
	"strconv"
	"strings"

	"github.com/shardgate/shardgate/gateway/pool"
	"github.com/shardgate/shardgate/planner"
	"github.com/shardgate/shardgate/shardmap"
	"github.com/shardgate/shardgate/wire"
)

// copyChunkBytes is how much COPY data is collected for a shard before it is sent.
const copyChunkBytes = 32 << 10

// copyIn takes COPY data from the client until it ends or fails, and then reads
// the shards' answers. All of conns wait for data.
func (r *Runner) copyIn(op *Op, conns []*pool.Conn) {
	extended := op.Kind == Execute
	if extended {
		// The Sync that was sent ahead is ignored by a server that waits for
		// data: it has to be sent again.
		r.Copied = true
		for _, c := range conns {
			c.Ready--
		}
	}
	r.endRelay(false)
	if err := r.Client.Flush(); err != nil {
		r.stop = err
	}
	pump := copyPump{r: r, op: op, conns: conns, rows: make([][]byte, len(conns))}
	why := ""
	if r.stop == nil {
		why = pump.run()
	}
	if r.stop != nil {
		why = "the client is gone"
	}
	for i, c := range conns {
		if c.Broken {
			continue
		}
		if why == "" {
			pump.send(i)
			c.SetOut(wire.AppendCopyDone(c.Out()))
		} else {
			c.SetOut(wire.AppendCopyFail(c.Out(), why))
		}
		if extended {
			c.SetOut(wire.AppendSync(c.Out()))
			c.Ready++
		}
		if err := c.Flush(); err != nil {
			c.Fail(err)
		}
	}
	if pump.err != nil {
		r.fail(pump.err)
	}
	if r.Failed != nil || r.stop != nil {
		return
	}
	r.Tag = Tag{}
	for i, c := range conns {
		if r.answer(op, c, i, false) == failed {
			return
		}
	}
}

// copyPump is one COPY FROM STDIN under way.
type copyPump struct {
	r     *Runner
	op    *Op
	conns []*pool.Conn
	rows  [][]byte // what waits for each shard
	err   *wire.Error
}

// run reads the client's messages up to CopyDone or CopyFail. It returns why the
// data is to be thrown away, or "".
func (p *copyPump) run() (why string) {
	for {
		m, err := p.r.Client.Read()
		if err != nil {
			p.r.stop = err
			return ""
		}
		body := m[5:]
		switch m[0] {
		case 'd':
			if why != "" {
				continue // after an error, data is read and thrown away
			}
			if p.err = p.data(body); p.err != nil {
				why = p.err.Message
			}
		case 'c':
			if why == "" && p.op.Copy != nil {
				if p.err = p.op.Copy.end(p.row); p.err != nil {
					why = p.err.Message
				}
			}
			return why
		case 'f':
			if why == "" {
				reason, _ := wire.DecodeQuery(body)
				why = string(reason)
			}
			return why
		case 'H', 'S':
			// Flush and Sync are ignored during COPY, as PostgreSQL does.
		default:
			p.err = wire.Errorf(wire.ProtocolViolation, "unexpected message type 0x%02X during COPY from stdin", m[0])
			p.r.stop = wire.Fatalf(wire.ProtocolViolation, "terminating connection because protocol synchronization was lost")
			return p.err.Message
		}
	}
}

// data passes CopyData on: as it is, or divided by rows.
func (p *copyPump) data(b []byte) *wire.Error {
	if p.op.Copy != nil {
		return p.op.Copy.split(b, p.row)
	}
	for i := range p.conns {
		if e := p.append(i, b); e != nil {
			return e
		}
	}
	return nil
}

// row gives a row, with its line end, to a shard, or to all where target < 0.
func (p *copyPump) row(target int, line []byte) *wire.Error {
	if target >= 0 {
		return p.append(target, line)
	}
	for i := range p.conns {
		if e := p.append(i, line); e != nil {
			return e
		}
	}
	return nil
}

func (p *copyPump) append(i int, b []byte) *wire.Error {
	p.rows[i] = append(p.rows[i], b...)
	if len(p.rows[i]) < copyChunkBytes {
		return nil
	}
	return p.send(i)
}

// send sends what waits for a shard as one CopyData.
func (p *copyPump) send(i int) *wire.Error {
	b := p.rows[i]
	if len(b) == 0 {
		return nil
	}
	c := p.conns[i]
	c.SetOut(wire.AppendCopyDataHeader(c.Out(), len(b)))
	err := c.Write(b)
	if err == nil {
		err = c.Flush()
	}
	p.rows[i] = b[:0]
	if err != nil {
		return c.Fail(err).(*pool.Lost).Wire()
	}
	return nil
}

// Splitter divides COPY data by rows and finds each row's shard. It is used for
// one COPY.
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
	eol     byte // '\n' or '\r' once known
	line    int
	done    bool // \. was seen
	field   []byte
	values  [][]byte
}

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
	for len(data) > 0 {
		n := s.lineEnd(data)
		if n < 0 {
			break
		}
		if e := s.emit(data[:n], row); e != nil {
			return e
		}
		data = data[n:]
		s.scanned = 0
		if s.done {
			break
		}
	}
	s.rest = append(s.rest[:0:cap(s.rest)], data...)
	return nil
}

// end takes the last row, which may lack its line end.
func (s *Splitter) end(row func(int, []byte) *wire.Error) *wire.Error {
	if len(s.rest) == 0 || s.done {
		return nil
	}
	line := s.rest
	if s.eol == 0 && line[len(line)-1] == '\r' {
		s.eol = '\r'
	}
	if last := line[len(line)-1]; last != '\n' && last != '\r' || s.quoted {
		line = append(line, '\n')
		if s.eol == '\r' {
			line[len(line)-1] = '\r'
		}
	}
	return s.emit(line, row)
}

// lineEnd returns the length of the first row with its line end, or -1 when more
// data is needed. The rules are those of CopyReadLineText in PostgreSQL's
// copyfromparse.c.
func (s *Splitter) lineEnd(b []byte) int {
	i := s.scanned
	for ; i < len(b); i++ {
		c := b[i]
		if s.Plan.Format.CSV {
			f := &s.Plan.Format
			if c == f.Escape && f.Escape != f.Quote {
				s.escaped = !s.escaped
			}
			if c == f.Quote && !s.escaped {
				s.quoted = !s.quoted
			}
			if c != f.Escape {
				s.escaped = false
			}
			if s.quoted {
				continue
			}
		} else if c == '\\' {
			if i+1 >= len(b) {
				break
			}
			i++ // whatever follows a backslash is data
			continue
		}
		switch {
		case c == '\n' && s.eol != '\r':
			s.eol = '\n'
			return i + 1
		case c == '\r' && s.eol == '\r':
			return i + 1
		case c == '\r' && s.eol == 0:
			if i+1 >= len(b) {
				s.scanned = i
				return -1
			}
			if b[i+1] != '\n' {
				s.eol = '\r'
				return i + 1
			}
		}
	}
	s.scanned = i
	return -1
}

// emit finds the shard of one row.
func (s *Splitter) emit(line []byte, row func(int, []byte) *wire.Error) *wire.Error {
	s.line++
	f := &s.Plan.Format
	text := bytes.TrimRight(line, "\r\n")
	if bytes.Equal(text, []byte(`\.`)) {
		s.done = true
		return nil
	}
	if f.Header && s.line == 1 {
		return row(-1, line)
	}
	if s.Plan.Types == nil {
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
		v := StoredText(t, s.Plan.Table.KeyTypmod(i), s.values[i])
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
		if len(s.Plan.Types) == 1 {
			hash = h
		} else {
			hash = shardmap.Combine(hash, h)
		}
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
