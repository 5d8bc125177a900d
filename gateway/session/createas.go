package session

import (
	"github.com/shardgate/shardgate/gateway/exec"
	"github.com/shardgate/shardgate/gateway/pool"
	"github.com/shardgate/shardgate/planner"
	"github.com/shardgate/shardgate/planner/sqltext"
	"github.com/shardgate/shardgate/wire"
)

// creating is a planner.CreateAs under way, in a transaction block.
type creating struct {
	*inserting
	plan *planner.CreateAs
}

// create carries out a CreateAs: the query's rows are read to their end, and then the
// table is made and filled. What was emitted before has been run. The error is one of
// the client's connection; another is told to the client, and in s.run.Failed.
func (s *Session) create(plan *planner.CreateAs, in *inserting) error {
	c := &creating{in, plan}
	in.rows = &exec.Selected{Rows: exec.Rows{LimitBytes: s.gatherBytes()}}
	in.plan = &planner.InsertSelect{Query: plan.Query}
	q := in.query
	q.text, q.lits = plan.QueryText(in.text, in.lits)
	q.into, q.denied = in.rows, denied(plan.Query)
	q.conn = func(shard int) (*pool.Conn, error) { return in.conn(shard, plan.Query.Writes) }
	s.run.Failed = nil
	if err := s.checkInsert(in); err != nil || s.run.Failed != nil {
		return err
	}
	home, err := in.conn(s.host.Home, true)
	if err != nil {
		s.failGather(asError(err))
		return nil
	}
	var there pool.Result
	home.SendQuery(plan.Exists)
	s.run.Add(exec.Op{Kind: exec.Query, Conn: home, Hidden: true, Rows: &there})
	if err := s.run.Run(false); err != nil || s.run.Failed != nil {
		return err
	}
	if len(there.Rows) > 0 {
		return s.sendCreate(c, home, in.text, false)
	}
	if err := s.selectRows(in); err != nil || s.run.Failed != nil {
		return err
	}
	if e := in.rows.Check(); e != nil {
		s.failGather(e)
		return nil
	}
	if err := s.sendCreate(c, home, plan.Create.Append(nil, in.text, in.lits, nil), true); err != nil || s.run.Failed != nil {
		return err
	}
	if e := in.rows.CopyTo(home, plan.Table); e != nil {
		s.failGather(e)
		return nil
	}
	s.run.Tag = exec.Tag{Verb: "SELECT", Rows: uint64(in.rows.Count()), Counted: true}
	if !in.hold {
		s.client.SetOut(s.run.Tag.Append(s.client.Out()))
	}
	return nil
}

// sendCreate runs a statement that makes the table. Hidden, its answer is not for the
// client.
func (s *Session) sendCreate(c *creating, home *pool.Conn, sql []byte, hidden bool) error {
	home.SendParse(sql, c.query.types)
	s.sendBind(home, c.query, gatherPortal, nil, nil)
	home.SetOut(wire.AppendExecute(home.Out(), gatherPortal, 0))
	home.SetOut(wire.AppendClose(home.Out(), wire.Portal, gatherPortal))
	home.SendSync()
	s.run.Add(exec.Op{Kind: exec.Parse, Conn: home, Hidden: true, Rewritten: true})
	s.run.Add(exec.Op{Kind: exec.Bind, Conn: home, Hidden: true, Rewritten: true})
	var tag exec.Tag
	s.run.Add(exec.Op{Kind: exec.Execute, Conn: home, Hidden: hidden, HoldTag: c.hold, Rewritten: true, Done: func() { tag = s.run.Tag }})
	s.run.Add(exec.Op{Kind: exec.Close, Conn: home, Hidden: true})
	s.run.Add(exec.Op{Kind: exec.Sync, Conn: home})
	err := s.run.Run(false)
	s.run.Tag = tag
	return err
}

// createQuery answers a simple Query.
func (s *Session) createQuery(plan *planner.CreateAs, st *planner.Statement, text []byte, lits []sqltext.Literal, hold bool) error {
	in := s.storing(st, text, lits, hold)
	if st.Params > 0 {
		return s.withoutParameters(in.query)
	}
	return s.create(plan, in)
}

// executeCreate executes a portal.
func (s *Session) executeCreate(st *step) error {
	p := st.portal
	if p.begun {
		name, _, _ := wire.DecodeExecute(st.body)
		s.pendingErr = wire.Errorf(wire.ObjectNotInPrerequisiteState, "portal \"%s\" cannot be run", name)
		return errStatementFailed
	}
	query, err := s.begun(p)
	if err != nil || query == nil {
		return err
	}
	return s.create(p.node.(*planner.CreateAs), &inserting{text: p.prep.text, lits: p.prep.lits, conn: s.connFor, query: query})
}
