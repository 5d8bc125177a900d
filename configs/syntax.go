package configs

import (
	"errors"
	"fmt"
	"strings"
	"unicode/utf8"

	"github.com/goccy/go-yaml"
	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/lexer"
	"github.com/goccy/go-yaml/parser"
	"github.com/goccy/go-yaml/token"
)

// Bounds on what is given to the YAML library, whose parser is recursive.
const (
	maxFileBytes = 4 << 20
	maxDepth     = 32
)

// kind is what YAML makes of a node.
type kind int

const (
	kindNull kind = iota
	kindText
	kindInteger
	kindFloat
	kindBool
	kindMapping
	kindList
)

// String names the kind in messages.
func (k kind) String() string {
	return [...]string{"nothing", "a text", "a whole number", "a number with a fraction", "true or false", "a mapping", "a list"}[k]
}

// node is a piece of a YAML file: the subset that a configuration needs, with
// positions.
type node struct {
	kind    kind
	pos     Position
	text    string  // of a scalar, before environment variables are replaced
	entries []entry // of a mapping, in the order of the file
	items   []*node // of a list
}

// entry is a key of a mapping with its value.
type entry struct {
	key   string
	pos   Position // of the key
	value *node
}

// syntax turns one YAML document into nodes. A mapping may still have the same
// key twice: this is reported with the other errors.
type syntax struct {
	file string
	errs Errors
}

// parseYAML returns the document's root, or nil and at least one error.
func parseYAML(file string, data []byte) (*node, Errors) {
	s := &syntax{file: file}
	start := Position{File: file, Line: 1, Column: 1}
	switch {
	case len(data) > maxFileBytes:
		s.add(start, fmt.Sprintf("the file has more than %s", Bytes(maxFileBytes)), "")
	case !utf8.Valid(data):
		s.add(invalidUTF8(file, data), "not valid UTF-8", "save the file as UTF-8")
	}
	if s.errs != nil {
		return nil, s.errs
	}
	root := s.document(strings.TrimPrefix(string(data), "\ufeff"))
	if s.errs != nil {
		return nil, s.errs
	}
	return root, nil
}

func invalidUTF8(file string, data []byte) Position {
	p := Position{File: file, Line: 1, Column: 1}
	for len(data) > 0 {
		r, size := utf8.DecodeRune(data)
		if r == utf8.RuneError && size == 1 {
			break
		}
		p.Column++
		if r == '\n' {
			p.Line, p.Column = p.Line+1, 1
		}
		data = data[size:]
	}
	return p
}

func (s *syntax) add(pos Position, message, hint string) {
	s.errs = append(s.errs, &Error{Position: pos, Message: message, Hint: hint})
}

// position returns where a token begins. The library has tokens without a
// position, which are taken for the file's beginning.
func (s *syntax) position(tk *token.Token) Position {
	p := Position{File: s.file, Line: 1, Column: 1}
	if tk != nil && tk.Position != nil {
		p.Line, p.Column = max(1, tk.Position.Line), max(1, tk.Position.Column)
	}
	return p
}

func (s *syntax) document(text string) (root *node) {
	defer func() {
		// The library's parser is known to index out of range on some malformed
		// inputs; for the user that is one more syntax error.
		if recover() != nil {
			root = nil
			s.add(Position{File: s.file, Line: 1, Column: 1}, "not valid YAML", "")
		}
	}()
	tokens := lexer.Tokenize(text)
	if tk := tooDeep(tokens); tk != nil {
		s.add(s.position(tk), fmt.Sprintf("nested deeper than %d levels", maxDepth), "")
		return nil
	}
	file, err := parser.Parse(tokens, 0, parser.AllowDuplicateMapKey())
	if err != nil {
		var syntaxError yaml.Error
		if errors.As(err, &syntaxError) {
			pos := s.position(syntaxError.GetToken())
			// Some messages end with a quotation from the file, which may be a password.
			message, _, _ := strings.Cut(syntaxError.GetMessage(), `"`)
			s.add(pos, "not valid YAML: "+strings.TrimRight(message, ": "), syntaxHint(text, pos.Line))
		} else {
			s.add(Position{File: s.file, Line: 1, Column: 1}, "not valid YAML", "")
		}
		return nil
	}
	var bodies []ast.Node
	for _, doc := range file.Docs {
		if doc.Body != nil {
			bodies = append(bodies, doc.Body)
		}
	}
	switch len(bodies) {
	case 0:
		s.add(Position{File: s.file, Line: 1, Column: 1}, "the file is empty", "examples are in the folder configs")
		return nil
	case 1:
		return s.node(bodies[0])
	}
	s.add(s.position(bodies[1].GetToken()), "the file has a second YAML document", "remove the line --- and what follows it")
	return nil
}

