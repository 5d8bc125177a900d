package session

import (
	"fmt"
	"slices"
	"unicode/utf8"

	"github.com/shardgate/shardgate/gateway/exec"
	"github.com/shardgate/shardgate/gateway/pool"
	"github.com/shardgate/shardgate/planner"
	"github.com/shardgate/shardgate/planner/sqltext"
	"github.com/shardgate/shardgate/wire"
)

// gathering is a planner.Gather under way.
type gathering struct {
	*exec.Gathering
	plan *planner.Gather
	// text is what the plan is about, with its literals; client is the client's own text.
	text       []byte
	lits       []sqltext.Literal
	client     []byte
	clientLits []sqltext.Literal
	// denied is the hint for a role that may not read what the plan reads.
	denied string
	// Of the extended protocol; nil or empty for a simple Query, which has no
	// parameters, and whose RowDescription is the client's to get.
	prep  *prepared
	bind  *wire.Bind
	types []uint32 // of the parameters
	// taints says that the final statement may leave state on its connection.
	taints bool
	// holds says that the cursor which it declares outlives the transaction.
	holds bool
	// hold keeps the CommandComplete from the client: s.run.Tag has it.
	hold bool
	// last says that nothing comes after it in the transaction.
	last bool
	// into gets the rows, which are not for the client; else nil.
	into *exec.Selected
	// conn gets the connection to a shard on which the statement reads there. used
	// are those that it has given.
	conn func(shard int) (*pool.Conn, error)
	used []*pool.Conn
	// write gets the connection to a shard on which the statement changes rows, of a
	// plan that does. shape is the RowDescription of a simple query's answer then: it
	// is passed on when the rows have been changed.
	write func(shard int) (*pool.Conn, error)
	shape []byte
	// explain is the EXPLAIN that runs it, and gets the answer; nil if there is none.
	explain *explaining
	// portal is the one to be executed bit by bit, under the name of open, up to
	// limit rows at first; nil where the answer is wanted whole.
	portal *portal
	open   string
	limit  int32
	// origins are those of the client's query, if that is a part of the statement.
	origins exec.Origins
}

// gatherPortal is the name of the gateway's own portals.
const gatherPortal = "shardgate"

// gather carries out a Gather: the rows are brought together, and the client gets
// the answer to the final statement. What was emitted before has been run. The error
// is one of the client's connection; another is told to the client, and in s.run.Failed.
func (s *Session) gather(g *gathering) error {
	g.Gathering = exec.NewGathering(g.plan)
	g.LimitBytes, g.Carried = s.gatherBytes(), s.snap.Schema.Carried
	g.Inside = g.plan.Inside == planner.Always || g.plan.Inside == planner.InBlock && s.tx != nil && s.tx.explicit
	g.Own = s.tx != nil && s.tx.parts[s.host.Home] != nil
	g.Open = func() (*pool.Conn, *wire.Error) { return s.scratch() }
	g.Make = func(c *pool.Conn, part int, table string) {
		sql, keys := g.query([]byte("CREATE TEMPORARY TABLE "+table+" ON COMMIT DROP AS "), part)
		s.sendPart(c, g, append(sql, " WITH NO DATA"...), keys)
		c.SetOut(wire.AppendExecute(c.Out(), gatherPortal, 0))
		c.SetOut(wire.AppendClose(c.Out(), wire.Portal, gatherPortal))
	}
	defer func() {
		if g.Conn != nil {
			s.endScratch(g.Conn)
		}
	}()
	s.run.Failed = nil
	if g.plan.Clock {
		if err := s.readClock(g); err != nil || s.run.Failed != nil {
			return err
		}
	}
	if g.plan.Target != nil {
		if err := s.lockTarget(g); err != nil || s.run.Failed != nil {
			return err
		}
	}
	if err := s.fetch(g); err != nil || s.run.Failed != nil {
		return err
	}
	if g.plan.Target != nil {
		return s.change(g)
	}
	if err := s.final(g); err != nil || s.run.Failed != nil {
		return err
	}
	s.opened(g)
	return nil
}

// failGather tells the client of an error that no shard's answer to it holds.
func (s *Session) failGather(e *wire.Error) {
	s.run.Failed = e
	s.tell(e)
}

