package localpg

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// ErrNotCluster is matched by the error of Start when the directory holds something that is not a whole cluster. It
// was left as it is.
var ErrNotCluster = errors.New("neither empty nor a whole PostgreSQL data directory")

// hasCluster says whether dir holds a cluster (true), or is empty or absent (false). Anything else is an error.
func hasCluster(dir string) (bool, error) {
	entries, err := os.ReadDir(dir)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return false, nil
	case err != nil:
		return false, err
	case len(entries) == 0:
		return false, nil
	}
	for _, name := range []string{"PG_VERSION", "global/pg_control", "postgresql.conf"} {
		if _, err := os.Stat(filepath.Join(dir, name)); errors.Is(err, fs.ErrNotExist) {
			return false, fmt.Errorf("%s is %w (it has no %s); it was left untouched: remove it or choose another directory", dir, ErrNotCluster, name)
		} else if err != nil {
			return false, err
		}
	}
	return true, nil
}

// checkVersion compares the cluster's major version with the binaries'.
func checkVersion(dir string, in Install) error {
	b, err := os.ReadFile(filepath.Join(dir, "PG_VERSION"))
	if err != nil {
		return err
	}
	if v := strings.TrimSpace(string(b)); v != strconv.Itoa(in.Major) {
		return fmt.Errorf("%s was made by PostgreSQL %s, and %s is version %d: set PG_BIN to the bin directory of version %s, or remove the directory", dir, v, in.BinDir, in.Major, v)
	}
	return nil
}

// checkOwner gives PostgreSQL's own condition in terms of the user that we run it as.
func checkOwner(dir string, u *osUser) error {
	fi, err := os.Stat(dir)
	if err != nil {
		return err
	}
	st, ok := fi.Sys().(*syscall.Stat_t)
	if ok && u != nil && st.Uid != u.uid {
		return fmt.Errorf("%s belongs to user id %d, and PostgreSQL is to run as %s (%d): set OSUser, or chown -R it", dir, st.Uid, u.name, u.uid)
	}
	return nil
}

// makeCluster fills o.Dir, which is empty or absent, all at once: the cluster is made in a hidden sibling and renamed.
// What a killed run has left of such siblings is removed.
func makeCluster(ctx context.Context, in Install, o *Options, u *osUser) error {
	parent, base := filepath.Split(o.Dir)
	parent = filepath.Clean(parent)
	prefix := "." + base + ".initdb-"
	if err := os.MkdirAll(parent, 0o755); err != nil {
		return err
	}
	sweep(parent, prefix)
	tmp, lock, err := lockedDir(parent, prefix)
	if err != nil {
		return err
	}
	defer lock.Close()
	defer Remove(tmp) // gone already when all went well; else what can't be removed now, the next one sweeps
	if err := u.own(lock); err != nil {
		return err
	}
	if o.Template != nil && o.Unsafe {
		err = o.Template.copyTo(ctx, tmp, in, o, u)
	} else {
		err = initdb(ctx, tmp, in, o, u)
	}
	if err != nil {
		return err
	}
	return moveIn(tmp, o)
}

// moveIn renames a cluster that was made aside into its place.
func moveIn(tmp string, o *Options) error {
	err := syscall.Rename(tmp, o.Dir)
	switch {
	case errors.Is(err, syscall.ENOTEMPTY) || errors.Is(err, syscall.EEXIST):
		// Another process was faster. Its cluster is as good; which of us may start it is PostgreSQL's to decide.
		return nil
	case errors.Is(err, syscall.EBUSY):
		return fmt.Errorf("%s is a mount point, which can't be made a data directory at once: choose a directory in it", o.Dir)
	case err != nil:
		return &os.LinkError{Op: "rename", Old: tmp, New: o.Dir, Err: err}
	}
	if o.Unsafe {
		return nil
	}
	parent, err := os.Open(filepath.Dir(o.Dir))
	if err != nil {
		return err
	}
	defer parent.Close()
	return parent.Sync()
}

// lockedDir makes a directory and holds a lock on it, which ends with this process at the latest.
func lockedDir(parent, prefix string) (string, *os.File, error) {
	for range 10 {
		dir, err := os.MkdirTemp(parent, prefix)
		if err != nil {
			return "", nil, err
		}
		f, err := os.Open(dir)
		if errors.Is(err, fs.ErrNotExist) {
			continue // swept by another process between the two
		}
		if err != nil {
			return "", nil, err
		}
		if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err == nil {
			return dir, f, nil
		}
		_ = f.Close() // about to be swept
	}
	return "", nil, fmt.Errorf("no directory %s* in %s could be locked", prefix, parent)
}

// sweep removes the siblings whose makers are dead.
func sweep(parent, prefix string) {
	entries, err := os.ReadDir(parent)
	if err != nil {
		return
	}
	for _, e := range entries {
		if !e.IsDir() || !strings.HasPrefix(e.Name(), prefix) {
			continue
		}
		dir := filepath.Join(parent, e.Name())
		f, err := os.Open(dir)
		if err != nil {
			continue
		}
		if syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB) == nil {
			_ = Remove(dir) // what can't be removed now is tried again the next time
		}
		_ = f.Close()
	}
}

// initdb makes a cluster in dir, which exists, is empty and belongs to the user. Pages have checksums; text is UTF-8
// and compares by code points, so that no shard's operating system has an order of its own.
func initdb(ctx context.Context, dir string, in Install, o *Options, u *osUser) error {
	began := time.Now()
	out, err := runInitdb(ctx, dir, "C.UTF-8", in, o, u)
	if err != nil && ctx.Err() == nil && strings.Contains(out, "invalid locale name") {
		out, err = runInitdb(ctx, dir, "C", in, o, u)
	}
	if err != nil {
		if ctx.Err() != nil {
			return fmt.Errorf("initdb: %w", context.Cause(ctx))
		}
		return fmt.Errorf("initdb: %w\n%s", u.explain(err, dir), strings.TrimSpace(out))
	}
	o.Logger.Debug("initdb done", "dir", o.Dir, "took", time.Since(began))
	return nil
}

func runInitdb(ctx context.Context, dir, locale string, in Install, o *Options, u *osUser) (string, error) {
	args := []string{
		"--pgdata=" + dir, "--username=" + o.Superuser, "--auth=trust",
		"--encoding=UTF8", "--locale=" + locale, "--data-checksums", "--no-instructions",
	}
	if o.Unsafe {
		args = append(args, "--no-sync")
	}
	var out bytes.Buffer
	cmd := exec.Command(in.Path("initdb"), args...)
	cmd.Dir, cmd.Env = dir, u.environ()
	cmd.Stdout, cmd.Stderr = &out, &out
	p, err := startProcess(cmd, u, syscall.SIGKILL)
	if err != nil {
		return "", err
	}
	select {
	case <-p.done:
	case <-ctx.Done():
		p.killGroup()
	}
	return out.String(), p.err
}
