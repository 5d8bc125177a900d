package exec

import (
	"encoding/binary"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/shardgate/shardgate/gateway/pool"
	"github.com/shardgate/shardgate/planner"
	"github.com/shardgate/shardgate/wire"
)

// inlineBytes is how many bytes of rows travel with a final statement, as arrays
// among its parameters. More go to temporary tables, which cost the shard writes to
// its catalog.
const inlineBytes = 64 << 10

// insideBytes bounds the rows of a final statement that has to run in the client's
// transaction, where temporary tables can't be made.
const insideBytes = 32 << 20

// analyzeRows is how many rows of a temporary table make it worth to let PostgreSQL
// count what is in it, before it plans the final statement.
const analyzeRows = 500

// Gathering are the rows of a planner.Gather while they are brought together.
type Gathering struct {
	Parts []GatheredPart
	// Inside says that no temporary tables can be used.
	Inside bool
	// Changes says that the rows are for a statement that changes others.
	Changes bool
	// InTables has all parts be tables.
	InTables bool
	// LimitBytes bounds the rows of all parts.
	LimitBytes int64
	// Own says that the client's transaction may have made or locked tables that no other
	// connection can read: parts of these can't go to temporary tables.
	Own bool
	// Open gets a connection for temporary tables that nobody else uses, in a
	// transaction block. It belongs to the Gathering's owner, as Conn.
	Open func() (*pool.Conn, *wire.Error)
	// Make appends to the connection's output what makes the empty table of a part,
	// up to and without Sync.
	Make func(c *pool.Conn, part int, table string)
	Conn *pool.Conn
	// Clock is the time of the transaction, if the plan asks for it.
	Clock string
	// Carried says by OID how values travel that can't as they are, for parts of which the
	// plan doesn't know the columns.
	Carried map[uint32]planner.Carried

	bytes int64
}

// GatheredPart are the rows of one part: in memory, or in a temporary table.
type GatheredPart struct {
	g     *Gathering
	index int
	plan  *planner.Part
	names []string // of the columns
	types []uint32
	rows  []byte // as in DataRow, one behind the other
	count int64
	bytes int64
	table string // the temporary table, once there is one
	kept  bool   // in memory, for there can be none
	keys  []keySet
	// carried says by position how the values travel; nil if they do as they are. again says
	// that this became known when they were asked for: they have to be asked for so.
	carried []planner.Carried
	again   bool
}

// NewGathering makes a Gathering of a plan's parts.
func NewGathering(plan *planner.Gather) *Gathering {
	g := &Gathering{Parts: make([]GatheredPart, len(plan.Parts)), InTables: plan.InTables, Changes: plan.Target != nil}
	for i := range g.Parts {
		g.Parts[i] = GatheredPart{g: g, index: i, plan: &plan.Parts[i], carried: plan.Parts[i].Carried}
		for _, column := range plan.Parts[i].Keys {
			g.Parts[i].keys = append(g.Parts[i].keys, keySet{column: column})
		}
	}
	return g
}

// Columns is a Sink's.
func (p *GatheredPart) Columns(names []string, oids []uint32) {
	if p.names = p.plan.Columns; p.names == nil {
		p.names = names
	}
	p.types = oids
	if p.carried == nil && p.plan.Columns == nil && p.plan.Plain && p.inMemory() && !p.inlines() {
		p.carry()
	}
	if p.again || p.plan.Carried != nil {
		return
	}
	for i, c := range p.carried {
		if c.Text {
			p.types[i] = textOID
		}
	}
}

// carry has the values asked for once more, in the forms in which those travel that can't as
// they are. A part whose columns the plan doesn't know is a query over other parts: it gives
// the same again.
func (p *GatheredPart) carry() {
	carried := make([]planner.Carried, len(p.types))
	for i, t := range p.types {
		if arrays[t] == 0 {
			carried[i] = p.g.Carried[t]
		}
		if arrays[t] == 0 && !carried[i].Text {
			return
		}
	}
	p.carried, p.again = carried, true
}

// Again says that a part, which has been asked for, has to be asked for once more, by its
// Formats.
func (p *GatheredPart) Again() bool {
	again := p.again
	p.again = false
	return again
}

