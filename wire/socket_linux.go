package wire

import (
	"io"
	"net"
	"os"
	"sync"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// directSocket reads and writes without telling Go's scheduler of each system call.
//
// The scheduler is told of a call so that it can run other goroutines while the call
// blocks. These never do: Go's sockets don't block, and waiting for one stays the
// network poller's business. What is saved is most of all that the first call after a
// moment of idleness wakes the runtime's monitor thread: a third of the CPU of a
// gateway that relays short answers.
//
// The calls are recv(2) and send(2) rather than read(2) and write(2), which come to the
// same through the layer of files: measured, that layer is a fifteenth of the CPU of a
// select by key. With MSG_NOSIGNAL, a peer that has gone is an error and no signal
// besides.
type directSocket struct {
	raw   syscall.RawConn
	read  transfer
	write transfer
}

// transfer is one direction's call under way. try is made once, so that a call
// allocates nothing.
type transfer struct {
	b     []byte     // what is read to, or what is left to be written
	fresh *sync.Pool // where b is taken from when there is something to read; else nil
	n     int        // how much was read or written
	errno syscall.Errno
	try   func(fd uintptr) (done bool)
}

func direct(nc net.Conn, sc syscall.Conn) io.ReadWriter {
	raw, err := sc.SyscallConn()
	if err != nil {
		return nc
	}
	s := &directSocket{raw: raw}
	s.read.try, s.write.try = s.read.readOnce, s.write.writeAll
	return s
}

// Read is an io.Reader's.
func (s *directSocket) Read(b []byte) (int, error) {
	if len(b) == 0 {
		return 0, nil
	}
	s.read.b = b
	_, n, err := s.receive()
	return n, err
}

// readFresh is a freshReader's.
func (s *directSocket) readFresh(from *sync.Pool) (b []byte, n int, err error) {
	s.read.fresh = from
	b, n, err = s.receive()
	s.read.fresh = nil
	if err != nil {
		recycle(b)
		return nil, 0, err
	}
	return b, n, nil
}

func (s *directSocket) receive() (b []byte, n int, err error) {
	t := &s.read
	t.n, t.errno = 0, 0
	err = s.raw.Read(t.try)
	b, t.b = t.b, nil
	switch {
	case err != nil:
		return b, 0, err
	case t.errno != 0:
		return b, 0, os.NewSyscallError("recv", t.errno)
	case t.n == 0:
		return b, 0, io.EOF
	}
	return b, t.n, nil
}

// readOnce returns false when there is nothing to read yet.
func (t *transfer) readOnce(fd uintptr) bool {
	if t.fresh != nil {
		t.b = takeBuffer(t.fresh)
	}
	for {
		n, _, errno := syscall.RawSyscall6(unix.SYS_RECVFROM, fd, uintptr(unsafe.Pointer(&t.b[0])), uintptr(len(t.b)), 0, 0, 0)
		switch errno {
		case 0:
			t.n = int(n)
			return true
		case syscall.EINTR:
		case syscall.EAGAIN:
			if t.fresh != nil {
				recycle(t.b)
				t.b = nil
			}
			return false
		default:
			t.errno = errno
			return true
		}
	}
}

// Write is an io.Writer's.
func (s *directSocket) Write(b []byte) (int, error) {
	t := &s.write
	t.b, t.n, t.errno = b, 0, 0
	err := s.raw.Write(t.try)
	t.b = nil
	if err == nil && t.errno != 0 {
		err = os.NewSyscallError("send", t.errno)
	}
	return t.n, err
}

// writeAll returns false when no more can be written yet.
func (t *transfer) writeAll(fd uintptr) bool {
	for len(t.b) > 0 {
		n, _, errno := syscall.RawSyscall6(unix.SYS_SENDTO, fd, uintptr(unsafe.Pointer(&t.b[0])), uintptr(len(t.b)), unix.MSG_NOSIGNAL, 0, 0)
		switch errno {
		case 0:
			t.n += int(n)
			t.b = t.b[n:]
		case syscall.EINTR:
		case syscall.EAGAIN:
			return false
		default:
			t.errno = errno
			return true
		}
	}
	return true
}
