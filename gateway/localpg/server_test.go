package localpg_test

import (
	"context"
	"errors"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"go.uber.org/goleak"

	"github.com/shardgate/shardgate/gateway/localpg"
	"github.com/shardgate/shardgate/gateway/localpg/pgtest"
)

// show returns the value of a server setting or of any other one-column query.
func show(t *testing.T, s *localpg.Server, sql string) string {
	t.Helper()
	conn := connect(t, s.URL("", ""))
	defer conn.Close(t.Context())
	var v string
	if err := conn.QueryRow(t.Context(), sql).Scan(&v); err != nil {
		t.Fatalf("%s: %v", sql, err)
	}
	return v
}

func do(t *testing.T, s *localpg.Server, statements ...string) {
	t.Helper()
	conn := connect(t, s.URL("", ""))
	defer conn.Close(t.Context())
	for _, sql := range statements {
		if _, err := conn.Exec(t.Context(), sql); err != nil {
			t.Fatalf("%s: %v", sql, err)
		}
	}
}

func connect(t *testing.T, url string) *pgx.Conn {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), url)
	if err != nil {
		t.Fatal(err)
	}
	return conn
}

// nothingLeft fails the test if a process works in dir or names it.
func nothingLeft(t *testing.T, dir string) {
	t.Helper()
	if left := processesOf(t, dir); len(left) > 0 {
		t.Errorf("processes left of %s: %v", dir, left)
	}
}

