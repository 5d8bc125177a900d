package session

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/jackc/pgx/v5/pgproto3"

	"github.com/shardgate/shardgate/gateway/exec"
	"github.com/shardgate/shardgate/gateway/pool"
	"github.com/shardgate/shardgate/planner"
	"github.com/shardgate/shardgate/planner/sqltext"
	"github.com/shardgate/shardgate/wire"
)

// What the gateway itself answers about distributed transactions: SHOW shardgate.in_doubt,
// a table that it makes, and shardgate.transaction_status, whose value it puts into the
// client's statement. Everybody may ask for both: ids and ages say nothing of the data.

// inDoubtColumns are of type text, as those of any SHOW, so that they are the same in text
// and binary.
var inDoubtColumns = []string{"id", "state", "age", "prepared_on", "unreachable"}

const textType = 25 // OID

// appendShowColumns appends the RowDescription of SHOW shardgate.in_doubt. formats are
// those of a Bind: none, one for all columns, or one for each.
func appendShowColumns(dst []byte, formats []int16) []byte {
	var d pgproto3.RowDescription
	for i, name := range inDoubtColumns {
		f := pgproto3.FieldDescription{Name: []byte(name), DataTypeOID: textType, DataTypeSize: -1, TypeModifier: -1}
		if len(formats) == 1 {
			f.Format = formats[0]
		} else if len(formats) > 1 {
			f.Format = formats[i]
		}
		d.Fields = append(d.Fields, f)
	}
	return encoded(dst, &d)
}

// encoded appends a message, which is too small to be refused.
func encoded(dst []byte, m pgproto3.BackendMessage) []byte {
	out, err := m.Encode(dst)
	if err != nil {
		return dst
	}
	return out
}

// checkShowFormats checks the result formats of a Bind.
func checkShowFormats(formats []int16) *wire.Error {
	if n := len(formats); n > 1 && n != len(inDoubtColumns) {
		return wire.Errorf(wire.ProtocolViolation, "bind message has %d result formats but query has %d columns", n, len(inDoubtColumns))
	}
	return nil
}

// inDoubt makes the rows of SHOW shardgate.in_doubt, each a DataRow, and warns of shards
// that could not be asked.
func (s *Session) inDoubt() (rows [][]byte) {
	list, unreachable := s.host.Register.Unfinished()
	if len(unreachable) > 0 {
		s.warn(wire.ConnectionException, "transactions that are prepared only on %s are not listed: %s can't be reached",
			strings.Join(unreachable, ", "), choose(len(unreachable) == 1, "it", "they"))
	}
	for _, u := range list {
		var row pgproto3.DataRow
		for _, v := range []string{u.ID, u.State, clockTime(u.Age), strings.Join(u.Prepared, ", "), strings.Join(u.Unreachable, ", ")} {
			row.Values = append(row.Values, []byte(v))
		}
		rows = append(rows, encoded(nil, &row))
	}
	return rows
}

// clockTime writes a duration as PostgreSQL writes an interval of hours.
func clockTime(d time.Duration) string {
	n := int64(d / time.Second)
	return fmt.Sprintf("%02d:%02d:%02d", n/3600, n/60%60, n%60)
}

// show answers a SHOW of a simple Query.
func (s *Session) show(c *planner.Control) {
	rows := s.inDoubt()
	out := appendShowColumns(s.client.Out(), nil)
	for _, r := range rows {
		out = append(out, r...)
	}
	s.client.SetOut(out)
	s.done(c.Tag)
}

// executeShow executes a portal of a SHOW, up to a limit of rows.
func (s *Session) executeShow(p *portal, limit int32, tag string) {
	if !p.begun {
		p.lines, p.begun = s.inDoubt(), true
	}
	n := len(p.lines)
	if limit > 0 {
		n = min(n, int(limit))
	}
	out := s.client.Out()
	for _, r := range p.lines[:n] {
		out = append(out, r...)
	}
	p.lines = p.lines[n:]
	if limit > 0 && n == int(limit) {
		s.client.SetOut(wire.AppendPortalSuspended(out)) // as PostgreSQL, which doesn't look whether there is more
		return
	}
	s.client.SetOut(out)
	s.done(tag)
}

