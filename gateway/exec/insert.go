package exec

import (
	"fmt"
	"slices"

	"github.com/shardgate/shardgate/gateway/pool"
	"github.com/shardgate/shardgate/planner"
	"github.com/shardgate/shardgate/planner/sqltext"
	"github.com/shardgate/shardgate/shardmap"
	"github.com/shardgate/shardgate/wire"
)

// Selected are the rows of the query of a planner.InsertSelect or CreateAs.
type Selected struct {
	Rows
	Plan *planner.InsertSelect // nil of a CreateAs
}

// Check says why rows of these columns can't be inserted.
func (r *Selected) Check() *wire.Error {
	if r.Plan == nil {
		if i := slices.IndexFunc(r.types, planner.OwnOIDs); i >= 0 {
			return wire.Errorf(wire.FeatureNotSupported, "values of column %d of the query are OIDs of its shard, and can't be brought to another one", i+1).
				WithHint("Cast the column to text.")
		}
		return nil
	}
	if why := r.Plan.Refusal; why != nil && len(r.types) < r.Plan.MinColumns {
		e := wire.Errorf(why.Code, "%s", why.Message)
		e.Detail, e.Hint = why.Detail, why.Hint
		return e
	}
	if n := r.Plan.Columns; n > 0 && len(r.types) != n {
		return wire.Errorf(wire.InternalError, "the query has %d columns, and not %d", len(r.types), n).
			WithHint("A table was changed a moment ago: try again.")
	}
	for _, k := range r.Plan.Keys {
		if k.Column >= len(r.types) {
			return wire.Errorf(wire.FeatureNotSupported, "the rows of the sharded table %s need a value for their key", r.Plan.Table).
				WithHint("Name the column, and let the query give it.")
		}
		if _, ok := shardmap.KeyTypeOfOID(r.types[k.Column]); !ok && r.Plan.Merges {
			// A float may equal several integers, and a numeric be none.
			return wire.Errorf(wire.FeatureNotSupported, "the key of the sharded table %s is compared with values of another type, by which rows can't be divided", r.Plan.Table).
				WithHint("Cast the column to the key's type in the source.")
		}
	}
	for i, t := range r.types {
		if !r.constant(i) && arrays[t] == 0 {
			return wire.Errorf(wire.FeatureNotSupported, "column %d of the query is of a type whose values can't be brought to other shards yet", i+1).
				WithHint("Insert the rows with COPY, or with VALUES.")
		}
	}
	return nil
}

// constant says whether a column's value stands in the INSERT.
func (r *Selected) constant(column int) bool {
	return column < len(r.Plan.Constants) && r.Plan.Constants[column] != nil
}

// Arrays returns the columns that are no constants as arrays in binary: those of the
// rows of each of n shards. of says which shard has a row.
func (r *Selected) Arrays(n int, of func(row int) int) [][][]byte {
	var columns []int
	for i := range r.types {
		if !r.constant(i) {
			columns = append(columns, i)
		}
	}
	return r.arrays(columns, n, of)
}

// AppendInsert writes the INSERT of rows that are given to it as arrays, which are
// the parameters behind the client's own, params of them.
func (r *Selected) AppendInsert(dst, text []byte, lits []sqltext.Literal, params int, clock planner.PartWriter) (sql []byte, types []uint32) {
	dst = r.Plan.Head.Append(dst, text, lits, clock)
	dst = append(dst, "SELECT "...)
	var from []byte
	for i, t := range r.types {
		if i > 0 {
			dst = append(dst, ", "...)
		}
		if r.constant(i) {
			dst = r.Plan.Constants[i].Append(dst, text, lits, nil)
			continue
		}
		types = append(types, arrays[t])
		dst = append(dst, r.as(i).Receive(fmt.Sprintf("_.c%d", len(types)))...)
		if r.Plan.Merges {
			dst = append(dst, collate(r.Plan.Collations, r.types, i)...)
			dst = append(append(dst, " AS "...), planner.QuoteIdent(r.names[i])...)
		}
		if len(types) > 1 {
			from = append(from, ", "...)
		}
		from = fmt.Appendf(from, "pg_catalog.unnest($%d)", params+len(types))
	}
	dst = r.Plan.Fills.Append(dst, text, lits, clock)
	if len(types) == 0 {
		// Nothing but constants, and so one key: all rows go to the same place.
		dst = fmt.Appendf(dst, " FROM pg_catalog.generate_series(1, %d)", r.count)
	} else {
		dst = append(append(append(dst, " FROM ROWS FROM ("...), from...), ") AS _("...)
		for i := range types {
			if i > 0 {
				dst = append(dst, ", "...)
			}
			dst = fmt.Appendf(dst, "c%d", i+1)
		}
		dst = append(dst, ')')
	}
	dst = append(dst, ' ')
	return r.Plan.Tail.Append(dst, text, lits, clock), types
}

// copyDataBytes is the size of a CopyData message: PostgreSQL takes none beyond a GB.
const copyDataBytes = 1 << 20

// CopyTo stores the rows in a table with the query's columns, on a connection where
// nothing is under way.
func (r *Selected) CopyTo(c *pool.Conn, table string) *wire.Error {
	c.SendQuery("COPY " + table + " FROM STDIN (FORMAT binary)")
	if err := c.Flush(); err != nil {
		return asLost(c.Fail(err))
	}
	if e := awaitCopy(c); e != nil {
		return e
	}
	for chunk := range slices.Chunk(slices.Concat(copyHeader, r.rows, copyTrailer), copyDataBytes) {
		if e := sendCopy(c, chunk); e != nil {
			return e
		}
	}
	c.SetOut(wire.AppendCopyDone(c.Out()))
	_, e := readResult(c)
	return e
}
