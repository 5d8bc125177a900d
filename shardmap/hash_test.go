package shardmap

import (
	"strings"
	"testing"
)

// hashBenchmarks are calls that the common case pays for: no one of them allocates.
var hashBenchmarks = func() map[string]func() {
	text := func(t KeyType, s string) func() {
		b := []byte(s)
		return func() { h, _ := t.HashText(b); sink += h }
	}
	binary := func(t KeyType, s string) func() {
		b := []byte(s)
		return func() { h, _ := t.HashBinary(b); sink += h }
	}
	return map[string]func(){
		"HashInt64":            func() { sink += HashInt64(int64(sink)) },
		"HashBytes16":          func(b []byte) func() { return func() { sink += HashBytes(b) } }(make([]byte, 16)),
		"HashBytes1000":        func(b []byte) func() { return func() { sink += HashBytes(b) } }(make([]byte, 1000)),
		"Combine":              func() { sink = Combine(sink, 42) },
		"HashText/int4":        text(KeyInt4, "1234567"),
		"HashText/int8":        text(KeyInt8, "-9223372036854775808"),
		"HashText/text":        text(KeyText, "customer-1234567"),
		"HashText/bpchar":      text(KeyBpchar, "AB12      "),
		"HashText/uuid":        text(KeyUUID, "a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11"),
		"HashText/date":        text(KeyDate, "2024-02-29"),
		"HashText/timestamp":   text(KeyTimestamp, "2024-02-29 12:34:56.789012"),
		"HashText/timestamptz": text(KeyTimestamptz, "2024-02-29 12:34:56.789012+05:30"),
		"HashText/bytea":       text(KeyBytea, `\x`+strings.Repeat("0123456789abcdef", 4)),
		"HashBinary/int8":      binary(KeyInt8, "12345678"),
		"HashBinary/text":      binary(KeyText, "customer-1234567"),
		"HashBinary/uuid":      binary(KeyUUID, "0123456789abcdef"),
		"HashBinary/date":      binary(KeyDate, "1234"),
		"HashBinary/timestamp": binary(KeyTimestamp, "12345678"),
	}
}()

func BenchmarkHash(b *testing.B) {
	for name, f := range hashBenchmarks {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				f()
			}
		})
	}
}

func TestHashDoesNotAllocate(t *testing.T) {
	for name, f := range hashBenchmarks {
		if n := testing.AllocsPerRun(100, f); n != 0 {
			t.Errorf("%s allocates %v times", name, n)
		}
	}
}
