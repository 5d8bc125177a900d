package configs

import (
	"fmt"
	"reflect"
	"strings"
)

// render lists what a Config has other than its defaults, a line each: key,
// value as it prints, and position.
func render(c *Config) string {
	var out strings.Builder
	renderStruct(&out, c, reflect.ValueOf(*c), reflect.ValueOf(*Default()), "")
	for _, w := range c.Warnings {
		fmt.Fprintf(&out, "warning: %v\n", w)
	}
	if out.Len() == 0 {
		return "all defaults\n"
	}
	return out.String()
}

func renderStruct(out *strings.Builder, c *Config, v, defaults reflect.Value, path string) {
	for _, f := range fieldsOf(v.Type()) {
		value, key := v.Field(f.index), join(path, f.name)
		switch {
		case f.isSection():
			renderStruct(out, c, value, defaults.Field(f.index), key)
		case f.isList() && f.typ.Elem().Kind() == reflect.Struct:
			for i := range value.Len() {
				element := reflect.New(f.typ.Elem()).Elem()
				setDefaults(element)
				renderStruct(out, c, value.Index(i), element, fmt.Sprintf("%s[%d]", key, i))
			}
		case !reflect.DeepEqual(value.Interface(), defaults.Field(f.index).Interface()):
			fmt.Fprintf(out, "%s = %v (%d:%d)\n", key, value.Interface(), c.Position(key).Line, c.Position(key).Column)
		}
	}
}
