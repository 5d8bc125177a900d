package configs

import (
	"bytes"
	"flag"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"reflect"
	"strings"
	"testing"
)

// generatedFile holds a file that is made from the Go types to what they say,
// or makes it anew under -rewrite, the flag that datadriven has as well.
func generatedFile(t *testing.T, path string, want []byte) {
	t.Helper()
	if flag.Lookup("rewrite").Value.String() == "true" {
		if err := os.WriteFile(path, want, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	have, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(have, want) {
		t.Errorf("%s is not what the types in config.go say; make it anew with go test ./configs -rewrite, and read the difference", path)
	}
}

// comments returns the comments of the fields in config.go as one line each, by
// the struct's name, a dot and the field's name.
func comments(t *testing.T) map[string]string {
	t.Helper()
	file, err := parser.ParseFile(token.NewFileSet(), "config.go", nil, parser.ParseComments)
	if err != nil {
		t.Fatal(err)
	}
	found := make(map[string]string)
	ast.Inspect(file, func(n ast.Node) bool {
		spec, ok := n.(*ast.TypeSpec)
		if !ok {
			return true
		}
		structure, ok := spec.Type.(*ast.StructType)
		if !ok {
			return true
		}
		for _, f := range structure.Fields.List {
			for _, name := range f.Names {
				found[spec.Name.Name+"."+name.Name] = strings.Join(strings.Fields(f.Doc.Text()), " ")
			}
		}
		return true
	})
	return found
}

// walkKeys calls visit for every key, a section or list before what is in it.
func walkKeys(t reflect.Type, path string, visit func(owner reflect.Type, f *field, path string)) {
	for _, f := range fieldsOf(t) {
		here := join(path, f.name)
		visit(t, &f, here)
		inner := f.typ
		if f.isList() {
			inner, here = inner.Elem(), here+"[]"
		}
		if inner.Kind() == reflect.Struct {
			walkKeys(inner, here, visit)
		}
	}
}

func TestEveryKeyHasAComment(t *testing.T) {
	docs := comments(t)
	walkKeys(reflect.TypeFor[Config](), "", func(owner reflect.Type, f *field, path string) {
		if docs[owner.Name()+"."+f.goName] == "" {
			t.Errorf("%s: the field %s.%s has no comment", path, owner.Name(), f.goName)
		}
	})
}

// typeName is the type of a key in the reference.
func typeName(f *field) string {
	switch {
	case f.typ == typeColumns:
		return "text or list of texts"
	case f.isSection():
		return "section"
	case f.isList() && f.typ.Elem().Kind() == reflect.Struct:
		return "list of sections"
	case f.isList():
		return "list of URLs"
	case f.typ == typeDuration:
		return "duration"
	case f.typ == typeBytes:
		return "size"
	case f.enum != nil:
		return "word"
	case f.typ.Kind() == reflect.Bool:
		return "true or false"
	case f.typ.Kind() == reflect.Int:
		return "whole number"
	}
	return "text"
}

// defaultText is the default of a key in the reference.
func defaultText(f *field) string {
	switch {
	case f.required:
		return "required"
	case f.isSection():
		return ""
	case f.hasDef:
		return "`" + f.def + "`"
	}
	return "none"
}

// boundsText is what a key accepts, in the reference.
func boundsText(f *field) string {
	switch {
	case f.enum != nil:
		return "`" + strings.Join(f.enum, "`, `") + "`"
	case f.pattern != nil:
		return "`" + f.pattern.String() + "`"
	case f.isList() && f.bounds() != "":
		return f.bounds() + " elements"
	}
	return f.bounds()
}

const (
	referenceBegin = "<!-- The following is made from configs/config.go by go test ./configs -rewrite. -->\n"
	referenceEnd   = "<!-- End of what is made from configs/config.go. -->\n"
)

// reference renders a table for each section and list of sections.
func reference(t *testing.T) []byte {
	docs := comments(t)
	var out bytes.Buffer
	var section func(typ reflect.Type, path, about string)
	section = func(typ reflect.Type, path, about string) {
		title := "Top level"
		if path != "" {
			title = "`" + path + "`"
		}
		fmt.Fprintf(&out, "\n### %s\n\n", title)
		if about != "" {
			fmt.Fprintf(&out, "%s\n\n", about)
		}
		fmt.Fprintf(&out, "| key | type | default | accepted | meaning |\n|---|---|---|---|---|\n")
		for _, f := range fieldsOf(typ) {
			fmt.Fprintf(&out, "| `%s` | %s | %s | %s | %s |\n", join(path, f.name), typeName(&f), defaultText(&f),
				strings.ReplaceAll(boundsText(&f), "|", `\|`), docs[typ.Name()+"."+f.goName])
		}
		for _, f := range fieldsOf(typ) {
			here, inner := join(path, f.name), f.typ
			if f.isList() {
				here, inner = here+"[]", inner.Elem()
			}
			if inner.Kind() == reflect.Struct {
				section(inner, here, docs[typ.Name()+"."+f.goName])
			}
		}
	}
	section(reflect.TypeFor[Config](), "", "")
	out.WriteByte('\n')
	return out.Bytes()
}

func TestReference(t *testing.T) {
	const path = "../docs/configuration.md"
	have, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	before, rest, begins := bytes.Cut(have, []byte(referenceBegin))
	_, after, ends := bytes.Cut(rest, []byte(referenceEnd))
	if !begins || !ends {
		t.Fatalf("%s lacks the lines between which the reference stands:\n%s%s", path, referenceBegin, referenceEnd)
	}
	generatedFile(t, path, bytes.Join([][]byte{before, []byte(referenceBegin), reference(t), []byte(referenceEnd), after}, nil))
	walkKeys(reflect.TypeFor[Config](), "", func(_ reflect.Type, _ *field, key string) {
		if !bytes.Contains(have, []byte("| `"+key+"` |")) {
			t.Errorf("%s says nothing about %s", path, key)
		}
	})
}
