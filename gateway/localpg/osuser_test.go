package localpg_test

import (
	"bytes"
	"context"
	"io"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/shardgate/shardgate/gateway/localpg"
	"github.com/shardgate/shardgate/gateway/localpg/pgtest"
)

// What a process of this test binary does instead of running the tests.
const roleEnv = "SHARDGATE_LOCALPG_TEST_ROLE"

func TestMain(m *testing.M) {
	if os.Getenv(roleEnv) == "start and wait" {
		startAndWait()
	}
	pgtest.Main(m)
}

func linuxOnly(t *testing.T) {
	t.Helper()
	if runtime.GOOS != "linux" {
		t.Skip("is about what only Linux offers")
	}
}

// processesOf lists the processes that work in dir or name it on their command line, with that.
func processesOf(t *testing.T, dir string) []string {
	t.Helper()
	if runtime.GOOS != "linux" {
		out, err := exec.Command("ps", "-A", "-o", "pid=,args=").Output()
		if err != nil {
			t.Fatal(err)
		}
		var found []string
		for line := range strings.Lines(string(out)) {
			if strings.Contains(line, dir) {
				found = append(found, line)
			}
		}
		return found
	}
	files, err := filepath.Glob("/proc/[0-9]*")
	if err != nil {
		t.Fatal(err)
	}
	var found []string
	for _, proc := range files {
		args, err := os.ReadFile(filepath.Join(proc, "cmdline"))
		if err != nil || len(args) == 0 {
			continue // gone, or a zombie
		}
		cwd, _ := os.Readlink(filepath.Join(proc, "cwd"))
		if strings.Contains(string(args), dir) || strings.HasPrefix(cwd, dir) {
			found = append(found, filepath.Base(proc)+": "+strings.ReplaceAll(string(args), "\x00", " "))
		}
	}
	return found
}

func rootOnly(t *testing.T) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("is about being root")
	}
}

func TestParentsThatTheOSUserCannotPass(t *testing.T) {
	t.Parallel()
	rootOnly(t)
	parent := filepath.Join(pgtest.Dir(t), "closed")
	if err := os.Mkdir(parent, 0o700); err != nil {
		t.Fatal(err)
	}
	dir := filepath.Join(parent, "data")
	_, err := localpg.Start(t.Context(), localpg.Options{Dir: dir, Unsafe: true})
	if err == nil || !strings.Contains(err.Error(), "user postgres, as whom PostgreSQL runs, can't pass through "+parent+" (mode 0700)") {
		t.Fatal(err)
	}
	if left, err := os.ReadDir(parent); err != nil || len(left) > 0 {
		t.Error("left behind:", left, err)
	}
	if err := os.Chmod(parent, 0o711); err != nil {
		t.Fatal(err)
	}
	s, err := localpg.Start(t.Context(), localpg.Options{Dir: dir, Unsafe: true, Template: pgtest.Template(t)})
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Stop(t.Context()); err != nil {
		t.Fatal(err)
	}
	// The same when the cluster is there already.
	if err := os.Chmod(parent, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := s.Restart(t.Context()); err == nil || !strings.Contains(err.Error(), "can't pass through "+parent) {
		t.Error(err)
	}
}

func TestDirectoryOfAnotherUser(t *testing.T) {
	t.Parallel()
	rootOnly(t)
	s := pgtest.NewServer(t, nil)
	if err := s.Stop(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := os.Chown(s.Dir(), 0, 0); err != nil {
		t.Fatal(err)
	}
	_, err := localpg.Start(t.Context(), localpg.Options{Dir: s.Dir(), Unsafe: true})
	if err == nil || !strings.Contains(err.Error(), "belongs to user id 0, and PostgreSQL is to run as postgres") {
		t.Error(err)
	}
	for name, want := range map[string]string{"root": "user root is root", "no-such-user": "unknown user no-such-user"} {
		if _, err := localpg.Start(t.Context(), localpg.Options{Dir: s.Dir(), OSUser: name}); err == nil || !strings.Contains(err.Error(), want) {
			t.Error(err)
		}
	}
}

// A server that does not come up says why, and leaves nothing.
func TestServerThatDoesNotComeUp(t *testing.T) {
	t.Parallel()
	s := pgtest.NewServer(t, nil)
	if err := s.Stop(t.Context()); err != nil {
		t.Fatal(err)
	}
	unwritable := filepath.Join(pgtest.Dir(t), "sockets")
	if err := os.Mkdir(unwritable, 0o500); err != nil {
		t.Fatal(err)
	}
	for want, o := range map[string]localpg.Options{
		"sockets/.s.PGSQL.": {SocketDir: unwritable},
		`unrecognized configuration parameter "no_such"`:       {Settings: map[string]string{"no_such": "1"}},
		`outside the valid range for parameter "max_wal_size"`: {Settings: map[string]string{"max_wal_size": "-1"}},
	} {
		o.Dir, o.Unsafe = s.Dir(), true
		if _, err := localpg.Start(t.Context(), o); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v, want %s", err, want)
		}
		nothingLeft(t, s.Dir())
	}
	_, err := localpg.Start(t.Context(), localpg.Options{Dir: filepath.Join(s.Dir(), "PG_VERSION", "data")})
	if err == nil || !strings.Contains(err.Error(), "not a directory") {
		t.Error(err)
	}
}

// The tests run as root in containers; this runs what matters of them again as anybody else would.
func TestAsAnOrdinaryUser(t *testing.T) {
	t.Parallel()
	rootOnly(t)
	dir := pgtest.Dir(t)
	self := copyOfSelf(t, dir)
	uid, gid := postgresUser(t)
	cmd := exec.CommandContext(t.Context(), self, "-test.run", "^(TestStopAndRestart|TestUnwritableDirectory|TestLiveServerIsNotAdopted)$", "-test.v")
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), "TMPDIR="+dir, "HOME="+dir)
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: uid, Gid: gid}}
	out, err := cmd.CombinedOutput()
	if err != nil || bytes.Count(out, []byte("--- PASS")) != 3 {
		t.Errorf("%v\n%s", err, out)
	}
}

