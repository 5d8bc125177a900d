package exec

import (
	"fmt"

	"github.com/shardgate/shardgate/planner"
	"github.com/shardgate/shardgate/planner/sqltext"
	"github.com/shardgate/shardgate/wire"
)

// Moved are the rows of a planner.Move, with the shards that they are on.
type Moved struct {
	Rows
	Plan *planner.Move
	From []int // by row
	// Clock is the time of the transaction, if the plan asks for it.
	Clock string
}

// CameFrom notes that the rows which have come since the last call are a shard's.
func (m *Moved) CameFrom(shard int) {
	for len(m.From) < m.count {
		m.From = append(m.From, shard)
	}
}

// Check says why rows of these columns can't be brought to other shards.
func (m *Moved) Check() *wire.Error {
	for i, t := range m.types {
		if arrays[t] == 0 {
			return wire.Errorf(wire.FeatureNotSupported, "a row can't be moved to another shard yet: column \"%s\" of %s is of a type whose values can't be brought there", m.Plan.Columns[i-planner.MovePlace], m.Plan.Table).
				WithHint("Delete the row and insert it with the new key, in one transaction.")
		}
	}
	return nil
}

// columns are the columns of one of the Change's parts: from the first to before end.
func (m *Moved) columns(part int) (end int) {
	switch part {
	case planner.MoveStays:
		return planner.MovePlace + m.Plan.Assigned
	case planner.MoveGoes:
		return planner.MovePlace
	}
	return len(m.types)
}

// AppendRows writes the query for the rows.
func (m *Moved) AppendRows(dst, text []byte, lits []sqltext.Literal) []byte {
	return m.Plan.Rows.Append(dst, text, lits, &moveWriter{rows: m})
}

// AppendChange writes the Change, which gets the rows as arrays: parameters behind the
// client's own, params of them.
func (m *Moved) AppendChange(dst, text []byte, lits []sqltext.Literal, params int) (sql []byte, types []uint32) {
	w := moveWriter{rows: m, params: params}
	return m.Plan.Change.Append(dst, text, lits, &w), w.types
}

// moveWriter writes the parts of a Change, a planner.PartWriter.
type moveWriter struct {
	rows   *Moved
	params int
	types  []uint32
}

// AppendSource is a planner.PartWriter's.
func (w *moveWriter) AppendSource(dst []byte, part int) []byte {
	end := w.rows.columns(part)
	dst = append(dst, "(SELECT * FROM ROWS FROM ("...)
	for i, t := range w.rows.types[:end] {
		w.types = append(w.types, arrays[t])
		dst = fmt.Appendf(dst, "%spg_catalog.unnest($%d)", separator(i), w.params+len(w.types))
	}
	dst = append(dst, ") AS _("...)
	for i := range end {
		dst = append(append(dst, separator(i)...), planner.QuoteIdent(planner.MoveColumn(i))...)
	}
	return append(dst, "))"...)
}

func separator(i int) string {
	if i == 0 {
		return ""
	}
	return ", "
}

// AppendCast is a planner.PartWriter's. A Change has none.
func (w *moveWriter) AppendCast(dst []byte, _, _ int) []byte { return dst }

// AppendKeys is a planner.PartWriter's. A Change has none.
func (w *moveWriter) AppendKeys(dst []byte, _ string, _, _ int) []byte { return dst }

// AppendClock is a planner.PartWriter's.
func (w *moveWriter) AppendClock(dst []byte) []byte { return append(dst, w.rows.Clock...) }

// Arrays returns the arrays of a Change for each of shards, in the order of its parts.
// to are the shards to which the rows belong.
func (m *Moved) Arrays(shards, to []int) [][][]byte {
	at := map[int]int{}
	for i, shard := range shards {
		at[shard] = i
	}
	out := make([][][]byte, len(shards))
	none := len(shards) // for the rows that are not of the part
	part := func(n int, of func(row int) int) {
		var columns []int
		for i := range m.columns(n) {
			columns = append(columns, i)
		}
		for i, a := range m.arrays(columns, none+1, of)[:none] {
			out[i] = append(out[i], a...)
		}
	}
	part(planner.MoveStays, func(row int) int {
		if m.From[row] != to[row] {
			return none
		}
		return at[to[row]]
	})
	moving := func(shard []int) func(int) int {
		return func(row int) int {
			if m.From[row] == to[row] {
				return none
			}
			return at[shard[row]]
		}
	}
	part(planner.MoveComes, moving(to))
	part(planner.MoveGoes, moving(m.From))
	return out
}
