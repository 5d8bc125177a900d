package load

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/shardgate/shardgate/wire"
)

// Protocol is the way in which statements are sent.
type Protocol string

const (
	Simple   Protocol = "simple"   // Query, with the values in the text
	Extended Protocol = "extended" // Parse, Bind, Describe, Execute, Sync
	Prepared Protocol = "prepared" // Parse once; then Bind, Describe, Execute, Sync
	// Pipelined is Prepared without waiting: several transactions in one write, see
	// Conn.Pipeline. A statement by itself is sent as Prepared sends it.
	Pipelined Protocol = "pipelined"
)

// Protocols are all of them.
var Protocols = []Protocol{Simple, Extended, Prepared, Pipelined}

// NeedsPrepare says whether the statements are prepared on each connection first.
func (p Protocol) NeedsPrepare() bool { return p == Prepared || p == Pipelined }

// Statement is one statement of a transaction, with whole numbers as parameters. It can
// be shared by all connections.
type Statement struct {
	name string
	sql  string
	want string
	// The text around the parameters, one piece more than there are of them, and which
	// parameter is between.
	pieces []string
	params []int
	count  int
	format map[int]func(dst []byte, n int64) []byte // of parameters that are texts
}

// NewStatement returns a statement of a text with parameters $1, $2 and so on, whose
// command tag has to be want; "" takes any. name is what it is prepared as. It panics on
// a parameter that is left out, since statements are part of the program.
func NewStatement(name, sql, want string) *Statement {
	s := &Statement{name: name, sql: sql, want: want}
	seen := map[int]bool{}
	rest := sql
	for {
		i := strings.IndexByte(rest, '$')
		if i < 0 {
			break
		}
		end := i + 1
		for end < len(rest) && rest[end] >= '0' && rest[end] <= '9' {
			end++
		}
		n, err := strconv.Atoi(rest[i+1 : end])
		if err != nil {
			panic(fmt.Sprintf("load: parameters of %q", sql))
		}
		s.pieces, s.params = append(s.pieces, rest[:i]), append(s.params, n-1)
		seen[n-1] = true
		rest = rest[end:]
	}
	s.pieces = append(s.pieces, rest)
	for s.count = 0; seen[s.count]; s.count++ {
	}
	if s.count != len(seen) {
		panic(fmt.Sprintf("load: parameters of %q", sql))
	}
	return s
}

// Text makes parameter n, from 1, a text that is made of the number it is given, and
// returns the statement. The text must not have quotes or backslashes in it.
func (s *Statement) Text(n int, format func(dst []byte, n int64) []byte) *Statement {
	if s.format == nil {
		s.format = map[int]func([]byte, int64) []byte{}
	}
	s.format[n-1] = format
	return s
}

// SQL is the statement's text, with its parameters.
func (s *Statement) SQL() string { return s.sql }

// With is the statement's text with these parameters, as the protocol Simple sends it.
func (s *Statement) With(args ...int64) string {
	s.checkArgs(args)
	return string(s.appendText(nil, args))
}

// Run executes the statement. A statement of the protocol Prepared was prepared before.
func (c *Conn) Run(p Protocol, s *Statement, args ...int64) error {
	c.out = s.appendTo(c.out[:0], c, p, args)
	return c.exchange(s.want)
}

// PrepareAll prepares statements under their names.
func (c *Conn) PrepareAll(statements []*Statement) error {
	for _, s := range statements {
		if err := c.Prepare(s.name, s.sql); err != nil {
			return fmt.Errorf("preparing %q: %w", s.sql, err)
		}
	}
	return nil
}

// appendTo appends the messages to dst, up to the one that is answered by
// ReadyForQuery. The extended ones are those that libpq sends.
func (s *Statement) appendTo(dst []byte, c *Conn, p Protocol, args []int64) []byte {
	if p != Simple {
		return wire.AppendSync(s.appendExecution(dst, c, p, args))
	}
	s.checkArgs(args)
	c.digits = s.appendText(c.digits[:0], args)
	return wire.AppendQuery(dst, c.digits)
}

// appendText appends the text with its parameters.
func (s *Statement) appendText(text []byte, args []int64) []byte {
	for i, n := range s.params {
		text = append(text, s.pieces[i]...)
		if f := s.format[n]; f != nil {
			text = append(f(append(text, '\''), args[n]), '\'')
		} else {
			text = strconv.AppendInt(text, args[n], 10)
		}
	}
	return append(text, s.pieces[len(s.params)]...)
}

// appendExecution appends the messages of a protocol other than Simple, without Sync.
func (s *Statement) appendExecution(dst []byte, c *Conn, p Protocol, args []int64) []byte {
	s.checkArgs(args)
	name := s.name
	if p == Extended {
		name = ""
		dst = wire.AppendParse(dst, "", s.sql, nil)
	}
	digits, texts := c.digits[:0], c.texts[:0]
	if need := 20 * len(args); cap(digits) < need {
		digits = make([]byte, 0, need)
	}
	for n, a := range args {
		from := len(digits)
		if f := s.format[n]; f != nil {
			digits = f(digits, a)
		} else {
			digits = strconv.AppendInt(digits, a, 10)
		}
		texts = append(texts, digits[from:])
	}
	c.digits, c.texts = digits, texts
	dst = wire.AppendBind(dst, "", name, nil, texts, textResult)
	dst = wire.AppendDescribe(dst, wire.Portal, "")
	return wire.AppendExecute(dst, "", 0)
}

func (s *Statement) checkArgs(args []int64) {
	if len(args) != s.count {
		panic(fmt.Sprintf("load: %d arguments for %q", len(args), s.sql))
	}
}

var textResult = []int16{0}

// ParseProtocols returns the protocols of these names.
func ParseProtocols(names []string) ([]Protocol, error) {
	var list []Protocol
	for _, name := range names {
		if !slices.Contains(Protocols, Protocol(name)) {
			return nil, fmt.Errorf("no protocol %q; there are %v", name, Protocols)
		}
		list = append(list, Protocol(name))
	}
	return list, nil
}
