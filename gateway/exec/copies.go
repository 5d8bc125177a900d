package exec

import (
	"encoding/binary"

	"github.com/shardgate/shardgate/planner"
	"github.com/shardgate/shardgate/wire"
)

// ChangedCopy are the rows that a statement returns which has changed one copy of a reference
// table, by a planner.Copies. A Sink.
type ChangedCopy struct {
	Plan *planner.Copies
	// Client gets what the client wants returned.
	Client Sink
	// Rows are what the other copies get.
	Rows StepRows

	own int // how many columns are the client's
}

// Columns is a Sink's.
func (r *ChangedCopy) Columns(names []string, oids []uint32) {
	r.own = len(names) - r.Plan.Columns
	r.Client.Columns(names[:r.own], oids[:r.own])
	r.Rows.Columns(names[r.own:], oids[r.own:])
}

// Formats are the formats in which the columns are wanted. own are the client's, as in Bind.
func (r *ChangedCopy) Formats(own []int16) []int16 {
	formats := make([]int16, r.own, r.own+r.Plan.Columns)
	for i := range formats {
		switch {
		case len(own) == 1:
			formats[i] = own[0]
		case i < len(own):
			formats[i] = own[i]
		}
	}
	return append(formats, r.Rows.Formats()...)
}

// Row is a Sink's.
func (r *ChangedCopy) Row(body []byte) *wire.Error {
	end := 2
	for range r.own {
		end += 4 + max(0, int(int32(binary.BigEndian.Uint32(body[end:]))))
	}
	row := func(columns int, values []byte) []byte {
		return append(binary.BigEndian.AppendUint16(nil, uint16(columns)), values...)
	}
	if r.own > 0 {
		if e := r.Client.Row(row(r.own, body[2:end])); e != nil {
			return e
		}
	}
	return r.Rows.Row(row(r.Plan.Columns, body[end:]))
}

// Change is the statement for the other copies, whose only parameters are arrays of these
// types.
func (r *ChangedCopy) Change() (sql []byte, types []uint32, arrays [][]byte) {
	w := NewPassed([]*StepRows{&r.Rows}, nil, nil)
	sql = r.Plan.Change.Append(nil, nil, nil, w)
	return sql, w.OIDs, w.Arrays()
}
