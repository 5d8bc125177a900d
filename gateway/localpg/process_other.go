//go:build !linux

package localpg

import (
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
)

// setParentDeathSignal does nothing: only Linux has such a signal. StopOrphan ends what was left.
func setParentDeathSignal(*syscall.SysProcAttr, syscall.Signal) {}

// children lists the living children of a process; one that has exited and was not waited for is not living.
func children(parent int) []int {
	out, err := exec.Command("ps", "-A", "-o", "pid=,ppid=,stat=").Output()
	if err != nil {
		return nil
	}
	var kids []int
	for line := range strings.Lines(string(out)) {
		f := strings.Fields(line)
		if len(f) < 3 || f[1] != strconv.Itoa(parent) || strings.HasPrefix(f[2], "Z") {
			continue
		}
		if pid, err := strconv.Atoi(f[0]); err == nil {
			kids = append(kids, pid)
		}
	}
	return kids
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
