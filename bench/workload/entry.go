package workload

import (
	"fmt"
	"strconv"
)

// entry are the tables of an order entry like that of TPC-C, distributed by warehouse: see
// docs/benchmark.md for what is simpler. The section numbers are those of the specification,
// TPC Benchmark C, revision 5.11. Amounts are whole cents.
var entry = &Data{
	Name:   "order entry",
	tables: func(s Size) []table { return entrySizeOf(s).tables() },
	keyed:  "entry_warehouse", key: "id", keys: func(s Size) int64 { return entrySizeOf(s).warehouses },
	sums: func() []string {
		list := []string{"SELECT coalesce(sum(paid), 0) FROM entry_customer", "SELECT coalesce(sum(amount), 0) FROM entry_history"}
		for _, c := range entryConditions {
			list = append(list, c.sql)
		}
		return list
	}(),
	check: checkEntry,
}

const districtsOfEach = 10 // of a warehouse

// entrySize is how many there are of what.
type entrySize struct {
	warehouses, items int64
	customers         int64 // of a district, and as many orders
}

func entrySizeOf(s Size) entrySize {
	if s.Small {
		return entrySize{warehouses: 4, items: 200, customers: 30}
	}
	return entrySize{warehouses: int64(s.Scale), items: 100_000, customers: 3000}
}

// waiting is the first order of a district that is not delivered at the beginning: the last
// 30 of 100 are not (4.3.3.1).
func (s entrySize) waiting() int64 { return s.customers*7/10 + 1 }

// lines of an order, 5 to 15, and the item of one.
func linesOf(warehouse, district, order int64) int64 {
	return 5 + (warehouse*7+district*13+order*31)%11
}

func (s entrySize) itemOf(warehouse, district, order, number int64) int64 {
	return (warehouse*7+district*13+order*31+number*97)%s.items + 1
}

// orderer is the customer of an order: each has one at the beginning.
func (s entrySize) orderer(order int64) int64 { return order*7919%s.customers + 1 }

func (s entrySize) nameOf(customer int64) int64 { return (customer - 1) % min(s.customers, 1000) }

var syllables = []string{"BAR", "OUGHT", "ABLE", "PRI", "PRES", "ESE", "ANTI", "CALLY", "ATION", "EING"}

// lastName appends the name of a number from 0 to 999 (4.3.2.3).
func lastName(dst []byte, n int64) []byte {
	dst = append(dst, syllables[n/100]...)
	dst = append(dst, syllables[n/10%10]...)
	return append(dst, syllables[n%10]...)
}

// What the rows begin with (4.3.3.1).
const (
	firstPayment    = 10_00 // of each customer, so of each row of the history
	stockAtFirst    = 50
	priceLeast      = 1_00
	undeliveredEach = 25_00 // the amount of a line that is not delivered
)

func priceOf(item int64) int64 { return priceLeast + item*7919%9900 }

