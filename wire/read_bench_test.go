package wire

import (
	"bytes"
	"testing"
)

// The messages of a prepared select by key, as a client sends them: each is framed and
// looked at.
func BenchmarkConnRead(b *testing.B) {
	request := AppendBind(nil, "", "s0", nil, [][]byte{[]byte("4711")}, []int16{0})
	request = AppendSync(AppendExecute(AppendDescribe(request, Portal, ""), "", 0))
	c := NewConn(&endless{input: bytes.Repeat(request, 10)}, 1<<20)
	b.ReportAllocs()
	b.SetBytes(int64(len(request)))
	for b.Loop() {
		for {
			m, err := c.Read()
			if err != nil {
				b.Fatal(err)
			}
			if m[0] == 'S' {
				break
			}
		}
	}
}
