package planner

import (
	"cmp"
	"slices"

	"github.com/shardgate/shardgate/planner/sqltext"
)

// SQL is a statement made of pieces of the client's text and of the planner's own.
// The client's pieces are found by the literals before them, so that one plan serves
// every text of its kind.
type SQL []Piece

// Piece is one piece of a SQL: Own, or the client's text from Start to End. If Part is
// not 0, it is about the Gather's part Part-1: its rows as an item of FROM, or, if
// Column is not 0, a cast to bigint if its column Column-1 is one; with Keys, it is the
// condition that Own is one of that column's values. Clock is the time of the
// transaction, without quotes.
type Piece struct {
	Own          string
	Start, End   sqltext.Anchor
	Part, Column int
	Keys, Clock  bool
}

// PartWriter writes what is known only when a SQL runs.
type PartWriter interface {
	// AppendSource writes a part as an item of FROM, without an alias.
	AppendSource(dst []byte, part int) []byte
	// AppendCast writes "::pg_catalog.int8" if a part's column is of that type.
	AppendCast(dst []byte, part, column int) []byte
	// AppendKeys writes the condition that an expression has one of the values of a
	// part's column, or "true" where they are too many to be sent.
	AppendKeys(dst []byte, expr string, part, column int) []byte
	// AppendClock writes the time of the transaction, in a form that timestamptz takes.
	AppendClock(dst []byte) []byte
}

// Append writes the statement.
func (q SQL) Append(dst, text []byte, lits []sqltext.Literal, parts PartWriter) []byte {
	for i := range q {
		switch p := &q[i]; {
		case p.Clock:
			dst = parts.AppendClock(dst)
		case p.Keys:
			dst = parts.AppendKeys(dst, p.Own, p.Part-1, p.Column-1)
		case p.Column > 0:
			dst = parts.AppendCast(dst, p.Part-1, p.Column-1)
		case p.Part > 0:
			dst = parts.AppendSource(dst, p.Part-1)
		case p.Start == p.End:
			dst = append(dst, p.Own...)
		default:
			dst = append(dst, text[p.Start.Offset(lits):p.End.Offset(lits)]...)
		}
	}
	return dst
}

// own makes a SQL of the planner's own text.
func own(text string) SQL { return SQL{{Own: text}} }

// add appends pieces with the planner's own text before and behind them.
func (q SQL) add(before string, pieces SQL, behind string) SQL {
	if before != "" {
		q = append(q, Piece{Own: before})
	}
	if q = append(q, pieces...); behind != "" {
		q = append(q, Piece{Own: behind})
	}
	return q
}

// span makes a SQL of the client's text between two offsets, neither of which is
// inside a literal, with the transaction's time in the place of what asks for it.
func (a *analysis) span(r byteRange) SQL {
	var out SQL
	for _, e := range a.clocks {
		if e.start < r.start || e.end > r.end {
			continue
		}
		out = append(append(out, a.verbatim(byteRange{r.start, e.start})...), e.with...)
		r.start = e.end
	}
	return append(out, a.verbatim(r)...)
}

func (a *analysis) verbatim(r byteRange) SQL {
	if r.start >= r.end {
		return nil
	}
	return SQL{{Start: sqltext.AnchorOf(r.start, a.lits), End: sqltext.AnchorOf(r.end, a.lits)}}
}

// edit replaces a range of the client's text.
type edit struct {
	byteRange
	with SQL
}

// edited makes a SQL of the client's text within a range, with some of it replaced.
// Edits outside the range are left out. ok is false if two of them overlap.
func (a *analysis) edited(r byteRange, edits []edit) (out SQL, ok bool) {
	edits = slices.Clone(edits)
	slices.SortStableFunc(edits, func(x, y edit) int { return cmp.Compare(x.start, y.start) })
	at := r.start
	for _, e := range edits {
		if e.end < r.start || e.start > r.end {
			continue
		}
		if e.start < at || e.end > r.end {
			return nil, false
		}
		if e.start > at {
			out = append(out, a.span(byteRange{at, e.start})...)
		}
		out = append(out, e.with...)
		at = e.end
	}
	if at < r.end {
		out = append(out, a.span(byteRange{at, r.end})...)
	}
	return out, true
}

// tokens are the tokens of the statement's text, nil if it can't be read.
func (a *analysis) tokens() []sqltext.Token {
	if a.toks == nil {
		t := sqltext.NewTokens([]byte(a.text))
		for {
			tok, ok := t.Next()
			if !ok {
				break
			}
			a.toks = append(a.toks, tok)
		}
		if t.Err() != nil {
			a.toks = nil
		}
	}
	return a.toks
}

// tokenAt is the index of the token that begins at an offset, or -1.
func (a *analysis) tokenAt(offset int32) int {
	i, ok := slices.BinarySearchFunc(a.tokens(), offset, func(t sqltext.Token, o int32) int { return cmp.Compare(t.Start, o) })
	if !ok {
		return -1
	}
	return i
}

// is says whether token i is a punctuation mark.
func (a *analysis) is(i int, c byte) bool {
	return i >= 0 && i < len(a.toks) && a.toks[i].Is([]byte(a.text), c)
}

// keyword says whether token i is a keyword.
func (a *analysis) keyword(i int, lower string) bool {
	return i >= 0 && i < len(a.toks) && a.toks[i].IsKeyword([]byte(a.text), lower)
}

// nameEnd is the index behind a name of one or several parts that begins with
// token i.
func (a *analysis) nameEnd(i int) int {
	for i++; a.is(i, '.') && i+1 < len(a.toks); i += 2 {
	}
	return i
}

// closing is the token that closes the parenthesis at token i, or -1.
func (a *analysis) closing(i int) int {
	depth := 0
	for ; i < len(a.toks); i++ {
		switch {
		case a.is(i, '('):
			depth++
		case a.is(i, ')'):
			if depth--; depth == 0 {
				return i
			}
		}
	}
	return -1
}

// between is the text of tokens from to end, exclusive.
func (a *analysis) between(from, end int) byteRange {
	if from >= end {
		return byteRange{}
	}
	return byteRange{int(a.toks[from].Start), int(a.toks[end-1].End)}
}
