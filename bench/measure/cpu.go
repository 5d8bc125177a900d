package measure

import (
	"errors"
	"fmt"
	"time"
)

// ErrNoCPU is matched by errors of this file where the system can't tell the CPU time
// of another process.
var ErrNoCPU = errors.New("the CPU time of other processes can't be read on this system")

// CPU is something that uses CPU time: a process, or one with its descendants.
type CPU struct {
	PID  int  `json:"pid"`
	Tree bool `json:"tree"` // with all descendants, also those that have ended
}

// Used is the CPU time, user and system together, that was used since the process began.
//
// For a tree it is the sum over the processes that live and over those that have ended
// and were waited for within it, so that a child's end between two calls loses nothing.
// Each of the latter counts in the clock ticks of the system, 10 ms mostly; living
// processes count in nanoseconds.
func (c CPU) Used() (time.Duration, error) {
	if !c.Tree {
		return processTime(c.PID)
	}
	return treeTime(c.PID)
}

// Self is the CPU time of the calling process, all of its threads together.
func Self() (time.Duration, error) { return selfTime() }

func cpuError(pid int, err error) error {
	return fmt.Errorf("CPU time of process %d: %w", pid, err)
}
