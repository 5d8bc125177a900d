package session

import (
	"errors"
	"os"
	"sync"
	"time"

	"github.com/shardgate/shardgate/gateway/pool"
	"github.com/shardgate/shardgate/wire"
)

// await waits for the client's next message. What the connections held for the
// client say meanwhile, notifications above all, is passed on as it comes.
func (s *Session) await() (wire.Header, error) {
	if len(s.held) == 0 || s.client.HasInput() {
		s.client.Rest()
		return s.client.Peek()
	}
	return s.awaitHeld()
}

// awaitHeld is await with such connections.
func (s *Session) awaitHeld() (wire.Header, error) {
	var watchers sync.WaitGroup
	var writing sync.Mutex
	for _, c := range s.held {
		if !c.Broken {
			// It ends when the client has sent something, by the deadline below.
			watchers.Go(func() { s.watch(c, &writing) })
		}
	}
	h, err := s.client.Peek()
	for _, c := range s.held {
		c.NetConn().SetReadDeadline(time.Unix(1, 0))
	}
	watchers.Wait()
	for _, c := range s.held {
		c.NetConn().SetReadDeadline(time.Time{})
	}
	return h, err
}

// watch passes on what an idle connection says by itself. It stops at anything
// else, which the next use of the connection deals with, and at the deadline.
func (s *Session) watch(c *pool.Conn, writing *sync.Mutex) {
	for {
		h, err := c.Peek()
		if err != nil {
			if !errors.Is(err, os.ErrDeadlineExceeded) {
				c.Fail(err)
			}
			return
		}
		if h.Type != 'A' && h.Type != 'N' {
			return
		}
		m, err := c.Read()
		if err != nil {
			if !errors.Is(err, os.ErrDeadlineExceeded) {
				c.Fail(err)
			}
			return
		}
		writing.Lock()
		err = s.client.Write(m)
		if err == nil {
			err = s.client.Flush()
		}
		writing.Unlock()
		if err != nil {
			return // reading from the client fails as well
		}
	}
}
