package planner

import (
	"errors"
	"path/filepath"
	"strings"
	"testing"

	"github.com/cockroachdb/datadriven"

	"github.com/shardgate/shardgate/planner/sqltext"
)

// TestPlans compares plans with the golden files: testdata/<kind>.txt holds
// statements and their plans, refusals.txt those that are refused. The command is
// "plan", with the arguments
//
//	types=(int8,0,text)  the parameters' declared types, 0 for unknown
//	path=(a,b)           the search path
//	shards=1             their number
//
// Write a new plan with -rewrite, and commit only what you can explain.
func TestPlans(t *testing.T) {
	files, err := filepath.Glob("testdata/*.txt")
	if err != nil || len(files) == 0 {
		t.Fatal("no golden files", err)
	}
	for _, path := range files {
		datadriven.RunTest(t, path, func(t *testing.T, d *datadriven.TestData) string {
			env := fixtureEnv()
			for _, arg := range d.CmdArgs {
				switch arg.Key {
				case "types":
					for _, v := range arg.Vals {
						env.ParamTypes = append(env.ParamTypes, columnTypes[v])
					}
				case "path":
					env.SearchPath = arg.Vals
				case "shards":
					arg.Scan(t, 0, &env.Shards)
				default:
					d.Fatalf(t, "unknown argument %s", arg.Key)
				}
			}
			st, err := plan(d.Input, env)
			var refusal *Refusal
			if refuses := strings.HasSuffix(path, "refusals.txt"); refuses != (err != nil) {
				t.Errorf("%s: %s\nbelongs into another file: refused is %v", d.Pos, d.Input, err != nil)
			}
			switch {
			case errors.As(err, &refusal):
				return refusal.Render()
			case err != nil:
				return err.Error()
			}
			var sc sqltext.Scanner
			_, lits, _ := sc.Normalize([]byte(d.Input))
			return st.Render([]byte(d.Input), lits)
		})
	}
}
