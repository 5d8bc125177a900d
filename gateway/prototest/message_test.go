package prototest

import (
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"strconv"
	"strings"

	"github.com/jackc/pgx/v5/pgproto3"
)

func itoa(n int) string { return strconv.Itoa(n) }

// parseMessages reads messages, one a line: a name, and arguments of which one
// may go without a name. Values are "strings" as in Go, x"hex", numbers, null and
// [lists]. answers is how many ReadyForQuery are to come if nothing is skipped.
func parseMessages(text string, s *script) (out []byte, answers int, err error) {
	for line := range strings.Lines(text) {
		line = strings.TrimSpace(line)
		if line == "" || strings.HasPrefix(line, "#") {
			continue
		}
		name, rest, _ := strings.Cut(line, " ")
		p := &argParser{text: rest}
		args, err := p.args()
		if err != nil {
			return nil, 0, fmt.Errorf("%s: %w", line, err)
		}
		switch name {
		case "Query", "Sync", "FunctionCall":
			answers++
		}
		if out, err = args.encode(out, name); err != nil {
			return nil, 0, fmt.Errorf("%s: %w", line, err)
		}
	}
	return out, answers, nil
}

// value is an argument: text, a list, or null.
type value struct {
	text string
	list []value
	null bool
}

// arguments by name; "" is the one without.
type arguments map[string]value

func (a arguments) text(name string) string { return a[name].text }

func (a arguments) int(name string) int {
	n, _ := strconv.Atoi(a[name].text)
	return n
}

func (a arguments) int16s(name string) (out []int16) {
	for _, v := range a[name].list {
		n, _ := strconv.Atoi(v.text)
		out = append(out, int16(n))
	}
	return out
}

// prepared is the kind and the name in Describe and Close.
func (a arguments) object() (byte, string) {
	if v, ok := a["portal"]; ok {
		return 'P', v.text
	}
	return 'S', a.text("stmt")
}

func (a arguments) encode(dst []byte, name string) ([]byte, error) {
	var m pgproto3.FrontendMessage
	switch name {
	case "Query":
		m = &pgproto3.Query{String: a.text("")}
	case "Parse":
		p := &pgproto3.Parse{Name: a.text("name"), Query: a.text("")}
		for _, v := range a["oids"].list {
			n, _ := strconv.ParseUint(v.text, 10, 32)
			p.ParameterOIDs = append(p.ParameterOIDs, uint32(n))
		}
		m = p
	case "Bind":
		b := &pgproto3.Bind{DestinationPortal: a.text("portal"), PreparedStatement: a.text("stmt"),
			ParameterFormatCodes: a.int16s("formats"), ResultFormatCodes: a.int16s("results")}
		for _, v := range a["params"].list {
			if v.null {
				b.Parameters = append(b.Parameters, nil)
			} else {
				b.Parameters = append(b.Parameters, []byte(v.text))
			}
		}
		m = b
	case "Describe":
		kind, object := a.object()
		m = &pgproto3.Describe{ObjectType: kind, Name: object}
	case "Close":
		kind, object := a.object()
		m = &pgproto3.Close{ObjectType: kind, Name: object}
	case "Execute":
		m = &pgproto3.Execute{Portal: a.text("portal"), MaxRows: uint32(a.int("max"))}
	case "FunctionCall":
		f := &pgproto3.FunctionCall{Function: uint32(a.int("oid"))}
		for _, v := range a["args"].list {
			f.Arguments = append(f.Arguments, []byte(v.text))
		}
		m = f
	case "Sync":
		m = &pgproto3.Sync{}
	case "Flush":
		m = &pgproto3.Flush{}
	case "Terminate":
		m = &pgproto3.Terminate{}
	case "CopyData":
		m = &pgproto3.CopyData{Data: []byte(a.text(""))}
	case "CopyDone":
		m = &pgproto3.CopyDone{}
	case "CopyFail":
		m = &pgproto3.CopyFail{Message: a.text("")}
	case "SSLRequest":
		m = &pgproto3.SSLRequest{}
	case "GSSENCRequest":
		m = &pgproto3.GSSEncRequest{}
	case "Startup":
		return a.startup(dst), nil
	case "Raw":
		// A message with any type and any length word.
		length := len(a.text("body")) + 4
		if _, ok := a["length"]; ok {
			length = a.int("length")
		}
		dst = append(dst, a.text("")...)
		return append(binary.BigEndian.AppendUint32(dst, uint32(length)), a.text("body")...), nil
	default:
		return nil, fmt.Errorf("unknown message %q", name)
	}
	return m.Encode(dst)
}

