package e2e

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"math/big"
	"net"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/shardgate/shardgate/gateway/localpg"
	"github.com/shardgate/shardgate/gateway/localpg/pgtest"
)

// tryConnect connects once and runs a statement.
func tryConnect(t *testing.T, url string) error {
	t.Helper()
	ctx, stop := context.WithTimeout(t.Context(), 10*time.Second)
	defer stop()
	conn, err := pgx.Connect(ctx, url)
	if err != nil {
		return err
	}
	defer conn.Close(ctx)
	_, err = conn.Exec(ctx, "SELECT 1")
	return err
}

func TestPasswords(t *testing.T) {
	c := newClusterWith(t, 2, keyed+`
auth:
  method: scram-sha-256
  users:
    - {name: app, password: "pass é word"}
    - {name: ghost, password: boo}
    - {name: other, password: here}
limits: {client_connections: 5}
`, func(_ int, o *localpg.Options) {
		o.HBA = []string{"host all postgres 127.0.0.1/32 trust", "host all all 127.0.0.1/32 scram-sha-256"}
	})
	c.onShards("CREATE ROLE app LOGIN PASSWORD 'pass é word'", "CREATE ROLE other LOGIN PASSWORD 'there'",
		"GRANT ALL ON SCHEMA public TO app")
	c.serve()
	const right = "app:pass%20%C3%A9%20word"
	app := c.connect(right)
	ids := c.ids(app, 1)
	must(t, app, sqlf("UPDATE t SET v = 1 WHERE id IN (%d, %d)", ids[0][0], ids[1][0]))

	wrong, unknown := tryConnect(t, c.as("app:x")), tryConnect(t, c.as("nobody:x"))
	if code(wrong) != "28P01" || code(unknown) != "28P01" {
		t.Errorf("wrong password: %v; unknown user: %v", wrong, unknown)
	}
	tail := func(err error, name string) string {
		_, s, _ := strings.Cut(strings.ReplaceAll(err.Error(), name, "NAME"), "failed to connect")
		_, s, _ = strings.Cut(s, ": ")
		return s
	}
	if a, b := tail(wrong, "app"), tail(unknown, "nobody"); a != b {
		t.Errorf("a wrong password is answered %q, an unknown user %q", a, b)
	}
	if err := tryConnect(t, c.as("postgres")); code(err) != "28P01" {
		t.Errorf("without a password: %v", err)
	}
	// The gateway lets these in, the shards don't.
	for _, who := range []string{"ghost:boo", "other:here"} {
		if err := tryConnect(t, c.as(who)); code(err) != "28P01" {
			t.Errorf("%s: %v", who, err)
		}
	}
	for url, want := range map[string]string{
		strings.Replace(c.as(right), "/postgres", "/nowhere", 1): "3D000",
		c.as(right) + "?replication=database":                    "0A000",
		c.as(right) + "?replication=true":                        "0A000",
		c.as(right) + "?replication=perhaps":                     "22023",
		c.as(right) + "?no_such_setting=1":                       "42704",
	} {
		if err := tryConnect(t, url); code(err) != want {
			t.Errorf("%s: %v, not %s", url, err, want)
		}
	}
	// Only so many clients; one that leaves makes room.
	var last *pgx.Conn
	for range 4 {
		last = c.connect(right)
	}
	if err := tryConnect(t, c.as(right)); code(err) != "53300" {
		t.Errorf("too many clients: %v", err)
	}
	last.Close(t.Context())
	eventually(t, 5*time.Second, func() bool { return tryConnect(t, c.as(right)) == nil })
	// Nor can those who never log in use up the gateway's file descriptors.
	var closed atomic.Int64
	for range 150 {
		nc, err := net.Dial("tcp", c.listen)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { nc.Close() })
		go func() {
			nc.SetReadDeadline(time.Now().Add(2 * time.Second))
			if _, err := nc.Read(make([]byte, 1)); err != nil && !errors.Is(err, os.ErrDeadlineExceeded) {
				closed.Add(1)
			}
		}()
	}
	eventually(t, 2*time.Second, func() bool { return closed.Load() >= 40 })
	must(t, app, "SELECT 1")
}

// eventually waits until f is true.
func eventually(t *testing.T, within time.Duration, f func() bool) {
	t.Helper()
	for deadline := time.Now().Add(within); !f(); time.Sleep(20 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("not within %v", within)
		}
	}
}

// authority signs certificates.
type authority struct {
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
	file string
}

