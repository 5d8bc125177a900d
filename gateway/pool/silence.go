package pool

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"time"
)

// Silence ends the waiting for servers that will not answer. A connection over which
// nothing comes may belong to a statement that takes long, or be dead: the server's machine
// or the way there is gone, or what one side sent was lost. The two are told apart by
// asking the server over another connection, so that a statement may take as long as it
// likes, and no time-out has to be guessed.
//
// A connection is given up if no other can be made to its server, or its backend is gone, or
// the backend waits for the gateway in both of two looks while the gateway has waited for
// it all the time.
type Silence struct {
	Pools *Pools
	After time.Duration // how long a call has to be under way until the server is asked
	// Asked lists the connections of which answers are waited for. Those on which no call
	// is under way don't matter.
	Asked func() []*Conn
	Log   *slog.Logger

	calls map[*Conn]silent
}

// silent is a call that is under way for some time.
type silent struct {
	call    uint64
	ask     time.Time // when to ask the server
	suspect bool      // its backend waited for the gateway when it was last looked at
}

// Run watches until ctx is over.
func (s *Silence) Run(ctx context.Context) {
	tick := time.NewTicker(min(max(s.After/4, 10*time.Millisecond), time.Second))
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
			s.look(ctx)
		}
	}
}

// look looks once.
func (s *Silence) look(ctx context.Context) {
	calls := map[*Conn]silent{}
	byShard := map[int][]*Conn{}
	for _, c := range s.Asked() {
		call := c.Call()
		if call == 0 {
			continue
		}
		was, ok := s.calls[c]
		if !ok || was.call != call {
			was = silent{call: call, ask: time.Now().Add(s.After)}
		}
		calls[c] = was
		if !time.Now().Before(was.ask) {
			byShard[c.Shard.Index] = append(byShard[c.Shard.Index], c)
		}
	}
	s.calls = calls
	var mu sync.Mutex // protects calls
	var wg sync.WaitGroup
	for shard, conns := range byShard {
		wg.Go(func() {
			waits, err := s.ask(ctx, shard, conns)
			if ctx.Err() != nil {
				return
			}
			// A server that refuses another connection is there.
			reachable := !errors.As(err, new(*Unreachable))
			mu.Lock()
			defer mu.Unlock()
			for _, c := range conns {
				was, waiting := calls[c], waits[c]
				if !reachable || waiting == backendGone || waiting == forGateway && was.suspect {
					s.Log.Warn("giving up a connection to a shard that does not answer", "shard", c.Shard.Name, "pid", c.PID, "reachable", reachable)
					c.giveUp(was.call)
				}
				if was.suspect = waiting == forGateway; !was.suspect {
					was.ask = time.Now().Add(s.After)
				}
				calls[c] = was
			}
		})
	}
	wg.Wait()
}

// waiting is what a backend waits for.
type waiting int

const (
	unclear     waiting = iota // for something else, or nothing, or it may not be known
	forGateway                 // for a message, or for one to be taken from it
	backendGone                // there is no such backend
)

// ask asks a shard what the backends of connections wait for.
func (s *Silence) ask(ctx context.Context, shard int, conns []*Conn) (map[*Conn]waiting, error) {
	admin, err := s.Pools.Admin(ctx, shard)
	if err != nil {
		return nil, err
	}
	defer admin.Close()
	var pids []string
	for _, c := range conns {
		pids = append(pids, fmt.Sprint(c.PID))
	}
	res, err := admin.QueryTimeout(`SELECT p.pid, CASE WHEN a.pid IS NULL THEN 2
			WHEN a.wait_event_type = 'Client' AND a.wait_event IN ('ClientRead', 'ClientWrite') THEN 1 ELSE 0 END,
			(extract(epoch FROM a.backend_start) * 1000000)::bigint
		FROM pg_catalog.unnest(ARRAY[`+strings.Join(pids, ",")+`]) p(pid)
		LEFT JOIN LATERAL pg_catalog.pg_stat_get_activity(p.pid::int) a ON true`, s.Pools.opts.ConnectTimeout)
	if err != nil {
		return nil, err
	}
	out := map[*Conn]waiting{}
	for _, row := range res.Rows {
		for _, c := range conns {
			if fmt.Sprint(c.PID) != string(row[0]) {
				continue
			}
			switch start := string(row[2]); {
			case string(row[1]) == "2", start != "" && c.BackendStart != "" && start != c.BackendStart:
				out[c] = backendGone
			case string(row[1]) == "1":
				out[c] = forGateway
			}
		}
	}
	return out, nil
}
