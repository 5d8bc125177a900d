package measure

import (
	"bufio"
	"fmt"
	"os"
)

// memoryOf reads /proc/PID/status, see proc(5).
func memoryOf(pid int) (Memory, error) {
	f, err := os.Open(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return Memory{}, memoryError(pid, err)
	}
	defer f.Close()
	var m Memory
	s := bufio.NewScanner(f)
	for s.Scan() {
		var kib int64
		if n, _ := fmt.Sscanf(s.Text(), "VmHWM: %d kB", &kib); n == 1 {
			m.Peak = kib << 10
		}
		if n, _ := fmt.Sscanf(s.Text(), "VmRSS: %d kB", &kib); n == 1 {
			m.Now = kib << 10
		}
	}
	if err := s.Err(); err != nil {
		return Memory{}, memoryError(pid, err)
	}
	return m, nil
}

// resetPeak writes what proc(5) says: 5 resets the peak resident set size.
func resetPeak(pid int) error {
	if err := os.WriteFile(fmt.Sprintf("/proc/%d/clear_refs", pid), []byte("5\n"), 0); err != nil {
		return memoryError(pid, err)
	}
	return nil
}
