package session

import (
	"slices"
	"unicode/utf8"

	"github.com/shardgate/shardgate/gateway/exec"
	"github.com/shardgate/shardgate/gateway/pool"
	"github.com/shardgate/shardgate/planner"
	"github.com/shardgate/shardgate/planner/sqltext"
	"github.com/shardgate/shardgate/shardmap"
	"github.com/shardgate/shardgate/wire"
)

// inserting is a planner.InsertSelect under way, in a transaction block.
type inserting struct {
	plan *planner.InsertSelect
	text []byte
	lits []sqltext.Literal
	// query is how its query is asked; rows are what it gives.
	query *gathering
	rows  *exec.Selected
	hold  bool // keeps the CommandComplete from the client: s.run.Tag has it
	// conn gets the transaction's connection to a shard.
	conn func(shard int, writes bool) (*pool.Conn, error)
}

// insert carries out an InsertSelect: the query's rows are read to their end, and
// then inserted, by one statement on each shard. What was emitted before has been run.
// The error is one of the client's connection; another is told to the client, and in
// s.run.Failed.
func (s *Session) insert(in *inserting) error {
	in.rows = &exec.Selected{Plan: in.plan, Rows: exec.Rows{LimitBytes: s.gatherBytes()}}
	q := in.query
	q.text, q.lits = in.plan.QueryText(in.text, in.lits)
	q.into = in.rows
	q.conn = func(shard int) (*pool.Conn, error) { return in.conn(shard, in.plan.Query.Writes) }
	s.run.Failed = nil
	for _, f := range []func(*inserting) error{s.checkInsert, s.describeRows, s.lockInsert, s.selectRows, s.insertRows} {
		if err := f(in); err != nil || s.run.Failed != nil {
			return err
		}
	}
	return nil
}

// checkInsert has the home shard look at the statement of a simple Query, whose errors
// are about the client's text. Of the extended protocol, the client's Parse has done so.
func (s *Session) checkInsert(in *inserting) error {
	if in.query.prep != nil {
		return nil
	}
	home, err := in.query.on(s.host.Home)
	if err != nil {
		s.failGather(asError(err))
		return nil
	}
	home.SendParse(in.text, nil)
	s.run.Add(exec.Op{Kind: exec.Parse, Conn: home, Hidden: true})
	s.syncUsed(in.query)
	return s.run.Run(false)
}

// describeRows has the home shard say of which types the query's columns are: of some,
// values can't travel in binary.
func (s *Session) describeRows(in *inserting) error {
	home, err := in.query.on(s.host.Home)
	if err != nil {
		s.failGather(asError(err))
		return nil
	}
	home.SetOut(wire.AppendParse(home.Out(), "", in.query.text, in.query.types))
	home.Unnamed = 0
	home.SetOut(wire.AppendDescribe(home.Out(), wire.Statement, ""))
	s.run.Add(exec.Op{Kind: exec.Parse, Conn: home, Hidden: true, Ours: true, Rewritten: true})
	s.run.Add(exec.Op{Kind: exec.Describe, Conn: home, Hidden: true, Into: in.rows, Done: func() { in.rows.Carry(s.snap.Schema.Carried) }})
	s.syncUsed(in.query)
	return s.run.Run(false)
}

// lockInsert locks the reference table that is changed, on every shard.
func (s *Session) lockInsert(in *inserting) error {
	if len(in.plan.LockReference) == 0 {
		return nil
	}
	conns, err := in.conns(s.allShards())
	if err != nil {
		s.run.Run(false)
		s.failGather(asError(err))
		return nil
	}
	return s.lockReference(in.plan, conns)
}

func (in *inserting) conns(shards []int) ([]*pool.Conn, error) {
	var out []*pool.Conn
	for _, shard := range shards {
		c, err := in.conn(shard, true)
		if err != nil {
			return nil, err
		}
		out = append(out, c)
	}
	return out, nil
}

