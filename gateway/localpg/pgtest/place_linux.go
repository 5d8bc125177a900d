package pgtest

import (
	"bufio"
	"fmt"
	"os"
	"strings"
	"syscall"
)

// place returns the directory below which the servers' files are made. PostgreSQL makes a thousand files for a cluster
// and three hundred for a database, and nothing here is to last, so memory is the place if there is plenty of it.
func place() string {
	const (
		shm   = "/dev/shm"
		free  = 4 << 30 // octets
		spare = 8 << 30 // octets of memory that can be had without swapping
	)
	if os.Getenv("TMPDIR") != "" {
		return os.TempDir()
	}
	var fs syscall.Statfs_t
	if err := syscall.Statfs(shm, &fs); err != nil || fs.Bavail*uint64(fs.Bsize) < free || available() < spare {
		return os.TempDir()
	}
	return shm
}

// available returns the memory that can be had, in octets, or 0.
func available() uint64 {
	f, err := os.Open("/proc/meminfo")
	if err != nil {
		return 0
	}
	defer f.Close()
	for lines := bufio.NewScanner(f); lines.Scan(); {
		if rest, ok := strings.CutPrefix(lines.Text(), "MemAvailable:"); ok {
			var kib uint64
			_, _ = fmt.Sscan(rest, &kib) // 0
			return kib << 10
		}
	}
	return 0
}
