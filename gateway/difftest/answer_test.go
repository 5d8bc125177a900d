package difftest

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgproto3"
)

const (
	// plainTimeout is what PostgreSQL gives a statement: the generator can't know how
	// long one takes. The gateway has more time: rows that it has brought together have
	// no index.
	plainTimeout   = 500 * time.Millisecond
	gatewayTimeout = 15 * time.Second
	// slow is how long a statement may take that is run in all modes.
	slow = time.Second
	// patience is when a statement is given up that the server has not ended.
	patience = 2 * gatewayTimeout
)

// SQLSTATEs that the comparison knows.
const (
	refused  = "0A000"
	canceled = "57014"
	// lost is in their place when the connection ended.
	lost = "lost"
)

// system is one of the two: what can be asked.
type system struct {
	name    string
	url     string
	timeout time.Duration // for a statement; 0 is none
	conn    *pgconn.PgConn
	types   map[uint32]typ
	oids    map[string]uint32
}

// typ is a type of a system. OIDs of user-defined types are different in each.
type typ struct {
	name             string
	array, composite bool
}

// mode is a way to run a statement.
type mode string

const (
	simple   mode = "simple protocol, text"
	unnamed  mode = "extended protocol, text"
	prepared mode = "prepared statement, binary"
	// What needs a block is run for statements in one.
	cursor mode = "cursor"
	copied mode = "COPY, names of columns and number of rows"
)

var modes = []mode{simple, unnamed, prepared, cursor, copied}

// answer is what a system answers to a statement.
type answer struct {
	columns []string // name, type and modifier of each
	floats  []bool   // which of them are of a type of floats
	params  []string // types of the parameters, of prepared statements
	rows    [][][]byte
	tag     string
	code    string // SQLSTATE, "" or lost
	message string // of the error
	after   [][][][]byte
}

// run runs a statement. The connection is as it was before, or closed.
func (s *system) run(t fatalist, m mode, st *statement) (a answer) {
	conn := s.connect(t)
	ctx, stop := context.WithTimeout(context.Background(), patience)
	defer stop()
	if st.inBlock {
		if _, err := conn.Exec(ctx, "BEGIN").ReadAll(); err != nil {
			return failed(err)
		}
		defer func() {
			if _, err := conn.Exec(ctx, "ROLLBACK").ReadAll(); err != nil && a.code == "" {
				a = failed(err)
			}
		}()
	}
	var r *pgconn.Result
	switch m {
	case simple:
		results, err := conn.Exec(ctx, st.simple()).ReadAll()
		if err != nil {
			return failed(err)
		}
		r = results[0]
	case unnamed:
		values, oids, formats := s.arguments(st, false)
		if st.portion > 0 {
			r = inPortions(ctx, conn, st, values, oids, formats)
		} else {
			r = conn.ExecParams(ctx, st.extended(), values, oids, formats, []int16{0}).Read()
		}
	case prepared:
		values, oids, formats := s.arguments(st, true)
		d, err := conn.Prepare(ctx, "", st.extended(), oids)
		if err != nil {
			return failed(err)
		}
		for _, oid := range d.ParamOIDs {
			a.params = append(a.params, s.typeName(oid))
		}
		r = conn.ExecPrepared(ctx, "", values, formats, []int16{1}).Read()
	case cursor:
		results, err := conn.Exec(ctx, "DECLARE difftest CURSOR FOR "+st.simple()).ReadAll()
		if err == nil {
			results, err = conn.Exec(ctx, "FETCH ALL FROM difftest").ReadAll()
		}
		if err != nil {
			return failed(err)
		}
		r = results[0]
	case copied:
		var lines bytes.Buffer
		tag, err := conn.CopyTo(ctx, &lines, "COPY ("+st.simple()+") TO STDOUT (FORMAT csv, HEADER)")
		if err != nil {
			return failed(err)
		}
		header, _, _ := strings.Cut(lines.String(), "\n")
		return answer{tag: tag.String(), columns: []string{header}}
	}
	if r.Err != nil {
		return failed(r.Err)
	}
	if st.after != "" {
		results, err := conn.Exec(ctx, st.after).ReadAll()
		if err != nil {
			return failed(err)
		}
		for _, r := range results {
			a.after = append(a.after, r.Rows)
		}
	}
	a.tag = r.CommandTag.String()
	for _, f := range r.FieldDescriptions {
		name := s.typeName(f.DataTypeOID)
		a.columns = append(a.columns, fmt.Sprintf("%s %s(%d)", f.Name, name, f.TypeModifier))
		a.floats = append(a.floats, name == "float4" || name == "float8")
	}
	for _, row := range r.Rows {
		for i, v := range row {
			if m == prepared && v != nil {
				s.canonical(r.FieldDescriptions[i].DataTypeOID, v)
			}
		}
		a.rows = append(a.rows, row)
	}
	return a
}

