package workload

import (
	"bytes"
	_ "embed"

	"github.com/shardgate/shardgate/bench/tpch"
)

//go:embed tables.yaml
var tables []byte

// Rules say how a gateway distributes the tables of all workloads, as a part of its
// configuration.
func Rules() []byte {
	_, more, _ := bytes.Cut(tpch.Distribution, []byte("\ntables:\n"))
	return append(bytes.Clone(tables), more...)
}
