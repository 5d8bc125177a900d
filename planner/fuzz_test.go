package planner

import (
	"errors"
	"testing"

	"github.com/shardgate/shardgate/planner/sqltext"
)

// FuzzPlan: no text makes the planner panic, and whatever fails does so by a
// refusal with an SQLSTATE. Its seeds are the statements of the golden files.
func FuzzPlan(f *testing.F) {
	for _, text := range goldenStatements(f) {
		f.Add(text)
	}
	env := fixtureEnv()
	f.Fuzz(func(t *testing.T, text string) {
		if len(text) > 4096 {
			return
		}
		p := &Planner{Env: *env, Cached: NewCache(16)}
		var sc sqltext.Scanner
		st, _, parsed, err := p.Plan([]byte(text), &sc)
		var r *Refusal
		switch {
		case err == nil && st.String() == "":
			t.Errorf("%q: an empty plan", text)
		case errors.Is(err, ErrSeveral):
			if len(parsed.Pieces()) < 2 {
				t.Errorf("%q: several statements in %d pieces", text, len(parsed.Pieces()))
			}
		case err != nil && (!errors.As(err, &r) || len(r.Code) != 5 || r.Message == ""):
			t.Errorf("%q: %v is no refusal", text, err)
		}
	})
}
