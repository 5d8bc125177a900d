// Package pool keeps connections to the shards: it dials, hands out, takes back,
// resets and closes them. It is not concerned with what is sent over them.
//
// The governing idea: a connection goes back only at a proven protocol boundary
// and outside a transaction; whatever else happened to it, it is closed.
package pool

import (
	"context"
	"crypto/tls"
	"maps"
	"slices"
	"sync"
	"syscall"
	"time"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/shardgate/shardgate/wire"
)

// Shard is where a part of the rows is, as the pools see it.
type Shard struct {
	Index  int // position in the shard map
	Name   string
	Config *pgconn.Config // of its server; the role in it is the gateway's own
}

// Options bound the pools.
type Options struct {
	Size                     int // connections of one role to one shard
	GatherSize               int // more of them, to the home shard; see Gather
	AcquireTimeout           time.Duration
	ConnectTimeout           time.Duration
	IdleTimeout, MaxLifetime time.Duration
	PreparedStatements       int // kept on one connection
	Passwords                map[string]string
}

// Pools are the pools of all shards and roles.
type Pools struct {
	Shards []*Shard
	opts   Options
	mu     sync.RWMutex
	pools  map[poolKey]*Pool
	closed bool
}

type poolKey struct {
	shard  int
	role   string
	gather bool
}

// NewPools makes the pools; nothing is dialled yet.
func NewPools(shards []*Shard, o Options) *Pools {
	return &Pools{Shards: shards, opts: o, pools: map[poolKey]*Pool{}}
}

// Pool returns the pool of a role on a shard.
func (p *Pools) Pool(shard int, role string) *Pool { return p.pool(poolKey{shard, role, false}) }

// Gather returns the pool of a role's connections on which rows are gathered in
// temporary tables. Whoever waits for one of these holds connections of the other pool
// and nobody the other way round, so that the waiting ends.
func (p *Pools) Gather(shard int, role string) *Pool { return p.pool(poolKey{shard, role, true}) }

func (p *Pools) pool(k poolKey) *Pool {
	p.mu.RLock()
	pool := p.pools[k]
	p.mu.RUnlock()
	if pool != nil {
		return pool
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if pool = p.pools[k]; pool == nil {
		s, role := p.Shards[k.shard], k.role
		cfg := s.Config.Copy()
		cfg.ConnectTimeout = p.opts.ConnectTimeout
		if role != cfg.User {
			cfg.User, cfg.Password = role, ""
		}
		if pw, ok := p.opts.Passwords[role]; ok {
			cfg.Password = pw
		}
		pool = &Pool{shard: s, config: cfg, opts: &p.opts, size: p.opts.Size, maxPrepared: p.opts.PreparedStatements, closed: p.closed}
		if k.gather {
			pool.size = p.opts.GatherSize
		}
		p.pools[k] = pool
	}
	return pool
}

// ConnectTimeout is how long opening a connection may take.
func (p *Pools) ConnectTimeout() time.Duration { return p.opts.ConnectTimeout }

// Admin returns a connection of the gateway's own role, outside the pools' bound.
// The caller closes it.
func (p *Pools) Admin(ctx context.Context, shard int) (*Conn, error) {
	return p.Dial(ctx, shard, p.Shards[shard].Config.User)
}

// Dial opens a connection for a role that belongs to no pool. The caller closes it. What
// the gateway itself does there goes on where clients are to change nothing, as on a server
// with default_transaction_read_only.
func (p *Pools) Dial(ctx context.Context, shard int, role string) (*Conn, error) {
	pool := p.Pool(shard, role)
	cfg := pool.config.Copy()
	cfg.RuntimeParams["default_transaction_read_only"] = "off"
	c, err := dial(ctx, pool.shard, cfg)
	if err != nil {
		return nil, err
	}
	c.pool = pool
	return c, nil
}

// Close closes the idle connections, and those in use when they come back.
func (p *Pools) Close() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.closed = true
	for _, pool := range p.pools {
		pool.close()
	}
}

// Sweep closes the connections that have been idle for too long, and forgets the
// pools that have none: the names of roles are the clients' to invent.
func (p *Pools) Sweep() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for k, pool := range p.pools {
		if pool.sweep() {
			delete(p.pools, k)
		}
	}
}

// Pool holds the connections of one role to one shard.
type Pool struct {
	shard       *Shard
	config      *pgconn.Config
	opts        *Options
	size        int
	maxPrepared int

	mu      sync.Mutex
	idle    []*Conn      // the most recently used last
	open    int          // idle, in use and being dialled
	lost    time.Time    // when a connection was last found lost: others may be too
	waiters []chan *Conn // each gets a connection, or nil: leave to dial one
	closed  bool
	swept   bool // forgotten by Pools: whoever still has it keeps nothing open

	// fresh is what a fresh connection of the role begins with. It is set by the latest.
	first sync.Mutex
	fresh Defaults
}