// Formats are the formats in which the columns are wanted.
func (p *GatheredPart) Formats() []int16 {
	if p.carried == nil || p.plan.Carried != nil {
		return []int16{wire.FormatBinary}
	}
	formats := make([]int16, len(p.carried))
	for i, c := range p.carried {
		if formats[i] = wire.FormatBinary; c.Text {
			formats[i] = wire.FormatText
		}
	}
	return formats
}

// Size is how many rows have come, and their bytes.
func (p *GatheredPart) Size() (rows, bytes int64) { return p.count, p.bytes }

// Row is a Sink's. The first rows are kept; when they are many, all go to a table.
func (p *GatheredPart) Row(body []byte) *wire.Error {
	if p.again {
		return nil
	}
	p.count++
	p.bytes += int64(len(body))
	for i := range p.keys {
		p.keys[i].add(body)
	}
	if p.g.bytes += int64(len(body)); p.g.bytes > p.g.LimitBytes {
		return wire.Errorf(wire.ConfigurationLimitExceeded, "the rows that this statement needs in one place are more than %d bytes", p.g.LimitBytes).
			WithDetail("The limit was reached by rows of %s.", p.plan.Table).
			WithHint("Make shardgate.gather_limit or, if that is as large as it may be, limits.gather_bytes larger, or let the statement need fewer rows: by conditions, by joins over the keys of co-located tables, or by a reference table.")
	}
	if p.inMemory() {
		if p.g.bytes > insideBytes || !p.inlines() {
			return p.outside()
		}
		p.rows = append(p.rows, body...)
		return nil
	}
	if p.table == "" && p.g.bytes <= inlineBytes && p.inlines() {
		p.rows = append(p.rows, body...)
		return nil
	}
	if p.table == "" {
		if e := p.spill(); e != nil {
			return e
		}
		if p.kept {
			p.rows = append(p.rows, body...)
			return nil
		}
	}
	return p.copy(body)
}

// inMemory says that the rows can't go to a temporary table: the final statement runs in
// the client's transaction, or the part's query can't be run again, or elsewhere, to make the table.
func (p *GatheredPart) inMemory() bool { return p.g.Inside || p.plan.Changes || p.kept }

// outside is the error for rows that can't travel as arrays, and have to.
func (p *GatheredPart) outside() *wire.Error {
	switch {
	case p.plan.Changes && !p.inlines():
		return wire.Errorf(wire.FeatureNotSupported, "a data-modifying item of WITH over several shards returns values of a type that can't be brought to another shard yet").
			WithHint("Only scalar types of PostgreSQL's own can. Return other columns, or cast them to text.")
	case p.plan.Changes:
		return wire.Errorf(wire.ConfigurationLimitExceeded, "a data-modifying item of WITH over several shards returns more than %d bytes of rows", insideBytes).
			WithHint("Return fewer rows or columns, or send the statements one by one in a transaction.")
	case !p.g.Changes && !p.inlines():
		return wire.Errorf(wire.FeatureNotSupported, "a query that has to be run in the client's transaction needs rows of %s with arrays, or with types of the user's, in one place", p.plan.Table).
			WithHint("Query system and temporary relations separately, leave WITH HOLD out of a cursor, and declare functions IMMUTABLE, or STABLE outside a transaction block, if they change nothing.")
	case !p.g.Changes:
		return wire.Errorf(wire.ConfigurationLimitExceeded, "a query that has to be run in the client's transaction needs more than %d bytes of rows in one place", insideBytes).
			WithHint("Query system and temporary relations separately, leave WITH HOLD out of a cursor, and declare functions IMMUTABLE, or STABLE outside a transaction block, if they change nothing.")
	case !p.inlines():
		return wire.Errorf(wire.FeatureNotSupported, "rows of %s have columns of types whose values can't be brought together for a statement that changes rows", p.plan.Table).
			WithHint("Only scalar types of PostgreSQL's own can. Read the rows first, and pass the values as parameters.")
	}
	return wire.Errorf(wire.ConfigurationLimitExceeded, "the rows by which this statement changes others are more than %d bytes", insideBytes).
		WithDetail("The limit was reached by rows of %s.", p.plan.Table).
		WithHint("Let the statement need fewer rows, by conditions or by several statements.")
}

