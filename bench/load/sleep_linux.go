package load

import (
	"time"

	"golang.org/x/sys/unix"
)

// sleep waits as exactly as the system can: the runtime's own timers are late by up to a
// millisecond when a process is otherwise idle, which is more than a fast answer takes.
func sleep(d time.Duration) {
	// The least slack in place of 50 µs, for whichever thread this is.
	_ = unix.Prctl(unix.PR_SET_TIMERSLACK, 1, 0, 0, 0)
	ts := unix.NsecToTimespec(int64(d))
	_ = unix.Nanosleep(&ts, nil) // a signal ends it early: the caller looks at the clock
}
