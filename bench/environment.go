package main

import (
	"bufio"
	"context"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"slices"
	"strings"
	"time"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/shardgate/shardgate/bench/measure"
	"github.com/shardgate/shardgate/bench/target"
)

// environment is what figures depend on besides what was measured.
type environment struct {
	Time     time.Time         `json:"time"`
	Commit   string            `json:"commit"`
	Go       string            `json:"go"`
	System   string            `json:"system"`
	Kernel   string            `json:"kernel,omitempty"`
	CPU      string            `json:"cpu"`
	Cores    int               `json:"cores"`
	Memory   int64             `json:"memory_bytes,omitempty"`
	Command  []string          `json:"command"`            // without what may hold passwords
	Versions map[string]string `json:"versions,omitempty"` // of programs, and what the servers of other targets say
	Settings map[string]string `json:"settings,omitempty"` // of the benchmark's own PostgreSQL servers
	// OtherSettings are those of the servers of other targets, as far as they tell.
	OtherSettings map[string]map[string]string `json:"other_settings,omitempty"`
}

func newEnvironment(e *target.Embedded) environment {
	env := environment{Time: time.Now().UTC().Truncate(time.Second), Commit: commit(), Go: runtime.Version(),
		System: runtime.GOOS + "/" + runtime.GOARCH, Kernel: kernel(), CPU: afterColon("/proc/cpuinfo", "model name"),
		Cores: runtime.NumCPU(), Command: withoutURLs(os.Args), Versions: map[string]string{}, OtherSettings: map[string]map[string]string{}}
	if env.CPU == "" {
		env.CPU = "unknown CPU"
	}
	// No error: what can't be read is left out.
	if n, _ := fmt.Sscanf(afterColon("/proc/meminfo", "MemTotal"), "%d kB", &env.Memory); n == 1 {
		env.Memory <<= 10
	}
	if e != nil {
		maps.Copy(env.Versions, e.Versions)
		env.Versions["shardgate"] = env.Commit // this program is the gateway
		env.Settings = e.Settings
	}
	return env
}

// withoutURLs leaves the values of options out that may hold passwords.
func withoutURLs(args []string) []string {
	list := slices.Clone(args)
	if len(list) > 0 {
		list[0] = filepath.Base(list[0])
	}
	for i, arg := range list {
		for _, option := range []string{"--target", "--server", "--metrics"} {
			if arg == option && i+1 < len(list) {
				name, _, _ := strings.Cut(list[i+1], "=")
				list[i+1] = name + "=…"
			} else if value, ok := strings.CutPrefix(arg, option+"="); ok {
				name, _, _ := strings.Cut(value, "=")
				list[i] = option + "=" + name + "=…"
			}
		}
	}
	return list
}

// ask asks a target that others have started, and its servers, what they are.
func (e *environment) ask(ctx context.Context, t *target.Target) {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	conn, err := pgconn.Connect(ctx, t.URL)
	if err != nil {
		return // loading the data says what is wrong
	}
	defer conn.Close(ctx)
	if v := conn.ParameterStatus("server_version"); v != "" {
		e.Versions[t.Name] = v
	}
	if t.Metrics != "" {
		// No error: what the gateway does not say is left out, and the first round says what is wrong.
		if version, goVersion, _ := measure.BuildOf(ctx, t.Metrics); version != "" {
			e.Versions["gateway of "+t.Name] = version + ", " + goVersion
		}
	}
	urls := t.Store.Servers
	if len(urls) == 0 {
		urls = []string{t.URL}
	}
	for i, url := range urls {
		settings, err := target.ChangedSettings(ctx, url)
		if err != nil {
			continue // a gateway may refuse the question
		}
		name := t.Name
		if len(urls) > 1 {
			name += fmt.Sprintf(", server %d", i+1)
		}
		e.OtherSettings[name] = settings
	}
}

// String is the environment in one line.
func (e environment) String() string {
	s := fmt.Sprintf("%s, %s, %s, %s", plural(e.Cores, "core"), e.CPU, e.System, e.Go)
	if v := e.Versions["postgresql"]; v != "" {
		s += ", PostgreSQL " + v
	}
	if v := e.Versions["pgbouncer"]; v != "" {
		s += ", PgBouncer " + v
	}
	if v := e.Settings["fsync"]; v == "off" {
		s += ", WITHOUT fsync"
	}
	return s + ", commit " + e.Commit
}

// commit is that of the program, or where `go run` has left it out, of the working
// directory.
func commit() string {
	if info, ok := debug.ReadBuildInfo(); ok {
		revision, dirty := "", ""
		for _, s := range info.Settings {
			switch {
			case s.Key == "vcs.revision":
				revision = s.Value
			case s.Key == "vcs.modified" && s.Value == "true":
				dirty = "+"
			}
		}
		if revision != "" {
			return revision[:min(12, len(revision))] + dirty
		}
	}
	if out, err := exec.Command("git", "describe", "--always", "--dirty=+", "--abbrev=12").Output(); err == nil {
		return strings.TrimSpace(string(out))
	}
	return "unknown"
}

// afterColon is what a file of "name: value" lines has first for a name; "" if it has none.
func afterColon(file, wanted string) string {
	f, err := os.Open(file)
	if err != nil {
		return ""
	}
	defer f.Close()
	for s := bufio.NewScanner(f); s.Scan(); {
		if name, value, ok := strings.Cut(s.Text(), ":"); ok && strings.TrimSpace(name) == wanted {
			return strings.TrimSpace(value)
		}
	}
	return ""
}

func kernel() string {
	b, err := os.ReadFile("/proc/sys/kernel/osrelease")
	if err != nil {
		return ""
	}
	return "Linux " + strings.TrimSpace(string(b))
}
