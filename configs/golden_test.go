package configs

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/cockroachdb/datadriven"
)

// TestGoldens runs the files in testdata. Their commands:
//
//	env            the input's lines NAME=value are the environment of what follows
//	parse          the file case.yaml; prints what differs from the defaults, or the errors;
//	               with the argument dev, by ParseWithoutShards
//	rule           lines schema.table; prints the rule that each gets in the last file parsed
//	position       lines that are keys; prints where each stands in the last file parsed
//	listen         lines that are addresses, given to SetListen of the last file parsed
//
// A file that parses must also pass the JSON Schema, unless shards in it were left out.
func TestGoldens(t *testing.T) {
	schema := compileSchema(t)
	datadriven.Walk(t, "testdata/golden", func(t *testing.T, path string) {
		environment := make(map[string]string)
		lookup := func(name string) (string, bool) {
			value, ok := environment[name]
			return value, ok
		}
		var last *Config
		datadriven.RunTest(t, path, func(t *testing.T, d *datadriven.TestData) string {
			lines := strings.Split(d.Input, "\n")
			var out strings.Builder
			switch d.Cmd {
			case "env":
				clear(environment)
				for _, line := range lines {
					name, value, _ := strings.Cut(line, "=")
					environment[name] = value
				}
			case "parse":
				c, err := parse("case.yaml", []byte(d.Input), options{lookup: lookup, withoutShards: d.HasArg("dev")})
				if err != nil {
					checkErrors(t, err, d.Input)
					return err.Error() + "\n"
				}
				if err := validate(schema, []byte(d.Input)); err != nil && c.Warnings == nil {
					t.Errorf("%s: Parse accepts what the JSON Schema refuses: %v", d.Pos, err)
				}
				last = c
				return render(c)
			case "rule":
				for _, line := range lines {
					schema, table, ok := strings.Cut(line, ".")
					if !ok {
						schema, table = "", line
					}
					rule, found := last.Rule(schema, table)
					if !found {
						fmt.Fprintf(&out, "%s: local\n", line)
						continue
					}
					fmt.Fprintf(&out, "%s: %s at %v, group %q\n", line, rule.Name, rule.Pos, rule.GroupOf(schema, table))
				}
			case "position":
				for _, line := range lines {
					fmt.Fprintf(&out, "%s: %v\n", line, last.Position(line))
				}
			case "listen":
				for _, line := range lines {
					if err := last.SetListen("--listen", line); err != nil {
						fmt.Fprintf(&out, "%v\n", err)
						continue
					}
					fmt.Fprintf(&out, "listening on %s\n", last.Listen)
				}
			default:
				d.Fatalf(t, "unknown command %s", d.Cmd)
			}
			return out.String()
		})
	})
}

// checkErrors holds what all errors of Parse have: places within the file, and
// an order.
func checkErrors(t *testing.T, err error, data string) {
	t.Helper()
	var all Errors
	if !errors.As(err, &all) || len(all) == 0 {
		t.Fatalf("%T is not a list of errors", err)
	}
	lines := 1 + strings.Count(data, "\n")
	var before Position
	for _, e := range all {
		if e.File == "" || e.Line < 1 || e.Line > lines || e.Column < 1 || e.Message == "" {
			t.Errorf("bad position or message in a file of %d lines: %+v", lines, *e)
		}
		if e.Line < before.Line || e.Line == before.Line && e.Column < before.Column {
			t.Errorf("not in the order of the file: %v after %v", e.Position, before)
		}
		before = e.Position
	}
}
