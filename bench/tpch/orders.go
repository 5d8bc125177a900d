package tpch

var (
	priorities   = []string{"1-URGENT", "2-HIGH", "3-MEDIUM", "4-NOT SPECIFIED", "5-LOW"}
	instructions = []string{"DELIVER IN PERSON", "COLLECT COD", "NONE", "TAKE BACK RETURN"}
	modes        = []string{"REG AIR", "AIR", "RAIL", "SHIP", "TRUCK", "MAIL", "FOB"}
)

// order is what an order and its line items have to agree on.
type order struct {
	key, customer int
	day           int
	count         int // of lines
	lines         [7]line
}

type line struct {
	part, supplier           int
	quantity                 int
	price                    int // of the quantity, in cents
	discount, tax            int // per cent
	shipped, committed, came int // days
	returned                 string
}

// makeOrder makes the n-th order (4.2.3).
func (d *Data) makeOrder(n int) order {
	r := d.random(orderLines, n)
	o := order{
		key:      n/8*32 + n%8 + 1, // a quarter of the keys are used
		customer: d.buyer(&r),
		// All that happens to it happens before the last day.
		day:   r.between(0, lastDay-151),
		count: r.between(1, 7),
	}
	for i := range o.lines[:o.count] {
		l := &o.lines[i]
		l.part = r.between(1, d.parts)
		l.supplier = d.supplierOf(l.part, r.between(0, suppliersPerPart-1))
		l.quantity = r.between(1, 50)
		l.price = l.quantity * retailPrice(l.part)
		l.discount = r.between(0, 10)
		l.tax = r.between(0, 8)
		l.shipped = o.day + r.between(1, 121)
		l.committed = o.day + r.between(30, 90)
		l.came = l.shipped + r.between(1, 30)
		l.returned = "N"
		if l.came <= currentDay {
			l.returned = r.pick([]string{"R", "A"})
		}
	}
	return o
}

// buyer is any customer but each third one, who never orders anything.
func (d *Data) buyer(r *random) int {
	n := r.between(0, d.customers-d.customers/3-1)
	return n/2*3 + n%2 + 1
}

// open says that a line was not shipped by the current date.
func (l *line) open() bool { return l.shipped > currentDay }

func (l *line) status() string {
	if l.open() {
		return "O"
	}
	return "F"
}

func (o *order) status() string {
	open := 0
	for i := range o.lines[:o.count] {
		if o.lines[i].open() {
			open++
		}
	}
	switch open {
	case 0:
		return "F"
	case o.count:
		return "O"
	}
	return "P"
}

// total is the price with discounts and taxes, in cents.
func (o *order) total() int {
	sum := 0 // of ten thousandths of a cent
	for _, l := range o.lines[:o.count] {
		sum += l.price * (100 - l.discount) * (100 + l.tax)
	}
	return (sum + 5000) / 10_000
}

func (d *Data) order(dst []byte, n int) []byte {
	o, r, w := d.makeOrder(n), d.random(orderRows, n), row{b: dst}
	w.number(o.key)
	w.number(o.customer)
	w.text(o.status())
	w.cents(o.total())
	w.date(o.day)
	w.text(r.pick(priorities))
	w.name("Clerk", r.between(1, d.clerks))
	w.number(0)
	w.comment(d, &r, 19, 78)
	w.end()
	return w.b
}

func (d *Data) lineitem(dst []byte, n int) []byte {
	o, r, w := d.makeOrder(n), d.random(lineTexts, n), row{b: dst}
	for i, l := range o.lines[:o.count] {
		w.number(o.key)
		w.number(l.part)
		w.number(l.supplier)
		w.number(i + 1)
		w.number(l.quantity)
		w.cents(l.price)
		w.cents(l.discount)
		w.cents(l.tax)
		w.text(l.returned)
		w.text(l.status())
		w.date(l.shipped)
		w.date(l.committed)
		w.date(l.came)
		w.text(r.pick(instructions))
		w.text(r.pick(modes))
		w.comment(d, &r, 10, 43)
		w.end()
	}
	return w.b
}
