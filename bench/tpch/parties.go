package tpch

var regions = []string{"AFRICA", "AMERICA", "ASIA", "EUROPE", "MIDDLE EAST"}

var nations = []struct {
	name   string
	region int
}{
	{"ALGERIA", 0}, {"ARGENTINA", 1}, {"BRAZIL", 1}, {"CANADA", 1}, {"EGYPT", 4}, {"ETHIOPIA", 0}, {"FRANCE", 3},
	{"GERMANY", 3}, {"INDIA", 2}, {"INDONESIA", 2}, {"IRAN", 4}, {"IRAQ", 4}, {"JAPAN", 2}, {"JORDAN", 4}, {"KENYA", 0},
	{"MOROCCO", 0}, {"MOZAMBIQUE", 0}, {"PERU", 1}, {"CHINA", 2}, {"ROMANIA", 3}, {"SAUDI ARABIA", 4}, {"VIETNAM", 2},
	{"RUSSIA", 3}, {"UNITED KINGDOM", 3}, {"UNITED STATES", 1},
}

var segments = []string{"AUTOMOBILE", "BUILDING", "FURNITURE", "MACHINERY", "HOUSEHOLD"}

func (d *Data) region(dst []byte, n int) []byte {
	r, w := d.random(regionRows, n), row{b: dst}
	w.number(n)
	w.text(regions[n])
	w.comment(d, &r, 31, 115)
	w.end()
	return w.b
}

func (d *Data) nation(dst []byte, n int) []byte {
	r, w := d.random(nationRows, n), row{b: dst}
	w.number(n)
	w.text(nations[n].name)
	w.number(nations[n].region)
	w.comment(d, &r, 31, 114)
	w.end()
	return w.b
}

func (d *Data) customer(dst []byte, n int) []byte {
	r, w := d.random(customerRows, n), row{b: dst}
	w.number(n + 1)
	w.name("Customer", n+1)
	w.address(&r)
	nation := r.between(0, len(nations)-1)
	w.number(nation)
	w.phone(&r, nation)
	w.cents(r.between(-99_999, 999_999))
	w.text(r.pick(segments))
	w.comment(d, &r, 29, 116)
	w.end()
	return w.b
}

func (d *Data) supplier(dst []byte, n int) []byte {
	r, w := d.random(supplierRows, n), row{b: dst}
	w.number(n + 1)
	w.name("Supplier", n+1)
	w.address(&r)
	nation := r.between(0, len(nations)-1)
	w.number(nation)
	w.phone(&r, nation)
	w.cents(r.between(-99_999, 999_999))
	begin := len(w.b) + 1
	w.comment(d, &r, 25, 100)
	if remark := d.remark(n); remark != "" {
		w.b = mark(w.b, begin, &r, remark)
	}
	w.end()
	return w.b
}

// remark says what customers say about a supplier, mostly nothing. Of 2000 suppliers one
// is complained of and another recommended (4.2.3); of fewer, so is one each.
func (d *Data) remark(supplier int) string {
	block := min(2000, d.suppliers)
	r := d.random(remarks, supplier/block)
	bad := r.between(0, block-1)
	good := (bad + r.between(1, block-1)) % block
	switch supplier % block {
	case bad:
		return "Complaints"
	case good:
		return "Recommends"
	}
	return ""
}

// mark writes "Customer" and the remark somewhere into the comment at the end of b.
func mark(b []byte, begin int, r *random, remark string) []byte {
	const who = "Customer "
	room := len(b) - begin - len(who) - len(remark)
	at := begin + r.between(0, room)
	then := at + len(who) + r.between(0, len(b)-at-len(who)-len(remark))
	copy(b[at:], who)
	copy(b[then:], remark)
	return b
}