// selectRows runs the query.
func (s *Session) selectRows(in *inserting) error {
	q := in.query
	v := &s.values
	v.Text, v.Literals = in.plan.Query.Source(q.text, q.lits)
	v.Bind, v.ASCIIOnly = q.bind, s.asciiOnly()
	node, shards, err := s.place(in.plan.Query.Node)
	if err != nil {
		e := *asError(err)
		if in.rows.Plan == nil {
			e.Position = 0 // in a text that the client doesn't know
		} else if e.Position > 0 {
			e.Position += int32(utf8.RuneCount(in.text[:in.plan.Start.Offset(in.lits)])) + s.run.Shift
		}
		s.failGather(&e)
		return nil
	}
	if g, ok := node.(*planner.Gather); ok {
		if v.ASCIIOnly && !in.plan.Query.ASCIIViews() {
			s.failGather(foreignView())
			return nil
		}
		q.plan, q.text, q.lits = g, v.Text, v.Literals
		return s.gather(q)
	}
	conns, err := q.onAll(shards)
	if err != nil {
		s.run.Run(false)
		s.failGather(asError(err))
		return nil
	}
	text := q.text
	if s.needsTime(in.plan.Query, node, shards) {
		if text, err = s.timedText(in.plan.Query, q.text, q.lits, shards[0]); err != nil || s.run.Failed != nil {
			return err
		}
	}
	for _, c := range conns {
		c.SendParse(text, s.shardOIDs(c, q.types))
		s.sendBind(c, q, gatherPortal, nil, in.rows.Formats())
		sendWhole(c, gatherPortal)
	}
	s.addWhole(exec.Op{Kind: exec.Execute, Conns: conns, Hidden: true, Columns: &exec.Columns{}, Into: in.rows, Rewritten: true, Done: func() {
		if sc, ok := node.(*planner.Scatter); ok && sc.Merge == planner.AddIntegers {
			if e := in.rows.AddUp(); e != nil {
				s.run.Fail(e)
			}
		}
	}})
	s.syncUsed(q)
	return s.run.Run(false)
}

// targets finds which shard gets each row. of is nil where every shard gets all.
func (s *Session) targets(in *inserting) (shards []int, of []int, e *wire.Error) {
	t := in.plan.Table
	switch {
	case t == nil:
		return slices.Clone(s.onShard(s.host.Home)), nil, nil
	case t.Distribution == planner.Reference:
		return slices.Clone(s.allShards()), nil, nil
	}
	v := &s.values
	v.Text, v.Literals, v.Bind, v.ASCIIOnly = in.text, in.lits, in.query.bind, s.asciiOnly()
	slots, null, e := in.rows.Slots(t, in.plan.Keys, v, s.hashesByShard)
	switch {
	case e == nil && null && in.plan.Merges && !t.KeyNullable():
		// It matches nothing, and if it is not left out, it is no shard's to store.
	case e == nil && null && in.plan.Merges:
		e = wire.Errorf(wire.FeatureNotSupported, "a row of the source of this MERGE has NULL in the place of a key of the sharded table %s", t).
			WithHint("Leave such rows out of the source, and insert them by a statement of their own.")
	case e == nil && null:
		e = nullKeyError(t)
	}
	if e != nil {
		return nil, nil, e
	}
	at := make([]int, len(s.host.Pools.Shards)) // positions in shards, from 1
	for _, slot := range slots {
		shard := s.snap.ShardOf(slot)
		if at[shard] == 0 {
			shards = append(shards, shard)
			at[shard] = len(shards)
		}
		of = append(of, at[shard]-1)
	}
	if len(shards) == 0 {
		shards = append(shards, s.host.Home) // which says that it inserts nothing
	}
	return shards, of, nil
}

// hashesByShard asks the home shard for the hashes of many values.
func (s *Session) hashesByShard(t shardmap.KeyType, typmod int32, arrayType uint32, array []byte) (res *pool.Result, err *wire.Error) {
	err = s.asideOnHome(func(c *pool.Conn) (err *wire.Error) {
		res, err = exec.HashesByShard(c, t, typmod, arrayType, array)
		return err
	})
	return res, err
}

// insertRows inserts the rows.
func (s *Session) insertRows(in *inserting) error {
	if e := in.rows.Check(); e != nil {
		s.failGather(e)
		return nil
	}
	shards, of, e := s.targets(in)
	if e != nil {
		s.failGather(e)
		return nil
	}
	if in.plan.Clock {
		in.query.Gathering = exec.NewGathering(&planner.Gather{})
		if err := s.readClock(in.query); err != nil || s.run.Failed != nil {
			return err
		}
	}
	conns, err := in.conns(shards)
	if err != nil {
		s.run.Run(false)
		s.failGather(asError(err))
		return nil
	}
	s.sendRows(in, conns, of)
	var shape []byte
	op := exec.Op{Kind: exec.Execute, Conns: conns, Rewritten: true, Whole: true, HoldTag: in.hold, Columns: &exec.Columns{}}
	if in.query.prep == nil {
		op.Shape = &shape
	}
	if of == nil {
		op.Merge = planner.First
	} else if in.plan.KeepsOrder && len(conns) < 256 {
		for _, i := range of {
			op.Order = append(op.Order, uint8(i))
		}
	}
	var tag exec.Tag
	op.Done = func() { tag = s.run.Tag }
	s.run.Add(exec.Op{Kind: exec.Parse, Conns: conns, Hidden: true, Ours: true, Rewritten: true})
	s.run.Add(exec.Op{Kind: exec.Bind, Conns: conns, Hidden: true, Rewritten: true})
	s.run.Add(exec.Op{Kind: exec.Describe, Conns: conns, Hidden: true, Columns: op.Columns, Shape: op.Shape})
	s.run.Add(op)
	s.run.Add(exec.Op{Kind: exec.Close, Conns: conns, Hidden: true})
	for _, c := range conns {
		s.run.Add(exec.Op{Kind: exec.Sync, Conn: c})
	}
	err = s.run.Run(false)
	s.run.Tag = tag
	return err
}

