package session

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/shardgate/shardgate/gateway/catalog"
	"github.com/shardgate/shardgate/gateway/exec"
	"github.com/shardgate/shardgate/gateway/pool"
	"github.com/shardgate/shardgate/gateway/txn"
	"github.com/shardgate/shardgate/planner"
	"github.com/shardgate/shardgate/planner/sqltext"
	"github.com/shardgate/shardgate/shardmap"
	"github.com/shardgate/shardgate/wire"
)

// Host is what the sessions of a gateway share.
type Host struct {
	Pools    *pool.Pools
	Register *txn.Register
	Catalog  *catalog.Catalog
	Home     int
	Log      *slog.Logger

	// MaxPrepared bounds a client's prepared statements.
	MaxPrepared int
	// GatherBytes bounds the rows that a statement brings together on one shard, and to what
	// a session may set its bound.
	GatherBytes int64
	// FenceTimeout bounds the waiting for a snapshot over several shards.
	FenceTimeout time.Duration

	texts textTable
	keys  keyTable
}

// Session is one client's.
type Session struct {
	host   *Host
	client *wire.Conn
	id     uint32
	role   string

	run  exec.Runner
	scan sqltext.Scanner

	vars    *pool.Vars    // the client's settings, as of now
	initial *pool.Vars    // as of the start-up packet: what RESET goes back to
	heard   []byte        // notifications to come before ReadyForQuery
	base    pool.Defaults // of the role
	local   *pool.Vars    // by SET LOCAL, of those that the gateway itself goes by

	snap    *catalog.Snapshot
	planner *planner.Planner
	planned string // the path and the role that planner is for
	temp    map[string]bool

	tx         *transaction
	held       map[int]*pool.Conn // connections with state of the client's
	unfinished map[int]string     // decided commits that a shard has yet to carry out
	cursors    map[string]sqlCursor
	scratches  []*pool.Conn // with temporary tables of cursors and portals, see cursor.go

	stmts   map[string]*prepared
	portals map[string]*portal
	spare   *portal // of a batch before, to be used again; or nil

	values     exec.Values
	slots      []shardmap.Slot
	shards     []int
	one        [1]int
	rowTargets []uint8 // of the Split placed last: each row's position among its shards
	steps      []step
	bind       wire.Bind
	parse      wire.Parse
	pickAny    int

	// Of the extended protocol:
	skip       bool         // everything up to Sync is discarded
	inBatch    bool         // a batch has begun and its Sync is yet to come
	parsed     []parsedOn   // Parse messages sent in the segment
	batchConns []*pool.Conn // connections used in the segment
	bindsFirst bool         // the segment's only portal is bound at an instant, outside of a block
	binding    *binding     // that instant, from Bind on
	bindsAgain bool         // it could not be: the client has been told of everything up to Bind
	pendingErr *wire.Error  // why a step could not be sent

	rests atomic.Int32 // whether it waits for the client: restsNot and the like
	waits waits
	// canceled says that the client has asked for the end of the message that is dealt with.
	canceled atomic.Bool
	mu       sync.Mutex // protects what follows
	active   []*pool.Conn
	ended    bool // by Terminate
	// interrupt ends the waiting for a snapshot; nil while there is none.
	interrupt context.CancelCauseFunc
}

// A session waits for its client between transactions or within one, or it does not.
const (
	restsNot int32 = iota
	restsBetween
	restsWithin
)

// New makes the session of an authenticated client. vars are the settings of its
// start-up packet, reported the ones that it has been told of, and base what its role begins with.
func New(h *Host, client *wire.Conn, id uint32, role string, base pool.Defaults, vars *pool.Vars, reported map[string]string) *Session {
	s := &Session{host: h, client: client, id: id, role: role, vars: vars, initial: vars, base: base,
		stmts: map[string]*prepared{}, portals: map[string]*portal{}}
	s.run.Client, s.run.Reported = client, reported
	s.run.Ends = s.idledOut
	s.run.OIDs = func(shard int) map[uint32]uint32 { return s.snap.OIDs[shard] }
	s.run.Canceled = s.waits.victim
	s.run.Interrupted = s.canceled.Load
	s.run.Nesting = func() exec.Nesting { return s.snap.Nested }
	s.values.Hash, s.values.HashSQL = s.hashByShard, s.hashSQLByShard
	s.pickAny = int(id)
	return s
}

