package target

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/shardgate/shardgate/bench/measure"
	"github.com/shardgate/shardgate/gateway/localpg/pgtest"
)

// holderVariable makes the test binary start the embedded targets and wait to be killed.
const holderVariable = "SHARDGATE_BENCH_HOLDER"

func TestMain(m *testing.M) {
	Main()
	if os.Getenv(holderVariable) != "" {
		hold()
	}
	pgtest.Main(m)
}

func hold() {
	e, err := Start(context.Background(), Options{Shards: 1, Unsafe: true, Log: os.Stderr})
	if err != nil {
		fmt.Println(err)
		os.Exit(1)
	}
	for _, p := range parts(e) {
		fmt.Print(p.CPU.PID, " ")
	}
	fmt.Println()
	select {}
}

func parts(e *Embedded) (list []Part) {
	for _, t := range e.Targets {
		list = append(list, t.Parts...)
	}
	return list
}

// inTestDir makes temporary files those of the test.
func inTestDir(t *testing.T) string {
	dir := pgtest.Dir(t)
	t.Setenv("TMPDIR", dir)
	return dir
}

// endsSoon waits until no process of the list is left, nor any file in dir.
func endsSoon(t *testing.T, pids []int, dir string) {
	t.Helper()
	deadline := time.Now().Add(15 * time.Second)
	for {
		var left []string
		for _, pid := range pids {
			if _, err := (measure.CPU{PID: pid}).Used(); err == nil && !zombie(pid) {
				left = append(left, fmt.Sprintf("process %d", pid))
			}
		}
		files, err := filepath.Glob(filepath.Join(dir, "shardgate-bench-*"))
		if err != nil {
			t.Fatal(err)
		}
		if left = append(left, files...); len(left) == 0 {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("left behind: %v", left)
		}
		time.Sleep(20 * time.Millisecond)
	}
}

func zombie(pid int) bool {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	return err == nil && strings.Contains(string(b), ") Z ")
}

// All embedded targets answer, the processes that are counted are theirs, a profile is
// written, and nothing is left at the end.
func TestEmbedded(t *testing.T) {
	dir := inTestDir(t)
	o := Options{Shards: 2, Unsafe: true, Relay: true, Clients: 4, Log: t.Output()}
	want := []string{Shardgate, Postgres, Relay}
	if _, err := findPgBouncer(); err == nil {
		o.PgBouncer = true
		want = []string{Shardgate, Postgres, PgBouncer, Relay}
	}
	e, err := Start(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	defer e.Stop()
	if len(e.Targets) != len(want) {
		t.Fatalf("%d targets in place of %v", len(e.Targets), want)
	}
	var pids []int
	for i, tg := range e.Targets {
		if tg.Name != want[i] || !tg.Store.Own || (tg.Name != Postgres) != tg.Has(Gateway) || !tg.Has(Server) {
			t.Errorf("target %d: %+v", i, tg)
		}
		if shards := len(tg.Store.Servers); (tg.Name == Shardgate) != (shards == 2) {
			t.Errorf("%s: %d servers", tg.Name, shards)
		}
		ask(t, tg.URL)
		for _, p := range tg.Parts {
			pids = append(pids, p.CPU.PID)
			if used, err := p.CPU.Used(); err != nil || used <= 0 {
				t.Errorf("%s of %s: %v, %v", p.Name, tg.Name, used, err)
			}
		}
	}
	if e.Targets[1].Store != e.Targets[len(want)-1].Store {
		t.Error("the relay has a store of its own")
	}
	if e.Versions["postgresql"] == "" || e.Settings["fsync"] != "off" {
		t.Errorf("%v, %v", e.Versions, e.Settings)
	}
	profile(t, e, filepath.Join(t.TempDir(), "cpu.pprof"))
	e.Stop()
	e.Stop()
	endsSoon(t, pids, dir)
}

func ask(t *testing.T, url string) {
	t.Helper()
	conn, err := pgconn.Connect(t.Context(), url)
	if err != nil {
		t.Error(err)
		return
	}
	defer conn.Close(t.Context())
	if r, err := conn.Exec(t.Context(), "SELECT 6 * 7").ReadAll(); err != nil || string(r[0].Rows[0][0]) != "42" {
		t.Errorf("%v, %v", r, err)
	}
}

func profile(t *testing.T, e *Embedded, file string) {
	t.Helper()
	ctx := t.Context()
	if err := e.StopProfile(ctx); err == nil {
		t.Error("a profile was ended that had not begun")
	}
	if err := e.Profile(ctx, file); err != nil {
		t.Fatal(err)
	}
	if err := e.Profile(ctx, file); err == nil {
		t.Error("two profiles at once")
	}
	if err := e.StopProfile(ctx); err != nil {
		t.Fatal(err)
	}
	if fi, err := os.Stat(file); err != nil || fi.Size() == 0 {
		t.Errorf("no profile: %v", err)
	}
	if err := e.Profile(ctx, "two\nlines"); err == nil {
		t.Error("an order of two lines")
	}
}

// Without PgBouncer, Start says what to install.
func TestNoPgBouncer(t *testing.T) {
	if !strings.Contains(ErrNoPgBouncer.Error(), "apt-get install pgbouncer") {
		t.Error(ErrNoPgBouncer)
	}
	inTestDir(t)
	if _, err := findPgBouncer(); err == nil {
		return // TestEmbedded has started it
	}
	if _, err := Start(t.Context(), Options{Shards: 1, Unsafe: true, PgBouncer: true}); err == nil || !strings.Contains(err.Error(), ErrNoPgBouncer.Error()) {
		t.Errorf("%v", err)
	}
}

func TestPgBouncerVersions(t *testing.T) {
	for version, want := range map[string]bool{"1.18.0": false, "1.20.1": false, "1.21.0": true, "1.25.0": true, "2.0": true, "what": false} {
		if got := (&pgbouncer{version: version}).prepares(); got != want {
			t.Errorf("%s: %v", version, got)
		}
	}
}

// A benchmark that is killed leaves no process and no file.
func TestKilled(t *testing.T) {
	dir := inTestDir(t)
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), holderVariable+"=1")
	cmd.Stderr = t.Output()
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	line, err := bufio.NewReader(out).ReadString('\n')
	killErr := cmd.Process.Kill()
	io.Copy(io.Discard, out)
	cmd.Wait()
	if err != nil || killErr != nil {
		t.Fatal(err, killErr)
	}
	var pids []int
	for _, field := range strings.Fields(line) {
		var pid int
		if _, err := fmt.Sscan(field, &pid); err != nil {
			t.Fatalf("the process said %q", line)
		}
		pids = append(pids, pid)
	}
	if len(pids) != 3 {
		t.Fatalf("the process said %q", line)
	}
	endsSoon(t, pids, dir)
}

