package session

import (
	"encoding/binary"
	"strconv"
	"sync"

	"github.com/shardgate/shardgate/gateway/exec"
	"github.com/shardgate/shardgate/gateway/pool"
	"github.com/shardgate/shardgate/planner"
	"github.com/shardgate/shardgate/planner/sqltext"
	"github.com/shardgate/shardgate/wire"
)

// prepared is a prepared statement under the client's name.
type prepared struct {
	id      uint64 // the same for the same text and types: what it's called on the shards
	name    string
	text    []byte
	oids    []uint32 // of parameters, as the client declared them
	st      *planner.Statement
	lits    []sqltext.Literal
	planner *planner.Planner // by which st was planned
	typed   []uint32         // the parameters' types as a shard inferred them, if asked
	// described are the parameters' types as the client was told them. plain says
	// that no value of the result has OIDs in it, once that is known.
	described []uint32
	plain     bool
	asked     *asked // what it asks the gateway; text, st and lits are without that
	onShards  string // its name there, once it was asked for
}

// shardName is the statement's name on the shards.
func (p *prepared) shardName() string {
	if p.name == "" { // also of a copy of one that has a name
		return ""
	}
	if p.onShards == "" {
		p.onShards = shardName(p.id)
	}
	return p.onShards
}

func shardName(id uint64) string { return "sg_" + strconv.FormatUint(id, 36) }

// portal is a bound statement.
type portal struct {
	prep    *prepared
	node    planner.Node
	shards  []int
	formats []int16
	targets []uint8 // of a Split
	at      int     // next shard, for an Execute with a row limit
	begun   bool
	verb    string        // of the tag of a Gather that was executed
	bind    []byte        // the Bind's body, of a plan that brings rows to the gateway
	lines   [][]byte      // of an Explain or a SHOW, that are yet to be sent
	merged  *mergedPortal // an Ordered that is executed with row limits
	open    *openPortal   // where the rest of a Gather's rows is
	level   int           // length of the transaction's prelude when it was bound
	binary  bool          // some columns of the result, or all, are wanted in binary
	columns *exec.Columns // of them; nil if nothing has to be translated
	own     bool          // prep's text is not the client's: it has the time of the transaction in it, or an answer of the gateway's

	// Room for what is about one shard.
	oneShard [1]int
	oneConn  [1]*pool.Conn
}

// brings says whether a plan brings rows together: the client's portal is bound on the
// home shard to be described, and not executed.
func brings(node planner.Node) bool {
	switch node.(type) {
	case *planner.Gather, *planner.Ordered, *planner.Explain, *planner.InsertSelect, *planner.CreateAs, *planner.Move, *planner.Steps:
		return true
	}
	return false
}

// returnsRows says whether a portal over several shards gives rows, for Execute to
// count. A limit on anything else means nothing; pgjdbc sets one on every update.
func (p *portal) returnsRows() bool {
	_, reads := p.node.(*planner.Scatter)
	return reads || p.prep.st.Returning
}

// maxTexts and maxTextBytes bound the table of statements' identities.
const (
	maxTexts     = 100_000
	maxTextBytes = 64 << 20
)

// textTable gives statements of the same text and parameter types the same
// identity, so that clients share what a shard connection has prepared.
type textTable struct {
	mu   sync.Mutex
	ids  map[string]uint64
	size int // of the keys of ids, in bytes
	next uint64
}

