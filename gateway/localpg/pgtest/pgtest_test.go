package pgtest_test

import (
	"bufio"
	"context"
	"errors"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
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

func TestMain(m *testing.M) { pgtest.Main(m) }

func TestServersAreShared(t *testing.T) {
	servers := pgtest.Servers(t, 3)
	if pgtest.Server(t) != servers[0] || pgtest.Servers(t, 2)[1] != servers[1] {
		t.Error("other servers than before")
	}
	ports := map[int]bool{}
	for _, s := range servers {
		ports[s.Port()] = true
	}
	if len(ports) != 3 {
		t.Error(ports)
	}
	goleak.VerifyNone(t, append(pgtest.IgnoreServers(), goleak.IgnoreTopFunction("testing.(*T).Run"))...)
}

func TestSharedServerComesBack(t *testing.T) {
	s := pgtest.Server(t)
	url := pgtest.Database(t, s)
	if err := s.Kill(); err != nil {
		t.Fatal(err)
	}
	if again := pgtest.Server(t); again != s || s.PID() == 0 {
		t.Error("a killed shared server was not started again")
	}
	pgtest.Conn(t, url)
}

// A database goes with whatever a test left in it.
func TestDatabaseIsDropped(t *testing.T) {
	servers := pgtest.Servers(t, 2)
	var name string
	var left []*pgx.Conn
	t.Run("Uses/A Größe", func(t *testing.T) {
		var urls []string
		name, urls = pgtest.Databases(t, servers...)
		other, _ := pgtest.Databases(t, servers[0])
		if name == other || !strings.HasPrefix(name, "testdatabaseisdropped_uses_a_gr__e_") {
			t.Error(name, other)
		}
		for _, url := range urls {
			conn, err := pgx.Connect(t.Context(), url) // not closed
			if err != nil {
				t.Fatal(err)
			}
			left = append(left, conn)
			for _, sql := range []string{"CREATE TABLE t (v int)", "BEGIN", "INSERT INTO t VALUES (1)", "PREPARE TRANSACTION 'it''s left'"} {
				if _, err := conn.Exec(t.Context(), sql); err != nil {
					t.Fatal(err)
				}
			}
		}
	})
	for i, s := range servers {
		if err := left[i].Ping(t.Context()); err == nil {
			t.Error("a session outlived its database")
		}
		var n int
		conn := pgtest.Conn(t, s.URL("", ""))
		if err := conn.QueryRow(t.Context(), "SELECT count(*) FROM pg_database WHERE datname = $1", name).Scan(&n); err != nil || n != 0 {
			t.Error(n, err)
		}
	}
}

func TestOwnServerIsRemoved(t *testing.T) {
	var s *localpg.Server
	t.Run("uses", func(t *testing.T) {
		s = pgtest.NewServer(t, func(o *localpg.Options) { o.Settings = map[string]string{"work_mem": "3MB"} })
		var v string
		if err := pgtest.Conn(t, s.URL("", "")).QueryRow(t.Context(), "SHOW work_mem").Scan(&v); err != nil || v != "3MB" {
			t.Error(v, err)
		}
	})
	if _, err := os.Stat(s.Dir()); !errors.Is(err, fs.ErrNotExist) || s.PID() != 0 {
		t.Errorf("pid %d, directory: %v", s.PID(), err)
	}
}

// endingEnv makes TestEnding, in a process of its own, end as it says.
const endingEnv = "SHARDGATE_PGTEST_ENDING"

func TestEnding(t *testing.T) {
	how := os.Getenv(endingEnv)
	if how == "" {
		t.Skip("is run by TestNothingOutlivesTheTests")
	}
	s := pgtest.NewServer(t, nil)
	os.Stdout.WriteString("DIR " + s.Dir() + "\n")
	switch how {
	case "return":
	case "fail":
		t.Fatal("as asked")
	case "panic":
		panic("as asked")
	case "panic elsewhere":
		go panic("as asked")
		select {}
	case "exit":
		os.Exit(3)
	case "killed server":
		if err := s.Kill(); err != nil {
			t.Fatal(err)
		}
		os.Exit(3)
	case "leak":
		go func() { select {} }()
	default: // wait for a signal
		time.Sleep(time.Minute)
	}
}

// However the process of the tests ends, nothing is left of it.
func TestNothingOutlivesTheTests(t *testing.T) {
	for how, c := range map[string]struct {
		signal syscall.Signal
		passes bool
		says   string
	}{
		"return":          {passes: true},
		"fail":            {says: "ready to accept connections"}, // the server's log
		"panic":           {says: "panic: as asked"},
		"panic elsewhere": {says: "panic: as asked"},
		"exit":            {},
		"killed server":   {},
		"leak":            {says: "the tests left goroutines behind"},
		"SIGKILL":         {signal: syscall.SIGKILL},
		"SIGINT":          {signal: syscall.SIGINT},
		"SIGTERM":         {signal: syscall.SIGTERM},
	} {
		t.Run(how, func(t *testing.T) {
			t.Parallel()
			enough <- struct{}{}
			defer func() { <-enough }()
			dir, out, err := runEnding(t, how, c.signal)
			if (err == nil) != c.passes || !strings.Contains(out, c.says) {
				t.Errorf("%v\n%s", err, out)
			}
			gone(t, filepath.Dir(dir))
		})
	}
}

// enough bounds how many of these processes run at the same time.
var enough = make(chan struct{}, 4)

// runEnding runs TestEnding, sends it the signal when its server is up, and returns the server's directory and what
// the process wrote.
func runEnding(t *testing.T, how string, sig syscall.Signal) (dir, out string, err error) {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	cmd := exec.CommandContext(ctx, self, "-test.run", "^TestEnding$", "-test.v")
	cmd.Env = append(os.Environ(), endingEnv+"="+how)
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	cmd.Stdout, cmd.Stderr = w, w
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	_ = w.Close() // the process has its own
	var text strings.Builder
	// The output ends when all have closed it: servers and janitor must not hold it, or `go test` would wait for them.
	for lines := bufio.NewScanner(r); lines.Scan(); {
		text.WriteString(lines.Text() + "\n")
		if at, ok := strings.CutPrefix(lines.Text(), "DIR "); ok {
			if dir = at; sig != 0 {
				if err := cmd.Process.Signal(sig); err != nil {
					t.Error(err)
				}
			}
		}
	}
	if err = cmd.Wait(); dir == "" {
		t.Fatalf("%v\n%s", err, text.String())
	}
	return dir, text.String(), err
}

// gone waits until a directory is gone, and with it the servers in it, since the janitor stops them before.
func gone(t *testing.T, root string) {
	t.Helper()
	for deadline := time.Now().Add(15 * time.Second); ; time.Sleep(20 * time.Millisecond) {
		if _, err := os.Stat(root); errors.Is(err, fs.ErrNotExist) {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("%s is still there", root)
		}
	}
}

func TestDatabasesInParallel(t *testing.T) {
	s := pgtest.Server(t)
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() { pgtest.Database(t, s) })
	}
	wg.Wait()
}
