package history

import (
	"bytes"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"
)

// parse makes a history of lines, a transaction each, in the order in which they begin and
// end:
//
//	append 1 rr ok: append 5 1; r 5 1,2
//
// which is the workload, the session, the level (rc, rr, or st for a single statement),
// the outcome, and what it did. The session "final" makes it a final read. A read of
// nothing is "r 5 -".
func parse(t *testing.T, text string) *History {
	t.Helper()
	h := &History{Header: Header{Accounts: 3, Total: 30, Group: 4}}
	for i, l := range strings.Split(strings.TrimSpace(text), "\n") {
		head, ops, ok := strings.Cut(strings.TrimSpace(l), ":")
		f := strings.Fields(head)
		if !ok || len(f) != 4 {
			t.Fatalf("%q", l)
		}
		x := &Txn{ID: i + 1, Workload: Workload(f[0]), Start: time.Duration(2 * i), End: time.Duration(2*i + 1), Isolation: ReadCommitted, Statements: 2, Outcome: Outcome(f[3])}
		x.Session, _ = strconv.Atoi(f[1])
		x.Final = f[1] == "final"
		switch f[2] {
		case "rr":
			x.Isolation = RepeatableRead
		case "st":
			x.Statements = 1
		}
		for _, op := range strings.Split(ops, ";") {
			x.Ops = append(x.Ops, parseOp(t, strings.Fields(op)))
		}
		h.Txns = append(h.Txns, x)
	}
	return h
}

func parseOp(t *testing.T, f []string) Op {
	t.Helper()
	op := Op{Func: Func(f[0])}
	number := func(s string) int64 {
		n, err := strconv.ParseInt(s, 10, 64)
		if err != nil {
			t.Fatal(err)
		}
		return n
	}
	last := f[len(f)-1]
	switch op.Func {
	case Sum:
		op.Value = number(last)
		return op
	case Append, Write, Add:
		op.Key, op.Value = number(f[1]), number(f[2])
		return op
	case Read:
		op.Key = number(f[1])
	}
	if last != "-" {
		for _, s := range strings.Split(last, ",") {
			op.List = append(op.List, number(s))
		}
	}
	return op
}

