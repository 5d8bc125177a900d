package pool

import (
	"maps"
	"slices"
	"strings"

	"github.com/shardgate/shardgate/planner"
)

// Vars are the settings that a client has made, by lower-case name. A Vars is
// immutable, so that equal ones can be told by their address; nil is the empty one.
type Vars struct {
	values map[string]string
}

// Get returns a setting.
func (v *Vars) Get(name string) (string, bool) {
	if v == nil {
		return "", false
	}
	s, ok := v.values[name]
	return s, ok
}

// With returns the settings with one changed.
func (v *Vars) With(name, value string) *Vars {
	if old, ok := v.Get(name); ok && old == value {
		return v
	}
	n := &Vars{values: map[string]string{}}
	if v != nil {
		maps.Copy(n.values, v.values)
	}
	n.values[name] = value
	return n
}

// Without returns the settings with one taken away.
func (v *Vars) Without(name string) *Vars {
	if _, ok := v.Get(name); !ok {
		return v
	}
	if len(v.values) == 1 {
		return nil
	}
	n := &Vars{values: maps.Clone(v.values)}
	delete(n.values, name)
	return n
}

// Equal compares the settings.
func (v *Vars) Equal(w *Vars) bool {
	if v == w {
		return true
	}
	if v == nil || w == nil {
		return false
	}
	return maps.Equal(v.values, w.values)
}

// Key is equal for equal settings.
func (v *Vars) Key() string {
	if v == nil {
		return ""
	}
	var b strings.Builder
	for _, n := range slices.Sorted(maps.Keys(v.values)) {
		b.WriteString(n)
		b.WriteByte('=')
		b.WriteString(v.values[n])
		b.WriteByte(0)
	}
	return b.String()
}

// Change is the SQL that turns a connection with the settings from into one with
// the settings v, or "". The role comes last on the way in and first on the way
// out, since what it may set differs.
func (v *Vars) Change(from *Vars) string {
	if v.Equal(from) {
		return ""
	}
	var b strings.Builder
	if from != nil {
		_, hadRole := from.Get("role")
		if hadRole {
			b.WriteString("RESET ROLE;")
		}
		for _, n := range slices.Sorted(maps.Keys(from.values)) {
			if _, keep := v.Get(n); !keep && n != "role" {
				b.WriteString("RESET " + quoteSetting(n) + ";")
			}
		}
	}
	if v != nil {
		for _, n := range slices.Sorted(maps.Keys(v.values)) {
			if old, ok := from.Get(n); n == "role" || ok && old == v.values[n] {
				continue
			}
			b.WriteString(set(n, v.values[n]))
		}
		if role, ok := v.Get("role"); ok {
			b.WriteString(set("role", role))
		}
	}
	return b.String()
}

func set(name, value string) string {
	return "SELECT pg_catalog.set_config(" + planner.QuoteLiteral(name) + "," + planner.QuoteLiteral(value) + ",false);"
}

// quoteSetting quotes the name of a setting for RESET; a custom one has a dot.
func quoteSetting(name string) string {
	parts := strings.Split(name, ".")
	for i, p := range parts {
		parts[i] = planner.QuoteIdent(p)
	}
	return strings.Join(parts, ".")
}
