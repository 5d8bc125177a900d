package session

import (
	"slices"

	"github.com/shardgate/shardgate/gateway/exec"
	"github.com/shardgate/shardgate/gateway/pool"
	"github.com/shardgate/shardgate/planner"
	"github.com/shardgate/shardgate/planner/sqltext"
	"github.com/shardgate/shardgate/wire"
)

// stepping is a planner.Steps under way, in a transaction block.
type stepping struct {
	// gathering has the client's text and parameters.
	*gathering
	plan  *planner.Steps
	steps []stepRun
	rows  []*exec.StepRows // that the steps give
	tags  []exec.Tag
	// join gets the transaction's connection to a shard.
	join func(shard int, writes bool) (*pool.Conn, error)
}

// stepRun is a step as a statement of its own.
type stepRun struct {
	prep   *prepared
	passed *exec.Passed
}

// runSteps carries out a Steps. All steps are planned before the first is run, so that
// what is refused has changed nothing. The error is one of the client's connection;
// another is told to the client, and in s.run.Failed.
func (s *Session) runSteps(x *stepping) error {
	if err := s.prepareSteps(x); err != nil || s.run.Failed != nil {
		return err
	}
	answer := &exec.Kept{LimitBytes: s.gatherBytes()}
	if err := s.takeSteps(x, answer); err != nil || s.run.Failed != nil {
		return err
	}
	out := append(append(s.client.Out(), x.shape...), answer.Messages...)
	if !x.hold {
		out = s.run.Tag.Append(out)
	}
	s.client.SetOut(out)
	return nil
}

// prepareSteps plans the steps.
func (s *Session) prepareSteps(x *stepping) error {
	x.conn = func(shard int) (*pool.Conn, error) { return x.join(shard, false) }
	x.Gathering = exec.NewGathering(&planner.Gather{})
	s.run.Failed = nil
	if err := s.describeSteps(x); err != nil || s.run.Failed != nil {
		return err
	}
	if x.plan.Clock {
		if err := s.readClock(x.gathering); err != nil || s.run.Failed != nil {
			return err
		}
	}
	if e := s.planSteps(x); e != nil {
		s.failGather(e)
	}
	return nil
}

// takeSteps runs the steps. The rows of the answer go to a sink, and its tag to s.run.Tag.
func (s *Session) takeSteps(x *stepping, answer exec.Sink) error {
	var tag exec.Tag
	for i := range x.steps {
		var into exec.Sink = exec.Dropped{}
		formats := []int16{wire.FormatBinary}
		switch {
		case i == x.plan.Main && x.bind != nil:
			into, formats = answer, x.bind.ResultFormats
		case i == x.plan.Main:
			into, formats = answer, nil
		case x.plan.Steps[i].Shape != nil:
			into, formats = x.rows[i], x.rows[i].Formats()
		}
		if err := s.runStep(x, &x.steps[i], into, formats); err != nil || s.run.Failed != nil {
			return err
		}
		if x.tags = append(x.tags, s.run.Tag); i == x.plan.Main {
			tag = s.run.Tag
		}
	}
	s.run.Tag = tag
	return nil
}

// describeSteps has the home shard look at the statement of a simple Query, whose errors
// are about the client's text, and say what the rows of the steps are like.
func (s *Session) describeSteps(x *stepping) error {
	home, err := x.on(s.host.Home)
	if err != nil {
		s.failGather(asError(err))
		return nil
	}
	describe := func(text []byte, ours bool, op exec.Op) {
		home.SendParse(text, x.types)
		home.SetOut(wire.AppendDescribe(home.Out(), wire.Statement, ""))
		s.run.Add(exec.Op{Kind: exec.Parse, Conn: home, Hidden: true, Ours: ours, Rewritten: ours})
		op.Kind, op.Conn, op.Hidden = exec.Describe, home, true
		s.run.Add(op)
	}
	if x.prep == nil {
		describe(x.text, false, exec.Op{Shape: &x.shape})
	}
	for i := range x.plan.Steps {
		st := &x.plan.Steps[i]
		rows := &exec.StepRows{Step: st, Rows: exec.Rows{LimitBytes: s.gatherBytes()}}
		x.rows = append(x.rows, rows)
		if st.Shape != nil {
			describe(st.Shape.Append(nil, x.text, x.lits, x.writer()), true, exec.Op{Into: rows, Done: func() { rows.Carry(s.snap.Schema.Carried) }})
		}
	}
	s.syncUsed(x.gathering)
	return s.run.Run(false)
}

