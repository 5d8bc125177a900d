package pool

import (
	"container/list"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgproto3"

	"github.com/shardgate/shardgate/wire"
)

// maxShardMessageBytes is PostgreSQL's own limit of a message (MaxAllocSize).
const maxShardMessageBytes = 1<<30 - 1

// Conn is a connection to a shard. One goroutine uses it at a time: whoever got
// it from the pool. Only Cancel may be called by others, while it is in use.
type Conn struct {
	*wire.Conn
	Shard        *Shard
	PID          uint32
	BackendStart string            // microseconds since 1970 by the server's clock
	Isolation    string            // default_transaction_isolation as it was at login
	Params       map[string]string // what the server has reported, by name

	// Vars are the client's settings that the connection carries.
	Vars *Vars
	// Ready is the number of ReadyForQuery messages still to come. The
	// connection is at a protocol boundary when it is 0.
	Ready int
	// Status is the transaction status of the last ReadyForQuery.
	Status byte
	// Told says that the server has reported settings in an answer that was not
	// for the client.
	Told bool
	// Notices and Notifications are whole messages in answers that the gateway has
	// read for itself, such as that to COMMIT: the client is yet to get them.
	Notices, Notifications []byte
	// Broken says that the connection can't be used any more.
	Broken bool
	// Tainted says that code which the gateway can't see into may have left
	// state on the connection.
	Tainted bool

	pool     *Pool
	secret   []byte
	config   *pgconn.Config
	since    time.Time
	usedAt   time.Time
	prepared map[uint64]*list.Element // by statement, of recent
	recent   *list.List               // of uint64, the latest first
	doubtful []uint64
	Unnamed  uint64 // the statement that the unnamed one holds; 0: none or unknown
	Probes   bool   // the statement that asks for the fence is prepared
	begun    int    // the bytes that were to be sent up to the last BEGIN

	cancel  sync.Mutex // held while a cancel request is under way
	givenUp bool       // by a cancel request, or by Silence; protected by cancel
}

// Lost is an error of the connection itself.
type Lost struct {
	Shard string
	Err   error
}

func (e *Lost) Error() string { return fmt.Sprintf("connection to shard %s lost: %v", e.Shard, e.Err) }

func (e *Lost) Unwrap() error { return e.Err }

// Wire is the error as a client is told.
func (e *Lost) Wire() *wire.Error {
	if last := e.idledOut(); last != nil {
		return last
	}
	return wire.Errorf(wire.ConnectionFailure, "the connection to shard %s was lost", e.Shard).
		WithDetail("%s", describe(e.Err)).
		WithHint("Begin the transaction again. If it goes on, see whether the shard's server is up.")
}

// idledOut is the server's error, if it has ended the connection since nothing came over it
// within a transaction: it has read nothing since then. Otherwise it is nil.
func (e *Lost) idledOut() *wire.Error {
	var last *wire.Error
	if !errors.As(e.Err, &last) || last.Code != wire.IdleInTransaction {
		return nil
	}
	out := *last
	out.Severity, out.LocalizedSeverity = "ERROR", ""
	return &out
}

// Unresolved is the error where the answer that is lost would have said that the
// transaction is committed.
func (e *Lost) Unresolved() *wire.Error {
	if last := e.idledOut(); last != nil {
		return last
	}
	return wire.Errorf(wire.TransactionResolutionUnknown,
		"the connection to shard %s was lost during COMMIT: whether the transaction is committed is not known", e.Shard).
		WithDetail("%s", describe(e.Err)).
		WithHint("Read what it wrote before you do it again: only a transaction that wrote on several shards has an id to ask for.")
}

func describe(err error) string {
	switch {
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		return "The server closed the connection."
	case errors.Is(err, os.ErrDeadlineExceeded):
		return "The server did not answer in time."
	}
	return err.Error()
}

// Blame returns a copy of an error that the server has sent, with the shard in its context.
func (c *Conn) Blame(e *wire.Error) *wire.Error {
	out := *e
	if out.Where != "" {
		out.Where += "\n"
	}
	out.Where += "shard " + c.Shard.Name
	return &out
}

