package configs

import (
	"reflect"
	"regexp"
	"strings"
	"sync"
	"time"
)

// field is a key of the configuration as the struct tags of Config say it.
type field struct {
	name     string // the key
	goName   string
	index    int // in the struct
	typ      reflect.Type
	def      string // default, as one would write it; "" where hasDef is false
	hasDef   bool
	min, max string // bounds, as one would write them; "" for none
	enum     []string
	pattern  *regexp.Regexp
	required bool
	element  bool // this is an element of the list with this name
}

var (
	typeBytes    = reflect.TypeFor[Bytes]()
	typeColumns  = reflect.TypeFor[Columns]()
	typeDuration = reflect.TypeFor[time.Duration]()
	typePosition = reflect.TypeFor[Position]()
	typeSecret   = reflect.TypeFor[Secret]()
	typeServer   = reflect.TypeFor[ServerURL]()
)

var fieldCache sync.Map // reflect.Type -> []field

// fieldsOf returns the keys of a struct in their order in Go.
func fieldsOf(t reflect.Type) []field {
	if cached, ok := fieldCache.Load(t); ok {
		return cached.([]field)
	}
	var fields []field
	for i := range t.NumField() {
		sf := t.Field(i)
		name := sf.Tag.Get("yaml")
		if name == "" {
			continue
		}
		f := field{name: name, goName: sf.Name, index: i, typ: sf.Type,
			min: sf.Tag.Get("min"), max: sf.Tag.Get("max"), required: sf.Tag.Get("required") == "true"}
		f.def, f.hasDef = sf.Tag.Lookup("default")
		if enum := sf.Tag.Get("enum"); enum != "" {
			f.enum = strings.Split(enum, ",")
		}
		if pattern := sf.Tag.Get("pattern"); pattern != "" {
			f.pattern = regexp.MustCompile(pattern)
		}
		fields = append(fields, f)
	}
	fieldCache.Store(t, fields)
	return fields
}

// isSection reports whether the field's value is a mapping of further keys.
func (f *field) isSection() bool { return f.typ.Kind() == reflect.Struct }

// isList reports whether the field's value is a list.
func (f *field) isList() bool { return f.typ.Kind() == reflect.Slice }

// item returns the description of a list's element: no bounds of its own, those
// of the list count elements.
func (f *field) item() field {
	return field{name: f.name, typ: f.typ.Elem(), element: true}
}

// bounds renders the bounds for a reader, "" if there are none.
func (f *field) bounds() string {
	switch {
	case f.min != "" && f.max != "":
		return "from " + f.min + " to " + f.max
	case f.min != "":
		return "at least " + f.min
	case f.max != "":
		return "at most " + f.max
	}
	return ""
}

// parentKey cuts the last part from a path: a.b -> a, a[1] -> a.
func parentKey(path string) string {
	return path[:max(0, strings.LastIndexAny(path, ".["))]
}

// label is the name of a path in messages: its part after the last list, since
// the position says which element it is.
func label(path string) string {
	if before, after, ok := cutLast(path, "]."); ok && before != "" {
		path = after
	}
	name, _, _ := strings.Cut(path, "[")
	return name
}

func cutLast(s, sep string) (before, after string, found bool) {
	if i := strings.LastIndex(s, sep); i >= 0 {
		return s[:i], s[i+len(sep):], true
	}
	return s, "", false
}

// join appends a key to a path.
func join(path, key string) string {
	if path == "" {
		return key
	}
	return path + "." + key
}
