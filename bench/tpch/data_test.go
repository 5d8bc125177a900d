package tpch

import (
	"bytes"
	"io"
	"testing"

	"github.com/cockroachdb/datadriven"
)

func generator(tb testing.TB, scale float64, seed uint64) *Data {
	tb.Helper()
	d, err := New(scale, seed)
	if err != nil {
		tb.Fatal(err)
	}
	return d
}

// The first rows of each table are always these.
func TestFirstRows(t *testing.T) {
	d := generator(t, 0.01, DefaultSeed)
	datadriven.RunTest(t, "testdata/rows.txt", func(t *testing.T, c *datadriven.TestData) string {
		for _, table := range Tables {
			if table.Name == c.Cmd {
				b := table.unit(d, nil, 0)
				return string(table.unit(d, b, 1))
			}
		}
		c.Fatalf(t, "there is no table %s", c.Cmd)
		return ""
	})
}

// A row is the same in whatever order rows are made and by whom, and others with another
// seed.
func TestRowsDependOnNothing(t *testing.T) {
	d, again, other := generator(t, 0.001, 7), generator(t, 0.001, 7), generator(t, 0.001, 8)
	for _, table := range Tables {
		all, err := io.ReadAll(d.Rows(table))
		if err != nil {
			t.Fatal(err)
		}
		n := table.count(again)
		units := make([][]byte, n)
		for i := range n {
			units[n-1-i] = table.unit(again, nil, n-1-i)
		}
		if !bytes.Equal(all, bytes.Join(units, nil)) {
			t.Errorf("%s: made backwards it differs", table.Name)
		}
		if bytes.HasPrefix(all, table.unit(other, nil, 0)) {
			t.Errorf("%s: the seed makes no difference", table.Name)
		}
	}
}

func TestScalesAreBounded(t *testing.T) {
	for _, scale := range []float64{0, -1, 0.0001, 1001} {
		if _, err := New(scale, 1); err == nil {
			t.Errorf("scale %v is taken", scale)
		}
	}
}

// A part has four different suppliers at every scale.
func TestSuppliersOfAPart(t *testing.T) {
	for suppliers := 10; suppliers <= 2000; suppliers++ {
		d := &Data{suppliers: suppliers, parts: 20 * suppliers}
		for part := 1; part <= d.parts; part += max(1, suppliers/7) {
			seen := map[int]bool{}
			for i := range suppliersPerPart {
				s := d.supplierOf(part, i)
				if s < 1 || s > suppliers || seen[s] {
					t.Fatalf("%d suppliers: part %d has supplier %d twice, or it does not exist", suppliers, part, s)
				}
				seen[s] = true
			}
		}
	}
}

func BenchmarkRows(b *testing.B) {
	for _, table := range Tables {
		b.Run(table.Name, func(b *testing.B) {
			d := generator(b, 0.1, DefaultSeed)
			var made []byte
			octets := 0
			b.ReportAllocs()
			for i := 0; b.Loop(); i++ {
				made = table.unit(d, made[:0], i%table.count(d))
				octets += len(made)
			}
			b.SetBytes(int64(octets / b.N))
		})
	}
}