// inlines says whether the rows can travel as arrays. Only a table can have a key, but
// without one PostgreSQL says no worse than that it can't do it.
func (p *GatheredPart) inlines() bool {
	return p.plan.Plain && !p.g.InTables && (len(p.plan.Primary) == 0 || p.inMemory()) && !slices.ContainsFunc(p.types, func(oid uint32) bool { return arrays[oid] == 0 })
}

// copy sends rows to the temporary table.
func (p *GatheredPart) copy(rows []byte) *wire.Error { return sendCopy(p.g.Conn, rows) }

// sendCopy sends rows as CopyData. DataRow and COPY's binary format have the same form
// of a row.
func sendCopy(c *pool.Conn, rows []byte) *wire.Error {
	if len(rows) == 0 {
		return nil
	}
	var head [5]byte
	head[0] = 'd'
	binary.BigEndian.PutUint32(head[1:], uint32(len(rows)+4))
	if err := c.Send(head[:]); err != nil {
		return asLost(err)
	}
	if err := c.Send(rows); err != nil {
		return asLost(err)
	}
	return nil
}

// ownSavepoint is none of the client's, which the connection has as well.
const ownSavepoint = `"shardgate table"`

// ownTable says whether an error may come of tables that the client's transaction has made,
// altered or locked.
func ownTable(code string) bool {
	switch code {
	case wire.UndefinedTable, wire.UndefinedColumn, wire.UndefinedObject, "42883", "3F000", wire.LockNotAvailable:
		return true
	}
	return false
}

// spill makes the part's temporary table, and sends there what was kept. Where only the
// client's transaction can read the part, it stays in memory.
func (p *GatheredPart) spill() *wire.Error {
	g := p.g
	if g.Conn == nil {
		c, e := g.Open()
		if e != nil {
			return e
		}
		g.Conn = c
	}
	table := `pg_temp."shardgate ` + strconv.Itoa(p.index+1) + `"`
	if g.Own {
		g.Conn.SendQuery("SAVEPOINT " + ownSavepoint)
	}
	g.Make(g.Conn, p.index, table)
	g.Conn.SendSync()
	_, e := readResult(g.Conn)
	if g.Own && e == nil {
		_, e = readResult(g.Conn)
	}
	if e != nil {
		if g.Own && ownTable(e.Code) && p.inlines() {
			p.kept = true
			if _, err := g.Conn.Query("ROLLBACK TO " + ownSavepoint); err != nil {
				return asLost(err)
			}
			return nil
		}
		own := *e
		if own.Position = 0; g.Own && ownTable(own.Code) {
			own.Hint = "If the transaction itself has made, altered or locked a table that the statement reads, commit it first."
		}
		return &own
	}
	p.table = table
	g.Conn.SendQuery("COPY " + table + " FROM STDIN (FORMAT binary)")
	if err := g.Conn.Flush(); err != nil {
		return asLost(g.Conn.Fail(err))
	}
	if e := awaitCopy(g.Conn); e != nil {
		return e
	}
	if e := p.copy(copyHeader); e != nil {
		return e
	}
	e = p.copy(p.rows)
	p.rows = nil
	return e
}

// awaitCopy reads the beginning of the answer to a COPY FROM STDIN.
func awaitCopy(c *pool.Conn) *wire.Error {
	for {
		h, err := c.Peek()
		if err != nil {
			return asLost(c.Fail(err))
		}
		switch h.Type {
		case 'G':
			if err := c.Drop(); err != nil {
				return asLost(c.Fail(err))
			}
			return nil
		case 'E':
			_, err := c.ReadResult()
			return wire.AsError(err)
		}
		if err := c.Drop(); err != nil {
			return asLost(c.Fail(err))
		}
	}
}

