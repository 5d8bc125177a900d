package prototest

import (
	"bufio"
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"io"
	"net"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/cockroachdb/datadriven"
)

// patience is how long an answer may take before the script says that none came: on a busy
// machine, under the race detector, a change of the schema takes long.
const patience = time.Minute

// peer is a client's connection to the server under test.
type peer struct {
	nc  net.Conn
	r   *bufio.Reader
	pid uint32
	key []byte
	// formats are those of the last RowDescription, to print rows by.
	formats []uint16
}

func newPeer(nc net.Conn) *peer { return &peer{nc: nc, r: bufio.NewReader(nc)} }

// receive prints messages up to the one that until names, as "Name" or "Name*count".
// d may be nil.
func (p *peer) receive(until string, d *datadriven.TestData) string {
	if until == "" || until == "none" {
		return ""
	}
	p.nc.SetReadDeadline(time.Now().Add(patience))
	if until == "byte" {
		// The answer to SSLRequest and GSSENCRequest.
		b, err := p.r.ReadByte()
		if err != nil {
			return ending(err)
		}
		return fmt.Sprintf("%q\n", b)
	}
	name, times, _ := strings.Cut(until, "*")
	left := 1
	if times != "" {
		left, _ = strconv.Atoi(times)
	}
	var lines []string
	for left > 0 {
		typ, body, err := p.read()
		if err != nil {
			lines = append(lines, strings.TrimSuffix(ending(err), "\n"))
			break
		}
		line := p.render(typ, body)
		lines = append(lines, line)
		if word, _, _ := strings.Cut(line, " "); word == name {
			left--
		}
	}
	if d != nil && d.HasArg("sorted") {
		sortRows(lines)
	}
	if d != nil && d.HasArg("count") {
		lines = countLines(lines)
	}
	return strings.Join(lines, "\n") + "\n"
}

func ending(err error) string {
	if isTimeout(err) {
		return "nothing more comes\n"
	}
	return "closed\n"
}

func (p *peer) read() (byte, []byte, error) {
	var head [5]byte
	if _, err := io.ReadFull(p.r, head[:]); err != nil {
		return 0, nil, err
	}
	body := make([]byte, max(0, int(binary.BigEndian.Uint32(head[1:]))-4))
	_, err := io.ReadFull(p.r, body)
	return head[0], body, err
}

// countLines prints each line once, in the order in which they came first, with its
// number.
func countLines(lines []string) (out []string) {
	n := map[string]int{}
	for _, l := range lines {
		if n[l]++; n[l] == 1 {
			out = append(out, l)
		}
	}
	for i, l := range out {
		out[i] = itoa(n[l]) + " " + l
	}
	return out
}

// sortRows sorts each run of rows.
func sortRows(lines []string) {
	isRow := func(s string) bool { return strings.HasPrefix(s, "DataRow") || strings.HasPrefix(s, "CopyData") }
	for i := 0; i < len(lines); i++ {
		k := i
		for k < len(lines) && isRow(lines[k]) {
			k++
		}
		slices.Sort(lines[i:k])
		i = k
	}
}

// names of the messages, whose bodies are empty unless render knows better.
var names = map[byte]string{
	'1': "ParseComplete", '2': "BindComplete", '3': "CloseComplete", 'n': "NoData", 's': "PortalSuspended",
	'I': "EmptyQueryResponse", 'c': "CopyDone", 'C': "CommandComplete", 'T': "RowDescription", 't': "ParameterDescription",
	'D': "DataRow", 'd': "CopyData", 'E': "ErrorResponse", 'N': "NoticeResponse", 'Z': "ReadyForQuery", 'S': "ParameterStatus",
	'K': "BackendKeyData", 'R': "Authentication", 'v': "NegotiateProtocolVersion", 'G': "CopyInResponse", 'H': "CopyOutResponse",
	'V': "FunctionCallResponse", 'A': "NotificationResponse",
}

