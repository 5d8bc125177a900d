package session

import (
	"errors"
	"slices"
	"strconv"
	"unicode/utf8"

	"github.com/shardgate/shardgate/gateway/exec"
	"github.com/shardgate/shardgate/gateway/pool"
	"github.com/shardgate/shardgate/planner"
	"github.com/shardgate/shardgate/wire"
)

// PREPARE and EXECUTE as SQL statements. What PREPARE makes is a prepared statement as
// Parse makes one, and EXECUTE is carried out as Bind and Execute of it: as that message in
// the extended protocol, and as the messages in the place of a simple Query.

// prepareSQL carries out PREPARE.
func (s *Session) prepareSQL(c *planner.Control, text string) error {
	n := c.Named
	types, err := s.checkPrepare(n, text)
	if errors.Is(err, errStatementFailed) {
		return err
	}
	var prep *prepared
	e := asErrorOrNil(err)
	switch {
	case e != nil:
	case s.stmts[c.Name] != nil:
		e = wire.Errorf(wire.DuplicatePreparedStatement, "prepared statement \"%s\" already exists", c.Name)
	case len(s.stmts) >= s.host.MaxPrepared:
		e = tooManyPrepared
	default:
		prep, e = s.prepare(&wire.Parse{Name: []byte(c.Name), Query: []byte(text[n.Query:n.End]), ParamOIDs: types})
		e = moved(e, utf8.RuneCountInString(text[:n.Query]))
	}
	if e != nil {
		s.tell(s.shifted(e))
		return errStatementFailed
	}
	prep.typed = types
	s.stmts[c.Name] = prep
	s.done(c.Tag)
	return nil
}

// checkPrepare has the home shard look at a PREPARE, and say which types it gives the
// parameters.
func (s *Session) checkPrepare(n *planner.NamedText, text string) (types []uint32, err error) {
	ask := func(c *pool.Conn) *wire.Error {
		var e *wire.Error
		types, e = exec.PreparedTypes(c, text[n.NameEnd:n.End])
		return moved(e, utf8.RuneCountInString(text[:n.NameEnd]))
	}
	if s.held[s.host.Home] == nil && (s.tx == nil || !s.tx.schema) {
		if e := s.asideOnHome(ask); e != nil {
			return nil, e
		}
		return types, nil
	}
	// It may be about a relation that only this connection sees.
	defer s.releaseBatch()
	conn, err := s.connToDescribe(s.host.Home)
	if err != nil {
		return nil, err
	}
	if err := s.run.Run(false); err != nil {
		return nil, err
	}
	if s.run.Failed != nil {
		return nil, errStatementFailed
	}
	if e := ask(conn); e != nil {
		return nil, e
	}
	return types, nil
}

// asErrorOrNil is asError where there may be no error.
func asErrorOrNil(err error) *wire.Error {
	if err == nil {
		return nil
	}
	return asError(err)
}

// moved is an error about a part of a text with its position in the whole.
func moved(e *wire.Error, before int) *wire.Error {
	if e == nil || e.Position == 0 {
		return e
	}
	return e.WithPosition(e.Position + int32(before))
}

// executes is what a prepared statement says if it is an EXECUTE, else nil.
func executes(p *prepared) *planner.Control {
	if c, ok := p.st.Node.(*planner.Control); ok && c.Kind == planner.Execute {
		return c
	}
	return nil
}

// execute carries out EXECUTE of a simple Query. alone says that it is all of that, outside of a
// block: then the client is told that the session is ready.
func (s *Session) execute(st *planner.Statement, text []byte, alone bool) error {
	s.run.Plain, s.run.Rewritten = true, true
	s.stmts[""] = &prepared{text: slices.Clone(text), st: st, planner: s.plannerNow()}
	defer func() {
		s.run.Plain, s.run.Rewritten = false, false
		delete(s.stmts, "")
		delete(s.portals, "")
	}()
	messages := [][]byte{wire.AppendBind(nil, "", "", nil, nil, nil), wire.AppendDescribe(nil, wire.Portal, ""), wire.AppendExecute(nil, "", 0)}
	if alone {
		messages = append(messages, wire.AppendSync(nil))
	}
	s.steps = s.steps[:0]
	for _, m := range messages {
		st := step{typ: m[0], body: m[5:]}
		ok := s.resolveStep(&st)
		if s.steps = append(s.steps, st); !ok {
			break
		}
	}
	if err := s.segment(alone); err != nil {
		return err
	}
	switch failed := s.skip; {
	case !failed:
		return nil
	case alone:
		s.skip = false
		return s.sync()
	default:
		s.skip = false
		return errStatementFailed
	}
}

