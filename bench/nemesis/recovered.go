package nemesis

import (
	"context"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/shardgate/shardgate/bench/target"
	"github.com/shardgate/shardgate/gateway/dev"
)

// recoveryTimeout is how long a cluster may take to be whole after the last fault is healed.
const recoveryTimeout = 30 * time.Second

// Recovered waits until every gateway answers and no transaction is prepared on any shard,
// and returns how long that took. query is one for all shards.
func Recovered(ctx context.Context, c *target.Cluster, query string) (time.Duration, error) {
	began := time.Now()
	for {
		err := whole(ctx, c, query)
		if took := time.Since(began); err == nil || took > recoveryTimeout || ctx.Err() != nil {
			return took, err
		}
		time.Sleep(50 * time.Millisecond)
	}
}

func whole(ctx context.Context, c *target.Cluster, query string) error {
	ctx, stop := context.WithTimeout(ctx, recoveryTimeout)
	defer stop()
	for i, g := range c.Gateways {
		if err := ask(ctx, g.URL, query, nil); err != nil {
			return fmt.Errorf("gateway %d: %w", i+1, err)
		}
	}
	for _, s := range c.Servers {
		var n int
		if err := ask(ctx, s.URL(dev.User, dev.Database), "SELECT count(*) FROM pg_prepared_xacts", &n); err != nil {
			return fmt.Errorf("shard %s: %w", s.Name(), err)
		}
		if n > 0 {
			return fmt.Errorf("shard %s: %d transactions are still prepared", s.Name(), n)
		}
	}
	return nil
}

// ask runs a query, and reads one value of it if that is wanted.
func ask(ctx context.Context, url, query string, to *int) error {
	conn, err := pgx.Connect(ctx, url)
	if err != nil {
		return err
	}
	defer conn.Close(ctx)
	if to != nil {
		return conn.QueryRow(ctx, query).Scan(to)
	}
	_, err = conn.Exec(ctx, query)
	return err
}
