// Package configs holds the YAML files that a user copies and the code that
// reads them: Load and Parse turn a file into a Config or into every error
// that it has, each with its file, line, column and a hint.
//
// It does not connect to anything and opens no file but the one it is given:
// whether a server answers or a table has its key column is for later checks,
// which report with the Position kept here.
//
// Its governing idea: the struct tags of Config are the one description of a
// key. The decoder, the JSON Schema and the reference in docs/configuration.md
// all follow them.
package configs

import (
	"log/slog"
	"time"
)

// Config is a whole configuration: every key has its value or its default, and
// all checks that need only the file have passed. It is not changed after
// Parse returns it and can then be read by any number of goroutines.
//
// Struct tags, which fields.go reads:
//
//   - yaml: the key; a field without it is not a key.
//   - default: the value, as one would write it, of a key that is absent.
//   - min, max: the bounds of a number, a duration or a size, both included;
//     of a list, the number of its elements.
//   - enum: the accepted words, separated by commas.
//   - pattern: the regular expression that a text must match.
//   - required: the key must be present.
//
// A field's comment is the key's description in the reference and the schema.
type Config struct {
	// Address on which clients connect, `host:port`. Port 0 takes any free port.
	// With a host other than a loopback address, `auth.method` must be
	// `scram-sha-256`, unless `auth.allow_trust_anywhere` is true.
	Listen string `yaml:"listen" default:"127.0.0.1:6432"`

	// The shards. Together they hold each row of a distributed table once.
	Shards []Shard `yaml:"shards" required:"true" min:"1" max:"256"`

	// Which tables are distributed and by which key, and which are reference
	// tables. A table that no rule names is local: it lives on the home shard
	// only. A rule that matches no table yet is no error.
	Tables []Table `yaml:"tables" max:"10000"`

	// Connections from the gateway to the shards.
	Pool Pool `yaml:"pool"`

	// How long the gateway waits for a client and for itself.
	Timeouts Timeouts `yaml:"timeouts"`

	// Bounds on what clients may use of the gateway and of the shards.
	Limits Limits `yaml:"limits"`

	// How many processors the gateway uses at once. 0 means half of those that it
	// may use, one at least: the system's network code is kept busy by it as well.
	// The environment variable `GOMAXPROCS` has the last word.
	Processors int `yaml:"processors" default:"0" min:"0" max:"1024"`

	// Encryption of client connections. Toward the shards, `sslmode` and its
	// companions in each server's URL say what is wanted.
	TLS TLS `yaml:"tls"`

	// How clients prove who they are.
	Auth Auth `yaml:"auth"`

	// The gateway's own log, written to standard error.
	Log Log `yaml:"log"`

	// Metrics in the text format of Prometheus.
	Metrics Metrics `yaml:"metrics"`

	// What all gateways in front of the same shards have in common.
	Cluster Cluster `yaml:"cluster"`

	// File is the name that Parse was given.
	File string

	// Warnings are what a reader of the file should be told although it is
	// valid; nil nearly always.
	Warnings []*Error

	positions map[string]Position
}

// Shard is one part of the data: a set of servers that hold the same rows.
type Shard struct {
	// Name of the shard. It becomes part of the names of prepared transactions
	// and of the stored placement: once used, it must not be changed.
	Name string `yaml:"name" required:"true" pattern:"^[a-z0-9_-]{1,32}$"`

	// Share of the rows that this shard takes, relative to the other shards'
	// weights.
	Weight int `yaml:"weight" default:"1" min:"1" max:"100"`

	// Whether this shard holds the local tables, answers queries to the system
	// catalogs and keeps the gateway's own schema. Exactly one shard does: the
	// first, unless another says `home: true`.
	Home bool `yaml:"home" default:"false"`

	// URLs of the shard's servers, `postgres://user@host:port/database`, with
	// the parameters of libpq such as `sslmode=verify-full`. The user and the
	// database must be named, and the database must have the same name on all
	// shards. Exactly one server for now: replicas are not supported yet.
	Servers []ServerURL `yaml:"servers" required:"true"`

	// Pos is where the shard begins in the file.
	Pos Position
}

