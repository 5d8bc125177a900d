package session

import (
	"bytes"
	"slices"

	"github.com/shardgate/shardgate/planner"
	"github.com/shardgate/shardgate/wire"
)

// step is one message of a batch.
type step struct {
	typ      byte
	body     []byte
	kind     wire.Kind
	prep     *prepared
	portal   *portal
	limit    int32
	err      *wire.Error
	local    []byte // the answer, if the gateway gives it
	noParams bool   // of a Describe: the client's statement has no parameters, unlike prep
	op       int    // index of the step's operation in the runner
	// What takes back what resolving the step has done to the session's tables: undo, or,
	// of a Bind, the portal that had the name of this one before.
	undo  func()
	bound bool
	name  string
	old   *portal
}

// takeBack does so.
func (s *Session) takeBack(st *step) {
	switch {
	case st.undo != nil:
		st.undo()
	case st.bound:
		restore(s.portals, st.name, st.old)
	}
}

func isControl(p *portal) bool {
	if p == nil {
		return false
	}
	_, ok := p.prep.st.Node.(*planner.Control)
	return ok
}

func isShow(p *portal) bool {
	if p == nil {
		return false
	}
	c, ok := p.prep.st.Node.(*planner.Control)
	return ok && c.Kind == planner.Show
}

// changesCursors says whether a message makes a cursor or closes one, so that what
// follows is about other cursors.
func (st *step) changesCursors() bool {
	if st.portal == nil || st.typ != 'E' && st.typ != 'C' {
		return false
	}
	c, ok := st.portal.node.(*planner.Cursor)
	return ok && (c.Close || st.typ == 'C') || st.typ == 'E' && st.portal.prep.st.Cursor != ""
}

// resolveStep finds out what a message concerns. It returns false if it fails.
func (s *Session) resolveStep(st *step) bool {
	switch st.typ {
	case 'P':
		st.err = s.resolveParse(st)
	case 'B':
		st.err = s.resolveBind(st)
	case 'D':
		st.err = s.resolveDescribe(st)
	case 'E':
		st.err = s.resolveExecute(st)
	case 'C':
		st.err = s.resolveClose(st)
	case 'H':
		st.err = resolveEmpty(st)
	}
	return st.err == nil
}

// resolveEmpty checks a message that says all by its type.
func resolveEmpty(st *step) *wire.Error {
	if len(st.body) > 0 {
		return wire.Errorf(wire.ProtocolViolation, "invalid message format")
	}
	return nil
}

func (s *Session) resolveParse(st *step) *wire.Error {
	if err := wire.DecodeParse(st.body, &s.parse); err != nil {
		return asError(err)
	}
	name := string(s.parse.Name)
	old := s.stmts[name]
	if name == "" {
		delete(s.stmts, "") // even when the new one is refused
		st.undo = func() { restore(s.stmts, "", old) }
	} else if old != nil {
		return wire.Errorf(wire.DuplicatePreparedStatement, "prepared statement \"%s\" already exists", name)
	}
	if name != "" && len(s.stmts) >= s.host.MaxPrepared {
		return tooManyPrepared
	}
	prep, err := s.prepare(&s.parse)
	if err != nil {
		return err
	}
	if err := s.refusedStep(prep); err != nil {
		return err
	}
	s.stmts[name] = prep
	st.prep = prep
	st.undo = func() { restore(s.stmts, name, old) }
	if _, ok := prep.st.Node.(*planner.Control); ok {
		st.local = wire.AppendParseComplete(nil)
	}
	return nil
}

var tooManyPrepared = wire.Errorf(wire.ConfigurationLimitExceeded, "too many prepared statements").
	WithHint("Close those that are not needed, or make limits.prepared_statements larger.")

// restore puts back what one of the session's tables had under a name: nothing if it is nil.
func restore[V any](table map[string]*V, name string, old *V) {
	if old == nil {
		delete(table, name)
	} else {
		table[name] = old
	}
}

