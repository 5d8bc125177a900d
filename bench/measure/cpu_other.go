//go:build !linux

package measure

import (
	"syscall"
	"time"
)

func processTime(pid int) (time.Duration, error) { return 0, cpuError(pid, ErrNoCPU) }

func treeTime(root int) (time.Duration, error) { return 0, cpuError(root, ErrNoCPU) }

func selfTime() (time.Duration, error) {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		return 0, err
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano()), nil
}
