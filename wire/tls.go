package wire

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"sync"
	"time"
)

// alpnProtocol is PostgreSQL's name in ALPN (PG_ALPN_PROTOCOL in
// libpq/pqcomm.h).
const alpnProtocol = "postgresql"

// tlsHandshakeRecord is the first byte of a TLS ClientHello. As that of a
// length word it would announce a start-up packet of 350 MB.
const tlsHandshakeRecord = 0x16

// TLSMode says whether clients speak TLS.
type TLSMode uint8

// The modes.
const (
	TLSDisable TLSMode = iota // none does
	TLSPrefer                 // who wants to does
	TLSRequire                // all do, but for cancel requests and Unix sockets
)

// ParseTLSMode reads "disable", "prefer" or "require".
func ParseTLSMode(s string) (TLSMode, error) {
	for _, m := range []TLSMode{TLSDisable, TLSPrefer, TLSRequire} {
		if s == m.String() {
			return m, nil
		}
	}
	return TLSDisable, fmt.Errorf("invalid TLS mode %q: expected disable, prefer or require", s)
}

func (m TLSMode) String() string {
	switch m {
	case TLSDisable:
		return "disable"
	case TLSPrefer:
		return "prefer"
	case TLSRequire:
		return "require"
	}
	return fmt.Sprintf("TLSMode(%d)", uint8(m))
}

// TLSFiles names the PEM files that a server's TLS is made of.
type TLSFiles struct {
	Cert string // the server's certificate, then those that it is signed by
	Key  string // its private key, not encrypted
	// ClientCA, if any, has the authorities whose client certificates are
	// accepted. A client that presents one that they did not sign is refused.
	ClientCA string
	// RequireClientCert refuses clients without a certificate as well.
	RequireClientCert bool
	// OnReloadError, if set, hears that changed files could not be loaded. The
	// old ones then stay in use and loading is tried again at every handshake.
	// It is called by the goroutines of connections.
	OnReloadError func(error)
}

// ServerTLS loads the files and returns a configuration for Accept, which may
// be shared: TLS 1.2 or newer, ALPN "postgresql" for clients that use ALPN, and
// no session tickets, as in PostgreSQL (be-secure-openssl.c). Files that change
// are loaded anew at the next handshake, which looks at their times and sizes.
func ServerTLS(f TLSFiles) (*tls.Config, error) {
	if f.RequireClientCert && f.ClientCA == "" {
		return nil, errors.New("client certificates can't be required without a file of authorities for them")
	}
	r := &tlsReloader{files: f}
	config, err := r.current()
	if err != nil {
		return nil, err
	}
	outer := config.Clone()
	outer.GetConfigForClient = func(*tls.ClientHelloInfo) (*tls.Config, error) {
		config, err := r.current()
		if err != nil && f.OnReloadError != nil {
			f.OnReloadError(err)
		}
		return config, nil
	}
	return outer, nil
}

// tlsReloader holds the configuration last loaded.
type tlsReloader struct {
	files TLSFiles

	mu     sync.Mutex
	stamp  [3]fileStamp // guarded by mu, as is config
	config *tls.Config
}

// fileStamp is what changes when a file does.
type fileStamp struct {
	modified time.Time
	size     int64
}

// current returns the newest configuration that could be loaded, if any, and
// why a newer one could not be.
func (r *tlsReloader) current() (*tls.Config, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	stamp, err := r.files.stamp()
	if err != nil || r.config != nil && stamp == r.stamp {
		return r.config, err
	}
	config, err := r.files.load()
	if err != nil {
		return r.config, err
	}
	r.stamp, r.config = stamp, config
	return config, nil
}

func (f *TLSFiles) stamp() (stamp [3]fileStamp, err error) {
	for i, name := range []string{f.Cert, f.Key, f.ClientCA} {
		if i == 2 && name == "" {
			break
		}
		info, err := os.Stat(name)
		if err != nil {
			return stamp, err
		}
		stamp[i] = fileStamp{info.ModTime(), info.Size()}
	}
	return stamp, nil
}