func newAuthority(t *testing.T, dir string) *authority {
	t.Helper()
	a := &authority{}
	tmpl := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "authority"}, IsCA: true, BasicConstraintsValid: true,
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour), KeyUsage: x509.KeyUsageCertSign}
	a.key = newKey(t)
	der, err := x509.CreateCertificate(rand.Reader, tmpl, tmpl, &a.key.PublicKey, a.key)
	if err != nil {
		t.Fatal(err)
	}
	if a.cert, err = x509.ParseCertificate(der); err != nil {
		t.Fatal(err)
	}
	a.file = writePEM(t, dir, "ca.pem", "CERTIFICATE", der)
	return a
}

func newKey(t *testing.T) *ecdsa.PrivateKey {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

func writePEM(t *testing.T, dir, name, kind string, der []byte) string {
	t.Helper()
	path := filepath.Join(dir, name)
	if err := os.WriteFile(path, pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// issue makes a certificate for 127.0.0.1, in the folder.
func (a *authority) issue(t *testing.T, dir string) (cert, key string) {
	t.Helper()
	k := newKey(t)
	tmpl := &x509.Certificate{SerialNumber: big.NewInt(2), Subject: pkix.Name{CommonName: "server"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour), IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, a.cert, &k.PublicKey, a.key)
	if err != nil {
		t.Fatal(err)
	}
	kder, err := x509.MarshalECPrivateKey(k)
	if err != nil {
		t.Fatal(err)
	}
	return writePEM(t, dir, "cert.pem", "CERTIFICATE", der), writePEM(t, dir, "key.pem", "EC PRIVATE KEY", kder)
}

// TLS toward clients and toward shards, which verify each other's names.
func TestTLS(t *testing.T) {
	dir := pgtest.Dir(t)
	ca := newAuthority(t, dir)
	cert, key := ca.issue(t, dir)
	if os.Geteuid() == 0 { // the server's key must be the server's own, or root's
		u, err := user.Lookup("postgres")
		if err != nil {
			t.Fatal(err)
		}
		uid, _ := strconv.Atoi(u.Uid)
		if err := os.Chown(key, uid, -1); err != nil {
			t.Fatal(err)
		}
		if err := os.Chown(cert, uid, -1); err != nil {
			t.Fatal(err)
		}
	}
	c := newClusterWith(t, 2, "", func(_ int, o *localpg.Options) {
		o.Settings = map[string]string{"ssl": "on", "ssl_cert_file": cert, "ssl_key_file": key}
	})
	install, err := localpg.Find()
	if err != nil {
		t.Fatal(err)
	}
	psql := func(params string) error {
		out, err := exec.Command(install.Path("psql"), "-XAtc", "SELECT 1", c.url()+"?"+params).CombinedOutput()
		if err == nil && string(out) != "1\n" {
			t.Errorf("psql: %s", out)
		}
		return err
	}
	verify := "sslmode=verify-full&sslrootcert=" + ca.file
	c.query = verify
	strict := sqlf("tls: {mode: %%s, cert: %q, key: %q}\n", cert, key)
	for mode, want := range map[string]struct{ plain, tls bool }{
		"disable": {true, false}, "prefer": {true, true}, "require": {false, true},
	} {
		c.listen = freeAddress(t)
		if c.configure("tls: {mode: disable}\n"); mode != "disable" {
			c.configure(sqlf(strict, mode))
		}
		p := c.serve()
		for params, ok := range map[string]bool{"sslmode=disable": want.plain, "sslmode=require": want.tls, verify: want.tls} {
			if err := tryConnect(t, c.url()+"?"+params); (err == nil) != ok {
				t.Errorf("%s: pgx with %s: %v", mode, params, err)
			}
			if err := psql(params); (err == nil) != ok {
				t.Errorf("%s: psql with %s: %v", mode, params, err)
			}
		}
		if mode == "require" {
			if err := tryConnect(t, c.url()+"?sslmode=disable"); code(err) != "28000" {
				t.Errorf("without TLS: %v", err)
			}
			if n := c.sum("SELECT count(*) FROM pg_stat_ssl s JOIN pg_stat_activity a USING (pid) WHERE a.backend_type = 'client backend' AND NOT s.ssl AND pid <> pg_backend_pid()"); n != 0 {
				t.Errorf("%d connections to shards are without TLS", n)
			}
		}
		p.end(t, os.Interrupt, 10*time.Second)
	}
	// A shard's certificate that another authority has signed.
	otherDir := t.TempDir()
	c.query = "sslmode=verify-full&sslrootcert=" + newAuthority(t, otherDir).file
	c.configure("")
	if out, status := run(t, "serve", "-c", c.config); status != 1 || !strings.Contains(out, "certificate") || !strings.Contains(out, "s1") {
		t.Errorf("status %d: %s", status, out)
	}
}