// tables are those of a size.
func (s entrySize) tables() []table {
	districts := s.warehouses * districtsOfEach
	place := func(n, each int64) (warehouse, district, rest int64) { // of the n-th of each in all districts
		n--
		d := n / each
		return d/districtsOfEach + 1, d%districtsOfEach + 1, n%each + 1
	}
	count := func(n int64) func(Size) int64 { return func(Size) int64 { return n } }
	return []table{
		{name: "entry_item", create: "id int PRIMARY KEY, price int NOT NULL, name text NOT NULL", columns: "id, price, name",
			rows: count(s.items), last: "id",
			row: func(dst []byte, n int64) []byte {
				return append(strconv.AppendInt(append(pair(dst, n, priceOf(n)), "\titem "...), n, 10), '\n')
			}},
		{name: "entry_warehouse", create: "id int PRIMARY KEY, tax int NOT NULL, ytd bigint NOT NULL", columns: "id, tax, ytd",
			rows: count(s.warehouses), last: "id",
			row: func(dst []byte, n int64) []byte {
				return line(dst, n, n%20, firstPayment*s.customers*districtsOfEach)
			}},
		{name: "entry_district", create: "warehouse int, id int, tax int NOT NULL, ytd bigint NOT NULL, next_order int NOT NULL, PRIMARY KEY (warehouse, id)",
			columns: "warehouse, id, tax, ytd, next_order", rows: count(districts),
			row: func(dst []byte, n int64) []byte {
				w, d, _ := place(n, 1)
				return line(dst, w, d, n%20, firstPayment*s.customers, s.customers+1)
			}},
		{name: "entry_customer", create: "warehouse int, district int, id int, last text NOT NULL, first text NOT NULL, discount int NOT NULL, balance bigint NOT NULL, paid bigint NOT NULL, payments int NOT NULL, deliveries int NOT NULL, data text NOT NULL, PRIMARY KEY (warehouse, district, id)",
			columns: "warehouse, district, id, discount, balance, paid, payments, deliveries, last, first, data", rows: count(districts * s.customers),
			row: func(dst []byte, n int64) []byte {
				w, d, c := place(n, s.customers)
				dst = append(lastName(append(pair(dst, w, d, c, n%50, -firstPayment, firstPayment, 1, 0), '\t'), s.nameOf(c)), '\t')
				return append(append(strconv.AppendInt(append(dst, "first "...), c*7919%10_007, 10), '\t'), "some data of a customer, which nobody looks at, as in the specification but shorter\n"...)
			}, after: "CREATE INDEX ON entry_customer (warehouse, district, last, first)"},
		{name: "entry_history", create: "warehouse int NOT NULL, district int NOT NULL, customer_warehouse int NOT NULL, customer_district int NOT NULL, customer int NOT NULL, amount bigint NOT NULL",
			columns: "warehouse, district, customer_warehouse, customer_district, customer, amount", rows: count(districts * s.customers),
			row: func(dst []byte, n int64) []byte {
				w, d, c := place(n, s.customers)
				return line(dst, w, d, w, d, c, firstPayment)
			}},
		{name: "entry_order", create: "warehouse int, district int, id int, customer int NOT NULL, lines int NOT NULL, carrier int, entered timestamptz NOT NULL DEFAULT now(), PRIMARY KEY (warehouse, district, id)",
			columns: "warehouse, district, id, entered, customer, lines, carrier", rows: count(districts * s.customers),
			row: func(dst []byte, n int64) []byte {
				w, d, o := place(n, s.customers)
				dst = append(pair(dst, w, d, o), "\t2026-01-01\t"...)
				dst = pair(dst, s.orderer(o), linesOf(w, d, o))
				if o >= s.waiting() {
					return append(dst, "\t\\N\n"...)
				}
				return append(strconv.AppendInt(append(dst, '\t'), o%10+1, 10), '\n')
			}, after: "CREATE INDEX ON entry_order (warehouse, district, customer, id)"},
		{name: "entry_new_order", create: "warehouse int, district int, id int, PRIMARY KEY (warehouse, district, id)", columns: "warehouse, district, id",
			rows: count(districts * (s.customers - s.waiting() + 1)),
			row: func(dst []byte, n int64) []byte {
				w, d, o := place(n, s.customers-s.waiting()+1)
				return line(dst, w, d, o+s.waiting()-1)
			}},
		{name: "entry_line", create: "warehouse int, district int, order_id int, number int, item int NOT NULL, supplier int NOT NULL, quantity int NOT NULL, amount bigint NOT NULL, delivered timestamptz, PRIMARY KEY (warehouse, district, order_id, number)",
			columns: "warehouse, district, order_id, number, item, supplier, quantity, amount, delivered", rows: count(districts * s.customers),
			row: func(dst []byte, n int64) []byte { // all lines of an order
				w, d, o := place(n, s.customers)
				amount, delivered := int64(0), "\t2026-01-01\n"
				if o >= s.waiting() {
					amount, delivered = undeliveredEach, "\t\\N\n"
				}
				for number := int64(1); number <= linesOf(w, d, o); number++ {
					dst = append(pair(dst, w, d, o, number, s.itemOf(w, d, o, number), w, 5, amount), delivered...)
				}
				return dst
			}},
		{name: "entry_stock", create: "warehouse int, item int, quantity int NOT NULL, ytd int NOT NULL, orders int NOT NULL, remote int NOT NULL, data text NOT NULL, PRIMARY KEY (warehouse, item)",
			columns: "warehouse, item, quantity, ytd, orders, remote, data", rows: count(s.warehouses * s.items),
			row: func(dst []byte, n int64) []byte {
				dst = pair(dst, (n-1)/s.items+1, (n-1)%s.items+1, stockAtFirst, 0, 0, 0)
				return append(dst, "\tsome data of an item in a warehouse\n"...)
			}},
	}
}