// executed is the statement that an EXECUTE is about, or, where that is a part of another
// one, that with it in its place.
func (s *Session) executed(c *planner.Control, outer *prepared) (*prepared, *wire.Error) {
	prep := s.stmts[c.Name]
	if prep == nil || c.Name == "" {
		return nil, wire.Errorf(wire.UndefinedPreparedStatement, "prepared statement \"%s\" does not exist", c.Name)
	}
	if err := s.plan(prep); err != nil {
		return nil, err
	}
	if err := s.typesOf(prep); err != nil {
		return nil, err
	}
	if !c.Named.Inside {
		return prep, nil
	}
	if s.tx != nil && s.tx.failed {
		return nil, inFailed
	}
	own := prep.text
	if prep.asked != nil {
		own = prep.asked.text
	}
	text := slices.Concat(outer.text[:c.Named.Start], own, []byte("\n"), outer.text[c.Named.End:])
	whole, err := s.prepare(&wire.Parse{Query: text, ParamOIDs: prep.types()})
	if err != nil {
		return nil, err.WithPosition(0) // in a text that the client doesn't know
	}
	whole.typed = prep.types()
	return whole, nil
}

// types are those of its parameters, once they are known.
func (p *prepared) types() []uint32 {
	if p.typed != nil {
		return p.typed
	}
	return p.oids
}

// bindExecuted makes the Bind of an EXECUTE one of the statement that is executed.
func (s *Session) bindExecuted(c *planner.Control, outer *prepared, st *step) (*prepared, *wire.Error) {
	if e := s.bindsDeclared(outer); e != nil {
		return nil, e
	}
	prep, err := s.executed(c, outer)
	if err != nil {
		return nil, err
	}
	types := prep.types()
	if n := len(c.Named.Arguments); n != len(types) {
		return nil, wire.Errorf(wire.SyntaxError, "wrong number of parameters for prepared statement \"%s\"", c.Name).
			WithDetail("Expected %d parameters but got %d.", len(types), n)
	}
	formats, params, err := s.arguments(c.Named, string(outer.text), types)
	if err != nil {
		return nil, s.shifted(err)
	}
	st.body = wire.AppendBind(nil, string(s.bind.Portal), "", formats, params, slices.Clone(s.bind.ResultFormats))[5:]
	if err := wire.DecodeBind(st.body, &s.bind); err != nil {
		return nil, asError(err)
	}
	return prep, nil
}

// arguments are the values of an EXECUTE's arguments, as of a Bind.
func (s *Session) arguments(n *planner.NamedText, text string, types []uint32) (formats []int16, params [][]byte, err *wire.Error) {
	for i, a := range n.Arguments {
		if !a.Known || !readsAlike(a, types[i]) {
			err = s.onHome(func(c *pool.Conn) *wire.Error {
				var e *wire.Error
				params, e = exec.Arguments(c, text[n.NameEnd:n.End], types)
				return moved(e, utf8.RuneCountInString(text[:n.NameEnd]))
			})
			return []int16{wire.FormatBinary}, params, err
		}
		value := []byte(a.Text)
		if a.Null {
			value = nil
		}
		params = append(params, value)
	}
	return nil, params, nil
}

// readsAlike says whether a constant argument becomes the same value of a type as its text
// does, without an error: of text and varchar, and an integer that is small enough of
// integer, bigint and numeric as well.
func readsAlike(a planner.Argument, oid uint32) bool {
	if a.Null || oid == 25 || oid == 1043 {
		return true
	}
	if _, err := strconv.ParseInt(a.Text, 10, 32); err != nil {
		return false
	}
	return oid == 20 || oid == 23 || oid == 1700
}

// describeExecuted describes the statement that an EXECUTE is about; nothing where it isn't there
// yet.
func (s *Session) describeExecuted(c *planner.Control, st *step) *wire.Error {
	if s.stmts[c.Name] == nil {
		st.local = wire.AppendNoData(wire.AppendNoParameters(nil))
		return nil
	}
	prep, err := s.executed(c, st.prep)
	if err != nil {
		return err
	}
	st.prep, st.noParams = prep, true
	return nil
}