// Each history shows the anomalies that are named, and no others.
var histories = []struct {
	name, text string
	want       []Kind
}{
	{"bank: clean", `
		bank 1 rc ok: add 0 -5; add 1 5
		bank 2 st ok: balances 5,15,10
		bank 2 st ok: sum 30
		bank 3 rr ok: balances 5,15,10; add 0 -1; balances 4,15,10; add 1 1; sum 30
		bank 3 rc ok: balances 4,16,10; balances 9,11,10`, nil},
	{"bank: half a transfer", `
		bank 2 st ok: balances 5,10,10`, []Kind{WrongTotal}},
	{"bank: half a transfer in a sum", `
		bank 2 st ok: sum 25`, []Kind{WrongTotal}},
	{"bank: an answer counts whatever comes after it", `
		bank 2 rr fail: sum 25`, []Kind{WrongTotal}},
	{"bank: rows are missing", `
		bank 2 st ok: balances 15,15`, []Kind{WrongTotal}},
	{"bank: not repeatable", `
		bank 2 rr ok: balances 10,10,10; balances 5,15,10`, []Kind{Internal}},
	{"bank: the second of two reads is wrong", `
		bank 2 rc ok: balances 10,10,10; balances 5,10,10`, []Kind{WrongTotal}},

	{"append: clean", `
		append 1 rc ok: append 1 1; append 2 2
		append 2 rr ok: r 1 1; append 1 3; r 1 1,3
		append 3 rr fail: append 1 4
		append 3 rc info: append 1 5; append 2 6
		append 4 rc info: append 1 7
		append final st ok: r 1 1,3,5; r 2 2,6`, nil},
	{"append: G0", `
		append 1 rc ok: append 1 1; append 2 2
		append 2 rc ok: append 1 3; append 2 4
		append final st ok: r 1 1,3; r 2 4,2`, []Kind{G0}},
	{"append: G1a", `
		append 1 rc fail: append 1 1
		append 2 rc ok: r 1 1`, []Kind{G1a}},
	{"append: G1a, seen below another", `
		append 1 rc fail: append 1 1
		append 2 rc ok: append 1 2
		append 3 st ok: r 1 1,2`, []Kind{G1a}},
	{"append: G1b", `
		append 1 rc ok: append 1 1; append 1 2
		append 2 rc ok: r 1 1
		append final st ok: r 1 1,2`, []Kind{G1b}},
	{"append: G1c", `
		append 1 rc ok: append 1 1; r 2 2
		append 2 rc ok: append 2 2; r 1 1`, []Kind{G1c}},
	{"append: G-single", `
		append 1 rc ok: append 1 1; append 2 2
		append 2 rr ok: r 1 1; r 2 -
		append final st ok: r 1 1; r 2 2`, []Kind{GSingle}},
	{"append: G-single of one statement", `
		append 1 rc ok: append 1 1; append 2 2
		append 2 st ok: r 1 1; r 2 -
		append final st ok: r 1 1; r 2 2`, []Kind{GSingle}},
	{"append: READ COMMITTED allows that", `
		append 1 rc ok: append 1 1; append 2 2
		append 2 rc ok: r 2 -; r 1 1
		append final st ok: r 1 1; r 2 2`, nil},
	{"append: write skew, which snapshot isolation allows", `
		append 1 rr ok: r 1 -; append 2 2
		append 2 rr ok: r 2 -; append 1 1
		append final st ok: r 1 1; r 2 2`, nil},
	{"append: long fork", `
		append 1 st ok: append 1 1
		append 2 st ok: append 2 2
		append 3 rr ok: r 1 1; r 2 -
		append 4 rr ok: r 1 -; r 2 2
		append final st ok: r 1 1; r 2 2`, []Kind{GNonadjacent}},
	{"append: a session's second write without its first", `
		append 1 st ok: append 1 1
		append 1 st ok: append 2 2
		append 2 st ok: r 1 -; r 2 2
		append final st ok: r 1 1; r 2 2`, []Kind{GSingleSession}},
	{"append: long fork by a session", `
		append 1 st ok: append 1 1
		append 2 st ok: append 2 2
		append 3 rr ok: r 1 1
		append 3 rr ok: r 2 -
		append 4 rr ok: r 1 -; r 2 2
		append final st ok: r 1 1; r 2 2`, []Kind{GNonadjacentSession}},
	{"append: lost update", `
		append 1 st ok: append 1 1
		append 2 rr ok: r 1 1; append 1 2
		append 3 rr ok: r 1 1; append 1 3
		append final st ok: r 1 1,2,3`, []Kind{GSingle, LostUpdate}},
	{"append: lost write", `
		append 1 st ok: append 1 1
		append 2 st ok: append 2 2
		append final st ok: r 2 2`, []Kind{LostWrite}},
	{"append: half a commit", `
		append 1 rc ok: append 1 1; append 2 2
		append final st ok: r 1 1`, []Kind{HalfCommit}},
	{"append: half of what may have been committed", `
		append 1 rc info: append 1 1; append 2 2
		append final st ok: r 2 2`, []Kind{HalfCommit}},
	{"append: overwritten", `
		append 1 st ok: append 1 1
		append 2 st ok: append 1 2
		append 3 st ok: r 1 1
		append final st ok: r 1 2`, []Kind{Incompatible, LostWrite}},
	{"append: duplicate", `
		append 1 st ok: append 1 1
		append final st ok: r 1 1,1`, []Kind{Duplicate}},
	{"append: garbage", `
		append final st ok: r 1 9`, []Kind{Garbage}},
	{"append: internal", `
		append 1 rc ok: append 1 1; r 1 -
		append final st ok: r 1 1`, []Kind{Internal}},
	{"append: not repeatable", `
		append 1 st ok: append 1 1
		append 2 rr ok: r 1 -; r 1 1
		append final st ok: r 1 1`, []Kind{GSingle, Internal}},

	{"register: clean", `
		register 1 rc ok: w 1 1; w 2 2
		register 2 st ok: r 1 1; r 2 2
		register 3 rc fail: w 3 3
		register 4 rc info: w 4 4; w 5 5
		register 5 rc info: w 6 6; w 7 7
		register 6 rc ok: r 1 -; r 2 2
		register 6 st ok: r 8 -
		register final st ok: r 1 1; r 2 2; r 4 4; r 5 5`, nil},
	{"register: lost", `
		register 1 rc ok: w 1 1; w 2 2
		register 2 rc ok: w 3 3
		register final st ok: r 3 3`, []Kind{LostWrite}},
	{"register: half", `
		register 1 rc info: w 1 1; w 2 2
		register final st ok: r 2 2`, []Kind{HalfCommit}},
	{"register: twice", `
		register 1 rc ok: w 1 1
		register final st ok: r 1 1; r 1 1`, []Kind{Duplicate}},
	{"register: failed and there", `
		register 1 rc fail: w 1 1
		register final st ok: r 1 1`, []Kind{G1a}},
	{"register: failed and read", `
		register 1 rc fail: w 1 1
		register 2 st ok: r 1 1
		register final st ok: r 2 -`, []Kind{G1a, Garbage}},
	{"register: fractured", `
		register 1 rc ok: w 1 1; w 2 2
		register 2 rr ok: r 1 1; r 2 -
		register final st ok: r 1 1; r 2 2`, []Kind{Fractured}},
	{"register: own write", `
		register 1 rc ok: w 1 1
		register 1 st ok: r 1 -
		register final st ok: r 1 1`, []Kind{OwnWrite}},
	{"register: another value", `
		register 1 rc ok: w 1 1
		register final st ok: r 1 2`, []Kind{Garbage}},

	{"longfork: clean", `
		longfork 1 st ok: w 0 1
		longfork 2 st ok: w 1 2
		longfork 3 st ok: r 0 1; r 1 -; r 2 -; r 3 -
		longfork 4 st ok: r 0 1; r 1 2; r 2 -; r 3 -
		longfork 5 st ok: r 0 -; r 1 -; r 2 -; r 3 -
		longfork 6 rc ok: r 0 -; r 1 2
		longfork final st ok: r 0 1; r 1 2`, nil},
	{"longfork: fork", `
		longfork 1 st ok: w 0 1
		longfork 2 st info: w 1 2
		longfork 3 st ok: r 0 1; r 1 -
		longfork 4 rr ok: r 0 -; r 1 2
		longfork final st ok: r 0 1; r 1 2`, []Kind{Fork}},
	{"longfork: lost", `
		longfork 1 st ok: w 0 1
		longfork final st ok: r 1 -`, []Kind{Garbage, LostWrite}},
	{"longfork: aborted", `
		longfork 1 st fail: w 0 1
		longfork 3 st ok: r 0 1; r 1 -`, []Kind{G1a}},
}

