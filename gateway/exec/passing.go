package exec

import (
	"encoding/binary"
	"strconv"
	"strings"

	"github.com/shardgate/shardgate/planner"
	"github.com/shardgate/shardgate/planner/sqltext"
	"github.com/shardgate/shardgate/wire"
)

// Passing says which rows of a merge are the client's: of equal ones the first, and of those
// the ones between OFFSET and LIMIT.
type Passing struct {
	// Distinct is how many of the first keys make rows equal; 0 if all rows count.
	Distinct int
	Skip     int64
	// Limit is how many rows are the client's, -1 if all.
	Limit int64
	// Passed is how many there were.
	Passed int64

	last []keyValue // of the row before; nil before the first
	held [][]byte   // its values, which outlive the row
}

// takes says whether the next row of the merge is the client's.
func (p *Passing) takes(s *sortedRows, keys []planner.SortKey) bool {
	if p.Distinct > 0 && p.repeats(s, keys) {
		return false
	}
	if p.Skip > 0 {
		p.Skip--
		return false
	}
	if p.Done() {
		return false
	}
	p.Passed++
	return true
}

// Done says that no more rows are the client's.
func (p *Passing) Done() bool { return p.Limit >= 0 && p.Passed >= p.Limit }

// repeats says whether a row equals the one before it.
func (p *Passing) repeats(s *sortedRows, keys []planner.SortKey) bool {
	same := p.last != nil
	for i := 0; same && i < p.Distinct; i++ {
		same = s.keys[i].compare(&p.last[i], keys[i]) == 0
	}
	if same {
		return true
	}
	if p.last == nil {
		p.last, p.held = make([]keyValue, p.Distinct), make([][]byte, p.Distinct)
	}
	for i := range p.last {
		k := s.keys[i]
		if k.bytes != nil {
			p.held[i] = append(p.held[i][:0], k.bytes...)
			k.bytes = p.held[i]
		}
		p.last[i] = k
	}
	return false
}

// Count reads the number of rows of LIMIT or OFFSET. ok is false if that is PostgreSQL's to
// do: it is negative, or no integer.
func (v *Values) Count(value *planner.Value) (n int64, null, ok bool) {
	if value.Source == planner.FromLiteral {
		lit := v.Literals[value.Index]
		if lit.Kind != sqltext.Integer || value.Negative {
			return 0, false, false
		}
		n, ok = lit.Int64(v.Text)
		return n, false, ok
	}
	if v.Bind == nil || value.Index >= len(v.Bind.Params) {
		return 0, false, false
	}
	b, null := v.Bind.Param(value.Index)
	if null {
		return 0, true, true
	}
	if v.Bind.ParamFormat(value.Index) == wire.FormatText {
		n, err := strconv.ParseInt(strings.TrimSpace(string(b)), 10, 64)
		return n, false, err == nil && n >= 0
	}
	switch len(b) {
	case 2:
		n = int64(int16(binary.BigEndian.Uint16(b)))
	case 4:
		n = int64(int32(binary.BigEndian.Uint32(b)))
	case 8:
		n = int64(binary.BigEndian.Uint64(b))
	default:
		return 0, false, false
	}
	return n, false, n >= 0
}
