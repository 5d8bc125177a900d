// Package pgtest gives tests real PostgreSQL servers: a package's tests share some, each test has a database of its
// own, and a test that must break a server has one to itself. The server's log is shown when a test fails. When
// PostgreSQL is not installed the test fails and says what to install; it is never skipped.
//
// Whatever ends the test process, a panic, a timeout, Ctrl-C or kill -9, its servers and their files are removed: by
// Main when the tests end by themselves, otherwise by the process that janitor.go describes.
//
// The files are below TMPDIR. If that is not set, they are in memory on a Linux machine that has plenty of it.
package pgtest

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/user"
	"path/filepath"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/shardgate/shardgate/gateway/localpg"
)

const (
	startTimeout = 90 * time.Second // of a server, on a machine that runs many tests
	stopTimeout  = 15 * time.Second // then it is killed
	tailLines    = 60               // of the log, shown when a test fails
)

// Main runs a package's tests, stops the servers, removes their files, and reports goroutines that the tests have left
// behind. It does not return.
//
//	func TestMain(m *testing.M) { pgtest.Main(m) }
func Main(m *testing.M) {
	code := m.Run()
	if err := shared.close(); err != nil {
		fmt.Fprintln(os.Stderr, "pgtest:", err)
		code = max(code, 1)
	}
	if code == 0 {
		if err := goleak.Find(); err != nil {
			fmt.Fprintln(os.Stderr, "pgtest: the tests left goroutines behind:", err)
			code = 1
		}
	}
	os.Exit(code)
}

// IgnoreServers are the options with which goleak.VerifyNone in a test overlooks the servers, one goroutine each, that
// other tests go on using.
func IgnoreServers() []goleak.Option {
	return []goleak.Option{
		goleak.IgnoreAnyFunction("github.com/shardgate/shardgate/gateway/localpg.(*process).own"),
	}
}

// shared is what the tests of a process have in common.
var shared = &state{}

type state struct {
	mu       sync.Mutex
	root     string            // directory of everything; "" until it is needed
	janitor  *janitor          // cleans up if we can't
	template *localpg.Template // below root
	servers  []*slot
}

// slot is the place of one shared server.
type slot struct {
	mu     sync.Mutex
	server *localpg.Server // nil until it is first used
}

// open makes the directory, on first use.
func (st *state) open() (string, *localpg.Template, error) {
	st.mu.Lock()
	defer st.mu.Unlock()
	if st.root != "" {
		return st.root, st.template, nil
	}
	root, err := os.MkdirTemp(place(), "shardgate-pgtest-")
	if err != nil {
		return "", nil, err
	}
	if os.Geteuid() == 0 {
		// Servers run as another user then, who must be able to pass.
		if err := os.Chmod(root, 0o711); err != nil {
			return "", nil, errors.Join(err, os.RemoveAll(root))
		}
	}
	if st.janitor, err = startJanitor(root); err != nil {
		return "", nil, errors.Join(err, os.RemoveAll(root))
	}
	st.root, st.template = root, localpg.NewTemplate(filepath.Join(root, "template"))
	return st.root, st.template, nil
}

// slots returns the first n places for shared servers.
func (st *state) slots(n int) []*slot {
	st.mu.Lock()
	defer st.mu.Unlock()
	for len(st.servers) < n {
		st.servers = append(st.servers, &slot{})
	}
	return st.servers[:n:n]
}

// close stops the shared servers and removes everything.
func (st *state) close() error {
	st.mu.Lock()
	defer st.mu.Unlock()
	if st.root == "" {
		return nil
	}
	errs := make([]error, len(st.servers))
	var wg sync.WaitGroup
	for i, sl := range st.servers {
		wg.Go(func() {
			if sl.server != nil {
				errs[i] = discard(sl.server)
			}
		})
	}
	wg.Wait()
	ctx, cancel := context.WithTimeout(context.Background(), stopTimeout)
	defer cancel()
	err := errors.Join(append(errs, removeAll(ctx, st.root), st.janitor.dismiss())...)
	st.root, st.template, st.janitor, st.servers = "", nil, nil, nil
	return err
}

// discard ends a server whose data nobody needs any more, and removes them.
func discard(s *localpg.Server) error {
	ctx, cancel := context.WithTimeout(context.Background(), stopTimeout)
	defer cancel()
	if err := s.StopImmediate(ctx); err != nil {
		return err
	}
	return localpg.Remove(s.Dir())
}

