package session

import (
	"slices"

	"github.com/shardgate/shardgate/gateway/exec"
	"github.com/shardgate/shardgate/gateway/pool"
	"github.com/shardgate/shardgate/planner"
	"github.com/shardgate/shardgate/planner/sqltext"
	"github.com/shardgate/shardgate/shardmap"
	"github.com/shardgate/shardgate/wire"
)

// resolve finds the shards of a plan with the values at hand. The node returned
// is the plan's own, or its alternative for several shards. The slice of shards
// is valid until the next call.
func (s *Session) resolve(st *planner.Statement, text []byte, lits []sqltext.Literal, bind *wire.Bind) (planner.Node, []int, error) {
	v := &s.values
	v.Text, v.Literals = st.Source(text, lits)
	v.Bind, v.ASCIIOnly, v.Guarded = bind, s.asciiOnly(), st.Guarded
	if x, ok := st.Node.(*planner.Explain); ok {
		v.Text, v.Literals = x.Statement(text, lits)
	}
	node, shards, err := s.place(st.Node)
	_, gathers := node.(*planner.Gather)
	_, merges := node.(*planner.Ordered)
	if (gathers || merges) && err == nil && v.ASCIIOnly && !st.ASCIIViews() {
		err = foreignView()
	}
	if err == nil && st.Cursor != "" {
		shard := shards[0]
		if _, ok := node.(*planner.Gather); ok {
			shard = -1 // it may come to be on a connection of its own
		}
		err = s.freeName(st.Cursor, shard)
	}
	return node, shards, err
}

// foreignView refuses the definition of a view in another encoding than the client's.
func foreignView() *wire.Error {
	return wire.Errorf(wire.FeatureNotSupported, "the definition of a view has text that isn't ASCII, and the rows that it reads have to be brought together").
		WithHint("Set client_encoding to the servers' encoding.")
}

// freeName checks that there is no cursor of that name but on the shard, which checks
// that itself: the name always leads to one.
func (s *Session) freeName(name string, shard int) error {
	at := s.cursors[name].shard
	if _, ok := s.cursors[name]; !ok {
		p := s.portals[name]
		if p == nil || len(p.shards) == 0 {
			return nil
		}
		at = p.shards[0]
	}
	c := s.held[at]
	if s.tx != nil && s.tx.parts[at] != nil {
		c = s.tx.parts[at].conn
	}
	if scratch := s.cursors[name].scratch; scratch != nil {
		c, at = scratch, -2
	}
	if c == nil || c.Broken || at == shard || s.tx != nil && s.tx.failed {
		return nil
	}
	var rows pool.Result
	c.SendQuery("SELECT FROM pg_catalog.pg_cursors WHERE name = " + planner.QuoteLiteral(name))
	s.run.Add(exec.Op{Kind: exec.Query, Conn: c, Hidden: true, Rows: &rows})
	if err := s.run.Run(false); err != nil {
		return err
	}
	if len(rows.Rows) > 0 {
		return wire.Errorf(wire.DuplicateCursor, "cursor \"%s\" already exists", name)
	}
	return nil
}

// asciiOnly says whether text beyond ASCII comes in another encoding than the
// servers'.
func (s *Session) asciiOnly() bool {
	e, ok := s.run.Setting("client_encoding")
	return ok && e != s.run.Reported["server_encoding"] && e != "SQL_ASCII"
}

func (s *Session) onShard(shard int) []int {
	s.one[0] = shard
	return s.one[:]
}

func (s *Session) place(node planner.Node) (planner.Node, []int, error) {
	switch n := node.(type) {
	case *planner.Route:
		return s.placeRoute(n)
	case *planner.Scatter:
		shards, err := s.prune(n.Pins)
		return n, shards, err
	case *planner.Broadcast:
		shards, err := s.prune(n.Pins)
		return n, shards, err
	case *planner.CopyOut:
		if n.Binary {
			if err := s.refuseOIDs(n.Table); err != nil {
				return nil, nil, err
			}
		}
		shards, err := s.prune(n.Pins)
		return n, shards, err
	case *planner.CopyIn:
		if n.Format.Binary {
			if err := s.refuseOIDs(n.Table); err != nil {
				return nil, nil, err
			}
		}
		return n, s.allShards(), nil
	case *planner.Ordered:
		return s.placeOrdered(n)
	case *planner.Gather, *planner.InsertSelect, *planner.CreateAs, *planner.Move, *planner.Steps:
		return n, s.onShard(s.host.Home), nil
	case *planner.Split:
		return s.placeSplit(n)
	case *planner.Explain:
		return s.placeExplain(n)
	case *planner.Cursor:
		if n.Name == "" {
			return n, s.cursorShards(), nil
		}
		cursor, ok := s.cursors[n.Name]
		shard := cursor.shard
		if p := s.portals[n.Name]; p != nil && (len(p.shards) > 1 || (p.counts() || brings(p.node) && p.prep.st.Returning) && !n.Close) {
			return n, nil, wire.Errorf(wire.FeatureNotSupported, "FETCH from a portal over several shards is not supported yet").
				WithHint("Execute the portal, with a row limit if there is one.")
		} else if p != nil && len(p.shards) == 1 {
			shard = p.shards[0]
		} else if !ok {
			shard = s.host.Home // PostgreSQL says that there is no such cursor
		}
		return n, s.onShard(shard), nil
	}
	return node, nil, wire.Errorf(wire.InternalError, "unknown kind of plan")
}