// errTerminate says that the client has said goodbye.
var errTerminate = errors.New("terminated by the client")

// Serve runs the conversation until the client leaves or breaks the protocol.
// The connection is closed by the caller.
func (s *Session) Serve() error {
	defer s.end()
	for {
		if s.tx == nil && !s.inBatch {
			s.rests.Store(restsBetween)
		} else {
			s.rests.Store(restsWithin)
		}
		h, err := s.await()
		s.rests.Store(restsNot)
		if s.canceled.Load() {
			s.canceled.Store(false)
		}
		if s.tx != nil {
			s.waits.begin()
		}
		if err != nil {
			if errors.Is(err, io.EOF) {
				return nil
			}
			s.fatal(err)
			return err
		}
		err = s.message(h.Type)
		s.waits.end()
		if err != nil {
			if errors.Is(err, errTerminate) {
				return nil
			}
			s.fatal(err)
			return err
		}
	}
}

// fatal tells the client why the connection ends, if it is the client's doing.
func (s *Session) fatal(err error) {
	var we *wire.Error
	switch {
	case errors.As(err, &we):
	case errors.Is(err, wire.ErrMessageLength):
		we = wire.Fatalf(wire.ProtocolViolation, "%v", err)
	default:
		return
	}
	e := *we
	e.Severity = "FATAL"
	s.client.SetDeadline(time.Now().Add(time.Second))
	s.client.SetOut(e.Append(s.client.Out()))
	s.client.Flush()
}

// message deals with the next message, or batch of messages, by the state that
// the session is in and the message's type.
func (s *Session) message(typ byte) error {
	switch transitions[s.state()].action(typ) {
	case actQuery:
		m, err := s.client.Read()
		if err != nil {
			return err
		}
		return s.simpleQuery(m)
	case actExtended:
		return s.extended()
	case actFunction:
		return s.functionCall()
	case actIgnore:
		_, err := s.client.Read()
		return err
	case actTerminate:
		return errTerminate
	default:
		return wire.Fatalf(wire.ProtocolViolation, "invalid frontend message type %d", typ)
	}
}

// plannerNow brings the snapshot and the planner up to date for the next statement.
func (s *Session) plannerNow() *planner.Planner {
	snap := s.snapshot()
	path := s.searchPath()
	if snap == s.snap && path == s.planned {
		return s.planner
	}
	s.snap, s.planned = snap, path
	if len(s.temp) > 0 {
		s.planner = snap.PrivatePlanner(s.pathNames(path), s.temp)
	} else {
		s.planner = snap.Planner(path, s.roleNow(), s.pathNames)
	}
	return s.planner
}

// snapshot is the schema to plan by: the latest, or, when the transaction has
// changed the schema, what the transaction sees.
func (s *Session) snapshot() *catalog.Snapshot {
	if s.tx == nil || !s.tx.schema {
		return s.host.Catalog.Current()
	}
	if s.tx.snap == nil {
		home := s.tx.parts[s.host.Home]
		if home == nil || home.conn.Broken || home.conn.Status != 'T' {
			return s.host.Catalog.Current() // a failed transaction runs nothing that is planned
		}
		snap, err := s.host.Catalog.Within(home.conn)
		if err != nil {
			s.host.Log.Warn("the schema can't be read within a transaction", "error", err)
			return s.host.Catalog.Current()
		}
		s.tx.snap = snap
	}
	return s.tx.snap
}

// replan makes plannerNow begin anew.
func (s *Session) replan() { s.planned = "\x00" }

// searchPath is the search_path in force.
func (s *Session) searchPath() string {
	if p, ok := s.local.Get("search_path"); ok {
		return p
	}
	if p, ok := s.vars.Get("search_path"); ok {
		return p
	}
	return s.base.SearchPath
}

func (s *Session) roleNow() string {
	if r, ok := s.vars.Get("role"); ok && r != "none" {
		return r
	}
	return s.role
}

