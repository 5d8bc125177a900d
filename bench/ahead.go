package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"syscall"
	"time"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/shardgate/shardgate/bench/measure"
	"github.com/shardgate/shardgate/bench/target"
)

// checkAhead finds what would fail later, before minutes are spent.
func (r *runner) checkAhead(ctx context.Context) error {
	for _, c := range r.cells {
		if err := checkFiles(c, r.filesOf(c)); err != nil {
			return err
		}
	}
	if err := r.checkOutput(); err != nil {
		return err
	}
	for _, t := range r.foreign {
		if err := reach(ctx, t); err != nil {
			return fmt.Errorf("%s: %w", t.Name, err)
		}
	}
	return nil
}

// ownFiles are what the processes have open besides clients.
const ownFiles = 400

// filesOf is how many files the process that needs most of them has open in a cell: this
// one, or that of the embedded gateway, which has a connection to each shard for a client.
func (p *plan) filesOf(c cell) int {
	clients := c.clients + c.readers
	if c.workload.Connecting != 0 {
		return clients + ownFiles
	}
	here := clients * len(p.foreign)
	if !p.Embedded {
		return here + ownFiles
	}
	here += 2 * clients
	for _, also := range []bool{p.WithPgbouncer, p.WithRelay} {
		if also {
			here += clients
		}
	}
	if c.workload.Direct != nil {
		here += clients * p.Shards
	}
	return max(here, clients*(1+p.Shards)) + ownFiles
}

// checkFiles says what is needed if the system does not let a process have so many files.
func checkFiles(c cell, need int) error {
	var limit syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &limit); err != nil {
		return err
	}
	if uint64(limit.Cur) < uint64(need) {
		return fmt.Errorf("%s: that takes up to %d open files in this process or in the gateway's, and the system allows %d: raise the limit (ulimit -n %d), or use fewer clients", c, need, limit.Cur, need)
	}
	return nil
}

// checkOutput makes the folders of what is written at the end, and tries to write there.
func (p *plan) checkOutput() error {
	for _, dir := range []string{p.Report, p.options.Profile} {
		if dir == "" {
			continue
		}
		if err := os.MkdirAll(dir, 0o755); err != nil {
			return err
		}
		f, err := os.CreateTemp(dir, "try-")
		if err != nil {
			return err
		}
		if err := errors.Join(f.Close(), os.Remove(f.Name())); err != nil {
			return err
		}
	}
	if p.JSON == "" {
		return nil
	}
	if err := os.MkdirAll(filepath.Dir(p.JSON), 0o755); err != nil {
		return err
	}
	f, err := os.OpenFile(p.JSON, os.O_WRONLY|os.O_CREATE, 0o644) // what is in it stays for now
	if err != nil {
		return err
	}
	return f.Close()
}

// reachTimeout is for one connection.
const reachTimeout = 10 * time.Second

// reach tries all addresses that are given for a target of others.
func reach(ctx context.Context, t *target.Target) error {
	for _, url := range append([]string{t.URL}, t.Store.Servers...) {
		within, stop := context.WithTimeout(ctx, reachTimeout)
		conn, err := pgconn.Connect(within, url)
		stop()
		if err != nil {
			return err
		}
		if err := conn.Close(ctx); err != nil {
			return err
		}
	}
	if _, err := cpuOf(t); err != nil {
		return err
	}
	if t.Metrics == "" {
		return nil
	}
	if _, err := measure.HeapOf(ctx, t.Metrics); err != nil {
		return fmt.Errorf("its metrics: %w", err)
	}
	return nil
}
