package configs

import (
	"reflect"
	"strings"
)

// suggest returns the hint for a key that does not exist in a struct: the
// nearest key there or the same key in another section, and then near is true,
// or all that there are.
func suggest(key string, t reflect.Type) (hint string, near bool) {
	var names []string
	nearest, distance := "", 1+max(1, len(key)/3)
	for _, f := range fieldsOf(t) {
		names = append(names, f.name)
		if d := editDistance(key, f.name); d < distance {
			nearest, distance = f.name, d
		}
	}
	if nearest != "" {
		return "did you mean " + nearest + "?", true
	}
	if place := elsewhere(key, reflect.TypeFor[Config](), ""); place != "" {
		return "did you mean " + place + "?", true
	}
	return "known here are " + strings.Join(names, ", "), false
}

// elsewhere returns the path of a key with this name in any section or list,
// empty if there is none.
func elsewhere(key string, t reflect.Type, path string) string {
	for _, f := range fieldsOf(t) {
		here := join(path, f.name)
		if f.name == key {
			return here
		}
		inner := f.typ
		if f.isList() {
			inner, here = inner.Elem(), here+"[]"
		}
		if inner.Kind() != reflect.Struct {
			continue
		}
		if place := elsewhere(key, inner, here); place != "" {
			return place
		}
	}
	return ""
}

// maxSuggestBytes bounds the quadratic work on a key; longer ones are like none.
const maxSuggestBytes = 64

// editDistance is the number of bytes to insert, delete, replace or exchange
// with their neighbour to make b from a (optimal string alignment).
func editDistance(a, b string) int {
	if len(a) > maxSuggestBytes || len(b) > maxSuggestBytes {
		return maxSuggestBytes
	}
	var rows [3][maxSuggestBytes + 1]int
	before, previous, current := &rows[0], &rows[1], &rows[2]
	for j := range len(b) + 1 {
		previous[j] = j
	}
	for i := 1; i <= len(a); i++ {
		current[0] = i
		for j := 1; j <= len(b); j++ {
			cost := 1
			if a[i-1] == b[j-1] {
				cost = 0
			}
			current[j] = min(previous[j]+1, current[j-1]+1, previous[j-1]+cost)
			if i > 1 && j > 1 && a[i-1] == b[j-2] && a[i-2] == b[j-1] {
				current[j] = min(current[j], before[j-2]+1)
			}
		}
		before, previous, current = previous, current, before
	}
	return previous[len(b)]
}
