package target

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"github.com/shardgate/shardgate/bench/measure"
	"github.com/shardgate/shardgate/gateway/dev"
)

// loginSeconds is how long a gateway waits for a client's password where very many connect
// at once: the clients share the machine with it.
const loginSeconds = 120

// StartSCRAM starts another gateway before the shards of the embedded cluster, to which
// clients log in with a password. tables are those of its configuration, in YAML. The
// caller calls stop.
func (e *Embedded) StartSCRAM(ctx context.Context, tables []byte, clients int, log io.Writer) (t *Target, stop func(), err error) {
	var store *Store
	for _, each := range e.Targets {
		if each.Name == Shardgate {
			store = each.Store
		}
	}
	if store == nil {
		return nil, nil, errors.New("there is no cluster")
	}
	address, err := freeAddress()
	if err != nil {
		return nil, nil, err
	}
	const password = "benchmark"
	var config strings.Builder
	fmt.Fprintf(&config, "listen: %s\nlimits: {client_connections: %d}\ntimeouts: {login: %ds}\n", address, clients+100, loginSeconds)
	fmt.Fprintf(&config, "auth: {method: scram-sha-256, users: [{name: %s, password: %s}]}\nshards:\n", dev.User, password)
	for i, url := range store.Servers {
		fmt.Fprintf(&config, "  - {name: %s, servers: [%q]}\n", shardName(i), url)
	}
	config.Write(tables)
	dir, err := os.MkdirTemp(e.Dir, "scram-")
	if err != nil {
		return nil, nil, err
	}
	file := filepath.Join(dir, "gateway.yaml")
	if err := os.WriteFile(file, []byte(config.String()), 0o600); err != nil {
		return nil, nil, err
	}
	g := &GatewayProcess{URL: "postgresql://" + dev.User + ":" + password + "@" + address + "/" + dev.Database + "?sslmode=disable", config: file, log: log}
	if err := g.Start(ctx); err != nil {
		return nil, nil, err
	}
	return &Target{Name: Shardgate, URL: g.URL, Store: store,
		Parts: []Part{{Role: Gateway, Name: Shardgate, CPU: measure.CPU{PID: g.cmd.Process.Pid}}}}, g.Kill, nil
}
