package load

import (
	"crypto/tls"
	"net"
)

// socket is what a Conn reads from and writes to. It is a net.Conn, but for reads and
// writes of a TCP connection where the system allows a cheaper way.
type socket interface {
	Read(b []byte) (int, error)
	Write(b []byte) (int, error)
}

// socketOf returns the cheapest way to use a connection.
func socketOf(nc net.Conn) socket {
	switch c := nc.(type) {
	case *tls.Conn:
		return c
	case *net.TCPConn:
		return direct(c, c)
	case *net.UnixConn:
		return direct(c, c)
	}
	return nc
}