// refuseOIDs refuses to copy in binary format what has OIDs in it, which differ between shards.
func (s *Session) refuseOIDs(t *planner.Table) error {
	for i := range t.Columns {
		c := &t.Columns[i]
		if planner.OwnOIDs(c.Type) || exec.Nesting(s.snap.Nested).Any([]uint32{c.Type}) {
			return wire.Errorf(wire.FeatureNotSupported, "COPY in binary format of column \"%s\" of %s, whose values have OIDs of a shard in them, is not supported", c.Name, t).
				WithHint("Use the text or CSV format.")
		}
	}
	return nil
}

// placeOrdered: with one shard there is nothing to merge. Else a portal is bound on the home
// shard, to be described there.
func (s *Session) placeOrdered(n *planner.Ordered) (planner.Node, []int, error) {
	shards, err := s.prune(n.Pins)
	switch {
	case err != nil:
		return n, nil, err
	case len(shards) == 1:
		return &planner.Scatter{Pins: n.Pins}, shards, nil
	case !s.comparable(n), s.host.keys.incomparable(n):
		return s.place(n.Gathered)
	}
	if _, ok := s.passing(n); !ok {
		return s.place(n.Gathered)
	}
	return n, s.onShard(s.host.Home), nil
}

// cursorShards lists the shards that may have cursors, for CLOSE ALL.
func (s *Session) cursorShards() []int {
	s.shards = s.shards[:0]
	for _, c := range s.cursors {
		if !slices.Contains(s.shards, c.shard) {
			s.shards = append(s.shards, c.shard)
		}
	}
	if len(s.shards) == 0 {
		return s.onShard(s.host.Home)
	}
	return s.shards
}

// allShards lists all shards, the home shard first.
func (s *Session) allShards() []int {
	s.shards = append(s.shards[:0], s.snap.Active...)
	return s.shards
}

// prune lists the shards of the pins' alternatives, or all.
func (s *Session) prune(pins []planner.Pin) ([]int, error) {
	if len(pins) == 0 {
		return s.allShards(), nil
	}
	set, err := s.values.Slots(&pins[0], s.slots)
	s.slots = set.Slots
	if err != nil {
		return nil, err
	}
	return s.shardsOf(set.Slots), nil
}

// shardsOf are the shards of some slots, the home shard if there are none.
func (s *Session) shardsOf(slots []shardmap.Slot) []int {
	s.shards = s.shards[:0]
	for _, slot := range slots {
		if shard := s.snap.ShardOf(slot); !slices.Contains(s.shards, shard) {
			s.shards = append(s.shards, shard)
		}
	}
	if len(s.shards) == 0 {
		return s.onShard(s.host.Home)
	}
	return s.shards
}

func (s *Session) placeRoute(n *planner.Route) (planner.Node, []int, error) {
	switch n.Place {
	case planner.Home:
		return n, s.onShard(s.host.Home), nil
	case planner.Any:
		return n, s.onShard(s.any()), nil
	}
	shard := -1
	var nullKey *planner.Table
	for i := range n.Pins {
		set, err := s.values.Slots(&n.Pins[i], s.slots)
		s.slots = set.Slots
		if err != nil {
			return n, nil, err
		}
		if n.Pins[i].Stores && len(set.Slots) < len(n.Pins[i].Keys) {
			nullKey = n.Pins[i].Table
		}
		for _, slot := range set.Slots {
			at := s.snap.ShardOf(slot)
			if shard < 0 {
				shard = at
			} else if at != shard {
				return s.elsewhere(n)
			}
		}
	}
	if nullKey != nil {
		return n, nil, nullKeyError(nullKey)
	}
	if shard < 0 {
		shard = s.host.Home
	}
	if n.KeyChange != nil {
		if stays, err := s.keyStays(n, shard); err != nil {
			return n, nil, err
		} else if !stays {
			return s.elsewhere(n)
		}
	}
	return n, s.onShard(shard), nil
}