// fetch asks the shards for the rows of all parts, and reads them. The shape of a
// simple query's answer is the home shard's for the client's own text.
func (s *Session) fetch(g *gathering) error {
	home, err := g.on(s.host.Home)
	if err != nil {
		s.failGather(asError(err))
		return nil
	}
	if (g.prep == nil || g.plan.Query != nil) && g.into == nil {
		defer func(shift int32) { s.run.Shift = shift }(s.run.Shift)
		s.describeQuery(home, g)
	}
	if s.bindsAtOnce() && g.explain == nil && !g.plan.Changes() {
		return s.fetchAtOnce(g)
	}
	return s.fetchWaves(g, g.plan.Waves())
}

// fetchWaves asks for parts, wave by wave.
func (s *Session) fetchWaves(g *gathering, waves [][]int) error {
	for n := 0; n < len(waves); n++ {
		for _, i := range waves[n] {
			conns, err := s.partConns(g, i)
			if err != nil {
				s.syncUsed(g) // else what was sent is not answered
				s.run.Run(false)
				s.failGather(asError(err))
				return nil
			}
			s.bindPart(g, i, conns, gatherPortal)
			s.executePart(g, i, conns, gatherPortal)
		}
		s.syncUsed(g)
		if err := s.run.Run(false); err != nil || s.run.Failed != nil {
			return err
		}
		var again []int
		for _, i := range waves[n] {
			if g.Parts[i].Again() {
				again = append(again, i)
			}
		}
		if again != nil {
			waves = slices.Insert(slices.Clone(waves), n+1, again)
		}
	}
	return nil
}

// fetchAtOnce is fetch where the parts' portals have to be bound at one instant. None of
// them can wait for another's values then; those that are made of others' rows alone come
// after it.
func (s *Session) fetchAtOnce(g *gathering) error {
	at := make([][]*pool.Conn, len(g.plan.Parts)) // nil for those that come after
	for i := range at {
		if g.plan.Parts[i].Composed() {
			continue
		}
		conns, err := s.partConns(g, i)
		if err != nil {
			s.syncUsed(g)
			s.run.Run(false)
			s.failGather(asError(err))
			return nil
		}
		at[i] = conns
		// Its tables are locked before the instant: others must not be waited for then.
		sql, _ := g.query(nil, i)
		for _, c := range conns {
			c.SendParse(sql, s.shardOIDs(c, g.types))
		}
		s.run.Add(exec.Op{Kind: exec.Parse, Conns: conns, Hidden: true, Ours: true, Rewritten: true, Denied: g.denied})
	}
	portal := func(part int) string { return fmt.Sprintf("%s part %d", gatherPortal, part) }
	if err := s.bindAtOnce(slices.Concat(at...), func() { s.syncUsed(g) }, func() {
		for i, conns := range at {
			if conns != nil {
				s.bindPart(g, i, conns, portal(i))
			}
		}
	}); err != nil || s.run.Failed != nil {
		return err
	}
	for i, conns := range at {
		if conns != nil {
			s.executePart(g, i, conns, portal(i))
		}
	}
	s.syncUsed(g)
	if err := s.run.Run(false); err != nil || s.run.Failed != nil {
		return err
	}
	for i := range at {
		if at[i] != nil && g.Parts[i].Again() {
			at[i] = nil
		}
	}
	after := g.plan.Waves()
	for w := range after {
		after[w] = slices.DeleteFunc(after[w], func(i int) bool { return at[i] != nil })
	}
	return s.fetchWaves(g, after)
}

// partConns are the connections to the shards that have rows of a part.
func (s *Session) partConns(g *gathering, i int) ([]*pool.Conn, error) {
	shards, err := s.partShards(g, &g.plan.Parts[i])
	if err != nil {
		return nil, err
	}
	return g.onAll(shards)
}

// bindPart has a portal bound to a part's query.
func (s *Session) bindPart(g *gathering, i int, conns []*pool.Conn, portal string) {
	sql, keys := g.query(nil, i)
	for _, c := range conns {
		s.sendPortal(c, g, sql, keys, portal, g.Parts[i].Formats())
	}
	verb := ""
	if g.plan.Target != nil {
		verb = g.plan.Target.Verb
	}
	s.run.Add(exec.Op{Kind: exec.Parse, Conns: conns, Hidden: true, Ours: true, Rewritten: true, Denied: g.denied})
	s.run.Add(exec.Op{Kind: exec.Bind, Conns: conns, Hidden: true, Rewritten: true, Denied: g.denied, Verb: verb})
}

