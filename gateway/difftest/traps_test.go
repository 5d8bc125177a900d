package difftest

import (
	_ "embed"
	"strings"
	"testing"
)

//go:embed testdata/traps.sql
var trapsSQL string

// trap is a statement that is easily answered wrong.
type trap struct {
	about string
	wrong bool // it is known to be answered wrong so far
	statement
}

// traps reads testdata/traps.sql.
func traps(t *testing.T) (list []trap) {
	for i, block := range strings.Split(trapsSQL, "\n\n") {
		comment, sql, ok := strings.Cut(block, "\n")
		if i == 0 {
			continue // what the file is about
		}
		about, wrong := strings.CutPrefix(strings.TrimPrefix(comment, "-- "), "wrong: ")
		about, ordered := strings.CutPrefix(about, "ordered: ")
		sql, ended := strings.CutSuffix(strings.TrimSpace(sql), ";")
		if !ok || !ended || !strings.HasPrefix(comment, "-- ") {
			t.Fatalf("testdata/traps.sql: not a comment and a statement:\n%s", block)
		}
		list = append(list, trap{about, wrong, statement{text: sql, listed: ordered}})
	}
	return list
}

// TestTraps compares the answers to the traps, alone and in a transaction block.
func TestTraps(t *testing.T) {
	p := newPair(t, max(*shardsFlag, 3))
	for _, trap := range traps(t) {
		t.Run(trap.about, func(t *testing.T) {
			for _, inBlock := range []bool{false, true} {
				st := trap.statement
				st.inBlock = inBlock
				v := p.compare(t, &st)
				p.count(&st, v)
				switch {
				case trap.wrong && v.mismatch == nil:
					t.Errorf("%s\nis not answered wrong any more: take the mark away", &st)
				case !trap.wrong && v.mismatch != nil:
					t.Errorf("%s\n%s", &st, v.mismatch)
				}
			}
		})
	}
	p.report(t)
}
