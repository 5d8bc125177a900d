package history

import "slices"

// checkBank checks that every read of all balances sums to the total, and that a
// transaction at REPEATABLE READ reads the same balances again. Transfers keep the total;
// a read in the middle of one sees what it has done itself. Reads of transactions that
// failed later count as well: they were answered.
func checkBank(txns []*Txn, h *Header, r *Result) error {
	reads := 0
	for _, t := range txns {
		var own int64      // what its adds make of the total so far
		var before []int64 // the last balances read, with its own adds since
		for _, op := range t.Ops {
			switch op.Func {
			case Add:
				own += op.Value
				if before != nil {
					before[op.Key] += op.Value
				}
			case Sum:
				reads++
				if op.Value != h.Total+own {
					r.found(WrongTotal, []*Txn{t}, "%s read a sum of %d in place of %d", t, op.Value, h.Total+own)
				}
			case Balances:
				reads++
				if len(op.List) != h.Accounts {
					r.found(WrongTotal, []*Txn{t}, "%s read %d accounts in place of %d", t, len(op.List), h.Accounts)
					continue
				}
				var sum int64
				for _, b := range op.List {
					sum += b
				}
				if sum != h.Total+own {
					r.found(WrongTotal, []*Txn{t}, "%s read balances of %d in place of %d", t, sum, h.Total+own)
				}
				if t.Isolation == RepeatableRead {
					if before != nil && !slices.Equal(before, op.List) {
						r.found(Internal, []*Txn{t}, "%s read other balances than before, its own changes taken into account: %v in place of %v", t, op.List, before)
					}
					before = slices.Clone(op.List)
				}
			}
		}
	}
	r.Checked = plural(reads, "read", "of all balances")
	return nil
}