// executePart asks for the rows of a part.
func (s *Session) executePart(g *gathering, i int, conns []*pool.Conn, portal string) {
	for _, c := range conns {
		sendWhole(c, portal)
	}
	cols := &exec.Columns{}
	s.run.Add(exec.Op{Kind: exec.Describe, Conns: conns, Hidden: true, Columns: cols, Into: &g.Parts[i]})
	op := exec.Op{Kind: exec.Execute, Conns: conns, Hidden: true, Columns: cols, Into: &g.Parts[i], Rewritten: true, Done: func() {
		if e := g.Parts[i].End(); e != nil {
			s.run.Fail(e)
		}
	}}
	if g.explain != nil {
		op.Each = g.explain.gathered(i, conns)
	}
	s.run.Add(op)
	s.run.Add(exec.Op{Kind: exec.Close, Conns: conns, Hidden: true})
}

// describeQuery has the home shard say what is wrong with the client's query, and
// where, before anything else does, and what its result is like.
func (s *Session) describeQuery(home *pool.Conn, g *gathering) {
	text := g.client
	op := exec.Op{Hidden: g.explain != nil}
	if g.plan.Target != nil || g.plan.Changes() { // PostgreSQL describes the result when all is changed
		op.Hidden, op.Shape = true, &g.shape
	}
	if q := g.plan.Query; q != nil {
		text = q.Append(nil, g.client, g.clientLits, nil)
		op.Hidden, op.Origins = true, &g.origins
		s.run.Shift += int32(utf8.RuneCount(g.client[:q[0].Start.Offset(g.clientLits)]))
	}
	s.describeBound(home, g, text, exec.Op{}, op)
}

// describeBound has a shard describe a statement, once it is bound to the client's parameters.
// op reads the description, and before has what is particular to Parse and Bind.
func (s *Session) describeBound(c *pool.Conn, g *gathering, text []byte, before, op exec.Op) {
	c.SendParse(text, g.types)
	s.sendBind(c, g, gatherPortal, nil, nil)
	c.SetOut(wire.AppendDescribe(c.Out(), wire.Portal, gatherPortal))
	c.SetOut(wire.AppendClose(c.Out(), wire.Portal, gatherPortal))
	before.Conn, before.Hidden, op.Kind, op.Conn = c, true, exec.Describe, c
	for _, kind := range []exec.Kind{exec.Parse, exec.Bind} {
		before.Kind = kind
		s.run.Add(before)
	}
	s.run.Add(op)
	s.run.Add(exec.Op{Kind: exec.Close, Conn: c, Hidden: true})
}

// on gets the connection to a shard on which the statement reads there.
func (g *gathering) on(shard int) (*pool.Conn, error) {
	for _, c := range g.used {
		if c.Shard.Index == shard {
			return c, nil
		}
	}
	c, err := g.conn(shard)
	if err == nil {
		g.used = append(g.used, c)
	}
	return c, err
}

// onAll gets the connections to several shards.
func (g *gathering) onAll(shards []int) (conns []*pool.Conn, err error) {
	for _, shard := range slices.Clone(shards) {
		c, err := g.on(shard)
		if err != nil {
			return nil, err
		}
		conns = append(conns, c)
	}
	return conns, nil
}

// syncUsed ends what was sent on every connection.
func (s *Session) syncUsed(g *gathering) { s.sendSyncs(g.used) }

// sendSyncs ends what was sent on connections.
func (s *Session) sendSyncs(conns []*pool.Conn) {
	for _, c := range conns {
		c.SendSync()
		s.run.Add(exec.Op{Kind: exec.Sync, Conn: c})
	}
}

// sendWhole has a portal described, executed to its end, and closed.
func sendWhole(c *pool.Conn, portal string) {
	c.SetOut(wire.AppendDescribe(c.Out(), wire.Portal, portal))
	c.SetOut(wire.AppendExecute(c.Out(), portal, 0))
	c.SetOut(wire.AppendClose(c.Out(), wire.Portal, portal))
}

