package difftest

import (
	"encoding/binary"
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// statement is one statement of the comparison.
type statement struct {
	// text has a mark for each use of a parameter; see render.
	text   string
	params []param
	// listed says that the order of the rows is fixed; if it is not, that of the
	// columns in sorted is, counted from 0.
	listed bool
	sorted []int
	// approximate are the columns with floats whose last digits PostgreSQL leaves to
	// the order of the rows.
	approximate []int
	// inBlock runs it in a transaction block.
	inBlock bool
	// after are queries of tables that the statement changes, in that block; "" for a
	// query.
	after string
	// other is the statement with other numbers in it: its plan is another text's.
	other *statement
	// portion is how many rows the extended protocol asks for at a time; 0 is all.
	portion int
}

// param is a parameter. Simple queries have a literal in its place.
type param struct {
	value string
	kind  kind
	// declared says that the client gives the type, which is otherwise left to the
	// server.
	declared bool
}

// mark stands for parameter i in a statement's text.
func mark(i int) string { return fmt.Sprintf("\x01%d\x02", i) }

// render returns the text with each parameter as f gives it.
func (st *statement) render(f func(i int) string) string {
	var b strings.Builder
	rest := st.text
	for {
		before, after, ok := strings.Cut(rest, "\x01")
		b.WriteString(before)
		if !ok {
			return b.String()
		}
		number, after, _ := strings.Cut(after, "\x02")
		i, _ := strconv.Atoi(number)
		b.WriteString(f(i))
		rest = after
	}
}

// keepUsed takes the parameters that are in the text and numbers them anew: of what
// the generator draws, it throws some away.
func (st *statement) keepUsed(all []param) {
	places := map[int]int{}
	st.text = st.render(func(i int) string {
		place, ok := places[i]
		if !ok {
			place = len(places)
			places[i] = place
			st.params = append(st.params, all[i])
		}
		return mark(place)
	})
}

var (
	// aPlace matches the place of a column in ORDER BY, and which way it is sorted; behind
	// ORDER BY stands tailOf.
	aPlace = regexp.MustCompile(`^\d+( ASC| DESC)?( NULLS FIRST| NULLS LAST)?$`)
	tailOf = regexp.MustCompile(` (LIMIT|OFFSET|FETCH) `)
	// aNumber matches what another number may stand in the place of.
	aNumber = regexp.MustCompile(`[ (,]\d+[),]|[ (,]\d+ | \d+$`)
	// undecided matches what may leave open which rows there are, or what is in them, when
	// they are sorted by something else.
	undecided = regexp.MustCompile(`LIMIT|OFFSET|FETCH|DISTINCT ON|OVER|agg\(|WITHIN|WITH|FOR `)
)

// variant changes a number, or the order of two in ORDER BY; nil if there is none.
func (st *statement) variant(g *generator) *statement {
	v := &statement{params: st.params}
	if st.listed && g.oneIn(2) {
		if v.text, v.listed = swapped(st.text); v.listed {
			return v
		}
	}
	// Values of char that differ in length are equal: which of them is shown is the plan's choice.
	places := slices.DeleteFunc(aNumber.FindAllStringIndex(st.text, -1), func(at []int) bool {
		return strings.HasSuffix(st.text[:at[0]], "char")
	})
	if len(places) == 0 || undecided.MatchString(st.text) || len(st.approximate) > 0 {
		return nil
	}
	at := pick(g, places...)
	changed := regexp.MustCompile(`\d+`).ReplaceAllStringFunc(st.text[at[0]:at[1]], func(n string) string {
		i, _ := strconv.ParseInt(n, 10, 64)
		return strconv.FormatInt((i+1)%(1<<31), 10)
	})
	v.text = st.text[:at[0]] + changed + st.text[at[1]:]
	return v
}

// swapped changes the order of the first two places in a statement's ORDER BY.
func swapped(text string) (string, bool) {
	at := strings.LastIndex(text, " ORDER BY ") + len(" ORDER BY ")
	end := len(text)
	if m := tailOf.FindStringIndex(text[at:]); m != nil {
		end = at + m[0]
	}
	items := strings.Split(text[at:end], ", ")
	first := slices.IndexFunc(items, aPlace.MatchString)
	if first < 0 {
		return "", false
	}
	second := first + 1 + slices.IndexFunc(items[first+1:], aPlace.MatchString)
	if second == first {
		return "", false
	}
	items[first], items[second] = items[second], items[first]
	return text[:at] + strings.Join(items, ", ") + text[end:], true
}

// simple is the text for a simple query.
func (st *statement) simple() string {
	return st.render(func(i int) string {
		p := st.params[i]
		if p.declared {
			return quote(p.value) + "::" + kinds[p.kind].name
		}
		return quote(p.value)
	})
}

// extended is the text for the extended protocol.
func (st *statement) extended() string {
	return st.render(func(i int) string { return "$" + strconv.Itoa(i+1) })
}

// String shows the statement as the extended protocol has it, with its parameters.
func (st *statement) String() string {
	s := st.extended()
	for i, p := range st.params {
		typ := "undeclared"
		if p.declared {
			typ = kinds[p.kind].name
		}
		s += fmt.Sprintf("\n  $%d = %s (%s)", i+1, quote(p.value), typ)
	}
	if st.portion > 0 {
		s += fmt.Sprintf("\n  %d rows at a time in the extended protocol", st.portion)
	}
	if st.inBlock {
		s += "\n  in a transaction block"
	}
	return s
}

// binary returns the value in PostgreSQL's binary format, if that is easily done.
func (p param) binary() ([]byte, bool) {
	n, err := strconv.ParseInt(p.value, 10, 64)
	switch {
	case !p.declared:
		return nil, false
	case p.kind == "int2" && err == nil:
		return binary.BigEndian.AppendUint16(nil, uint16(n)), true
	case p.kind == "int4" && err == nil:
		return binary.BigEndian.AppendUint32(nil, uint32(n)), true
	case p.kind == "int8" && err == nil:
		return binary.BigEndian.AppendUint64(nil, uint64(n)), true
	case p.kind == "text":
		return []byte(p.value), true
	}
	return nil, false
}

func quote(s string) string { return "'" + strings.ReplaceAll(s, "'", "''") + "'" }
