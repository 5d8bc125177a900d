package docs_test

import (
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

var (
	codeSpan = regexp.MustCompile("`([^`\n]+)`")
	link     = regexp.MustCompile(`\]\(([^)#\s]+)(?:#[^)]*)?\)`)
	fence    = regexp.MustCompile("(?ms)^```.*?^```\\s*?$")
	// pathLike spans are taken for paths from the top folder.
	pathLike = regexp.MustCompile(`^\.?[A-Za-z0-9_-]+(/[A-Za-z0-9_.-]+)+/?$|^[A-Za-z0-9_-]+\.(go|md|ya?ml|json|sh)$|^(Makefile|wire|shardmap|planner|gateway|configs|bench|docs|scripts)/?$`)
	// nameLike spans are taken for Go names if they begin with a package's and have a
	// capital letter: pool.size is a key of the configuration.
	nameLike = regexp.MustCompile(`^([a-z][a-z0-9]*)\.([A-Za-z]\w*)(?:\.(\w+))?$`)
)

// TestNames checks that the files and the Go names that the documents mention in
// backticks exist, and what their links lead to. In ARCHITECTURE.md whatever looks
// like a path must be one; elsewhere only what begins with one of the top folders.
func TestNames(t *testing.T) {
	known := declarations(t)
	for _, doc := range documents(t) {
		b, err := os.ReadFile(filepath.Join(root, doc))
		if err != nil {
			t.Fatal(err)
		}
		text := fence.ReplaceAllString(string(b), "")
		for _, m := range link.FindAllStringSubmatch(text, -1) {
			if strings.Contains(m[1], "://") {
				continue
			}
			if _, err := os.Stat(filepath.Join(root, filepath.Dir(doc), m[1])); err != nil {
				t.Errorf("%s: the link to %s leads nowhere", doc, m[1])
			}
		}
		for _, m := range codeSpan.FindAllStringSubmatch(text, -1) {
			checkSpan(t, doc, m[1], known)
		}
	}
}

func checkSpan(t *testing.T, doc, span string, known map[string]map[string]bool) {
	if n := nameLike.FindStringSubmatch(span); n != nil && known[n[1]] != nil && strings.ToLower(span) != span && !pathLike.MatchString(span) {
		name := n[2]
		if n[3] != "" {
			name += "." + n[3]
		}
		if !known[n[1]][name] {
			t.Errorf("%s: there is no %s in package %s", doc, name, n[1])
		}
		return
	}
	if !pathLike.MatchString(span) {
		return
	}
	top, _, _ := strings.Cut(span, "/")
	if info, err := os.Stat(filepath.Join(root, top)); doc != "ARCHITECTURE.md" && (err != nil || !info.IsDir()) {
		return
	}
	if _, err := os.Stat(filepath.Join(root, span)); err != nil {
		t.Errorf("%s: there is no file %s", doc, span)
	}
}

// documents are the Markdown files, by their paths from the top folder.
func documents(t *testing.T) []string {
	t.Helper()
	var docs []string
	for _, pattern := range []string{"*.md", "docs/*.md", "docs/*/*.md"} {
		found, err := filepath.Glob(filepath.Join(root, pattern))
		if err != nil {
			t.Fatal(err)
		}
		for _, f := range found {
			rel, err := filepath.Rel(root, f)
			if err != nil {
				t.Fatal(err)
			}
			docs = append(docs, filepath.ToSlash(rel))
		}
	}
	return docs
}

// declarations are the names that the module's packages declare at the top, by the
// packages' names: Name for all, and Type.Member for methods and fields.
func declarations(t *testing.T) map[string]map[string]bool {
	t.Helper()
	known := map[string]map[string]bool{}
	eachGoFile(t, func(file string) {
		f, err := parser.ParseFile(token.NewFileSet(), filepath.Join(root, file), nil, parser.SkipObjectResolution)
		if err != nil {
			t.Fatal(err)
		}
		names := known[f.Name.Name]
		if names == nil {
			names = map[string]bool{}
			known[f.Name.Name] = names
		}
		for _, d := range f.Decls {
			switch d := d.(type) {
			case *ast.FuncDecl:
				declareFunc(names, d)
			case *ast.GenDecl:
				for _, s := range d.Specs {
					declareSpec(names, s)
				}
			}
		}
	})
	return known
}

func declareFunc(names map[string]bool, d *ast.FuncDecl) {
	if d.Recv == nil {
		names[d.Name.Name] = true
		return
	}
	typ := d.Recv.List[0].Type
	if star, ok := typ.(*ast.StarExpr); ok {
		typ = star.X
	}
	if id, ok := typ.(*ast.Ident); ok {
		names[id.Name+"."+d.Name.Name] = true
	}
}

func declareSpec(names map[string]bool, s ast.Spec) {
	switch s := s.(type) {
	case *ast.ValueSpec:
		for _, n := range s.Names {
			names[n.Name] = true
		}
	case *ast.TypeSpec:
		names[s.Name.Name] = true
		var members *ast.FieldList
		switch typ := s.Type.(type) {
		case *ast.StructType:
			members = typ.Fields
		case *ast.InterfaceType:
			members = typ.Methods
		default:
			return
		}
		for _, m := range members.List {
			for _, n := range m.Names {
				names[s.Name.Name+"."+n.Name] = true
			}
		}
	}
}
