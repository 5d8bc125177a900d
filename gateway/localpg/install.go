package localpg

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
)

// MinMajor is the oldest major version of PostgreSQL that Find accepts.
const MinMajor = 15

// ErrNotInstalled is what Find's error wraps when no usable PostgreSQL server is on this machine.
var ErrNotInstalled = errors.New("no PostgreSQL server found")

// Install is a set of PostgreSQL server binaries of one version.
type Install struct {
	BinDir  string // absolute; holds postgres and initdb
	Major   int    // 15, 16 ...
	Version string // as the server names it: "15.14", "18beta1"
}

// Path returns the path of one of the installation's programs, such as "psql". It does not look whether it is there.
func (i Install) Path(program string) string { return filepath.Join(i.BinDir, program) }

// Find returns the installed PostgreSQL: that of the directory which the environment variable PG_BIN names, else the
// first usable one of `pg_config --bindir`, the PATH, and the newest in the places where packages put it. Usable means
// that it has postgres and initdb, and is of MinMajor or later.
//
// If PG_BIN is set, nothing else is looked at, and the error says what is wrong with it. Otherwise the error wraps
// ErrNotInstalled and says in one line what to install.
func Find() (Install, error) {
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	if dir := os.Getenv("PG_BIN"); dir != "" {
		in, err := inspect(ctx, dir)
		if err != nil {
			return Install{}, fmt.Errorf("localpg: PG_BIN: %w", err)
		}
		return in, nil
	}
	var old string
	for _, dir := range binDirs(ctx) {
		in, err := inspect(ctx, dir)
		if err == nil {
			return in, nil
		}
		if tooOld := new(oldError); old == "" && errors.As(err, &tooOld) {
			old = " (" + err.Error() + ")"
		}
	}
	return Install{}, fmt.Errorf("localpg: %w%s: install version %d or later (Debian and Ubuntu: apt-get install postgresql; Fedora: dnf install postgresql-server; macOS: brew install postgresql@17), or set PG_BIN to its bin directory", ErrNotInstalled, old, MinMajor)
}

type oldError struct {
	dir     string
	version string
}

func (e *oldError) Error() string {
	return fmt.Sprintf("%s is version %s, older than %d", e.dir, e.version, MinMajor)
}

// binDirs lists the directories to look at, best first.
func binDirs(ctx context.Context) []string {
	var dirs []string
	if out, err := exec.CommandContext(ctx, "pg_config", "--bindir").Output(); err == nil {
		dirs = append(dirs, strings.TrimSpace(string(out)))
	}
	if p, err := exec.LookPath("postgres"); err == nil {
		// initdb looks for its companions beside the file that a link leads to.
		if real, err := filepath.EvalSymlinks(p); err == nil {
			p = real
		}
		dirs = append(dirs, filepath.Dir(p))
	}
	return append(dirs, packaged()...)
}

var packagePlaces = []string{
	"/usr/lib/postgresql/*/bin",                          // Debian, Ubuntu
	"/usr/pgsql-*/bin",                                   // PGDG's RPMs
	"/usr/libexec/postgresql*",                           // Alpine
	"/opt/homebrew/opt/postgresql@*/bin",                 // Homebrew, Apple silicon
	"/usr/local/opt/postgresql@*/bin",                    // Homebrew, Intel
	"/home/linuxbrew/.linuxbrew/opt/postgresql@*/bin",    // Homebrew, Linux
	"/Applications/Postgres.app/Contents/Versions/*/bin", // Postgres.app
	"/usr/local/pgsql/bin",                               // built from source
}

// packaged lists the directories of installed packages, the newest version first.
func packaged() []string {
	var dirs []string
	for _, pattern := range packagePlaces {
		found, _ := filepath.Glob(pattern) // the patterns are well-formed
		dirs = append(dirs, found...)
	}
	slices.SortStableFunc(dirs, func(a, b string) int {
		return cmp.Compare(numberIn(b), numberIn(a))
	})
	return dirs
}

var digits = regexp.MustCompile(`\d+`)

// numberIn returns the last number in a path: the major version, as the places are named, or 0.
func numberIn(path string) int {
	found := digits.FindAllString(path, -1)
	if len(found) == 0 {
		return 0
	}
	n, _ := strconv.Atoi(found[len(found)-1]) // too long for an int: not a version
	return n
}

var versionLine = regexp.MustCompile(`PostgreSQL\) ((\d+)\S*)`)

// inspect says what is installed in a bin directory.
func inspect(ctx context.Context, dir string) (Install, error) {
	dir, err := filepath.Abs(dir)
	if err != nil {
		return Install{}, err
	}
	for _, program := range []string{"postgres", "initdb"} {
		if _, err := exec.LookPath(filepath.Join(dir, program)); err != nil {
			return Install{}, fmt.Errorf("no program %s in %s", program, dir)
		}
	}
	out, err := exec.CommandContext(ctx, filepath.Join(dir, "postgres"), "--version").Output()
	if err != nil {
		return Install{}, fmt.Errorf("%s/postgres --version: %w", dir, err)
	}
	m := versionLine.FindStringSubmatch(string(out))
	if m == nil {
		return Install{}, fmt.Errorf("%s/postgres --version said %q", dir, strings.TrimSpace(string(out)))
	}
	major, err := strconv.Atoi(m[2])
	if err != nil {
		return Install{}, fmt.Errorf("%s/postgres --version said %q", dir, strings.TrimSpace(string(out)))
	}
	if major < MinMajor {
		return Install{}, &oldError{dir: dir, version: m[1]}
	}
	return Install{BinDir: dir, Major: major, Version: m[1]}, nil
}