// writer writes the pieces of a step's text that are not rows.
func (x *stepping) writer() planner.PartWriter { return exec.NewPartArrays(x.Gathering, nil) }

// planSteps plans each step as a statement of its own.
func (s *Session) planSteps(x *stepping) *wire.Error {
	for i, st := range x.plan.Steps {
		if e := x.rows[i].Check(); e != nil {
			return e
		}
		passed := exec.NewPassed(x.rows, x.types, x.writer())
		prep := &prepared{text: st.Text.Append(nil, x.text, x.lits, passed)}
		prep.oids, prep.typed = passed.OIDs, passed.OIDs
		e := s.plan(prep)
		if e == nil && prep.asked != nil {
			e = wire.Errorf(wire.FeatureNotSupported, "an INSERT whose rows get a default of the home shard's can't be a part of another statement yet").
				WithHint("Give the column a value.")
		}
		if e == nil {
			if _, _, err := s.placeStep(prep, x.bind); err != nil {
				e = asError(err)
			}
		}
		if e != nil {
			return e.WithPosition(0) // in a text that the client doesn't know
		}
		x.steps = append(x.steps, stepRun{prep, passed})
	}
	return nil
}

// placeStep finds the shards of a step.
func (s *Session) placeStep(prep *prepared, bind *wire.Bind) (planner.Node, []int, error) {
	node, shards, err := s.resolve(prep.st, prep.text, prep.lits, bind)
	if o, ok := node.(*planner.Ordered); ok && err == nil {
		node, shards, err = s.place(o.Gathered)
	}
	if err != nil {
		return nil, nil, err
	}
	ok := !prep.st.HoldsSession && prep.st.TempTable == "" && !prep.st.SchemaChange
	switch node.(type) {
	case *planner.Route, *planner.Scatter, *planner.Broadcast, *planner.Split, *planner.Gather, *planner.InsertSelect, *planner.Move:
	default:
		ok = false
	}
	if !ok {
		return nil, nil, wire.Errorf(wire.FeatureNotSupported, "a part of this statement can't be run as a statement of its own").
			WithHint("Send the statements one by one in a transaction.")
	}
	if s.tx != nil {
		if e := s.refuseReference(node); e != nil {
			return nil, nil, e
		}
	}
	return node, slices.Clone(shards), nil
}

// runStep runs a step. Its rows go to a sink, in these formats.
func (s *Session) runStep(x *stepping, r *stepRun, into exec.Sink, formats []int16) error {
	s.run.Divert = into
	defer func() { s.run.Divert = nil }()
	bind, err := x.stepBind(r, formats)
	if err != nil {
		return err
	}
	node, shards, err := s.placeStep(r.prep, bind)
	if err != nil {
		s.failGather(asError(err))
		return nil
	}
	st := r.prep.st
	join := func(shard int, writes bool) (*pool.Conn, error) {
		c, err := x.join(shard, writes)
		if err == nil {
			c.Tainted = c.Tainted || st.Taints
		}
		return c, err
	}
	g := &gathering{client: r.prep.text, clientLits: r.prep.lits, denied: denied(st), prep: r.prep, bind: bind, types: r.prep.oids, taints: st.Taints, hold: true}
	g.text, g.lits = st.Source(r.prep.text, r.prep.lits)
	g.conn = func(shard int) (*pool.Conn, error) { return join(shard, st.Writes && !changes(node)) }
	g.write = func(shard int) (*pool.Conn, error) { return join(shard, true) }
	switch n := node.(type) {
	case *planner.Gather:
		g.plan = n
		return s.gather(g)
	case *planner.InsertSelect:
		return s.insert(&inserting{plan: n, text: r.prep.text, lits: r.prep.lits, conn: join, query: g, hold: true})
	case *planner.Move:
		m := &moving{plan: n, returning: st.Returning, gathering: *g}
		m.join = join
		return s.move(m)
	}
	return s.sendStep(g, st, node, shards)
}

