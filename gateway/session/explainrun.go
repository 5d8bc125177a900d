package session

import (
	"slices"
	"strconv"
	"strings"

	"github.com/shardgate/shardgate/gateway/exec"
	"github.com/shardgate/shardgate/gateway/pool"
	"github.com/shardgate/shardgate/planner"
)

// EXPLAIN of a statement that is carried out in several rounds, of which only the first
// can be explained by a shard: the rows of the others are not there before. With ANALYZE
// it is run as it is without EXPLAIN, and what is shown of the shards' plans is what they
// would do once more.

// rounds says whether a plan is of that kind.
func rounds(node planner.Node) bool {
	switch n := node.(type) {
	case *planner.InsertSelect, *planner.Move, *planner.Steps:
		return true
	case *planner.Gather:
		return n.Target != nil && n.Target.Copies != nil
	}
	return false
}

// explainRounds explains such a plan.
func (s *Session) explainRounds(x *explaining) error {
	if err := s.parseWhole(x); err != nil || s.run.Failed != nil {
		return err
	}
	join := func(shard int, _ bool) (*pool.Conn, error) { return x.conn(shard) }
	if plan, ok := x.node.(*planner.Steps); ok {
		return s.explainSteps(x, &stepping{plan: plan, join: join})
	}
	if x.Analyze {
		prep := &prepared{text: x.text, lits: x.lits, st: x.Of, oids: x.types, typed: x.types}
		run := &stepping{gathering: &gathering{bind: x.bind, types: x.types}, join: join}
		if err := s.runStep(run, &stepRun{prep, exec.NewPassed(nil, x.types, nil)}, exec.Dropped{}, nil); err != nil || s.run.Failed != nil {
			return err
		}
		x.done = s.run.Tag
	}
	// What the first round asks the shards.
	q := *x
	own := *x.Explain
	own.Analyze, own.Timing, own.Head = false, false, x.PlanHead
	q.Explain, q.gathering.explain = &own, &q
	if n, ok := x.node.(*planner.InsertSelect); ok {
		own.Of = n.Query
		q.text, q.lits = n.QueryText(x.text, x.lits)
		q.whole = append([]byte(own.Head), q.text...)
		q.text, q.lits = n.Query.Source(q.text, q.lits)
		q.denied = denied(n.Query)
	}
	v := &s.values
	v.Text, v.Literals, v.Bind, v.ASCIIOnly = q.text, q.lits, x.bind, s.asciiOnly()
	x.sub = &q
	err := s.explainPlaced(&q)
	x.used = q.used // for whoever gives them back
	return err
}

// explainSteps explains a Steps: each step by its plan, and by what it has done.
func (s *Session) explainSteps(x *explaining, run *stepping) error {
	run.gathering = &gathering{text: x.text, lits: x.lits, client: x.text, prep: x.prep, bind: x.bind, types: x.types, used: x.used}
	if x.prep == nil {
		run.prep = &prepared{} // its shape is none of the client's
	}
	err := s.prepareSteps(run)
	if err == nil && s.run.Failed == nil && x.Analyze {
		err = s.takeSteps(run, exec.Dropped{})
		x.done = s.run.Tag
	}
	x.used = run.used
	if err != nil || s.run.Failed != nil {
		return err
	}
	for i := range run.steps {
		prep := run.steps[i].prep
		node, _, err := s.placeStep(prep, run.bind)
		if err != nil {
			s.failGather(asError(err))
			return nil
		}
		text, lits := prep.st.Source(prep.text, prep.lits)
		lines := strings.Split(planner.RenderExplained(node, text, lits, nil, nil), "\n")
		if x.Analyze {
			lines = append(lines, "done: "+tagText(run.tags[i]))
		}
		x.steps = append(x.steps, lines)
	}
	return nil
}

// tagText is a command's tag as psql shows it.
func tagText(t exec.Tag) string {
	if !t.Counted {
		return t.Verb
	}
	if t.Verb == "INSERT" {
		return "INSERT 0 " + strconv.FormatUint(t.Rows, 10)
	}
	return t.Verb + " " + strconv.FormatUint(t.Rows, 10)
}

// explainPlaced explains a plan, the first round of another, as its keys decide.
func (s *Session) explainPlaced(x *explaining) error {
	if _, ok := x.node.(*planner.Move); ok {
		shards, err := s.prune(x.node.(*planner.Move).Pins)
		if err != nil {
			s.failGather(asError(err))
			return nil
		}
		x.direct.shards = slices.Clone(shards)
		return s.explainOnShards(x)
	}
	node, shards, err := s.place(x.Of.Node)
	if err != nil {
		s.failGather(asError(err))
		return nil
	}
	x.node = node
	if g, ok := node.(*planner.Gather); ok {
		return s.explainGather(x, g)
	}
	x.direct.shards = slices.Clone(shards)
	return s.explainOnShards(x)
}
