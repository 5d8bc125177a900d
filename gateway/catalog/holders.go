package catalog

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"

	"github.com/shardgate/shardgate/gateway/pool"
	"github.com/shardgate/shardgate/shardmap"
)

// CheckHolders checks that each configured shard that holds rows by the stored map
// has been part of the cluster before. It changes nothing, and comes before
// anything is made on the shards: an empty database that a wrong URL leads to
// would be taken in as the shard, and its rows would be missed by nobody.
func CheckHolders(ctx context.Context, pools *pool.Pools, home int) error {
	held, err := holders(ctx, pools, home)
	if err != nil {
		return fmt.Errorf("shard %s: %w", pools.Shards[home].Name, err)
	}
	for i, s := range pools.Shards {
		if !held[s.Name] || i == home {
			continue
		}
		known, err := hasRelation(ctx, pools, i, "shardgate.identity")
		if err == nil && !known {
			err = errors.New("the shard holds rows, and the server's database has never been part of the cluster: is the URL right?")
		}
		if err != nil {
			return fmt.Errorf("shard %s: %w", s.Name, err)
		}
	}
	return nil
}

// holders are the names of the shards in the stored map; none before there is one.
func holders(ctx context.Context, pools *pool.Pools, home int) (map[string]bool, error) {
	if has, err := hasRelation(ctx, pools, home, "shardgate.map"); err != nil || !has {
		return nil, err
	}
	conn, err := pools.Admin(ctx, home)
	if err != nil {
		return nil, err
	}
	defer conn.Close()
	res, err := conn.QueryTimeout("SELECT encode(map, 'hex') FROM shardgate.map ORDER BY version DESC LIMIT 1", timeout)
	if err != nil || len(res.Rows) == 0 {
		return nil, err
	}
	b, err := hex.DecodeString(res.Value(0))
	if err != nil {
		return nil, fmt.Errorf("the stored shard map can't be read: %w", err)
	}
	m, err := shardmap.ParseMap(b)
	if err != nil {
		return nil, fmt.Errorf("the stored shard map can't be read: %w", err)
	}
	held := map[string]bool{}
	for _, name := range m.Shards() {
		held[name] = true
	}
	return held, nil
}

func hasRelation(ctx context.Context, pools *pool.Pools, shard int, name string) (bool, error) {
	conn, err := pools.Admin(ctx, shard)
	if err != nil {
		return false, err
	}
	defer conn.Close()
	res, err := conn.QueryTimeout("SELECT pg_catalog.to_regclass('"+name+"') IS NOT NULL", timeout)
	if err != nil {
		return false, err
	}
	return res.Value(0) == "t", nil
}
