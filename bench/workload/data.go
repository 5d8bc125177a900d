package workload

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/shardgate/shardgate/bench/target"
)

// Data is a set of tables that workloads share. How a gateway is to distribute them is in
// tables.yaml.
type Data struct {
	Name   string
	tables func(Size) []table
	// keyed is the table whose keys, 1 to keys, the workloads draw; "": there is none.
	keyed, key string
	keys       func(Size) int64
	// sums are queries of one row each, whose columns the servers' answers are added up by.
	sums []string
	// check says which invariants don't hold of the sums after transactions of the
	// workloads by name.
	check func(before, after []int64, done map[string]Tally) []error
	// fill fills the tables in a way of its own; nil: each is filled as its definition says.
	fill func(ctx context.Context, url string, size Size) error
	// fits says what is wrong with tables that are there, besides their columns and their
	// size; nil: nothing can be.
	fits func(ctx context.Context, s *target.Store, size Size) error
}

// Load makes the tables anew through the store's URL. What was in them is lost. Tables of
// the same names that don't have the columns of the benchmark's are an error and stay. No
// part of the tables is left after an error, or when ctx ends.
func (d *Data) Load(ctx context.Context, s *target.Store, size Size) error {
	tables := d.tables(size)
	if err := dropTables(ctx, s.URL, tables); err != nil {
		return err
	}
	fill := d.fill
	if fill == nil {
		fill = func(ctx context.Context, url string, size Size) error { return fillTables(ctx, url, size, tables) }
	}
	if err := fill(ctx, s.URL, size); err != nil {
		ctx, stop := context.WithTimeout(context.WithoutCancel(ctx), dropTimeout)
		defer stop()
		return errors.Join(err, dropTables(ctx, s.URL, tables))
	}
	return tidy(ctx, s, tables)
}

// dropTimeout bounds how long what is left of a load is dropped for.
const dropTimeout = 10 * time.Second

// Loaded says whether the tables are there and large enough. Tables that are there and
// too small, or that may be somebody else's, are an error.
func (d *Data) Loaded(ctx context.Context, s *target.Store, size Size) (bool, error) {
	there, err := loadedTables(ctx, s, size, d.tables(size))
	if there && err == nil && d.fits != nil {
		err = d.fits(ctx, s, size)
	}
	return there && err == nil, err
}

// State is what the invariants of some data are about, at one time.
type State struct {
	data     *Data
	sums     []int64
	prepared int64 // transactions
}

// State reads what the invariants are about. The error matches ErrUnchecked if the store
// can't tell.
func (d *Data) State(ctx context.Context, s *target.Store) (*State, error) {
	sums, err := total(ctx, s, d.sums...)
	if err != nil {
		return nil, err
	}
	prepared, err := preparedTransactions(ctx, s)
	return &State{data: d, sums: sums, prepared: prepared}, err
}

// Check says which invariants don't hold of a later state of the same store, after
// transactions of the workloads by name.
func (s *State) Check(later *State, done map[string]Tally) []error {
	wrong := s.data.check(s.sums, later.sums, done)
	if later.prepared > 0 {
		wrong = append(wrong, fmt.Errorf("%d transactions are still prepared", later.prepared))
	}
	return wrong
}

// unchanged is the check of tables that are only read.
func unchanged(before, after []int64) []error {
	for i := range before {
		if before[i] != after[i] {
			return []error{fmt.Errorf("tables that are only read have changed: %d before, %d now", before, after)}
		}
	}
	return nil
}
