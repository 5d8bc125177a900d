package main

import (
	"bufio"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"runtime/debug"
	"strings"
	"time"

	"github.com/shardgate/shardgate/bench/target"
)

// environment is what figures depend on besides what was measured.
type environment struct {
	Time     time.Time         `json:"time"`
	Commit   string            `json:"commit"`
	Go       string            `json:"go"`
	System   string            `json:"system"`
	CPU      string            `json:"cpu"`
	Cores    int               `json:"cores"`
	Versions map[string]string `json:"versions,omitempty"`
	Settings map[string]string `json:"settings,omitempty"` // of the benchmark's own PostgreSQL servers
}

func newEnvironment(e *target.Embedded) environment {
	env := environment{Time: time.Now().UTC().Truncate(time.Second), Commit: commit(), Go: runtime.Version(),
		System: runtime.GOOS + "/" + runtime.GOARCH, CPU: cpuModel(), Cores: runtime.NumCPU()}
	if e != nil {
		env.Versions, env.Settings = e.Versions, e.Settings
	}
	return env
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

func cpuModel() string {
	f, err := os.Open("/proc/cpuinfo")
	if err != nil {
		return "unknown CPU"
	}
	defer f.Close()
	for s := bufio.NewScanner(f); s.Scan(); {
		if name, value, ok := strings.Cut(s.Text(), ":"); ok && strings.TrimSpace(name) == "model name" {
			return strings.TrimSpace(value)
		}
	}
	return "unknown CPU"
}
