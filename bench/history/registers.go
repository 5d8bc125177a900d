package history

import (
	"errors"
	"fmt"
)

var errGroup = errors.New("the header's group is not from 1 to 64")

func errTwice(op Op) error { return fmt.Errorf("key %d was written twice", op.Key) }

func plural(n int, what, of string) string {
	if n != 1 {
		what += "s"
	}
	return fmt.Sprintf("%d %s %s", n, what, of)
}

// finals are the reads at the end: by key, what was there, of each.
func finals(txns []*Txn) (list []finalRead) {
	for _, t := range txns {
		if !t.Final || t.Outcome != OK {
			continue
		}
		f := finalRead{t, map[int64][]int64{}}
		for _, op := range t.Ops {
			f.at[op.Key] = append(f.at[op.Key], op.List...)
		}
		list = append(list, f)
	}
	return list
}

type finalRead struct {
	txn *Txn
	at  map[int64][]int64
}

// checkFinal compares what is there at the end with what the writers were told.
func checkFinal(txns []*Txn, f finalRead, r *Result) {
	written := map[int64]bool{}
	for _, t := range txns {
		var there, missing []int64
		for _, op := range t.Ops {
			if op.Func != Write {
				continue
			}
			written[op.Key] = true
			got := f.at[op.Key]
			switch {
			case len(got) == 0:
				missing = append(missing, op.Key)
				continue
			case len(got) > 1:
				r.found(Duplicate, []*Txn{t}, "%s wrote key %d once, and it is there %d times", t, op.Key, len(got))
			}
			if got[0] != op.Value {
				r.found(Garbage, []*Txn{t}, "%s wrote %d to key %d, where %d is at the end", t, op.Value, op.Key, got[0])
			}
			there = append(there, op.Key)
		}
		switch {
		case t.Outcome == Fail && len(there) > 0:
			r.found(G1a, []*Txn{t}, "%s was rolled back, and what it wrote to %s is there at the end", t, list(there))
		case len(there) > 0 && len(missing) > 0:
			r.found(HalfCommit, []*Txn{t}, "%s wrote %s, which is there at the end, and %s, which is not", t, list(there), list(missing))
		case t.Outcome == OK && len(missing) > 0:
			r.found(LostWrite, []*Txn{t}, "%s was committed, and what it wrote to %s is not there at the end", t, list(missing))
		}
	}
	for key, got := range f.at {
		if !written[key] {
			r.found(Garbage, []*Txn{f.txn}, "key %d has %s at the end, and nobody wrote it", key, list(got))
		}
	}
}

// checkRegisters checks keys of which each is written once: at the end what was
// acknowledged is there once, what failed is not, and what is unknown is there as a whole
// or not at all. A snapshot has all of a transaction's writes or none, and a session sees
// what it has written.
func checkRegisters(txns []*Txn, _ *Header, r *Result) error {
	writers := map[int64]*Txn{}
	for _, t := range txns {
		for _, op := range t.Ops {
			if op.Func == Write {
				if writers[op.Key] != nil {
					return errTwice(op)
				}
				writers[op.Key] = t
			}
		}
	}
	final := finals(txns)
	for _, f := range final {
		checkFinal(txns, f, r)
	}
	reads, stale := 0, 0
	for _, t := range txns {
		if t.Outcome != OK || t.Final {
			continue
		}
		type sight struct{ seen, unseen bool }
		sights := map[*Txn]sight{} // of writers
		for _, op := range t.Ops {
			w := writers[op.Key]
			if op.Func != Read || w == nil {
				continue
			}
			reads++
			s := sights[w]
			if len(op.List) > 0 {
				s.seen = true
			} else {
				s.unseen = true
			}
			sights[w] = s
		}
		for w, s := range sights {
			switch {
			case s.seen && w.Outcome == Fail:
				r.found(G1a, []*Txn{w, t}, "%s read what %s wrote, which was rolled back", t, w)
			case s.seen && s.unseen && t.oneSnapshot():
				r.found(Fractured, []*Txn{w, t}, "%s saw some of what %s wrote, and not all", t, w)
			case s.unseen && w.Outcome == OK && w.End < t.Start && w.Session == t.Session:
				r.found(OwnWrite, []*Txn{w, t}, "%s did not see what %s had committed before in the same session", t, w)
			case s.unseen && w.Outcome == OK && w.End < t.Start:
				stale++
			}
		}
	}
	if stale > 0 {
		r.note("%s what another session had committed before: a commit is acknowledged when it is decided, and a shard that is out of reach then carries it out later",
			plural(stale, "read", "did not see"))
	}
	r.Checked = plural(len(writers), "write", "of unique registers, ") + plural(reads, "read", "of them, ") + plural(len(final), "read", "of all at the end")
	return nil
}