// Start that is interrupted ends what it has begun.
func TestStartInterrupted(t *testing.T) {
	dir := inTestDir(t)
	ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer cancel()
	if e, err := Start(ctx, Options{Shards: 2, Unsafe: true}); err == nil {
		e.Stop()
		t.Fatal("the whole start took less than 300 ms")
	}
	endsSoon(t, nil, dir)
}

func TestForeign(t *testing.T) {
	list, err := Foreign(nil, []string{"a=postgres://h/d?x=y", "b=postgres://h2/d"}, []string{"b=postgres://s1/d", "b=postgres://s2/d"}, []string{"a=17"}, []string{"b=http://h2/metrics"})
	if err != nil {
		t.Fatal(err)
	}
	if len(list) != 2 || list[0].URL != "postgres://h/d?x=y" || list[0].Store.Own || list[0].Parts[0].CPU.PID != 17 || len(list[1].Store.Servers) != 2 {
		t.Errorf("%+v", list)
	}
	for _, c := range []struct {
		targets, servers, pids []string
		want                   string
	}{
		{[]string{"postgres://h/d"}, nil, nil, "name=value"},
		{[]string{"a=x", "a=y"}, nil, nil, "taken"},
		{[]string{"shardgate=x"}, nil, nil, "taken"},
		{[]string{"a=postgres://u:secret@h:port/d\x01"}, nil, nil, "can't be read"},
		{[]string{"a=x"}, []string{"b=y"}, nil, "no --target"},
		{[]string{"a=x"}, nil, []string{"b=1"}, "no --target"},
		{[]string{"a=x"}, nil, []string{"a=one"}, "no process id"},
	} {
		_, err := Foreign(Names, c.targets, c.servers, c.pids, nil)
		if err == nil || !strings.Contains(err.Error(), c.want) || strings.Contains(err.Error(), "secret") {
			t.Errorf("%v: %v", c, err)
		}
	}
}

// What a process logged last is kept.
func TestLogEnd(t *testing.T) {
	var l logEnd
	for i := range 5000 {
		if n, err := fmt.Fprintf(&l, "line %d\n", i); n == 0 || err != nil {
			t.Fatal(err)
		}
	}
	if text := l.String(); len(text) != logEndBytes || !strings.HasSuffix(text, "line 4998\nline 4999\n") {
		t.Errorf("%d bytes: %.40q", len(text), text)
	}
}
