package sqltext

import (
	"errors"
	"math"
)

// Why Guard keeps a text from the parser. PostgreSQL's own word for the first three is
// statement_too_complex, 54001. The last is legal in PostgreSQL, but pg_query's lexer ends the string at
// the comment, and what it makes of the rest is not what this package counts.
var (
	ErrTooManyTokens = errors.New("statement has too many tokens")
	ErrTooDeep       = errors.New("statement nests parentheses or CASE too deeply")
	ErrTooComplex    = errors.New("statement chains too many operators, set operations or joins")
	ErrJoinedString  = errors.New("a string constant is continued across a comment")
)

// GuardLimits bounds what Guard lets through; a field that is 0 means its default.
type GuardLimits struct {
	Bytes   int // length of the text
	Tokens  int // number of tokens: what bounds the parser's memory
	Nesting int // parentheses, brackets and CASE open at one time; at most MaxNesting
	Height  int // bound of the syntax tree's height, an operator in a chain counting 1
}

// The defaults of GuardLimits. They are less than a quarter of what pg_query.Parse was seen to break at,
// on the 8 MiB stack of a thread; limit_test.go holds the experiments.
const (
	DefaultGuardBytes   = 32 << 20
	DefaultGuardTokens  = 2 << 20 // the parser needs up to some 450 bytes for each, at its peak
	DefaultGuardNesting = 200
	DefaultGuardHeight  = 1000

	MaxNesting = 500
)

// levelHeight is what a parenthesis or CASE adds to the height besides being an operand itself: a subquery
// puts six messages between the expression around it and the one inside, and an OR and an AND in it four
// more, where an operator puts two.
const levelHeight = 4

// level is what Guard knows of the text between an opening parenthesis, bracket or CASE and where it is.
type level struct {
	ops      int32 // operators and closed groups of the chain that goes on
	operand  int32 // height of the highest operand in that chain
	highest  int32 // height of the highest chain that has ended
	arms     int32 // set operations and joins: each puts what is left of it one deeper
	betweens int32 // BETWEENs whose AND is still to come
	opener   byte  // '(', '[', or 'C' for CASE
}

func (l *level) height() int32 { return l.arms + max(l.highest, l.ops+l.operand) }

// endChain is for what separates expressions that hang side by side in the tree.
func (l *level) endChain() {
	l.highest = max(l.highest, l.ops+l.operand)
	l.ops, l.operand, l.betweens = 0, 0, 0
}

// Guard says whether the parser can take a text: PostgreSQL's grammar builds trees as high as a chain of
// operators is long, walks them recursively when it hands them out, and ends the process when the stack
// does. Guard finds a bound of the tree's height in one pass: within one pair of parentheses a chain of
// operators is at most as high as it has operators, above its highest operand; commas, AND, OR, WHEN and
// semicolons make lists, not height, so lists may be of any length that Bytes and Tokens allow.
//
// It gives nil, ErrTooLong, ErrTooManyTokens, ErrTooDeep, ErrTooComplex or ErrJoinedString. A text that
// the lexer can't read is nil if it was within the limits so far: the parser refuses it at the same place.
func Guard(text []byte, limits GuardLimits) error {
	var g guard
	return g.run(text, limits.withDefaults())
}

func (g *guard) run(text []byte, limits GuardLimits) error {
	if len(text) > limits.Bytes {
		return ErrTooLong
	}
	g.nesting, g.height = limits.Nesting, int32(min(limits.Height, math.MaxInt32/2))
	tokens := NewTokens(text)
	for n := 0; ; n++ {
		tok, ok := tokens.Next()
		if !ok {
			break
		}
		if n >= limits.Tokens {
			return ErrTooManyTokens
		}
		if tokens.joined {
			return ErrJoinedString
		}
		if err := g.token(text, tok); err != nil {
			return err
		}
	}
	if tokens.joined {
		return ErrJoinedString
	}
	for g.depth > 0 {
		if err := g.pop(); err != nil {
			return err
		}
	}
	return nil
}

func (l GuardLimits) withDefaults() GuardLimits {
	if l.Bytes <= 0 {
		l.Bytes = DefaultGuardBytes
	}
	if l.Tokens <= 0 {
		l.Tokens = DefaultGuardTokens
	}
	if l.Nesting <= 0 {
		l.Nesting = DefaultGuardNesting
	}
	if l.Height <= 0 {
		l.Height = DefaultGuardHeight
	}
	l.Bytes, l.Nesting = min(l.Bytes, math.MaxInt32), min(l.Nesting, MaxNesting)
	return l
}

// guard counts; levels[0] is what is outside all parentheses.
type guard struct {
	levels  [MaxNesting + 1]level
	depth   int
	nesting int
	height  int32
	highest int32 // of the statements that a semicolon ended
	name    bool  // the token before was AS or a dot: a keyword is a name here
}

func (g *guard) token(text []byte, tok Token) error {
	name := g.name
	g.name = false
	switch tok.Kind {
	case Identifier:
		if name {
			return nil
		}
		return g.keyword(text[tok.Start:tok.End])
	case Operator:
		return g.operator()
	case Punctuation:
		return g.punctuation(text[tok.Start:tok.End])
	}
	return nil
}