func (f *TLSFiles) load() (*tls.Config, error) {
	cert, err := tls.LoadX509KeyPair(f.Cert, f.Key)
	if err != nil {
		return nil, fmt.Errorf("could not load certificate %s with key %s: %w", f.Cert, f.Key, err)
	}
	config := &tls.Config{
		Certificates:           []tls.Certificate{cert},
		MinVersion:             tls.VersionTLS12,
		NextProtos:             []string{alpnProtocol},
		SessionTicketsDisabled: true,
	}
	if f.ClientCA == "" {
		return config, nil
	}
	pem, err := os.ReadFile(f.ClientCA)
	if err != nil {
		return nil, err
	}
	config.ClientCAs = x509.NewCertPool()
	if !config.ClientCAs.AppendCertsFromPEM(pem) {
		return nil, fmt.Errorf("no certificate in %s", f.ClientCA)
	}
	config.ClientAuth = tls.VerifyClientCertIfGiven
	if f.RequireClientCert {
		config.ClientAuth = tls.RequireAndVerifyClientCert
	}
	return config, nil
}

// AcceptOptions says how clients may come in.
type AcceptOptions struct {
	Mode TLSMode
	// TLS is what ServerTLS returns. It may be nil: then no client gets TLS,
	// and with TLSRequire none gets in.
	TLS *tls.Config
}

// Accept speaks with a client that has just connected up to its StartupMessage
// or CancelRequest, which is returned with the connection to go on with: nc
// itself, or a *tls.Conn over it. A TLS handshake that is asked for by an
// SSLRequest, or begun straight away (PostgreSQL 17's sslnegotiation=direct,
// only with ALPN), is done by then; GSSAPI encryption is declined. Nothing is
// read beyond the packet that is returned.
//
// Where ctx ends first, or a deadline that the caller set on nc passes, Accept
// returns; the caller has to have one or the other, against clients that keep
// silent. Any deadline stays in force.
//
// On an error the client has been told what PostgreSQL would tell it, and the
// caller only closes nc. io.EOF means that the client left without a word. A
// client that breaks the rules costs an *Error, of severity FATAL.
//
// With TLSRequire, a StartupMessage in clear is refused with 28000. CancelRequests
// in clear are not, since libpq before 17 sends no others; nor are Unix sockets, on
// which PostgreSQL has no TLS either.
//
// The order of things is that of ProcessStartupPacket in PostgreSQL's
// backend_startup.c: each request is answered once, and a second one is an
// unknown version of the protocol.
func Accept(ctx context.Context, nc net.Conn, o AcceptOptions) (net.Conn, Startup, error) {
	stop := context.AfterFunc(ctx, func() { _ = nc.SetDeadline(time.Unix(1, 0)) })
	a := accepting{conn: nc, local: nc.LocalAddr().Network() == "unix"}
	if o.Mode != TLSDisable && !a.local {
		a.tls = o.TLS
	}
	s, err := a.run(ctx)
	if err == nil && o.Mode == TLSRequire && !a.encrypted && !a.local && s.Kind == StartupMessage {
		err = Fatalf(InvalidAuthorization, "connection is not encrypted, but this server requires TLS").
			WithHint("Connect with sslmode=require or stronger.")
	}
	if e, ok := errors.AsType[*Error](err); ok && !a.silent {
		_, _ = a.conn.Write(e.Append(nil)) // the client may be gone already
	}
	if !stop() {
		return nil, Startup{}, context.Cause(ctx)
	}
	if err != nil {
		return nil, Startup{}, err
	}
	return a.conn, s, nil
}

// accepting is the state of one Accept.
type accepting struct {
	conn      net.Conn    // the one to read from now
	tls       *tls.Config // nil: TLS is not offered
	local     bool        // a Unix socket
	encrypted bool
	silent    bool // the client is not to be told of an error
	sslDone   bool // an SSLRequest was answered
	gssDone   bool
}

