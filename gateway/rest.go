package gateway

import (
	"runtime/debug"
	"runtime/metrics"
	"time"
)

// The gateway is at rest when it has allocated less than restBytes in a restPeriod:
// looking after the shards takes a tenth of that.
const (
	restPeriod = 5 * time.Second
	restBytes  = 4 << 20
)

// rest gives the memory that a burst of work has left behind back to the system when all
// is quiet. No collection comes by itself while nothing is allocated, and the runtime
// keeps about as much again as is in use: thousands of clients that have come in and wait
// would hold the memory, and the stacks, of coming in.
type rest struct {
	allocated uint64 // in all, when it was looked at last
	worked    bool   // since memory was given back
}

// look is called every restPeriod.
func (r *rest) look() {
	s := []metrics.Sample{{Name: "/gc/heap/allocs:bytes"}}
	metrics.Read(s)
	allocated := s[0].Value.Uint64()
	quiet := allocated-r.allocated < restBytes
	r.allocated = allocated
	if quiet && r.worked {
		debug.FreeOSMemory()
	}
	r.worked = !quiet
}
