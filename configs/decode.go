package configs

import (
	"errors"
	"fmt"
	"os"
	"reflect"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Load reads and parses a file. Its error is an Errors with all that is wrong.
func Load(path string) (*Config, error) { return load(path, options{}) }

// LoadWithoutShards is Load for a command that has shards of its own; see
// ParseWithoutShards.
func LoadWithoutShards(path string) (*Config, error) {
	return load(path, options{withoutShards: true})
}

// Parse parses the YAML in data; filename is for positions, and relative names
// of TLS files count from its folder. Environment variables are taken from the
// process. The error is an Errors with all that is wrong, in the order of the
// file; there is a Config exactly when there is no error.
func Parse(filename string, data []byte) (*Config, error) {
	return parse(filename, data, options{})
}

// ParseWithoutShards is Parse for a command that has shards of its own, such as
// `shardgate dev`. The section shards may be absent; if it is there, nothing in
// it is read, so that a configuration for serving can be tried out as it is,
// and a warning says so. The Config has no shards.
func ParseWithoutShards(filename string, data []byte) (*Config, error) {
	return parse(filename, data, options{withoutShards: true})
}

// Default returns the configuration in which every key has its default. It has
// no shards and no tables.
func Default() *Config {
	c := new(Config)
	setDefaults(reflect.ValueOf(c).Elem())
	return c
}

type options struct {
	withoutShards bool
	lookup        func(string) (string, bool) // os.LookupEnv if nil
}

func load(path string, o options) (*Config, error) {
	data, err := os.ReadFile(path)
	if err != nil {
		cause := err
		var pathError *os.PathError
		if errors.As(err, &pathError) {
			cause = pathError.Err // the position names the file already
		}
		return nil, Errors{{Position: Position{File: path}, Message: "can't be read: " + cause.Error(), Err: err}}
	}
	return parse(path, data, o)
}

func parse(filename string, data []byte, o options) (*Config, error) {
	root, errs := parseYAML(filename, data)
	if errs != nil {
		return nil, errs.sorted()
	}
	c := Default()
	c.File = filename
	c.positions = make(map[string]Position)
	d := &decoder{config: c, lookup: o.lookup, withoutShards: o.withoutShards, refused: make(map[string]bool)}
	if d.lookup == nil {
		d.lookup = os.LookupEnv
	}
	c.positions[""] = root.pos
	d.structure(root, reflect.ValueOf(c).Elem(), "")
	errs = append(d.errs, c.check(d.refused)...)
	if len(errs) > 0 {
		return nil, errs.sorted()
	}
	return c, nil
}

// setDefaults sets the defaults in a struct and in the sections in it.
func setDefaults(v reflect.Value) {
	for _, f := range fieldsOf(v.Type()) {
		switch {
		case f.isSection():
			setDefaults(v.Field(f.index))
		case f.hasDef:
			if err := setScalar(v.Field(f.index), f.def); err != nil {
				panic(fmt.Sprintf("configs: default of %s: %v", f.name, err)) // a test makes all of them
			}
		}
	}
}

// decoder fills a Config from nodes and collects what does not fit.
type decoder struct {
	config        *Config
	lookup        func(string) (string, bool)
	withoutShards bool
	refused       map[string]bool // the paths at which, or below which, something was refused
	errs          Errors
}

func (d *decoder) add(pos Position, message, hint string) {
	d.errs = append(d.errs, &Error{Position: pos, Message: message, Hint: hint})
}

// structure fills a struct from a mapping.
func (d *decoder) structure(n *node, v reflect.Value, path string) {
	if n.kind != kindMapping {
		d.wrongType(n, path, "a mapping of keys to values", "")
		return
	}
	if p := v.FieldByName("Pos"); p.IsValid() && p.Type() == typePosition {
		p.Set(reflect.ValueOf(n.pos))
	}
	seen := make(map[string]Position)
	fields := fieldsOf(v.Type())
	for _, e := range n.entries {
		first, twice := seen[e.key]
		seen[e.key] = e.pos
		f := fieldNamed(fields, e.key)
		switch {
		case f == nil:
			d.unknownKey(e, v.Type())
		case twice:
			d.add(e.pos, fmt.Sprintf("the key %q is given a second time", e.key), fmt.Sprintf("another is on line %d", first.Line))
		case d.withoutShards && join(path, f.name) == "shards":
			d.config.Warnings = append(d.config.Warnings, &Error{Position: e.pos,
				Message: "the shards in this file are not used", Hint: "this command makes its own"})
		default:
			d.value(e.value, v.Field(f.index), f, join(path, f.name))
		}
	}
	for _, f := range fields {
		if _, present := seen[f.name]; f.required && !present && !(d.withoutShards && f.name == "shards") {
			d.add(n.pos, label(join(path, f.name))+" is missing", "")
		}
	}
}

func fieldNamed(fields []field, name string) *field {
	for i := range fields {
		if fields[i].name == name {
			return &fields[i]
		}
	}
	return nil
}

// unknownKey reports a key that the struct does not have. The key is quoted if
// it looks like one: a slip next to a password, such as {password:, x}, makes a
// key of the password.
func (d *decoder) unknownKey(e entry, in reflect.Type) {
	hint, near := suggest(e.key, in)
	message := "unknown key"
	if near || keyPattern.MatchString(e.key) && !holdsSecret(in) {
		message += " " + strconv.Quote(e.key)
	}
	d.add(e.pos, message, hint)
}

var keyPattern = regexp.MustCompile(`^[A-Za-z0-9_-]{1,40}$`)

// holdsSecret reports whether a password may be among the values of a struct.
func holdsSecret(t reflect.Type) bool {
	return slices.ContainsFunc(fieldsOf(t), func(f field) bool {
		return f.typ == typeSecret || f.isList() && f.typ.Elem() == typeServer
	})
}

// value fills any field or element.
func (d *decoder) value(n *node, v reflect.Value, f *field, path string) {
	d.config.positions[path] = n.pos
	before := len(d.errs)
	switch {
	case f.isSection() && n.kind == kindNull && !f.element: // all its keys are commented out
	case f.isSection():
		d.structure(n, v, path)
	case f.isList():
		d.list(n, v, f, path)
	default:
		d.scalar(n, v, f, path)
	}
	if len(d.errs) > before {
		d.refused[path] = true
	}
}

// list fills a slice. Columns may be a single scalar in YAML.
func (d *decoder) list(n *node, v reflect.Value, f *field, path string) {
	switch {
	case n.kind == kindList:
	case n.kind == kindNull && f.typ != typeColumns:
		n = &node{kind: kindList, pos: n.pos}
	case f.typ == typeColumns && n.kind != kindMapping:
		n = &node{kind: kindList, pos: n.pos, items: []*node{n}}
	default:
		d.wrongType(n, path, "a list", "")
		return
	}
	if !within(int64(len(n.items)), f, func(s string) (int64, error) { return strconv.ParseInt(s, 10, 64) }) {
		d.add(n.pos, fmt.Sprintf("%s has %d elements; it must have %s", label(path), len(n.items), f.bounds()), "")
		return
	}
	v.Set(reflect.MakeSlice(f.typ, len(n.items), len(n.items)))
	item := f.item()
	for i, element := range n.items {
		if item.isSection() {
			setDefaults(v.Index(i))
		}
		d.value(element, v.Index(i), &item, fmt.Sprintf("%s[%d]", path, i))
	}
}

// scalar fills a text, a number, a duration, a size or a truth value.
func (d *decoder) scalar(n *node, v reflect.Value, f *field, path string) {
	want, hint := expectation(f)
	switch n.kind {
	case kindMapping, kindList:
		d.wrongType(n, path, want, hint)
		return
	case kindNull:
		hint = "give it " + want
		if !f.required && !f.element {
			hint += ", or remove the line"
		}
		d.add(n.pos, label(path)+" has no value", hint)
		return
	}
	text, fromEnvironment, err := expand(n.text, d.lookup)
	if err != nil {
		d.add(n.pos, err.message, err.hint)
		return
	}
	if !fromEnvironment && !accepts(f, n.kind) {
		d.wrongType(n, path, want, hint)
		return
	}
	if message, hint := d.assign(v, f, text); message != "" {
		shown := "its value"
		if f.typ != typeSecret && f.typ != typeServer && showable.MatchString(n.text) {
			shown = strconv.Quote(n.text) // never what the environment holds
		}
		d.add(n.pos, fmt.Sprintf("%s: %s %s", label(path), shown, message), hint)
	}
}

// showable are the values that an error quotes. A missing quote or a wrong
// indentation lets a value swallow what follows, a password among it.
var showable = regexp.MustCompile(`^([A-Za-z0-9_.,;/${}+ -]|:[^ ]){0,60}$`)

// assign converts and checks a text. It returns what is wrong, to be read after
// the text itself, and then leaves v as it was.
func (d *decoder) assign(v reflect.Value, f *field, text string) (message, hint string) {
	switch {
	case strings.ContainsRune(text, 0):
		return "has a zero byte in it", ""
	case text == "" && (f.required || f.element):
		return "is empty", ""
	}
	value := reflect.New(v.Type()).Elem()
	if err := setScalar(value, text); err != nil {
		want, hint := expectation(f)
		return "is not " + want, hint
	}
	switch {
	case f.enum != nil && !slices.Contains(f.enum, text):
		return "is not one of " + strings.Join(f.enum, ", "), ""
	case f.pattern != nil && !f.pattern.MatchString(text):
		return "does not match " + f.pattern.String(), ""
	case v.CanInt() && !within(value.Int(), f, func(s string) (int64, error) {
		bound := reflect.New(v.Type()).Elem()
		err := setScalar(bound, s)
		return bound.Int(), err
	}):
		return "is out of bounds: it must be " + f.bounds(), ""
	}
	v.Set(value)
	return "", ""
}

// within reports whether n is within the bounds of f, which convert reads.
func within(n int64, f *field, convert func(string) (int64, error)) bool {
	for _, bound := range []struct {
		text string
		sign int64
	}{{f.min, 1}, {f.max, -1}} {
		if bound.text == "" {
			continue
		}
		limit, err := convert(bound.text)
		if err != nil {
			panic(fmt.Sprintf("configs: bound of %s: %v", f.name, err)) // a test reads all of them
		}
		if bound.sign*n < bound.sign*limit {
			return false
		}
	}
	return true
}

func (d *decoder) wrongType(n *node, path, want, hint string) {
	name := label(path)
	switch {
	case name == "":
		name = "the file"
	case strings.HasSuffix(path, "]"):
		name = "an element of " + name
	}
	d.add(n.pos, fmt.Sprintf("%s must be %s, not %s", name, want, n.kind), hint)
}

// expectation says for messages what a scalar field takes, and how to write it.
func expectation(f *field) (want, hint string) {
	switch f.typ {
	case typeDuration:
		return "a duration", "write a number and its unit: 500ms, 10s, 5m, 1h30m"
	case typeBytes:
		return "a size", "write a number of bytes, or one with a unit: 512KiB, 64MiB, 1GiB"
	case typeServer:
		return "the URL of a server", urlShape
	}
	switch f.typ.Kind() {
	case reflect.Bool:
		return "true or false", ""
	case reflect.Int:
		return "a whole number", "write it in decimal digits and without quotes"
	}
	return "a text", "put it into quotes if it looks like a number, true, false or null"
}

// accepts reports whether a field takes a scalar that YAML took for k.
func accepts(f *field, k kind) bool {
	switch {
	case f.typ == typeBytes:
		return k == kindText || k == kindInteger
	case f.typ == typeDuration:
		return k == kindText
	case f.typ.Kind() == reflect.Bool:
		return k == kindBool
	case f.typ.Kind() == reflect.Int:
		return k == kindInteger
	}
	return k == kindText
}

// setScalar converts a text to the type of v.
func setScalar(v reflect.Value, text string) error {
	switch {
	case v.Type() == typeDuration:
		d, err := time.ParseDuration(text)
		v.SetInt(int64(d))
		return err
	case v.Type() == typeBytes:
		b, err := parseBytes(text)
		v.SetInt(int64(b))
		return err
	case v.Kind() == reflect.Bool:
		if text != "true" && text != "false" {
			return strconv.ErrSyntax
		}
		v.SetBool(text == "true")
		return nil
	case v.Kind() == reflect.Int:
		n, err := parseInt(text)
		v.SetInt(n)
		return err
	}
	v.SetString(text)
	return nil
}

// parseInt reads decimal digits only: no sign but -, and no leading zero, which
// one reader of YAML takes for octal and the other not.
func parseInt(text string) (int64, error) {
	n, err := strconv.ParseInt(text, 10, 64)
	if err == nil && strconv.FormatInt(n, 10) != text {
		return 0, strconv.ErrSyntax
	}
	return n, err
}