// pair appends numbers in COPY's text format, without an end.
func pair(dst []byte, values ...int64) []byte {
	dst = line(dst, values...)
	return dst[:len(dst)-1]
}

// entryConditions are the consistency conditions of 3.3.2, each as a query that counts what
// breaks it. All rows that one of them is about have the same warehouse, and so are on one
// server.
var entryConditions = []struct{ text, sql string }{
	{"1: a warehouse's year to date is that of its districts",
		`SELECT count(*) FROM entry_warehouse w WHERE ytd <> (SELECT sum(ytd) FROM entry_district d WHERE d.warehouse = w.id)`},
	{"2: a district's next order follows its last one, which is its last new one",
		`SELECT count(*) FROM entry_district d WHERE next_order - 1 <> (SELECT max(o.id) FROM entry_order o WHERE o.warehouse = d.warehouse AND o.district = d.id)
		OR next_order - 1 <> (SELECT max(n.id) FROM entry_new_order n WHERE n.warehouse = d.warehouse AND n.district = d.id)`},
	{"3: there are no gaps between a district's new orders",
		`SELECT count(*) FROM (SELECT FROM entry_new_order GROUP BY warehouse, district HAVING max(id) - min(id) + 1 <> count(*)) x`},
	{"4 and 6: an order has as many lines as it says",
		`SELECT count(*) FROM entry_order o LEFT JOIN (SELECT warehouse, district, order_id, count(*) AS n FROM entry_line GROUP BY 1, 2, 3) l
		ON l.warehouse = o.warehouse AND l.district = o.district AND l.order_id = o.id WHERE coalesce(l.n, 0) <> o.lines`},
	{"5: an order has no carrier exactly if it is new",
		`SELECT count(*) FROM entry_order o FULL JOIN entry_new_order n ON n.warehouse = o.warehouse AND n.district = o.district AND n.id = o.id
		WHERE o.id IS NULL OR (o.carrier IS NULL) <> (n.id IS NOT NULL)`},
	{"7: a line is delivered exactly if its order has a carrier",
		`SELECT count(*) FROM entry_line l LEFT JOIN entry_order o ON o.warehouse = l.warehouse AND o.district = l.district AND o.id = l.order_id
		WHERE o.id IS NULL OR (l.delivered IS NULL) <> (o.carrier IS NULL)`},
	{"8: a warehouse's year to date is what its history adds up to",
		`SELECT count(*) FROM entry_warehouse w WHERE ytd <> (SELECT sum(amount) FROM entry_history h WHERE h.warehouse = w.id)`},
	{"9: and so is a district's",
		`SELECT count(*) FROM entry_district d LEFT JOIN (SELECT warehouse, district, sum(amount) AS amount FROM entry_history GROUP BY 1, 2) h
		ON h.warehouse = d.warehouse AND h.district = d.id WHERE d.ytd <> coalesce(h.amount, 0)`},
	{"12: a customer's balance and payments add up to what was delivered",
		`SELECT count(*) FROM entry_customer c LEFT JOIN (SELECT o.warehouse, o.district, o.customer, sum(l.amount) AS amount FROM entry_order o
		JOIN entry_line l ON l.warehouse = o.warehouse AND l.district = o.district AND l.order_id = o.id WHERE l.delivered IS NOT NULL GROUP BY 1, 2, 3) x
		ON x.warehouse = c.warehouse AND x.district = c.district AND x.customer = c.id WHERE c.balance + c.paid <> coalesce(x.amount, 0)`},
}

// checkEntry says which conditions the tables break.
func checkEntry(_, after []int64, _ map[string]Tally) (wrong []error) {
	for i, c := range entryConditions {
		if broken := after[2+i]; broken > 0 {
			wrong = append(wrong, fmt.Errorf("%d rows break condition %s", broken, c.text))
		}
	}
	// Of all customers together: a payment may be recorded at another warehouse than theirs.
	if paid, history := after[0], after[1]; paid != history {
		wrong = append(wrong, fmt.Errorf("condition 10: customers have paid %d, and the history adds up to %d", paid, history))
	}
	return wrong
}