// stepBind is the Bind of a step: the client's parameters, and rows as arrays.
func (x *stepping) stepBind(r *stepRun, formats []int16) (*wire.Bind, error) {
	var params [][]byte
	var paramFormats []int16
	for i := range x.types {
		v, null := x.bind.Param(i)
		if !null && v == nil {
			v = []byte{}
		}
		params, paramFormats = append(params, v), append(paramFormats, x.bind.ParamFormat(i))
	}
	for _, a := range r.passed.Arrays() {
		params, paramFormats = append(params, a), append(paramFormats, wire.FormatBinary)
	}
	bind := &wire.Bind{}
	err := wire.DecodeBind(wire.AppendBind(nil, "", "", paramFormats, params, formats)[5:], bind)
	return bind, err
}

// sendStep runs a step that sends one statement to each of its shards.
func (s *Session) sendStep(g *gathering, st *planner.Statement, node planner.Node, shards []int) error {
	var conns []*pool.Conn
	split, _ := node.(*planner.Split)
	op := s.queryOp(node, nil)
	if split != nil {
		op.Whole, op.Order = true, slices.Clone(s.order(split, make([]*pool.Conn, len(shards))))
	}
	for _, shard := range shards {
		c, err := g.write(shard)
		if !st.Writes {
			c, err = g.conn(shard)
		}
		if err != nil {
			s.run.Run(false)
			s.failGather(asError(err))
			return nil
		}
		conns = append(conns, c)
	}
	if err := s.lockReference(node, conns); err != nil || s.run.Failed != nil {
		return err
	}
	op.Kind, op.Formats = exec.Execute, g.bind.ResultFormats
	var tag exec.Tag
	run := func(conns []*pool.Conn, first int, op exec.Op) error {
		for i, c := range conns {
			if split != nil && len(shards) > 1 {
				sql, pick := exec.SplitText(nil, split, &s.values, s.rowsOf(first+i), nil)
				s.sendPicked(c, g, sql, pick, g.bind.ResultFormats)
			} else {
				c.SendParse(g.client, s.shardOIDs(c, g.types))
				s.sendBind(c, g, gatherPortal, nil, g.bind.ResultFormats)
			}
			sendWhole(c, gatherPortal)
		}
		op.Conns, op.Columns = conns, &exec.Columns{}
		s.addWhole(op)
		s.sendSyncs(conns)
		return s.run.Run(false)
	}
	first := len(conns)
	if b, ok := node.(*planner.Broadcast); ok && b.HomeFirst {
		first = 1
	}
	op.Done = func() { tag = s.run.Tag }
	if err := run(conns[:first], 0, op); err != nil || s.run.Failed != nil || first == len(conns) {
		s.run.Tag = tag
		return err
	}
	err := run(conns[first:], first, exec.Op{Kind: exec.Execute, Hidden: true, Rewritten: true, Merge: planner.First})
	s.run.Tag = tag
	return err
}

// stepsQuery answers a simple Query.
func (s *Session) stepsQuery(plan *planner.Steps, st *planner.Statement, text []byte, lits []sqltext.Literal, hold bool) error {
	g := &gathering{text: text, lits: slices.Clone(lits), client: text, hold: hold}
	x := &stepping{gathering: g, plan: plan, join: s.join}
	if st.Params > 0 {
		x.conn = func(shard int) (*pool.Conn, error) { return s.join(shard, false) }
		return s.withoutParameters(g)
	}
	return s.runSteps(x)
}

// executeSteps executes a portal.
func (s *Session) executeSteps(st *step) error {
	plan := st.portal.node.(*planner.Steps)
	return s.executeRows(st, plan.Verb, func(query *gathering) error {
		query.text, query.lits = st.portal.prep.text, st.portal.prep.lits
		return s.runSteps(&stepping{gathering: query, plan: plan, join: s.connFor})
	})
}
