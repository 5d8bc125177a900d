package localpg

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// ErrRunning is matched by the error of Start and Remove when a postmaster works in the directory already.
var ErrRunning = errors.New("a PostgreSQL server is running there")

// RunningError says which server runs in a directory. It matches ErrRunning.
type RunningError struct {
	Dir string
	PID int // of the postmaster; 0 if it is dead, and what it left keeps a new one from starting

	leaving bool // what it left are processes, which may be about to end
}

func (e *RunningError) Error() string {
	if e.PID == 0 {
		return fmt.Sprintf("localpg: a dead PostgreSQL server has left processes in %s, or a postmaster.pid whose process id is another program's now", e.Dir)
	}
	return fmt.Sprintf("localpg: a PostgreSQL server is running in %s already (pid %d)", e.Dir, e.PID)
}

// Is makes errors.Is(err, ErrRunning) true.
func (e *RunningError) Is(target error) bool { return target == ErrRunning }

// lockFile is what postmaster.pid says (src/include/utils/pidfile.h). Lines are added while the server starts.
type lockFile struct {
	pid    int
	dir    string
	port   int
	shmKey int
	shmID  int
	status string // "starting", "ready", "standby", "stopping"
}

// readLockFile returns fs.ErrNotExist when there is none.
func readLockFile(dir string) (lockFile, error) {
	b, err := os.ReadFile(filepath.Join(dir, "postmaster.pid"))
	if err != nil {
		return lockFile{}, err
	}
	lines := strings.Split(string(b), "\n")
	line := func(i int) string {
		if i < len(lines) {
			return strings.TrimSpace(lines[i])
		}
		return ""
	}
	number := func(s string) int {
		n, _ := strconv.Atoi(s) // 0: not written yet
		return n
	}
	f := lockFile{pid: number(line(0)), dir: line(1), port: number(line(3)), status: line(7)}
	// A negative pid is that of a standalone backend.
	f.pid = max(f.pid, -f.pid)
	if key, id, ok := strings.Cut(line(6), " "); ok {
		f.shmKey, f.shmID = number(key), number(strings.TrimSpace(id))
	}
	return f, nil
}

// Running returns the process id of the living postmaster of the data directory dir, or 0 if there is none. That a
// pid file names a process is not enough: it must be a postmaster, and of that directory.
func Running(dir string) (pid int, err error) {
	f, err := readLockFile(dir)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return 0, nil
	case err != nil:
		return 0, fmt.Errorf("localpg: %w", err)
	case f.pid <= 0 || !isPostmaster(f.pid, dir):
		return 0, nil
	}
	return f.pid, nil
}

// How long StopOrphan waits for each way of ending a server before it takes the next, harder one.
const (
	orphanFastWait      = 20 * time.Second
	orphanImmediateWait = 7 * time.Second // the postmaster itself kills its children after 5 s
)

// StopOrphan ends the server that an earlier run has left in the data directory dir, and waits until it is gone. It
// asks for a fast shutdown, then an immediate one, then kills. If only children of a dead postmaster are left, which
// would keep a new one from starting, it ends those (on Linux). After it, Start works.
//
// It returns nil when nothing runs there, and an error when ctx ends first or the processes are another user's.
func StopOrphan(ctx context.Context, dir string) error {
	dir, err := filepath.Abs(dir)
	if err != nil {
		return fmt.Errorf("localpg: %w", err)
	}
	pid, err := Running(dir)
	if err != nil {
		return err
	}
	if pid != 0 {
		if err := stopPostmaster(ctx, pid, dir); err != nil {
			return fmt.Errorf("localpg: stopping the server in %s (pid %d): %w", dir, pid, err)
		}
	}
	if err := stopStrays(ctx, dir); err != nil {
		return fmt.Errorf("localpg: stopping what is left of the server in %s: %w", dir, err)
	}
	if err := dropStaleLock(dir); err != nil {
		return fmt.Errorf("localpg: %w", err)
	}
	return nil
}

