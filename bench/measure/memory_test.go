package measure

import (
	"os"
	"runtime/debug"
	"testing"
)

// The peak is seen after the memory has been given back, and begins anew when that is asked for.
func TestMemory(t *testing.T) {
	pid := os.Getpid()
	before, err := MemoryOf(pid)
	if err != nil {
		t.Skip(err)
	}
	const size = 64 << 20
	b := make([]byte, size)
	for i := range b {
		b[i] = byte(i)
	}
	full, err := MemoryOf(pid)
	if err != nil || full.Now-before.Now < size*9/10 || full.Peak < full.Now {
		t.Fatalf("%+v after %+v, %v; the last byte is %d", full, before, err, b[size-1])
	}
	b = nil
	debug.FreeOSMemory()
	if err := ResetPeak(pid); err != nil {
		t.Skip(err)
	}
	after, err := MemoryOf(pid)
	if err != nil || full.Peak-after.Peak < size/2 {
		t.Errorf("%+v after %+v, %v", after, full, err)
	}
}