// pathNames splits a search_path and resolves "$user".
func (s *Session) pathNames(path string) []string {
	var out []string
	for _, p := range splitIdentifiers(path) {
		if p == "$user" {
			p = s.roleNow()
		}
		out = append(out, p)
	}
	return out
}

// splitIdentifiers splits a list of identifiers as PostgreSQL's
// SplitIdentifierString does.
func splitIdentifiers(list string) []string {
	var out []string
	for i := 0; i < len(list); {
		for i < len(list) && (list[i] == ' ' || list[i] == ',' || list[i] == '\t' || list[i] == '\n') {
			i++
		}
		if i == len(list) {
			break
		}
		var b strings.Builder
		if list[i] == '"' {
			for i++; i < len(list); i++ {
				if list[i] == '"' {
					if i+1 < len(list) && list[i+1] == '"' {
						i++
					} else {
						break
					}
				}
				b.WriteByte(list[i])
			}
			i++
			out = append(out, b.String())
			continue
		}
		for i < len(list) && list[i] != ',' && list[i] != ' ' {
			b.WriteByte(list[i])
			i++
		}
		out = append(out, strings.ToLower(b.String()))
	}
	return out
}

// status is the transaction status of ReadyForQuery.
func (s *Session) status() byte {
	switch {
	case s.tx == nil || !s.tx.explicit:
		return 'I'
	case s.tx.failed:
		return 'E'
	}
	return 'T'
}

// ready sends ReadyForQuery and everything before it.
func (s *Session) ready() error {
	s.sweep()
	out := append(s.client.Out(), s.heard...)
	s.heard = nil
	s.client.SetOut(wire.AppendReadyForQuery(s.run.AppendChanged(out), s.status()))
	return s.client.Flush()
}

// tell writes an error to the client. The transaction, if any, has failed.
func (s *Session) tell(e *wire.Error) {
	if s.tx != nil {
		s.tx.failed = true
	}
	s.client.SetOut(e.Append(s.client.Out()))
}

// asError makes a planner's refusal, or any other error, one for the client.
func asError(err error) *wire.Error {
	var r *planner.Refusal
	if errors.As(err, &r) {
		e := wire.Errorf(r.Code, "%s", r.Message)
		e.Detail, e.Hint, e.Position = r.Detail, r.Hint, int32(r.Position)
		return e
	}
	var lost *pool.Lost
	if errors.As(err, &lost) {
		return lost.Wire()
	}
	e := wire.AsError(err)
	if e.IsFatal() {
		c := *e
		c.Severity, c.LocalizedSeverity = "ERROR", ""
		return &c
	}
	return e
}

// track makes a connection reachable for Cancel.
func (s *Session) track(c *pool.Conn) {
	s.mu.Lock()
	s.active = append(s.active, c)
	if s.ended {
		c.NetConn().SetDeadline(time.Now())
	}
	s.mu.Unlock()
}

func (s *Session) untrack(c *pool.Conn) {
	s.mu.Lock()
	for i, d := range s.active {
		if d == c {
			s.active[i] = s.active[len(s.active)-1]
			s.active[len(s.active)-1] = nil
			s.active = s.active[:len(s.active)-1]
			break
		}
	}
	s.mu.Unlock()
}

// Cancel asks the shards to cancel what the session is running. It may be called
// by any goroutine.
func (s *Session) Cancel() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.canceled.Store(true)
	if s.interrupt != nil {
		s.interrupt(errCanceled)
	}
	var wg sync.WaitGroup
	for _, c := range s.active {
		wg.Go(func() { c.Cancel() })
	}
	wg.Wait()
}

// Terminate ends the session from outside: the client's connection is closed, and
// with that what it waits for. It may be called by any goroutine.
func (s *Session) Terminate() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.ended = true
	s.client.Close()
	if s.interrupt != nil {
		s.interrupt(errTerminate)
	}
	for _, c := range s.active {
		c.NetConn().SetDeadline(time.Now())
	}
}

// Idle says whether the session is between transactions, for a shutdown that
// waits for transactions to end. It is a hint: the answer may be old at once.
func (s *Session) Idle() bool { return s.rests.Load() == restsBetween }

