package session

import (
	"encoding/binary"
	"slices"
	"time"
	"unicode/utf8"

	"github.com/shardgate/shardgate/gateway/exec"
	"github.com/shardgate/shardgate/gateway/pool"
	"github.com/shardgate/shardgate/planner"
	"github.com/shardgate/shardgate/planner/sqltext"
	"github.com/shardgate/shardgate/wire"
)

// explaining is an EXPLAIN under way: PostgreSQL's plans on the shards are asked for,
// and written below the gateway's.
type explaining struct {
	// gathering says how statements of the gateway's own reach the shards, and runs
	// the statement if its rows are gathered. Its text is that of the statement
	// explained.
	gathering
	*planner.Explain
	whole []byte       // the client's text
	node  planner.Node // of the statement explained, as its keys decide

	direct explained   // what a plan that doesn't gather does on its shards
	parts  []explained // what a Gather does
	final  explained
	sub    *explaining // the first round of a plan that has several
	steps  [][]string  // about Steps
	done   exec.Tag    // of what was run in several rounds
	begun  time.Time
	took   time.Duration
}

// explained is what is shown of a statement on the shards.
type explained struct {
	shards []int
	rows   []int // for each shard of a Split, the rows that go there
	tasks  []task
	came   []share // of a part that was gathered, by shard
}

// share is what a shard has given of a part. All shards work at the same time; it was
// complete so long after the beginning of the EXPLAIN.
type share struct {
	rows, bytes int64
	after       time.Duration
}

// task is a statement on one shard, with PostgreSQL's plan of it.
type task struct {
	shard string
	plan  pool.Result
}

// explain has the shards explain, and returns the answer's lines. The error is one of
// the client's connection; another is told to the client, and in s.run.Failed.
func (s *Session) explain(x *explaining) ([][]byte, error) {
	x.gathering.explain = x
	x.begun = time.Now()
	s.run.Failed = nil
	defer func(was int32) { s.run.Shift = was }(s.run.Shift)
	node, shards, err := s.place(x.Of.Node)
	if o, ok := node.(*planner.Ordered); ok && err == nil {
		shards, err = s.prune(o.Pins)
	}
	if err != nil {
		s.failGather(asError(err))
		return nil, nil
	}
	x.node = node
	if g, ok := node.(*planner.Gather); ok && !(x.Analyze && rounds(node)) {
		if s.asciiOnly() && !x.Of.ASCIIViews() {
			s.failGather(foreignView())
			return nil, nil
		}
		err = s.explainGather(x, g)
	} else if rounds(node) {
		err = s.explainRounds(x)
	} else {
		x.direct.shards = slices.Clone(shards)
		err = s.explainOnShards(x)
	}
	if err != nil || s.run.Failed != nil {
		return nil, err
	}
	x.took = time.Since(x.begun)
	switch x.Format {
	case planner.ExplainJSON:
		return s.explainedJSON(x), nil
	case planner.ExplainXML, planner.ExplainYAML:
		return s.explainedOther(x), nil
	}
	return s.explainedText(x), nil
}

// placeExplain finds the shard on which an EXPLAIN is bound, for its shape.
func (s *Session) placeExplain(n *planner.Explain) (planner.Node, []int, error) {
	_, shards, err := s.place(n.Of.Node)
	if err != nil {
		return n, nil, err
	}
	return n, shards[:1], nil
}

