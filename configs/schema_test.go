package configs

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"reflect"
	"strconv"
	"strings"
	"testing"

	"github.com/goccy/go-yaml"
	"github.com/santhosh-tekuri/jsonschema/v6"
)

const schemaFile = "shardgate.schema.json"

// object is a JSON object; encoding/json sorts its keys.
type object = map[string]any

// The forms that a scalar can have besides its own.
const (
	variablePattern = `\$\{[A-Za-z_][A-Za-z0-9_]*(:-[^}]*)?\}`
	durationPattern = `^([0-9]+(\.[0-9]*)?(ns|us|µs|ms|s|m|h))+$|^0$`
	bytesPattern    = `^[0-9]+ *(B|KiB|MiB|GiB)?$`
)

// schemaOf is the JSON Schema of a struct: the same keys, types and bounds that
// the decoder reads from the struct tags.
func schemaOf(typ reflect.Type, docs map[string]string) object {
	properties, required := object{}, []string{}
	for _, f := range fieldsOf(typ) {
		var property object
		switch {
		case f.isSection():
			property = object{"anyOf": []any{schemaOf(f.typ, docs), object{"type": "null"}}}
		case f.isList():
			property = schemaOfList(&f, docs)
		default:
			property = schemaOfScalar(&f)
		}
		property["description"] = docs[typ.Name()+"."+f.goName]
		properties[f.name] = property
		if f.required {
			required = append(required, f.name)
		}
	}
	schema := object{"type": "object", "additionalProperties": false, "properties": properties}
	if len(required) > 0 {
		schema["required"] = required
	}
	return schema
}

func schemaOfList(f *field, docs map[string]string) object {
	item := f.item()
	var items object
	if item.isSection() {
		items = schemaOf(item.typ, docs)
	} else {
		items = schemaOfScalar(&item)
	}
	list := object{"type": "array", "items": items}
	if n, err := strconv.Atoi(f.min); err == nil {
		list["minItems"] = n
	}
	if n, err := strconv.Atoi(f.max); err == nil {
		list["maxItems"] = n
	}
	switch {
	case f.typ == typeColumns:
		return object{"anyOf": []any{items, list}}
	case !f.required:
		return object{"anyOf": []any{list, object{"type": "null"}}}
	}
	return list
}

// schemaOfScalar accepts the scalar itself or a text with a variable in it.
func schemaOfScalar(f *field) object {
	variable := object{"type": "string", "pattern": variablePattern}
	text := object{"type": "string"}
	if f.required || f.element {
		text["minLength"] = 1
	}
	schema := object{}
	switch {
	case f.typ == typeDuration:
		schema["anyOf"] = []any{object{"type": "string", "pattern": durationPattern}, variable}
	case f.typ == typeBytes:
		schema["anyOf"] = []any{object{"type": "integer", "minimum": mustBytes(f.min), "maximum": mustBytes(f.max)},
			object{"type": "string", "pattern": bytesPattern}, variable}
	case f.typ.Kind() == reflect.Bool:
		schema["anyOf"] = []any{object{"type": "boolean"}, variable}
	case f.typ.Kind() == reflect.Int:
		schema["anyOf"] = []any{object{"type": "integer", "minimum": json.Number(f.min), "maximum": json.Number(f.max)}, variable}
	case f.enum != nil:
		schema["anyOf"] = []any{object{"enum": f.enum}, variable}
	case f.pattern != nil:
		schema["anyOf"] = []any{object{"type": "string", "pattern": f.pattern.String()}, variable}
	default:
		schema = text
	}
	if f.hasDef {
		schema["default"] = f.def
		if f.typ.Kind() == reflect.Bool || f.typ.Kind() == reflect.Int {
			schema["default"] = json.RawMessage(f.def)
		}
	}
	return schema
}

func mustBytes(s string) int64 {
	b, err := parseBytes(s)
	if err != nil {
		panic(err)
	}
	return int64(b)
}

