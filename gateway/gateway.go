// Package gateway is the server that clients connect to: it listens, lets clients
// in, runs a session for each, routes their cancel requests, and looks after what
// has to be done from time to time. What a session does is in the package session.
//
// The governing idea: a gateway keeps nothing that another could not take over. It
// can be killed at any moment; what was under way is settled by the shards.
package gateway

import (
	"context"
	"crypto/rand"
	"crypto/subtle"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/shardgate/shardgate/configs"
	"github.com/shardgate/shardgate/gateway/catalog"
	"github.com/shardgate/shardgate/gateway/pool"
	"github.com/shardgate/shardgate/gateway/session"
	"github.com/shardgate/shardgate/gateway/txn"
	"github.com/shardgate/shardgate/wire"
)

// Gateway serves clients. Make one with Start.
type Gateway struct {
	config   *configs.Config
	log      *slog.Logger
	host     *session.Host
	pools    *pool.Pools
	listener net.Listener
	database string
	auth     *wire.Authenticator
	users    map[string]*wire.Verifier
	tlsMode  wire.TLSMode
	tls      *tls.Config
	known    knownSettings

	ctx    context.Context
	cancel context.CancelFunc
	work   sync.WaitGroup // goroutines of the gateway's own and of clients

	sockets atomic.Int64 // accepted and not closed yet

	mu      sync.Mutex
	clients map[uint32]*client
	nextID  uint32
	closing bool
}

// client is a connected client, as a cancel request finds it.
type client struct {
	key     []byte
	session *session.Session
}

// Start connects to the shards, makes what is missing of the schema shardgate on
// them, and begins to listen. The gateway runs until Shutdown.
func Start(ctx context.Context, cfg *configs.Config, log *slog.Logger) (*Gateway, error) {
	g := &Gateway{config: cfg, log: log, clients: map[uint32]*client{}}
	shards, home, err := shardsOf(cfg)
	if err != nil {
		return nil, err
	}
	g.database = shards[home].Config.Database
	if err := g.setAuth(); err != nil {
		return nil, err
	}
	passwords := map[string]string{}
	for _, u := range cfg.Auth.Users {
		passwords[u.Name] = string(u.Password)
	}
	g.host = &session.Host{Home: home, Log: log, MaxPrepared: cfg.Limits.PreparedStatements, GatherBytes: int64(cfg.Limits.GatherBytes), FenceTimeout: cfg.Timeouts.Fence}
	for _, s := range shards {
		maps.Copy(s.Config.RuntimeParams, g.host.DefaultSettings())
	}
	g.pools = pool.NewPools(shards, pool.Options{
		Size: cfg.Pool.Size, GatherSize: cfg.Pool.GatherSize, AcquireTimeout: cfg.Pool.AcquireTimeout, ConnectTimeout: cfg.Pool.ConnectTimeout,
		IdleTimeout: cfg.Pool.IdleTimeout, MaxLifetime: cfg.Pool.MaxLifetime,
		PreparedStatements: cfg.Limits.ShardPreparedStatements, Passwords: passwords,
	})
	if err := catalog.CheckHolders(ctx, g.pools, home); err != nil {
		return nil, err
	}
	register, err := txn.Install(ctx, g.pools, home, cfg.Cluster.Name)
	if err != nil {
		return nil, err
	}
	cat, err := catalog.Open(ctx, g.pools, home, cfg, log)
	if err != nil {
		return nil, err
	}
	g.host.Pools, g.host.Register, g.host.Catalog = g.pools, register, cat
	g.ctx, g.cancel = context.WithCancel(context.Background())
	register.Retention = cfg.Timeouts.OutcomeRetention
	register.Recover(ctx, cfg.Timeouts.RecoveryGrace, log) // which tells the log what it can't do
	if g.listener, err = net.Listen("tcp", cfg.Listen); err != nil {
		g.cancel()
		g.pools.Close()
		return nil, err
	}
	g.work.Go(g.accept)
	g.work.Go(g.maintain)
	g.work.Go(func() {
		watch := &txn.Watch{Register: register, Timeout: cfg.Timeouts.Deadlock, Waiting: g.waiting, Strike: g.strike, Log: log}
		watch.Run(g.ctx)
	})
	g.work.Go(func() {
		silence := &pool.Silence{Pools: g.pools, After: cfg.Timeouts.Silence, Asked: g.asked, Log: log}
		silence.Run(g.ctx)
	})
	return g, nil
}