// addWhole adds the operations of a portal on the shards that is parsed, bound, described,
// executed by op, and closed.
func (s *Session) addWhole(op exec.Op) {
	s.run.Add(exec.Op{Kind: exec.Parse, Conns: op.Conns, Hidden: true, Ours: true, Rewritten: true})
	s.run.Add(exec.Op{Kind: exec.Bind, Conns: op.Conns, Hidden: true, Rewritten: true})
	s.run.Add(exec.Op{Kind: exec.Describe, Conns: op.Conns, Hidden: true, Columns: op.Columns, Into: op.Into})
	s.run.Add(op)
	s.run.Add(exec.Op{Kind: exec.Close, Conns: op.Conns, Hidden: true})
}

// partShards are the shards that have a part's rows.
func (s *Session) partShards(g *gathering, p *planner.Part) ([]int, error) {
	switch p.Place {
	case planner.Home:
		return s.onShard(s.host.Home), nil
	case planner.Any:
		return s.onShard(s.any()), nil
	}
	if k := p.KeyIn; k != nil && len(p.Pins) == 0 {
		if slots, ok := g.Parts[k.Part].Slots(k.Column, k.Type, s.asciiOnly()); ok {
			return s.shardsOf(slots), nil
		}
	}
	return s.prune(p.Pins)
}

// query appends the statement that gives a part's rows on a shard. keys are the values
// of other parts that it has among its parameters.
func (g *gathering) query(dst []byte, part int) (sql []byte, keys *exec.PartArrays) {
	keys = exec.NewPartArrays(g.Gathering, g.types)
	return g.plan.Parts[part].Query.Append(dst, g.text, g.lits, keys), keys
}

// sendPart parses and binds a statement of the gateway's own with the client's
// parameters, and those of keys if it isn't nil. Its result is in binary.
func (s *Session) sendPart(c *pool.Conn, g *gathering, sql []byte, keys *exec.PartArrays) {
	s.sendPortal(c, g, sql, keys, gatherPortal, []int16{wire.FormatBinary})
}

// sendPortal is sendPart for a portal of some name, and a result in these formats.
func (s *Session) sendPortal(c *pool.Conn, g *gathering, sql []byte, keys *exec.PartArrays, portal string, formats []int16) {
	types, arrays := g.types, [][]byte(nil)
	if keys != nil {
		types, arrays = keys.OIDs, keys.Arrays
	}
	c.SendParse(sql, s.shardOIDs(c, types))
	s.sendBind(c, g, portal, arrays, formats)
}

// sendBind binds a portal to the unnamed statement with the client's parameters, and with arrays
// in binary behind them.
func (s *Session) sendBind(c *pool.Conn, g *gathering, portal string, arrays [][]byte, formats []int16) {
	var params [][]byte
	var paramFormats []int16
	if g.bind != nil {
		for i := range g.bind.Params {
			v, null := g.bind.Param(i)
			if !null && v == nil {
				v = []byte{}
			}
			params = append(params, v)
			paramFormats = append(paramFormats, g.bind.ParamFormat(i))
		}
	}
	for _, a := range arrays {
		params = append(params, a)
		paramFormats = append(paramFormats, wire.FormatBinary)
	}
	start := len(c.Out())
	c.SetOut(wire.AppendBind(c.Out(), portal, "", paramFormats, params, formats))
	if g.prep != nil {
		s.ownParams(c, c.Out()[start:], g.prep, nil)
	}
}