// get returns the shared server of a slot, starting it if it does not run.
func (sl *slot) get(ctx context.Context, name string) (*localpg.Server, error) {
	sl.mu.Lock()
	defer sl.mu.Unlock()
	if sl.server != nil {
		if sl.server.PID() != 0 {
			return sl.server, nil
		}
		// An earlier test has stopped or killed it.
		return sl.server, sl.server.Restart(ctx)
	}
	root, template, err := shared.open()
	if err != nil {
		return nil, err
	}
	sl.server, err = localpg.Start(ctx, localpg.Options{
		Dir: filepath.Join(root, name), Name: name, Unsafe: true, Template: template,
	})
	return sl.server, err
}

// Server returns the package's shared server, which is started on first use. It is the first one of Servers. A test
// that changes the server as a whole, rather than a database of its own, uses NewServer.
func Server(tb testing.TB) *localpg.Server {
	tb.Helper()
	return Servers(tb, 1)[0]
}

// Servers returns n shared servers, started in parallel on first use. The same n, or a smaller one, gives the same
// servers again. The tails of their logs are shown if the test fails.
func Servers(tb testing.TB, n int) []*localpg.Server {
	tb.Helper()
	ctx, cancel := context.WithTimeout(tb.Context(), startTimeout)
	defer cancel()
	servers := make([]*localpg.Server, n)
	errs := make([]error, n)
	var wg sync.WaitGroup
	for i, sl := range shared.slots(n) {
		wg.Go(func() { servers[i], errs[i] = sl.get(ctx, fmt.Sprintf("shard%d", i+1)) })
	}
	wg.Wait()
	if err := errors.Join(errs...); err != nil {
		tb.Fatal(err)
	}
	for _, s := range servers {
		showLog(tb, s)
	}
	return servers
}

// Template returns what the package's servers are copied from, for tests that call localpg.Start themselves.
func Template(tb testing.TB) *localpg.Template {
	tb.Helper()
	_, template, err := shared.open()
	if err != nil {
		tb.Fatal(err)
	}
	return template
}

var newServers atomic.Int64

// NewServer starts a server of the test's own, which is stopped and removed at its end. f may change the options, and
// may be nil; a Dir that it sets is left to the caller to remove (see Dir).
func NewServer(tb testing.TB, f func(*localpg.Options)) *localpg.Server {
	tb.Helper()
	root, template, err := shared.open()
	if err != nil {
		tb.Fatal(err)
	}
	name := "own" + strconv.FormatInt(newServers.Add(1), 10)
	ours := filepath.Join(root, name)
	o := localpg.Options{Dir: ours, Name: name, Unsafe: true, Template: template}
	if f != nil {
		f(&o)
	}
	ctx, cancel := context.WithTimeout(tb.Context(), startTimeout)
	defer cancel()
	s, err := localpg.Start(ctx, o)
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() {
		if o.Dir == ours {
			err = discard(s)
		} else {
			ctx, cancel := context.WithTimeout(context.Background(), stopTimeout)
			defer cancel()
			err = s.StopImmediate(ctx)
		}
		if err != nil {
			tb.Error(err)
		}
	})
	showLog(tb, s) // registered last, so that the log is still there when it runs
	return s
}

// Dir returns a fresh, empty directory that PostgreSQL's OS user can reach and write to, which a directory of
// testing's TempDir is not when the tests run as root. At the end of the test it is removed, and servers that still run
// in it are stopped.
func Dir(tb testing.TB) string {
	tb.Helper()
	root, _, err := shared.open()
	if err != nil {
		tb.Fatal(err)
	}
	dir, err := os.MkdirTemp(root, "dir-")
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), stopTimeout)
		defer cancel()
		if err := removeAll(ctx, dir); err != nil {
			tb.Error(err)
		}
	})
	if os.Geteuid() == 0 {
		if err := giveTo("postgres", dir); err != nil {
			tb.Fatal(err)
		}
	}
	return dir
}

func giveTo(name, dir string) error {
	u, err := user.Lookup(name)
	if err != nil {
		return err
	}
	uid, err := strconv.Atoi(u.Uid)
	if err != nil {
		return err
	}
	gid, err := strconv.Atoi(u.Gid)
	if err != nil {
		return err
	}
	return os.Chown(dir, uid, gid)
}

// shown holds which test shows which server's log, so that it does so once.
var shown sync.Map

func showLog(tb testing.TB, s *localpg.Server) {
	type key struct {
		tb testing.TB
		s  *localpg.Server
	}
	k := key{tb, s}
	if _, again := shown.LoadOrStore(k, true); again {
		return
	}
	tb.Cleanup(func() {
		shown.Delete(k)
		if tb.Failed() {
			tb.Logf("log of %s:\n%s", s.Name(), s.LogTail(tailLines))
		}
	})
}
