package docs_test

import (
	"go/parser"
	"go/token"
	"io/fs"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
)

const module = "github.com/shardgate/shardgate"

// graph is the picture of the architecture: what of the project each package may
// import, tests apart. A package that is not in it needs a place first; "bench/..."
// stands for all packages below bench.
var graph = map[string][]string{
	"wire":     {},
	"shardmap": {},
	"configs":  {},

	"planner/sqltext": {},
	"planner":         {"planner/sqltext", "shardmap"},

	"gateway/pool":    below("gateway"),
	"gateway/txn":     below("gateway", "pool"),
	"gateway/catalog": below("gateway", "pool", "txn"),
	"gateway/exec":    below("gateway", "pool", "txn"),
	"gateway/session": below("gateway", "pool", "txn", "catalog", "exec"),
	"gateway":         below("gateway", "pool", "txn", "catalog", "exec", "session"),

	// Servers to run a gateway against know nothing of gateways.
	"gateway/localpg":        {},
	"gateway/localpg/pgtest": {"gateway/localpg"},

	"gateway/admin": append(below("gateway", "pool", "txn", "catalog", "exec", "session"), "gateway"),
	"gateway/dev":   append(below("gateway", "pool", "txn", "catalog", "exec", "session"), "gateway", "gateway/localpg"),

	"gateway/dev/devtest": {"configs", "gateway/dev", "gateway/localpg/pgtest"},

	".": {"configs", "gateway", "gateway/admin", "gateway/dev", "wire"},

	// What tests and measures the whole.
	"gateway/difftest":  everything,
	"gateway/drivers":   everything,
	"gateway/e2e":       everything,
	"gateway/faults":    everything,
	"gateway/prototest": everything,
	"bench/...":         everything,
}

// everything is for what nothing else may import.
var everything = []string{"*"}

// below lists the packages under the gateway, and some of the gateway's own.
func below(parent string, names ...string) []string {
	list := []string{"wire", "shardmap", "configs", "planner", "planner/sqltext"}
	for _, n := range names {
		list = append(list, parent+"/"+n)
	}
	return list
}

// TestImports holds the import graph: arrows point downward only.
func TestImports(t *testing.T) {
	for pkg, imports := range packages(t) {
		allowed, ok := allowedIn(pkg)
		if !ok {
			t.Errorf("package %s has no place in the import graph: give it one in docs/imports_test.go and in ARCHITECTURE.md", pkg)
			continue
		}
		for imported, file := range imports {
			inBench := strings.HasPrefix(pkg, "bench") && strings.HasPrefix(imported, "bench/")
			if target, ok := allowedIn(imported); ok && slices.Equal(target, everything) && !inBench {
				t.Errorf("%s imports %s, which is there for tests and measurements only", file, imported)
			} else if !slices.Contains(allowed, imported) && !slices.Equal(allowed, everything) {
				t.Errorf("%s: package %s must not import %s", file, pkg, imported)
			}
		}
	}
}

func allowedIn(pkg string) ([]string, bool) {
	if allowed, ok := graph[pkg]; ok {
		return allowed, true
	}
	top, _, _ := strings.Cut(pkg, "/")
	allowed, ok := graph[top+"/..."]
	return allowed, ok
}

// TestPackageNames refuses names that say nothing about what is in a package.
func TestPackageNames(t *testing.T) {
	for pkg := range packages(t) {
		switch path.Base(pkg) {
		case "util", "utils", "common", "helper", "helpers", "types", "misc":
			t.Errorf("package %s: the name says nothing; call it after what it is about", pkg)
		}
	}
}

// packages returns the packages of the module by their folders, "." for the top
// one, each with what of the module it imports and a file that does so. Test files
// don't count, files for other operating systems do.
func packages(t *testing.T) map[string]map[string]string {
	t.Helper()
	found := map[string]map[string]string{}
	eachGoFile(t, func(file string) {
		dir := path.Dir(file)
		if found[dir] == nil {
			found[dir] = map[string]string{}
		}
		f, err := parser.ParseFile(token.NewFileSet(), filepath.Join(root, file), nil, parser.ImportsOnly)
		if err != nil {
			t.Fatal(err)
		}
		for _, spec := range f.Imports {
			name, err := strconv.Unquote(spec.Path.Value)
			if err != nil {
				t.Fatal(err)
			}
			if rest, ok := strings.CutPrefix(name, module+"/"); ok {
				found[dir][rest] = file
			} else if name == module {
				found[dir]["."] = file
			}
		}
	})
	if len(found) < 10 {
		t.Fatalf("only %d packages found", len(found))
	}
	return found
}

// root is the top folder, as seen from this one.
const root = ".."

// eachGoFile calls f for the Go files that are not tests, by their paths from the
// top folder.
func eachGoFile(t *testing.T, f func(file string)) {
	t.Helper()
	err := filepath.WalkDir(root, func(p string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		name := d.Name()
		if d.IsDir() {
			if p != root && (strings.HasPrefix(name, ".") || name == "testdata" || name == "node_modules" || name == "bin") {
				return fs.SkipDir
			}
			return nil
		}
		if strings.HasSuffix(name, ".go") && !strings.HasSuffix(name, "_test.go") {
			rel, err := filepath.Rel(root, p)
			if err != nil {
				return err
			}
			f(filepath.ToSlash(rel))
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}
