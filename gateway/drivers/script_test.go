//go:build drivers

package drivers

import (
	"bytes"
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"
)

func init() {
	drivers["psycopg"] = testPsycopg
	drivers["node"] = testNode
	drivers["jdbc"] = testJDBC
}

// runScript runs a script of another language, which ends with a status of 0 when
// everything is as it expects. It finds the target in libpq's environment
// variables.
func runScript(t *testing.T, tg target, name string, args ...string) {
	t.Helper()
	ctx, stop := context.WithTimeout(t.Context(), 2*time.Minute)
	defer stop()
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.WaitDelay = 5 * time.Second
	hostPort, _, _ := strings.Cut(strings.TrimPrefix(tg.url[strings.Index(tg.url, "@")+1:], "@"), "/")
	host, port, _ := strings.Cut(hostPort, ":")
	cmd.Env = append(os.Environ(), "PGHOST="+host, "PGPORT="+port, "PGUSER=postgres", "PGDATABASE=postgres",
		"DRIVER_SCHEMA="+tg.schema, "DRIVER_GATEWAY="+strconv.FormatBool(tg.gateway), "PYTHONDONTWRITEBYTECODE=1")
	out, err := cmd.CombinedOutput()
	for line := range bytes.Lines(bytes.TrimSpace(out)) {
		t.Logf("%s", bytes.TrimRight(line, "\n"))
	}
	if err != nil {
		t.Fatalf("%s: %v", filepath.Base(args[len(args)-1]), err)
	}
}

// testPsycopg runs with the first Python that has psycopg: Debian's package is for
// Debian's Python, which need not be the first on the path.
func testPsycopg(t *testing.T, tg target) {
	for _, python := range []string{"python3", "/usr/bin/python3"} {
		if exec.Command(python, "-c", "import psycopg").Run() == nil {
			runScript(t, tg, python, "testdata/psycopg/script.py")
			return
		}
	}
	t.Fatal("no Python with psycopg: install python3-psycopg (make test-drivers does)")
}

func testNode(t *testing.T, tg target) {
	if _, err := exec.LookPath("node"); err != nil {
		t.Fatal("no Node.js: install nodejs and npm (make test-drivers does)")
	}
	if _, err := os.Stat("testdata/node/node_modules/pg"); err != nil {
		t.Fatal("no node-postgres: run npm ci in gateway/drivers/testdata/node (make test-drivers does)")
	}
	runScript(t, tg, "node", "--no-deprecation", "testdata/node/script.js")
}

// jdbcJar is where Debian has the driver.
const jdbcJar = "/usr/share/java/postgresql.jar"

func testJDBC(t *testing.T, tg target) {
	if _, err := exec.LookPath("javac"); err != nil {
		t.Fatal("no Java compiler: install default-jdk-headless (make test-drivers does)")
	}
	if _, err := os.Stat(jdbcJar); err != nil {
		t.Fatal("no pgjdbc: install libpostgresql-jdbc-java (make test-drivers does)")
	}
	// It runs for seconds: what the JVM would spend on optimising is not won back.
	runScript(t, tg, "java", "-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC", "-cp", jdbcJar, "testdata/jdbc/Script.java")
}