// Table is one rule: how a table, or all tables of a schema, are spread over
// the shards. Either Key has columns or Reference is true.
type Table struct {
	// Name of the table as PostgreSQL's catalog has it: case matters, and there
	// are no quotes. `orders` means `public.orders`; `audit.*` means all tables
	// of the schema audit that no other rule names.
	Name string `yaml:"name" required:"true"`

	// Column, or list of columns, whose value decides on which shard a row
	// lives.
	Key Columns `yaml:"key" max:"32"`

	// Co-location group: rows of tables in the same group that have equal keys
	// live on the same shard, so that joins on the key stay there. All tables of
	// a group have the same number of key columns. A table without a group is
	// alone in its own, and so is each table that a rule with `*` matches.
	Group string `yaml:"group" pattern:"^[A-Za-z0-9_-]{1,63}$"`

	// Whether every shard holds a full copy: written everywhere, read anywhere.
	// A reference table has neither `key` nor `group`.
	Reference bool `yaml:"reference" default:"false"`

	// Schema and Table are the two parts of Name; Table is "*" in a rule for a
	// whole schema.
	Schema, Table string

	// Pos is where the rule begins in the file.
	Pos Position

	// KeyPos has the position of each column in Key.
	KeyPos []Position
}

// Columns is a list of column names, in YAML one name or a list of them.
type Columns []string

// Pool bounds the connections from the gateway to the shards.
type Pool struct {
	// Connections to one shard under one role. A client's transaction holds one
	// on each shard that it touches. Over all gateways and roles, the sum must
	// stay below the server's `max_connections`.
	Size int `yaml:"size" default:"40" min:"1" max:"10000"`

	// Connections to the home shard under one role on which rows of several shards
	// are gathered in temporary tables, besides those of `size`: as many statements
	// of that kind run, and cursors over such tables are open, at a time.
	GatherSize int `yaml:"gather_size" default:"10" min:"1" max:"10000"`

	// How long a statement waits for a connection before it fails.
	AcquireTimeout time.Duration `yaml:"acquire_timeout" default:"10s" min:"1ms" max:"1h"`

	// How long opening a connection to a server may take, authentication
	// included.
	ConnectTimeout time.Duration `yaml:"connect_timeout" default:"5s" min:"10ms" max:"10m"`

	// After how long without use a connection is closed.
	IdleTimeout time.Duration `yaml:"idle_timeout" default:"10m" min:"1s" max:"168h"`

	// After how long a connection is closed at the next occasion, even if it is
	// in use all the time.
	MaxLifetime time.Duration `yaml:"max_lifetime" default:"1h" min:"1s" max:"168h"`
}

// Timeouts bounds how long the gateway waits.
type Timeouts struct {
	// Time within which a client must have authenticated itself after it
	// connected.
	Login time.Duration `yaml:"login" default:"10s" min:"100ms" max:"10m"`

	// Time that clients have to finish their transactions when the gateway is
	// told to stop; then their connections are closed.
	Shutdown time.Duration `yaml:"shutdown" default:"30s" min:"0s" max:"1h"`

	// Pause between two searches for distributed transactions that another
	// gateway, or an earlier run, left unfinished.
	RecoveryInterval time.Duration `yaml:"recovery_interval" default:"5s" min:"100ms" max:"1h"`

	// How old a prepared transaction of another gateway has to be before it is
	// finished in its place. An earlier recovery would be correct too, but abort
	// what is going well.
	RecoveryGrace time.Duration `yaml:"recovery_grace" default:"2s" min:"0s" max:"1h"`

	// For how long the outcome of a transaction that was in doubt can be asked for
	// by shardgate.transaction_status, from when it was finished on all shards.
	OutcomeRetention time.Duration `yaml:"outcome_retention" default:"168h" min:"0s" max:"87600h"`

	// How long a read over several shards waits for its snapshot, while
	// transactions over several shards are being committed; then it fails with
	// SQLSTATE 55P03. A session may set its own, shardgate.fence_timeout.
	Fence time.Duration `yaml:"fence" default:"30s" min:"10ms" max:"1h"`

	// How long a transaction waits for a lock before it is looked whether
	// transactions wait for each other in a circle over several shards, like
	// PostgreSQL's deadlock_timeout, which is for circles on one server.
	Deadlock time.Duration `yaml:"deadlock" default:"1s" min:"50ms" max:"1h"`

	// How long a shard may have nothing to say to what it was asked, until it is
	// looked whether it is at work on that. If it can't be reached, or waits itself
	// for what was lost on the way, the connection is given up; a statement that
	// only takes long is left alone.
	Silence time.Duration `yaml:"silence" default:"10s" min:"50ms" max:"1h"`

	// Pause between two looks at the home shard for a schema that was changed
	// by someone other than this gateway.
	SchemaPoll time.Duration `yaml:"schema_poll" default:"1s" min:"10ms" max:"1h"`
}

