package target

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/shardgate/shardgate/bench/measure"
	"github.com/shardgate/shardgate/gateway/dev"
	"github.com/shardgate/shardgate/gateway/localpg"
)

// ErrNoPgBouncer is matched by Start's error where PgBouncer is asked for and missing.
var ErrNoPgBouncer = errors.New("PgBouncer is not installed: install it (Debian and Ubuntu: apt-get install pgbouncer; Fedora: dnf install pgbouncer; macOS: brew install pgbouncer), or leave --with-pgbouncer and --bounds out")

// findPgBouncer looks on the PATH and where Debian puts it, which is on root's PATH only.
func findPgBouncer() (string, error) {
	for _, name := range []string{"pgbouncer", "/usr/sbin/pgbouncer"} {
		if path, err := exec.LookPath(name); err == nil {
			return path, nil
		}
	}
	return "", ErrNoPgBouncer
}

// pgbouncer is one before the plain PostgreSQL, with transaction pooling.
type pgbouncer struct {
	cmd     *exec.Cmd
	done    chan struct{}
	address string
	version string
}

// startPgBouncer starts one and waits until it answers. Its folder, which also has its
// log, is made.
func startPgBouncer(ctx context.Context, dir string, server *localpg.Server, clients int) (*pgbouncer, error) {
	program, err := findPgBouncer()
	if err != nil {
		return nil, err
	}
	b := &pgbouncer{done: make(chan struct{})}
	if b.version, err = versionOf(ctx, program); err != nil {
		return nil, err
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	b.address = l.Addr().String()
	if err := l.Close(); err != nil {
		return nil, err
	}
	credential, err := postgresUser()
	if err != nil {
		return nil, err
	}
	if err := b.configure(dir, server, clients, credential); err != nil {
		return nil, err
	}
	b.cmd = exec.Command(program, filepath.Join(dir, "pgbouncer.ini"))
	b.cmd.Dir = dir
	b.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Credential: credential}
	dieWithUs(b.cmd.SysProcAttr)
	started := make(chan error, 1)
	go b.run(started)
	if err := <-started; err != nil {
		return nil, fmt.Errorf("starting PgBouncer: %w", err)
	}
	if err := b.await(ctx, dir); err != nil {
		b.stop()
		return nil, err
	}
	return b, nil
}

// run keeps its thread until the program ends: the signal that ends it with us is sent
// when the thread that forked ends.
func (b *pgbouncer) run(started chan<- error) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	if err := b.cmd.Start(); err != nil {
		started <- err
		return
	}
	started <- nil
	b.cmd.Wait() // how it ended is in its log
	close(b.done)
}

func versionOf(ctx context.Context, program string) (string, error) {
	out, err := exec.CommandContext(ctx, program, "--version").Output()
	if err != nil {
		return "", fmt.Errorf("%s --version: %w", program, err)
	}
	f := strings.Fields(string(out))
	if len(f) < 2 {
		return "", fmt.Errorf("%s --version said %q", program, out)
	}
	return f[1], nil
}

// hostOf is how what stands before a server reaches it: by a Unix socket, as the gateway
// reaches its shards, if there is one.
func hostOf(s *localpg.Server) string { return cmp.Or(s.SocketDir(), s.Host()) }

// configure writes the files of the configuration.
func (b *pgbouncer) configure(dir string, server *localpg.Server, clients int, owner *syscall.Credential) error {
	host, port, err := net.SplitHostPort(b.address)
	if err != nil {
		return err
	}
	ini := fmt.Sprintf(`[databases]
%[1]s = host=%[2]s port=%[3]d dbname=%[1]s
%[4]s = host=%[2]s port=%[3]d dbname=%[1]s pool_mode=session

[pgbouncer]
listen_addr = %[5]s
listen_port = %[6]s
unix_socket_dir =
auth_type = trust
auth_file = %[7]s
logfile = %[8]s
log_connections = 0
log_disconnections = 0
pool_mode = transaction
default_pool_size = %[9]d
max_client_conn = %[10]d
ignore_startup_parameters = extra_float_digits
`, dev.Database, hostOf(server), server.Port(), bySession, host, port,
		filepath.Join(dir, "users.txt"), filepath.Join(dir, "pgbouncer.log"), max(40, clients), clients+50)
	if b.prepares() {
		ini += "max_prepared_statements = 200\n"
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	for name, text := range map[string]string{"pgbouncer.ini": ini, "users.txt": fmt.Sprintf("%q \"\"\n", dev.User)} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
			return err
		}
	}
	if owner == nil {
		return nil
	}
	return os.Chown(dir, int(owner.Uid), int(owner.Gid))
}

// prepares says whether this version keeps prepared statements over transactions: 1.21
// is the first.
func (b *pgbouncer) prepares() bool {
	major, rest, _ := strings.Cut(b.version, ".")
	minor, _, _ := strings.Cut(rest, ".")
	m, errMajor := strconv.Atoi(major)
	n, errMinor := strconv.Atoi(minor)
	return errMajor == nil && errMinor == nil && (m > 1 || m == 1 && n >= 21)
}

// postgresUser is whom to run as, since PgBouncer refuses root; nil: ourselves.
func postgresUser() (*syscall.Credential, error) {
	if os.Geteuid() != 0 {
		return nil, nil
	}
	u, err := user.Lookup("postgres")
	if err != nil {
		return nil, fmt.Errorf("PgBouncer does not run as root: %w", err)
	}
	uid, err := strconv.ParseUint(u.Uid, 10, 32)
	if err != nil {
		return nil, err
	}
	gid, err := strconv.ParseUint(u.Gid, 10, 32)
	if err != nil {
		return nil, err
	}
	return &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}, nil
}

func (b *pgbouncer) url(database string) string {
	return "postgresql://" + dev.User + "@" + b.address + "/" + database + "?sslmode=disable"
}

// bySession is the name by which the same database is pooled by session.
const bySession = dev.Database + "_by_session"

// await waits until a client can connect.
func (b *pgbouncer) await(ctx context.Context, dir string) error {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	for {
		conn, err := pgconn.Connect(ctx, b.url(dev.Database))
		if err == nil {
			return conn.Close(ctx)
		}
		select {
		case <-b.done:
		case <-ctx.Done():
		case <-time.After(20 * time.Millisecond):
			continue
		}
		log, _ := os.ReadFile(filepath.Join(dir, "pgbouncer.log")) // the error above stays
		return fmt.Errorf("PgBouncer did not come up: %w\n%s", err, log)
	}
}

// stop ends it and waits.
func (b *pgbouncer) stop() {
	b.cmd.Process.Signal(syscall.SIGQUIT) // at once, without waiting for clients
	select {
	case <-b.done:
	case <-time.After(5 * time.Second):
		b.cmd.Process.Kill()
		<-b.done
	}
}

// describe is the target that goes through it to the plain PostgreSQL.
func (b *pgbouncer) describe(plain described) described {
	d := plain
	d.Name, d.URL = PgBouncer, b.url(dev.Database)
	d.Parts = append([]Part{{Role: Gateway, Name: PgBouncer, CPU: measure.CPU{PID: b.cmd.Process.Pid}}}, plain.Parts...)
	if !b.prepares() {
		d.PreparedURL = b.url(bySession)
		d.PreparedNote = "PgBouncer " + b.version + " loses prepared statements between transactions, as all versions before 1.21 do: here it pools by session"
	}
	return d
}
