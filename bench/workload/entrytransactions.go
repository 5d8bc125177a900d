package workload

import (
	"cmp"
	"fmt"
	"math/rand/v2"
	"slices"

	"github.com/shardgate/shardgate/bench/load"
)

// Order entry with one and with ten of a hundred lines from another warehouse.
var (
	orderEntry       = orderEntryWith("order-entry", 1)
	orderEntryRemote = orderEntryWith("order-entry-remote", 10)
)

func orderEntryWith(name string, remotePercent int) *Workload {
	return &Workload{
		Name:       name,
		About:      fmt.Sprintf("order entry like TPC-C's, distributed by warehouse; %d of 100 lines of an order are from another warehouse", remotePercent),
		Data:       entry,
		Statements: entryStatements,
		Script: func(s Setup) load.Script {
			size := entrySizeOf(s.Size)
			return &entryScript{protocol: s.Protocol, size: size, warehouses: s.drawer(size.warehouses), remotePercent: remotePercent}
		},
		Clients:   8,
		Protocols: []load.Protocol{load.Simple, load.Extended, load.Prepared},
		Fsync:     true,
	}
}

// entryStatements are all that the five transactions run.
var entryStatements = []*load.Statement{
	entryBegin, entryCommit, entryRollback, warehouseTax, nextOrder, customerOff, insertOrder, insertNew, itemPrice,
	takeFromStock, insertLine, payWarehouse, payDistrict, customersBy, pay, insertPayment, customerOwes, lastOrder,
	orderLines, oldestNew, deleteNew, setCarrier, deliverLines, orderAmount, deliver, ordersUpTo, lowStock,
}

var (
	entryBegin    = load.NewStatement("e0", "BEGIN", "BEGIN")
	entryCommit   = load.NewStatement("e1", "COMMIT", "COMMIT")
	entryRollback = load.NewStatement("e2", "ROLLBACK", "ROLLBACK")

	// New order (2.4).
	warehouseTax  = load.NewStatement("e3", "SELECT tax FROM entry_warehouse WHERE id = $1", "SELECT 1")
	nextOrder     = load.NewStatement("e4", "UPDATE entry_district SET next_order = next_order + 1 WHERE warehouse = $1 AND id = $2 RETURNING next_order - 1, tax", "UPDATE 1")
	customerOff   = load.NewStatement("e5", "SELECT discount FROM entry_customer WHERE warehouse = $1 AND district = $2 AND id = $3", "SELECT 1")
	insertOrder   = load.NewStatement("e6", "INSERT INTO entry_order (warehouse, district, id, customer, lines) VALUES ($1, $2, $3, $4, $5)", "INSERT 0 1")
	insertNew     = load.NewStatement("e7", "INSERT INTO entry_new_order (warehouse, district, id) VALUES ($1, $2, $3)", "INSERT 0 1")
	itemPrice     = load.NewStatement("e8", "SELECT price FROM entry_item WHERE id = $1", "")
	takeFromStock = load.NewStatement("e9", "UPDATE entry_stock SET quantity = CASE WHEN quantity >= $3 + 10 THEN quantity - $3 ELSE quantity - $3 + 91 END, ytd = ytd + $3, orders = orders + 1, remote = remote + $4 WHERE warehouse = $1 AND item = $2 RETURNING quantity", "UPDATE 1")
	insertLine    = load.NewStatement("e10", "INSERT INTO entry_line (warehouse, district, order_id, number, item, supplier, quantity, amount) VALUES ($1, $2, $3, $4, $5, $6, $7, $8)", "INSERT 0 1")

	// Payment (2.5).
	payWarehouse  = load.NewStatement("e11", "UPDATE entry_warehouse SET ytd = ytd + $2 WHERE id = $1", "UPDATE 1")
	payDistrict   = load.NewStatement("e12", "UPDATE entry_district SET ytd = ytd + $3 WHERE warehouse = $1 AND id = $2", "UPDATE 1")
	customersBy   = load.NewStatement("e13", "SELECT id FROM entry_customer WHERE warehouse = $1 AND district = $2 AND last = $3 ORDER BY first", "").Text(3, lastName)
	pay           = load.NewStatement("e14", "UPDATE entry_customer SET balance = balance - $4, paid = paid + $4, payments = payments + 1 WHERE warehouse = $1 AND district = $2 AND id = $3", "UPDATE 1")
	insertPayment = load.NewStatement("e15", "INSERT INTO entry_history (warehouse, district, customer_warehouse, customer_district, customer, amount) VALUES ($1, $2, $3, $4, $5, $6)", "INSERT 0 1")

	// Order status (2.6).
	customerOwes = load.NewStatement("e16", "SELECT balance FROM entry_customer WHERE warehouse = $1 AND district = $2 AND id = $3", "SELECT 1")
	lastOrder    = load.NewStatement("e17", "SELECT id, carrier FROM entry_order WHERE warehouse = $1 AND district = $2 AND customer = $3 ORDER BY id DESC LIMIT 1", "SELECT 1")
	orderLines   = load.NewStatement("e18", "SELECT item, supplier, quantity, amount FROM entry_line WHERE warehouse = $1 AND district = $2 AND order_id = $3", "")

	// Delivery (2.7).
	oldestNew    = load.NewStatement("e19", "SELECT id FROM entry_new_order WHERE warehouse = $1 AND district = $2 ORDER BY id LIMIT 1 FOR UPDATE", "")
	deleteNew    = load.NewStatement("e20", "DELETE FROM entry_new_order WHERE warehouse = $1 AND district = $2 AND id = $3", "DELETE 1")
	setCarrier   = load.NewStatement("e21", "UPDATE entry_order SET carrier = $4 WHERE warehouse = $1 AND district = $2 AND id = $3 RETURNING customer", "UPDATE 1")
	deliverLines = load.NewStatement("e22", "UPDATE entry_line SET delivered = now() WHERE warehouse = $1 AND district = $2 AND order_id = $3", "")
	orderAmount  = load.NewStatement("e23", "SELECT sum(amount) FROM entry_line WHERE warehouse = $1 AND district = $2 AND order_id = $3", "SELECT 1")
	deliver      = load.NewStatement("e24", "UPDATE entry_customer SET balance = balance + $4, deliveries = deliveries + 1 WHERE warehouse = $1 AND district = $2 AND id = $3", "UPDATE 1")

	// Stock level (2.8).
	ordersUpTo = load.NewStatement("e25", "SELECT next_order FROM entry_district WHERE warehouse = $1 AND id = $2", "SELECT 1")
	lowStock   = load.NewStatement("e26", "SELECT count(DISTINCT s.item) FROM entry_line l JOIN entry_stock s ON s.warehouse = l.warehouse AND s.item = l.item WHERE l.warehouse = $1 AND l.district = $2 AND l.order_id >= $3 AND l.order_id < $4 AND s.quantity < $5", "SELECT 1")
)