func (g *guard) punctuation(spelled []byte) error {
	if len(spelled) == 2 { // a cast, mostly
		return g.operator()
	}
	switch spelled[0] {
	case '(', '[':
		return g.push(spelled[0])
	case ')':
		return g.close('(')
	case ']':
		return g.close('[')
	case ',':
		g.levels[g.depth].endChain()
	case ';':
		for g.levels[g.depth].opener == 'C' {
			if err := g.pop(); err != nil {
				return err
			}
		}
		l := &g.levels[g.depth]
		if g.depth == 0 {
			g.highest = max(g.highest, l.height())
			*l = level{}
			break
		}
		l.endChain()
		l.highest, l.arms = l.height(), 0
	case '.':
		g.name = true
	}
	return nil
}

func (g *guard) keyword(word []byte) error {
	l := &g.levels[g.depth]
	switch keywordOf(word) {
	case keywordOperator:
		return g.operator()
	case keywordBetween:
		l.betweens++
		return g.operator()
	case keywordAnd:
		if l.betweens > 0 {
			l.betweens--
			return nil
		}
		l.endChain()
	case keywordSeparator:
		l.endChain()
	case keywordSetOperation:
		l.endChain()
		l.arms++
		return g.check()
	case keywordJoin: // what ends its condition is not known, so that the chain goes on
		l.arms++
		return g.check()
	case keywordCase:
		return g.push('C')
	case keywordEnd:
		if l.opener == 'C' {
			return g.pop()
		}
	case keywordAs:
		g.name = true
	}
	return nil
}

func (g *guard) operator() error {
	g.levels[g.depth].ops++
	return g.check()
}

func (g *guard) check() error {
	if g.levels[g.depth].height() > g.height {
		return ErrTooComplex
	}
	return nil
}

func (g *guard) push(opener byte) error {
	if g.depth == g.nesting {
		return ErrTooDeep
	}
	g.depth++
	g.levels[g.depth] = level{opener: opener}
	return nil
}

// close ends the innermost parenthesis or bracket, and what a CASE that is a column's name opened in it.
// Brackets that don't match end nothing: the text is a syntax error.
func (g *guard) close(opener byte) error {
	for g.levels[g.depth].opener == 'C' {
		if err := g.pop(); err != nil {
			return err
		}
	}
	if g.levels[g.depth].opener != opener {
		return nil
	}
	return g.pop()
}

func (g *guard) pop() error {
	height := g.levels[g.depth].height() + levelHeight
	g.depth--
	l := &g.levels[g.depth]
	l.operand = max(l.operand, height)
	return g.operator()
}

type keyword uint8

const (
	keywordNone         keyword = iota
	keywordOperator             // makes an expression of one or two others
	keywordBetween              // likewise, and its AND is no separator
	keywordAnd                  // AND
	keywordSeparator            // OR, and what separates the parts of CASE and MERGE
	keywordSetOperation         // UNION, INTERSECT, EXCEPT
	keywordJoin
	keywordCase
	keywordEnd
	keywordAs
)

// keywordOf knows the keywords that the productions a_expr, b_expr, c_expr, select_clause and joined_table
// of PostgreSQL's gram.y recurse with. AND and OR are lists in the tree.
func keywordOf(word []byte) keyword {
	switch len(word) {
	case 2:
		switch {
		case foldEqual(word, "is"), foldEqual(word, "in"), foldEqual(word, "at"):
			return keywordOperator
		case foldEqual(word, "or"):
			return keywordSeparator
		case foldEqual(word, "as"):
			return keywordAs
		}
	case 3:
		switch {
		case foldEqual(word, "not"):
			return keywordOperator
		case foldEqual(word, "and"):
			return keywordAnd
		case foldEqual(word, "end"):
			return keywordEnd
		}
	case 4:
		switch {
		case foldEqual(word, "like"):
			return keywordOperator
		case foldEqual(word, "when"), foldEqual(word, "then"), foldEqual(word, "else"):
			return keywordSeparator
		case foldEqual(word, "join"):
			return keywordJoin
		case foldEqual(word, "case"):
			return keywordCase
		}
	case 5:
		switch {
		case foldEqual(word, "ilike"):
			return keywordOperator
		case foldEqual(word, "union"):
			return keywordSetOperation
		}
	case 6:
		switch {
		case foldEqual(word, "isnull"):
			return keywordOperator
		case foldEqual(word, "except"):
			return keywordSetOperation
		}
	case 7:
		switch {
		case foldEqual(word, "notnull"), foldEqual(word, "collate"), foldEqual(word, "similar"):
			return keywordOperator
		case foldEqual(word, "between"):
			return keywordBetween
		}
	case 8:
		switch {
		case foldEqual(word, "overlaps"), foldEqual(word, "operator"):
			return keywordOperator
		}
	case 9:
		if foldEqual(word, "intersect") {
			return keywordSetOperation
		}
	}
	return keywordNone
}