// final runs the client's statement over the rows.
func (s *Session) final(g *gathering) error {
	c := g.Conn
	if c == nil {
		c, _ = g.on(s.host.Home) // it was used before
	}
	c.Tainted = c.Tainted || g.taints
	parts := exec.NewPartArrays(g.Gathering, g.types)
	// A query within COPY or DECLARE is looked at when that is executed, any other when
	// it is parsed.
	op := exec.Op{Kind: exec.Execute, Conn: c, Rewritten: true, HoldTag: g.hold, Ours: g.plan.Query != nil}
	var sql []byte
	var formats []int16
	if x := g.explain; x != nil {
		sql = append(sql, x.Head...)
		op.Hidden, op.Rows = true, &x.final.tasks[0].plan
	} else if g.into != nil {
		formats = g.into.Formats()
	} else if g.bind != nil {
		formats = g.bind.ResultFormats
	}
	sql = g.plan.Final.Append(sql, g.text, g.lits, parts)
	c.SendParse(sql, s.shardOIDs(c, parts.OIDs))
	s.run.Add(exec.Op{Kind: exec.Parse, Conn: c, Hidden: true, Ours: true, Rewritten: true})
	portal := gatherPortal
	if g.portal != nil {
		portal = g.open
		c.SetOut(wire.AppendClose(c.Out(), wire.Portal, portal)) // what an earlier one has left open
		s.run.Add(exec.Op{Kind: exec.Close, Conn: c, Hidden: true})
	}
	s.sendBind(c, g, portal, parts.Arrays, formats)
	s.run.Add(exec.Op{Kind: exec.Bind, Conn: c, Hidden: true, Rewritten: true})
	if len(g.shape) > 0 && g.explain == nil {
		op.Conn, op.Conns, op.Whole, op.Shape = nil, []*pool.Conn{c}, true, &g.shape
	}
	if g.into != nil {
		op.Hidden, op.Into, op.Columns = true, g.into, &exec.Columns{}
		c.SetOut(wire.AppendDescribe(c.Out(), wire.Portal, portal))
		s.run.Add(exec.Op{Kind: exec.Describe, Conn: c, Hidden: true, Into: g.into, Columns: op.Columns})
	}
	c.SetOut(wire.AppendExecute(c.Out(), portal, g.limit))
	s.run.Add(op)
	if g.portal == nil {
		c.SetOut(wire.AppendClose(c.Out(), wire.Portal, portal))
		s.run.Add(exec.Op{Kind: exec.Close, Conn: c, Hidden: true})
	}
	c.SendSync()
	s.run.Add(exec.Op{Kind: exec.Sync, Conn: c})
	if g.last {
		s.commitWithLast()
	}
	return s.run.Run(false)
}

// scratch gets a connection to the home shard for temporary tables, which has no
// part in the client's transaction: one with temporary tables can't be prepared. Its
// own transaction has the savepoints and the settings of the client's.
func (s *Session) scratch() (*pool.Conn, *wire.Error) {
	c, err := s.host.Pools.Gather(s.host.Home, s.role).Get()
	if err != nil {
		return nil, asError(err)
	}
	s.track(c)
	vars, block := s.vars, "BEGIN READ WRITE"
	if s.tx != nil {
		vars = s.tx.before.vars
		for _, e := range s.tx.prelude {
			if !e.modes {
				block += ";" + e.sql
			}
		}
	}
	if sql := vars.Change(c.Vars); sql != "" {
		if _, err := c.Query(sql); err != nil {
			s.endScratch(c)
			return nil, asError(err)
		}
	}
	c.Vars = vars
	if sql := s.ownLocks(); sql != "" {
		block += ";" + sql
	}
	if _, err := c.Query(block); err != nil {
		s.endScratch(c)
		return nil, asError(err)
	}
	return c, nil
}

// ownLocks is the SQL by which such a connection waits for locks no longer than a second
// if the client's own transaction keeps others from a table, by TRUNCATE, say: it waits
// for the connection, and would do so for ever.
func (s *Session) ownLocks() string {
	if s.tx == nil || s.tx.parts[s.host.Home] == nil {
		return ""
	}
	return fmt.Sprintf(`SELECT pg_catalog.set_config('lock_timeout', '1s', true) FROM pg_catalog.pg_locks
		WHERE pid = %d AND locktype = 'relation' AND mode = 'AccessExclusiveLock' AND granted LIMIT 1`, s.tx.parts[s.host.Home].conn.PID)
}

// endScratch gives such a connection back.
func (s *Session) endScratch(c *pool.Conn) {
	if !c.Broken && c.Ready == 0 && c.Status != 'I' {
		if _, err := c.Query("ROLLBACK"); err != nil {
			c.Broken = true
		}
	}
	s.untrack(c)
	c.Put()
}