// End completes a part: all rows have come.
func (p *GatheredPart) End() *wire.Error {
	if p.again {
		return nil
	}
	if p.inMemory() && !p.inlines() {
		return p.outside() // also where there is no row
	}
	if p.table == "" && !p.inlines() {
		if e := p.spill(); e != nil {
			return e
		}
	}
	if p.table == "" {
		return nil
	}
	if e := p.copy(copyTrailer); e != nil {
		return e
	}
	c := p.g.Conn
	c.SetOut(wire.AppendCopyDone(c.Out()))
	if _, e := readResult(c); e != nil {
		return e
	}
	if e := p.addKey(); e != nil {
		return e
	}
	if p.count < analyzeRows {
		return nil
	}
	sql := "ANALYZE " + p.table
	for _, name := range p.plan.Index {
		sql = "CREATE INDEX ON " + p.table + " USING hash (" + planner.QuoteIdent(name) + ");" + sql
	}
	c.SendQuery(sql)
	_, e := readResult(c)
	return e
}

// addKey gives the temporary table its primary key, if the final statement may need it.
func (p *GatheredPart) addKey() *wire.Error {
	if len(p.plan.Primary) == 0 {
		return nil
	}
	var names []string
	for _, name := range p.plan.Primary {
		names = append(names, planner.QuoteIdent(name))
	}
	p.g.Conn.SendQuery("ALTER TABLE " + p.table + " ADD PRIMARY KEY (" + strings.Join(names, ", ") + ")")
	_, e := readResult(p.g.Conn)
	if e != nil && e.Code == wire.UniqueViolation { // by rows of tables that inherit from it
		return wire.Errorf(wire.FeatureNotSupported, "rows of %s have the same primary key, on which a column outside of GROUP BY depends", p.plan.Table).
			WithHint("Add the column to GROUP BY, or read ONLY the table.")
	}
	return e
}

// PartArrays writes the parts of a final statement, a planner.PartWriter, and
// collects the parameters that they need.
type PartArrays struct {
	OIDs   []uint32 // the types of all parameters, the client's own first
	Arrays [][]byte // in binary, behind the client's own
	g      *Gathering
	first  map[int]int // the number of a part's first array
}

// NewPartArrays makes a PartArrays for a statement with parameters of these types.
func NewPartArrays(g *Gathering, types []uint32) *PartArrays {
	return &PartArrays{OIDs: slices.Clone(types), g: g, first: map[int]int{}}
}

// AppendSource is a planner.PartWriter's. A part is written alike wherever it is read, as
// two expressions that have to be the same may read it.
func (w *PartArrays) AppendSource(dst []byte, part int) []byte {
	p := &w.g.Parts[part]
	if p.table != "" {
		return append(dst, p.table...)
	}
	first, ok := w.first[part]
	if !ok {
		first = len(w.OIDs) + 1
		w.first[part] = first
		for _, t := range p.types {
			w.OIDs = append(w.OIDs, arrays[t])
		}
		w.Arrays = append(w.Arrays, p.arrays()...)
	}
	list, columns := p.collated()
	dst = append(append(append(dst, "(SELECT "...), list...), " FROM ROWS FROM ("...)
	for i := range p.types {
		if i > 0 {
			dst = append(dst, ',')
		}
		dst = fmt.Appendf(dst, "pg_catalog.unnest($%d)", first+i)
	}
	dst = append(dst, ") AS _("...)
	for i, name := range columns {
		if i > 0 {
			dst = append(dst, ',')
		}
		dst = append(dst, planner.QuoteIdent(name)...)
	}
	return append(dst, "))"...)
}

// collated is a SELECT list with the part's columns, their types and their collations, over
// columns of these names. A column of a subquery has its collation as one of a table has it: what a
// statement around does with both columns and COLLATE is decided as it would be by
// PostgreSQL over the table.
func (p *GatheredPart) collated() (list string, columns []string) {
	if p.carried == nil && !slices.ContainsFunc(p.plan.Collations, func(c string) bool { return c != "" }) {
		return "*", p.names
	}
	var items []string
	for i, name := range p.names {
		columns = append(columns, "c"+strconv.Itoa(i+1))
		item := columns[i]
		if p.carried != nil {
			item = p.carried[i].Receive(item)
		}
		item += collate(p.plan.Collations, p.types, i)
		items = append(items, item+" AS "+planner.QuoteIdent(name))
	}
	return strings.Join(items, ", "), columns
}