// refusedStep refuses statements in a failed transaction.
func (s *Session) refusedStep(p *prepared) *wire.Error {
	if s.failedFor(p.st) {
		return inFailed
	}
	return nil
}

// statementNamed is the client's prepared statement of a name, "" for the unnamed one.
func (s *Session) statementNamed(name []byte) (*prepared, *wire.Error) {
	switch p := s.stmts[string(name)]; {
	case p != nil:
		return p, nil
	case len(name) == 0:
		return nil, wire.Errorf(wire.UndefinedPreparedStatement, "unnamed prepared statement does not exist")
	}
	return nil, wire.Errorf(wire.UndefinedPreparedStatement, "prepared statement \"%s\" does not exist", name)
}

func (s *Session) resolveBind(st *step) *wire.Error {
	if err := wire.DecodeBind(st.body, &s.bind); err != nil {
		return asError(err)
	}
	prep, e := s.statementNamed(s.bind.Statement)
	if e != nil {
		return e
	}
	name := string(s.bind.Portal)
	if name != "" && (s.portals[name] != nil || s.cursors[name].scratch != nil) {
		return wire.Errorf(wire.DuplicateCursor, "cursor \"%s\" already exists", name)
	}
	if err := s.plan(prep); err != nil {
		return err
	}
	if err := s.refusedStep(prep); err != nil {
		return err
	}
	if c := executes(prep); c != nil {
		if prep, e = s.bindExecuted(c, prep, st); e != nil {
			return e
		}
	}
	p := s.newPortal()
	p.prep, p.binary = prep, slices.Contains(s.bind.ResultFormats, wire.FormatBinary)
	if s.tx != nil {
		p.level = len(s.tx.prelude)
	}
	if c, ok := prep.st.Node.(*planner.Control); ok {
		if e := s.bindsDeclared(prep); e != nil {
			return e
		}
		if c.Kind == planner.Show {
			if err := checkShowFormats(s.bind.ResultFormats); err != nil {
				return err
			}
			p.formats = append([]int16(nil), s.bind.ResultFormats...)
		}
		st.local = wire.AppendBindComplete(nil)
	} else if err := s.placePortal(p, st.body); err != nil {
		return err
	}
	st.bound, st.name, st.old = true, name, s.portals[name]
	s.portals[name] = p
	st.prep, st.portal = prep, p
	return nil
}

// newPortal returns an empty portal: the one of the batch before, if that was of the usual
// kind.
func (s *Session) newPortal() *portal {
	p := s.spare
	if p == nil {
		return &portal{}
	}
	s.spare = nil
	*p = portal{}
	return p
}

// forgetPortals destroys all portals.
func (s *Session) forgetPortals() {
	if p := s.portals[""]; p != nil {
		if _, ok := p.node.(*planner.Route); ok {
			s.spare = p // nothing but the table knows it
		}
	}
	clear(s.portals)
}

// bindsDeclared refuses a Bind with more parameters or fewer than were declared for a statement
// that has no use for any.
func (s *Session) bindsDeclared(prep *prepared) *wire.Error {
	if n := len(s.bind.Params); n != len(prep.oids) {
		return wire.Errorf(wire.ProtocolViolation, "bind message supplies %d parameters, but prepared statement \"%s\" requires %d", n, s.bind.Statement, len(prep.oids))
	}
	return nil
}

