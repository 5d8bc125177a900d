package configs

import (
	"errors"
	"fmt"
	"net"
	"path/filepath"
	"strings"
)

// maxIdentifierBytes is the length of a name in PostgreSQL (NAMEDATALEN - 1);
// the server cuts longer ones off without an error.
const maxIdentifierBytes = 63

// checker looks at what one key alone can't show. It runs on a Config that may
// have errors already: what is absent or was refused is left out.
type checker struct {
	*Config
	refused map[string]bool // the keys whose values the decoder has refused
	errs    Errors
}

// check makes the parts of the Config that follow from others, and returns what
// is wrong.
func (c *Config) check(refused map[string]bool) Errors {
	k := &checker{Config: c, refused: refused}
	k.shards()
	k.tables()
	k.groups()
	k.users()
	k.addresses()
	k.tls()
	return k.errs
}

func (k *checker) add(key, message, hint string) {
	k.errs = append(k.errs, &Error{Position: k.Position(key), Message: message, Hint: hint})
}

// given reports whether the file has the key, right or wrong.
func (k *checker) given(key string) bool {
	_, ok := k.positions[key]
	return ok
}

func (k *checker) shards() {
	names := make(map[string]Position)
	home := -1
	for i := range k.Shards {
		s := &k.Shards[i]
		key := fmt.Sprintf("shards[%d]", i)
		if first, twice := names[s.Name]; twice {
			k.add(key+".name", "a second shard with this name", fmt.Sprintf("the first is on line %d", first.Line))
		} else if s.Name != "" {
			names[s.Name] = k.Position(key + ".name")
		}
		if s.Home && home >= 0 {
			k.add(key+".home", "a second home shard", fmt.Sprintf("the first is on line %d", k.Position(fmt.Sprintf("shards[%d].home", home)).Line))
		} else if s.Home {
			home = i
		}
	}
	if home < 0 && len(k.Shards) > 0 {
		k.Shards[0].Home = true
	}
	k.servers()
}

// servers checks the URLs, each for itself and all together.
func (k *checker) servers() {
	var database, databaseKey string
	seen := make(map[server]string) // the key of each server
	for i, s := range k.Shards {
		key := fmt.Sprintf("shards[%d].servers", i)
		switch {
		case len(s.Servers) == 0:
			if k.given(key) && !k.refused[key] {
				k.add(key, "a shard without servers", urlShape)
			}
			continue
		case len(s.Servers) > 1:
			k.add(key+"[1]", "a shard has one server for now: replicas are not supported yet", "keep the primary")
		}
		key += "[0]"
		if k.refused[key] {
			continue
		}
		srv, err := s.Servers[0].parse()
		var hinted *hintedError
		if errors.As(err, &hinted) {
			k.add(key, hinted.message, hinted.hint)
			continue
		}
		if first, twice := seen[srv]; twice {
			k.add(key, fmt.Sprintf("the same database as that of the shard on line %d", k.Position(first).Line),
				"each shard needs a database of its own, or rows would be counted twice")
		}
		seen[srv] = key
		switch {
		case database == "":
			database, databaseKey = srv.database, key
		case database != srv.database:
			k.add(key, fmt.Sprintf("the database has another name than that of the shard on line %d", k.Position(databaseKey).Line),
				"it must be the same on all shards: it is the one that clients connect to")
		}
	}
}

// reservedSchemas are PostgreSQL's own and the gateway's.
func reservedSchema(name string) bool {
	return name == "shardgate" || name == "information_schema" || strings.HasPrefix(name, "pg_")
}

func (k *checker) tables() {
	first := make(map[[2]string]string) // the key of each rule
	for i := range k.Tables {
		t := &k.Tables[i]
		key := fmt.Sprintf("tables[%d]", i)
		if t.Pos == (Position{}) {
			continue // no mapping, reported
		}
		k.tableName(t, key+".name")
		if t.Table != "" {
			name := [2]string{t.Schema, t.Table}
			if other, twice := first[name]; twice {
				k.add(key+".name", "a second rule for the same table", fmt.Sprintf("the first is on line %d", k.Position(other).Line))
			} else {
				first[name] = key
			}
		}
		k.tableKey(t, key)
	}
}

// tableName splits a rule's name. A rule whose name is refused has no Table.
func (k *checker) tableName(t *Table, key string) {
	if t.Name == "" {
		return // reported
	}
	schema, table, qualified := strings.Cut(t.Name, ".")
	if !qualified {
		schema, table = "public", t.Name
	}
	switch {
	case schema == "" || table == "" || strings.Contains(table, "."):
		k.add(key, "a table's name is table or schema.table", "a name that has a dot in itself is not supported")
	case strings.ContainsAny(t.Name, `"`):
		k.add(key, "a table's name is written without double quotes", "write it as PostgreSQL's catalog has it, with its case")
	case strings.Contains(schema, "*") || strings.Contains(table, "*") && table != "*":
		k.add(key, "* stands only for all tables of a schema: schema.*", "name the tables one by one, or the whole schema")
	case len(schema) > maxIdentifierBytes || len(table) > maxIdentifierBytes:
		k.add(key, "a name longer than PostgreSQL's 63 bytes", "")
	case reservedSchema(schema):
		k.add(key, "this schema is PostgreSQL's or the gateway's own", "remove the rule")
	default:
		t.Schema, t.Table = schema, table
	}
}