// nullKeyError is PostgreSQL's error where the key can't be NULL, without the row in its
// detail, and else a refusal.
func nullKeyError(t *planner.Table) *wire.Error {
	if t.KeyNullable() {
		return wire.Errorf(wire.FeatureNotSupported, "a row of the sharded table %s has NULL in its key", t).
			WithHint("A row without a key has no shard: give it one.")
	}
	column := t.Columns[t.Key.Columns[0]].Name
	e := wire.Errorf(wire.NotNullViolation, "null value in column \"%s\" of relation \"%s\" violates not-null constraint", column, t.Name)
	e.Schema, e.Table, e.Column = t.Schema, t.Name, column
	return e
}

// elsewhere is the plan for keys on several shards.
func (s *Session) elsewhere(n *planner.Route) (planner.Node, []int, error) {
	if n.Else == nil {
		if n.Refusal != nil {
			return n, nil, n.Refusal
		}
		return n, nil, wire.Errorf(wire.FeatureNotSupported, "the keys of this statement are on different shards").
			WithHint("Send a statement for each key.")
	}
	return s.place(n.Else)
}

// keyStays says whether a new key belongs to the shard of the old one.
func (s *Session) keyStays(n *planner.Route, shard int) (bool, error) {
	slot, null, err := s.values.Slot(n.KeyChange, n.KeyChange.Keys[0])
	if err == nil && null {
		err = nullKeyError(n.KeyChange.Table)
	}
	if err != nil {
		return false, err
	}
	return s.snap.ShardOf(slot) == shard, nil
}

// placeSplit finds each row's shard. The shards are listed by their first row.
func (s *Session) placeSplit(n *planner.Split) (planner.Node, []int, error) {
	pin := planner.Pin{Table: n.Table, Types: n.Types, Stores: true}
	s.shards = s.shards[:0]
	s.rowTargets = s.rowTargets[:0]
	for i := range n.Rows {
		slot, null, err := s.values.Slot(&pin, n.Rows[i].Key)
		if err != nil {
			return n, nil, err
		}
		if null {
			return n, nil, nullKeyError(n.Table)
		}
		shard := s.snap.ShardOf(slot)
		at := slices.Index(s.shards, shard)
		if at < 0 {
			at = len(s.shards)
			s.shards = append(s.shards, shard)
		}
		s.rowTargets = append(s.rowTargets, uint8(at))
	}
	return n, s.shards, nil
}

// hashByShard asks the home shard for the hash of a value that can't be read
// here exactly as PostgreSQL reads it.
func (s *Session) hashByShard(t shardmap.KeyType, typmod int32, value []byte, binary bool, from uint32) (h uint64, err *wire.Error) {
	err = s.asideOnHome(func(c *pool.Conn) (err *wire.Error) {
		h, err = exec.HashByShard(c, t, typmod, value, binary, from)
		return err
	})
	return h, err
}

// hashSQLByShard asks the home shard for the hash of an expression's value.
func (s *Session) hashSQLByShard(t shardmap.KeyType, typmod int32, expr []byte, types []uint32, bind *wire.Bind) (h uint64, null bool, err *wire.Error) {
	err = s.asideOnHome(func(c *pool.Conn) (err *wire.Error) {
		h, null, err = exec.HashSQLByShard(c, t, typmod, expr, types, bind)
		return err
	})
	return h, null, err
}

// asideOnHome runs f with a connection to the home shard that has the session's
// settings, and no part in its transaction.
func (s *Session) asideOnHome(f func(*pool.Conn) *wire.Error) *wire.Error {
	c, err := s.host.Pools.Pool(s.host.Home, s.role).Get()
	if err != nil {
		return asError(err)
	}
	defer c.Put()
	vars, block := s.vars, s.settingsBlock()
	if block != "" {
		vars = s.tx.before.vars
	}
	if sql := vars.Change(c.Vars); sql != "" {
		if _, err := c.Query(sql); err != nil {
			return asError(err)
		}
	}
	c.Vars = vars
	if block == "" {
		return f(c)
	}
	defer c.Query("ROLLBACK")
	if _, err := c.Query(block); err != nil {
		return asError(err)
	}
	return f(c)
}

// settingsBlock is the SQL that begins a transaction with the settings that the
// session's has made in its own, or "" if it has made none.
func (s *Session) settingsBlock() string {
	if s.tx == nil {
		return ""
	}
	sql := ""
	for _, e := range s.tx.prelude {
		if e.sets {
			sql += ";" + e.sql
		}
	}
	if sql != "" {
		sql = s.tx.begin + sql
	}
	return sql
}
