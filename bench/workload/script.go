package workload

import (
	"math/rand/v2"

	"github.com/shardgate/shardgate/bench/load"
)

// Setup is what the script of one client is made for.
type Setup struct {
	Protocol load.Protocol
	Batch    int // transactions in one write, where the protocol is load.Pipelined
	Size     Size
	Keys     Keys
	HotShare float64 // of the draws of Hot and HotShard, from 0 to 1
	// Placement says where the keys of the data are; nil: not known.
	Placement *Placement
	Seed      uint64
	Client    int
	// Violation takes a wrong answer that makes all figures worthless. It may be called
	// by several clients at once.
	Violation func(error)
}

// script runs what fill draws, by any protocol.
type script struct {
	Setup
	work load.Work
	fill func(w *load.Work, rnd *rand.Rand)
}

// scripted makes the scripts of transactions in which no statement depends on the answer
// to another.
func scripted(fill func(s Setup) func(w *load.Work, rnd *rand.Rand)) func(Setup) load.Script {
	return func(s Setup) load.Script { return &script{Setup: s, fill: fill(s)} }
}

// Transaction runs one transaction, or if they are pipelined, a batch.
func (s *script) Transaction(c *load.Conn, rnd *rand.Rand) error {
	if s.Protocol == load.Pipelined {
		return c.Pipeline(s.Batch, &s.work, rnd, s.fill)
	}
	s.work.Reset()
	s.fill(&s.work, rnd)
	return c.Do(s.Protocol, &s.work)
}
