package workload

import (
	"bytes"
	"cmp"
	"context"
	"fmt"
	"hash/maphash"
	"maps"
	"math/rand/v2"
	"slices"
	"strconv"
	"time"

	"github.com/shardgate/shardgate/bench/load"
	"github.com/shardgate/shardgate/bench/target"
)

// Queries over the accounts of all shards. One client runs them: a query has all of the
// machine, as its bound is about how long it takes.
var (
	aggregate = query{
		name: "aggregate", about: "count and sum of all accounts: a row from each shard",
		sql:    "SELECT count(*), sum(abalance) FROM pgbench_accounts",
		direct: "SELECT count(*), sum(abalance) FROM pgbench_accounts",
		rows:   func(int64) int64 { return 1 },
		answer: func(all []account, row func(...int64)) {
			row(int64(len(all)), sumOf(all))
		},
	}.workload()

	groupBy = query{
		name: "group-by", about: "count and sum of the accounts of each branch, which are on all shards",
		sql:    "SELECT bid, count(*), sum(abalance) FROM pgbench_accounts GROUP BY bid",
		direct: `SELECT "pgbench_accounts"."bid", count(*), sum(abalance) FROM pgbench_accounts GROUP BY 1`,
		rows:   func(scale int64) int64 { return scale },
		answer: func(all []account, row func(...int64)) {
			branches := map[int64][]account{}
			for _, a := range all {
				branches[a.bid] = append(branches[a.bid], a)
			}
			for _, bid := range slices.Sorted(maps.Keys(branches)) {
				row(bid, int64(len(branches[bid])), sumOf(branches[bid]))
			}
		},
	}.workload()

	orderLimit = query{
		name: "order-limit", about: "the ten accounts with the greatest balances",
		sql:    "SELECT aid, abalance FROM pgbench_accounts ORDER BY abalance DESC, aid LIMIT 10",
		direct: "SELECT aid, abalance, (abalance) AS shardgate_key_1, (aid) AS shardgate_key_2 FROM pgbench_accounts ORDER BY abalance DESC, aid LIMIT 10",
		rows:   func(int64) int64 { return 10 }, ordered: true,
		answer: func(all []account, row func(...int64)) {
			slices.SortFunc(all, func(a, b account) int {
				return cmp.Or(cmp.Compare(b.abalance, a.abalance), cmp.Compare(a.aid, b.aid))
			})
			for _, a := range all[:min(10, len(all))] {
				row(a.aid, a.abalance)
			}
		},
	}.workload()

	selectAll = query{
		name: "select-all", about: "all accounts, of about 100 bytes each",
		sql: "SELECT * FROM pgbench_accounts", rows: allAccounts, answer: allRows, bounds: []Bound{rowBound, firstBound, memoryBound},
	}.workload()

	selectAllStalled = query{
		name: "select-all-stalled", about: "all accounts, for a client that stops reading for a while in the middle",
		sql: "SELECT * FROM pgbench_accounts", rows: allAccounts, answer: allRows, bounds: []Bound{rowBound, firstBound, memoryBound},
		pause: func(scale int64) time.Duration {
			return min(3*time.Second, time.Duration(scale)*300*time.Millisecond)
		},
	}.workload()

	selectOrdered = query{
		name: "select-ordered", about: "all accounts, by balance: sorted by the shards, and merged",
		sql: "SELECT * FROM pgbench_accounts ORDER BY abalance, aid", rows: allAccounts, ordered: true, bounds: []Bound{memoryBound},
		answer: func(all []account, row func(...int64)) {
			slices.SortFunc(all, func(a, b account) int {
				return cmp.Or(cmp.Compare(a.abalance, b.abalance), cmp.Compare(a.aid, b.aid))
			})
			allRows(all, row)
		},
	}.workload()
)

// query is a workload of one statement that reads accounts of all shards.
type query struct {
	name, about, sql string
	direct           string                  // what the gateway asks of each shard, but for names of columns; "": the answer is streamed
	rows             func(scale int64) int64 // at least; tables of others may be larger
	ordered          bool                    // the order of the rows is a part of the answer
	bounds           []Bound
	pause            func(scale int64) time.Duration // in the middle of the answer; nil: none
	// answer gives the rows that are right. All columns are numbers, but for the filler,
	// which is blank and counts as 0.
	answer func(all []account, row func(values ...int64))
}

type account struct{ aid, bid, abalance int64 }

func sumOf(list []account) (sum int64) {
	for _, a := range list {
		sum += a.abalance
	}
	return sum
}

