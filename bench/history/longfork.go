package history

import "math/bits"

// checkLongFork looks for two reads of a group of keys of which each has seen a write that
// the other has not. Each key is written once, by a transaction that writes nothing else;
// so the order in which the keys of a group appear is the same for all, and what two
// snapshots have seen of it is the same but for its end.
func checkLongFork(txns []*Txn, h *Header, r *Result) error {
	if h.Group < 1 || h.Group > 64 {
		return errGroup
	}
	written := map[int64]*Txn{}
	for _, t := range txns {
		for _, op := range t.Ops {
			if op.Func == Write {
				if written[op.Key] != nil {
					return errTwice(op)
				}
				written[op.Key] = t
			}
		}
	}
	final := finals(txns)
	seen := map[int64]map[uint64]*Txn{} // by group, what was seen of it, with one reader
	reads := 0
	for _, t := range txns {
		if t.Outcome != OK || t.Final || !t.oneSnapshot() {
			continue
		}
		masks := map[int64]uint64{} // by group
		for _, op := range t.Ops {
			if op.Func != Read {
				continue
			}
			group, bit := op.Key/h.Group, uint64(1)<<(op.Key%h.Group)
			mask := masks[group]
			if len(op.List) > 0 {
				mask |= bit
				if w := written[op.Key]; w == nil {
					r.found(Garbage, []*Txn{t}, "%s read %s at key %d, which nobody wrote", t, list(op.List), op.Key)
				} else if w.Outcome == Fail {
					r.found(G1a, []*Txn{w, t}, "%s read key %d, whose writer %s was rolled back", t, op.Key, w)
				}
			}
			masks[group] = mask
		}
		for group, mask := range masks {
			reads++
			if seen[group] == nil {
				seen[group] = map[uint64]*Txn{}
			}
			if seen[group][mask] != nil {
				continue
			}
			for other, first := range seen[group] {
				if other&^mask != 0 && mask&^other != 0 {
					a := group*h.Group + int64(bits.TrailingZeros64(other&^mask))
					b := group*h.Group + int64(bits.TrailingZeros64(mask&^other))
					r.found(Fork, []*Txn{first, t, written[a], written[b]}, "%s saw key %d and not key %d, %s saw key %d and not key %d", first, a, b, t, b, a)
				}
			}
			seen[group][mask] = t
		}
	}
	for _, f := range final {
		checkFinal(txns, f, r)
	}
	r.Checked = plural(reads, "read", "of groups of keys, ") + plural(len(written), "write", "of one key")
	return nil
}
