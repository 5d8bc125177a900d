package workload

import (
	"context"
	"fmt"
	"math/rand/v2"
	"sync"

	"github.com/shardgate/shardgate/bench/load"
	"github.com/shardgate/shardgate/bench/target"
	"github.com/shardgate/shardgate/bench/tpch"
)

// tpchAll runs the 22 queries of TPC-H, one after the other.
var tpchAll = tpchWorkload("tpch", "the 22 queries of TPC-H, one after the other: all are one transaction here", numbersTo(tpch.QueryCount)...)

// tpchQueries are each of them alone. They are run only if they are named.
var tpchQueries = func() (list []*Workload) {
	for _, n := range numbersTo(tpch.QueryCount) {
		list = append(list, tpchWorkload(fmt.Sprintf("tpch-%d", n), fmt.Sprintf("query %d of TPC-H", n), n))
	}
	return list
}()

func numbersTo(n int) (list []int) {
	for i := 1; i <= n; i++ {
		list = append(list, i)
	}
	return list
}

func tpchWorkload(name, about string, queries ...int) *Workload {
	return &Workload{
		Name:  name,
		About: about,
		Data:  tpchData,
		Script: func(s Setup) load.Script {
			script := &tpchScript{protocol: s.Protocol}
			for _, n := range queries {
				script.queries = append(script.queries, load.NewStatement("h0", tpch.Query(n, tpchScale(s.Size)), ""))
			}
			return script
		},
		Clients:   1,
		Protocols: []load.Protocol{load.Simple, load.Extended},
		Verify: func(ctx context.Context, t *target.Target, size Size) error {
			for _, n := range queries {
				if err := tpchAnswers.compare(ctx, t, n, tpchScale(size)); err != nil {
					return err
				}
			}
			return nil
		},
	}
}

type tpchScript struct {
	protocol load.Protocol
	queries  []*load.Statement
}

// Transaction runs the queries.
func (s *tpchScript) Transaction(c *load.Conn, _ *rand.Rand) error {
	for _, q := range s.queries {
		if err := c.Run(s.protocol, q); err != nil {
			return err
		}
	}
	return nil
}

// tpchAnswers are the rows of the first target that was asked, in any order. Those of the
// others have to be the same.
var tpchAnswers = answers{first: map[string]firstAnswer{}}

type answers struct {
	mu    sync.Mutex
	first map[string]firstAnswer // by query
}

type firstAnswer struct {
	digest digest
	target string
}

func (a *answers) compare(ctx context.Context, t *target.Target, n int, scale float64) error {
	sql := tpch.Query(n, scale)
	var got digest
	if err := each(ctx, t.URL, sql, func(values [][]byte) error {
		got.addText(values)
		return nil
	}); err != nil {
		return fmt.Errorf("query %d: %w", n, err)
	}
	got.list = 0
	a.mu.Lock()
	defer a.mu.Unlock()
	first, known := a.first[sql]
	if !known {
		a.first[sql] = firstAnswer{got, t.Name}
	} else if got != first.digest {
		return fmt.Errorf("query %d: the %d rows are not the %d of %s", n, got.rows, first.digest.rows, first.target)
	}
	return nil
}

// tpchScale is the scale factor: a hundredth of --scale, 600,000 line items for its
// default.
func tpchScale(s Size) float64 {
	if s.Small {
		return 0.001
	}
	return float64(s.Scale) / 100
}

// tpchData are the tables of TPC-H.
var tpchData = &Data{
	Name:   "tpch",
	tables: func(Size) []table { return tpchTables },
	sums: func() (list []string) {
		for _, t := range tpch.Tables {
			list = append(list, "SELECT count(*) FROM "+t.Name)
		}
		return list
	}(),
	check: func(before, after []int64, _ map[string]Tally) []error { return unchanged(before, after) },
	fill: func(ctx context.Context, url string, size Size) error {
		d, err := tpch.New(tpchScale(size), tpch.DefaultSeed)
		if err != nil {
			return err
		}
		return tpch.Load(ctx, url, d)
	},
	fits: func(ctx context.Context, s *target.Store, size Size) error {
		n, err := total(ctx, &target.Store{URL: s.URL}, "SELECT count(*) FROM orders")
		if err != nil {
			return err
		}
		if want := int64(tpchScale(size)*1_500_000 + 0.5); n[0] != want {
			return fmt.Errorf("there are %d orders, and --scale %d has %d: use another, or --reload to drop the tables of the benchmark and make them anew", n[0], size.Scale, want)
		}
		return nil
	},
}

// tpchTables are what is looked at before the tables are used or dropped.
var tpchTables = func() (list []table) {
	for _, t := range tpch.Tables {
		list = append(list, table{name: t.Name, columns: t.Key, rows: func(Size) int64 { return 0 }})
	}
	return list
}()
