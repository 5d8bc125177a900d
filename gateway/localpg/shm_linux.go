//go:build linux && (amd64 || arm64)

package localpg

import (
	"os"
	"strconv"
	"strings"
	"syscall"
)

// releaseSharedMemory removes the System V segment that a killed server has left, if no process is attached to it.
// PostgreSQL does so itself when it starts in the same directory again; this is for a directory that is about to go,
// since the machine holds only some thousands of segments.
func releaseSharedMemory(f lockFile) {
	if f.shmID == 0 && f.shmKey == 0 {
		return
	}
	table, err := os.ReadFile("/proc/sysvipc/shm")
	if err != nil {
		return
	}
	for line := range strings.Lines(string(table)) {
		col := strings.Fields(line) // key shmid perms size cpid lpid nattch ...
		if len(col) < 7 || col[0] != strconv.Itoa(f.shmKey) || col[1] != strconv.Itoa(f.shmID) || col[6] != "0" {
			continue
		}
		const ipcRemove = 0 // IPC_RMID
		// A failure leaves 56 octets of the kernel's.
		_, _, _ = syscall.Syscall(syscall.SYS_SHMCTL, uintptr(f.shmID), ipcRemove, 0)
	}
}
