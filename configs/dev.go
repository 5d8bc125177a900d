package configs

import (
	_ "embed"
	"slices"
)

//go:embed dev.yaml
var devYAML []byte

// Dev returns the configuration that `shardgate dev` uses when it is given no
// file: no shards, and the tables of pgbench distributed. It is for
// ParseWithoutShards; the caller owns the bytes.
func Dev() []byte { return slices.Clone(devYAML) }