func (t *textTable) id(text []byte, oids []uint32) uint64 {
	key := make([]byte, 0, len(text)+4*len(oids)+1)
	key = append(append(key, text...), 0)
	for _, o := range oids {
		key = binary.BigEndian.AppendUint32(key, o)
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if id, ok := t.ids[string(key)]; ok {
		return id
	}
	if t.ids == nil || len(t.ids) >= maxTexts || t.size+len(key) > maxTextBytes {
		t.ids, t.size = map[string]uint64{}, 0 // an evicted text gets a new identity, and is prepared anew
	}
	t.size += len(key)
	t.next++
	t.ids[string(key)] = t.next
	return t.next
}

// prepare makes a prepared statement of a Parse message.
func (s *Session) prepare(p *wire.Parse) (*prepared, *wire.Error) {
	prep := &prepared{name: string(p.Name), text: append([]byte(nil), p.Query...), oids: append([]uint32(nil), p.ParamOIDs...)}
	if err := s.plan(prep); err != nil {
		return nil, err
	}
	prep.id = s.host.texts.id(prep.text, prep.oids)
	return prep, nil
}

// plan plans a prepared statement, or plans it again when the schema, the search
// path or the like have changed.
func (s *Session) plan(p *prepared) *wire.Error {
	if p.planner == s.plannerNow() {
		return nil
	}
	if p.asked != nil {
		p.text, p.asked = p.asked.text, nil
	}
	if err := s.planText(p); err != nil || p.st.Asked == nil {
		return err
	}
	return s.standIn(p)
}

// planText is plan of the text that it has.
func (s *Session) planText(p *prepared) *wire.Error {
	now := s.plannerNow()
	types := p.oids
	if p.typed != nil {
		types = p.typed
	}
	plan := func() (st *planner.Statement, lits []sqltext.Literal, err error) {
		if declared(types) {
			return now.PlanTyped(p.text, types, &s.scan)
		}
		st, lits, _, err = now.Plan(p.text, &s.scan)
		return st, lits, err
	}
	st, lits, err := plan()
	if err == nil && s.schemaIsOld(st) {
		now = s.plannerNow()
		st, lits, err = plan()
	}
	if err == planner.ErrSeveral {
		return wire.Errorf(wire.SyntaxError, "cannot insert multiple commands into a prepared statement")
	}
	if err != nil {
		return s.planError(err)
	}
	p.plain = false
	p.st, p.lits, p.planner = st, append([]sqltext.Literal(nil), lits...), now
	if st.NeedsParamTypes && p.typed == nil && st.Params > 0 {
		if err := s.inferTypes(p); err != nil {
			return err
		}
		if p.typed != nil {
			return s.planText(p)
		}
	}
	if st.Node == nil {
		return wire.Errorf(wire.FeatureNotSupported, "the types of the statement's parameters can't be found out").
			WithHint("Declare them: $1::type.")
	}
	return nil
}

func declared(oids []uint32) bool {
	for _, o := range oids {
		if o != 0 {
			return true
		}
	}
	return false
}

// typesOf has the types of all parameters known.
func (s *Session) typesOf(p *prepared) *wire.Error {
	if p.typed != nil || p.st.Params == 0 {
		return nil
	}
	return s.inferTypes(p)
}

// inferTypes asks the home shard which types it gives the parameters.
func (s *Session) inferTypes(p *prepared) *wire.Error {
	c, err := s.host.Pools.Pool(s.host.Home, s.role).Get()
	if err != nil {
		return asError(err)
	}
	defer c.Put()
	if sql := s.vars.Change(c.Vars); sql != "" {
		if _, err := c.Query(sql); err != nil {
			return asError(err)
		}
	}
	c.Vars = s.vars
	types, e := exec.ParameterTypes(c, p.text, p.oids)
	p.typed = types
	return e
}

// ensure has a statement prepared on a connection by the time of the next Run. If
// visible, the answer is the client's ParseComplete.
func (s *Session) ensure(c *pool.Conn, p *prepared, visible bool) {
	if p.name == "" {
		if c.Unnamed == p.id {
			if visible {
				s.run.Add(exec.Op{Kind: exec.Local, Answer: wire.AppendParseComplete(nil)})
			}
			return
		}
		c.SetOut(wire.AppendParse(c.Out(), "", p.text, s.shardOIDs(c, p.oids)))
		c.Unnamed = p.id
		s.run.Add(exec.Op{Kind: exec.Parse, Conn: c, Hidden: !visible})
		s.parsed = append(s.parsed, parsedOn{c, 0})
		return
	}
	if c.Has(p.id) {
		if visible {
			s.run.Add(exec.Op{Kind: exec.Local, Answer: wire.AppendParseComplete(nil)})
		}
		return
	}
	closed := c.Doubtful()
	if old := c.Remember(p.id); old != 0 {
		closed = append(closed, old)
	}
	for _, id := range closed {
		c.SetOut(wire.AppendClose(c.Out(), wire.Statement, shardName(id)))
		s.run.Add(exec.Op{Kind: exec.Close, Conn: c, Hidden: true})
	}
	c.SetOut(wire.AppendParse(c.Out(), p.shardName(), p.text, s.shardOIDs(c, p.oids)))
	s.run.Add(exec.Op{Kind: exec.Parse, Conn: c, Hidden: !visible})
	s.parsed = append(s.parsed, parsedOn{c, p.id})
}

// parsedOn is a Parse that was sent in the batch under way: whether it took effect
// is unknown if the batch fails.
type parsedOn struct {
	conn *pool.Conn
	id   uint64 // 0: the unnamed statement
}

// forgetParsed forgets what was sent in a batch that failed. A statement that was
// prepared after all is closed first when it is sent again.
func (s *Session) forgetParsed() {
	for _, p := range s.parsed {
		if p.id == 0 {
			p.conn.Unnamed = 0
		} else {
			p.conn.Doubt(p.id)
		}
	}
}

// shardOIDs translates the client's OIDs of types, which are the home shard's, to
// a shard's own.
func (s *Session) shardOIDs(c *pool.Conn, oids []uint32) []uint32 {
	m := s.snap.Own[c.Shard.Index]
	if m == nil {
		return oids
	}
	out := make([]uint32, len(oids))
	for i, o := range oids {
		out[i] = o
		if own, ok := m[o]; ok {
			out[i] = own
		}
	}
	return out
}
