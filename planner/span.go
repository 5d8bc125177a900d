package planner

import (
	"fmt"

	pg "github.com/pganalyze/pg_query_go/v6"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"

	"github.com/shardgate/shardgate/planner/sqltext"
)

// A tree says where some of its tokens are, and never where an expression ends. So
// the text of an expression is guessed, and the guess checked by PostgreSQL's grammar:
// it is right if it is read as the same tree.

// maxSpanTokens bounds how far an expression's text is looked for around the tokens
// that its tree names.
const maxSpanTokens = 12

// exprRange is what exprText has found.
type exprRange struct {
	byteRange
	ok bool
}

// exprText finds the text of an expression. ok is false when that isn't certain.
func (a *analysis) exprText(n *pg.Node) (byteRange, bool) {
	r, known := a.texts[n]
	if !known {
		r.byteRange, r.ok = a.findText(n)
		a.texts[n] = r
	}
	return r.byteRange, r.ok
}

// asName is the edit that gives a column of a result its name by AS: behind the
// parentheses around its expression, which the tree doesn't have.
func (a *analysis) asName(t *pg.ResTarget) (edit, bool) {
	r, ok := a.exprText(t.Val)
	name := outputName(t)
	if !ok || name == "" {
		return edit{}, false
	}
	first := a.tokenAt(int32(r.start))
	last := first
	for int(a.toks[last].End) < r.end {
		last++
	}
	for a.is(first-1, '(') && a.is(last+1, ')') {
		first, last = first-1, last+1
	}
	end := int(a.toks[last].End)
	return edit{byteRange{end, end}, own(" AS " + QuoteIdent(name))}, true
}

func (a *analysis) findText(n *pg.Node) (byteRange, bool) {
	if n == nil || a.tokens() == nil {
		return byteRange{}, false
	}
	lo, hi := a.extent(n)
	if lo < 0 {
		return byteRange{}, false
	}
	want := withoutPlaces(n)
	for from := lo; from >= 0 && lo-from <= maxSpanTokens; from-- {
		if from < lo && !a.is(from, '(') && !a.keyword(from, "not") {
			break
		}
		for to := hi; to < len(a.toks) && to-hi <= maxSpanTokens; to++ {
			r := a.between(from, to+1)
			if a.balanced(from, to) && readsAs(a.text[r.start:r.end], want) {
				return r, true
			}
		}
	}
	return byteRange{}, false
}

// extent returns the first and the last of the tokens that a tree names, or -1.
func (a *analysis) extent(n *pg.Node) (lo, hi int) {
	lo, hi = -1, -1
	eachMessage(n.ProtoReflect(), func(m protoreflect.Message) {
		fd := m.Descriptor().Fields().ByName("location")
		if fd == nil || m.Get(fd).Int() <= 0 { // no expression begins a text
			return
		}
		i := a.tokenAt(int32(m.Get(fd).Int()))
		if i < 0 {
			return
		}
		if lo < 0 || i < lo {
			lo = i
		}
		hi = max(hi, i)
	})
	return lo, hi
}

// balanced says whether the brackets of the tokens from and to are.
func (a *analysis) balanced(from, to int) bool {
	depth := 0
	for i := from; i <= to; i++ {
		switch {
		case a.is(i, '('), a.is(i, '['):
			depth++
		case a.is(i, ')'), a.is(i, ']'):
			if depth--; depth < 0 {
				return false
			}
		}
	}
	return depth == 0
}

// undivided refuses a text that the lexer can't read as the grammar does.
func undivided() *Refusal {
	return unsupported("this statement's text can't be divided", "Write its strings without comments between their parts.")
}

// parseOne is the statement that PostgreSQL's grammar reads in a text, nil if that isn't one.
func parseOne(text string) *pg.Node {
	tree, err := pg.Parse(text)
	if err != nil || len(tree.Stmts) != 1 {
		return nil
	}
	return tree.Stmts[0].Stmt
}