// gatherQuery answers a simple Query by a Gather or an Ordered.
func (s *Session) gatherQuery(st *planner.Statement, node planner.Node, text []byte, lits []sqltext.Literal, hold bool) error {
	g := &gathering{client: text, clientLits: lits, denied: denied(st), hold: hold, last: hold, taints: st.Taints, holds: st.HoldsSession}
	g.text, g.lits = st.Source(text, lits)
	if s.tx != nil {
		g.conn = func(shard int) (*pool.Conn, error) { return s.join(shard, writesParts(st, node)) }
		g.write = func(shard int) (*pool.Conn, error) { return s.join(shard, true) }
	} else {
		g.conn = s.acquire
		defer func() {
			for _, c := range g.used {
				s.release(c)
			}
		}()
	}
	if st.Params > 0 {
		return s.withoutParameters(g)
	}
	if plan, ok := node.(*planner.Ordered); ok {
		return s.orderedQuery(g, plan)
	}
	g.plan = node.(*planner.Gather)
	return s.gather(g)
}

// withoutParameters has the home shard refuse a simple Query with parameters, which has
// no values for them.
func (s *Session) withoutParameters(g *gathering) error {
	home, err := g.on(s.host.Home)
	if err != nil {
		s.failGather(asError(err))
		return nil
	}
	home.SendQuery(string(g.client))
	s.run.Add(exec.Op{Kind: exec.Query, Conn: home})
	return s.run.Run(false)
}

// denied is the hint for a role that may query views and not what they read: the rows
// that are brought together are read as the role itself.
func denied(st *planner.Statement) string {
	if !st.Views() {
		return ""
	}
	return "The rows that a view reads have to be brought together for this statement: grant the role the right to read the view's tables as well."
}

// executeGather executes a portal.
func (s *Session) executeGather(st *step) error {
	p := st.portal
	if p.begun {
		return s.executeAgain(st)
	}
	limit := st.limit
	if !p.counts() {
		limit = 0
	}
	if limit > 0 {
		if s.pendingErr = s.refuseLimit(p); s.pendingErr != nil {
			return errStatementFailed
		}
	}
	p.begun = true
	s.emitSyncs(false)
	if err := s.run.Run(false); err != nil || s.run.Failed != nil {
		return err
	}
	s.parsed = s.parsed[:0]
	g, e := s.portalGathering(p)
	if e != nil {
		s.pendingErr = e
		return errStatementFailed
	}
	g.plan, g.last = p.node.(*planner.Gather), s.endsBatch(st)
	if limit > 0 {
		g.portal, g.open, g.limit = p, gatherPortal+" "+string(g.bind.Portal), limit
	}
	err := s.gather(g)
	p.verb = s.run.Tag.Verb
	return err
}

// refuseLimit refuses to execute a portal with a row limit for the first time.
func (s *Session) refuseLimit(p *portal) *wire.Error {
	switch {
	case p.prep.st.Writes:
		return wire.Errorf(wire.FeatureNotSupported, "a row limit in Execute is not supported for a statement over several shards that locks or changes rows").
			WithHint("Execute it without a limit.")
	case slices.ContainsFunc(s.tx.prelude[p.level:], func(e entry) bool { return e.savepoint != "" }):
		return wire.Errorf(wire.FeatureNotSupported, "a row limit in Execute is not supported over several shards for a portal that was bound before a savepoint").
			WithHint("Bind it after the savepoint, or execute it without a limit.")
	}
	return nil
}

// portalGathering makes the gathering of a portal, without its plan, and has the session's
// values be the portal's.
func (s *Session) portalGathering(p *portal) (*gathering, *wire.Error) {
	bind := &wire.Bind{}
	if err := wire.DecodeBind(p.bind, bind); err != nil {
		return nil, asError(err)
	}
	v := &s.values
	v.Text, v.Literals = p.prep.st.Source(p.prep.text, p.prep.lits)
	v.Bind, v.ASCIIOnly = bind, s.asciiOnly()
	return &gathering{text: v.Text, lits: v.Literals, client: p.prep.text, clientLits: p.prep.lits, denied: denied(p.prep.st), prep: p.prep, bind: bind, types: p.prep.paramTypes(),
		taints: p.prep.st.Taints, holds: p.prep.st.HoldsSession,
		conn:  func(shard int) (*pool.Conn, error) { return s.connFor(shard, writesParts(p.prep.st, p.node)) },
		write: func(shard int) (*pool.Conn, error) { return s.connFor(shard, true) }}, nil
}

// paramTypes are the types of all parameters, as far as they are known.
func (p *prepared) paramTypes() []uint32 {
	if p.typed != nil {
		return p.typed
	}
	return p.oids
}
