package session

import (
	"slices"

	"github.com/shardgate/shardgate/gateway/exec"
	"github.com/shardgate/shardgate/gateway/pool"
	"github.com/shardgate/shardgate/planner"
	"github.com/shardgate/shardgate/planner/sqltext"
	"github.com/shardgate/shardgate/wire"
)

// A transaction has one time, that of the shard where it was asked for first. A statement that
// asks for it on that shard runs as it is; on any other it gets the time written into its
// text. So it costs a round trip only where it is asked for on a second shard.

// noShard: no shard's time is the transaction's yet.
const noShard = -1

// ownTime says whether a shard's own time is the transaction's. The first that is asked
// makes it so.
func (s *Session) ownTime(shard int) bool {
	if s.tx == nil {
		return true
	}
	if s.tx.clockAt == noShard {
		s.tx.clockAt = shard
	}
	return s.tx.clockAt == shard
}

// needsTime says whether a statement must have the time of the transaction in its text.
// What brings rows together sees to it by readClock.
func (s *Session) needsTime(st *planner.Statement, node planner.Node, shards []int) bool {
	if !st.Clock || len(shards) == 0 {
		return false
	}
	switch node.(type) {
	case *planner.Route, *planner.Split, *planner.Broadcast:
	default:
		return false
	}
	if len(shards) == 1 {
		return !s.ownTime(shards[0])
	}
	return st.Timed != nil
}

// readTime asks for the time of the transaction: the shard where it was asked for before, or
// this one. Outside of a block it is the shard's, for one statement. On failure it is "",
// with the error in s.run.Failed if there is none.
func (s *Session) readTime(shard int, on func(shard int) (*pool.Conn, error)) (string, error) {
	if s.tx != nil {
		if s.tx.clock != "" {
			return s.tx.clock, nil
		}
		s.ownTime(shard)
		shard = s.tx.clockAt
	}
	c, err := on(shard)
	if err != nil {
		s.failGather(asError(err))
		return "", nil
	}
	var rows pool.Result
	c.SendQuery("SELECT pg_catalog.to_char(pg_catalog.timezone('UTC', pg_catalog.now()), 'YYYY-MM-DD HH24:MI:SS.US') || '+00'")
	s.run.Add(exec.Op{Kind: exec.Query, Conn: c, Hidden: true, Rows: &rows})
	if err := s.run.Run(false); err != nil || s.run.Failed != nil {
		return "", err
	}
	if s.tx != nil {
		s.tx.clock = rows.Value(0)
	}
	return rows.Value(0), nil
}

// readClock reads the time for the statements of a gathering.
func (s *Session) readClock(g *gathering) (err error) {
	g.Clock, err = s.readTime(s.host.Home, g.on)
	return err
}

// timedText is a statement's text with the time of the transaction in it. It fails as
// readTime does. What was emitted before has been run.
func (s *Session) timedText(st *planner.Statement, text []byte, lits []sqltext.Literal, shard int) ([]byte, error) {
	if st.Timed == nil {
		s.failGather(wire.Errorf(wire.FeatureNotSupported, "this statement asks for the time of the transaction, which another shard has told, in a form that is not supported yet").
			WithHint("Read the time by a statement of its own, and pass it as a parameter."))
		return nil, nil
	}
	at, err := s.readTime(shard, s.enter)
	if err != nil || s.run.Failed != nil {
		return nil, err
	}
	g := exec.NewGathering(&planner.Gather{})
	g.Clock = at
	return st.Timed.Append(nil, text, lits, exec.NewPartArrays(g, nil)), nil
}

// timed is a statement of a simple Query with the time of the transaction in its text. A
// Split is planned anew: where its rows begin and end is another place now.
func (s *Session) timed(st *planner.Statement, node planner.Node, shards []int, text []byte, lits []sqltext.Literal) (planner.Node, []int, []byte, error) {
	text, err := s.timedText(st, text, lits, shards[0])
	if err != nil || s.run.Failed != nil {
		return node, shards, text, err
	}
	if _, ok := node.(*planner.Split); !ok {
		return node, shards, text, nil
	}
	if st, lits, _, err = s.plannerNow().Plan(text, &s.scan); err == nil {
		node, shards, err = s.resolve(st, text, lits, nil)
	}
	if err != nil {
		s.failGather(asError(err))
	}
	return node, shards, text, nil
}

// bindTime gives a portal a text with the time of the transaction. What was emitted before
// is run.
func (s *Session) bindTime(st *step) error {
	p := st.portal
	if err := s.runEmitted(); err != nil || s.run.Failed != nil {
		return err
	}
	text, err := s.timedText(p.prep.st, p.prep.text, p.prep.lits, p.shards[0])
	if err != nil || s.run.Failed != nil {
		return err
	}
	prep := *p.prep
	prep.name, prep.text = "", text
	p.prep, p.own = &prep, true
	if _, ok := p.node.(*planner.Split); !ok {
		return nil
	}
	prep.planner = nil
	e := s.plan(&prep)
	if e == nil {
		if err := wire.DecodeBind(st.body, &s.bind); err != nil {
			e = asError(err)
		} else if node, shards, err := s.resolve(prep.st, prep.text, prep.lits, &s.bind); err != nil {
			e = asError(err)
		} else {
			p.node, p.shards, p.targets = node, slices.Clone(shards), slices.Clone(s.rowTargets)
		}
	}
	if e != nil {
		s.failGather(e)
	}
	return nil
}