func generatedSchema(t *testing.T) []byte {
	t.Helper()
	root := schemaOf(reflect.TypeFor[Config](), comments(t))
	root["$schema"] = "https://json-schema.org/draft/2020-12/schema"
	root["title"] = "Configuration of Shardgate"
	root["description"] = "Made from configs/config.go by go test ./configs -rewrite."
	delete(root, "required") // shardgate dev takes a file without shards
	var out bytes.Buffer
	encoder := json.NewEncoder(&out)
	encoder.SetEscapeHTML(false)
	encoder.SetIndent("", "  ")
	if err := encoder.Encode(root); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

func TestSchemaFollowsTypes(t *testing.T) {
	generatedFile(t, schemaFile, generatedSchema(t))
}

// compileSchema compiles the schema as the types have it now.
func compileSchema(t *testing.T) *jsonschema.Schema {
	t.Helper()
	doc, err := jsonschema.UnmarshalJSON(bytes.NewReader(generatedSchema(t)))
	if err != nil {
		t.Fatal(err)
	}
	compiler := jsonschema.NewCompiler()
	if err := compiler.AddResource(schemaFile, doc); err != nil {
		t.Fatal(err)
	}
	schema, err := compiler.Compile(schemaFile)
	if err != nil {
		t.Fatal(err)
	}
	return schema
}

// validate checks YAML against the schema as an editor does. It reads the YAML
// with the library's decoder, not with this package's.
func validate(schema *jsonschema.Schema, data []byte) error {
	var value any
	if err := yaml.Unmarshal(data, &value); err != nil {
		return err
	}
	asJSON, err := json.Marshal(value)
	if err != nil {
		return err
	}
	value, err = jsonschema.UnmarshalJSON(bytes.NewReader(asJSON))
	if err != nil {
		return err
	}
	return schema.Validate(value)
}

// TestSchemaKnowsTheSameKeys gives each key of the types to the schema, and a
// key that no type has.
func TestSchemaKnowsTheSameKeys(t *testing.T) {
	schema := compileSchema(t)
	wrong := object{"nothing": object{"takes": "this"}}
	walkKeys(reflect.TypeFor[Config](), "", func(_ reflect.Type, f *field, path string) {
		for _, name := range []string{f.name, f.name + "_unknown"} {
			err := schema.Validate(nest(parentKey(path), name, wrong))
			if err == nil {
				t.Errorf("the schema takes anything for %s", join(parentKey(path), name))
				continue
			}
			unknown := strings.Contains(err.Error(), "additional properties '"+name+"' not allowed")
			if unknown != (name != f.name) {
				t.Errorf("%s: %v", path, err)
			}
		}
	})
}

// nest puts a key into the sections and lists of a path such as auth.users[].
func nest(path, key string, value any) any {
	inner := any(object{key: value})
	for path != "" {
		name := path[strings.LastIndex(path, ".")+1:]
		path = parentKeyOfSection(path)
		if list, ok := strings.CutSuffix(name, "[]"); ok {
			name, inner = list, []any{inner}
		}
		inner = object{name: inner}
	}
	return inner
}

func parentKeyOfSection(path string) string {
	return path[:max(0, strings.LastIndex(path, "."))]
}

func TestExamples(t *testing.T) {
	for name, value := range map[string]string{"SHARD_PASSWORD": "s1", "APP_PASSWORD": "s2", "REPORT_PASSWORD": "s3"} {
		t.Setenv(name, value)
	}
	t.Setenv("SHARDGATE_LISTEN", "")
	schema := compileSchema(t)
	files, err := filepath.Glob("*.yaml")
	if err != nil || len(files) < 3 {
		t.Fatalf("found %v, %v", files, err)
	}
	for _, path := range files {
		data, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		if !strings.HasPrefix(string(data), "# yaml-language-server: $schema="+schemaFile+"\n") {
			t.Errorf("%s doesn't begin by naming its schema", path)
		}
		if err := validate(schema, data); err != nil {
			t.Errorf("%s: %v", path, err)
		}
		load := Load
		if path == "dev.yaml" {
			load = LoadWithoutShards
		}
		c, err := load(path)
		if err != nil {
			t.Errorf("%s: %v", path, err)
		} else if c.Warnings != nil {
			t.Errorf("%s: %v", path, c.Warnings)
		}
	}
}
