package sqltext

import (
	"bytes"
	"fmt"
	"testing"
)

var pgbenchStatements = []struct{ name, text string }{
	{"select", "SELECT abalance FROM pgbench_accounts WHERE aid = 4711;"},
	{"update accounts", "UPDATE pgbench_accounts SET abalance = abalance + -1234 WHERE aid = 56789;"},
	{"update tellers", "UPDATE pgbench_tellers SET tbalance = tbalance + -1234 WHERE tid = 7;"},
	{"update branches", "UPDATE pgbench_branches SET bbalance = bbalance + -1234 WHERE bid = 1;"},
	{"insert history", "INSERT INTO pgbench_history (tid, bid, aid, delta, mtime) VALUES (7, 1, 56789, -1234, CURRENT_TIMESTAMP);"},
	{"begin", "BEGIN;"},
}

// insertRows is an INSERT of n rows of an integer, a string, a number and a cast.
func insertRows(n int) []byte {
	var b bytes.Buffer
	b.WriteString("INSERT INTO orders (id, customer, amount, placed) VALUES ")
	for i := range n {
		if i > 0 {
			b.WriteString(", ")
		}
		fmt.Fprintf(&b, "(%d, 'customer''s no. %d', -%d.25, '2024-02-%02d'::date)", i, i, i, i%28+1)
	}
	return b.Bytes()
}

func benchmarkNormalize(b *testing.B, text []byte) {
	var s Scanner
	b.ReportAllocs()
	b.SetBytes(int64(len(text)))
	for b.Loop() {
		if _, _, err := s.Normalize(text); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkNormalize(b *testing.B) {
	for _, statement := range pgbenchStatements {
		b.Run(statement.name, func(b *testing.B) { benchmarkNormalize(b, []byte(statement.text)) })
	}
	b.Run("insert 100 rows", func(b *testing.B) { benchmarkNormalize(b, insertRows(100)) })
}

func BenchmarkGuard(b *testing.B) {
	for name, text := range map[string][]byte{
		"select":          []byte(pgbenchStatements[0].text),
		"insert 100 rows": insertRows(100),
	} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			b.SetBytes(int64(len(text)))
			for b.Loop() {
				if err := Guard(text, GuardLimits{}); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