// explainOnShards explains a plan that sends one statement to each of its shards.
func (s *Session) explainOnShards(x *explaining) error {
	shards := x.direct.shards
	if !x.Analyze && !x.Verbose {
		shards = shards[:1]
	}
	if s.tx != nil && x.Analyze {
		if err := s.refuseReference(x.node); err != nil {
			s.failGather(err)
			return nil
		}
	}
	conns, ok := s.connsOf(x, shards)
	if !ok {
		return nil
	}
	rounds := [][]*pool.Conn{conns}
	if x.Analyze {
		if err := s.lockReference(x.node, conns); err != nil || s.run.Failed != nil {
			return err
		}
		if b, ok := x.node.(*planner.Broadcast); ok && b.HomeFirst {
			rounds = [][]*pool.Conn{conns[:1], conns[1:]}
		}
	}
	split, _ := x.node.(*planner.Split)
	if split != nil {
		for i := range x.direct.shards {
			x.direct.rows = append(x.direct.rows, len(s.rowsOf(i)))
		}
	}
	ordered, _ := x.node.(*planner.Ordered)
	move, _ := x.node.(*planner.Move)
	if ordered != nil {
		if err := s.parseWhole(x); err != nil || s.run.Failed != nil {
			return err
		}
	}
	x.direct.tasks = make([]task, len(conns))
	at := 0
	for _, round := range rounds {
		for _, c := range round {
			if ordered != nil {
				s.sendPart(c, &x.gathering, ordered.Query.Append([]byte(x.Head), x.text, x.lits, nil), nil)
			} else if split != nil && len(x.direct.shards) > 1 {
				sql, pick := exec.SplitText([]byte(x.Head), split, &s.values, s.rowsOf(at), nil)
				s.sendPicked(c, &x.gathering, sql, pick, []int16{wire.FormatBinary})
			} else if move != nil {
				s.sendPart(c, &x.gathering, move.Rows.Append([]byte(x.Head), x.text, x.lits, nil), nil)
			} else {
				s.sendPart(c, &x.gathering, x.whole, nil)
			}
			s.explainTask(c, &x.direct.tasks[at], split != nil || ordered != nil || move != nil, "")
			at++
		}
		s.syncUsed(&x.gathering)
		if err := s.run.Run(false); err != nil || s.run.Failed != nil {
			return err
		}
	}
	return nil
}

// connsOf gets the connections to shards. A failure is told to the client.
func (s *Session) connsOf(x *explaining, shards []int) (conns []*pool.Conn, ok bool) {
	conns, err := x.gathering.onAll(shards)
	if err != nil {
		s.run.Run(false)
		s.failGather(asError(err))
	}
	return conns, err == nil
}

// explainTask executes the EXPLAIN that was bound on a connection. denied is the hint
// for a role that may not read what it is about.
func (s *Session) explainTask(c *pool.Conn, t *task, rewritten bool, denied string) {
	t.shard = c.Shard.Name
	c.SetOut(wire.AppendExecute(c.Out(), gatherPortal, 0))
	c.SetOut(wire.AppendClose(c.Out(), wire.Portal, gatherPortal))
	s.run.Add(exec.Op{Kind: exec.Parse, Conn: c, Hidden: true, Rewritten: rewritten})
	s.run.Add(exec.Op{Kind: exec.Bind, Conn: c, Hidden: true, Rewritten: rewritten, Denied: denied})
	s.run.Add(exec.Op{Kind: exec.Execute, Conn: c, Hidden: true, Rewritten: rewritten, Denied: denied, Rows: &t.plan})
	s.run.Add(exec.Op{Kind: exec.Close, Conn: c, Hidden: true})
}

// sendPicked is sendPart for a statement with some of the client's parameters, and a result
// in these formats.
func (s *Session) sendPicked(c *pool.Conn, g *gathering, sql []byte, pick []int, formats []int16) {
	oids := make([]uint32, len(pick))
	for i, n := range pick {
		if n < len(g.types) {
			oids[i] = g.types[n]
		}
	}
	c.SendParse(sql, s.shardOIDs(c, oids))
	bind := g.bind
	if bind == nil {
		bind = &wire.Bind{}
	}
	start := len(c.Out())
	c.SetOut(wire.AppendSelected(c.Out(), gatherPortal, "", bind, pick, formats))
	if g.prep != nil {
		s.ownParams(c, c.Out()[start:], g.prep, pick)
	}
}