// inPortions executes a portal again and again until it is read.
func inPortions(ctx context.Context, conn *pgconn.PgConn, st *statement, values [][]byte, oids []uint32, formats []int16) *pgconn.Result {
	f := conn.Frontend()
	execute := func() { f.SendExecute(&pgproto3.Execute{MaxRows: uint32(st.portion)}) }
	f.SendParse(&pgproto3.Parse{Query: st.extended(), ParameterOIDs: oids})
	f.SendBind(&pgproto3.Bind{ParameterFormatCodes: formats, Parameters: values})
	f.SendDescribe(&pgproto3.Describe{ObjectType: 'P'})
	execute()
	f.Send(&pgproto3.Flush{})
	r := &pgconn.Result{}
	for {
		if err := f.Flush(); err != nil {
			return &pgconn.Result{Err: err}
		}
		message, err := conn.ReceiveMessage(ctx)
		if err != nil {
			return &pgconn.Result{Err: err}
		}
		switch m := message.(type) {
		case *pgproto3.RowDescription:
			for _, d := range m.Fields {
				r.FieldDescriptions = append(r.FieldDescriptions, pgconn.FieldDescription{Name: string(d.Name), DataTypeOID: d.DataTypeOID, TypeModifier: d.TypeModifier})
			}
		case *pgproto3.DataRow:
			var row [][]byte
			for _, v := range m.Values {
				row = append(row, bytes.Clone(v))
			}
			r.Rows = append(r.Rows, row)
		case *pgproto3.PortalSuspended:
			execute()
			f.Send(&pgproto3.Flush{})
		case *pgproto3.CommandComplete:
			r.CommandTag = pgconn.NewCommandTag(string(m.CommandTag))
			f.SendSync(&pgproto3.Sync{})
		case *pgproto3.ErrorResponse:
			r.Err = pgconn.ErrorResponseToPgError(m)
			f.SendSync(&pgproto3.Sync{})
		case *pgproto3.ReadyForQuery:
			return r
		}
	}
}

// arguments are the parameters as Parse and Bind take them.
func (s *system) arguments(st *statement, inBinary bool) (values [][]byte, oids []uint32, formats []int16) {
	for _, p := range st.params {
		var oid uint32
		if p.declared {
			oid = s.oids[kinds[p.kind].catalog()]
		}
		value, format := []byte(p.value), int16(0)
		if b, ok := p.binary(); ok && inBinary {
			value, format = b, 1
		}
		values, oids, formats = append(values, value), append(oids, oid), append(formats, format)
	}
	return values, oids, formats
}

func failed(err error) answer {
	var pe *pgconn.PgError
	if errors.As(err, &pe) {
		return answer{code: pe.Code, message: pe.Message}
	}
	return answer{code: lost, message: err.Error()}
}

func (s *system) typeName(oid uint32) string {
	if t, ok := s.types[oid]; ok {
		return t.name
	}
	return "unknown type " + strconv.Itoa(int(oid))
}

