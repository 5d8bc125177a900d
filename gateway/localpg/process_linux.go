package localpg

import (
	"bytes"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"syscall"
)

func setParentDeathSignal(attr *syscall.SysProcAttr, sig syscall.Signal) { attr.Pdeathsig = sig }

// eachProcess calls f with the id of every process of the machine that can be seen.
func eachProcess(f func(pid int)) {
	proc, err := os.Open("/proc")
	if err != nil {
		return
	}
	defer proc.Close()
	names, _ := proc.Readdirnames(-1) // an error in the middle leaves those that were read
	for _, name := range names {
		if pid, err := strconv.Atoi(name); err == nil {
			f(pid)
		}
	}
}

// livingProcesses lists those whose parent and process group are as wanted. One that has exited and was not waited for
// is not living; where init reaps nobody, as in many containers, such ones stay for ever.
func livingProcesses(wanted func(parent, group int) bool) []int {
	var found []int
	eachProcess(func(pid int) {
		stat, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/stat")
		if err != nil {
			return
		}
		// "pid (name) state ppid pgrp ...": the name may hold anything, also a parenthesis.
		f := strings.Fields(string(stat[bytes.LastIndexByte(stat, ')')+1:]))
		if len(f) < 3 || f[0] == "Z" || f[0] == "X" {
			return
		}
		parent, errP := strconv.Atoi(f[1])
		group, errG := strconv.Atoi(f[2])
		if errP == nil && errG == nil && wanted(parent, group) {
			found = append(found, pid)
		}
	})
	return found
}

// isPostmaster says whether pid is the living postmaster of the cluster in dir. A child of the postmaster is not: it
// has the same working directory, but its title is "postgres: checkpointer" or the like.
func isPostmaster(pid int, dir string) bool {
	args := commandLine(pid)
	if len(args) == 0 {
		return false
	}
	if name := filepath.Base(args[0]); name != "postgres" && name != "postmaster" {
		return false
	}
	switch in, err := worksIn(pid, dir); {
	case err == nil:
		return in
	case os.IsPermission(err):
		return argsName(args, dir)
	default:
		return false
	}
}

// strays lists processes of a PostgreSQL server that work in dir, among them the postmaster, if it lives.
func strays(dir string) []int {
	var pids []int
	eachProcess(func(pid int) {
		args := commandLine(pid)
		if len(args) == 0 {
			return
		}
		// A child's title is not a path: "postgres: app app 127.0.0.1(4711) UPDATE".
		name := filepath.Base(args[0])
		if name != "postgres" && name != "postmaster" && !strings.HasPrefix(args[0], "postgres:") {
			return
		}
		if in, err := worksIn(pid, dir); err == nil && in {
			pids = append(pids, pid)
		}
	})
	return pids
}

// worksIn says whether dir is the working directory of a process, which for PostgreSQL's is the data directory.
func worksIn(pid int, dir string) (bool, error) {
	cwd, err := os.Stat("/proc/" + strconv.Itoa(pid) + "/cwd")
	if err != nil {
		return false, err
	}
	want, err := os.Stat(dir)
	if err != nil {
		return false, err
	}
	return os.SameFile(cwd, want), nil
}

// commandLine returns a process's arguments, or nil when it is gone or a zombie.
func commandLine(pid int) []string {
	b, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/cmdline")
	if err != nil || len(b) == 0 {
		return nil
	}
	return strings.Split(strings.TrimRight(string(b), "\x00"), "\x00")
}

var sharedMemoryFile = regexp.MustCompile(`/dev/shm/PostgreSQL\.\d+$`)

// sharedMemoryFiles lists the dynamic shared memory segments that the processes have mapped.
func sharedMemoryFiles(pids []int) []string {
	var files []string
	for _, pid := range pids {
		maps, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/maps")
		if err != nil {
			continue // it has exited
		}
		for line := range strings.Lines(string(maps)) {
			if file := sharedMemoryFile.FindString(strings.TrimSpace(line)); file != "" {
				files = append(files, file)
			}
		}
	}
	return files
}
