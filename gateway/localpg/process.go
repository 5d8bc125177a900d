package localpg

import (
	"errors"
	"os"
	"os/exec"
	"runtime"
	"syscall"
	"time"
)

// process is one run of a program that we started.
type process struct {
	cmd  *exec.Cmd
	done chan struct{} // closed when the program has exited and been waited for
	err  error         // how it exited; valid once done is closed
}

// startProcess starts cmd in a process group of its own, so that Ctrl-C at the terminal reaches this process alone,
// which then ends the program in its own order. Where the system can (Linux), the program gets the signal orphaned
// when this process dies.
//
// One goroutine is started, which ends when the program has.
func startProcess(cmd *exec.Cmd, u *osUser, orphaned syscall.Signal) (*process, error) {
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Credential: u.credential()}
	setParentDeathSignal(cmd.SysProcAttr, orphaned)
	p := &process{cmd: cmd, done: make(chan struct{})}
	started := make(chan error, 1)
	go p.own(started)
	if err := <-started; err != nil {
		return nil, err
	}
	return p, nil
}

// own starts the program and waits for its end. Linux sends the parent-death signal when the thread that forked ends,
// not the process, so the thread is kept to this goroutine for as long as the program runs.
func (p *process) own(started chan<- error) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	if err := p.cmd.Start(); err != nil {
		started <- err
		return
	}
	started <- nil
	p.err = p.cmd.Wait()
	close(p.done)
}

func (p *process) pid() int { return p.cmd.Process.Pid }

func (p *process) exited() bool {
	select {
	case <-p.done:
		return true
	default:
		return false
	}
}

// signal sends sig to the program alone. That it has exited already is no error.
func (p *process) signal(sig syscall.Signal) error {
	if err := p.cmd.Process.Signal(sig); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return err
	}
	return nil
}

// How long to wait for what SIGKILL was sent to. A process that is in the kernel goes when it comes out.
const killWait = 5 * time.Second

// killGroup ends a program whose children stay in its process group, as initdb's do, and waits until they are gone.
func (p *process) killGroup() {
	if p.exited() {
		return
	}
	group := p.pid()
	member := func(_, g int) bool { return g == group }
	// initdb's servers have shared memory of which no file of the cluster knows; nobody would remove it after them.
	_ = syscall.Kill(-group, syscall.SIGSTOP) // ESRCH: it ended by itself
	memory := sharedMemoryFiles(livingProcesses(member))
	_ = syscall.Kill(-group, syscall.SIGKILL)
	<-p.done
	for until := time.Now().Add(killWait); len(livingProcesses(member)) > 0 && time.Now().Before(until); {
		time.Sleep(2 * time.Millisecond)
	}
	for _, file := range memory {
		_ = os.Remove(file) // some kilobytes
	}
}

// killServer ends a postmaster and its children as a crash of the machine would: none of them can still do anything.
// The postmaster is frozen first, so that it neither starts children nor reacts to the death of one.
func (p *process) killServer() error {
	if p.exited() {
		return nil
	}
	if err := p.signal(syscall.SIGSTOP); err != nil {
		return err
	}
	// The postmaster does not reap while it is frozen, so these process ids can't be reused.
	for until := time.Now().Add(killWait); time.Now().Before(until); {
		kids := children(p.pid())
		if len(kids) == 0 {
			break
		}
		for _, kid := range kids {
			// Each child leads a group of its own, where the programs that it runs are (archive_command).
			_ = syscall.Kill(-kid, syscall.SIGKILL)
			_ = syscall.Kill(kid, syscall.SIGKILL)
		}
		time.Sleep(2 * time.Millisecond)
	}
	if err := p.signal(syscall.SIGKILL); err != nil {
		return err
	}
	<-p.done
	return nil
}

// signalAll sends sig to the postmaster and then to its children.
func (p *process) signalAll(sig syscall.Signal) error {
	if err := p.signal(sig); err != nil || p.exited() {
		return err
	}
	for _, kid := range children(p.pid()) {
		if err := syscall.Kill(kid, sig); err != nil && !errors.Is(err, syscall.ESRCH) {
			return err
		}
	}
	return nil
}

// children lists the living children of a process.
func children(of int) []int {
	return livingProcesses(func(parent, _ int) bool { return parent == of })
}