// canonical makes binary values that are equal look alike. Arrays and rows say what
// their elements are: OIDs of types are replaced by a hash of their names. A NaN may
// have a sign, which depends on which of two NaNs was added to the other.
func (s *system) canonical(oid uint32, v []byte) {
	switch t := s.types[oid]; {
	case t.name == "float8" && len(v) == 8 && math.IsNaN(math.Float64frombits(binary.BigEndian.Uint64(v))),
		t.name == "float4" && len(v) == 4 && math.IsNaN(float64(math.Float32frombits(binary.BigEndian.Uint32(v)))):
		v[0] &= 0x7f
	case t.array && len(v) >= 12:
		s.canonicalArray(v)
	case t.composite && len(v) >= 4:
		fields := binary.BigEndian.Uint32(v)
		for v = v[4:]; fields > 0 && len(v) >= 8; fields-- {
			field := s.replaceOID(v)
			v = s.element(field, v[4:])
		}
	}
}

// canonicalArray is canonical for an array: dimensions, flags, the elements' type,
// two numbers for each dimension, and the elements. The flag for NULLs says only that
// there may be some.
func (s *system) canonicalArray(v []byte) {
	dimensions := int(binary.BigEndian.Uint32(v))
	clear(v[4:8])
	element := s.replaceOID(v[8:])
	for v = v[min(len(v), 12+8*dimensions):]; len(v) >= 4; {
		v = s.element(element, v)
	}
}

// element treats a value that begins with its length, and returns what follows.
func (s *system) element(oid uint32, v []byte) []byte {
	length := int32(binary.BigEndian.Uint32(v))
	v = v[4:]
	if length < 0 || int(length) > len(v) {
		return v
	}
	s.canonical(oid, v[:length])
	return v[length:]
}

func (s *system) replaceOID(v []byte) uint32 {
	oid := binary.BigEndian.Uint32(v)
	hash := uint32(2166136261)
	for _, c := range []byte(s.typeName(oid)) {
		hash = (hash ^ uint32(c)) * 16777619
	}
	binary.BigEndian.PutUint32(v, hash)
	return oid
}

// described are the columns that a prepared statement is said to have. They may
// differ from the answer's in their modifiers: simplifying "CASE WHEN true THEN
// price END", the planner finds out that it is one with a scale.
func (s *system) described(t fatalist, m mode, st *statement) (columns []string) {
	ctx, stop := context.WithTimeout(context.Background(), patience)
	defer stop()
	text, oids := st.simple(), []uint32(nil)
	if m != simple {
		text = st.extended()
		_, oids, _ = s.arguments(st, false)
	}
	d, err := s.connect(t).Prepare(ctx, "", text, oids)
	if err != nil {
		return nil
	}
	for _, f := range d.Fields {
		columns = append(columns, fmt.Sprintf("%s %s(%d)", f.Name, s.typeName(f.DataTypeOID), f.TypeModifier))
	}
	return columns
}

// difference says what is different in the gateway's answer; kind is "" if nothing
// is. Answers with errors are the caller's to compare.
func (p *pair) difference(t fatalist, m mode, st *statement, want, got answer) (kind, detail string) {
	if !slices.Equal(want.params, got.params) || !slices.Equal(want.columns, got.columns) && !slices.Equal(p.plain.described(t, m, st), got.columns) {
		return "columns", fmt.Sprintf("PostgreSQL:  %q, parameters %q\nthe gateway: %q, parameters %q", want.columns, want.params, got.columns, got.params)
	}
	if want.tag != got.tag {
		kind, detail = "rows", fmt.Sprintf("PostgreSQL:  %s\nthe gateway: %s\n", want.tag, got.tag)
	}
	if st.listed {
		for i := range max(len(want.rows), len(got.rows)) {
			if i >= len(want.rows) || i >= len(got.rows) || !equalRows(m, st, want, want.rows[i], got.rows[i]) {
				return "rows", detail + fmt.Sprintf("from row %d on:\nPostgreSQL:\n%sthe gateway:\n%s", i+1, show(m, tail(want.rows, i)), show(m, tail(got.rows, i)))
			}
		}
		return kind, detail
	}
	missing, extra := unordered(m, st, want, got)
	if len(missing)+len(extra) > 0 {
		return "rows", detail + fmt.Sprintf("only in PostgreSQL's answer (%d):\n%sonly in the gateway's (%d):\n%s",
			len(missing), show(m, missing), len(extra), show(m, extra))
	}
	for i := range want.after {
		missing, extra := unordered(simple, &statement{}, answer{rows: want.after[i]}, answer{rows: got.after[i]})
		if len(missing)+len(extra) > 0 {
			return "tables", detail + fmt.Sprintf("%s\nonly in PostgreSQL (%d):\n%sonly in the gateway (%d):\n%s", st.after,
				len(missing), show(simple, missing), len(extra), show(simple, extra))
		}
	}
	for i := range want.rows {
		for _, c := range st.sorted {
			if !bytes.Equal(want.rows[i][c], got.rows[i][c]) {
				return "order", fmt.Sprintf("column %d is in another order from row %d on:\nPostgreSQL:\n%sthe gateway:\n%s",
					c+1, i+1, show(m, tail(want.rows, i)), show(m, tail(got.rows, i)))
			}
		}
	}
	return kind, detail
}

