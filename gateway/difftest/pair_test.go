package difftest

import (
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

// pair is a PostgreSQL and a gateway with the same rows, and the tally of what was
// compared.
type pair struct {
	plain, gateway *system
	tables         []*table

	statements int
	same       int
	empty      int                   // of these, those without a row
	errors     map[string]int        // by PostgreSQL's own message: the generator's waste
	skipped    int                   // PostgreSQL was not through in time
	refusals   map[string]int        // by reason
	examples   map[string]*statement // a short statement of each reason
}

// mismatch is where the gateway's answer is not PostgreSQL's.
type mismatch struct {
	kind   string // what differs: columns, rows, order, error, connection
	mode   mode
	detail string
}

func (mm *mismatch) String() string {
	return fmt.Sprintf("%s differ, %s\n%s", mm.kind, mm.mode, mm.detail)
}

// verdict is the result of a comparison.
type verdict struct {
	mismatch *mismatch
	refusal  string // the message, if the gateway refused it
	failure  string // PostgreSQL's message, if it fails as well
	skipped  bool
	empty    bool // the answer has no rows
}

// compare runs a statement on both in all modes, or the first if it is slow.
func (p *pair) compare(t fatalist, st *statement) (v verdict) {
	for _, m := range modes {
		if (!st.inBlock || st.after != "") && (m == cursor || m == copied) {
			continue
		}
		began := time.Now()
		var want, got answer
		var wg sync.WaitGroup
		wg.Go(func() { want = p.plain.run(t, m, st) })
		wg.Go(func() { got = p.gateway.run(t, m, st) })
		wg.Wait()
		switch {
		case want.code == canceled:
			return verdict{skipped: true}
		case want.code == lost:
			t.Fatalf("PostgreSQL: %s\n%s", want.message, st)
		case got.code == refused:
			v.refusal = got.message
			if want.code != "" {
				v.failure = want.code + " " + want.message
			}
		case want.code != got.code && !(st.after != "" && want.aboutRow() && got.aboutRow()):
			v.mismatch = &mismatch{"errors", m, fmt.Sprintf("PostgreSQL:  %s\nthe gateway: %s", want.outcome(), got.outcome())}
		case want.code != "":
			v.failure = want.code + " " + want.message
		default:
			if kind, detail := p.difference(t, m, st, want, got); kind != "" {
				v.mismatch = &mismatch{kind, m, detail}
			}
			v.empty = len(want.rows) == 0 && (m != copied || v.empty)
			if st.after != "" {
				v.empty = strings.HasSuffix(want.tag, " 0")
			}
		}
		if got.code != "" && v.mismatch == nil {
			v.mismatch = p.usable(t, m, got)
		}
		if v.mismatch != nil || time.Since(began) > slow {
			return v
		}
	}
	return v
}

// aboutRow says whether an error is one of a row that is changed: the row would be changed
// twice, or has a value that is too long or violates a constraint. Where several rows have
// errors, PostgreSQL leaves it to their order which is met first.
func (a answer) aboutRow() bool {
	return len(a.code) == 5 && slices.Contains([]string{"21", "22", "23"}, a.code[:2])
}

func (a answer) outcome() string {
	if a.code == "" {
		return a.tag
	}
	return a.code + " " + a.message
}

// usable checks that the session goes on after an error.
func (p *pair) usable(t fatalist, m mode, after answer) *mismatch {
	if p.gateway.conn.IsClosed() {
		return &mismatch{"connections", m, "the gateway closed the connection after " + after.outcome()}
	}
	if a := p.gateway.run(t, simple, &statement{text: "SELECT 1"}); a.code != "" {
		return &mismatch{"connections", m, "SELECT 1 after " + after.outcome() + ":\n" + a.outcome()}
	}
	return nil
}

// count notes a verdict.
func (p *pair) count(st *statement, v verdict) {
	if p.refusals == nil {
		p.refusals, p.errors, p.examples = map[string]int{}, map[string]int{}, map[string]*statement{}
	}
	p.statements++
	switch {
	case v.skipped:
		p.skipped++
	case v.failure != "":
		p.errors[v.failure]++
	case v.refusal != "":
		reason := p.reason(v.refusal)
		p.refusals[reason]++
		if was := p.examples[reason]; was == nil || len(st.text) < len(was.text) {
			p.examples[reason] = st
		}
	case v.mismatch == nil:
		p.same++
		if v.empty {
			p.empty++
		}
	}
}

var (
	quoted  = regexp.MustCompile(`"[^"]*"`)
	numbers = regexp.MustCompile(`\b\d+\b`)
)

// reason is a refusal's message without what is particular to the statement.
func (p *pair) reason(message string) string {
	message = quoted.ReplaceAllString(message, `"…"`)
	for _, tb := range p.tables {
		message = regexp.MustCompile(`\b`+tb.name+`\b`).ReplaceAllString(message, "…")
	}
	return numbers.ReplaceAllString(message, "N")
}

// refusedShare is the share of the statements that the gateway refused.
func (p *pair) refusedShare() float64 {
	n := 0
	for _, k := range p.refusals {
		n += k
	}
	return float64(n) / float64(max(1, p.statements))
}

// report prints the tally.
func (p *pair) report(t *testing.T) {
	var b strings.Builder
	fmt.Fprintf(&b, "%d statements: %d with equal answers (%d without rows), %d with equal errors, %d too slow for PostgreSQL, %.1f%% refused:\n",
		p.statements, p.same, p.empty, sum(p.errors), p.skipped, 100*p.refusedShare())
	p.table(&b, p.refusals, len(p.refusals))
	if len(p.errors) > 0 {
		b.WriteString("errors of PostgreSQL's:\n")
		p.table(&b, p.errors, 20)
	}
	t.Log(b.String())
}

// table prints the most frequent of what was counted.
func (p *pair) table(b *strings.Builder, counts map[string]int, most int) {
	names := slices.SortedFunc(maps.Keys(counts), func(x, y string) int {
		if counts[x] != counts[y] {
			return counts[y] - counts[x]
		}
		return strings.Compare(x, y)
	})
	for _, name := range names[:min(most, len(names))] {
		fmt.Fprintf(b, "  %5.2f%%  %s\n", 100*float64(counts[name])/float64(p.statements), name)
		if st := p.examples[name]; st != nil {
			fmt.Fprintf(b, "          such as %s\n", strings.ReplaceAll(st.String(), "\n", "\n          "))
		}
	}
}

func sum(counts map[string]int) (n int) {
	for _, k := range counts {
		n += k
	}
	return n
}