// entryScript is one terminal.
type entryScript struct {
	protocol      load.Protocol
	size          entrySize
	warehouses    *drawer
	remotePercent int
	lines         []orderLine
}

type orderLine struct{ item, supplier, quantity int64 }

// Transaction runs one of the five, by the mix of 5.2.3.
func (s *entryScript) Transaction(c *load.Conn, rnd *rand.Rand) error {
	warehouse, district := s.warehouses.draw(rnd), 1+rnd.Int64N(districtsOfEach)
	switch n := rnd.IntN(100); {
	case n < 45:
		return s.newOrder(c, rnd, warehouse, district)
	case n < 88:
		return s.payment(c, rnd, warehouse, district)
	case n < 92:
		return s.orderStatus(c, rnd, warehouse, district)
	case n < 96:
		return s.delivery(c, rnd, warehouse)
	}
	return s.stockLevel(c, rnd, warehouse, district)
}

// steps runs statements until one fails.
type steps struct {
	conn     *load.Conn
	protocol load.Protocol
	err      error
}

func (t *steps) run(s *load.Statement, args ...int64) {
	if t.err == nil {
		t.err = t.conn.Run(t.protocol, s, args...)
	}
}

// number is column i of the only row, or the first one; ok is false if there is none.
func (t *steps) number(i int, s *load.Statement, args ...int64) (n int64, ok bool) {
	list := t.numbers(s, args...)
	if len(list) <= i {
		return 0, false
	}
	return list[i], true
}

func (t *steps) numbers(s *load.Statement, args ...int64) (list []int64) {
	if t.err == nil {
		list, t.err = t.conn.Numbers(t.protocol, s, args...)
	}
	if t.err != nil {
		return nil
	}
	return list
}

func (s *entryScript) begin(c *load.Conn) *steps {
	t := &steps{conn: c, protocol: s.protocol}
	t.run(entryBegin)
	return t
}

// nonUniform is NURand of 2.1.6, with 123 as the constant.
func nonUniform(rnd *rand.Rand, a, n int64) int64 {
	return ((rnd.Int64N(a+1)|(1+rnd.Int64N(n)))+123)%n + 1
}

// other is another warehouse, if there is one.
func (s *entryScript) other(rnd *rand.Rand, warehouse int64) int64 {
	if s.size.warehouses == 1 {
		return warehouse
	}
	return (warehouse+rnd.Int64N(s.size.warehouses-1))%s.size.warehouses + 1
}

