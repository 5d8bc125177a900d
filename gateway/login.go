package gateway

import (
	"context"
	"errors"
	"io"
	"maps"
	"net"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/shardgate/shardgate/configs"
	"github.com/shardgate/shardgate/gateway/pool"
	"github.com/shardgate/shardgate/gateway/session"
	"github.com/shardgate/shardgate/planner"
	"github.com/shardgate/shardgate/wire"
)

// serve deals with one connection from its first byte to its end. It and what it calls
// to wait for the client have small frames: of thousands of clients that wait, each has
// a stack.
func (g *Gateway) serve(nc net.Conn) {
	// The gateway's end is this connection's, however far it has come.
	defer context.AfterFunc(g.ctx, func() { nc.Close() })()
	s, id := g.admit(nc)
	if s == nil {
		return
	}
	defer g.unregister(id)
	defer context.AfterFunc(g.ctx, s.Terminate)() // it may have come in since Shutdown looked
	if err := s.Serve(); err != nil {
		g.ended(nc, err)
	}
}

func (g *Gateway) ended(nc net.Conn, err error) {
	g.log.Debug("a session ended", "client", nc.RemoteAddr(), "error", err)
}

// admit lets a client in, which is registered by an id then. The session is nil if the
// connection is over.
func (g *Gateway) admit(nc net.Conn) (*session.Session, uint32) {
	// Whatever a client does before it is let in has to be done by then.
	nc.SetDeadline(time.Now().Add(g.config.Timeouts.Login))
	ctx, stop := context.WithTimeout(g.ctx, g.config.Timeouts.Login)
	conn, start, err := wire.Accept(ctx, nc, wire.AcceptOptions{Mode: g.tlsMode, TLS: g.tls})
	stop()
	if err != nil {
		if !errors.Is(err, io.EOF) {
			g.log.Debug("a connection ended before it began", "client", nc.RemoteAddr(), "error", err)
		}
		return nil, 0
	}
	if start.Kind == wire.CancelRequest {
		g.cancelClient(start.PID, start.Key)
		return nil, 0
	}
	c := wire.NewConn(conn, wire.MaxSASLMessageBytes)
	id, cl, refused := g.register(start.LongCancelKey())
	if refused != nil {
		refuse(c, refused)
		return nil, 0
	}
	s, err := g.login(c, &start, id, cl)
	if err != nil {
		g.unregister(id)
		refuse(c, err)
		g.log.Info("a client was not let in", "client", nc.RemoteAddr(), "user", start.User(), "error", err)
		return nil, 0
	}
	conn.SetDeadline(time.Time{})
	c.SetLimit(int(g.config.Limits.MessageBytes))
	return s, id
}

// refuse tells a client why it is not let in.
func refuse(c *wire.Conn, err error) {
	e := *wire.AsError(err)
	e.Severity, e.LocalizedSeverity = "FATAL", ""
	c.SetOut(e.Append(c.Out()))
	c.Flush()
}

// login authenticates a client and makes its session. Everything up to
// ReadyForQuery is sent.
func (g *Gateway) login(c *wire.Conn, start *wire.Startup, id uint32, cl *client) (*session.Session, error) {
	if minor, tell := start.Negotiate(); tell {
		c.SetOut(wire.AppendNegotiateProtocolVersion(c.Out(), minor, start.Options))
	}
	user := start.User()
	if user == "" {
		return nil, wire.Fatalf(wire.InvalidAuthorization, "no PostgreSQL user name specified in startup packet")
	}
	if mode, err := start.Replication(); err != nil {
		return nil, err
	} else if mode != 0 {
		return nil, wire.Fatalf(wire.FeatureNotSupported, "replication connections are not supported").
			WithHint("Connect to the shards' servers for replication.")
	}
	if g.config.Auth.Method == configs.AuthSCRAM {
		if err := g.scram(c, user); err != nil {
			return nil, err
		}
	}
	// What is refused from here on, PostgreSQL refuses after authentication.
	c.SetOut(wire.AppendAuthenticationOk(c.Out()))
	if db := start.Database(); db != g.database {
		return nil, wire.Fatalf(wire.InvalidCatalogName, "database \"%s\" does not exist", db).
			WithHint("The gateway serves the database \"%s\".", g.database)
	}
	vars, err := g.settings(start)
	if err != nil {
		return nil, err
	}
	defaults, vars, reported, err := g.prepare(user, vars)
	if err != nil {
		return nil, err
	}
	s := session.New(g.host, c, id, user, defaults, vars, reported)
	g.mu.Lock()
	cl.session = s
	g.mu.Unlock()
	out := c.Out()
	for _, name := range slices.SortedFunc(maps.Keys(reported), compareNames) {
		out = wire.AppendParameterStatus(out, name, reported[name])
	}
	out = wire.AppendBackendKeyData(out, id, cl.key)
	c.SetOut(wire.AppendReadyForQuery(out, wire.TxIdle))
	return s, c.Flush()
}

// compareNames orders the names of settings as PostgreSQL does, whatever their case.
func compareNames(a, b string) int { return strings.Compare(strings.ToLower(a), strings.ToLower(b)) }

