package localpg

import (
	"context"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
)

// A Template makes throw-away clusters fast: initdb is run once and what it made is copied. The copies have the same
// system identifier, so they can't be told apart by physical replication. It may be used by several goroutines.
type Template struct {
	dir  string
	lock chan struct{} // holds one token; a mutex that can be waited for under a context
}

// NewTemplate returns a template that keeps its cluster in dir, which is made on first use, and which the caller
// removes when no Start is under way. It serves only servers with Options.Unsafe: the copy is not synced to disk.
func NewTemplate(dir string) *Template {
	t := &Template{dir: dir, lock: make(chan struct{}, 1)}
	t.lock <- struct{}{}
	return t
}

// copyTo fills dir, which exists and is empty.
func (t *Template) copyTo(ctx context.Context, dir string, in Install, o *Options, u *osUser) error {
	from, err := t.prepare(ctx, in, o, u)
	if err != nil {
		return err
	}
	return copyTree(ctx, from, dir, u)
}

// prepare returns the directory of the template's cluster for these binaries and this superuser.
func (t *Template) prepare(ctx context.Context, in Install, o *Options, u *osUser) (string, error) {
	select {
	case <-t.lock:
	case <-ctx.Done():
		return "", context.Cause(ctx)
	}
	defer func() { t.lock <- struct{}{} }()
	// The name is hex: a superuser may be called anything.
	dir, err := filepath.Abs(filepath.Join(t.dir, fmt.Sprintf("%d-%x", in.Major, o.Superuser)))
	if err != nil {
		return "", err
	}
	if ok, err := hasCluster(dir); ok || err != nil {
		return dir, err
	}
	plain := *o
	plain.Dir, plain.Template = dir, nil
	return dir, makeCluster(ctx, in, &plain, u)
}

// copyTree copies the files below from into the directory to.
func copyTree(ctx context.Context, from, to string, u *osUser) error {
	return filepath.WalkDir(from, func(path string, e fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		rel, err := filepath.Rel(from, path)
		if err != nil || rel == "." {
			return err
		}
		dst := filepath.Join(to, rel)
		switch {
		case e.IsDir():
			return copyDir(dst, u)
		case e.Type().IsRegular():
			return copyFile(path, dst, u)
		default:
			return fmt.Errorf("%s is neither a file nor a directory", path)
		}
	})
}

func copyDir(dst string, u *osUser) error {
	if err := os.Mkdir(dst, 0o700); err != nil {
		return err
	}
	f, err := os.Open(dst)
	if err != nil {
		return err
	}
	defer f.Close()
	return u.own(f)
}

func copyFile(src, dst string, u *osUser) (err error) {
	in, err := os.Open(src)
	if err != nil {
		return err
	}
	defer in.Close()
	out, err := os.OpenFile(dst, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	defer func() {
		if closeErr := out.Close(); err == nil {
			err = closeErr
		}
	}()
	if err := u.own(out); err != nil {
		return err
	}
	_, err = io.Copy(out, in) // inside the kernel, where that can share blocks it does
	return err
}