// Fail marks the connection broken and wraps the error. Whoever asks for another is not
// given one that was lost with it.
func (c *Conn) Fail(err error) error {
	c.Broken, c.Ready = true, 0
	if c.pool != nil {
		c.pool.noteLost()
	}
	var lost *Lost
	if errors.As(err, &lost) {
		return err
	}
	return &Lost{c.Shard.Name, err}
}

// dial opens and authenticates a connection.
func dial(ctx context.Context, s *Shard, cfg *pgconn.Config) (*Conn, error) {
	pc, err := pgconn.ConnectConfig(ctx, cfg)
	if err != nil {
		return nil, connectError(s, err)
	}
	// pgconn begins to read in the background when a write takes long, as it does on a busy
	// machine: left alone, that would take the first answer away from us.
	if err := pc.SyncConn(ctx); err != nil {
		_ = pc.Close(ctx) // the error that counts is the first one
		return nil, connectError(s, err)
	}
	h, err := pc.Hijack()
	if err != nil {
		return nil, connectError(s, err)
	}
	c := &Conn{
		Conn: wire.NewConn(h.Conn, maxShardMessageBytes), Shard: s, PID: h.PID, secret: h.SecretKey, config: h.Config,
		Params: h.ParameterStatuses, Status: 'I', since: time.Now(), usedAt: time.Now(),
		prepared: map[uint64]*list.Element{}, recent: list.New(),
	}
	return c, nil
}

// connectError keeps the server's own error where there is one.
func connectError(s *Shard, err error) error {
	var pe *pgconn.PgError
	if errors.As(err, &pe) {
		return &wire.Error{Severity: "FATAL", Code: pe.Code, Message: pe.Message, Detail: pe.Detail, Hint: pe.Hint,
			Where: "connecting to shard " + s.Name}
	}
	e := wire.Errorf(wire.CannotConnect, "can't connect to shard %s", s.Name).WithDetail("%s", cleanConnect(err)).
		WithHint("See whether the shard's server is up and takes connections from here.")
	if errors.As(err, new(net.Error)) {
		return &Unreachable{e}
	}
	return e
}

// Unreachable is the error of a connection that could not be made since nobody answered, or
// the server's machine refused it.
type Unreachable struct{ err *wire.Error }

func (e *Unreachable) Error() string { return e.err.Error() }

func (e *Unreachable) Unwrap() error { return e.err }

// cleanConnect leaves out what pgconn says of the user and the database, which
// the client has no business to know.
func cleanConnect(err error) string {
	s := err.Error()
	if i := strings.LastIndex(s, "`: "); i >= 0 {
		s = s[i+3:]
	}
	return s
}

// Send appends a message for the shard; it goes out with Flush.
func (c *Conn) Send(b []byte) error {
	if err := c.Write(b); err != nil {
		return c.Fail(err)
	}
	return nil
}

// SendQuery appends a simple Query.
func (c *Conn) SendQuery(sql string) {
	c.SetOut(wire.AppendQuery(c.Out(), sql))
	c.Unnamed = 0 // a simple Query destroys the unnamed statement
	c.Ready++
}

// SendBegin appends BEGIN with its modes, by messages that the server answers together with
// what is asked for next, be that a Query or further messages of the extended protocol. If
// it fails, the server skips all that follows up to a Sync.
func (c *Conn) SendBegin(sql string) {
	out := wire.AppendParse(c.Out(), "", sql, nil)
	out = wire.AppendBind(out, "", "", nil, nil, nil)
	c.SetOut(wire.AppendExecute(out, "", 0))
	c.Unnamed = 0
	c.Status = 'T' // or will be
	c.begun = c.Pending()
}

// BeginIsLast says that nothing was asked for after SendBegin, nor was that sent.
func (c *Conn) BeginIsLast() bool { return c.Pending() > 0 && c.Pending() == c.begun }

