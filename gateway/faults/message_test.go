package faults

import (
	"bytes"
	"fmt"
	"regexp"
	"sync"
	"sync/atomic"
	"time"

	"github.com/shardgate/shardgate/bench/link"
)

// target is one message of a run: the n-th of its kind over the link of a shard.
type target struct {
	shard    int
	toServer bool
	gist     string
	n        int
}

func (m target) String() string {
	arrow := "from"
	if m.toServer {
		arrow = "to"
	}
	return fmt.Sprintf("%s s%d: %s #%d", arrow, m.shard+1, m.gist, m.n)
}

// ids are what differs in a message from run to run: transactions' ids and proofs, and the
// backends in the names of prepared transactions.
var ids = regexp.MustCompile(`[0-9a-f]{16,}|\b\d+\.\d{10,}`)

// gist is what a message is known by from run to run.
func gist(m link.Message) string {
	switch {
	case m.Type == 0:
		return "start-up"
	case m.ToServer && (m.Type == 'Q' || m.Type == 'P'), !m.ToServer && m.Type == 'C':
		text := string(bytes.Trim(bytes.ReplaceAll(m.Body(), []byte{0}, []byte{' '}), " "))
		return fmt.Sprintf("%c %s", m.Type, ids.ReplaceAllString(text, "_"))
	case !m.ToServer && m.Type == 'Z':
		return "Z " + string(m.Body())
	}
	return string(m.Type)
}

// record runs f and returns the messages that passed over the links meanwhile, in their
// order. Of those that are alike, as rows are, the first, the last and one between stand
// for all.
func (c *cluster) record(taps *taps, f func()) []target {
	var mu sync.Mutex
	var all []target
	count := map[target]int{}
	taps.set(func(shard int, m link.Message) (link.Place, func()) {
		mu.Lock()
		defer mu.Unlock()
		k := target{shard: shard, toServer: m.ToServer, gist: gist(m)}
		t := k
		t.n = count[k]
		count[k]++
		all = append(all, t)
		return "", nil
	})
	f()
	taps.set(nil)
	mu.Lock()
	defer mu.Unlock()
	var some []target
	for _, t := range all {
		k := t
		k.n = 0
		if last := count[k] - 1; last < 5 || t.n == 0 || t.n == last/2 || t.n == last {
			some = append(some, t)
		}
	}
	return some
}

// taps are the taps of a cluster's links, which can be changed while connections are open.
type taps struct {
	now atomic.Pointer[func(shard int, m link.Message) (link.Place, func())]
}

func (c *cluster) tap() *taps {
	t := &taps{}
	for i, l := range c.links {
		l.SetTap(func(m link.Message) (link.Place, func()) {
			if f := t.now.Load(); f != nil {
				return (*f)(i, m)
			}
			return "", nil
		})
	}
	return t
}

func (t *taps) set(f func(shard int, m link.Message) (link.Place, func())) {
	if f == nil {
		t.now.Store(nil)
		return
	}
	t.now.Store(&f)
}

// arm has do called once, at the message. disarm ends that, waits for the end of do where the
// message has come, and says whether it was called.
func (t *taps) arm(at target, place link.Place, do func(link.Message)) (disarm func() bool) {
	var mu sync.Mutex
	seen, struck := 0, make(chan struct{})
	t.set(func(shard int, m link.Message) (link.Place, func()) {
		if shard != at.shard || m.ToServer != at.toServer || gist(m) != at.gist {
			return "", nil
		}
		mu.Lock()
		defer mu.Unlock()
		seen++
		if seen-1 != at.n {
			return "", nil
		}
		return place, func() {
			defer close(struck)
			do(m)
		}
	})
	return func() bool {
		t.set(nil)
		mu.Lock()
		came := seen > at.n
		mu.Unlock()
		if !came {
			return false
		}
		select {
		case <-struck:
			return true
		case <-time.After(answerTimeout):
			return false // the message could not be passed on
		}
	}
}
