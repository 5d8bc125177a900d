package pool

import (
	"fmt"
	"maps"
	"slices"
	"testing"

	"pgregory.net/rapid"

	"github.com/shardgate/shardgate/gateway/localpg/pgtest"
	"github.com/shardgate/shardgate/planner"
)

// settings are some that clients make, and values as PostgreSQL gives them back.
var settings = map[string][]string{
	"application_name":            {"", "psql", "it's", `back\slash`, `"`, "a;b--c"},
	"search_path":                 {`"$user", public`, `"A b", pg_temp`, `""`},
	"standard_conforming_strings": {"on", "off"},
	"backslash_quote":             {"on", "off"},
	"datestyle":                   {"ISO, MDY", "SQL, DMY"},
	"timezone":                    {"Asia/Kathmandu", "<-08>+08", "UTC"},
	"work_mem":                    {"3MB", "64kB"},
	"bytea_output":                {"escape"},
	"my.setting":                  {"", "plain", "it's", `\`, `\'`, "é\n"},
	"my.other.deep":               {"x"},
	"role":                        {"vars_role"},
	"statement_timeout":           {"1min"},
}

// Change takes a connection from any settings to any others, and leaves nothing.
func TestVarsChange(t *testing.T) {
	_, p := newPool(t, nil)
	c := get(t, p)
	query(t, c, "CREATE ROLE vars_role")
	defer func() {
		query(t, c, "RESET ROLE; DROP ROLE vars_role")
		c.Discard()
	}()
	names := slices.Sorted(maps.Keys(settings))
	show := func() map[string]string {
		now := map[string]string{}
		for _, n := range names {
			now[n] = query(t, c, "SELECT pg_catalog.current_setting("+planner.QuoteLiteral(n)+", true)")
		}
		return now
	}
	first := show()
	rapid.Check(t, func(rt *rapid.T) {
		var v *Vars
		for _, n := range rapid.SliceOfDistinct(rapid.SampledFrom(names), rapid.ID).Draw(rt, "names") {
			v = v.With(n, rapid.SampledFrom(settings[n]).Draw(rt, n))
		}
		sql := v.Change(c.Vars)
		if (sql == "") != v.Equal(c.Vars) {
			rt.Fatalf("from %q to %q: %q", c.Vars.Key(), v.Key(), sql)
		}
		if sql != "" {
			if _, err := c.Query(sql); err != nil {
				rt.Fatalf("%s: %v", sql, err)
			}
		}
		c.Vars = v
		want := maps.Clone(first)
		for _, n := range names {
			if value, ok := v.Get(n); ok {
				want[n] = value
			}
		}
		if now := show(); !maps.Equal(now, want) {
			rt.Fatalf("after %s\n%q\nare not\n%q", sql, now, want)
		}
	})
}

// A role that may not set a setting keeps the one that was made before it was taken.
func TestVarsChangeWithRole(t *testing.T) {
	_, p := newPool(t, nil)
	c := get(t, p)
	query(t, c, "CREATE ROLE vars_plain")
	a := (*Vars)(nil).With("role", "vars_plain").With("log_statement", "all")
	b := a.With("log_statement", "ddl")
	for i, step := range []struct{ from, to *Vars }{{nil, a}, {a, b}, {b, a.Without("log_statement")}, {a.Without("log_statement"), nil}} {
		if _, err := c.Query(step.to.Change(step.from)); err != nil {
			t.Fatal(i, err)
		}
		role, _ := step.to.Get("role")
		if now := query(t, c, "SELECT current_user"); role != "" && now != role || role == "" && now != pgtest.Server(t).Superuser() {
			t.Errorf("step %d: the role is %s", i, now)
		}
		if level, ok := step.to.Get("log_statement"); query(t, c, "SHOW log_statement") != level && ok {
			t.Errorf("step %d: log_statement isn't %s", i, level)
		}
	}
	query(t, c, "DROP ROLE vars_plain")
	c.Put()
}

func TestVars(t *testing.T) {
	var none *Vars
	a := none.With("a", "1")
	if _, ok := none.Get("a"); ok || none.Without("a") != nil || none.Key() != "" || !none.Equal(nil) || none.Equal(a) || a.Equal(none) {
		t.Error("nil is not the empty one")
	}
	if v, ok := a.Get("a"); !ok || v != "1" || a.With("a", "1") != a || a.Without("b") != a || a.Without("a") != nil {
		t.Error("a setting is lost, or copied for nothing")
	}
	ab, ba := a.With("b", "2"), none.With("b", "2").With("a", "1")
	if !ab.Equal(ba) || ab.Key() != ba.Key() || ab.Change(ba) != "" || ab.Key() == a.Key() || ab.Equal(a) {
		t.Error("the order of settings matters")
	}
	if fmt.Sprint(a.values) != "map[a:1]" || !ab.Without("b").Equal(a) {
		t.Error("a Vars was changed")
	}
}
