// Package target is what a benchmark measures: names, addresses, the processes whose
// CPU time counts, and the data behind them. It starts the benchmark's own cluster,
// PostgreSQL and PgBouncer, and takes what others have started by its URL; and it starts
// the cluster of several gateways that package nemesis breaks.
//
// It does not make load and knows no table.
//
// The governing idea: what is measured runs in processes of its own, so that its CPU
// time can be told from that of the load.
package target

import (
	"fmt"
	"net/url"
	"slices"
	"strconv"
	"strings"

	"github.com/shardgate/shardgate/bench/measure"
)

// Role is what a process does for a target.
type Role string

const (
	Gateway Role = "gateway" // stands between the clients and the servers
	Server  Role = "servers"
)

// Part is a process, or a tree of them, that works for a target.
type Part struct {
	Role Role        `json:"role"`
	Name string      `json:"name"`
	CPU  measure.CPU `json:"cpu"`
}

// Store is the data behind one or several targets.
type Store struct {
	Name string `json:"name"`
	URL  string `json:"-"` // where it is loaded
	// Servers are the URLs of all servers that hold the data. What is summed or counted
	// is asked of them directly, so that a gateway's answers don't vouch for themselves.
	// If none are known, it is asked through URL.
	Servers []string `json:"-"`
	// Own says that the benchmark has made the store and may replace what is in it.
	Own bool `json:"own"`
}

// Target is something that speaks the protocol at an address.
type Target struct {
	Name string `json:"name"`
	URL  string `json:"-"` // may hold a password
	// Beside are the URLs of further servers to which a client of Direct connects.
	Beside []string `json:"-"`
	Parts  []Part   `json:"parts"`
	Store  *Store   `json:"store"`
	// PreparedURL is where statements are prepared, if that is another address, and
	// PreparedNote says why.
	PreparedURL  string `json:"-"`
	PreparedNote string `json:"prepared_note,omitempty"`
	// Metrics is the URL of its gateway's metrics; "": not known.
	Metrics string `json:"-"`
	// Profiled says that a CPU profile of its gateway can be written.
	Profiled bool `json:"-"`
}

// Has says whether a part of the target has the role.
func (t *Target) Has(r Role) bool {
	for _, p := range t.Parts {
		if p.Role == r {
			return true
		}
	}
	return false
}

// Foreign makes targets of `name=URL` arguments, whose names must not be among taken. servers are `name=URL` of the servers
// behind a target, pids `name=PID` of the processes of its gateway, and metrics `name=URL`
// of the page on which the gateway shows its metrics.
func Foreign(taken, targets, servers, pids, metrics []string) ([]*Target, error) {
	var list []*Target
	byName := map[string]*Target{}
	for _, arg := range targets {
		name, u, err := cut("--target", arg)
		if err != nil {
			return nil, err
		}
		if byName[name] != nil || slices.Contains(taken, name) {
			return nil, fmt.Errorf("--target %s: the name is taken", name)
		}
		if _, err := url.Parse(u); err != nil {
			return nil, fmt.Errorf("--target %s: the URL can't be read", name) // it may hold a password
		}
		t := &Target{Name: name, URL: u, Store: &Store{Name: name, URL: u}}
		byName[name] = t
		list = append(list, t)
	}
	for _, arg := range servers {
		name, u, err := cut("--server", arg)
		if err != nil {
			return nil, err
		}
		t := byName[name]
		if t == nil {
			return nil, fmt.Errorf("--server %s: there is no --target of that name", name)
		}
		t.Store.Servers = append(t.Store.Servers, u)
	}
	for _, arg := range pids {
		name, number, err := cut("--pid", arg)
		if err != nil {
			return nil, err
		}
		t := byName[name]
		if t == nil {
			return nil, fmt.Errorf("--pid %s: there is no --target of that name", name)
		}
		pid, err := strconv.Atoi(number)
		if err != nil || pid < 1 {
			return nil, fmt.Errorf("--pid %s: %q is no process id", name, number)
		}
		t.Parts = append(t.Parts, Part{Role: Gateway, Name: name, CPU: measure.CPU{PID: pid, Tree: true}})
	}
	for _, arg := range metrics {
		name, u, err := cut("--metrics", arg)
		if err != nil {
			return nil, err
		}
		t := byName[name]
		if t == nil {
			return nil, fmt.Errorf("--metrics %s: there is no --target of that name", name)
		}
		t.Metrics = u
	}
	return list, nil
}

func cut(flag, arg string) (name, value string, err error) {
	name, value, ok := strings.Cut(arg, "=")
	if !ok || name == "" || value == "" {
		return "", "", fmt.Errorf("%s %q: write it as name=value", flag, arg)
	}
	return name, value, nil
}