// collate is the COLLATE of column i, where the plan names a collation for it and its type
// has any: name, text, bpchar, varchar.
func collate(collations []string, types []uint32, i int) string {
	if i >= len(collations) || collations[i] == "" || !slices.Contains([]uint32{19, 25, 1042, 1043}, types[i]) {
		return ""
	}
	return " COLLATE " + collations[i]
}

// AppendKeys is a planner.PartWriter's.
func (w *PartArrays) AppendKeys(dst []byte, expr string, part, column int) []byte {
	p := &w.g.Parts[part]
	i := slices.IndexFunc(p.keys, func(k keySet) bool { return k.column == column })
	if len(p.types) == 0 || p.keys[i].tooMany || arrays[p.types[column]] == 0 {
		return append(dst, "true"...)
	}
	w.OIDs = append(w.OIDs, arrays[p.types[column]])
	w.Arrays = append(w.Arrays, p.keys[i].array(p.types[column]))
	return fmt.Appendf(dst, "%s OPERATOR(pg_catalog.=) ANY ($%d)", expr, len(w.OIDs))
}

// AppendClock is a planner.PartWriter's.
func (w *PartArrays) AppendClock(dst []byte) []byte { return append(dst, w.g.Clock...) }

// AppendCast is a planner.PartWriter's.
func (w *PartArrays) AppendCast(dst []byte, part, column int) []byte {
	const int8OID = 20
	if w.g.Parts[part].types[column] == int8OID {
		dst = append(dst, "::pg_catalog.int8"...)
	}
	return dst
}

// arrays returns the part's columns as arrays in binary.
func (p *GatheredPart) arrays() [][]byte {
	out := make([][]byte, len(p.types))
	for i, t := range p.types {
		out[i] = appendArrayHead(make([]byte, 0, 20+len(p.rows)/len(p.types)), t, int(p.count))
	}
	rows := p.rows
	for range p.count {
		rows = rows[2:]
		for i := range out {
			n := 4 + max(0, int(int32(binary.BigEndian.Uint32(rows))))
			out[i] = append(out[i], rows[:n]...)
			rows = rows[n:]
		}
	}
	return out
}

// textOID is text's, by pg_type.dat.
const textOID = 25

// arrays are the array types of PostgreSQL's scalar and range types whose values mean the
// same on each server, by pg_type.dat.
var arrays = map[uint32]uint32{
	16: 1000, 17: 1001, 18: 1002, 19: 1003, 20: 1016, 21: 1005, 23: 1007,
	25: 1009, 26: 1028, 27: 1010, 114: 199, 142: 143, 700: 1021, 701: 1022,
	790: 791, 829: 1040, 774: 775, 869: 1041, 650: 651,
	1042: 1014, 1043: 1015, 1082: 1182, 1083: 1183, 1114: 1115,
	1184: 1185, 1186: 1187, 1266: 1270, 1560: 1561, 1562: 1563,
	1700: 1231, 2950: 2951, 3802: 3807, 3614: 3643, 3615: 3645,
	600: 1017, 601: 1018, 602: 1019, 603: 1020, 604: 1027, 628: 629, 718: 719,
	3220: 3221, 4072: 4073, 5069: 271,
	3904: 3905, 3906: 3907, 3908: 3909, 3910: 3911, 3912: 3913, 3926: 3927,
	4451: 6150, 4532: 6151, 4533: 6152, 4534: 6153, 4535: 6155, 4536: 6157,
}

// keepTypes tells a sink the columns in the RowDescription at the head of c's input.
func (r *Runner) keepTypes(into Sink, c *pool.Conn) error {
	body, err := c.Body()
	if err != nil {
		return err
	}
	if err := wire.DecodeRowDescription(body, &r.desc); err != nil {
		return err
	}
	oids, names := make([]uint32, r.desc.Len()), make([]string, r.desc.Len())
	for i := range oids {
		oids[i], names[i] = r.desc.TypeOID(i), string(r.desc.Name(i))
	}
	into.Columns(names, oids)
	return nil
}
