package localpg

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestLastLines(t *testing.T) {
	for _, c := range []struct {
		text string
		n    int
		want string
	}{
		{"", 3, ""},
		{"a\n", 3, "a"},
		{"a\nb\nc\n", 2, "b\nc"},
		{"a\nb\nc", 3, "a\nb\nc"},
		{"a\nb\nc", 1, "c"},
		{"\na\n\nb\n", 2, "\nb"},
		{"a\nb", 0, ""},
	} {
		if got := lastLines(c.text, c.n); got != c.want {
			t.Errorf("lastLines(%q, %d) = %q, want %q", c.text, c.n, got, c.want)
		}
	}
}

func TestSettingsThatAreNotTheCallers(t *testing.T) {
	for name, value := range map[string]string{
		"port":             "5432",
		"Listen_Addresses": "*",
		"log_destination":  "csvlog",
		"work_mem":         "1MB'\nfsync = off",
		"work mem":         "1MB",
		"":                 "",
		"include '/etc/x'": "",
	} {
		if err := checkSettings(map[string]string{name: value}); err == nil {
			t.Errorf("%q = %q was accepted", name, value)
		}
	}
	if err := checkSettings(map[string]string{"work_mem": "1MB", "shardgate.shard": "a'b\\c"}); err != nil {
		t.Error(err)
	}
}

func TestRenderSettings(t *testing.T) {
	text := renderSettings(&Options{Unsafe: true, Settings: map[string]string{"FSYNC": "on", "app.name": `o'b\c`}})
	for _, want := range []string{"fsync = 'on'\n", "app.name = 'o''b\\\\c'\n", "max_prepared_transactions = '256'\n"} {
		if !strings.Contains(text, want) {
			t.Errorf("no %q in\n%s", want, text)
		}
	}
	if strings.Contains(renderSettings(&Options{}), "fsync") {
		t.Error("fsync is set for a safe server")
	}
}

func TestReadLockFile(t *testing.T) {
	dir := t.TempDir()
	write := func(text string) {
		t.Helper()
		if err := os.WriteFile(filepath.Join(dir, "postmaster.pid"), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for _, c := range []struct {
		text string
		want lockFile
	}{
		{"", lockFile{}},
		{"4711\n/d\n1700000000\n5433\n", lockFile{pid: 4711, dir: "/d", port: 5433}},
		{"4711\n/d\n1700000000\n5433\n\n127.0.0.1\n 12345678   42\nready   \n",
			lockFile{pid: 4711, dir: "/d", port: 5433, shmKey: 12345678, shmID: 42, status: "ready"}},
		{"-4711\n/d\n", lockFile{pid: 4711, dir: "/d"}},
		{"\x00\xff garbage", lockFile{}},
	} {
		write(c.text)
		if got, err := readLockFile(dir); err != nil || got != c.want {
			t.Errorf("%q: %+v, %v; want %+v", c.text, got, err, c.want)
		}
	}
}

func TestPortsAreReservedWithinTheProcess(t *testing.T) {
	seen := map[int]bool{}
	for range 100 {
		port, err := choosePort()
		if err != nil {
			t.Fatal(err)
		}
		defer releasePort(port)
		if seen[port] {
			t.Fatalf("port %d was given out twice", port)
		}
		seen[port] = true
	}
}

func TestFindSaysWhatIsWrong(t *testing.T) {
	t.Setenv("PG_BIN", filepath.Join(t.TempDir(), "no", "such"))
	if _, err := Find(); err == nil || !strings.Contains(err.Error(), "PG_BIN") {
		t.Error(err)
	}
	t.Setenv("PG_BIN", fakeInstall(t, "14.9"))
	if _, err := Find(); err == nil || !strings.Contains(err.Error(), "version 14.9, older than 15") {
		t.Error(err)
	}
	t.Setenv("PG_BIN", fakeInstall(t, "18beta1"))
	if in, err := Find(); err != nil || in.Major != 18 || in.Version != "18beta1" {
		t.Error(in, err)
	}
}

func TestFindOnPath(t *testing.T) {
	t.Setenv("PG_BIN", "")
	places := packagePlaces
	t.Cleanup(func() { packagePlaces = places })
	packagePlaces = nil
	t.Setenv("PATH", fakeInstall(t, "14.9"))
	_, err := Find()
	if !errors.Is(err, ErrNotInstalled) || !strings.Contains(err.Error(), "apt-get install postgresql") || strings.Contains(err.Error(), "\n") {
		t.Error(err)
	}
	t.Setenv("PATH", fakeInstall(t, "17.2 (Debian 17.2-1)"))
	if in, err := Find(); err != nil || in.Version != "17.2" {
		t.Error(in, err)
	}
}

func TestNewestPackageFirst(t *testing.T) {
	places := packagePlaces
	t.Cleanup(func() { packagePlaces = places })
	top := filepath.Join(t.TempDir(), "postgresql")
	for _, v := range []string{"9.6", "17", "15"} {
		if err := os.MkdirAll(filepath.Join(top, v, "bin"), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	packagePlaces = []string{filepath.Join(top, "*", "bin")}
	var got []string
	for _, dir := range packaged() {
		got = append(got, filepath.Base(filepath.Dir(dir)))
	}
	if strings.Join(got, " ") != "17 15 9.6" {
		t.Error(got)
	}
}

// fakeInstall makes programs that only know their version.
func fakeInstall(t *testing.T, version string) string {
	t.Helper()
	dir := t.TempDir()
	for _, name := range []string{"postgres", "initdb"} {
		script := "#!/bin/sh\necho 'postgres (PostgreSQL) " + version + "'\n"
		if err := os.WriteFile(filepath.Join(dir, name), []byte(script), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}
