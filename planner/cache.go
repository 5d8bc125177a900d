package planner

import (
	"hash/maphash"
	"sync"

	"github.com/shardgate/shardgate/planner/sqltext"
)

// cacheShards is a power of two.
const cacheShards = 16

// Cache keeps the plans made in one environment, under the text without its
// literals. It is safe for concurrent use.
type Cache struct {
	seed   maphash.Seed
	limit  int // entries of one shard
	shards [cacheShards]struct {
		sync.RWMutex
		plans map[string]*Statement
	}
}

// NewCache makes a cache of at most about limit plans.
func NewCache(limit int) *Cache {
	c := &Cache{seed: maphash.MakeSeed(), limit: max(1, limit/cacheShards)}
	for i := range c.shards {
		c.shards[i].plans = map[string]*Statement{}
	}
	return c
}

func (c *Cache) get(key []byte) *Statement {
	s := &c.shards[maphash.Bytes(c.seed, key)&(cacheShards-1)]
	s.RLock()
	st := s.plans[string(key)]
	s.RUnlock()
	return st
}

// put stores a plan. When the shard is full some other plan makes room: which
// one is as good as random, so that no pattern of statements can defeat it.
func (c *Cache) put(key []byte, st *Statement) {
	s := &c.shards[maphash.Bytes(c.seed, key)&(cacheShards-1)]
	s.Lock()
	defer s.Unlock()
	if len(s.plans) >= c.limit {
		for k := range s.plans {
			delete(s.plans, k)
			break
		}
	}
	s.plans[string(key)] = st
}

// byText marks a fingerprint whose plans depend on the values of literals: they
// are kept under the whole text.
var byText = &Statement{TextSpecific: true}

// maxCachedBytes bounds a cached key: bulk statements don't repeat themselves.
const maxCachedBytes = 64 << 10

// Planner plans in one environment, with a cache. It is safe for concurrent use.
type Planner struct {
	Env    Env
	Guard  sqltext.GuardLimits
	Cached *Cache
}

// Plan plans a text without parameters' types. The literals returned lie in sc's
// buffer and are valid until its next use. The error is a *Refusal or ErrSeveral,
// for which parsed holds the pieces.
func (p *Planner) Plan(text []byte, sc *sqltext.Scanner) (st *Statement, lits []sqltext.Literal, parsed *Parsed, err error) {
	key, lits, lexErr := sc.Normalize(text)
	cacheable := lexErr == nil && len(key) <= maxCachedBytes
	if cacheable {
		st = p.Cached.get(key)
		if st == byText {
			st = p.Cached.get(text)
		}
		if st != nil {
			if err := st.instantIn(text, lits); err != nil {
				return nil, lits, nil, err
			}
			return st, lits, nil, nil
		}
	}
	parsed, err = Parse(string(text), p.Guard)
	if err != nil {
		return nil, lits, nil, err
	}
	if lexErr != nil {
		lits = nil
	}
	st, err = parsed.Plan(lits, &p.Env)
	if err != nil || !cacheable {
		return st, lits, parsed, err
	}
	switch {
	case !st.TextSpecific:
		p.Cached.put(key, st)
	case len(text) <= maxCachedBytes:
		p.Cached.put(key, byText)
		p.Cached.put(text, st)
	}
	return st, lits, parsed, nil
}

// PlanTyped plans the text of a prepared statement whose parameters have the
// given types (0 where the client left it to the server).
func (p *Planner) PlanTyped(text []byte, types []uint32, sc *sqltext.Scanner) (*Statement, []sqltext.Literal, error) {
	_, lits, lexErr := sc.Normalize(text)
	parsed, err := Parse(string(text), p.Guard)
	if err != nil {
		return nil, nil, err
	}
	if lexErr != nil {
		lits = nil
	}
	env := p.Env
	env.ParamTypes = types
	st, err := parsed.Plan(lits, &env)
	return st, lits, err
}
