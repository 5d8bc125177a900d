package tpch

import (
	"fmt"
	"io"
	"math"
)

// Data makes the rows of all tables, for one scale factor and seed. It can be used by
// several goroutines.
type Data struct {
	Scale float64
	Seed  uint64

	parts, suppliers, customers, orders, clerks int    // how many there are
	pool                                        []byte // what comments are pieces of
}

// DefaultSeed is one for which each query finds something already at scale 0.01, where
// some look for things of which there is one on average.
const DefaultSeed = 35

// The scale factors that are supported. The greatest is where keys still fit their types.
const (
	minScale = 0.001
	maxScale = 1000
)

// New prepares data of a scale factor from 0.001 to 1000; 1 stands for six million line items.
func New(scale float64, seed uint64) (*Data, error) {
	if !(scale >= minScale && scale <= maxScale) {
		return nil, fmt.Errorf("a scale factor is %v to %v, not %v", minScale, maxScale, scale)
	}
	count := func(ofOne float64) int { return int(math.Round(scale * ofOne)) }
	d := &Data{Scale: scale, Seed: seed, parts: count(200_000), suppliers: count(10_000), customers: count(150_000),
		orders: count(1_500_000), clerks: count(1000)}
	d.writePool()
	return d, nil
}

// Table is one of the eight.
type Table struct {
	Name string
	Key  string // the first column
	// count is the number of units of rows: for partsupp a unit is the suppliers of a
	// part, for lineitem the lines of an order, else a row.
	count func(*Data) int
	// unit appends the n-th unit, from 0, in the text format of COPY.
	unit func(d *Data, dst []byte, n int) []byte
}

// Tables are all tables, in an order in which foreign keys would be satisfied.
var Tables = []*Table{
	{"region", "r_regionkey", func(*Data) int { return len(regions) }, (*Data).region},
	{"nation", "n_nationkey", func(*Data) int { return len(nations) }, (*Data).nation},
	{"supplier", "s_suppkey", func(d *Data) int { return d.suppliers }, (*Data).supplier},
	{"part", "p_partkey", func(d *Data) int { return d.parts }, (*Data).part},
	{"partsupp", "ps_partkey", func(d *Data) int { return d.parts }, (*Data).partsupp},
	{"customer", "c_custkey", func(d *Data) int { return d.customers }, (*Data).customer},
	{"orders", "o_orderkey", func(d *Data) int { return d.orders }, (*Data).order},
	{"lineitem", "l_orderkey", func(d *Data) int { return d.orders }, (*Data).lineitem},
}

// Rows returns a table's rows in the text format of COPY. They are made as they are read.
func (d *Data) Rows(t *Table) io.Reader { return &rows{data: d, table: t, last: t.count(d)} }

type rows struct {
	data    *Data
	table   *Table
	n, last int
	made    []byte
	rest    []byte // of made, not read yet
}

// chunk is about how much is made at once, in octets.
const chunk = 64 << 10

// Read returns rows until the last one.
func (r *rows) Read(p []byte) (int, error) {
	if len(r.rest) == 0 {
		if r.n == r.last {
			return 0, io.EOF
		}
		r.made = r.made[:0]
		for r.n < r.last && len(r.made) < chunk {
			r.made = r.table.unit(r.data, r.made, r.n)
			r.n++
		}
		r.rest = r.made
	}
	n := copy(p, r.rest)
	r.rest = r.rest[n:]
	return n, nil
}