// newOrder is the transaction of 2.4. One of a hundred names an item that does not exist,
// and is rolled back; that is as it should be, and counts.
func (s *entryScript) newOrder(c *load.Conn, rnd *rand.Rand, warehouse, district int64) error {
	s.lines = s.lines[:0]
	for range 5 + rnd.IntN(11) {
		l := orderLine{nonUniform(rnd, 8191, s.size.items), warehouse, 1 + rnd.Int64N(10)}
		if rnd.IntN(100) < s.remotePercent {
			l.supplier = s.other(rnd, warehouse)
		}
		s.lines = append(s.lines, l)
	}
	// In one order, so that two orders don't wait for each other in a circle.
	slices.SortFunc(s.lines, func(a, b orderLine) int {
		return cmp.Or(cmp.Compare(a.supplier, b.supplier), cmp.Compare(a.item, b.item))
	})
	if rnd.IntN(100) == 0 {
		s.lines[len(s.lines)-1].item = s.size.items + 1
	}
	customer := nonUniform(rnd, 1023, s.size.customers)
	t := s.begin(c)
	t.run(warehouseTax, warehouse)
	order, _ := t.number(0, nextOrder, warehouse, district)
	t.run(customerOff, warehouse, district, customer)
	t.run(insertOrder, warehouse, district, order, customer, int64(len(s.lines)))
	t.run(insertNew, warehouse, district, order)
	for i, l := range s.lines {
		price, ok := t.number(0, itemPrice, l.item)
		if !ok && t.err == nil {
			t.run(entryRollback)
			return t.err
		}
		remote := int64(0)
		if l.supplier != warehouse {
			remote = 1
		}
		t.run(takeFromStock, l.supplier, l.item, l.quantity, remote)
		t.run(insertLine, warehouse, district, order, int64(i+1), l.item, l.supplier, l.quantity, l.quantity*price)
	}
	t.run(entryCommit)
	return t.err
}

// customer is one by number or, six times of ten, the middle one of a name.
func (s *entryScript) customer(t *steps, rnd *rand.Rand, warehouse, district int64) int64 {
	if rnd.IntN(10) < 6 {
		names := min(s.size.customers, 1000)
		if ids := t.numbers(customersBy, warehouse, district, nonUniform(rnd, 255, names)-1); len(ids) > 0 {
			return ids[len(ids)/2]
		}
	}
	return nonUniform(rnd, 1023, s.size.customers)
}

// payment is the transaction of 2.5. Fifteen of a hundred customers are another warehouse's.
func (s *entryScript) payment(c *load.Conn, rnd *rand.Rand, warehouse, district int64) error {
	of, in, amount := warehouse, district, 1_00+rnd.Int64N(4999_00)
	if rnd.IntN(100) < 15 {
		of, in = s.other(rnd, warehouse), 1+rnd.Int64N(districtsOfEach)
	}
	t := s.begin(c)
	t.run(payWarehouse, warehouse, amount)
	t.run(payDistrict, warehouse, district, amount)
	customer := s.customer(t, rnd, of, in)
	t.run(pay, of, in, customer, amount)
	t.run(insertPayment, warehouse, district, of, in, customer, amount)
	t.run(entryCommit)
	return t.err
}

// orderStatus is the transaction of 2.6.
func (s *entryScript) orderStatus(c *load.Conn, rnd *rand.Rand, warehouse, district int64) error {
	t := s.begin(c)
	customer := s.customer(t, rnd, warehouse, district)
	t.run(customerOwes, warehouse, district, customer)
	order, _ := t.number(0, lastOrder, warehouse, district, customer)
	t.run(orderLines, warehouse, district, order)
	t.run(entryCommit)
	return t.err
}

// delivery is the transaction of 2.7, for all districts in one transaction.
func (s *entryScript) delivery(c *load.Conn, rnd *rand.Rand, warehouse int64) error {
	carrier := 1 + rnd.Int64N(10)
	t := s.begin(c)
	for district := int64(1); district <= districtsOfEach; district++ {
		order, ok := t.number(0, oldestNew, warehouse, district)
		if !ok {
			continue // none waits, or another delivery has just taken it
		}
		t.run(deleteNew, warehouse, district, order)
		customer, _ := t.number(0, setCarrier, warehouse, district, order, carrier)
		t.run(deliverLines, warehouse, district, order)
		amount, _ := t.number(0, orderAmount, warehouse, district, order)
		t.run(deliver, warehouse, district, customer, amount)
	}
	t.run(entryCommit)
	return t.err
}

// stockLevel is the transaction of 2.8.
func (s *entryScript) stockLevel(c *load.Conn, rnd *rand.Rand, warehouse, district int64) error {
	t := s.begin(c)
	next, _ := t.number(0, ordersUpTo, warehouse, district)
	t.run(lowStock, warehouse, district, next-20, next, 10+rnd.Int64N(11))
	t.run(entryCommit)
	return t.err
}