// SendParse appends the Parse of an unnamed statement. It takes the place of the client's, if
// that is there: c.Unnamed says which is.
func (c *Conn) SendParse(sql []byte, types []uint32) {
	c.SetOut(wire.AppendParse(c.Out(), "", sql, types))
	c.Unnamed = 0
}

// SendSync appends a Sync.
func (c *Conn) SendSync() {
	c.SetOut(wire.AppendSync(c.Out()))
	c.Ready++
}

// Result is what a simple query answered, for the gateway's own use.
type Result struct {
	Tags []string
	Rows [][][]byte // nil columns are NULL; copies
}

// Value returns a column of the first row as a string.
func (r *Result) Value(i int) string {
	if len(r.Rows) == 0 || i >= len(r.Rows[0]) {
		return ""
	}
	return string(r.Rows[0][i])
}

// ReadResult reads the answer to one SendQuery, to its ReadyForQuery. The error
// is a *wire.Error, after which the connection is at a boundary, or a *Lost.
func (c *Conn) ReadResult() (*Result, error) {
	var res Result
	var failed error
	for {
		m, err := c.Read()
		if err != nil {
			return nil, c.Fail(err)
		}
		body := m[5:]
		switch m[0] {
		case 'D':
			res.Rows = append(res.Rows, DecodeRow(body))
		case 'C':
			tag, _ := wire.DecodeCommandComplete(body)
			res.Tags = append(res.Tags, string(tag))
		case 'E':
			e, err := wire.ParseError(body)
			if err != nil {
				return nil, c.Fail(err)
			}
			if failed == nil {
				failed = e
			}
			if e.IsFatal() {
				return nil, c.Fail(e)
			}
		case 'G':
			c.SetOut(wire.AppendCopyFail(c.Out(), "no data"))
			if err := c.Flush(); err != nil {
				return nil, c.Fail(err)
			}
		case 'S':
			c.param(body)
		case 'N':
			c.Notices = appendBounded(c.Notices, m)
		case 'A':
			c.Notifications = appendBounded(c.Notifications, m)
		case 'Z':
			c.Ready--
			c.Status = body[0]
			return &res, failed
		}
	}
}

// maxHeardBytes bounds the notices, and the notifications, of one transaction's end.
const maxHeardBytes = 16 << 20

func appendBounded(dst, m []byte) []byte {
	if len(dst)+len(m) > maxHeardBytes {
		return dst
	}
	return append(dst, m...)
}

func (c *Conn) param(body []byte) {
	c.Told = true
	if n, v, err := wire.DecodeParameterStatus(body); err == nil {
		c.Params[string(n)] = string(v)
	}
}

// FlushAsked is Flush before an answer is read. If it fails, the answer will: what the server
// has said last, before it closed the connection, comes first.
func (c *Conn) FlushAsked() {
	if c.Flush() != nil {
		c.SetDeadline(time.Now().Add(lastWordsTimeout))
	}
}

// lastWordsTimeout is how long what a server has said last may take to arrive.
const lastWordsTimeout = time.Second

// Query sends one query and reads its answer.
func (c *Conn) Query(sql string) (*Result, error) {
	c.SendQuery(sql)
	c.FlushAsked()
	return c.ReadResult()
}

// QueryTimeout is Query with a bound; beyond it the connection is lost.
func (c *Conn) QueryTimeout(sql string, d time.Duration) (*Result, error) {
	c.SetDeadline(time.Now().Add(d))
	defer c.SetDeadline(time.Time{})
	return c.Query(sql)
}

func DecodeRow(body []byte) [][]byte {
	if len(body) < 2 {
		return nil
	}
	n := int(binary.BigEndian.Uint16(body))
	row := make([][]byte, 0, n)
	off := 2
	for range n {
		if len(body)-off < 4 {
			break
		}
		l := int(int32(binary.BigEndian.Uint32(body[off:])))
		off += 4
		if l < 0 {
			row = append(row, nil)
			continue
		}
		if l > len(body)-off {
			break
		}
		row = append(row, append([]byte{}, body[off:off+l]...))
		off += l
	}
	return row
}

