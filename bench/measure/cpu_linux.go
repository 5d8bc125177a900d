package measure

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strconv"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// cpuClockSched is CPUCLOCK_SCHED of the kernel's include/linux/posix-timers.h: the
// clock of clock_getcpuclockid(3), which counts all threads of a process, also those
// that have ended, by the scheduler's nanoseconds.
const cpuClockSched = 2

func processTime(pid int) (time.Duration, error) {
	var ts unix.Timespec
	if err := unix.ClockGettime(int32(^pid<<3|cpuClockSched), &ts); err != nil {
		return 0, cpuError(pid, err)
	}
	return time.Duration(ts.Nano()), nil
}

func selfTime() (time.Duration, error) {
	var ts unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_PROCESS_CPUTIME_ID, &ts); err != nil {
		return 0, err
	}
	return time.Duration(ts.Nano()), nil
}

// treeTime reads first, for all processes, what their ended children have used, and then
// what those that live have used themselves: a process that ends in between is missing
// from this call and there in the next, and never counted twice.
func treeTime(root int) (time.Duration, error) {
	all, err := allProcesses()
	if err != nil {
		return 0, err
	}
	if _, alive := all[root]; !alive {
		return 0, cpuError(root, syscall.ESRCH)
	}
	var sum time.Duration
	for pid, st := range all {
		if !within(pid, root, all) {
			continue
		}
		sum += st.reaped
		own, err := processTime(pid)
		switch {
		case err == nil:
			sum += own
		case pid == root:
			return 0, err
		}
	}
	return sum, nil
}

// within says whether pid is root or descends from it.
func within(pid, root int, all map[int]stat) bool {
	for range len(all) {
		if pid == root {
			return true
		}
		st, ok := all[pid]
		if !ok {
			return false
		}
		pid = st.parent
	}
	return false
}

func allProcesses() (map[int]stat, error) {
	proc, err := os.Open("/proc")
	if err != nil {
		return nil, err
	}
	defer proc.Close()
	names, err := proc.Readdirnames(-1)
	if err != nil {
		return nil, err
	}
	all := map[int]stat{}
	for _, name := range names {
		pid, err := strconv.Atoi(name)
		if err != nil {
			continue
		}
		st, err := readStat(pid)
		if err != nil && !gone(err) {
			return nil, err
		}
		if err == nil {
			all[pid] = st
		}
	}
	return all, nil
}

func gone(err error) bool {
	return errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ESRCH)
}

type stat struct {
	parent int
	reaped time.Duration // of its children that have ended and were waited for
}

// tick is the unit of times in /proc: USER_HZ, which is 100 wherever Go runs.
const tick = 10 * time.Millisecond

// readStat reads /proc/PID/stat, see proc(5).
func readStat(pid int) (stat, error) {
	b, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/stat")
	if err != nil {
		return stat{}, err
	}
	// "pid (name) state ppid ...": the name may hold anything, also a parenthesis.
	f := bytes.Fields(b[bytes.LastIndexByte(b, ')')+1:])
	if len(f) < 15 {
		return stat{}, fmt.Errorf("/proc/%d/stat has %d fields", pid, len(f))
	}
	number := func(field int) int64 {
		n, convErr := strconv.ParseInt(string(f[field-3]), 10, 64)
		err = errors.Join(err, convErr)
		return n
	}
	st := stat{
		parent: int(number(4)),
		reaped: time.Duration(number(16)+number(17)) * tick,
	}
	return st, err
}