// syntaxHint knows the slips that are frequent in a configuration.
func syntaxHint(text string, line int) string {
	lines := strings.Split(text, "\n")
	at := lines[min(line, len(lines))-1]
	switch {
	case strings.Contains(at, "\t"):
		return "YAML is indented with spaces, not with tabs"
	case strings.Contains(at, "${"):
		return `within { } and [ ], put a variable into quotes: "${NAME}"`
	}
	return ""
}

// tooDeep returns the first token that would nest deeper than maxDepth, judged
// by brackets, by dashes and question marks on one line, and by indentation.
func tooDeep(tokens token.Tokens) *token.Token {
	flow, inLine, line := 0, 0, 0
	var columns []int // of the block collections that are open
	for _, tk := range tokens {
		switch tk.Type {
		case token.SequenceStartType, token.MappingStartType:
			flow++
		case token.SequenceEndType, token.MappingEndType:
			flow = max(0, flow-1)
		case token.SequenceEntryType, token.MappingKeyType, token.MappingValueType, token.AnchorType, token.TagType:
			if tk.Position.Line != line {
				line, inLine = tk.Position.Line, 0
			}
			if flow == 0 || tk.Type != token.MappingValueType {
				inLine++
			}
			for len(columns) > 0 && columns[len(columns)-1] >= tk.Position.Column {
				columns = columns[:len(columns)-1]
			}
			columns = append(columns, tk.Position.Column)
		}
		if flow > maxDepth || inLine > maxDepth || len(columns) > 4*maxDepth {
			return tk
		}
	}
	return nil
}

// node converts a node of the library. It returns nil after an error.
func (s *syntax) node(n ast.Node) *node {
	pos := s.position(n.GetToken())
	switch n := n.(type) {
	case *ast.MappingNode:
		return s.mapping(s.mappingPosition(n), n.Values)
	case *ast.MappingValueNode: // a mapping of one key, outside of braces
		return s.mapping(s.position(n.Key.GetToken()), []*ast.MappingValueNode{n})
	case *ast.SequenceNode:
		list := &node{kind: kindList, pos: pos}
		for _, value := range n.Values {
			list.items = append(list.items, s.node(value))
		}
		return list
	case *ast.NullNode:
		return &node{kind: kindNull, pos: pos}
	case *ast.StringNode:
		return &node{kind: kindText, pos: pos, text: n.Value}
	case *ast.LiteralNode:
		return &node{kind: kindText, pos: pos, text: n.Value.Value}
	case *ast.IntegerNode:
		return &node{kind: kindInteger, pos: pos, text: n.Token.Value}
	case *ast.FloatNode, *ast.InfinityNode, *ast.NanNode:
		return &node{kind: kindFloat, pos: pos, text: n.GetToken().Value}
	case *ast.BoolNode:
		return &node{kind: kindBool, pos: pos, text: n.Token.Value}
	case *ast.AnchorNode, *ast.AliasNode:
		s.add(pos, "anchors and aliases (& and *) are not accepted", "write the value out, or put it into quotes if it begins with & or *")
	case *ast.TagNode:
		s.add(pos, "tags (!) are not accepted", "put the value into quotes if it begins with !")
	default:
		s.add(pos, "this form of YAML is not accepted here", "")
	}
	return nil
}

// mappingPosition is the opening brace or the first key.
func (s *syntax) mappingPosition(n *ast.MappingNode) Position {
	if !n.IsFlowStyle && len(n.Values) > 0 {
		return s.position(n.Values[0].Key.GetToken())
	}
	return s.position(n.Start)
}

func (s *syntax) mapping(pos Position, values []*ast.MappingValueNode) *node {
	m := &node{kind: kindMapping, pos: pos}
	for _, v := range values {
		keyPos := s.position(v.Key.GetToken())
		scalar, ok := v.Key.(ast.ScalarNode)
		switch {
		case v.Key.IsMergeKey():
			s.add(keyPos, "merge keys (<<) are not accepted", "write the keys out")
			continue
		case !ok:
			s.add(keyPos, "a key must be a plain word", "")
			continue
		}
		m.entries = append(m.entries, entry{key: scalar.GetToken().Value, pos: keyPos, value: s.node(v.Value)})
	}
	return m
}
