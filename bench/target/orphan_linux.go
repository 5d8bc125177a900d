package target

import "syscall"

// dieWithUs makes the system end the program when the thread that starts it ends.
func dieWithUs(a *syscall.SysProcAttr) { a.Pdeathsig = syscall.SIGKILL }