// Defaults is what a connection of a role begins with.
type Defaults struct {
	SearchPath string
	Isolation  string            // default_transaction_isolation
	Params     map[string]string // the settings that the server reports; not to be changed
}

// checkAfter is how long a connection may have been idle before it's looked at
// whether the server has closed it.
const checkAfter = time.Second

// Get returns an idle connection, a new one, or the next to come back.
func (p *Pool) Get() (*Conn, error) {
	p.mu.Lock()
	for len(p.idle) > 0 {
		c := p.idle[len(p.idle)-1]
		p.idle = p.idle[:len(p.idle)-1]
		if time.Since(c.usedAt) < checkAfter && c.usedAt.After(p.lost) {
			p.mu.Unlock()
			return c, nil
		}
		p.mu.Unlock()
		if !c.Stale() {
			return c, nil
		}
		c.Close()
		p.mu.Lock()
		p.open--
	}
	if p.closed {
		p.mu.Unlock()
		return nil, wire.Fatalf(wire.AdminShutdown, "the gateway is shutting down")
	}
	if p.open < p.size {
		p.open++
		p.mu.Unlock()
		return p.dial()
	}
	w := make(chan *Conn, 1)
	p.waiters = append(p.waiters, w)
	p.mu.Unlock()
	timer := time.NewTimer(p.opts.AcquireTimeout)
	defer timer.Stop()
	select {
	case c := <-w:
		if c == nil {
			return p.dial()
		}
		return c, nil
	case <-timer.C:
	}
	p.mu.Lock()
	if i := slices.Index(p.waiters, w); i >= 0 {
		p.waiters = slices.Delete(p.waiters, i, i+1)
		p.mu.Unlock()
		return nil, wire.Errorf(wire.TooManyConnections, "no connection to shard %s was free within %v", p.shard.Name, p.opts.AcquireTimeout).
			WithHint("Make pool.size larger, or transactions shorter.")
	}
	p.mu.Unlock()
	// It was handed over in the same moment.
	if c := <-w; c != nil {
		return c, nil
	}
	return p.dial()
}

// dial opens a connection for which open has been counted already.
func (p *Pool) dial() (*Conn, error) {
	ctx, stop := context.WithTimeout(context.Background(), p.opts.ConnectTimeout)
	defer stop()
	c, err := dial(ctx, p.shard, p.config)
	if err == nil {
		c.pool = p
		err = p.prepare(c)
	}
	if err != nil {
		p.forget()
		return nil, err
	}
	return c, nil
}

// prepare asks a new connection for what the gateway has to know of it.
func (p *Pool) prepare(c *Conn) error {
	c.SetDeadline(time.Now().Add(p.opts.ConnectTimeout))
	defer c.SetDeadline(time.Time{})
	res, err := c.Query("SELECT (extract(epoch FROM a.backend_start) * 1000000)::bigint, current_setting('search_path'), current_setting('default_transaction_isolation') FROM pg_catalog.pg_stat_get_activity(pg_backend_pid()) a")
	if err != nil {
		c.Close()
		return err
	}
	c.BackendStart, c.Isolation = res.Value(0), res.Value(2)
	p.first.Lock()
	p.fresh = Defaults{SearchPath: res.Value(1), Isolation: res.Value(2), Params: maps.Clone(c.Params)} // c's own follow its clients' settings
	p.first.Unlock()
	return nil
}

// Defaults returns what a connection of the role begins with. It opens a connection if there
// was none yet.
func (p *Pool) Defaults() (Defaults, error) {
	p.first.Lock()
	d := p.fresh
	p.first.Unlock()
	if d.Params != nil {
		return d, nil
	}
	c, err := p.Get()
	if err != nil {
		return Defaults{}, err
	}
	p.Put(c)
	p.first.Lock()
	defer p.first.Unlock()
	return p.fresh, nil
}

// Put takes a connection back. One that isn't at a boundary, or in a transaction,
// is closed.
func (p *Pool) Put(c *Conn) {
	c.awaitCancel()
	c.Notices, c.Notifications = nil, nil
	if c.Tainted && c.clean() {
		c.reset()
	}
	if !c.clean() || c.Tainted || time.Since(c.since) > p.opts.MaxLifetime {
		if c.Broken {
			p.noteLost()
		}
		c.Close()
		p.forget()
		return
	}
	c.usedAt = time.Now()
	p.mu.Lock()
	if p.closed {
		p.open--
		p.mu.Unlock()
		c.Close()
		return
	}
	if len(p.waiters) > 0 {
		w := p.waiters[0]
		p.waiters = p.waiters[1:]
		p.mu.Unlock()
		w <- c
		return
	}
	if p.swept {
		p.open--
		p.mu.Unlock()
		c.terminate()
		return
	}
	p.idle = append(p.idle, c)
	p.mu.Unlock()
}

