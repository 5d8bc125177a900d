package exec

import (
	"encoding/binary"
	"fmt"
	"slices"
	"strings"

	"github.com/shardgate/shardgate/planner"
	"github.com/shardgate/shardgate/wire"
)

// StepRows are the rows that one step of a planner.Steps gives to others.
type StepRows struct {
	Rows
	Step *planner.Step
}

// columns are the columns that others read, by position.
func (p *StepRows) columns() (out []int) {
	for i, name := range p.names {
		if p.Step.Whole || p.Step.Names[name] {
			out = append(out, i)
		}
	}
	if len(out) == 0 && len(p.types) > 0 {
		return []int{0} // the rows count, and nothing of them
	}
	return out
}

// Carry is that of Rows. What nobody reads may travel as any text.
func (p *StepRows) Carry(types map[uint32]planner.Carried) {
	p.Rows.Carry(types)
	if len(p.types) > 0 && !p.Step.Whole && !p.Step.Names[p.names[0]] && arrays[p.types[0]] == 0 {
		p.carried[0] = planner.Carried{Text: true}
		p.types[0] = textOID
	}
}

// Check says why the rows can't be given to another statement, as arrays.
func (p *StepRows) Check() *wire.Error {
	for _, i := range p.columns() {
		if arrays[p.types[i]] == 0 {
			return wire.Errorf(wire.FeatureNotSupported, "column \"%s\" of %s is of a type whose values can't be brought to other shards yet", p.names[i], p.Step.Name).
				WithHint("Return other columns, or cast it to text.")
		}
		if p.as(i).Type != "" && i < len(p.Step.Collations) && p.Step.Collations[i] != "" {
			return wire.Errorf(wire.FeatureNotSupported, "column \"%s\" of %s is of a type whose values can't be brought to other shards with the collation %s yet", p.names[i], p.Step.Name, p.Step.Collations[i]).
				WithHint("Return other columns, or cast it to text.")
		}
	}
	return nil
}

// Passed writes the rows of earlier steps into the text of another, a planner.PartWriter,
// and collects the parameters that they are.
type Passed struct {
	OIDs []uint32 // the types of all parameters, the client's own first
	planner.PartWriter
	from []*StepRows
	used []int
}

// NewPassed makes a Passed for a statement with parameters of these types. w writes all
// but rows.
func NewPassed(from []*StepRows, types []uint32, w planner.PartWriter) *Passed {
	return &Passed{OIDs: slices.Clone(types), PartWriter: w, from: from}
}

// AppendSource is a planner.PartWriter's. It names the columns where they differ, for the
// planner to know them.
func (w *Passed) AppendSource(dst []byte, step int) []byte {
	p := w.from[step]
	w.used = append(w.used, step)
	var names, arrayed, given, items []string
	changed := false
	for n, i := range p.columns() {
		w.OIDs = append(w.OIDs, arrays[p.types[i]])
		name := planner.QuoteIdent(p.names[i])
		names = append(names, name)
		arrayed = append(arrayed, fmt.Sprintf("pg_catalog.unnest($%d)", len(w.OIDs)))
		given = append(given, fmt.Sprintf("c%d", n+1))
		item := p.as(i).Receive(given[n]) + collate(p.Step.Collations, p.types, i)
		items = append(items, item+" AS "+name)
		changed = changed || item != given[n]
	}
	list, all := "*", strings.Join(names, ", ")
	if changed {
		list, all = strings.Join(items, ", "), strings.Join(given, ", ")
	} else if slices.Sort(names); len(slices.Compact(names)) == len(arrayed) {
		list = all
	}
	return fmt.Appendf(dst, "(SELECT %s FROM ROWS FROM (%s) AS _(%s))", list, strings.Join(arrayed, ", "), all)
}

// Arrays are the parameters behind the client's own, in binary, when the steps have run.
func (w *Passed) Arrays() (out [][]byte) {
	for _, step := range w.used {
		p := w.from[step]
		out = append(out, p.arrays(p.columns(), 1, func(int) int { return 0 })[0]...)
	}
	return out
}

// Kept are the rows of an answer that waits for what runs behind it, as DataRows. A Sink.
type Kept struct {
	LimitBytes int64
	Messages   []byte
}

// Columns is a Sink's.
func (k *Kept) Columns([]string, []uint32) {}

// Row is a Sink's.
func (k *Kept) Row(body []byte) *wire.Error {
	if int64(len(k.Messages)+len(body)) > k.LimitBytes {
		return wire.Errorf(wire.ConfigurationLimitExceeded, "the rows that this statement returns are more than %d bytes", k.LimitBytes).
			WithHint("Make limits.gather_bytes larger, or send the parts of the statement one by one in a transaction.")
	}
	k.Messages = append(binary.BigEndian.AppendUint32(append(k.Messages, 'D'), uint32(len(body)+4)), body...)
	return nil
}

// Dropped takes rows that nobody reads. A Sink.
type Dropped struct{}

// Columns is a Sink's.
func (Dropped) Columns([]string, []uint32) {}

// Row is a Sink's.
func (Dropped) Row([]byte) *wire.Error { return nil }