// placePortal finds the shards of a portal by its parameters.
func (s *Session) placePortal(p *portal, bind []byte) *wire.Error {
	prep := p.prep
	if n := len(s.bind.Params); n < prep.st.Params {
		return wire.Errorf(wire.ProtocolViolation, "bind message supplies %d parameters, but prepared statement \"%s\" requires %d", n, s.bind.Statement, prep.st.Params)
	}
	if prep.asked != nil {
		answered, err := s.bindAnswers(prep, &s.bind)
		if err != nil {
			return err
		}
		p.prep, p.own = answered, true
		prep = answered
	}
	node, shards, err := s.resolve(prep.st, prep.text, prep.lits, &s.bind)
	if err != nil {
		return asError(err)
	}
	p.node, p.shards = node, append(p.oneShard[:0], shards...)
	if brings(node) {
		p.bind = bytes.Clone(bind)
		if _, merges := node.(*planner.Ordered); !merges { // whose shards see all parameters where the client put them
			if err := s.typesOf(prep); err != nil {
				return err
			}
		}
	}
	if len(shards) > 1 {
		p.formats, p.targets = slices.Clone(s.bind.ResultFormats), slices.Clone(s.rowTargets)
	}
	return nil
}

func (s *Session) resolveDescribe(st *step) *wire.Error {
	kind, name, err := wire.DecodeDescribe(st.body)
	if err != nil {
		return asError(err)
	}
	st.kind = kind
	if kind == wire.Statement {
		var e *wire.Error
		if st.prep, e = s.statementNamed(name); e != nil {
			return e
		}
		if err := s.plan(st.prep); err != nil {
			return err
		}
		if c := executes(st.prep); c != nil {
			return s.describeExecuted(c, st)
		}
		if c, ok := st.prep.st.Node.(*planner.Control); ok {
			st.local = appendControlColumns(wire.AppendNoParameters(nil), c, nil)
		}
		return nil
	}
	if st.portal = s.portalOf(string(name)); st.portal == nil {
		return wire.Errorf(wire.UndefinedCursor, "portal \"%s\" does not exist", name)
	}
	st.prep = st.portal.prep
	if c, ok := st.prep.st.Node.(*planner.Control); ok {
		st.local = appendControlColumns(nil, c, st.portal.formats)
	}
	return nil
}

// appendControlColumns describes the rows of a statement that the session carries out.
func appendControlColumns(dst []byte, c *planner.Control, formats []int16) []byte {
	if c.Kind == planner.Show {
		return appendShowColumns(dst, formats)
	}
	return wire.AppendNoData(dst)
}

// portalOf finds a portal. A cursor that DECLARE has made is one too, and clients
// ask for its description.
func (s *Session) portalOf(name string) *portal {
	if p := s.portals[name]; p != nil {
		return p
	}
	cursor, ok := s.cursors[name]
	if !ok {
		return nil
	}
	node := &planner.Cursor{Name: name}
	return &portal{prep: &prepared{st: &planner.Statement{Node: node}}, node: node, shards: []int{cursor.shard}}
}

func (s *Session) resolveExecute(st *step) *wire.Error {
	name, limit, err := wire.DecodeExecute(st.body)
	if err != nil {
		return asError(err)
	}
	if st.portal = s.portalOf(string(name)); st.portal == nil {
		return wire.Errorf(wire.UndefinedCursor, "portal \"%s\" does not exist", name)
	}
	st.limit = limit
	st.prep = st.portal.prep
	return s.refusedStep(st.prep)
}

func (s *Session) resolveClose(st *step) *wire.Error {
	kind, name, err := wire.DecodeClose(st.body)
	if err != nil {
		return asError(err)
	}
	st.kind = kind
	key := string(name)
	if kind == wire.Statement {
		old := s.stmts[key]
		delete(s.stmts, key)
		st.local = wire.AppendCloseComplete(nil)
		st.undo = func() { restore(s.stmts, key, old) }
		return nil
	}
	old, portal := s.portalOf(key), s.portals[key]
	delete(s.portals, key)
	st.undo = func() { restore(s.portals, key, portal) }
	st.portal = old
	if old == nil || isControl(old) {
		st.local = wire.AppendCloseComplete(nil)
	}
	return nil
}

func isUnnamedParse(st *step) bool {
	return st.typ == 'P' && len(st.body) > 0 && st.body[0] == 0
}