// readsAsStatement says whether a text is read as a statement of that tree.
func readsAsStatement(text string, want *pg.Node) bool {
	n := parseOne(text)
	return n != nil && same(n, want)
}

// readsAs says whether a text is read as an expression of that tree.
func readsAs(text string, want *pg.Node) bool {
	targets := parseOne("SELECT (" + text + ")").GetSelectStmt().GetTargetList()
	return len(targets) == 1 && targets[0].GetResTarget().GetName() == "" && proto.Equal(withoutPlaces(targets[0].GetResTarget().GetVal()), want)
}

// same says whether two expressions are the same but for their places.
func same(x, y *pg.Node) bool { return proto.Equal(withoutPlaces(x), withoutPlaces(y)) }

// equal says whether two expressions are the same, however they refer to columns.
func (a *analysis) equal(x, y *pg.Node) bool {
	return x.ProtoReflect().WhichOneof(nodeOneof) == y.ProtoReflect().WhichOneof(nodeOneof) && a.canonical(x) == a.canonical(y)
}

// canonical is an expression without places, and with a column's number in the place of
// its name where it is known. It is made once for each: where there are hundreds, each is
// compared with all others.
func (a *analysis) canonical(n *pg.Node) string {
	if s, ok := a.canonicals[n]; ok {
		return s
	}
	tree := n
	var refs []*pg.ColumnRef
	eachMessageBelow(n, func(m protoreflect.Message) {
		if ref, ok := m.Interface().(*pg.ColumnRef); ok {
			refs = append(refs, ref)
		}
	})
	n = withoutPlaces(n)
	eachMessageBelow(n, func(m protoreflect.Message) {
		ref, ok := m.Interface().(*pg.ColumnRef)
		if !ok {
			return
		}
		if c, known := a.columns[refs[0]]; known {
			ref.Fields = []*pg.Node{pg.MakeAConstIntNode(int64(c.rte.number), 0), pg.MakeAConstIntNode(int64(c.n), 0)}
		}
		refs = refs[1:]
	})
	if a.canonicals == nil {
		a.canonicals = map[*pg.Node]string{}
	}
	a.canonicals[tree] = marshaled(n)
	return a.canonicals[tree]
}

// marshaled is a tree as a string that only equal trees have.
func marshaled(n *pg.Node) string {
	b, err := proto.MarshalOptions{Deterministic: true}.Marshal(n)
	if err != nil { // not of a tree that the parser has made
		return fmt.Sprintf("%p", n)
	}
	return string(b)
}

// withoutPlaces copies a tree without the places of its tokens.
func withoutPlaces(n *pg.Node) *pg.Node {
	c, ok := proto.Clone(n).(*pg.Node)
	if !ok || c == nil {
		return n
	}
	eachMessage(c.ProtoReflect(), func(m protoreflect.Message) {
		for _, name := range []protoreflect.Name{"location", "list_start", "list_end"} {
			if fd := m.Descriptor().Fields().ByName(name); fd != nil {
				m.Clear(fd)
			}
		}
	})
	return c
}

// clauses are the tokens with which the clauses of a SELECT begin, -1 where there is
// none. end is the token behind the last.
type clauses struct {
	from, where, group, having, window, order, limit, locking, end int
}