// Limits bounds memory and counts.
type Limits struct {
	// Clients connected at a time; a further one is refused with SQLSTATE 53300.
	ClientConnections int `yaml:"client_connections" default:"10000" min:"1" max:"1000000"`

	// Length of one protocol message from a client. The default and the upper
	// bound are PostgreSQL's own.
	MessageBytes Bytes `yaml:"message_bytes" default:"1GiB" min:"64KiB" max:"1GiB"`

	// Length of one SQL statement.
	StatementBytes Bytes `yaml:"statement_bytes" default:"16MiB" min:"1KiB" max:"1GiB"`

	// Rows that one SELECT may bring together on one shard, because their tables
	// are not joined by their keys or for the like; beyond it, the statement fails
	// with SQLSTATE 53400. A session may set its own bound, shardgate.gather_limit,
	// between 64KiB and this.
	GatherBytes Bytes `yaml:"gather_bytes" default:"1GiB" min:"64KiB" max:"1024GiB"`

	// Plans kept for statements that come again.
	PlanCacheEntries int `yaml:"plan_cache_entries" default:"5000" min:"1" max:"1000000"`

	// Prepared statements that one client may have at a time.
	PreparedStatements int `yaml:"prepared_statements" default:"10000" min:"1" max:"1000000"`

	// Prepared statements kept on one connection to a shard; beyond it, the one
	// that was not used for longest is closed there.
	ShardPreparedStatements int `yaml:"shard_prepared_statements" default:"500" min:"1" max:"100000"`
}

// TLSMode says whether clients connect with TLS.
type TLSMode string

// The modes of TLS for clients.
const (
	TLSDisable TLSMode = "disable" // a client that asks for TLS is told no
	TLSPrefer  TLSMode = "prefer"  // the client chooses
	TLSRequire TLSMode = "require" // a client without TLS is refused
)

// TLS is the encryption of client connections. Relative file names count from
// the folder of the configuration file; Parse has made them whole.
type TLS struct {
	// `disable`: a client that asks for TLS is told that there is none.
	// `prefer`: the client chooses. `require`: a client without TLS is refused.
	Mode TLSMode `yaml:"mode" default:"disable" enum:"disable,prefer,require"`

	// File with the gateway's certificate and its chain, PEM. A relative name
	// counts from the folder of the configuration file.
	Cert string `yaml:"cert"`

	// File with the certificate's private key, PEM.
	Key string `yaml:"key"`

	// File with certificates of authorities, PEM. A certificate that a client
	// presents must be signed by one of them. A client may do without one; it
	// authenticates by `auth` in either case.
	CA string `yaml:"ca"`
}

// AuthMethod says how clients authenticate.
type AuthMethod string

// The methods of authentication.
const (
	AuthTrust AuthMethod = "trust"
	AuthSCRAM AuthMethod = "scram-sha-256"
)