// scram runs the exchange of SCRAM-SHA-256.
func (g *Gateway) scram(c *wire.Conn, user string) error {
	c.SetOut(wire.AppendAuthenticationSASL(c.Out(), wire.ScramSHA256))
	conv := g.auth.Begin(user, g.users[user])
	for {
		if err := c.Flush(); err != nil {
			return err
		}
		m, err := c.Read()
		if err != nil {
			return err
		}
		if m[0] != 'p' {
			return wire.Fatalf(wire.ProtocolViolation, "expected SASL response, got message type %d", m[0])
		}
		out, done, err := conv.Step(c.Out(), m[5:])
		if err != nil {
			return err
		}
		c.SetOut(out)
		if done {
			return nil
		}
	}
}

// settings reads the settings of a start-up packet: every parameter that is not
// about the connection itself, and -c name=value in options.
func (g *Gateway) settings(start *wire.Startup) (*pool.Vars, error) {
	var vars *pool.Vars
	add := func(name, value string) error {
		name = strings.ToLower(strings.ReplaceAll(name, "-", "_"))
		if err := planner.RefusedSetting(name, value); err != nil {
			var r *planner.Refusal
			errors.As(err, &r)
			return wire.Fatalf(r.Code, "%s", r.Message).WithHint("%s", r.Hint)
		}
		value, e := g.host.CheckSetting(name, value)
		if e != nil {
			return wire.Fatalf(e.Code, "%s", e.Message).WithHint("%s", e.Hint)
		}
		vars = vars.With(name, value)
		return nil
	}
	for _, p := range start.Params {
		switch p.Name {
		case "user", "database", "replication":
		case "options":
			words := splitOptions(p.Value)
			for i := 0; i < len(words); i++ {
				w := words[i]
				switch {
				case w == "-c" && i+1 < len(words):
					i++
					w = words[i]
				case strings.HasPrefix(w, "-c"), strings.HasPrefix(w, "--"):
					w = w[2:]
				default:
					return nil, wire.Fatalf(wire.FeatureNotSupported, "the option \"%s\" in the start-up packet is not supported", w).
						WithHint("Use -c name=value.")
				}
				name, value, ok := strings.Cut(w, "=")
				if !ok {
					return nil, wire.Fatalf(wire.SyntaxError, "-c %s requires a value", w)
				}
				if err := add(name, value); err != nil {
					return nil, err
				}
			}
		default:
			if err := add(p.Name, p.Value); err != nil {
				return nil, err
			}
		}
	}
	return vars, nil
}

// splitOptions splits at blanks; a backslash makes the next character part of a
// word (pg_split_opts in PostgreSQL's postinit.c).
func splitOptions(s string) []string {
	var out []string
	var b strings.Builder
	in := false
	for i := 0; i < len(s); i++ {
		switch c := s[i]; {
		case c == ' ' || c == '\t' || c == '\n' || c == '\r' || c == '\v' || c == '\f':
			if in {
				out = append(out, b.String())
				b.Reset()
				in = false
			}
		case c == '\\' && i+1 < len(s):
			i++
			b.WriteByte(s[i])
			in = true
		default:
			b.WriteByte(c)
			in = true
		}
	}
	if in {
		out = append(out, b.String())
	}
	return out
}

// knownSettings remembers what the server reports for settings of start-up packets
// that it has accepted, so that most clients are let in without asking it. Clients
// with equal settings share one value of them: that they are equal is then seen by
// the address, whenever a connection changes hands.
type knownSettings struct {
	mu   sync.Mutex
	sets map[string]knownSet
}

type knownSet struct {
	vars     *pool.Vars
	reported map[string]string
}

// maxKnownSettings bounds them.
const maxKnownSettings = 1000

// prepare makes sure that the home shard lets the role in and takes the settings.
// It returns what the role begins with, the settings and those to report.
func (g *Gateway) prepare(role string, vars *pool.Vars) (defaults pool.Defaults, _ *pool.Vars, reported map[string]string, err error) {
	p := g.pools.Pool(g.host.Home, role)
	if defaults, err = p.Defaults(); err != nil || vars == nil {
		return defaults, nil, defaults.Params, err
	}
	key := role + "\x00" + vars.Key()
	g.known.mu.Lock()
	known, ok := g.known.sets[key]
	g.known.mu.Unlock()
	if ok {
		return defaults, known.vars, known.reported, nil
	}
	c, err := p.Get()
	if err != nil {
		return defaults, nil, nil, err
	}
	defer c.Put()
	if sql := vars.Change(c.Vars); sql != "" {
		if _, err := c.QueryTimeout(sql, g.config.Timeouts.Login); err != nil {
			return defaults, nil, nil, err
		}
	}
	c.Vars = vars
	reported = maps.Clone(c.Params)
	g.known.mu.Lock()
	defer g.known.mu.Unlock()
	if g.known.sets == nil || len(g.known.sets) >= maxKnownSettings {
		g.known.sets = map[string]knownSet{}
	}
	g.known.sets[key] = knownSet{vars, reported}
	return defaults, vars, reported, nil
}