// clauses finds the clauses of the SELECT that begins with token first. ok is false
// where they can't be told.
func (a *analysis) clauses(first int) (c clauses, ok bool) {
	if !a.keyword(first, "select") {
		return c, false
	}
	c = clauses{-1, -1, -1, -1, -1, -1, -1, -1, len(a.toks)}
	depth := 0
	set := func(at *int, i int) {
		if *at < 0 {
			*at = i
		}
	}
	for i := first + 1; i < len(a.toks); i++ {
		switch {
		case a.is(i, '('), a.is(i, '['):
			depth++
			continue
		case a.is(i, ')'), a.is(i, ']'):
			if depth--; depth < 0 {
				c.end = i
				return c, true
			}
			continue
		case depth > 0:
			continue
		case a.is(i, ';'):
			c.end = i
			return c, true
		}
		if a.toks[i].Kind != sqltext.Identifier || a.is(i-1, '.') {
			continue
		}
		switch {
		case a.keyword(i, "from"):
			if !a.keyword(i-1, "distinct") || i-1 == first+1 { // not IS DISTINCT FROM
				set(&c.from, i)
			}
		case a.keyword(i, "where"):
			set(&c.where, i)
		case a.keyword(i, "group") && a.keyword(i+1, "by"):
			set(&c.group, i)
		case a.keyword(i, "having"):
			set(&c.having, i)
		case a.keyword(i, "window"):
			set(&c.window, i)
		case a.keyword(i, "order") && a.keyword(i+1, "by"):
			set(&c.order, i)
		case a.keyword(i, "limit"), a.keyword(i, "offset"), a.keyword(i, "fetch"):
			set(&c.limit, i)
		case a.keyword(i, "union"), a.keyword(i, "intersect"), a.keyword(i, "except"):
			c.end = i // what follows the other operand belongs to both
			return c, true
		case a.keyword(i, "for"):
			set(&c.locking, i)
		}
	}
	return c, true
}

// after is the token with which the next clause behind token i begins, or the end.
func (c clauses) after(i int) int {
	next := c.end
	for _, at := range []int{c.from, c.where, c.group, c.having, c.window, c.order, c.limit, c.locking} {
		if at > i && at < next {
			next = at
		}
	}
	return next
}

// callRange is the text of a function call with its FILTER.
func (a *analysis) callRange(f *pg.FuncCall) (byteRange, bool) {
	_, last, ok := a.call(f)
	if !ok {
		return byteRange{}, false
	}
	return a.between(a.tokenAt(f.Location), last+1), true
}

// call finds the tokens of a function call: its opening parenthesis, and the last
// one of it, that of FILTER included.
func (a *analysis) call(f *pg.FuncCall) (open, last int, ok bool) {
	first := a.tokenAt(f.Location)
	if first < 0 {
		return 0, 0, false
	}
	open = a.nameEnd(first)
	if !a.is(open, '(') {
		return 0, 0, false
	}
	last = a.closing(open)
	if f.AggFilter != nil {
		if !a.keyword(last+1, "filter") || !a.is(last+2, '(') {
			return 0, 0, false
		}
		last = a.closing(last + 2)
	}
	return open, last, last > 0
}

// itemText is the text of an item of FROM. It is guessed and checked, as that of an
// expression.
func (c *combiner) itemText(n *pg.Node) (byteRange, bool) {
	a := c.a
	want := withoutPlaces(n)
	lo, hi := a.extent(n)
	if lo < 0 {
		return byteRange{}, false
	}
	for from := lo; from >= c.cl.from+1 && lo-from <= maxSpanTokens; from-- {
		for to := hi; to < len(a.toks) && to-hi <= maxSpanTokens; to++ {
			if !a.balanced(from, to) {
				continue
			}
			r := a.between(from, to+1)
			sel := parseOne("SELECT FROM " + a.text[r.start:r.end]).GetSelectStmt()
			if len(sel.GetFromClause()) == 1 && bareFrom(sel) && same(sel.FromClause[0], want) {
				return r, true
			}
		}
	}
	return byteRange{}, false
}

// bareFrom says whether a SELECT is a FROM clause and nothing else.
func bareFrom(sel *pg.SelectStmt) bool {
	return sel.WhereClause == nil && len(sel.TargetList)+len(sel.GroupClause)+len(sel.WindowClause)+len(sel.SortClause)+len(sel.LockingClause) == 0 &&
		sel.HavingClause == nil && sel.LimitCount == nil && sel.LimitOffset == nil && sel.Larg == nil
}
