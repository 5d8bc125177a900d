package wire

import (
	"io"
	"net"
)

// Socket returns the cheapest way to read from and write to a connection: the
// connection itself, or a way past Go's scheduler where the system has one. One
// goroutine may read while another writes. Deadlines and Close stay the connection's.
// A connection that is more than a socket, such as TLS, is used as it is.
func Socket(nc net.Conn) io.ReadWriter {
	switch c := nc.(type) {
	case *net.TCPConn:
		return direct(nc, c)
	case *net.UnixConn:
		return direct(nc, c)
	}
	return nc
}