// shardsOf are the shards as the pools see them, and the index of the home shard.
func shardsOf(cfg *configs.Config) (shards []*pool.Shard, home int, err error) {
	for i, s := range cfg.Shards {
		pc, err := pgconn.ParseConfig(string(s.Servers[0]))
		if err != nil {
			return nil, 0, fmt.Errorf("shard %s: the server's URL can't be read", s.Name)
		}
		shards = append(shards, &pool.Shard{Index: i, Name: s.Name, Config: pc})
	}
	return shards, cfg.HomeShard(), nil
}

// setAuth prepares what clients authenticate with. Verifiers are made now: doing
// it at a user's first login would show by its time that the user exists.
func (g *Gateway) setAuth() error {
	secret := make([]byte, 32)
	rand.Read(secret)
	g.auth = wire.NewAuthenticator(secret, 4096)
	if g.config.Auth.Method == configs.AuthSCRAM {
		g.users = map[string]*wire.Verifier{}
		for _, u := range g.config.Auth.Users {
			v, err := g.auth.Verifier(u.Name, string(u.Password))
			if err != nil {
				return fmt.Errorf("user %s: %w", u.Name, err)
			}
			g.users[u.Name] = v
		}
	}
	var err error
	if g.tlsMode, err = wire.ParseTLSMode(string(g.config.TLS.Mode)); err != nil {
		return err
	}
	if g.tlsMode != wire.TLSDisable {
		g.tls, err = wire.ServerTLS(wire.TLSFiles{Cert: g.config.TLS.Cert, Key: g.config.TLS.Key, ClientCA: g.config.TLS.CA,
			OnReloadError: func(err error) { g.log.Error("the changed TLS files can't be used; the old ones stay", "error", err) }})
	}
	return err
}

// Addr is the address that the gateway listens on.
func (g *Gateway) Addr() net.Addr { return g.listener.Addr() }

// Database is the name of the database that clients connect to.
func (g *Gateway) Database() string { return g.database }

// accept takes clients in until the listener is closed.
func (g *Gateway) accept() {
	for {
		nc, err := g.listener.Accept()
		if err != nil {
			if errors.Is(err, net.ErrClosed) {
				return
			}
			// Too many open files, mostly: wait for clients to leave.
			g.log.Error("can't accept a client", "error", err)
			select {
			case <-time.After(100 * time.Millisecond):
			case <-g.ctx.Done():
				return
			}
			continue
		}
		// Who has yet to log in is no client, and takes a file descriptor all the
		// same: those are bounded too, with room for cancel requests.
		if g.sockets.Add(1) > int64(2*g.config.Limits.ClientConnections+100) {
			g.sockets.Add(-1)
			nc.Close()
			continue
		}
		g.work.Go(func() {
			defer g.sockets.Add(-1)
			defer nc.Close()
			g.serve(nc)
		})
	}
}

// maintain does what has to be done from time to time. It ends with the gateway.
func (g *Gateway) maintain() {
	recovery := time.NewTicker(g.config.Timeouts.RecoveryInterval)
	defer recovery.Stop()
	poll := time.NewTicker(g.config.Timeouts.SchemaPoll)
	defer poll.Stop()
	sweep := time.NewTicker(max(time.Second, min(time.Minute, g.config.Pool.IdleTimeout/2)))
	defer sweep.Stop()
	quiet := time.NewTicker(restPeriod)
	defer quiet.Stop()
	var rest rest
	for {
		select {
		case <-g.ctx.Done():
			return
		case <-recovery.C:
			ctx, stop := context.WithTimeout(g.ctx, time.Minute)
			g.host.Register.Recover(ctx, g.config.Timeouts.RecoveryGrace, g.log)
			stop()
		case <-poll.C:
			ctx, stop := context.WithTimeout(g.ctx, time.Minute)
			if err := g.host.Catalog.Poll(ctx); err != nil && g.ctx.Err() == nil {
				g.log.Warn("the schema can't be read from the home shard", "error", err)
			}
			stop()
		case <-sweep.C:
			g.pools.Sweep()
		case <-quiet.C:
			rest.look()
		}
	}
}