// explainGather explains a plan that brings rows together. With ANALYZE it is run; its
// parts are explained without, for they have run.
func (s *Session) explainGather(x *explaining, g *planner.Gather) error {
	x.plan = g
	x.parts = make([]explained, len(g.Parts))
	x.final.shards = []int{s.host.Home}
	var err error
	if g.Target != nil {
		shards, err := s.targetShards(g.Target)
		if err != nil {
			s.failGather(asError(err))
			return nil
		}
		if x.final.shards = slices.Clone(shards); g.Target.Copies != nil {
			x.final.shards = x.final.shards[:1]
		}
		if x.Analyze {
			if e := s.refuseReference(g); e != nil {
				s.failGather(e)
				return nil
			}
		}
	}
	if x.Analyze {
		x.final.tasks = []task{{shard: s.host.Pools.Shards[s.host.Home].Name}}
		shift := s.run.Shift
		s.run.Shift += int32(utf8.RuneCount(x.whole[:x.Start])) // the text sent for its shape begins there
		err = s.gather(&x.gathering)
		s.run.Shift = shift
	} else {
		err = s.prepareGather(x)
	}
	if err != nil || s.run.Failed != nil {
		return err
	}
	for i := range g.Parts {
		p := &x.parts[i]
		if p.shards == nil {
			shards, err := s.partShards(&x.gathering, &g.Parts[i])
			if err != nil {
				s.run.Run(false)
				s.failGather(asError(err))
				return nil
			}
			p.shards = slices.Clone(shards)
		}
		shards := p.shards
		if !x.Verbose {
			shards = shards[:1]
		}
		conns, ok := s.connsOf(x, shards)
		if !ok {
			return nil
		}
		if g.Parts[i].Later() && !x.Analyze {
			continue // its plan depends on the rows that there are
		}
		p.tasks = make([]task, len(conns))
		sql, keys := x.query([]byte(x.PlanHead), i)
		for k, c := range conns {
			s.sendPart(c, &x.gathering, sql, keys)
			s.explainTask(c, &p.tasks[k], true, x.denied)
		}
	}
	s.syncUsed(&x.gathering)
	return s.run.Run(false)
}

// parseWhole has the home shard look at the client's text, which has errors that the shards'
// statements may not have, or elsewhere. That of a portal is bound there already.
func (s *Session) parseWhole(x *explaining) error {
	if x.prep != nil {
		return nil
	}
	home, err := x.gathering.on(s.host.Home)
	if err != nil {
		s.failGather(asError(err))
		return nil
	}
	home.SendParse(x.whole, nil)
	s.run.Add(exec.Op{Kind: exec.Parse, Conn: home, Hidden: true})
	s.syncUsed(&x.gathering)
	return s.run.Run(false)
}

// prepareGather looks at the client's text before its parts are explained.
func (s *Session) prepareGather(x *explaining) error {
	x.Gathering = exec.NewGathering(x.plan)
	if err := s.parseWhole(x); err != nil || s.run.Failed != nil {
		return err
	}
	if x.plan.Clock {
		return s.readClock(&x.gathering)
	}
	return nil
}

// gathered makes the function that notes what has come of a part, shard by shard.
func (x *explaining) gathered(part int, conns []*pool.Conn) func(int) {
	p := &x.parts[part]
	return func(i int) {
		p.shards = append(p.shards, conns[i].Shard.Index)
		before := share{}
		for _, s := range p.came {
			before.rows, before.bytes = before.rows+s.rows, before.bytes+s.bytes
		}
		rows, bytes := x.gathering.Parts[part].Size()
		p.came = append(p.came, share{rows - before.rows, bytes - before.bytes, time.Since(x.begun)})
	}
}

// explainQuery answers a simple Query.
func (s *Session) explainQuery(plan *planner.Explain, text []byte, lits []sqltext.Literal, hold bool) (exec.Tag, error) {
	x := &explaining{Explain: plan, whole: text}
	x.text, x.lits = plan.Statement(text, lits)
	x.client = text[plan.Start:]
	x.taints, x.denied = plan.Of.Taints, denied(plan.Of)
	if s.tx != nil {
		writes := plan.Analyze && plan.Of.Writes
		x.conn = func(shard int) (*pool.Conn, error) {
			c, err := s.join(shard, writes)
			if err == nil {
				c.Tainted = c.Tainted || plan.Of.Taints
			}
			return c, err
		}
		x.write = x.conn
	} else {
		x.conn = s.acquire
		defer func() {
			for _, c := range x.used {
				c.Tainted = c.Tainted || plan.Of.Taints
				s.release(c)
			}
		}()
	}
	if plan.Of.Params > 0 {
		x.client = text
		return exec.Tag{}, s.withoutParameters(&x.gathering)
	}
	lines, err := s.explain(x)
	if err != nil || s.run.Failed != nil {
		return exec.Tag{}, err
	}
	out := appendQueryPlan(s.client.Out(), plan.Format)
	for _, l := range lines {
		out = appendLine(out, l)
	}
	tag := exec.Tag{Verb: "EXPLAIN"}
	if !hold {
		out = tag.Append(out)
	}
	s.client.SetOut(out)
	return tag, nil
}

