//go:build !linux

package localpg

import (
	"errors"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
)

// setParentDeathSignal does nothing: only Linux has such a signal. StopOrphan ends what was left.
func setParentDeathSignal(*syscall.SysProcAttr, syscall.Signal) {}

// livingProcesses lists those whose parent and process group are as wanted. One that has exited and was not waited for
// is not living.
func livingProcesses(wanted func(parent, group int) bool) []int {
	out, err := exec.Command("ps", "-A", "-o", "pid=,ppid=,pgid=,stat=").Output()
	if err != nil {
		return nil
	}
	var found []int
	for line := range strings.Lines(string(out)) {
		f := strings.Fields(line)
		if len(f) < 4 || strings.HasPrefix(f[3], "Z") {
			continue
		}
		pid, err := strconv.Atoi(f[0])
		parent, errP := strconv.Atoi(f[1])
		group, errG := strconv.Atoi(f[2])
		if err == nil && errP == nil && errG == nil && wanted(parent, group) {
			found = append(found, pid)
		}
	}
	return found
}

// isPostmaster says whether pid is the living postmaster of the cluster in dir, by its command line.
func isPostmaster(pid int, dir string) bool {
	out, err := exec.Command("ps", "-p", strconv.Itoa(pid), "-o", "args=").Output()
	if err != nil {
		return false // no such process
	}
	args := strings.Fields(string(out))
	if len(args) == 0 {
		return false
	}
	name := filepath.Base(args[0])
	// ps does not say where an argument ends, so a directory with a space in its name is looked for as text.
	return (name == "postgres" || name == "postmaster") && (argsName(args, dir) || strings.Contains(string(out), "-D "+dir+" "))
}

// strays is not known here: the working directory of a process can't be asked for without a privilege.
func strays(string) []int { return nil }

func worksIn(int, string) (bool, error) { return false, errors.ErrUnsupported }

// sharedMemoryFiles finds none: these systems show no such files.
func sharedMemoryFiles([]int) []string { return nil }