// noteLost notes that a connection was found lost: others may be, too.
func (p *Pool) noteLost() {
	p.mu.Lock()
	p.lost = time.Now()
	p.mu.Unlock()
}

// Put gives the connection back to its pool.
func (c *Conn) Put() { c.pool.Put(c) }

// clean says whether the connection is at a protocol boundary outside a transaction.
func (c *Conn) clean() bool {
	return !c.Broken && c.Ready == 0 && c.Status == 'I' && c.Pending() == 0 && !c.HasInput()
}

// reset brings a connection back to how it was dialled.
func (c *Conn) reset() {
	if _, err := c.QueryTimeout("DISCARD ALL", 5*time.Second); err != nil {
		c.Broken = true
		return
	}
	c.Vars, c.Tainted = nil, false
	c.ForgetAll()
}

// forget counts a connection as gone, and lets a waiter dial in its place.
func (p *Pool) forget() {
	p.mu.Lock()
	if len(p.waiters) > 0 && !p.closed {
		w := p.waiters[0]
		p.waiters = p.waiters[1:]
		p.mu.Unlock()
		w <- nil
		return
	}
	p.open--
	p.mu.Unlock()
}

func (p *Pool) close() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.closed = true
	for _, c := range p.idle {
		c.terminate()
	}
	p.open -= len(p.idle)
	p.idle = nil
}

// sweep says whether the pool is unused afterwards.
func (p *Pool) sweep() (unused bool) {
	p.mu.Lock()
	var old []*Conn
	p.idle = slices.DeleteFunc(p.idle, func(c *Conn) bool {
		if time.Since(c.usedAt) > p.opts.IdleTimeout || time.Since(c.since) > p.opts.MaxLifetime {
			old = append(old, c)
			return true
		}
		return false
	})
	p.open -= len(old)
	unused = p.open == 0 && len(p.waiters) == 0
	p.swept = unused
	p.mu.Unlock()
	for _, c := range old {
		c.terminate()
	}
	return unused
}

// terminate closes as a client that leaves in good order.
func (c *Conn) terminate() {
	c.SetDeadline(time.Now().Add(time.Second))
	c.SetOut(wire.AppendTerminate(c.Out()))
	c.Flush()
	c.Close()
}

// Discard closes a connection got from the pool instead of giving it back.
func (c *Conn) Discard() {
	c.Broken = true
	c.awaitCancel()
	c.Close()
	c.pool.forget()
}

// Stale says whether the server has closed an idle connection, or said something
// on it: both make it unfit for use.
func (c *Conn) Stale() bool {
	nc := c.NetConn()
	if t, ok := nc.(*tls.Conn); ok {
		nc = t.NetConn() // a server that leaves says so in a record, or closes
	}
	sc, ok := nc.(syscall.Conn)
	if !ok {
		return false // the first use will tell
	}
	raw, err := sc.SyscallConn()
	if err != nil {
		return true
	}
	bad := false
	err = raw.Read(func(fd uintptr) bool {
		var b [1]byte
		n, _, e := syscall.Recvfrom(int(fd), b[:], syscall.MSG_PEEK|syscall.MSG_DONTWAIT)
		bad = n > 0 || e != syscall.EAGAIN && e != syscall.EWOULDBLOCK
		return true
	})
	return err != nil || bad
}

// Stats are the numbers of a role's pools on a shard.
type Stats struct {
	Shard, Role         string
	Open, Idle, Waiting int // connections; clients that wait for one
}

// Stats returns the numbers of all pools.
func (p *Pools) Stats() []Stats {
	p.mu.RLock()
	defer p.mu.RUnlock()
	sums := map[poolKey]*Stats{}
	for k, pool := range p.pools {
		k.gather = false
		s := sums[k]
		if s == nil {
			s = &Stats{Shard: p.Shards[k.shard].Name, Role: k.role}
			sums[k] = s
		}
		pool.mu.Lock()
		s.Open, s.Idle, s.Waiting = s.Open+pool.open, s.Idle+len(pool.idle), s.Waiting+len(pool.waiters)
		pool.mu.Unlock()
	}
	var out []Stats
	for _, s := range sums {
		out = append(out, *s)
	}
	return out
}
