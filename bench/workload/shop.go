package workload

import (
	"context"
	"fmt"
	"math/rand/v2"
	"strconv"

	"github.com/shardgate/shardgate/bench/load"
	"github.com/shardgate/shardgate/bench/target"
)

// Joins of a customer's orders.
var (
	// join is of tables that are co-located: one shard runs it.
	join = joined("join", "a customer with the orders, which are on the same shard",
		"SELECT c.id, c.region, o.number, o.cents FROM bench_customers c JOIN bench_orders o ON o.customer = c.id WHERE c.id = $1",
		func(customer, number int64) []int64 {
			return []int64{customer, regionOf(customer), number, centsOf(customer, number)}
		})
	// gatherJoin is not: its products are on any shard.
	gatherJoin = joined("gather-join", "a customer's orders with their products, which are on any shard",
		"SELECT o.number, o.product, p.weight FROM bench_orders o JOIN bench_products p ON p.id = o.product WHERE o.customer = $1",
		func(customer, number int64) []int64 {
			product := productOf(customer, number)
			return []int64{number, product, weightOf(product)}
		})
)

// joined is a workload that reads the orders of one customer; row is what is right of each
// order.
func joined(name, about, sql string, row func(customer, number int64) []int64) *Workload {
	s := load.NewStatement("j0", sql, fmt.Sprintf("SELECT %d", ordersOfEach))
	return &Workload{
		Name:       name,
		About:      about,
		Data:       shop,
		Statements: []*load.Statement{s},
		Script: scripted(func(setup Setup) func(*load.Work, *rand.Rand) {
			d := setup.drawer(customersOf(setup.Size))
			return func(w *load.Work, rnd *rand.Rand) { w.Add(s, d.draw(rnd)) }
		}),
		Clients: 8,
		Verify: func(ctx context.Context, t *target.Target, _ Size) error {
			for customer := int64(1); customer <= verifiedCustomers; customer++ {
				if err := verifyJoin(ctx, t, s.With(customer), customer, row); err != nil {
					return err
				}
			}
			return nil
		},
	}
}

// verifiedCustomers is for how many customers the answer is compared row by row.
const verifiedCustomers = 20

func verifyJoin(ctx context.Context, t *target.Target, sql string, customer int64, row func(customer, number int64) []int64) error {
	var got, want digest
	for number := int64(1); number <= ordersOfEach; number++ {
		want.add(row(customer, number)...)
	}
	if err := each(ctx, t.URL, sql, func(values [][]byte) error {
		n, err := numbersOf(values)
		if err == nil {
			got.add(n...)
		}
		return err
	}); err != nil {
		return err
	}
	got.list, want.list = 0, 0 // in any order
	if got != want {
		return fmt.Errorf("%s: the %d rows of the answer are not those that were loaded, which are %d", sql, got.rows, want.rows)
	}
	return nil
}

// shop is customers, their orders and the products. Nothing changes them.
var shop = &Data{
	Name:   "shop",
	tables: func(Size) []table { return shopTables },
	keyed:  "bench_customers", key: "id", keys: customersOf,
	sums: []string{"SELECT count(*) FROM bench_customers", "SELECT count(*) FROM bench_products",
		"SELECT count(*), coalesce(sum(cents), 0) FROM bench_orders"},
	check: func(before, after []int64, _ map[string]Tally) []error { return unchanged(before, after) },
}

const (
	customersPerScale = 10_000
	productsPerScale  = 1000
	ordersOfEach      = 5
	products          = 1000 // that are ordered, at any scale
)

func customersOf(s Size) int64 {
	if s.Small {
		return customersPerScale / 10
	}
	return customersPerScale * int64(s.Scale)
}

func regionOf(customer int64) int64          { return customer % 7 }
func centsOf(customer, number int64) int64   { return customer*31%9973 + number }
func productOf(customer, number int64) int64 { return (customer*13+number*101)%products + 1 }
func weightOf(product int64) int64           { return product * 17 % 991 }

// line appends a row of numbers in COPY's text format.
func line(dst []byte, values ...int64) []byte {
	for i, v := range values {
		if i > 0 {
			dst = append(dst, '\t')
		}
		dst = strconv.AppendInt(dst, v, 10)
	}
	return append(dst, '\n')
}

var shopTables = []table{
	{name: "bench_customers", create: "id int PRIMARY KEY, region int NOT NULL", columns: "id, region", rows: customersOf,
		row: func(dst []byte, n int64) []byte { return line(dst, n, regionOf(n)) }, last: "id"},
	{name: "bench_products", create: "id int PRIMARY KEY, weight int NOT NULL", columns: "id, weight",
		rows: func(s Size) int64 { return productsPerScale * int64(s.Scale) },
		row:  func(dst []byte, n int64) []byte { return line(dst, n, weightOf(n)) }, last: "id"},
	{name: "bench_orders", create: "customer int, number int, product int NOT NULL, cents int NOT NULL, PRIMARY KEY (customer, number)", columns: "customer, number, product, cents",
		rows: func(s Size) int64 { return ordersOfEach * customersOf(s) },
		row: func(dst []byte, n int64) []byte {
			customer, number := (n-1)/ordersOfEach+1, (n-1)%ordersOfEach+1
			return line(dst, customer, number, productOf(customer, number), centsOf(customer, number))
		}},
}
