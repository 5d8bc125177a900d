package localpg

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/user"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
)

// osUser is the user that a server runs as when we are root, since PostgreSQL refuses to run as root. Nil means: as
// we are ourselves.
type osUser struct {
	name   string
	home   string
	uid    uint32
	gid    uint32
	groups []uint32
}

// lookupUser returns nil when we are not root.
func lookupUser(name string) (*osUser, error) {
	if os.Geteuid() != 0 {
		return nil, nil
	}
	u, err := user.Lookup(name)
	if err != nil {
		return nil, fmt.Errorf("PostgreSQL does not run as root, and the user to run it as: %w", err)
	}
	ids, err := u.GroupIds()
	if err != nil {
		return nil, fmt.Errorf("the groups of user %s: %w", name, err)
	}
	o := &osUser{name: name, home: u.HomeDir}
	for _, id := range append([]string{u.Uid, u.Gid}, ids...) {
		n, err := strconv.ParseUint(id, 10, 32)
		if err != nil {
			return nil, fmt.Errorf("user %s: id %q: %w", name, id, err)
		}
		o.groups = append(o.groups, uint32(n))
	}
	o.uid, o.gid, o.groups = o.groups[0], o.groups[1], o.groups[2:]
	if o.uid == 0 {
		return nil, fmt.Errorf("user %s is root, and PostgreSQL does not run as root", name)
	}
	return o, nil
}

func (u *osUser) credential() *syscall.Credential {
	if u == nil {
		return nil
	}
	return &syscall.Credential{Uid: u.uid, Gid: u.gid, Groups: u.groups}
}

// own gives a file that we have made to the user.
func (u *osUser) own(f *os.File) error {
	if u == nil {
		return nil
	}
	return f.Chown(int(u.uid), int(u.gid))
}

// environ is the environment of PostgreSQL's programs: ours without what would change their behaviour, and with
// messages in English, since the log is read.
func (u *osUser) environ() []string {
	env := slices.DeleteFunc(os.Environ(), func(kv string) bool {
		return strings.HasPrefix(kv, "PG") || strings.HasPrefix(kv, "LC_") || strings.HasPrefix(kv, "LANG") ||
			u != nil && (strings.HasPrefix(kv, "HOME=") || strings.HasPrefix(kv, "USER=") || strings.HasPrefix(kv, "LOGNAME="))
	})
	env = append(env, "LC_ALL=C")
	if u != nil {
		env = append(env, "HOME="+u.home, "USER="+u.name, "LOGNAME="+u.name)
	}
	return env
}

// explain adds to the error of starting a program in dir which directory keeps the user from getting there.
func (u *osUser) explain(err error, dir string) error {
	if u == nil || !errors.Is(err, fs.ErrPermission) {
		return err
	}
	for d := dir; ; d = filepath.Dir(d) {
		fi, statErr := os.Stat(d)
		if statErr == nil && !u.maySearch(fi) {
			return fmt.Errorf("user %s, as whom PostgreSQL runs, can't pass through %s (mode %04o): choose another place, set OSUser, or chmod o+x %s: %w",
				u.name, d, fi.Mode().Perm(), d, err)
		}
		if d == filepath.Dir(d) {
			return err
		}
	}
}

// maySearch says whether a directory's mode lets the user pass through it. Access control lists are not looked at.
func (u *osUser) maySearch(fi fs.FileInfo) bool {
	st, ok := fi.Sys().(*syscall.Stat_t)
	if !ok {
		return true
	}
	switch {
	case st.Uid == u.uid:
		return fi.Mode()&0o100 != 0
	case st.Gid == u.gid || slices.Contains(u.groups, st.Gid):
		return fi.Mode()&0o010 != 0
	default:
		return fi.Mode()&0o001 != 0
	}
}