func allAccounts(scale int64) int64 { return scale * accountsPerBranch }

func allRows(all []account, row func(...int64)) {
	for _, a := range all {
		row(a.aid, a.bid, a.abalance, 0)
	}
}

func (q query) workload() *Workload {
	w := &Workload{Name: q.name, About: q.about, Data: accounts, Clients: 1, Streams: q.direct == "", Bounds: q.bounds, Verify: q.verify,
		Protocols: []load.Protocol{load.Simple, load.Extended, load.Prepared}}
	s := load.NewStatement("q0", q.sql, "")
	w.Statements = []*load.Statement{s}
	if q.direct != "" {
		w.Direct = load.NewStatement("q1", q.direct, "")
		w.Bounds = append(w.Bounds, directBound)
	}
	w.Script = func(setup Setup) load.Script {
		script := &queryScript{protocol: setup.Protocol, statement: s, rows: q.rows(int64(setup.Size.Scale))}
		if q.pause != nil {
			script.at, script.pause = script.rows/2, q.pause(int64(setup.Size.Scale))
		}
		return script
	}
	return w
}

type queryScript struct {
	protocol  load.Protocol
	statement *load.Statement
	rows      int64
	at        int64 // the row after which the client pauses
	pause     time.Duration
}

// Transaction runs the query.
func (s *queryScript) Transaction(c *load.Conn, _ *rand.Rand) error {
	n, err := c.Stream(s.protocol, s.statement, s.at, s.pause)
	return atLeast(s.rows, n, err)
}

// DirectScript makes the script that runs Direct on all shards at once.
func (w *Workload) DirectScript(p load.Protocol) load.Script { return &directScript{p, w.Direct} }

type directScript struct {
	protocol  load.Protocol
	statement *load.Statement
}

// Transaction asks all shards and waits for all.
func (s *directScript) Transaction(c *load.Conn, _ *rand.Rand) error {
	return c.RunEverywhere(s.protocol, s.statement)
}

// verify compares the query's answer with the one that is made here of the rows that
// the servers hold.
func (q query) verify(ctx context.Context, t *target.Target, _ Size) error {
	return q.compare(ctx, t, func(row func([][]byte) error) error { return each(ctx, t.URL, q.sql, row) })
}

// compare does that for the rows that ask gives.
func (q query) compare(ctx context.Context, t *target.Target, ask func(row func([][]byte) error) error) error {
	var all []account
	for _, url := range servers(t.Store) {
		if err := each(ctx, url, "SELECT aid, bid, abalance FROM pgbench_accounts", func(values [][]byte) error {
			n, err := numbersOf(values)
			if err == nil {
				all = append(all, account{n[0], n[1], n[2]})
			}
			return err
		}); err != nil {
			return err
		}
	}
	var want, got digest
	q.answer(all, want.add)
	err := ask(func(values [][]byte) error {
		n, err := numbersOf(values)
		if err == nil {
			got.add(n...)
		}
		return err
	})
	if err != nil {
		return err
	}
	if !q.ordered {
		got.list, want.list = 0, 0
	}
	if got != want {
		return fmt.Errorf("%s: the %d rows of the answer are not those that the servers hold, which are %d", q.sql, got.rows, want.rows)
	}
	return nil
}

// digest is about the rows of an answer: how many, which, and in which order.
type digest struct {
	rows      int64
	set, list uint64
}

var digestSeed = maphash.MakeSeed()

func (d *digest) add(values ...int64) {
	var b [80]byte
	text := b[:0]
	for _, v := range values {
		text = append(strconv.AppendInt(text, v, 10), '\t')
	}
	d.addHash(maphash.Bytes(digestSeed, text))
}

// addText adds a row of any types.
func (d *digest) addText(values [][]byte) {
	var h maphash.Hash
	h.SetSeed(digestSeed)
	for _, v := range values {
		h.Write(v)
		h.WriteByte(0)
		if v == nil {
			h.WriteByte(1)
		}
	}
	d.addHash(h.Sum64())
}

func (d *digest) addHash(h uint64) {
	d.rows++
	d.set += h
	d.list = d.list*1_000_003 + h
}

func numbersOf(values [][]byte) ([]int64, error) {
	list := make([]int64, len(values))
	for i, v := range values {
		if len(bytes.TrimLeft(v, " ")) == 0 {
			continue
		}
		var err error
		if list[i], err = strconv.ParseInt(string(v), 10, 64); err != nil {
			return nil, err
		}
	}
	return list, nil
}
