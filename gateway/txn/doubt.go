package txn

import (
	"context"
	"errors"
	"slices"
	"sync"
	"time"
)

// What a recovery can't finish is told to the log: at once, and then in growing intervals
// for as long as it lasts.
const (
	firstPause = 10 * time.Second
	maxPause   = time.Hour
)

// doubt is a distributed transaction that can't be finished on a shard. Without an id it is
// about the shard, which can't be searched for such.
type doubt struct {
	id, shard string
	state     string
	reason    string
	age       time.Duration
}

func (d doubt) key() string { return d.id + " " + d.shard }

// doubts are those that recoveries have met.
type doubts struct {
	mu    sync.Mutex
	known map[string]*told // by key
}

// told is a doubt of which the log was told.
type told struct {
	doubt
	since time.Time
	next  time.Time // it is told again then
	pause time.Duration
}

// tell tells the log what the pass could not finish, and what is finished of what earlier
// ones could not. It returns the pass's errors. A pass that was called off says nothing.
func (p *pass) tell(ctx context.Context) error {
	if errors.Is(ctx.Err(), context.Canceled) {
		return ctx.Err()
	}
	ds := &p.register.doubts
	ds.mu.Lock()
	defer ds.mu.Unlock()
	if ds.known == nil {
		ds.known = map[string]*told{}
	}
	now := time.Now()
	lasts := map[string]bool{}
	for _, d := range p.doubts {
		lasts[d.key()] = true
		t := ds.known[d.key()]
		if t == nil {
			t = &told{since: now.Add(-d.age), next: now, pause: firstPause}
			ds.known[d.key()] = t
		}
		t.doubt = d
		if now.Before(t.next) {
			continue
		}
		t.next, t.pause = now.Add(t.pause), min(2*t.pause, maxPause)
		if d.id == "" {
			p.log.Warn("a shard can't be searched for unfinished transactions", "shard", d.shard, "reason", d.reason)
		} else {
			p.log.Warn("a distributed transaction can't be finished yet", "transaction", d.id, "state", d.state,
				"age", d.age.Round(time.Millisecond), "shard", d.shard, "reason", d.reason)
		}
	}
	for key, t := range ds.known {
		if lasts[key] || !p.over(t) {
			continue
		}
		delete(ds.known, key)
		switch {
		case t.id == "":
			p.log.Info("a shard can be searched for unfinished transactions again", "shard", t.shard, "after", now.Sub(t.since).Round(time.Millisecond))
		case !slices.Contains(p.settled, key): // else it was logged
			p.log.Info("a distributed transaction has been finished elsewhere", "transaction", t.id, "shard", t.shard, "after", now.Sub(t.since).Round(time.Millisecond))
		}
	}
	return errors.Join(p.errs...)
}

// over says that a doubt, which the pass hasn't met, is none any more: its shard was
// searched.
func (p *pass) over(t *told) bool {
	shard := p.register.shard(t.shard)
	if shard < 0 || p.admins[shard] == nil {
		return false
	}
	id, _ := p.register.parseID(t.id)
	return t.id == "" || slices.Contains(p.settled, t.key()) || !p.pending[prepareKey(id.txid, t.shard)]
}

// InDoubt is the number of transactions that the latest recovery could not finish, and the
// age of the oldest.
func (r *Register) InDoubt() (n int, oldest time.Duration) {
	r.doubts.mu.Lock()
	defer r.doubts.mu.Unlock()
	ids := map[string]bool{}
	for _, t := range r.doubts.known {
		if t.id != "" {
			ids[t.id] = true
			oldest = max(oldest, time.Since(t.since))
		}
	}
	return len(ids), oldest
}