func postgresUser(t *testing.T) (uid, gid uint32) {
	t.Helper()
	u, err := user.Lookup("postgres")
	if err != nil {
		t.Fatal(err)
	}
	number := func(id string) uint32 {
		n, err := strconv.ParseUint(id, 10, 32)
		if err != nil {
			t.Fatal(err)
		}
		return uint32(n)
	}
	return number(u.Uid), number(u.Gid)
}

func TestUnwritableDirectory(t *testing.T) {
	if os.Geteuid() == 0 {
		t.Skip("root may write anywhere; TestAsAnOrdinaryUser runs this")
	}
	dir := pgtest.Dir(t)
	if err := os.Chmod(dir, 0o500); err != nil {
		t.Fatal(err)
	}
	_, err := localpg.Start(t.Context(), localpg.Options{Dir: filepath.Join(dir, "data"), Unsafe: true})
	if err == nil || !strings.Contains(err.Error(), "permission denied") || !strings.Contains(err.Error(), dir) {
		t.Error(err)
	}
}

// copyOfSelf copies the test binary to where other users can run it.
func copyOfSelf(t *testing.T, dir string) string {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	in, err := os.Open(self)
	if err != nil {
		t.Fatal(err)
	}
	defer in.Close()
	to := filepath.Join(dir, "localpg.test")
	out, err := os.OpenFile(to, os.O_CREATE|os.O_WRONLY, 0o755)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.Copy(out, in); err != nil {
		t.Fatal(err)
	}
	if err := out.Close(); err != nil {
		t.Fatal(err)
	}
	return to
}

// startAndWait starts the server in the directory that is the process's last argument, and waits to be killed.
func startAndWait() {
	s, err := localpg.Start(context.Background(), localpg.Options{Dir: os.Args[len(os.Args)-1], Unsafe: true})
	if err != nil {
		os.Stdout.WriteString(err.Error() + "\n")
		os.Exit(1)
	}
	os.Stdout.WriteString("up\n")
	<-s.Done()
	os.Exit(0)
}

// A process that is killed takes its servers with it on Linux, and they shut down in order.
func TestServersEndWithTheirParent(t *testing.T) {
	t.Parallel()
	linuxOnly(t)
	dir := filepath.Join(pgtest.Dir(t), "data")
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(self, dir)
	cmd.Env = append(os.Environ(), roleEnv+"=start and wait")
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	line := make([]byte, 3)
	_, readErr := io.ReadFull(stdout, line)
	pid, err := localpg.Running(dir)
	if readErr != nil || err != nil || pid == 0 {
		t.Errorf("%q %v; pid %d %v", line, readErr, pid, err)
	}
	if group, err := syscall.Getpgid(pid); err != nil || group != pid {
		t.Errorf("the postmaster %d is in process group %d (%v)", pid, group, err)
	}
	if err := cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = cmd.Wait() // "signal: killed"
	for deadline := time.Now().Add(10 * time.Second); len(processesOf(t, dir)) > 0; {
		if time.Now().After(deadline) {
			nothingLeft(t, dir)
			if err := localpg.StopOrphan(t.Context(), dir); err != nil {
				t.Error(err)
			}
			break
		}
		time.Sleep(20 * time.Millisecond)
	}
	log, err := os.ReadFile(filepath.Join(dir, "server.log"))
	if err != nil || !strings.Contains(string(log), "database system is shut down") {
		t.Errorf("no orderly shutdown: %v\n%s", err, log)
	}
}
