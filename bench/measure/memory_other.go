//go:build !linux

package measure

func memoryOf(pid int) (Memory, error) { return Memory{}, memoryError(pid, ErrNoCPU) }

func resetPeak(pid int) error { return memoryError(pid, ErrNoCPU) }
