package session

import (
	"slices"

	"github.com/shardgate/shardgate/gateway/exec"
	"github.com/shardgate/shardgate/gateway/pool"
	"github.com/shardgate/shardgate/planner"
	"github.com/shardgate/shardgate/wire"
)

// Cursors and portals over rows that were brought together. Few rows are parameters
// of the cursor itself, which is then on the home shard and a part of the client's
// transaction. More are in temporary tables: their connection is kept, with a
// transaction that follows the client's from savepoint to savepoint, until nothing is
// left to read from it.

// sqlCursor is a cursor that DECLARE has made. It may be gone already, by CLOSE or
// by a rollback to a savepoint: its connection knows.
type sqlCursor struct {
	shard    int
	holdable bool
	kept     bool          // holdable, and its transaction is committed
	scratch  *pool.Conn    // where it is, if not on the shard's connection
	level    int           // length of the transaction's prelude when it was declared
	origins  *exec.Origins // of its columns, if it is over gathered rows
}

// openPortal is where the rest of a portal's rows is.
type openPortal struct {
	conn *pool.Conn
	name string
}

// opened notes what a Gather has left open.
func (s *Session) opened(g *gathering) {
	switch {
	case g.explain != nil:
		return
	case g.plan.Declares != "":
		s.addCursor(g.plan.Declares, sqlCursor{shard: s.host.Home, holdable: g.holds, scratch: g.Conn, level: len(s.tx.prelude), origins: &g.origins})
	case g.portal != nil && s.run.Suspended:
		g.portal.open = &openPortal{g.Conn, g.open}
		if g.Conn == nil {
			g.portal.open.conn, _ = g.on(s.host.Home)
		}
	default:
		return
	}
	if g.Conn != nil {
		s.scratches = append(s.scratches, g.Conn)
		g.Conn = nil
	}
}

func (s *Session) addCursor(name string, c sqlCursor) {
	if s.cursors == nil {
		s.cursors = map[string]sqlCursor{}
	}
	s.cursors[name] = c
}

// afterCursor notes what a statement did to cursors: its own, if it declares one, or
// those that it has closed.
func (s *Session) afterCursor(st *planner.Statement, node planner.Node, shards []int) {
	switch n := node.(type) {
	case *planner.Gather: // opened has noted it
	case *planner.Cursor:
		if n.Close {
			s.closed(n.Name)
		}
	default:
		if st.Cursor != "" {
			s.addCursor(st.Cursor, sqlCursor{shard: shards[0], holdable: st.HoldsSession})
		}
	}
}

// closed forgets a cursor or portal over gathered rows that was closed by SQL, or all
// of them.
func (s *Session) closed(name string) {
	for key, c := range s.cursors {
		if c.scratch != nil && (name == "" || name == key) {
			delete(s.cursors, key)
		}
	}
	for key, p := range s.portals {
		switch p.node.(type) {
		case *planner.Gather, *planner.Ordered:
			if name == "" || name == key {
				delete(s.portals, key)
			}
		}
	}
}

// sweep gives the connections back from which nothing is read any more.
func (s *Session) sweep() {
	s.scratches = slices.DeleteFunc(s.scratches, func(c *pool.Conn) bool {
		for _, cursor := range s.cursors {
			if cursor.scratch == c {
				return false
			}
		}
		for _, p := range s.portals {
			if p.open != nil && p.open.conn == c {
				return false
			}
		}
		s.endScratch(c)
		return true
	})
}

// inTransaction are the connections that follow the client's transaction.
func (s *Session) inTransaction() []*pool.Conn { return append(s.participants(), s.scratches...) }

// cursorScratch is the connection of the cursor that a plan is about, if that is not a
// shard's.
func (s *Session) cursorScratch(node planner.Node) *pool.Conn {
	if n, ok := node.(*planner.Cursor); ok && n.Name != "" {
		return s.cursors[n.Name].scratch
	}
	return nil
}

// cursorOrigins are the origins of the columns of the cursor that a plan is about.
func (s *Session) cursorOrigins(node planner.Node) *exec.Origins {
	if n, ok := node.(*planner.Cursor); ok {
		return s.cursors[n.Name].origins
	}
	return nil
}

// portalConns gets the connections that have a portal on its shards. With readOnly, what
// is done there now changes nothing. Those of one shard are overwritten by the next call.
func (s *Session) portalConns(p *portal, readOnly bool) ([]*pool.Conn, error) {
	conns := p.oneConn[:0]
	for _, shard := range p.shards {
		c, err := s.portalConn(p, shard, readOnly)
		if err != nil {
			s.pendingErr = asError(err)
			return nil, errStatementFailed
		}
		conns = append(conns, c)
	}
	return conns, nil
}

// portalConn is one of them.
func (s *Session) portalConn(p *portal, shard int, readOnly bool) (*pool.Conn, error) {
	if c := s.cursorScratch(p.node); c != nil {
		s.useInBatch(c)
		return c, nil
	}
	if p.prep.st.Rowless {
		return s.connToDescribe(shard)
	}
	return s.connFor(shard, p.prep.st.Writes && !readOnly)
}

// counts says whether a portal's plan is one by which the gateway has the rows that an Execute
// counts, and not the shard that it is bound on.
func (p *portal) counts() bool {
	if _, ok := p.node.(*planner.Ordered); ok {
		return true
	}
	g, ok := p.node.(*planner.Gather)
	return ok && g.Query == nil && (g.Target == nil || p.prep.st.Returning)
}

// executeAgain executes a portal over gathered rows that was executed before.
func (s *Session) executeAgain(st *step) error {
	p := st.portal
	switch name, _, _ := wire.DecodeExecute(st.body); {
	case !p.counts():
		s.pendingErr = wire.Errorf(wire.ObjectNotInPrerequisiteState, "portal \"%s\" cannot be run", name)
		return errStatementFailed
	case p.open == nil:
		s.run.Add(exec.Op{Kind: exec.Local, Answer: exec.Tag{Verb: choose(changes(p.node), p.verb, "SELECT"), Counted: true}.Append(nil)})
		return nil
	}
	c := p.open.conn
	s.useInBatch(c)
	c.SetOut(wire.AppendExecute(c.Out(), p.open.name, st.limit))
	s.run.Add(exec.Op{Kind: exec.Execute, Conn: c, Rewritten: true, Done: func() {
		if !s.run.Suspended {
			p.open = nil // that was all
		}
	}})
	return nil
}