func TestStopAndRestart(t *testing.T) {
	defer goleak.VerifyNone(t, goleak.IgnoreCurrent())
	dir := filepath.Join(pgtest.Dir(t), "made", "on the way", "d'at\"a %d")
	s, err := localpg.Start(t.Context(), localpg.Options{Dir: dir, Unsafe: true, Settings: map[string]string{
		"work_mem": "5MB", "shardgate.note": `it's a "c:\tmp"`,
	}})
	if err != nil {
		t.Fatal(err)
	}
	for sql, want := range map[string]string{
		"SHOW work_mem":                   "5MB",
		"SHOW shardgate.note":             `it's a "c:\tmp"`,
		"SHOW max_prepared_transactions":  "256",
		"SHOW fsync":                      "off",
		"SHOW synchronous_commit":         "on",
		"SHOW listen_addresses":           "127.0.0.1",
		"SHOW unix_socket_directories":    "",
		"SELECT inet_server_port()::text": strconv.Itoa(s.Port()),
		"SELECT current_user::text":       "postgres",
		"SHOW data_directory":             s.Dir(),
		"SHOW server_encoding":            "UTF8",
		"SELECT datcollate FROM pg_database WHERE datname = 'template1'": "C.UTF-8",
	} {
		if got := show(t, s, sql); got != want {
			t.Errorf("%s: %q, want %q", sql, got, want)
		}
	}
	do(t, s, "CREATE TABLE t AS SELECT 42::text AS v", "ALTER SYSTEM SET work_mem = '6MB'")
	port, pid, done := s.Port(), s.PID(), s.Done()
	if err := s.Restart(t.Context()); err != nil {
		t.Fatal(err)
	}
	select {
	case <-done:
	default:
		t.Error("the first run's Done is open after Restart")
	}
	if s.Port() != port || s.PID() == pid || s.PID() == 0 {
		t.Errorf("port %d -> %d, pid %d -> %d", port, s.Port(), pid, s.PID())
	}
	if got := show(t, s, "SELECT v FROM t"); got != "42" {
		t.Error(got)
	}
	if got := show(t, s, "SHOW work_mem"); got != "6MB" {
		t.Errorf("ALTER SYSTEM was overruled: %s", got)
	}
	if log := s.Log(); strings.Count(log, "ready to accept connections") != 2 {
		t.Error(log)
	}
	if tail := s.LogTail(2); strings.Count(tail, "\n") != 1 {
		t.Errorf("%q", tail)
	}
	for range 2 {
		if err := s.Stop(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	if s.PID() != 0 {
		t.Error("a stopped server has a pid")
	}
	if !strings.Contains(s.Log(), "database system is shut down") {
		t.Error("no shutdown in the log\n" + s.Log())
	}
	nothingLeft(t, s.Dir())
	if err := localpg.Remove(s.Dir()); err != nil {
		t.Fatal(err)
	}
}

func TestSafeServer(t *testing.T) {
	t.Parallel()
	sockets := filepath.Join(pgtest.Dir(t), "sockets")
	s := pgtest.NewServer(t, func(o *localpg.Options) {
		o.Unsafe, o.SocketDir, o.Superuser = false, sockets, "Root User"
		o.HBA = []string{"host all all 127.0.0.1/32 trust", "local all all reject"}
	})
	for sql, want := range map[string]string{
		"SHOW fsync": "on", "SHOW data_checksums": "on", "SHOW full_page_writes": "on", "SHOW shared_buffers": "128MB",
		"SELECT current_user::text": "Root User",
	} {
		if got := show(t, s, sql); got != want {
			t.Errorf("%s: %q, want %q", sql, got, want)
		}
	}
	_, err := pgx.Connect(t.Context(), "user=postgres dbname=postgres host="+sockets+" port="+strconv.Itoa(s.Port()))
	if err == nil || !strings.Contains(err.Error(), "pg_hba.conf rejects") {
		t.Errorf("the socket, or Options.HBA, was not heeded: %v", err)
	}
}

func TestKillKeepsWhatWasCommitted(t *testing.T) {
	t.Parallel()
	s := pgtest.NewServer(t, nil)
	do(t, s, "CREATE TABLE t (v int)", "BEGIN", "INSERT INTO t VALUES (1)", "PREPARE TRANSACTION 'p'")
	crash := map[string]func() error{
		"Kill":          s.Kill,
		"StopImmediate": func() error { return s.StopImmediate(t.Context()) },
	}
	for name, f := range crash {
		conn := connect(t, s.URL("", ""))
		if _, err := conn.Exec(t.Context(), "INSERT INTO t VALUES (2)"); err != nil {
			t.Fatal(err)
		}
		for range 2 {
			if err := f(); err != nil {
				t.Fatal(name, err)
			}
		}
		if s.PID() != 0 {
			t.Error(name, "left a pid")
		}
		nothingLeft(t, s.Dir())
		if err := conn.Ping(t.Context()); err == nil {
			t.Error(name, "left a connection open")
		}
		if err := s.Restart(t.Context()); err != nil {
			t.Fatal(name, err)
		}
	}
	do(t, s, "COMMIT PREPARED 'p'")
	if got := show(t, s, "SELECT string_agg(v::text, ',' ORDER BY v) FROM t"); got != "1,2,2" {
		t.Error(got)
	}
	if got := strings.Count(s.Log(), "automatic recovery in progress"); got != 2 {
		t.Errorf("%d recoveries in the log\n%s", got, s.Log())
	}
}

func TestLiveServerIsNotAdopted(t *testing.T) {
	t.Parallel()
	s := pgtest.NewServer(t, nil)
	do(t, s, "CREATE TABLE t AS SELECT 1 AS v")
	_, err := localpg.Start(t.Context(), localpg.Options{Dir: s.Dir(), Unsafe: true})
	running := new(localpg.RunningError)
	if !errors.Is(err, localpg.ErrRunning) || !errors.As(err, &running) || running.PID != s.PID() {
		t.Fatalf("%v, want ErrRunning with pid %d", err, s.PID())
	}
	if err := localpg.Remove(s.Dir()); !errors.Is(err, localpg.ErrRunning) {
		t.Errorf("Remove: %v", err)
	}
	if got := show(t, s, "SELECT count(*)::text FROM t"); got != "1" {
		t.Error(got)
	}
	for range 2 {
		if err := localpg.StopOrphan(t.Context(), s.Dir()); err != nil {
			t.Fatal(err)
		}
	}
	select {
	case <-s.Done():
	case <-time.After(5 * time.Second):
		t.Error("Done is open though the server was stopped from elsewhere")
	}
	nothingLeft(t, s.Dir())
	if err := s.Restart(t.Context()); err != nil {
		t.Fatal(err)
	}
	if got := show(t, s, "SELECT count(*)::text FROM t"); got != "1" {
		t.Error(got)
	}
}

// Of several that start in one new directory at the same time, one wins, and the others say so.
func TestStartRace(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(pgtest.Dir(t), "data")
	template := pgtest.Template(t)
	var wg sync.WaitGroup
	servers, errs := make([]*localpg.Server, 3), make([]error, 3)
	for i := range servers {
		wg.Go(func() {
			servers[i], errs[i] = localpg.Start(t.Context(), localpg.Options{Dir: dir, Unsafe: true, Template: template})
		})
	}
	wg.Wait()
	winners := 0
	for i, s := range servers {
		if s != nil {
			winners++
			defer s.Kill()
		} else if !errors.Is(errs[i], localpg.ErrRunning) {
			t.Error(errs[i])
		}
	}
	if winners != 1 {
		t.Errorf("%d of %d won: %v", winners, len(servers), errors.Join(errs...))
	}
}

func TestDirectoryThatIsNoCluster(t *testing.T) {
	t.Parallel()
	parent := pgtest.Dir(t)
	dir := filepath.Join(parent, "data")
	// What a killed initdb of another program would have left, and what our own would: a hidden sibling.
	for _, d := range []string{dir, filepath.Join(parent, ".data.initdb-123")} {
		if err := os.Mkdir(d, 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(d, "PG_VERSION"), []byte("15\n"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	_, err := localpg.Start(t.Context(), localpg.Options{Dir: dir, Unsafe: true, Template: pgtest.Template(t)})
	if !errors.Is(err, localpg.ErrNotCluster) || !strings.Contains(err.Error(), "global/pg_control") {
		t.Fatal(err)
	}
	if _, err := os.Stat(filepath.Join(dir, "PG_VERSION")); err != nil {
		t.Error("the directory was changed:", err)
	}
	if err := os.Remove(filepath.Join(dir, "PG_VERSION")); err != nil {
		t.Fatal(err)
	}
	// Now it is empty, and all is well.
	s, err := localpg.Start(t.Context(), localpg.Options{Dir: dir, Unsafe: true, Template: pgtest.Template(t)})
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Stop(t.Context()); err != nil {
		t.Fatal(err)
	}
	if left, err := filepath.Glob(filepath.Join(parent, ".*")); err != nil || len(left) > 0 {
		t.Error("left beside the directory:", left, err)
	}
	if err := os.WriteFile(filepath.Join(dir, "PG_VERSION"), []byte("12\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := localpg.Start(t.Context(), localpg.Options{Dir: dir, Unsafe: true, Template: pgtest.Template(t)}); err == nil || !strings.Contains(err.Error(), "was made by PostgreSQL 12") {
		t.Error(err)
	}
}

// Root writes into directories of another user here; that user must not be able to lead it elsewhere by a link.
func TestLinksOutOfTheDirectory(t *testing.T) {
	t.Parallel()
	s := pgtest.NewServer(t, nil)
	victim := filepath.Join(pgtest.Dir(t), "victim")
	if err := os.WriteFile(victim, []byte("precious"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"server.log", "localpg.conf.new"} {
		if err := s.StopImmediate(t.Context()); err != nil {
			t.Fatal(err)
		}
		file := filepath.Join(s.Dir(), name)
		if err := os.RemoveAll(file); err != nil {
			t.Fatal(err)
		}
		if err := os.Symlink(victim, file); err != nil {
			t.Fatal(err)
		}
		if err := s.Restart(t.Context()); err == nil {
			t.Errorf("%s led outside, and the server started", name)
		}
		if err := os.Remove(file); err != nil {
			t.Fatal(err)
		}
	}
	if b, err := os.ReadFile(victim); err != nil || string(b) != "precious" {
		t.Errorf("%q %v", b, err)
	}
}

func TestPortInUse(t *testing.T) {
	t.Parallel()
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	port := l.Addr().(*net.TCPAddr).Port
	s := pgtest.NewServer(t, nil)
	if err := s.Stop(t.Context()); err != nil {
		t.Fatal(err)
	}
	_, err = localpg.Start(t.Context(), localpg.Options{Dir: s.Dir(), Unsafe: true, Port: port, Name: "first"})
	if !errors.Is(err, localpg.ErrPortInUse) || !strings.Contains(err.Error(), "first: the port is in use: "+strconv.Itoa(port)) {
		t.Error(err)
	}
	nothingLeft(t, s.Dir())

	// A server that comes back waits for its port a little.
	own, err := net.Listen("tcp4", net.JoinHostPort("127.0.0.1", strconv.Itoa(s.Port())))
	if err != nil {
		t.Fatal(err)
	}
	time.AfterFunc(300*time.Millisecond, func() { own.Close() })
	if err := s.Restart(t.Context()); err != nil {
		t.Error(err)
	}
}

func TestPauseAndResume(t *testing.T) {
	t.Parallel()
	s := pgtest.NewServer(t, nil)
	conn := pgtest.Conn(t, s.URL("", ""))
	if err := s.Pause(); err != nil {
		t.Fatal(err)
	}
	answered := make(chan error, 1)
	go func() { answered <- conn.Ping(t.Context()) }()
	select {
	case err := <-answered:
		t.Error("a paused server answered", err)
	case <-time.After(150 * time.Millisecond):
	}
	if err := s.Resume(); err != nil {
		t.Fatal(err)
	}
	if err := <-answered; err != nil {
		t.Error(err)
	}
	for name, stop := range map[string]func() error{
		"Stop":          func() error { return s.Stop(t.Context()) },
		"StopImmediate": func() error { return s.StopImmediate(t.Context()) },
		"Kill":          s.Kill,
		"StopOrphan":    func() error { return localpg.StopOrphan(t.Context(), s.Dir()) },
	} {
		if err := s.Pause(); err != nil {
			t.Fatal(err)
		}
		if err := stop(); err != nil {
			t.Error(name, err)
		}
		nothingLeft(t, s.Dir())
		if err := s.Restart(t.Context()); err != nil {
			t.Fatal(name, err)
		}
	}
}

// Stop and Restart at the same time are as if one came after the other.
func TestStopWhileRestarting(t *testing.T) {
	t.Parallel()
	s := pgtest.NewServer(t, nil)
	for i := range 6 {
		var wg sync.WaitGroup
		wg.Go(func() {
			if err := s.Restart(t.Context()); err != nil {
				t.Error(err)
			}
		})
		wg.Go(func() {
			time.Sleep(time.Duration(i) * 15 * time.Millisecond)
			if err := s.Stop(t.Context()); err != nil {
				t.Error(err)
			}
			if err := s.Kill(); err != nil {
				t.Error(err)
			}
		})
		wg.Wait()
		if s.PID() == 0 {
			nothingLeft(t, s.Dir())
		}
	}
}

// Whenever a start is given up, no process is left, and the directory is absent or a whole cluster.
func TestCancelledStart(t *testing.T) {
	t.Parallel()
	parent := pgtest.Dir(t)
	template := localpg.NewTemplate(filepath.Join(parent, "template"))
	dir := filepath.Join(parent, "data")
	gaveUp := 0
	for i, after := range []time.Duration{0, 5, 50, 300, 700, 20, 60, 100, 120, 140, 160, 200, 300} {
		after *= time.Millisecond
		o := localpg.Options{Dir: dir, Unsafe: true}
		if i >= 5 {
			o.Template = template // copying, and beyond that the server's own start
		}
		ctx, cancel := context.WithTimeout(t.Context(), after)
		s, err := localpg.Start(ctx, o)
		cancel()
		if err == nil {
			err = s.StopImmediate(t.Context())
		} else if gaveUp++; !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("after %v: %v", after, err)
		} else {
			err = nil
		}
		if err != nil {
			t.Fatal(err)
		}
		nothingLeft(t, dir)
		nothingLeft(t, filepath.Join(parent, "template"))
		if left, err := filepath.Glob(filepath.Join(parent, ".*")); err != nil || len(left) > 0 {
			t.Errorf("after %v: left %v %v", after, left, err)
		}
		if _, err := os.Stat(dir); err == nil {
			if _, err := os.Stat(filepath.Join(dir, "localpg.conf")); err == nil {
				if err := localpg.Remove(dir); err != nil {
					t.Fatal(err)
				}
			}
		}
	}
	if gaveUp == 0 {
		t.Error("no start was given up")
	}
	s, err := localpg.Start(t.Context(), localpg.Options{Dir: dir, Unsafe: true, Template: template})
	if err != nil {
		t.Fatal(err)
	}
	// One that comes too late for the postmaster to be ready.
	if err := s.Kill(); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	time.AfterFunc(15*time.Millisecond, cancel)
	if err := s.Restart(ctx); err != nil && !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
	cancel()
	if err := s.StopImmediate(t.Context()); err != nil {
		t.Error(err)
	}
	nothingLeft(t, dir)
}

// A backend that hangs outlives its postmaster, and keeps the shared memory that a new one would need.
func TestChildrenOfADeadPostmaster(t *testing.T) {
	t.Parallel()
	linuxOnly(t)
	s := pgtest.NewServer(t, nil)
	conn := connect(t, s.URL("", ""))
	defer conn.Close(t.Context())
	backend := int(conn.PgConn().PID())
	if err := syscall.Kill(backend, syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Kill(s.PID(), syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	<-s.Done()
	err := s.Restart(t.Context()) // waits some seconds for it to go
	running := new(localpg.RunningError)
	if !errors.As(err, &running) || running.PID != 0 {
		t.Errorf("%v, want a RunningError without a pid", err)
	}
	if err := localpg.StopOrphan(t.Context(), s.Dir()); err != nil {
		t.Fatal(err)
	}
	nothingLeft(t, s.Dir())
	if err := s.Restart(t.Context()); err != nil {
		t.Fatal(err)
	}
}

// After a restart of a container the process ids are given out anew, and a pid file may name another server's. Where
// nobody reaps, it may name a zombie.
func TestStalePidFile(t *testing.T) {
	t.Parallel()
	linuxOnly(t)
	s, other := pgtest.NewServer(t, nil), pgtest.Server(t)
	do(t, s, "CREATE TABLE t AS SELECT 1 AS v")
	for name, pid := range map[string]int{"another server": other.PID(), "a zombie": zombie(t)} {
		if err := s.Kill(); err != nil {
			t.Fatal(err)
		}
		file := filepath.Join(s.Dir(), "postmaster.pid")
		b, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		_, rest, _ := strings.Cut(string(b), "\n")
		if err := os.WriteFile(file, []byte(strconv.Itoa(pid)+"\n"+rest), 0o600); err != nil {
			t.Fatal(err)
		}
		if pid, err := localpg.Running(s.Dir()); pid != 0 || err != nil {
			t.Errorf("%s: Running: %d %v", name, pid, err)
		}
		if err := s.Restart(t.Context()); !errors.Is(err, localpg.ErrRunning) {
			t.Errorf("%s: %v, want ErrRunning", name, err)
		}
		if err := localpg.StopOrphan(t.Context(), s.Dir()); err != nil {
			t.Fatal(name, err)
		}
		if err := s.Restart(t.Context()); err != nil {
			t.Fatal(name, err)
		}
		if got := show(t, s, "SELECT v::text FROM t"); got != "1" {
			t.Error(name, got)
		}
	}
	if other.PID() == 0 {
		t.Error("the other server was stopped")
	}
}

// zombie returns the id of a process of PostgreSQL's user that has exited and is reaped at the end of the test.
func zombie(t *testing.T) int {
	t.Helper()
	cmd := exec.Command("true")
	cmd.Dir = "/"
	if os.Geteuid() == 0 {
		uid, gid := postgresUser(t)
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: uid, Gid: gid}}
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := cmd.Wait(); err != nil {
			t.Error(err)
		}
	})
	return cmd.Process.Pid
}
