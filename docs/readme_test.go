package docs_test

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/shardgate/shardgate/configs"
	"github.com/shardgate/shardgate/gateway/dev/devtest"
	"github.com/shardgate/shardgate/gateway/localpg/pgtest"
)

func TestMain(m *testing.M) { pgtest.Main(m) }

var (
	psqlBlock = regexp.MustCompile("(?ms)^```psql\n(.*?)^```$")
	runArgs   = regexp.MustCompile("make run(?: ARGS=\"([^\"]*)\")?")
	configArg = regexp.MustCompile(`--config (\S+)`)
	prompt    = regexp.MustCompile(`^postgres([=(-])([*!]?)# (.*)$`)
	refusal   = regexp.MustCompile("(?m)^\\| `(.*?)` \\|.*\\| `([0-9A-Z]{5})` \\|$")
)

// TestReadme pastes the README's psql sessions into psql, each against a cluster as
// the last `make run` before it starts one, and compares the output. After the last
// session it runs the statements of the table of refusals, and compares SQLSTATEs.
func TestReadme(t *testing.T) {
	b, err := os.ReadFile(filepath.Join(root, "README.md"))
	if err != nil {
		t.Fatal(err)
	}
	readme := string(b)
	blocks := psqlBlock.FindAllStringSubmatchIndex(readme, -1)
	if len(blocks) == 0 {
		t.Fatal("the README has no psql session")
	}
	var url string
	for i, at := range blocks {
		runs := runArgs.FindAllStringSubmatch(readme[:at[0]], -1)
		if len(runs) == 0 {
			t.Fatal("no `make run` stands before the psql session")
		}
		url = start(t, runs[len(runs)-1][1])
		session := readme[at[2]:at[3]]
		input, echoed := transcript(t, session)
		compare(t, fmt.Sprintf("session %d", i+1), echoed, psql(t, url, input))
	}
	checkRefusals(t, url, readme)
}

// start runs a cluster with the configuration that `make run` would take with these
// arguments, and returns its URL.
func start(t *testing.T, args string) string {
	t.Helper()
	var cfg *configs.Config
	var err error
	if m := configArg.FindStringSubmatch(args); m != nil {
		cfg, err = configs.LoadWithoutShards(filepath.Join(root, m[1]))
	} else {
		cfg, err = configs.ParseWithoutShards("dev.yaml", configs.Dev())
	}
	if err == nil {
		err = cfg.SetListen("test", "127.0.0.1:0")
	}
	if err != nil {
		t.Fatal(err)
	}
	return devtest.Start(t, 4, cfg).URL()
}

// transcript takes a session apart: what a reader types, and what psql prints when
// it echoes its input. The prompts are checked by the way.
func transcript(t *testing.T, session string) (input, echoed string) {
	t.Helper()
	var in, out strings.Builder
	status := ""
	for _, line := range strings.SplitAfter(session, "\n") {
		m := prompt.FindStringSubmatch(strings.TrimSuffix(line, "\n"))
		if m == nil {
			if strings.HasPrefix(line, "$ ") {
				continue
			}
			switch {
			case line == "BEGIN\n":
				status = "*"
			case line == "COMMIT\n", line == "ROLLBACK\n":
				status = ""
			case strings.HasPrefix(line, "ERROR:") && status != "":
				status = "!"
			}
			out.WriteString(line)
			continue
		}
		if m[2] != status {
			t.Errorf("the prompt of %q shows the transaction status %q, not %q", line, m[2], status)
		}
		in.WriteString(m[3] + "\n")
		out.WriteString(m[3] + "\n")
	}
	return in.String(), out.String()
}

// psql runs input and returns what psql prints, errors in their places.
func psql(t *testing.T, url, input string) string {
	t.Helper()
	ctx, stop := context.WithTimeout(t.Context(), time.Minute)
	defer stop()
	cmd := exec.CommandContext(ctx, "psql", "-X", "--echo-all", url)
	cmd.Env = append(os.Environ(), "LC_ALL=C", "PGOPTIONS=", "PGCLIENTENCODING=UTF8")
	cmd.Stdin = strings.NewReader(input)
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("psql: %v\n%s", err, out)
	}
	return string(out)
}

// compare reports the first line that differs; blanks at the ends don't count.
func compare(t *testing.T, what, want, got string) {
	t.Helper()
	w, g := lines(want), lines(got)
	for i := range max(len(w), len(g)) {
		var x, y string
		if i < len(w) {
			x = w[i]
		}
		if i < len(g) {
			y = g[i]
		}
		if x != y {
			t.Errorf("%s of the README: it shows\n\t%s\nwhere psql prints\n\t%s\nAll of psql's output:\n%s", what, x, y, got)
			return
		}
	}
}

func lines(s string) []string {
	var out []string
	for _, l := range strings.Split(strings.TrimSpace(s), "\n") {
		out = append(out, strings.TrimRight(l, " "))
	}
	return out
}

// checkRefusals runs the statements of the table of refusals.
func checkRefusals(t *testing.T, url, readme string) {
	t.Helper()
	rows := refusal.FindAllStringSubmatch(readme, -1)
	if len(rows) < 20 {
		t.Fatalf("only %d rows were found in the table of refusals", len(rows))
	}
	const mark = "sqlstate "
	input := "CREATE VIEW v AS SELECT * FROM orders;\nCREATE SEQUENCE s;\n"
	for _, r := range rows {
		input += r[1] + ";\n\\echo " + mark + ":SQLSTATE\nROLLBACK;\n"
	}
	var got []string
	for _, l := range lines(psql(t, url, input)) {
		if s, ok := strings.CutPrefix(l, mark); ok && s != ":SQLSTATE" {
			got = append(got, s)
		}
	}
	if len(got) != len(rows) {
		t.Fatalf("%d statements gave %d SQLSTATEs", len(rows), len(got))
	}
	for i, r := range rows {
		if got[i] != r[2] {
			t.Errorf("the README says that %s gives %s; it gives %s", r[1], r[2], got[i])
		}
	}
}