// run reads up to the packet that is neither SSLRequest nor GSSENCRequest.
func (a *accepting) run(ctx context.Context) (Startup, error) {
	var head [4]byte
	if _, err := io.ReadFull(a.conn, head[:1]); err != nil {
		return Startup{}, err
	}
	if head[0] == tlsHandshakeRecord {
		if err := a.direct(ctx, head[0]); err != nil {
			return Startup{}, err
		}
		return a.packets(ctx, nil)
	}
	return a.packets(ctx, head[:1])
}

// packets reads packets and answers them. The first one begins with what was
// read already.
func (a *accepting) packets(ctx context.Context, begun []byte) (Startup, error) {
	for {
		s, err := ReadStartup(&prefixed{begun, a.conn})
		begun = nil
		switch {
		case err != nil:
			return Startup{}, err
		case s.Kind == SSLRequest && !a.sslDone:
			a.sslDone = true
			err = a.answerSSL(ctx)
		case s.Kind == GSSENCRequest && !a.gssDone:
			a.gssDone = true
			_, err = a.conn.Write([]byte{'N'})
		case s.Kind == SSLRequest:
			err = unsupportedProtocol(sslRequestCode>>16, sslRequestCode&0xffff)
		case s.Kind == GSSENCRequest:
			err = unsupportedProtocol(gssEncRequestCode>>16, gssEncRequestCode&0xffff)
		default:
			return s, nil
		}
		if err != nil {
			return Startup{}, err
		}
	}
}

// answerSSL answers an SSLRequest, with a handshake if TLS is offered. Once it
// is encrypted, the connection can't ask for encryption again.
func (a *accepting) answerSSL(ctx context.Context) error {
	if a.tls == nil || a.encrypted {
		_, err := a.conn.Write([]byte{'N'})
		return err
	}
	if _, err := a.conn.Write([]byte{'S'}); err != nil {
		return err
	}
	a.gssDone = true
	err := a.handshake(ctx, a.conn)
	if r, ok := errors.AsType[tls.RecordHeaderError](err); ok && r.Conn != nil {
		return Fatalf(ProtocolViolation, "received unencrypted data after SSL request").
			WithDetail("This could be either a client-software bug or evidence of an attempted man-in-the-middle attack.")
	}
	return err
}

// direct does the handshake of a client that began with it.
func (a *accepting) direct(ctx context.Context, first byte) error {
	a.silent = true // a client that expects TLS understands nothing else
	if a.tls == nil {
		return Fatalf(ProtocolViolation, "received direct TLS connection request, but TLS is not offered")
	}
	raw := &replayConn{Conn: a.conn, r: &prefixed{[]byte{first}, a.conn}}
	if err := a.handshake(ctx, raw); err != nil {
		return err
	}
	if a.conn.(*tls.Conn).ConnectionState().NegotiatedProtocol != alpnProtocol {
		// Without ALPN, a browser could be made to send what looks like SQL.
		return Fatalf(ProtocolViolation, "received direct TLS connection request without ALPN protocol negotiation extension")
	}
	a.silent = false
	return nil
}

// handshake puts TLS over raw. What the client sent in clear behind its request
// is still unread, hence the first that the handshake sees, and ends it. The
// errors of crypto/tls are wrapped.
func (a *accepting) handshake(ctx context.Context, raw net.Conn) error {
	a.silent = true
	conn := tls.Server(raw, a.tls)
	if err := conn.HandshakeContext(ctx); err != nil {
		return fmt.Errorf("TLS handshake: %w", err)
	}
	a.conn, a.encrypted, a.silent = conn, true, false
	return nil
}

// prefixed reads what was read already, then from r.
type prefixed struct {
	begun []byte
	r     io.Reader
}

func (p *prefixed) Read(b []byte) (int, error) {
	if len(p.begun) > 0 {
		n := copy(b, p.begun)
		p.begun = p.begun[n:]
		return n, nil
	}
	return p.r.Read(b)
}

// replayConn is a connection whose first bytes were read already.
type replayConn struct {
	net.Conn
	r *prefixed
}

func (c *replayConn) Read(b []byte) (int, error) { return c.r.Read(b) }
