//go:build !linux

package target

import "syscall"

// dieWithUs does nothing: where the system can't, a program outlives a benchmark that
// is killed.
func dieWithUs(*syscall.SysProcAttr) {}