func (k *checker) tableKey(t *Table, key string) {
	hasKey := k.given(key + ".key")
	switch {
	case t.Reference && hasKey:
		k.add(key+".key", "a reference table has no key", "remove either key or reference")
	case t.Reference && k.given(key+".group"):
		k.add(key+".group", "a reference table has no group", "remove group: a reference table can be joined with any table on any shard")
	case !t.Reference && !hasKey && !k.refused[key+".reference"]:
		k.add(key, "a table needs either a key or reference: true", "without a rule, a table is local to the home shard")
	case t.Key != nil && len(t.Key) == 0:
		k.add(key+".key", "the key has no columns", "")
	}
	seen := make(map[string]bool)
	for i, column := range t.Key {
		pos := fmt.Sprintf("%s.key[%d]", key, i)
		t.KeyPos = append(t.KeyPos, k.Position(pos))
		switch {
		case len(column) > maxIdentifierBytes:
			k.add(pos, "a name longer than PostgreSQL's 63 bytes", "")
		case seen[column] && column != "":
			k.add(pos, "the column is in the key already", "")
		}
		seen[column] = true
	}
}

// groups checks that co-located tables can have equal keys.
func (k *checker) groups() {
	first := make(map[string]int)
	for i, t := range k.Tables {
		if t.Group == "" || len(t.Key) == 0 {
			continue
		}
		j, ok := first[t.Group]
		if !ok {
			first[t.Group] = i
			continue
		}
		if want := len(k.Tables[j].Key); len(t.Key) != want {
			k.add(fmt.Sprintf("tables[%d].key", i), fmt.Sprintf("the key has %s, but the group %s began with %s on line %d",
				columns(len(t.Key)), t.Group, columns(want), k.Tables[j].Pos.Line), "co-located tables have keys of the same columns, in the same order")
		}
	}
}

func columns(n int) string {
	if n == 1 {
		return "1 column"
	}
	return fmt.Sprintf("%d columns", n)
}

func (k *checker) users() {
	first := make(map[string]int)
	for i, u := range k.Auth.Users {
		key := fmt.Sprintf("auth.users[%d].name", i)
		if line, twice := first[u.Name]; twice && u.Name != "" {
			k.add(key, "a second user with this name", fmt.Sprintf("the first is on line %d", line))
			continue
		}
		first[u.Name] = u.Pos.Line
		if len(u.Name) > maxIdentifierBytes {
			k.add(key, "a name longer than PostgreSQL's 63 bytes", "")
		}
	}
	if k.Auth.Method == AuthSCRAM && len(k.Auth.Users) == 0 && !k.refused["auth.users"] {
		k.add("auth.method", "under scram-sha-256 nobody can connect, since there are no users", "add auth.users with a name and a password each")
	}
}

func (k *checker) addresses() {
	unsure := k.refused["listen"] || k.refused["auth.method"] || k.refused["auth.allow_trust_anywhere"]
	if err := k.checkListen(k.Listen); err != nil && !unsure {
		k.add("listen", err.message, err.hint)
	}
	if k.Metrics.Listen == "" {
		return
	}
	if _, err := splitAddress(k.Metrics.Listen); err != nil {
		k.add("metrics.listen", err.message, err.hint)
	} else if k.Metrics.Listen == k.Listen && !strings.HasSuffix(k.Listen, ":0") {
		k.add("metrics.listen", "the address on which clients connect already", "use another port")
	}
}

// SetListen makes address the one on which clients connect, in place of the
// file's, under the same rules. source names in the error where it comes from,
// for example "--listen".
func (c *Config) SetListen(source, address string) error {
	if err := c.checkListen(address); err != nil {
		return Errors{{Position: Position{File: source}, Message: err.message, Hint: err.hint}}
	}
	c.Listen = address
	return nil
}

func (c *Config) checkListen(address string) *hintedError {
	host, err := splitAddress(address)
	if err != nil {
		return err
	}
	if c.Auth.Method == AuthTrust && !c.Auth.AllowTrustAnywhere && !isLoopback(host) {
		return &hintedError{"with auth.method trust, clients are let in without a password, so the address must be a loopback one",
			"set auth.method to scram-sha-256, or auth.allow_trust_anywhere to true where nobody else can reach the address"}
	}
	return nil
}

func splitAddress(address string) (host string, _ *hintedError) {
	host, port, err := net.SplitHostPort(address)
	if err != nil {
		return "", &hintedError{"an address has the form host:port", "for example 127.0.0.1:6432, [::1]:6432, or 0.0.0.0:6432 for all interfaces"}
	}
	if n, err := parseInt(port); err != nil || n < 0 || n > 65535 {
		return "", &hintedError{"the port must be a number from 0 to 65535", ""}
	}
	return host, nil
}

// isLoopback reports whether only this machine can reach a host. A name other
// than localhost is not looked up and counts as reachable.
func isLoopback(host string) bool {
	ip := net.ParseIP(host)
	return host == "localhost" || ip != nil && ip.IsLoopback()
}

func (k *checker) tls() {
	t := &k.TLS
	for _, f := range []struct {
		key    string
		name   *string
		needed bool
	}{{"tls.cert", &t.Cert, true}, {"tls.key", &t.Key, true}, {"tls.ca", &t.CA, false}} {
		switch {
		case k.refused["tls.mode"] || k.refused[f.key]:
		case t.Mode == TLSDisable && *f.name != "":
			k.add(f.key, f.key+" has no effect while tls.mode is disable", "set tls.mode to prefer or require, or remove the file")
		case t.Mode != TLSDisable && *f.name == "" && f.needed:
			k.add("tls.mode", fmt.Sprintf("with tls.mode %s, %s is missing", t.Mode, f.key), "name the PEM files of the gateway's certificate and of its key")
		}
		if *f.name != "" && !filepath.IsAbs(*f.name) {
			*f.name = filepath.Join(filepath.Dir(k.File), *f.name)
		}
	}
}
