package configs

import (
	"fmt"
	"strings"
)

// expand replaces ${NAME} and ${NAME:-default} in a scalar by what lookup says,
// and $${ by ${. It works on the scalar that YAML has made, never on the file,
// so no value of a variable can add a key or an element. A default applies when
// the variable is unset or empty, as in a shell, and is not expanded itself.
// A $ that no { follows stands for itself.
func expand(text string, lookup func(string) (string, bool)) (expanded string, used bool, err *hintedError) {
	var out strings.Builder
	for {
		i := strings.Index(text, "${")
		if i < 0 {
			out.WriteString(text)
			return out.String(), used, nil
		}
		if i > 0 && text[i-1] == '$' {
			out.WriteString(text[:i-1] + "${")
			text = text[i+2:]
			continue
		}
		out.WriteString(text[:i])
		name, rest, closed := strings.Cut(text[i+2:], "}")
		name, fallback, hasDefault := strings.Cut(name, ":-")
		switch {
		case !closed:
			return "", true, &hintedError{"${ without a closing }", "write $${ for a ${ that is meant as such"}
		case !isVariableName(name):
			return "", true, &hintedError{"${ and } must enclose the name of an environment variable",
				"write ${NAME} or ${NAME:-default}, or $${ for a ${ that is meant as such"}
		}
		used = true
		value, set := lookup(name)
		switch {
		case hasDefault && value == "":
			value = fallback
		case !set:
			return "", true, &hintedError{fmt.Sprintf("the environment variable %s is not set", name),
				fmt.Sprintf("set it, or give a default: ${%s:-default}", name)}
		}
		out.WriteString(value)
		text = rest
	}
}

// isVariableName reports whether name is one by POSIX: letters, digits and
// underscores, not beginning with a digit.
func isVariableName(name string) bool {
	for i, c := range []byte(name) {
		letter := c == '_' || 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z'
		if !letter && (i == 0 || c < '0' || c > '9') {
			return false
		}
	}
	return name != ""
}