// sendRows sends each shard the INSERT of its rows.
func (s *Session) sendRows(in *inserting, conns []*pool.Conn, of []int) {
	q := in.query
	sql, arrays := in.rows.AppendInsert(nil, in.text, in.lits, len(q.types), exec.NewPartArrays(q.Gathering, nil))
	types := slices.Concat(q.types, arrays)
	var formats []int16
	if q.bind != nil {
		formats = q.bind.ResultFormats
	}
	n := len(conns)
	if of == nil {
		n = 1 // all get the same
	}
	rows := in.rows.Arrays(n, func(row int) int {
		if of == nil {
			return 0
		}
		return of[row]
	})
	for i, c := range conns {
		c.SendParse(sql, s.shardOIDs(c, types))
		s.sendBind(c, q, gatherPortal, rows[i%n], formats)
		sendWhole(c, gatherPortal)
		c.SendSync()
	}
}

// insertQuery answers a simple Query.
func (s *Session) insertQuery(plan *planner.InsertSelect, st *planner.Statement, text []byte, lits []sqltext.Literal, hold bool) error {
	in := s.storing(st, text, lits, hold)
	if st.Params > 0 {
		return s.withoutParameters(in.query)
	}
	in.plan = plan
	return s.insert(in)
}

// storing is a simple Query that stores the rows of another.
func (s *Session) storing(st *planner.Statement, text []byte, lits []sqltext.Literal, hold bool) *inserting {
	conn := func(shard int, writes bool) (*pool.Conn, error) {
		c, err := s.join(shard, writes)
		if err == nil {
			c.Tainted = c.Tainted || st.Taints
		}
		return c, err
	}
	return &inserting{text: text, lits: lits, hold: hold, conn: conn,
		query: &gathering{client: text, conn: func(shard int) (*pool.Conn, error) { return conn(shard, false) }}}
}

// executeInsert executes a portal.
func (s *Session) executeInsert(st *step) error {
	return s.executeRows(st, "INSERT", func(query *gathering) error {
		p := st.portal
		return s.insert(&inserting{plan: p.node.(*planner.InsertSelect), text: p.prep.text, lits: p.prep.lits, conn: s.connFor, query: query})
	})
}

// executeRows executes a portal of a statement that brings rows to their shards, and
// gives all that it returns at once. verb is the one of its CommandComplete.
func (s *Session) executeRows(st *step, verb string, run func(*gathering) error) error {
	p := st.portal
	switch {
	case st.limit > 0 && p.returnsRows():
		s.pendingErr = wire.Errorf(wire.FeatureNotSupported, "a row limit in Execute is not supported for this statement over several shards yet").
			WithHint("Execute it without a limit.")
		return errStatementFailed
	case p.begun && p.returnsRows():
		s.run.Add(exec.Op{Kind: exec.Local, Answer: exec.Tag{Verb: verb, Counted: true}.Append(nil)})
		return nil
	case p.begun:
		name, _, _ := wire.DecodeExecute(st.body)
		s.pendingErr = wire.Errorf("55000", "portal \"%s\" cannot be run", name)
		return errStatementFailed
	}
	query, err := s.begun(p)
	if err != nil || query == nil {
		return err
	}
	return run(query)
}

// begun begins the execution of a portal whose rows come to the gateway: what was
// emitted before is run, and its parameters are read. The result is nil if that fails,
// with the error in s.run.Failed if there is none.
func (s *Session) begun(p *portal) (*gathering, error) {
	p.begun = true
	s.emitSyncs(false)
	if err := s.run.Run(false); err != nil || s.run.Failed != nil {
		return nil, err
	}
	s.parsed = s.parsed[:0]
	var bind wire.Bind
	if err := wire.DecodeBind(p.bind, &bind); err != nil {
		s.pendingErr = asError(err)
		return nil, errStatementFailed
	}
	return &gathering{prep: p.prep, bind: &bind, types: p.prep.paramTypes()}, nil
}