// Auth says who may connect.
type Auth struct {
	// `trust`: any client may be any role, without a password; only on a
	// loopback address. `scram-sha-256`: the roles in `users`, with their
	// passwords.
	Method AuthMethod `yaml:"method" default:"trust" enum:"trust,scram-sha-256"`

	// Roles that may connect under `scram-sha-256`; any other is refused. Under
	// `trust`, the passwords with which the gateway logs in at the shards.
	Users []User `yaml:"users" max:"10000"`

	// Permits `trust` on an address that other machines can reach. Then whoever
	// reaches it has all the rights of any role.
	AllowTrustAnywhere bool `yaml:"allow_trust_anywhere" default:"false"`
}

// User is a role and its password.
type User struct {
	// Name of the role, the same on the gateway and on all shards.
	Name string `yaml:"name" required:"true"`

	// The password itself, since the gateway also logs in at the shards with
	// it. Best taken from the environment: `${APP_PASSWORD}`.
	Password Secret `yaml:"password" required:"true"`

	// Pos is where the user begins in the file.
	Pos Position
}

// LogFormat is the form of a line in the log.
type LogFormat string

// The formats of the log.
const (
	LogText LogFormat = "text"
	LogJSON LogFormat = "json"
)

// Log is how the gateway logs.
type Log struct {
	// Least severity that is logged.
	Level string `yaml:"level" default:"info" enum:"debug,info,warn,error"`

	// `text` has `name=value` pairs, `json` an object a line.
	Format LogFormat `yaml:"format" default:"text" enum:"text,json"`
}

// SlogLevel returns Level as log/slog has it.
func (l Log) SlogLevel() slog.Level {
	var level slog.Level
	// The decoder admits only words that slog knows; the zero Log is info.
	_ = level.UnmarshalText([]byte(l.Level))
	return level
}

// Metrics is where the gateway shows its metrics.
type Metrics struct {
	// Address on which `/metrics` is served by HTTP, `host:port`. Empty: nowhere.
	Listen string `yaml:"listen"`
}

// Cluster is what several gateways share.
type Cluster struct {
	// Name of the cluster. It becomes part of the names of prepared
	// transactions, so clusters that share a server don't touch each other's.
	// The same on all gateways of a cluster; must not be changed once used.
	Name string `yaml:"name" default:"shardgate" pattern:"^[a-z0-9_-]{1,32}$"`
}

// HomeShard returns the index in Shards of the home shard, -1 if there is no
// shard at all.
func (c *Config) HomeShard() int {
	for i := range c.Shards {
		if c.Shards[i].Home {
			return i
		}
	}
	return min(0, len(c.Shards)-1)
}

// Rule returns the rule for a table, and false for a table that no rule names
// and that is local for this reason. An empty schema means public. A rule with
// the table's exact name wins over one for its whole schema. The rule belongs
// to c and must not be changed. It looks through all rules: it is for reading a
// schema, not for each statement.
func (c *Config) Rule(schema, table string) (*Table, bool) {
	if schema == "" {
		schema = "public"
	}
	var whole *Table
	for i := range c.Tables {
		t := &c.Tables[i]
		if t.Schema != schema {
			continue
		}
		switch t.Table {
		case table:
			return t, true
		case "*":
			whole = t
		}
	}
	return whole, whole != nil
}

// GroupOf returns the co-location group of a table that the rule names: two
// tables are co-located exactly when it is the same for both. For a rule
// without a group it is the table's own qualified name, which no configured
// group can be called. It is empty for a reference table.
func (t *Table) GroupOf(schema, table string) string {
	switch {
	case t.Reference:
		return ""
	case t.Group != "":
		return t.Group
	case schema == "":
		schema = "public"
	}
	return schema + "." + table
}

// Position returns where the value of a key stands in the file, for example
// "tls.cert" or "tables[2].key[0]". For a key that is absent it is the place of
// the nearest one around it.
func (c *Config) Position(key string) Position {
	for {
		if p, ok := c.positions[key]; ok {
			return p
		}
		if key == "" {
			return Position{File: c.File, Line: 1, Column: 1}
		}
		key = parentKey(key)
	}
}
