package pgtest

import (
	"context"
	"errors"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"time"

	"github.com/shardgate/shardgate/gateway/localpg"
)

// A janitor is a second process of the test's own binary that holds the reading end of a pipe. Nothing is ever written
// to it: it ends when the test process does, however that happens, and then the janitor ends the servers and removes
// their files. A signal handler in the tests' process would see neither a panic nor kill -9, and would be in the way
// of tests that are about signals.
type janitor struct {
	cmd  *exec.Cmd
	pipe *os.File // the writing end
}

// janitorEnv makes a process that imports this package a janitor, and names the directory.
const janitorEnv = "SHARDGATE_PGTEST_JANITOR"

func init() {
	if root := os.Getenv(janitorEnv); root != "" {
		_, _ = io.Copy(io.Discard, os.Stdin) // until the end of the tests' process
		sweepUp(root)
		os.Exit(0)
	}
}

func startJanitor(root string) (*janitor, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	r, w, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	defer r.Close()
	cmd := exec.Command(self)
	cmd.Env = append(os.Environ(), janitorEnv+"="+root)
	cmd.Dir = "/"
	cmd.Stdin = r
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true} // Ctrl-C is not for it
	if err := cmd.Start(); err != nil {
		_ = w.Close() // nobody reads
		return nil, err
	}
	return &janitor{cmd: cmd, pipe: w}, nil
}

// dismiss ends the janitor when there is nothing left to do for it.
func (j *janitor) dismiss() error {
	if err := j.pipe.Close(); err != nil {
		return err
	}
	return j.cmd.Wait()
}

// sweepUp ends the servers below root and removes it. There is nobody to report an error to.
func sweepUp(root string) {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	// On Linux the servers and an initdb under way have had their signal already, and are about to end.
	for range 20 {
		if removeAll(ctx, root) == nil {
			return
		}
		time.Sleep(100 * time.Millisecond)
	}
}

// removeAll removes a directory with all clusters in it, whose servers it stops.
func removeAll(ctx context.Context, root string) error {
	var errs []error
	err := filepath.WalkDir(root, func(path string, e fs.DirEntry, err error) error {
		if err == nil && e.Name() == "postmaster.pid" {
			dir := filepath.Dir(path)
			errs = append(errs, localpg.StopOrphan(ctx, dir), localpg.Remove(dir))
		}
		return nil // what vanishes meanwhile is as it should be
	})
	return errors.Join(append(errs, err, os.RemoveAll(root))...)
}