// unordered returns the rows that only one of the answers has, sorted.
func unordered(m mode, st *statement, want, got answer) (missing, extra [][][]byte) {
	exact := func(row [][]byte) string {
		var b strings.Builder
		for i, v := range row {
			switch {
			case slices.Contains(st.approximate, i):
			case v == nil:
				b.WriteString("N")
			default:
				fmt.Fprintf(&b, "%d:%s", len(v), v)
			}
		}
		return b.String()
	}
	left := map[string][][][]byte{}
	for _, row := range got.rows {
		left[exact(row)] = append(left[exact(row)], row)
	}
	for _, row := range want.rows {
		key := exact(row)
		i := slices.IndexFunc(left[key], func(other [][]byte) bool { return equalRows(m, st, want, row, other) })
		if i < 0 {
			missing = append(missing, row)
		} else {
			left[key] = slices.Delete(left[key], i, i+1)
		}
	}
	for _, rows := range left {
		extra = append(extra, rows...)
	}
	order := func(a, b [][]byte) int { return slices.CompareFunc(a, b, bytes.Compare) }
	slices.SortFunc(missing, order)
	slices.SortFunc(extra, order)
	return missing, extra
}

func equalRows(m mode, st *statement, a answer, x, y [][]byte) bool {
	for i := range x {
		if (x[i] == nil) != (y[i] == nil) {
			return false
		}
		if bytes.Equal(x[i], y[i]) {
			continue
		}
		if !slices.Contains(st.approximate, i) || !a.floats[i] || !near(float(m, x[i]), float(m, y[i])) {
			return false
		}
	}
	return true
}

// near is a relative tolerance, and an absolute one for what should be zero.
func near(x, y float64) bool {
	return math.Abs(x-y) <= 1e-9*max(1, math.Abs(x), math.Abs(y))
}

// float reads a float; approximate columns are all of float8.
func float(m mode, v []byte) float64 {
	if m == prepared && len(v) == 8 {
		return math.Float64frombits(binary.BigEndian.Uint64(v))
	}
	f, err := strconv.ParseFloat(string(v), 64)
	if err != nil {
		return math.NaN()
	}
	return f
}

func tail(rows [][][]byte, from int) [][][]byte { return rows[min(from, len(rows)):] }

// show prints the first rows.
func show(m mode, rows [][][]byte) string {
	const most = 8
	var b strings.Builder
	for i, row := range rows {
		if i == most {
			fmt.Fprintf(&b, "  ... and %d more\n", len(rows)-most)
			break
		}
		b.WriteString(" ")
		for _, v := range row {
			switch {
			case v == nil:
				b.WriteString(" NULL")
			case m == prepared:
				fmt.Fprintf(&b, " %.60x", v)
			default:
				fmt.Fprintf(&b, " %.60q", v)
			}
		}
		b.WriteString("\n")
	}
	return b.String()
}