func TestCheck(t *testing.T) {
	for _, c := range histories {
		t.Run(c.name, func(t *testing.T) {
			h := parse(t, c.text)
			got := kinds(t, h)
			if !slices.Equal(got, c.want) {
				t.Errorf("found %q, want %q", got, c.want)
			}
			// And the same after it was written and read.
			var file bytes.Buffer
			if err := h.Encode(&file); err != nil {
				t.Fatal(err)
			}
			back, err := Decode(&file)
			if err != nil {
				t.Fatal(err)
			}
			if !reflect.DeepEqual(h, back) {
				t.Errorf("read back: %+v", back)
			}
		})
	}
}

// kinds are those of the anomalies found, in the order of their names.
func kinds(t interface {
	Fatal(...any)
	Logf(string, ...any)
}, h *History) (list []Kind) {
	results, err := Check(h)
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range results {
		for _, a := range r.Anomalies {
			t.Logf("%v", a)
		}
		list = append(list, slices.Sorted(maps.Keys(r.Counts))...)
	}
	return list
}

// The words of a cycle name what each transaction saw of the next.
func TestWords(t *testing.T) {
	results, err := Check(parse(t, `
		append 1 rc ok: append 1 1; append 2 2
		append 2 rr ok: r 1 1; r 2 -
		append final st ok: r 1 1; r 2 2`))
	if err != nil {
		t.Fatal(err)
	}
	want := "T2 read key 2 without 2, which T1 appended; T1 appended 1 to key 1, which T2 read"
	if got := results[0].Anomalies[0].Text; got != want {
		t.Errorf("%s", got)
	}
}

// A shortest cycle is reported, also where there are longer ones.
func TestShortest(t *testing.T) {
	h := parse(t, `
		append 1 rc ok: append 1 1; append 2 2; r 9 9
		append 2 rc ok: append 1 3; append 3 4
		append 3 rc ok: append 3 5; append 4 6
		append 4 rc ok: append 4 7; append 9 9; r 2 2
		append final st ok: r 1 1,3; r 2 2; r 3 4,5; r 4 6,7; r 9 9`)
	results, err := Check(h)
	if err != nil {
		t.Fatal(err)
	}
	if r := results[0]; r.Counts[G1c] != 1 || len(r.Anomalies[0].Txns) != 2 {
		t.Errorf("%v", r.Anomalies)
	}
}

func TestNoHistory(t *testing.T) {
	for text, want := range map[string]string{
		"append 1 rc ok: append 1 1; append 1 1": "appended twice",
		"register 1 rc ok: w 1 1; w 1 2":         "written twice",
		"longfork 1 rc ok: w 1 1; w 1 2":         "written twice",
		"other 1 rc ok: w 1 1":                   "no workload",
	} {
		if _, err := Check(parse(t, text)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", text, err)
		}
	}
	for text, want := range map[string]string{
		"":                           "EOF",
		"{}":                         "no header",
		`{"header":{}}` + "\n{}":     "neither",
		`{"header":{}}` + "\n{\"txn": "line 2",
	} {
		if _, err := Decode(strings.NewReader(text)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v", text, err)
		}
	}
}

func TestWrongAnswer(t *testing.T) {
	h := parse(t, "bank 1 rc fail: add 0 1")
	h.Txns[0].Error = WrongAnswer + "UPDATE 0"
	if got := kinds(t, h); !slices.Equal(got, []Kind{Wrong}) {
		t.Errorf("%v", got)
	}
}

// Ten minutes of transactions are checked within a minute; here a tenth of them in a tenth
// of that, since the time is to grow with the number.
func TestTime(t *testing.T) {
	h := newModel(1).run(50_000)
	began := time.Now()
	if got := kinds(t, h); len(got) > 0 {
		t.Errorf("%v", got)
	}
	if took := time.Since(began); took > 6*time.Second {
		t.Errorf("%d transactions took %v", len(h.Txns), took)
	} else {
		t.Logf("%d transactions took %v", len(h.Txns), took)
	}
}

func TestList(t *testing.T) {
	if got := list([]int64{1, 2, 3, 4, 5, 6, 7}); got != "[7 values, ... 2 3 4 5 6 7]" {
		t.Error(got)
	}
	if got := fmt.Sprint(list(nil)); got != "[]" {
		t.Error(got)
	}
}
