package wire

import "net"

// socket is what a Conn reads from and writes to: its net.Conn, or a cheaper way to
// the same connection where the system has one. One goroutine may read while another
// writes.
type socket interface {
	Read(b []byte) (int, error)
	Write(b []byte) (int, error)
}

// socketOf returns the cheapest way to use a connection. A connection that is more
// than a socket, such as TLS, is used as it is.
func socketOf(nc net.Conn) socket {
	switch c := nc.(type) {
	case *net.TCPConn:
		return direct(nc, c)
	case *net.UnixConn:
		return direct(nc, c)
	}
	return nc
}