// Asked appends the connections of which the session may be waiting for an answer. It may be
// called by any goroutine.
func (s *Session) Asked(dst []*pool.Conn) []*pool.Conn {
	if s.rests.Load() != restsNot {
		return dst
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	return append(dst, s.active...)
}

// acquire gets a connection to a shard that carries the session's settings by the
// time of the next Run.
func (s *Session) acquire(shard int) (*pool.Conn, error) { return s.acquireWith(shard, s.vars) }

// acquireWith gets a connection to a shard that carries the given settings by the
// time of the next Run.
func (s *Session) acquireWith(shard int, vars *pool.Vars) (*pool.Conn, error) {
	c, err := s.take(shard)
	if err != nil {
		return nil, err
	}
	if c.Vars != vars {
		if sql := vars.Change(c.Vars); sql != "" {
			c.SendQuery(sql)
			s.run.Add(exec.Op{Kind: exec.Query, Conn: c, Hidden: true, Done: func() { c.Vars = vars }})
		} else {
			c.Vars = vars
		}
	}
	return c, nil
}

// take gets a connection to a shard, with whatever settings it carries.
func (s *Session) take(shard int) (*pool.Conn, error) {
	if name, ok := s.unfinished[shard]; ok {
		// What this session has committed must be there when it reads.
		if err := s.host.Register.Finish(shard, name); err != nil {
			return nil, err
		}
		delete(s.unfinished, shard)
	}
	c := s.held[shard]
	if c == nil {
		var err error
		if c, err = s.host.Pools.Pool(shard, s.role).Get(); err != nil {
			return nil, err
		}
		s.track(c)
	} else if c.Broken {
		s.drop(shard)
		return nil, &pool.Lost{Shard: c.Shard.Name, Err: io.ErrUnexpectedEOF}
	}
	return c, nil
}

// release gives a connection back, unless it holds state of the client's.
func (s *Session) release(c *pool.Conn) {
	if s.held[c.Shard.Index] == c {
		if c.Broken {
			s.drop(c.Shard.Index)
		}
		return
	}
	s.untrack(c)
	c.Put()
}

// hold keeps a connection for the session.
func (s *Session) hold(c *pool.Conn) {
	if s.held == nil {
		s.held = map[int]*pool.Conn{}
	}
	s.held[c.Shard.Index] = c
}

// unhold no longer keeps a connection for the session: the state on it is reset
// when it goes back.
func (s *Session) unhold(shard int) *pool.Conn {
	c := s.held[shard]
	if c == nil {
		return nil
	}
	delete(s.held, shard)
	if len(s.temp) > 0 && shard == s.host.Home {
		s.temp = nil
		s.replan()
	}
	c.Tainted = true
	return c
}

// drop gives a held connection up.
func (s *Session) drop(shard int) {
	if c := s.unhold(shard); c != nil {
		s.untrack(c)
		c.Put()
	}
}

// refreshTemp asks the home shard which temporary relations the session has, after
// something that may have dropped some: DDL, or the end of a transaction. A name
// that is wrongly taken for a temporary table's would hide a distributed one.
func (s *Session) refreshTemp() {
	c := s.held[s.host.Home]
	if len(s.temp) == 0 || c == nil || c.Broken || c.Status == 'E' {
		return
	}
	res, err := c.Query("SELECT relname FROM pg_catalog.pg_class WHERE relnamespace = pg_catalog.pg_my_temp_schema()")
	if err != nil {
		c.Broken = true // it can't be told any more which tables are meant
		return
	}
	s.temp = map[string]bool{}
	for _, row := range res.Rows {
		s.temp[string(row[0])] = true
	}
	s.replan()
}

// end gives everything back.
func (s *Session) end() {
	if s.tx != nil {
		s.rollback()
	}
	s.sweep()
	for shard := range s.held {
		s.drop(shard)
	}
}

// any is a shard for what every shard can answer: one that takes part already,
// or the next in turn.
func (s *Session) any() int {
	if s.tx != nil {
		if s.tx.clockAt != noShard {
			return s.tx.clockAt
		}
		for i, p := range s.tx.parts {
			if p != nil {
				return i
			}
		}
	}
	s.pickAny++
	return s.snap.Active[s.pickAny%len(s.snap.Active)]
}
