package difftest

import (
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/shardgate/shardgate/gateway/localpg/pgtest"
)

var (
	seedFlag       = flag.Uint64("seed", 1, "the seed of the first statement; the next ones' are the numbers after it (0: any)")
	statementsFlag = flag.Int("statements", 2000, "how many statements are drawn")
	shardsFlag     = flag.Int("shards", 0, "the number of shards (0: 3, and fewer statements with 1 and 5)")
	sqlFlag        = flag.String("sql", "", "a statement for TestStatement")
)

// highestRefusals is the share of the drawn statements that may be refused. It is
// lowered as the gateway learns to answer more.
const highestRefusals = 0.01

// mostMismatches ends a run: each is shrunk, which takes time.
const mostMismatches = 10

func TestMain(m *testing.M) {
	flag.Parse()
	// Its tries are bounded here, and what it found is printed as a statement.
	for name, value := range map[string]string{"rapid.checks": "1", "rapid.nofailfile": "true"} {
		if err := flag.Set(name, value); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
	}
	pgtest.Main(m)
}

// TestRandom compares the answers to random statements.
func TestRandom(t *testing.T) {
	n, shards := *statementsFlag, []int{*shardsFlag}
	if testing.Short() {
		n /= 5
	}
	if *shardsFlag == 0 {
		shards = []int{3, 1, 5}
	}
	seed := *seedFlag
	if seed == 0 {
		seed = uint64(rand.Uint32())
	}
	for i, s := range shards {
		n, seed := n, seed+uint64(i*n)
		if i > 0 {
			n /= 8
		}
		t.Run(fmt.Sprintf("%d shards", s), func(t *testing.T) {
			p := newPair(t, s)
			t.Logf("%d statements from seed %d on", n, seed)
			p.random(t, seed, n, fmt.Sprintf("TestRandom -shards %d -statements 1", s), draw)
			p.report(t)
			if share := p.refusedShare(); share > highestRefusals {
				t.Errorf("%.1f%% of the statements were refused; at most %.1f%% may be", 100*share, 100*highestRefusals)
			}
		})
	}
}

// random compares n statements, and shrinks those that are answered differently. again
// is how one of them is run alone.
func (p *pair) random(t *testing.T, seed uint64, n int, again string, draw func(*rapid.T, []*table) *statement) {
	mismatches := 0
	for i := range uint64(n) {
		if err := flag.Set("rapid.seed", fmt.Sprint(seed+i)); err != nil {
			t.Fatal(err)
		}
		first := true
		var last string
		tries := &quiet{T: t}
		rapid.Check(tries, func(rt *rapid.T) {
			st := draw(rt, p.tables)
			v := p.compare(t, st)
			if first {
				p.count(st, v)
			}
			first = false
			after := ""
			if v.mismatch == nil && st.other != nil {
				after = "\nafter\n" + st.String()
				st = st.other
				v = p.compare(t, st)
			}
			if mm := v.mismatch; mm != nil {
				last = fmt.Sprintf("%s%s\n%s", st, after, mm)
				mm.fail(rt)
			}
		})
		if last == "" && tries.reported != "" {
			t.Fatalf("seed %d: %s", seed+i, tries.reported)
		}
		if last == "" {
			continue
		}
		if strings.Contains(tries.reported, "flaky") {
			last += "\nIt did not happen again."
		}
		t.Errorf("seed %d, as small as it gets:\n%s\nagain: go test ./gateway/difftest -run %s -seed %d", seed+i, last, again, seed+i)
		if mismatches++; mismatches == mostMismatches {
			t.Fatalf("%d statements were answered differently: that's enough", mismatches)
		}
	}
}

// fail fails a try. Each kind has a line of its own, by which rapid knows while it
// shrinks that it still has the same failure.
func (mm *mismatch) fail(t *rapid.T) {
	switch mm.kind {
	case "columns":
		t.Fatalf("columns")
	case "rows":
		t.Fatalf("rows")
	case "order":
		t.Fatalf("order")
	case "errors":
		t.Fatalf("errors")
	case "tables":
		t.Fatalf("tables")
	}
	t.Fatalf("%s", mm.kind)
}

// quiet is what rapid reports a failed try to. The report to the user is ours.
type quiet struct {
	*testing.T
	reported string
}

func (*quiet) Logf(string, ...any)                 {}
func (*quiet) Log(...any)                          {}
func (q *quiet) Errorf(format string, args ...any) { q.reported = fmt.Sprintf(format, args...) }
func (*quiet) FailNow()                            {}
func (*quiet) Failed() bool                        { return false }

// TestStatement compares the answers to one statement, that of the flag -sql.
func TestStatement(t *testing.T) {
	if *sqlFlag == "" {
		t.Skip("no -sql")
	}
	p := newPair(t, max(*shardsFlag, 3))
	st := &statement{text: strings.TrimSuffix(*sqlFlag, ";")}
	for _, s := range []*system{p.plain, p.gateway} {
		began := time.Now()
		a := s.run(t, simple, st)
		t.Logf("%s: %s, %v", s.name, a.outcome(), time.Since(began).Round(time.Millisecond))
	}
	if v := p.compare(t, st); v.mismatch != nil {
		t.Error(v.mismatch)
	}
}
