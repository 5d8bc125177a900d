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
)

// Protocols are all of them.
var Protocols = []Protocol{Simple, Extended, Prepared}

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
}

// NewStatement returns a statement of a text with parameters $1 to $9, whose command tag
// has to be want. name is what it is prepared as. It panics on a parameter that is
// left out, since statements are part of the program.
func NewStatement(name, sql, want string) *Statement {
	s := &Statement{name: name, sql: sql, want: want}
	seen := map[int]bool{}
	rest := sql
	for {
		i := strings.IndexByte(rest, '$')
		if i < 0 {
			break
		}
		n := int(rest[i+1] - '1')
		s.pieces, s.params = append(s.pieces, rest[:i]), append(s.params, n)
		seen[n] = true
		rest = rest[i+2:]
	}
	s.pieces = append(s.pieces, rest)
	for s.count = 0; seen[s.count]; s.count++ {
	}
	if s.count != len(seen) {
		panic(fmt.Sprintf("load: parameters of %q", sql))
	}
	return s
}

// SQL is the statement's text, with its parameters.
func (s *Statement) SQL() string { return s.sql }

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

// appendTo appends the messages to dst. The extended ones are those that libpq sends.
func (s *Statement) appendTo(dst []byte, c *Conn, p Protocol, args []int64) []byte {
	if len(args) != s.count {
		panic(fmt.Sprintf("load: %d arguments for %q", len(args), s.sql))
	}
	if p == Simple {
		text := c.digits[:0]
		for i, n := range s.params {
			text = append(text, s.pieces[i]...)
			text = strconv.AppendInt(text, args[n], 10)
		}
		text = append(text, s.pieces[len(s.params)]...)
		c.digits = text
		return wire.AppendQuery(dst, text)
	}
	name := s.name
	if p == Extended {
		name = ""
		dst = wire.AppendParse(dst, "", s.sql, nil)
	}
	// All the digits first: the slices point into them.
	digits, texts := c.digits[:0], c.texts[:0]
	if need := 20 * len(args); cap(digits) < need {
		digits = make([]byte, 0, need)
	}
	for _, a := range args {
		from := len(digits)
		digits = strconv.AppendInt(digits, a, 10)
		texts = append(texts, digits[from:])
	}
	c.digits, c.texts = digits, texts
	dst = wire.AppendBind(dst, "", name, nil, texts, textResult)
	dst = wire.AppendDescribe(dst, wire.Portal, "")
	dst = wire.AppendExecute(dst, "", 0)
	return wire.AppendSync(dst)
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