// startup is a start-up packet of any version; what is no parameter is in
// brackets: Startup version=3.2 user="postgres".
func (a arguments) startup(dst []byte) []byte {
	major, minor, _ := strings.Cut(a.text("version"), ".")
	if major == "" {
		major, minor = "3", "0"
	}
	hi, _ := strconv.Atoi(major)
	lo, _ := strconv.Atoi(minor)
	body := binary.BigEndian.AppendUint32(nil, uint32(hi)<<16|uint32(lo))
	for _, name := range []string{"user", "database", "application_name", "options", "replication", "client_encoding", "DateStyle", "_pq_.test", "nonsense"} {
		if v, ok := a[name]; ok {
			body = append(append(append(append(body, name...), 0), v.text...), 0)
		}
	}
	if a.text("") != "unterminated" {
		body = append(body, 0)
	}
	return append(binary.BigEndian.AppendUint32(dst, uint32(len(body)+4)), body...)
}

func cancelRequest(pid uint32, key []byte) []byte {
	b := binary.BigEndian.AppendUint32(nil, uint32(12+len(key)))
	b = binary.BigEndian.AppendUint32(b, 1234<<16|5678)
	return append(binary.BigEndian.AppendUint32(b, pid), key...)
}

// argParser reads the arguments of a message.
type argParser struct{ text string }

func (p *argParser) args() (arguments, error) {
	a := arguments{}
	for {
		p.text = strings.TrimLeft(p.text, " ")
		if p.text == "" {
			return a, nil
		}
		name := ""
		if i := strings.IndexAny(p.text, `= "[`); i > 0 && p.text[i] == '=' {
			name, p.text = p.text[:i], p.text[i+1:]
		}
		v, err := p.value()
		if err != nil {
			return nil, err
		}
		a[name] = v
	}
}

func (p *argParser) value() (value, error) {
	switch {
	case strings.HasPrefix(p.text, "["):
		return p.list()
	case strings.HasPrefix(p.text, `x"`):
		h, rest, ok := strings.Cut(p.text[2:], `"`)
		b, err := hex.DecodeString(h)
		if !ok || err != nil {
			return value{}, fmt.Errorf("bad hex in %s", p.text)
		}
		p.text = rest
		return value{text: string(b)}, nil
	case strings.HasPrefix(p.text, `"`):
		q, err := strconv.QuotedPrefix(p.text)
		if err != nil {
			return value{}, fmt.Errorf("bad string in %s", p.text)
		}
		p.text = p.text[len(q):]
		s, err := strconv.Unquote(q)
		return value{text: s}, err
	}
	end := strings.IndexAny(p.text, " ,]")
	if end < 0 {
		end = len(p.text)
	}
	word := p.text[:end]
	p.text = p.text[end:]
	return value{text: word, null: word == "null"}, nil
}

func (p *argParser) list() (value, error) {
	p.text = p.text[1:]
	v := value{list: []value{}}
	for {
		p.text = strings.TrimLeft(p.text, " ,")
		if strings.HasPrefix(p.text, "]") {
			p.text = p.text[1:]
			return v, nil
		}
		if p.text == "" {
			return v, fmt.Errorf("a list without an end")
		}
		e, err := p.value()
		if err != nil {
			return v, err
		}
		v.list = append(v.list, e)
	}
}
