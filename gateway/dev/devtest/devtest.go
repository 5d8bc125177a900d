// Package devtest gives tests a whole cluster in their own process: the shards and the gateway that `shardgate dev`
// starts. It is not for tests of the command, or of gateways that are killed; gateway/e2e starts processes for these.
package devtest

import (
	"context"
	"log/slog"
	"testing"
	"time"

	"github.com/shardgate/shardgate/configs"
	"github.com/shardgate/shardgate/gateway/dev"
	"github.com/shardgate/shardgate/gateway/localpg/pgtest"
)

const (
	startTimeout = 2 * time.Minute // on a machine that runs many tests
	stopTimeout  = 30 * time.Second
	tailLines    = 40 // of each server's log, shown when the test fails
)

// Start starts a cluster whose configuration is cfg with so many shards in it. It is stopped and removed at the end of
// the test. The gateway's log is the test's output, and the servers' logs are shown if the test fails.
//
// The test's package needs pgtest.Main.
func Start(tb testing.TB, shards int, cfg *configs.Config) *dev.Cluster {
	tb.Helper()
	ctx, cancel := context.WithTimeout(tb.Context(), startTimeout)
	defer cancel()
	c, err := dev.Start(ctx, dev.Options{Shards: shards, Dir: pgtest.Dir(tb), Config: cfg, Unsafe: true,
		Template: pgtest.Template(tb), Log: slog.New(slog.NewTextHandler(tb.Output(), nil)).With("shards", shards)})
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() {
		if tb.Failed() {
			for _, s := range c.Servers {
				tb.Logf("log of %s:\n%s", s.Name(), s.LogTail(tailLines))
			}
		}
		ctx, cancel := context.WithTimeout(context.Background(), stopTimeout)
		defer cancel()
		c.Stop(ctx)
	})
	return c
}
