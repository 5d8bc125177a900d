package localpg

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"
)

// Options say what server to start. Only Dir must be given.
type Options struct {
	Dir       string            // data directory; made by initdb if it is empty or absent. Also holds the log, server.log
	Port      int               // 0: a free loopback port is chosen
	SocketDir string            // also listen on a Unix socket there; made if absent. "": TCP loopback only
	Superuser string            // "" : postgres. Matters when the cluster is made
	OSUser    string            // the OS user to run as when we are root; "": postgres. Not looked at otherwise
	Settings  map[string]string // postgresql.conf settings on top of the defaults; the server reads them at each start
	HBA       []string          // lines that replace pg_hba.conf; nil: it stays, and a new one trusts everybody on this machine
	Unsafe    bool              // no fsync: data survive a kill of the server, but not a crash of the machine
	Name      string            // for logs and errors; "": the last element of Dir
	Install   Install           // the binaries; zero: what Find returns
	Template  *Template         // where to copy a new cluster from, if Unsafe; nil: initdb is run
	Logger    *slog.Logger      // progress; nil: none

	// StartTimeout bounds Start and Restart, initdb and crash recovery included. 0: two minutes.
	StartTimeout time.Duration
}

// complete returns a copy with the defaults filled in and the paths absolute.
func (o Options) complete() (Options, error) {
	if o.Dir == "" {
		return o, errors.New("no data directory given")
	}
	var err error
	if o.Dir, err = filepath.Abs(o.Dir); err != nil {
		return o, err
	}
	// The postmaster knows its directory by the real path, and a link can't be replaced by a directory.
	if real, err := filepath.EvalSymlinks(o.Dir); err == nil {
		o.Dir = real
	}
	if o.SocketDir != "" {
		if o.SocketDir, err = filepath.Abs(o.SocketDir); err != nil {
			return o, err
		}
	}
	if o.Port < 0 || o.Port > 65535 {
		return o, fmt.Errorf("port %d", o.Port)
	}
	if o.Superuser == "" {
		o.Superuser = "postgres"
	}
	if o.OSUser == "" {
		o.OSUser = "postgres"
	}
	if o.Name == "" {
		o.Name = filepath.Base(o.Dir)
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	if o.StartTimeout == 0 {
		o.StartTimeout = 2 * time.Minute
	}
	if o.Install == (Install{}) {
		if o.Install, err = Find(); err != nil {
			return o, err
		}
	}
	return o, checkSettings(o.Settings)
}

func (o *Options) boundStart(ctx context.Context) (context.Context, context.CancelFunc) {
	cause := fmt.Errorf("not up after %v: %w", o.StartTimeout, context.DeadlineExceeded)
	return context.WithTimeoutCause(ctx, o.StartTimeout, cause)
}

// Server is a PostgreSQL server that this process has started. Its methods may be called by several goroutines; those
// that end the server first wait for a Restart that is under way.
type Server struct {
	opts    Options
	user    *osUser
	port    int
	logFrom int64 // where in the log file this Server's text begins

	restart chan struct{} // holds one token, which Restart takes; a mutex that can be waited for under a context

	mu     sync.Mutex // protects what is below
	run    *process   // the current run, or the last one
	frozen bool       // by Pause
}

// Start makes a cluster in o.Dir if there is none, starts a server on it and returns when it accepts connections.
// The caller must Stop it. ctx is for the start only.
//
// The error matches ErrNotInstalled, ErrRunning if a postmaster works in the directory (see StopOrphan),
// ErrNotCluster, or ErrPortInUse; that of a server which did not come up ends with what it had logged. After an error
// no process is left, and o.Dir is as it was or holds a whole cluster.
//
// Several servers may be started at the same time by goroutines of the caller.
func Start(ctx context.Context, o Options) (*Server, error) {
	s, err := start(ctx, o)
	if running := new(RunningError); errors.As(err, &running) {
		return nil, err // says it all
	}
	if err != nil {
		name := o.Name
		if name == "" {
			name = filepath.Base(o.Dir)
		}
		return nil, fmt.Errorf("localpg: starting %s: %w", name, err)
	}
	return s, nil
}

func start(ctx context.Context, o Options) (*Server, error) {
	o, err := o.complete()
	if err != nil {
		return nil, err
	}
	ctx, cancel := o.boundStart(ctx)
	defer cancel()
	if ctx.Err() != nil {
		return nil, context.Cause(ctx)
	}
	u, err := lookupUser(o.OSUser)
	if err != nil {
		return nil, err
	}
	s := &Server{opts: o, user: u, port: o.Port, restart: make(chan struct{}, 1)}
	s.restart <- struct{}{}
	if err := s.prepareDir(ctx); err != nil {
		return nil, err
	}
	if err := makeSocketDir(o.SocketDir, u); err != nil {
		return nil, err
	}
	if err := s.firstStart(ctx); err != nil {
		return nil, err
	}
	return s, nil
}

// prepareDir sees to it that there is a cluster which we may start.
func (s *Server) prepareDir(ctx context.Context) error {
	dir := s.opts.Dir
	switch pid, err := Running(dir); {
	case err != nil:
		return s.user.explain(err, dir)
	case pid != 0:
		return &RunningError{Dir: dir, PID: pid}
	}
	ok, err := hasCluster(dir)
	if err != nil {
		return err
	}
	if !ok {
		s.opts.Logger.Info("making a PostgreSQL cluster", "name", s.opts.Name, "dir", dir)
		if err := makeCluster(ctx, s.opts.Install, &s.opts, s.user); err != nil {
			return err
		}
	}
	if err := checkVersion(dir, s.opts.Install); err != nil {
		return err
	}
	return checkOwner(dir, s.user)
}

func makeSocketDir(dir string, u *osUser) error {
	if dir == "" {
		return nil
	}
	if err := os.MkdirAll(filepath.Dir(dir), 0o755); err != nil {
		return err
	}
	if err := os.Mkdir(dir, 0o755); errors.Is(err, os.ErrExist) {
		return nil // whether the server may write there, it will say itself
	} else if err != nil {
		return err
	}
	f, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer f.Close()
	return u.own(f)
}

// firstStart starts the server on the port that was asked for, or on one that is free, trying others when somebody
// takes it between our look and the server's.
func (s *Server) firstStart(ctx context.Context) error {
	if s.opts.Port != 0 {
		return s.launchAfter(ctx, leaving)
	}
	var err error
	for range 20 {
		if s.port, err = choosePort(); err != nil {
			return err
		}
		if err = s.launchAfter(ctx, leaving); err == nil {
			return nil
		}
		releasePort(s.port)
		if !errors.Is(err, ErrPortInUse) {
			return err
		}
	}
	return err
}

// launchAfter is launch, again and again for some seconds while it fails for a reason that passes by itself.
func (s *Server) launchAfter(ctx context.Context, passes func(error) bool) error {
	until := time.Now().Add(5 * time.Second)
	var last error
	for {
		err := s.launch(ctx)
		if err != nil && ctx.Err() != nil && last != nil {
			return last // says more than that the time is over
		}
		if !passes(err) || time.Now().After(until) {
			return err
		}
		last = err
		select {
		case <-ctx.Done():
			return err
		case <-time.After(200 * time.Millisecond):
		}
	}
}

// leaving says that processes of a dead postmaster still have its memory, which end when they see that it is dead.
func leaving(err error) bool {
	running := new(RunningError)
	return errors.As(err, &running) && running.leaving
}

// passing is leaving, or that our port was given to somebody's connection while the server was down.
func passing(err error) bool { return leaving(err) || errors.Is(err, ErrPortInUse) }

// launch starts the postmaster once and waits until it accepts connections.
func (s *Server) launch(ctx context.Context) error {
	began := time.Now()
	lock, err := s.lockDir(ctx)
	if err != nil {
		return err
	}
	defer lock.Close()
	if err := configure(s.opts.Dir, &s.opts, s.user); err != nil {
		return err
	}
	logTo, logAt, err := openLog(s.opts.Dir, s.user)
	if err != nil {
		return err
	}
	defer logTo.Close() // the server has its own descriptor
	cmd := exec.Command(s.opts.Install.Path("postgres"), s.opts.arguments(s.port)...)
	cmd.Dir, cmd.Env = s.opts.Dir, s.user.environ()
	cmd.Stdout, cmd.Stderr = logTo, logTo
	p, err := startProcess(cmd, s.user, syscall.SIGINT)
	if err != nil {
		return s.user.explain(err, s.opts.Dir)
	}
	if err := s.awaitReady(ctx, p, logAt); err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.run == nil {
		s.logFrom = logAt
	}
	s.run, s.frozen = p, false
	s.opts.Logger.Info("PostgreSQL is up", "name", s.opts.Name, "port", s.port, "pid", p.pid(), "took", time.Since(began))
	return nil
}

// lockDir lets one launch at a time into the data directory, from before it writes the settings until its postmaster
// holds the directory by postmaster.pid, so that none writes settings under the server of another. Closing the file
// gives the lock back, as the end of this process does.
func (s *Server) lockDir(ctx context.Context) (*os.File, error) {
	f, err := os.Open(s.opts.Dir)
	if err != nil {
		return nil, err
	}
	for {
		err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
		if err == nil {
			break
		}
		if !errors.Is(err, syscall.EWOULDBLOCK) && !errors.Is(err, syscall.EINTR) {
			return nil, errors.Join(&os.PathError{Op: "flock", Path: s.opts.Dir, Err: err}, f.Close())
		}
		select {
		case <-ctx.Done():
			return nil, errors.Join(fmt.Errorf("another start is under way in %s: %w", s.opts.Dir, context.Cause(ctx)), f.Close())
		case <-time.After(10 * time.Millisecond):
		}
	}
	pid, err := Running(s.opts.Dir)
	if err == nil && pid != 0 {
		err = &RunningError{Dir: s.opts.Dir, PID: pid}
	}
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return f, nil
}

// awaitReady waits until the server has written into its lock file that it accepts connections, which is what pg_ctl
// goes by. If it does not come to that, no process is left.
func (s *Server) awaitReady(ctx context.Context, p *process, logAt int64) error {
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for {
		select {
		case <-p.done:
			return s.startError(p, logAt)
		case <-ctx.Done():
			if err := stopNow(context.Background(), p); err != nil {
				return err
			}
			return fmt.Errorf("%w%s", context.Cause(ctx), s.logged(logAt))
		case <-tick.C:
			// Not there yet, or still that of a run before: both mean to wait.
			if f, err := readLockFile(s.opts.Dir); err == nil && f.pid == p.pid() && f.status == "ready" {
				return nil
			}
		}
	}
}

var (
	portTaken   = regexp.MustCompile(`Address already in use|lock file ".*/\.s\.PGSQL\.\d+\.lock" already exists`)
	dirTaken    = regexp.MustCompile(`lock file "postmaster\.pid" already exists`)
	memoryTaken = regexp.MustCompile(`pre-existing shared memory block .* is still in use`)
)

// startError says why a server exited at its start, by its log.
func (s *Server) startError(p *process, logAt int64) error {
	text, err := readLog(s.opts.Dir, logAt)
	if err != nil {
		return errors.Join(p.err, err)
	}
	switch {
	case dirTaken.MatchString(text):
		pid, _ := Running(s.opts.Dir) // 0 too if the file has gone since
		return &RunningError{Dir: s.opts.Dir, PID: pid}
	case memoryTaken.MatchString(text):
		return &RunningError{Dir: s.opts.Dir, leaving: true}
	case portTaken.MatchString(text):
		return portError(s.port)
	}
	return fmt.Errorf("the server did not come up: %w%s", p.err, s.logged(logAt))
}

// logged is the end of an error: what the server logged last.
func (s *Server) logged(from int64) string {
	text, err := readLog(s.opts.Dir, from)
	if err != nil || text == "" {
		return ""
	}
	return "\n" + lastLines(text, 20)
}

// Name returns the server's name for logs and errors.
func (s *Server) Name() string { return s.opts.Name }

// Dir returns the data directory, absolute and without links.
func (s *Server) Dir() string { return s.opts.Dir }

// Host returns the address that the server listens on, 127.0.0.1.
func (s *Server) Host() string { return loopback }

// Port returns the TCP port, which stays the same over restarts.
func (s *Server) Port() int { return s.port }

// SocketDir returns the directory of the Unix socket, or "" if there is none.
func (s *Server) SocketDir() string { return s.opts.SocketDir }

// Superuser returns the role that made the cluster.
func (s *Server) Superuser() string { return s.opts.Superuser }

// Install returns the binaries that the server runs from.
func (s *Server) Install() Install { return s.opts.Install }

// URL returns a connection URL as libpq and pgx read it. user "" is the superuser; database "" is postgres.
func (s *Server) URL(user, database string) string {
	if user == "" {
		user = s.opts.Superuser
	}
	if database == "" {
		database = "postgres"
	}
	u := url.URL{
		Scheme:   "postgres",
		User:     url.User(user),
		Host:     net.JoinHostPort(loopback, strconv.Itoa(s.port)),
		Path:     "/" + database,
		RawQuery: "sslmode=disable",
	}
	return u.String()
}

func (s *Server) current() *process {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.run
}

// PID returns the postmaster's process id, or 0 when the server is not running.
func (s *Server) PID() int {
	p := s.current()
	if p.exited() {
		return 0
	}
	return p.pid()
}

// Done returns a channel that is closed when the current run of the server has ended, for whatever reason. After a
// Restart it is another channel.
func (s *Server) Done() <-chan struct{} { return s.current().done }

// Log returns what the server has logged since Start, or the last 8 MiB of that; "" if it can't be read.
func (s *Server) Log() string {
	s.mu.Lock()
	from := s.logFrom
	s.mu.Unlock()
	text, err := readLog(s.opts.Dir, from)
	if err != nil {
		return ""
	}
	return text
}

// LogTail returns the last n lines of Log.
func (s *Server) LogTail(n int) string { return lastLines(s.Log(), n) }

// Restart stops the server, if it runs, and starts it again on the same port and data. After a Kill it makes the
// server recover. When it returns an error, the server is not running, unless stopping it took longer than ctx.
func (s *Server) Restart(ctx context.Context) error {
	select {
	case <-s.restart:
	case <-ctx.Done():
		return s.wrap("restarting", ctx.Err())
	}
	defer func() { s.restart <- struct{}{} }()
	if err := s.stop(ctx); err != nil {
		return s.wrap("restarting", err)
	}
	ctx, cancel := s.opts.boundStart(ctx)
	defer cancel()
	return s.wrap("restarting", s.launchAfter(ctx, passing))
}

// afterRestart waits until no Restart is under way, so that what is stopped then is not about to come up.
func (s *Server) afterRestart(ctx context.Context) error {
	select {
	case <-s.restart:
		s.restart <- struct{}{}
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (s *Server) wrap(doing string, err error) error {
	if err == nil || strings.HasPrefix(err.Error(), "localpg: ") {
		return err
	}
	return fmt.Errorf("localpg: %s %s: %w", doing, s.opts.Name, err)
}