// dropStaleLock removes a dead server's pid file if its process id has gone to another program since, which is common
// after a restart of a container, or is that of a zombie which nobody reaps. PostgreSQL, which only asks whether such
// a process exists, would refuse to start. That no server lives in the directory is known before.
func dropStaleLock(dir string) error {
	f, err := readLockFile(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	if f.pid <= 0 || syscall.Kill(f.pid, 0) != nil {
		return nil // PostgreSQL goes on by itself
	}
	switch in, err := worksIn(f.pid, dir); {
	case errors.Is(err, fs.ErrNotExist): // a zombie works nowhere
	case err != nil || in:
		return nil // we can't say whose it is
	}
	releaseSharedMemory(f)
	if err := os.Remove(filepath.Join(dir, "postmaster.pid")); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

func stopPostmaster(ctx context.Context, pid int, dir string) error {
	proc, err := os.FindProcess(pid)
	if err != nil {
		return err
	}
	defer proc.Release()
	// Now that the process is held by a handle, see once more that it is the one we mean.
	if !isPostmaster(pid, dir) {
		return nil
	}
	gone := func() bool { return !isPostmaster(pid, dir) }
	// What was frozen, by Pause or at a debugger, would not see the gentler signals.
	for _, kid := range children(pid) {
		_ = syscall.Kill(kid, syscall.SIGCONT) // it may have exited meanwhile
	}
	for _, step := range []struct {
		sig  syscall.Signal
		wait time.Duration
	}{{syscall.SIGINT, orphanFastWait}, {syscall.SIGQUIT, orphanImmediateWait}, {syscall.SIGKILL, killWait}} {
		for _, sig := range []syscall.Signal{step.sig, syscall.SIGCONT} {
			if err := proc.Signal(sig); errors.Is(err, os.ErrProcessDone) {
				return nil
			} else if err != nil {
				return err
			}
		}
		if ok, err := waitUntil(ctx, step.wait, gone); ok || err != nil {
			return err
		}
	}
	return errors.New("it can't be killed")
}

func stopStrays(ctx context.Context, dir string) error {
	gone := func() bool { return len(strays(dir)) == 0 }
	// They see by themselves that the postmaster is dead, if they are not busy.
	if ok, err := waitUntil(ctx, time.Second, gone); ok || err != nil {
		return err
	}
	for _, pid := range strays(dir) {
		if err := syscall.Kill(pid, syscall.SIGKILL); err != nil && !errors.Is(err, syscall.ESRCH) {
			return err
		}
	}
	if ok, err := waitUntil(ctx, killWait, gone); ok || err != nil {
		return err
	}
	return errors.New("they can't be killed")
}

// waitUntil asks every few milliseconds whether something is so. It returns false without an error when it was not
// after the time given, and ctx's error when that ended before.
func waitUntil(ctx context.Context, limit time.Duration, so func() bool) (bool, error) {
	deadline := time.NewTimer(limit)
	defer deadline.Stop()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for {
		if so() {
			return true, nil
		}
		select {
		case <-ctx.Done():
			return false, ctx.Err()
		case <-deadline.C:
			return false, nil
		case <-tick.C:
		}
	}
}

// argsName says whether a postmaster's arguments name the data directory dir.
func argsName(args []string, dir string) bool {
	for i, arg := range args {
		if arg == "-D" && i+1 < len(args) && args[i+1] == dir || arg == "-D"+dir {
			return true
		}
	}
	return false
}

// Remove deletes the data directory dir with all that is in it, and gives back what a killed server of it still holds
// of the kernel's. It refuses, with an error that matches ErrRunning, while a server runs there. A directory that is
// not there is no error.
func Remove(dir string) error {
	pid, err := Running(dir)
	if err != nil {
		return err
	}
	if pid != 0 {
		return &RunningError{Dir: dir, PID: pid}
	}
	if f, err := readLockFile(dir); err == nil {
		releaseSharedMemory(f)
	}
	if err := os.RemoveAll(dir); err != nil {
		return fmt.Errorf("localpg: %w", err)
	}
	return nil
}