// Shutdown stops taking clients in, waits for transactions to end until ctx does,
// and closes all connections. It may be called once.
func (g *Gateway) Shutdown(ctx context.Context) {
	g.listener.Close()
	g.mu.Lock()
	g.closing = true
	g.mu.Unlock()
	for g.terminateIdle() > 0 {
		select {
		case <-ctx.Done():
			g.terminateAll()
		case <-time.After(20 * time.Millisecond):
			continue
		}
		break
	}
	g.cancel()
	g.work.Wait()
	g.host.Register.Fence.Close()
	g.pools.Close()
}

// terminateIdle ends the sessions that are between transactions, and returns how
// many are left.
func (g *Gateway) terminateIdle() int {
	g.mu.Lock()
	defer g.mu.Unlock()
	left := 0
	for _, c := range g.clients {
		if c.session == nil {
			continue
		}
		if c.session.Idle() {
			c.session.Terminate()
		} else {
			left++
		}
	}
	return left
}

// terminateAll ends every session, and what it runs on the shards: a server does
// not notice amid a statement that nobody waits for it any more.
func (g *Gateway) terminateAll() {
	g.mu.Lock()
	defer g.mu.Unlock()
	var wg sync.WaitGroup
	for _, c := range g.clients {
		if s := c.session; s != nil {
			wg.Go(func() {
				s.Cancel()
				s.Terminate()
			})
		}
	}
	wg.Wait()
}

// waiting lists the transactions that have waited for the shards for longer than that.
func (g *Gateway) waiting(longer time.Duration) (out []txn.Waiter) {
	g.mu.Lock()
	defer g.mu.Unlock()
	for _, c := range g.clients {
		if c.session == nil {
			continue
		}
		if w, ok := c.session.Waiting(longer); ok {
			out = append(out, w)
		}
	}
	return out
}

// asked lists the connections to shards whose answers clients wait for.
func (g *Gateway) asked() (out []*pool.Conn) {
	g.mu.Lock()
	defer g.mu.Unlock()
	for _, c := range g.clients {
		if c.session != nil {
			out = c.session.Asked(out)
		}
	}
	return out
}

// strike makes a transaction the victim of a deadlock.
func (g *Gateway) strike(w txn.Waiter, circle string) {
	g.mu.Lock()
	var sessions []*session.Session
	for _, c := range g.clients {
		if c.session != nil {
			sessions = append(sessions, c.session)
		}
	}
	g.mu.Unlock()
	for _, s := range sessions {
		s.Strike(w, circle)
	}
}

// register gives a client its number and its secret for cancel requests.
func (g *Gateway) register(long bool) (id uint32, c *client, err *wire.Error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.closing {
		return 0, nil, wire.Fatalf(wire.CannotConnectNow, "the gateway is shutting down")
	}
	if len(g.clients) >= g.config.Limits.ClientConnections {
		return 0, nil, wire.Fatalf(wire.TooManyConnections, "sorry, too many clients already").
			WithHint("Make limits.client_connections larger.")
	}
	for {
		g.nextID++
		if g.nextID == 0 || g.nextID > 1<<31-1 {
			g.nextID = 1
		}
		if _, used := g.clients[g.nextID]; !used {
			break
		}
	}
	n := 4
	if long {
		n = 32
	}
	c = &client{key: make([]byte, n)}
	rand.Read(c.key)
	g.clients[g.nextID] = c
	return g.nextID, c, nil
}

func (g *Gateway) unregister(id uint32) {
	g.mu.Lock()
	defer g.mu.Unlock()
	delete(g.clients, id)
}

// cancelClient carries out a cancel request. A wrong key is ignored silently, as
// PostgreSQL does.
func (g *Gateway) cancelClient(id uint32, key []byte) {
	g.mu.Lock()
	c := g.clients[id]
	var s *session.Session
	if c != nil && subtle.ConstantTimeCompare(c.key, key) == 1 {
		s = c.session
	}
	g.mu.Unlock()
	if s != nil {
		s.Cancel()
	}
}

// Clients is the number of connected clients.
func (g *Gateway) Clients() int {
	g.mu.Lock()
	defer g.mu.Unlock()
	return len(g.clients)
}

// PoolStats are the numbers of each pool.
func (g *Gateway) PoolStats() []pool.Stats { return g.pools.Stats() }

// InDoubt is the number of distributed transactions that the latest recovery could not
// finish, and the age of the oldest.
func (g *Gateway) InDoubt() (n int, oldest time.Duration) { return g.host.Register.InDoubt() }
