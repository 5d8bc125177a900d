package wire

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/binary"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"math/big"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
	"go.uber.org/goleak"
)

// authority signs the certificates of a test.
type authority struct {
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
}

func newAuthority(t *testing.T) authority {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "test authority"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return authority{cert, key}
}

// write makes name.crt and name.key, for 127.0.0.1 and for clients, and ca.crt.
func (a authority) write(t *testing.T, dir, name string, serial int64) TLSFiles {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(serial), Subject: pkix.Name{CommonName: name},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, KeyUsage: x509.KeyUsageDigitalSignature,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth}}
	der, err := x509.CreateCertificate(rand.Reader, template, a.cert, &key.PublicKey, a.key)
	if err != nil {
		t.Fatal(err)
	}
	keyDER, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	f := TLSFiles{Cert: filepath.Join(dir, name+".crt"), Key: filepath.Join(dir, name+".key"), ClientCA: filepath.Join(dir, "ca.crt")}
	for file, block := range map[string]*pem.Block{
		f.Cert: {Type: "CERTIFICATE", Bytes: der}, f.Key: {Type: "PRIVATE KEY", Bytes: keyDER},
		f.ClientCA: {Type: "CERTIFICATE", Bytes: a.cert.Raw},
	} {
		if err := os.WriteFile(file, pem.EncodeToMemory(block), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return f
}

func testServerTLS(t *testing.T) *tls.Config {
	t.Helper()
	f := newAuthority(t).write(t, t.TempDir(), "server", 2)
	f.ClientCA = ""
	config, err := ServerTLS(f)
	if err != nil {
		t.Fatal(err)
	}
	return config
}

// doorman is a server made of the parts of this package: it lets clients in by
// SCRAM and answers every Query with the tag "SERVED".
type doorman struct {
	options AcceptOptions
	auth    *Authenticator
	users   map[string]string // plain or stored passwords
	ln      net.Listener
	results chan doormanResult
}

// doormanResult says how a connection came in, or why it did not.
type doormanResult struct {
	startup   Startup
	encrypted bool
	err       error
}

func startDoorman(t *testing.T, o AcceptOptions, users map[string]string) *doorman {
	t.Helper()
	before := goleak.IgnoreCurrent()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	d := &doorman{options: o, auth: NewAuthenticator(nil, 0), users: users, ln: ln, results: make(chan doormanResult, 100)}
	stopped := make(chan struct{})
	go func() { // ends when the listener is closed
		defer close(stopped)
		for {
			nc, err := ln.Accept()
			if err != nil {
				return
			}
			d.serve(nc)
		}
	}()
	t.Cleanup(func() {
		ln.Close()
		<-stopped
		goleak.VerifyNone(t, before)
	})
	return d
}

func (d *doorman) serve(nc net.Conn) {
	defer nc.Close()
	_ = nc.SetDeadline(time.Now().Add(5 * time.Second))
	conn, startup, err := Accept(context.Background(), nc, d.options)
	_, encrypted := conn.(*tls.Conn)
	d.results <- doormanResult{startup, encrypted, err}
	if err != nil || startup.Kind != StartupMessage {
		return
	}
	defer conn.Close()
	if err := d.session(conn, &startup); err != nil {
		if e, ok := errors.AsType[*Error](err); ok {
			_, _ = conn.Write(e.Append(nil))
		}
	}
}

func (d *doorman) session(conn net.Conn, s *Startup) error {
	var verifier *Verifier
	if password, ok := d.users[s.User()]; ok {
		var err error
		if verifier, err = d.auth.Verifier(s.User(), password); err != nil {
			return err
		}
	}
	var out []byte
	if minor, tell := s.Negotiate(); tell {
		out = AppendNegotiateProtocolVersion(out, minor, s.Options)
	}
	out = AppendAuthenticationSASL(out, ScramSHA256)
	exchange := d.auth.Begin(s.User(), verifier)
	for done := false; !done; {
		if _, err := conn.Write(out); err != nil {
			return err
		}
		typ, body, err := readWhole(conn)
		if err != nil || typ != 'p' {
			return err
		}
		if out, done, err = exchange.Step(out[:0], body); err != nil {
			return err
		}
	}
	key := []byte("key1")
	if s.LongCancelKey() {
		key = bytes.Repeat(key, 8)
	}
	out = AppendAuthenticationOk(out)
	out = AppendParameterStatus(out, "server_version", "15.18")
	out = AppendParameterStatus(out, "client_encoding", "UTF8")
	out = AppendParameterStatus(out, "standard_conforming_strings", "on")
	out = AppendReadyForQuery(AppendBackendKeyData(out, 4711, key), TxIdle)
	for {
		if _, err := conn.Write(out); err != nil {
			return err
		}
		typ, _, err := readWhole(conn)
		if err != nil || typ != 'Q' {
			return err
		}
		out = AppendReadyForQuery(AppendCommandTag(out[:0], "SERVED"), TxIdle)
	}
}

// readWhole reads one message.
func readWhole(r io.Reader) (typ byte, body []byte, err error) {
	var head [headerBytes]byte
	if _, err := io.ReadFull(r, head[:]); err != nil {
		return 0, nil, err
	}
	body = make([]byte, binary.BigEndian.Uint32(head[1:])-4)
	_, err = io.ReadFull(r, body)
	return head[0], body, err
}

func (d *doorman) config(t *testing.T, user, password, settings string) *pgconn.Config {
	t.Helper()
	config, err := pgconn.ParseConfig(fmt.Sprintf("postgres://%s/db?user=%s&connect_timeout=5&%s", d.ln.Addr(), user, settings))
	if err != nil {
		t.Fatal(err)
	}
	config.Password = password
	return config
}

func TestAcceptPgconn(t *testing.T) {
	stored, err := NewVerifier("pencil", 4096)
	if err != nil {
		t.Fatal(err)
	}
	users := map[string]string{"plain": "pencil", "stored": stored.Stored(), "prep": "a\u00a0\u2168"}
	serverTLS := testServerTLS(t)
	for _, c := range []struct {
		name      string
		options   AcceptOptions
		user      string
		password  string
		settings  string
		encrypted bool
		code      string // of the refusal
	}{
		{"clear", AcceptOptions{}, "plain", "pencil", "sslmode=disable", false, ""},
		{"clear, stored", AcceptOptions{}, "stored", "pencil", "sslmode=prefer", false, ""},
		{"clear, normalised", AcceptOptions{}, "prep", "a IX", "sslmode=disable", false, ""},
		{"wrong password", AcceptOptions{}, "stored", "pen", "sslmode=disable", false, InvalidPassword},
		{"unknown user", AcceptOptions{}, "nobody", "pencil", "sslmode=disable", false, InvalidPassword},
		{"prefer, TLS", AcceptOptions{TLSPrefer, serverTLS}, "plain", "pencil", "sslmode=require", true, ""},
		{"prefer, clear", AcceptOptions{TLSPrefer, serverTLS}, "plain", "pencil", "sslmode=disable", false, ""},
		{"prefer, none configured", AcceptOptions{Mode: TLSPrefer}, "plain", "pencil", "sslmode=prefer", false, ""},
		{"disable, TLS configured", AcceptOptions{TLSDisable, serverTLS}, "plain", "pencil", "sslmode=prefer", false, ""},
		{"require, TLS", AcceptOptions{TLSRequire, serverTLS}, "stored", "pencil", "sslmode=prefer", true, ""},
		{"require, clear", AcceptOptions{TLSRequire, serverTLS}, "plain", "pencil", "sslmode=disable", false, InvalidAuthorization},
		{"require, none configured", AcceptOptions{Mode: TLSRequire}, "plain", "pencil", "sslmode=disable", false, InvalidAuthorization},
		{"direct", AcceptOptions{TLSPrefer, serverTLS}, "plain", "pencil", "sslmode=require&sslnegotiation=direct", true, ""},
		{"3.2", AcceptOptions{TLSPrefer, serverTLS}, "plain", "pencil", "sslmode=require&min_protocol_version=3.2&max_protocol_version=3.2", true, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			d := startDoorman(t, c.options, users)
			conn, err := pgconn.ConnectConfig(t.Context(), d.config(t, c.user, c.password, c.settings))
			got := <-d.results
			if got.err == io.EOF { // pgx comes again after an N
				got = <-d.results
			}
			if c.code != "" {
				refusal, ok := errors.AsType[*pgconn.PgError](err)
				if !ok || refusal.Code != c.code || refusal.Severity != SeverityFatal {
					t.Fatalf("%v", err)
				}
				if c.code == InvalidAuthorization && refusal.Hint == "" {
					t.Error("no hint")
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			defer conn.Close(t.Context())
			if got.encrypted != c.encrypted || got.startup.User() != c.user || got.startup.Database() != "db" {
				t.Errorf("%+v", got)
			}
			if long := len(conn.SecretKey()) == 32; conn.PID() != 4711 || long != strings.Contains(c.settings, "3.2") {
				t.Errorf("key of %d bytes", len(conn.SecretKey()))
			}
			results, err := conn.Exec(t.Context(), "SELECT 1").ReadAll()
			if err != nil || len(results) != 1 || results[0].CommandTag.String() != "SERVED" {
				t.Errorf("%v %v", results, err)
			}
		})
	}
}

func TestAcceptPsql(t *testing.T) {
	psql, err := exec.LookPath("psql")
	if err != nil {
		t.Skip("psql is not installed")
	}
	users := map[string]string{"u": "pencil"}
	// What libpq makes of these passwords has to be what is made of them here.
	passwords := []string{"I\u00adX", "\u00aa", "\u2168", "\x07", "a\u00a0b", "a\u200bb", "\u00ad", "p\xff\u00aa", "\u00aa\x07",
		"\u00aa\U0001f600", "\u06271", "\u0627\u0628\u0644", "\u00e9e\u0301", "\ufb01\u2460\u3000.x", "\u00aa\u0340", "\ufdfa", "\u0221\u00aa"}
	for i, p := range passwords {
		users[fmt.Sprintf("prep%d", i)] = p
	}
	d := startDoorman(t, AcceptOptions{TLSRequire, testServerTLS(t)}, users)
	host, port, _ := net.SplitHostPort(d.ln.Addr().String())
	run := func(user, password, sslmode string) string {
		cmd := exec.CommandContext(t.Context(), psql, "-X", "-w", "-c", "SELECT 1",
			fmt.Sprintf("host=%s port=%s user=%s dbname=db sslmode=%s gssencmode=disable", host, port, user, sslmode))
		cmd.Env = []string{"PGPASSWORD=" + password, "HOME=" + t.TempDir(), "LC_ALL=C", "PATH=" + os.Getenv("PATH")}
		out, _ := cmd.CombinedOutput()
		return string(out)
	}
	if out := run("u", "pencil", "require"); out != "SERVED\n" {
		t.Error(out)
	}
	if out := run("u", "wrong", "require"); !strings.Contains(out, `FATAL:  password authentication failed for user "u"`) {
		t.Error(out)
	}
	if out := run("nobody", "pencil", "require"); !strings.Contains(out, `FATAL:  password authentication failed for user "nobody"`) {
		t.Error(out)
	}
	if out := run("u", "pencil", "disable"); !strings.Contains(out, "this server requires TLS\nHINT:") {
		t.Error(out)
	}
	for i, p := range passwords {
		if out := run(fmt.Sprintf("prep%d", i), p, "require"); out != "SERVED\n" {
			t.Errorf("%+q: %s", p, out)
		}
	}
}

// dialDoorman connects, sends bytes and returns all that comes back.
func dialDoorman(t *testing.T, d *doorman, send []byte) (answer []byte) {
	t.Helper()
	nc, err := net.Dial("tcp", d.ln.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer nc.Close()
	_ = nc.SetDeadline(time.Now().Add(5 * time.Second))
	if _, err := nc.Write(send); err != nil {
		t.Fatal(err)
	}
	_ = nc.(*net.TCPConn).CloseWrite()
	answer, _ = io.ReadAll(nc)
	return answer
}

// TestAcceptRefusesClearBytesBeforeHandshake is CVE-2021-23222: what a man in
// the middle puts behind the SSLRequest must not be read as the client's.
func TestAcceptRefusesClearBytesBeforeHandshake(t *testing.T) {
	d := startDoorman(t, AcceptOptions{TLSPrefer, testServerTLS(t)}, nil)
	injected := append(startupPacket(sslRequestCode, ""), startupPacket(3<<16, "user\x00evil\x00\x00")...)
	answer := dialDoorman(t, d, injected)
	if len(answer) == 0 || answer[0] != 'S' || bytes.Contains(answer, []byte("SCRAM")) {
		t.Errorf("answer %q", answer)
	}
	e, ok := errors.AsType[*Error]((<-d.results).err)
	if !ok || e.Code != ProtocolViolation || e.Message != "received unencrypted data after SSL request" || e.Detail == "" {
		t.Errorf("%v", e)
	}
}

func TestAcceptDance(t *testing.T) {
	ssl, gss := startupPacket(sslRequestCode, ""), startupPacket(gssEncRequestCode, "")
	start := startupPacket(3<<16, "user\x00u\x00\x00")
	cancel := startupPacket(cancelRequestCode, "\x00\x00\x12\x67key1")
	join := func(packets ...[]byte) []byte { return bytes.Join(packets, nil) }
	with, without := AcceptOptions{TLSRequire, testServerTLS(t)}, AcceptOptions{}
	const unsupported = "unsupported frontend protocol 1234.%d: server supports 3.0 to 3.2"
	for _, c := range []struct {
		name    string
		options AcceptOptions
		send    []byte
		answer  string // its beginning
		kind    StartupKind
		message string // of the *Error
	}{
		{"start", without, start, "R", StartupMessage, ""},
		{"ssl, start", without, join(ssl, start), "NR", StartupMessage, ""},
		{"gss, ssl, start", without, join(gss, ssl, start), "NNR", StartupMessage, ""},
		{"ssl, gss, start", without, join(ssl, gss, start), "NNR", StartupMessage, ""},
		{"ssl twice", without, join(ssl, ssl, start), "NE", 0, fmt.Sprintf(unsupported, 5679)},
		{"gss twice", without, join(gss, gss, start), "NE", 0, fmt.Sprintf(unsupported, 5680)},
		{"cancel", without, cancel, "", CancelRequest, ""},
		{"cancel in clear where TLS is required", with, cancel, "", CancelRequest, ""},
		{"start in clear where TLS is required", with, start, "E", 0, "connection is not encrypted, but this server requires TLS"},
		{"gss, start in clear where TLS is required", with, join(gss, start), "NE", 0, "connection is not encrypted, but this server requires TLS"},
		{"version 2", without, startupPacket(2<<16, ""), "E", 0, "unsupported frontend protocol 2.0: server supports 3.0 to 3.2"},
		{"direct without TLS", without, []byte{0x16, 3, 1, 0, 5, 1, 0, 0, 1, 3}, "", 0, "received direct TLS connection request, but TLS is not offered"},
		{"garbage", without, []byte("GET / HTTP/1.1\r\n\r\n"), "", 0, ""},
		{"nothing", without, nil, "", 0, ""},
		{"half", without, start[:7], "", 0, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			d := startDoorman(t, c.options, nil)
			answer := dialDoorman(t, d, c.send)
			got := <-d.results
			e, _ := errors.AsType[*Error](got.err)
			if !strings.HasPrefix(string(answer), c.answer) || c.answer == "" && len(answer) > 0 || got.startup.Kind != c.kind ||
				(got.err == nil) != (c.kind != 0) || (e != nil) != (c.message != "") || e != nil && e.Message != c.message {
				t.Errorf("answer %q, %+v", answer, got)
			}
			if c.send == nil && got.err != io.EOF {
				t.Errorf("%v", got.err)
			}
		})
	}
}

// TestAcceptInsideTLS sends packets over TLS, by either way there.
func TestAcceptInsideTLS(t *testing.T) {
	config := testServerTLS(t)
	gss, ssl := startupPacket(gssEncRequestCode, ""), startupPacket(sslRequestCode, "")
	start := startupPacket(3<<16, "user\x00u\x00\x00")
	for _, c := range []struct {
		name    string
		direct  bool
		alpn    []string
		send    []byte
		answer  string
		message string
	}{
		{"start", false, nil, start, "R", ""},
		{"start with ALPN", false, []string{alpnProtocol}, start, "R", ""},
		{"gss after TLS", false, nil, gss, "E", "unsupported frontend protocol 1234.5680: server supports 3.0 to 3.2"},
		{"ssl after TLS", false, nil, ssl, "E", "unsupported frontend protocol 1234.5679: server supports 3.0 to 3.2"},
		{"direct", true, []string{alpnProtocol}, start, "R", ""},
		{"direct, ssl", true, []string{alpnProtocol}, append(bytes.Clone(ssl), start...), "NR", ""},
		{"direct without ALPN", true, nil, start, "", "received direct TLS connection request without ALPN protocol negotiation extension"},
	} {
		t.Run(c.name, func(t *testing.T) {
			d := startDoorman(t, AcceptOptions{TLSPrefer, config}, nil)
			nc, err := net.Dial("tcp", d.ln.Addr().String())
			if err != nil {
				t.Fatal(err)
			}
			defer nc.Close()
			_ = nc.SetDeadline(time.Now().Add(5 * time.Second))
			if !c.direct {
				yes := []byte{0}
				if _, err := nc.Write(ssl); err != nil {
					t.Fatal(err)
				}
				if _, err := io.ReadFull(nc, yes); err != nil || yes[0] != 'S' {
					t.Fatal(yes, err)
				}
			}
			client := tls.Client(nc, &tls.Config{InsecureSkipVerify: true, NextProtos: c.alpn})
			if _, err := client.Write(c.send); err != nil {
				t.Fatal(err)
			}
			answer := make([]byte, len(c.answer))
			if _, err := io.ReadFull(client, answer); err != nil || string(answer) != c.answer {
				t.Errorf("%q %v", answer, err)
			}
			_ = client.Close()
			got := <-d.results
			e, _ := errors.AsType[*Error](got.err)
			if (e != nil) != (c.message != "") || e != nil && e.Message != c.message {
				t.Errorf("%v", got.err)
			}
		})
	}
}

func TestAcceptOtherALPN(t *testing.T) {
	d := startDoorman(t, AcceptOptions{TLSPrefer, testServerTLS(t)}, nil)
	client, err := tls.Dial("tcp", d.ln.Addr().String(), &tls.Config{InsecureSkipVerify: true, NextProtos: []string{"http/1.1"}})
	if err == nil {
		client.Close()
		t.Error("spoke HTTP")
	}
	if got := <-d.results; got.err == nil {
		t.Error("accepted")
	}
}

func TestAcceptOldTLS(t *testing.T) {
	d := startDoorman(t, AcceptOptions{TLSPrefer, testServerTLS(t)}, nil)
	client, err := tls.Dial("tcp", d.ln.Addr().String(), &tls.Config{InsecureSkipVerify: true, NextProtos: []string{alpnProtocol}, MaxVersion: tls.VersionTLS11})
	if err == nil {
		client.Close()
		t.Error("spoke TLS 1.1")
	}
	if got := <-d.results; got.err == nil {
		t.Error("accepted")
	}
}

// silentPair returns both ends of a connection on which the client has sent
// that much and then keeps silent.
func silentPair(t *testing.T, sent []byte) (server net.Conn) {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	client, err := net.Dial("tcp", ln.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { client.Close() })
	if server, err = ln.Accept(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { server.Close() })
	if _, err := client.Write(sent); err != nil {
		t.Fatal(err)
	}
	return server
}

func TestAcceptSilentClients(t *testing.T) {
	o := AcceptOptions{TLSPrefer, testServerTLS(t)}
	for name, sent := range map[string][]byte{
		"nothing":   nil,
		"a byte":    {0},
		"half":      startupPacket(3<<16, "user\x00u\x00\x00")[:9],
		"handshake": startupPacket(sslRequestCode, ""),
		"direct":    {0x16},
	} {
		t.Run("deadline "+name, func(t *testing.T) {
			defer goleak.VerifyNone(t, goleak.IgnoreCurrent())
			server := silentPair(t, sent)
			_ = server.SetDeadline(time.Now().Add(30 * time.Millisecond))
			_, _, err := Accept(context.Background(), server, o)
			if !errors.Is(err, os.ErrDeadlineExceeded) {
				t.Errorf("%v", err)
			}
		})
		t.Run("context "+name, func(t *testing.T) {
			defer goleak.VerifyNone(t, goleak.IgnoreCurrent())
			server := silentPair(t, sent)
			gone := errors.New("shutting down")
			ctx, cancel := context.WithCancelCause(t.Context())
			time.AfterFunc(20*time.Millisecond, func() { cancel(gone) })
			if _, _, err := Accept(ctx, server, o); err != gone {
				t.Errorf("%v", err)
			}
		})
	}
}

func TestAcceptUnixSocket(t *testing.T) {
	ln, err := net.Listen("unix", filepath.Join(t.TempDir(), "s"))
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	client, err := net.Dial("unix", ln.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	server, err := ln.Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer server.Close()
	if _, err := client.Write(append(startupPacket(sslRequestCode, ""), startupPacket(3<<16, "user\x00u\x00\x00")...)); err != nil {
		t.Fatal(err)
	}
	conn, s, err := Accept(t.Context(), server, AcceptOptions{TLSRequire, testServerTLS(t)})
	if err != nil || conn != server || s.User() != "u" {
		t.Errorf("%v %v", s, err)
	}
}

func TestServerTLSReload(t *testing.T) {
	dir, ca := t.TempDir(), newAuthority(t)
	files := ca.write(t, dir, "server", 2)
	files.ClientCA = ""
	var failures []error
	files.OnReloadError = func(err error) { failures = append(failures, err) }
	config, err := ServerTLS(files)
	if err != nil {
		t.Fatal(err)
	}
	serial := func() int64 {
		a, b := net.Pipe()
		defer a.Close()
		defer b.Close()
		server := tls.Server(a, config)
		failed := make(chan error, 1)
		go func() { failed <- server.Handshake() }()
		client := tls.Client(b, &tls.Config{InsecureSkipVerify: true})
		if err := errors.Join(client.Handshake(), <-failed); err != nil {
			t.Fatal(err)
		}
		return client.ConnectionState().PeerCertificates[0].SerialNumber.Int64()
	}
	if got := serial(); got != 2 {
		t.Errorf("serial %d", got)
	}
	ca.write(t, dir, "server", 300)
	later := time.Now().Add(time.Minute)
	for _, f := range []string{files.Cert, files.Key} {
		if err := os.Chtimes(f, later, later); err != nil {
			t.Fatal(err)
		}
	}
	if got := serial(); got != 300 || len(failures) != 0 {
		t.Errorf("serial %d, %v", got, failures)
	}
	if err := os.WriteFile(files.Key, []byte("half a file"), 0o600); err != nil {
		t.Fatal(err)
	}
	if got := serial(); got != 300 || len(failures) != 1 {
		t.Errorf("serial %d, %v", got, failures)
	}
	if err := os.Remove(files.Key); err != nil {
		t.Fatal(err)
	}
	if got := serial(); got != 300 || len(failures) != 2 {
		t.Errorf("serial %d, %v", got, failures)
	}
	ca.write(t, dir, "server", 4)
	if got := serial(); got != 4 || len(failures) != 2 {
		t.Errorf("serial %d, %v", got, failures)
	}
}

func TestServerTLSClientCertificates(t *testing.T) {
	dir, ca := t.TempDir(), newAuthority(t)
	files := ca.write(t, dir, "server", 2)
	client := ca.write(t, dir, "client", 3)
	stranger := newAuthority(t).write(t, t.TempDir(), "stranger", 4)
	connect := func(d *doorman, cert *TLSFiles) error {
		settings := "sslmode=verify-full&sslrootcert=" + files.ClientCA
		if cert != nil {
			settings += "&sslcert=" + cert.Cert + "&sslkey=" + cert.Key
		}
		conn, err := pgconn.ConnectConfig(t.Context(), d.config(t, "u", "pencil", settings))
		if err == nil {
			conn.Close(t.Context())
		}
		<-d.results
		return err
	}
	for _, required := range []bool{false, true} {
		t.Run(fmt.Sprintf("required %v", required), func(t *testing.T) {
			files.RequireClientCert = required
			config, err := ServerTLS(files)
			if err != nil {
				t.Fatal(err)
			}
			d := startDoorman(t, AcceptOptions{TLSRequire, config}, map[string]string{"u": "pencil"})
			if err := connect(d, &client); err != nil {
				t.Error(err)
			}
			if err := connect(d, &stranger); err == nil {
				t.Error("accepted a stranger's certificate")
			}
			if err := connect(d, nil); (err == nil) == required {
				t.Errorf("without a certificate: %v", err)
			}
		})
	}
}

func TestServerTLSRefuses(t *testing.T) {
	dir := t.TempDir()
	good := newAuthority(t).write(t, dir, "server", 2)
	other := newAuthority(t).write(t, t.TempDir(), "other", 3)
	for name, f := range map[string]TLSFiles{
		"none":               {},
		"no key":             {Cert: good.Cert},
		"another's key":      {Cert: good.Cert, Key: other.Key},
		"no such authority":  {Cert: good.Cert, Key: good.Key, ClientCA: filepath.Join(dir, "none")},
		"key as authority":   {Cert: good.Cert, Key: good.Key, ClientCA: good.Key},
		"required of no one": {Cert: good.Cert, Key: good.Key, RequireClientCert: true},
	} {
		if _, err := ServerTLS(f); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
	for _, m := range []TLSMode{TLSDisable, TLSPrefer, TLSRequire} {
		if got, err := ParseTLSMode(m.String()); got != m || err != nil {
			t.Error(m, err)
		}
	}
	if _, err := ParseTLSMode("verify"); err == nil || TLSMode(9).String() != "TLSMode(9)" {
		t.Error("an unknown mode")
	}
}