// Has says whether the statement is prepared on the connection.
func (c *Conn) Has(id uint64) bool {
	e, ok := c.prepared[id]
	if ok {
		c.recent.MoveToFront(e)
	}
	return ok
}

// Remember notes that a statement was prepared. When there are too many, it
// returns one to be closed.
func (c *Conn) Remember(id uint64) (evicted uint64) {
	if _, ok := c.prepared[id]; ok {
		return 0
	}
	if c.recent.Len() >= c.pool.maxPrepared {
		last := c.recent.Back()
		evicted = last.Value.(uint64)
		c.recent.Remove(last)
		delete(c.prepared, evicted)
	}
	c.prepared[id] = c.recent.PushFront(id)
	return evicted
}

// Doubt notes that a statement may or may not be prepared, after a batch that
// failed. It is closed before it is prepared again.
func (c *Conn) Doubt(id uint64) {
	c.Forget(id)
	if c.Broken {
		return
	}
	c.doubtful = append(c.doubtful, id)
}

// Doubtful returns the statements to be closed, and forgets them.
func (c *Conn) Doubtful() []uint64 {
	d := c.doubtful
	c.doubtful = nil
	return d
}

// Forget notes that a statement is not there, or may not be.
func (c *Conn) Forget(id uint64) {
	if e, ok := c.prepared[id]; ok {
		c.recent.Remove(e)
		delete(c.prepared, id)
	}
}

// ForgetAll notes that nothing is prepared any more.
func (c *Conn) ForgetAll() {
	clear(c.prepared)
	c.recent.Init()
	c.Unnamed, c.Probes = 0, false
}

// cancelTimeout bounds a cancel request: dialling, writing, and waiting for the
// server to close.
const cancelTimeout = 5 * time.Second

// awaitCancel waits until no cancel request is under way: it must not hit what the
// connection's next user runs.
func (c *Conn) awaitCancel() {
	c.cancel.Lock()
	defer c.cancel.Unlock()
	c.Broken = c.Broken || c.givenUp
}

// Cancel asks the server to cancel what the connection runs. It returns when the
// server has dealt with the request, so that it can't hit what comes later on
// the connection. It may be called while another goroutine uses the connection.
//
// A server that can't be told so in time is given up: whoever waits for its answer
// gets an error, since nothing else would end the waiting.
func (c *Conn) Cancel() error {
	c.cancel.Lock()
	defer c.cancel.Unlock()
	err := c.requestCancel()
	if err != nil {
		c.givenUp = true
		c.SetDeadline(time.Now())
	}
	return err
}

// giveUp makes the call that is under way fail, as if the server were gone; another call
// is left alone.
func (c *Conn) giveUp(call uint64) {
	c.cancel.Lock()
	defer c.cancel.Unlock()
	if c.Call() == call {
		c.givenUp = true
		c.SetDeadline(time.Now())
	}
}

func (c *Conn) requestCancel() error {
	ctx, stop := context.WithTimeout(context.Background(), cancelTimeout)
	defer stop()
	addr := c.NetConn().RemoteAddr()
	nc, err := c.config.DialFunc(ctx, addr.Network(), addr.String())
	if err != nil {
		return err
	}
	defer nc.Close()
	nc.SetDeadline(time.Now().Add(cancelTimeout))
	// PostgreSQL takes a cancel request without TLS even where pg_hba.conf wants
	// TLS; the secret is good for this one connection only.
	req := pgproto3.CancelRequest{ProcessID: c.PID, SecretKey: c.secret}
	b, err := req.Encode(nil)
	if err != nil {
		return err
	}
	if _, err := nc.Write(b); err != nil {
		return err
	}
	// The server closes without a word when it has dealt with the request.
	var late net.Error
	if _, err = nc.Read(make([]byte, 1)); errors.As(err, &late) && late.Timeout() {
		return err
	}
	return nil
}
