package measure

import "fmt"

// Memory is the resident memory of a process, in bytes.
type Memory struct {
	Now  int64
	Peak int64 // since the process began, or since ResetPeak
}

// MemoryOf returns that of a process. The error matches ErrNoCPU where the system can't
// tell.
func MemoryOf(pid int) (Memory, error) { return memoryOf(pid) }

// ResetPeak begins the peak of a process's memory anew. It may need the rights to trace it.
func ResetPeak(pid int) error { return resetPeak(pid) }

func memoryError(pid int, err error) error {
	return fmt.Errorf("memory of process %d: %w", pid, err)
}
