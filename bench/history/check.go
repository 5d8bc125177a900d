package history

import (
	"fmt"
	"maps"
	"slices"
	"strings"
)

// Kind names an anomaly.
type Kind string

const (
	// The phenomena of Adya's thesis.
	G0      Kind = "G0"       // a cycle of writes alone
	G1a     Kind = "G1a"      // a read of what was rolled back
	G1b     Kind = "G1b"      // a read of what its transaction wrote over before it committed
	G1c     Kind = "G1c"      // a cycle of writes, and reads of them
	GSingle Kind = "G-single" // a cycle with one anti-dependency: of two writes of a transaction one was seen
	// GNonadjacent is a cycle with several anti-dependencies, no two of them next to each
	// other: Elle's name for what snapshot isolation forbids besides.
	GNonadjacent Kind = "G-nonadjacent"
	// The same with the order of a session's own transactions.
	GSingleSession      Kind = "G-single-session"
	GNonadjacentSession Kind = "G-nonadjacent-session"

	LostUpdate   Kind = "lost update"   // two transactions read the same, and both changed it
	LostWrite    Kind = "lost write"    // acknowledged, and not there at the end
	HalfCommit   Kind = "half a commit" // some of a transaction's writes are there at the end
	Duplicate    Kind = "duplicate"     // a write is there twice
	Garbage      Kind = "garbage"       // a value that nobody wrote there
	Incompatible Kind = "incompatible order"
	Internal     Kind = "internal"       // a transaction contradicts itself
	Fractured    Kind = "fractured read" // a snapshot with some of a transaction's writes
	OwnWrite     Kind = "own write unseen"
	Fork         Kind = "long fork"
	WrongTotal   Kind = "wrong total"
	Wrong        Kind = "wrong answer"
)

// OnOrderAlone says that an anomaly is about the order of transactions, or reads, that may each
// stay on one shard. They take no fence and have no order over all shards: the gateway does
// not promise that this is not seen.
func (k Kind) OnOrderAlone() bool {
	return k == Fork || k == GSingleSession || k == GNonadjacentSession
}

// Anomaly is something that one PostgreSQL does not show.
type Anomaly struct {
	Kind Kind
	Text string // what it is, in words
	Txns []*Txn // that it is about
}

// String is the anomaly in several lines, with its transactions.
func (a Anomaly) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s: %s", a.Kind, a.Text)
	for _, t := range a.Txns {
		fmt.Fprintf(&b, "\n    %s", t.describe())
	}
	return b.String()
}

// Result is what the check of one workload found.
type Result struct {
	Workload Workload
	Outcomes map[Outcome]int
	Errors   map[string]int // transactions by Txn.Error
	Checked  string         // what was looked at
	Counts   map[Kind]int   // of anomalies
	// Anomalies are examples of each kind, the first ones.
	Anomalies []Anomaly
	// Notes are about what is no anomaly and still worth knowing.
	Notes []string
}

// examples is how many anomalies of a kind are described.
const examples = 5

func (r *Result) found(kind Kind, txns []*Txn, format string, args ...any) {
	if r.Counts[kind]++; r.Counts[kind] <= examples {
		r.Anomalies = append(r.Anomalies, Anomaly{kind, fmt.Sprintf(format, args...), txns})
	}
}

func (r *Result) note(format string, args ...any) {
	r.Notes = append(r.Notes, fmt.Sprintf(format, args...))
}

// Kinds are those that were found, with their numbers.
func (r *Result) Kinds() string {
	var list []string
	for _, k := range slices.Sorted(maps.Keys(r.Counts)) {
		list = append(list, fmt.Sprintf("%d × %s", r.Counts[k], k))
	}
	return strings.Join(list, ", ")
}

// Check looks for anomalies in each workload of a history. The error says that it is no
// history: the same value was written twice to a key.
func Check(h *History) ([]*Result, error) {
	byWorkload := map[Workload][]*Txn{}
	for _, t := range h.Txns {
		byWorkload[t.Workload] = append(byWorkload[t.Workload], t)
	}
	checks := map[Workload]func([]*Txn, *Header, *Result) error{
		Bank: checkBank, Lists: checkLists, Registers: checkRegisters, LongFork: checkLongFork}
	var results []*Result
	for _, w := range Workloads {
		txns := byWorkload[w]
		if len(txns) == 0 {
			continue
		}
		delete(byWorkload, w)
		r := &Result{Workload: w, Outcomes: map[Outcome]int{}, Errors: map[string]int{}, Counts: map[Kind]int{}}
		for _, t := range txns {
			r.Outcomes[t.Outcome]++
			if text, wrong := strings.CutPrefix(t.Error, WrongAnswer); wrong {
				r.found(Wrong, []*Txn{t}, "%s", text)
			}
			if t.Error != "" {
				r.Errors[t.Error]++
			}
		}
		if err := checks[w](txns, &h.Header, r); err != nil {
			return nil, fmt.Errorf("%s: %w", w, err)
		}
		results = append(results, r)
	}
	for w := range byWorkload {
		return nil, fmt.Errorf("there is no workload %q", w)
	}
	return results, nil
}

// place is a value at a key.
type place struct{ key, value int64 }