// asked is what a prepared statement asks the gateway, in the client's text.
type asked struct {
	*planner.Asked
	text []byte
	lits []sqltext.Literal
}

// standIn gives a prepared statement that asks the gateway a text by which PostgreSQL can
// describe it. Each Bind puts the answers in.
func (s *Session) standIn(p *prepared) *wire.Error {
	p.asked = &asked{p.st.Asked, p.text, p.lits}
	p.text = p.asked.Text.Append(nil, p.text, p.lits, p.asked.NoAnswers())
	p.planner = nil
	if p.id != 0 { // it had another text before
		p.id, p.onShards = s.host.texts.id(p.text, p.oids), ""
	}
	return s.planText(p)
}

// bindAnswers is a prepared statement with the answers to what it asks, about the
// parameters of a Bind.
func (s *Session) bindAnswers(p *prepared, bind *wire.Bind) (*prepared, *wire.Error) {
	if err := s.typesOf(p); err != nil {
		return nil, err
	}
	answers, err := s.answers(p.asked, p.typed, bind)
	if err != nil {
		return nil, err
	}
	out := *p
	out.name, out.text = "", p.asked.Text.Append(nil, p.asked.text, p.asked.lits, answers)
	out.asked, out.planner = nil, nil
	return &out, s.planText(&out)
}

// answered is the text of a simple Query's statement with the answers to what it asks.
func (s *Session) answered(st *planner.Statement, text []byte, lits []sqltext.Literal) ([]byte, *wire.Error) {
	answers, err := s.answers(&asked{st.Asked, text, lits}, nil, nil)
	if err != nil {
		return nil, err
	}
	return st.Asked.Text.Append(nil, text, lits, answers), nil
}

// answers finds out what a statement asks.
func (s *Session) answers(a *asked, types []uint32, bind *wire.Bind) (out planner.Answers, err *wire.Error) {
	for _, sql := range a.IDs {
		id, null, err := s.textValue(sql.Append(nil, a.text, a.lits, nil), types, bind)
		if err != nil {
			return nil, err
		}
		if null {
			out = append(out, "NULL")
			continue
		}
		status, err := s.host.Register.Status(id)
		if err != nil {
			return nil, err
		}
		out = append(out, planner.QuoteLiteral(status))
	}
	if len(a.Defaults) > 0 {
		return s.defaults(a.Defaults)
	}
	return out, nil
}

// onHome runs f with the transaction's connection to the home shard, if it has one: it may have
// made or locked what f is about. Else it is asideOnHome.
func (s *Session) onHome(f func(*pool.Conn) *wire.Error) *wire.Error {
	if s.tx != nil && s.tx.parts[s.host.Home] != nil {
		return f(s.tx.parts[s.host.Home].conn)
	}
	return s.asideOnHome(f)
}

// defaults has the home shard compute defaults. The values of a sequence are in the order of the
// rows.
func (s *Session) defaults(all []planner.AskedDefault) (out planner.Answers, err *wire.Error) {
	for len(all) > 0 && err == nil {
		n := slices.IndexFunc(all, func(d planner.AskedDefault) bool { return d.Expr != all[0].Expr })
		if n < 0 {
			n = len(all)
		}
		expr := all[0].Expr
		err = s.onHome(func(c *pool.Conn) *wire.Error {
			values, e := exec.DefaultValues(c, expr, n)
			for _, v := range values {
				if v == nil {
					out = append(out, "NULL")
				} else {
					out = append(out, planner.QuoteLiteral(string(v)))
				}
			}
			return e
		})
		all = all[n:]
	}
	return out, err
}

// textValue has the home shard compute an expression of constants and parameters.
func (s *Session) textValue(expr []byte, types []uint32, bind *wire.Bind) (value string, null bool, err *wire.Error) {
	err = s.asideOnHome(func(c *pool.Conn) *wire.Error {
		b, e := exec.TextValue(c, expr, types, bind)
		value, null = string(b), b == nil
		return e
	})
	return value, null, err
}
