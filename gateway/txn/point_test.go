package txn

import (
	"go/ast"
	"go/parser"
	"go/token"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// Files whose messages are of no commit and no recovery, or only read.
var aside = []string{"deadlock.go", "doubt.go", "fence.go", "register.go", "status.go"}

// nameless are the functions that send something and name no step, and why. What they send is
// between the steps of their callers.
var nameless = map[string]string{
	"send":      "whoever calls it names the step",
	"Rollback":  "of what is not prepared",
	"settleOn":  "between Listed and Settled, or DecideSent and Decided",
	"prepared":  "reads",
	"decisions": "reads",
	"finishOn":  "between FinishOrphan and OrphanFinished",
	"clearDone": "after ClearDecisions",
	"run":       "after MarkFinished or ClearOld",
	"clearOld":  "after ClearOld",
	"asOwner":   "between FinishSent and Finished, or after Abort",
}

// TestStepsHaveNames fails on a message of a commit or a recovery that has no point: those that
// have one are tried in gateway/e2e.
func TestStepsHaveNames(t *testing.T) {
	paths, err := filepath.Glob("*.go")
	if err != nil || len(paths) == 0 {
		t.Fatal(err)
	}
	reached, sends := map[string]bool{}, map[string]bool{}
	for _, path := range paths {
		if strings.HasSuffix(path, "_test.go") || slices.Contains(aside, path) {
			continue
		}
		files := token.NewFileSet()
		f, err := parser.ParseFile(files, path, nil, 0)
		if err != nil {
			t.Fatal(err)
		}
		for _, d := range f.Decls {
			fn, ok := d.(*ast.FuncDecl)
			if !ok {
				continue
			}
			here, names := false, false
			ast.Inspect(fn, func(n ast.Node) bool {
				switch n := n.(type) {
				case *ast.BlockStmt:
					unnamed(t, files, n.List)
				case *ast.CaseClause:
					unnamed(t, files, n.Body)
				case *ast.CallExpr:
					switch called(n) {
					case "send", "SendQuery", "Query", "QueryTimeout":
						here = true
					case "Reach":
						names = true
						reached[n.Args[0].(*ast.Ident).Name] = true
					}
				}
				return true
			})
			if here {
				sends[fn.Name.Name] = true
			}
			if here && !names && nameless[fn.Name.Name] == "" {
				t.Errorf("%s: %s sends something, and names no step: see point.go", files.Position(fn.Pos()), fn.Name.Name)
			}
		}
	}
	for name := range nameless {
		if !sends[name] {
			t.Errorf("%s sends nothing any more", name)
		}
	}
	f, err := parser.ParseFile(token.NewFileSet(), "point.go", nil, 0)
	if err != nil {
		t.Fatal(err)
	}
	ast.Inspect(f, func(n ast.Node) bool {
		if v, ok := n.(*ast.ValueSpec); ok && !reached[v.Names[0].Name] && v.Names[0].Name != "Begin" { // package session's
			t.Errorf("no step has the name %s", v.Names[0].Name)
		}
		return true
	})
}

// unnamed fails where a message is sent by a statement that doesn't follow the name of its step.
func unnamed(t *testing.T, files *token.FileSet, list []ast.Stmt) {
	t.Helper()
	for i, s := range list {
		if statementCalls(s) == "send" && (i == 0 || statementCalls(list[i-1]) != "Reach") {
			t.Errorf("%s: a message without a point before it", files.Position(s.Pos()))
		}
	}
}

// statementCalls is the function that a statement calls, if that is all it does.
func statementCalls(s ast.Stmt) string {
	if x, ok := s.(*ast.ExprStmt); ok {
		if c, ok := x.X.(*ast.CallExpr); ok {
			return called(c)
		}
	}
	return ""
}

// called is the name of the function or method of a call.
func called(c *ast.CallExpr) string {
	switch f := c.Fun.(type) {
	case *ast.Ident:
		return f.Name
	case *ast.SelectorExpr:
		return f.Sel.Name
	}
	return ""
}