// render prints a message: its name, and the fields that have to agree.
func (p *peer) render(typ byte, body []byte) string {
	name, ok := names[typ]
	if !ok {
		return fmt.Sprintf("message %q %x", typ, body)
	}
	r := reader{body}
	var out []string
	switch typ {
	case 'C', 'S':
		for len(r.b) > 0 {
			out = append(out, r.string())
		}
		if out[0] == "server_version" {
			out = out[:1]
		}
	case 'Z':
		out = append(out, string(body))
	case 'R':
		out = append(out, itoa(int(r.uint32())))
	case 'K':
		p.pid, p.key = r.uint32(), r.b
	case 'v':
		v := r.uint32()
		out = append(out, fmt.Sprintf("%d.x", v>>16)) // which minor version depends on the server's
		for range r.uint32() {
			out = append(out, r.string())
		}
	case 'T':
		out = p.rowDescription(&r)
	case 't':
		for range r.uint16() {
			out = append(out, itoa(int(r.uint32())))
		}
	case 'D':
		out = p.row(&r)
	case 'd':
		out = append(out, strconv.Quote(string(body)))
	case 'G', 'H':
		out = append(out, fmt.Sprintf("format=%d columns=%d", r.byte(), r.uint16()))
	case 'E', 'N':
		out = fields(&r)
	case 'A':
		r.uint32()
		out = append(out, r.string(), strconv.Quote(r.string()))
	case 'V':
		out = append(out, value64(&r, 0))
	default:
		if len(body) > 0 {
			out = append(out, fmt.Sprintf("%x", body))
		}
	}
	return strings.Join(append([]string{name}, out...), " ")
}

func (p *peer) rowDescription(r *reader) (out []string) {
	p.formats = p.formats[:0]
	for range r.uint16() {
		name := r.string()
		r.uint32() // the table's OID
		attribute, oid, size, mod, format := r.uint16(), r.uint32(), int16(r.uint16()), int32(r.uint32()), r.uint16()
		s := fmt.Sprintf("%s:%d", name, oid)
		if format == 1 {
			s += ":binary"
		}
		if attribute != 0 {
			s += fmt.Sprintf(":column%d", attribute)
		}
		out = append(out, fmt.Sprintf("%s:size%d", s, size))
		if mod != -1 {
			out[len(out)-1] += fmt.Sprintf(":mod%d", mod)
		}
		p.formats = append(p.formats, format)
	}
	return out
}

func (p *peer) row(r *reader) (out []string) {
	for i := range int(r.uint16()) {
		format := uint16(0)
		if i < len(p.formats) {
			format = p.formats[i]
		}
		out = append(out, value64(r, format))
	}
	return out
}

// value64 reads a value with its length before it. Without a RowDescription, the
// format isn't known: what can't be printed is shown in hex.
func value64(r *reader, format uint16) string {
	n := int32(r.uint32())
	if n < 0 {
		return "null"
	}
	b := r.bytes(int(n))
	if len(b) > 1000 {
		return fmt.Sprintf("%d octets with checksum %08x", len(b), crc32.ChecksumIEEE(b))
	}
	if format == 1 || slices.ContainsFunc(b, func(c byte) bool { return c < ' ' && c != '\n' && c != '\t' }) {
		return fmt.Sprintf("x%x", b)
	}
	return strconv.Quote(string(b))
}

// versions finds the newest minor version of the protocol that a server speaks.
var versions = regexp.MustCompile(`(server supports 3\.0 to 3\.)\d+`)

// fields prints the fields of an error or a notice that a user or a driver goes by.
// Where and source positions are left out: the gateway names the shard there.
func fields(r *reader) (out []string) {
	byCode := map[byte]string{}
	for len(r.b) > 1 {
		code := r.byte()
		byCode[code] = r.string()
	}
	message := versions.ReplaceAllString(byCode['M'], "${1}x")
	out = append(out, byCode['V'], byCode['C'], strconv.Quote(message))
	for _, f := range []struct {
		code byte
		name string
	}{{'D', "detail"}, {'H', "hint"}, {'P', "position"}, {'s', "schema"}, {'t', "table"}, {'c', "column"}, {'d', "type"}, {'n', "constraint"}} {
		if v, ok := byCode[f.code]; ok {
			if f.code != 'P' {
				v = strconv.Quote(v)
			}
			out = append(out, f.name+"="+v)
		}
	}
	return out
}

// reader reads a body; what is missing reads as zero.
type reader struct{ b []byte }

func (r *reader) bytes(n int) []byte {
	n = min(n, len(r.b))
	b := r.b[:n]
	r.b = r.b[n:]
	return b
}

func (r *reader) byte() byte {
	if b := r.bytes(1); len(b) == 1 {
		return b[0]
	}
	return 0
}

func (r *reader) uint16() uint16 {
	if b := r.bytes(2); len(b) == 2 {
		return binary.BigEndian.Uint16(b)
	}
	return 0
}

func (r *reader) uint32() uint32 {
	if b := r.bytes(4); len(b) == 4 {
		return binary.BigEndian.Uint32(b)
	}
	return 0
}

func (r *reader) string() string {
	for i, c := range r.b {
		if c == 0 {
			s := string(r.b[:i])
			r.b = r.b[i+1:]
			return s
		}
	}
	s := string(r.b)
	r.b = nil
	return s
}