// executeExplain executes a portal, up to a limit of rows.
func (s *Session) executeExplain(st *step) error {
	p := st.portal
	if !p.begun {
		if err := s.explainPortal(p); err != nil || s.run.Failed != nil {
			return err
		}
		p.begun = true
	}
	n := len(p.lines)
	if st.limit > 0 {
		n = min(n, int(st.limit))
	}
	var answer []byte
	for _, l := range p.lines[:n] {
		answer = appendLine(answer, l)
	}
	p.lines = p.lines[n:]
	if st.limit > 0 && n == int(st.limit) {
		answer = wire.AppendPortalSuspended(answer) // as PostgreSQL, which doesn't look whether there is more
	} else {
		answer = exec.Tag{Verb: "EXPLAIN"}.Append(answer)
	}
	s.run.Add(exec.Op{Kind: exec.Local, Answer: answer})
	return nil
}

// explainPortal explains the statement of a portal.
func (s *Session) explainPortal(p *portal) error {
	s.emitSyncs(false)
	if err := s.run.Run(false); err != nil || s.run.Failed != nil {
		return err
	}
	s.parsed = s.parsed[:0]
	var bind wire.Bind
	if err := wire.DecodeBind(p.bind, &bind); err != nil {
		s.pendingErr = asError(err)
		return errStatementFailed
	}
	plan := p.node.(*planner.Explain)
	writes := plan.Analyze && plan.Of.Writes
	x := &explaining{Explain: plan, whole: p.prep.text}
	x.text, x.lits = plan.Statement(p.prep.text, p.prep.lits)
	x.client, x.denied = p.prep.text[plan.Start:], denied(plan.Of)
	x.prep, x.bind, x.types, x.taints = p.prep, &bind, p.prep.paramTypes(), plan.Of.Taints
	x.conn = func(shard int) (*pool.Conn, error) { return s.connFor(shard, writes) }
	x.write = x.conn
	v := &s.values
	v.Text, v.Literals, v.Bind, v.ASCIIOnly = x.text, x.lits, &bind, s.asciiOnly()
	var err error
	p.lines, err = s.explain(x)
	return err
}

// appendQueryPlan appends the RowDescription of an EXPLAIN: one column of text, json
// or xml.
func appendQueryPlan(dst []byte, format planner.ExplainFormat) []byte {
	const textOID, jsonOID, xmlOID = 25, 114, 142
	oid := uint32(textOID)
	switch format {
	case planner.ExplainJSON:
		oid = jsonOID
	case planner.ExplainXML:
		oid = xmlOID
	}
	const name = "QUERY PLAN\x00"
	dst = append(dst, 'T')
	dst = binary.BigEndian.AppendUint32(dst, 4+2+uint32(len(name))+18)
	dst = binary.BigEndian.AppendUint16(dst, 1)
	dst = append(dst, name...)
	dst = append(dst, 0, 0, 0, 0, 0, 0) // of no table
	dst = binary.BigEndian.AppendUint32(dst, oid)
	return append(dst, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0, 0) // any size, no modifier, text
}

// appendLine appends a DataRow of one column.
func appendLine(dst, line []byte) []byte {
	dst = append(dst, 'D')
	dst = binary.BigEndian.AppendUint32(dst, uint32(4+2+4+len(line)))
	dst = binary.BigEndian.AppendUint16(dst, 1)
	dst = binary.BigEndian.AppendUint32(dst, uint32(len(line)))
	return append(dst, line...)
}
