package load

import (
	"io"
	"net"
	"os"
	"syscall"
	"unsafe"
)

// directSocket reads and writes without telling Go's scheduler of each system call.
//
// The scheduler is told so that it can run other goroutines when a call blocks. These
// never do: the sockets don't block, and to wait for one is still the network poller's
// business. What is saved is most of all that every call after a moment of idleness
// wakes the runtime's monitor thread, which costs the clients of a benchmark, idle half
// of the time, a quarter of their CPU time and more.
type directSocket struct {
	raw   syscall.RawConn
	read  func(fd uintptr) bool // made once, so that a call allocates nothing
	write func(fd uintptr) bool
	b     []byte // what is read to, or what is left to be written
	n     int    // how much was read or written
	errno syscall.Errno
}

func direct(nc net.Conn, sc syscall.Conn) socket {
	raw, err := sc.SyscallConn()
	if err != nil {
		return nc
	}
	s := &directSocket{raw: raw}
	s.read, s.write = s.tryRead, s.tryWrite
	return s
}

// Read is an io.Reader's.
func (s *directSocket) Read(b []byte) (int, error) {
	if len(b) == 0 {
		return 0, nil
	}
	s.b, s.n, s.errno = b, 0, 0
	err := s.raw.Read(s.read)
	s.b = nil
	switch {
	case err != nil:
		return 0, err
	case s.errno != 0:
		return 0, os.NewSyscallError("read", s.errno)
	case s.n == 0:
		return 0, io.EOF
	}
	return s.n, nil
}

// tryRead returns false when there is nothing to read yet.
func (s *directSocket) tryRead(fd uintptr) bool {
	for {
		n, _, errno := syscall.RawSyscall(syscall.SYS_READ, fd, uintptr(unsafe.Pointer(&s.b[0])), uintptr(len(s.b)))
		switch errno {
		case 0:
			s.n = int(n)
			return true
		case syscall.EINTR:
		case syscall.EAGAIN:
			return false
		default:
			s.errno = errno
			return true
		}
	}
}

// Write is an io.Writer's.
func (s *directSocket) Write(b []byte) (int, error) {
	s.b, s.n, s.errno = b, 0, 0
	err := s.raw.Write(s.write)
	s.b = nil
	if err == nil && s.errno != 0 {
		err = os.NewSyscallError("write", s.errno)
	}
	return s.n, err
}

// tryWrite returns false when nothing more can be written yet.
func (s *directSocket) tryWrite(fd uintptr) bool {
	for len(s.b) > 0 {
		n, _, errno := syscall.RawSyscall(syscall.SYS_WRITE, fd, uintptr(unsafe.Pointer(&s.b[0])), uintptr(len(s.b)))
		switch errno {
		case 0:
			s.n += int(n)
			s.b = s.b[n:]
		case syscall.EINTR:
		case syscall.EAGAIN:
			return false
		default:
			s.errno = errno
			return true
		}
	}
	return true
}
