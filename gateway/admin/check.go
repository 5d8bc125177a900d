package admin

import (
	"context"
	"fmt"
	"io"
	"strconv"
	"text/tabwriter"
	"time"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/shardgate/shardgate/configs"
)

// facts are what is compared between servers.
type facts struct {
	version, prepared, encoding, collation, timezone, connections string
	number                                                        int
	create, standby, readOnly                                     bool
	err                                                           error
}

// minVersion is the oldest PostgreSQL that a shard may be.
const minVersion = 150000

// Check connects to each server of a configuration and reports on w what it finds,
// with what to do about problems. It returns their number.
func Check(ctx context.Context, cfg *configs.Config, w io.Writer) (problems int) {
	all := make([]facts, len(cfg.Shards))
	for i, s := range cfg.Shards {
		all[i] = look(ctx, string(s.Servers[0]), cfg.Pool.ConnectTimeout)
	}
	tab := tabwriter.NewWriter(w, 0, 8, 2, ' ', 0)
	fmt.Fprintln(tab, "shard\tserver\tversion\tmax_prepared_transactions\tencoding\tcollation\ttime zone")
	for i, s := range cfg.Shards {
		f := &all[i]
		if f.err != nil {
			fmt.Fprintf(tab, "%s\t%s\tnot reached\t\t\t\t\n", s.Name, s.Servers[0])
			continue
		}
		fmt.Fprintf(tab, "%s\t%s\t%s\t%s\t%s\t%s\t%s\n", s.Name, s.Servers[0], f.version, f.prepared, f.encoding, f.collation, f.timezone)
	}
	tab.Flush()
	say := func(format string, args ...any) {
		problems++
		fmt.Fprintf(w, "problem: "+format+"\n", args...)
	}
	home := cfg.HomeShard()
	base := &all[home]
	for i, s := range cfg.Shards {
		f := &all[i]
		if f.err != nil {
			say("shard %s: %v\n  See whether the server is up, and takes connections from here.", s.Name, f.err)
			continue
		}
		if f.number < minVersion {
			say("shard %s runs PostgreSQL %s; 15 is the oldest that works.", s.Name, f.version)
		}
		if f.standby {
			say("shard %s: the server is a standby, which takes no writes.\n  Promote it, or give the URL of the primary.", s.Name)
		} else if f.readOnly {
			say("shard %s: default_transaction_read_only is on, so that clients can change nothing there.\n  Turn it off, or have them set it.", s.Name)
		}
		prepared, _ := strconv.Atoi(f.prepared)
		connections, _ := strconv.Atoi(f.connections)
		switch {
		case prepared == 0:
			say("shard %s: max_prepared_transactions is 0, so that no transaction over several shards can be committed.\n  Set it to max_connections (%s) in postgresql.conf, and restart the server.", s.Name, f.connections)
		case prepared < cfg.Pool.Size:
			say("shard %s: max_prepared_transactions is %d, less than pool.size (%d).\n  Raise it to at least that, and restart the server.", s.Name, prepared, cfg.Pool.Size)
		}
		if connections <= cfg.Pool.Size {
			say("shard %s: max_connections is %d, and pool.size alone is %d.\n  Lower pool.size or raise max_connections.", s.Name, connections, cfg.Pool.Size)
		}
		if !f.create {
			say("shard %s: the gateway's role may not create the schema shardgate.\n  GRANT CREATE ON DATABASE to it, once.", s.Name)
		}
		if base.err != nil || i == home {
			continue
		}
		differ := func(what, own, other, todo string) {
			if own != other {
				say("shard %s: %s is %s, and %s on the home shard %s.\n  %s", s.Name, what, own, other, cfg.Shards[home].Name, todo)
			}
		}
		differ("the encoding", f.encoding, base.encoding, "Make the databases with the same encoding: text would differ between shards.")
		differ("the collation", f.collation, base.collation, "Make the databases with the same locale: comparisons and sorting would differ between shards.")
		differ("TimeZone", f.timezone, base.timezone, "Set the same TimeZone on all servers: dates would be read differently.")
		if f.number/10000 != base.number/10000 {
			say("shard %s runs PostgreSQL %s, and the home shard %s.\n  Use the same major version on all.", s.Name, f.version, base.version)
		}
	}
	return problems
}

// look asks one server.
func look(ctx context.Context, url string, timeout time.Duration) (f facts) {
	ctx, stop := context.WithTimeout(ctx, timeout)
	defer stop()
	c, err := pgconn.Connect(ctx, url)
	if err != nil {
		f.err = err
		return f
	}
	defer c.Close(context.Background())
	res, err := c.Exec(ctx, `SELECT current_setting('server_version'), current_setting('max_prepared_transactions'),
		pg_encoding_to_char(encoding), datcollate || '/' || datctype, current_setting('TimeZone'), current_setting('max_connections'),
		current_setting('server_version_num'), has_database_privilege(current_database(), 'CREATE'),
		pg_is_in_recovery(), current_setting('default_transaction_read_only')
		FROM pg_database WHERE datname = current_database()`).ReadAll()
	if err != nil {
		f.err = err
		return f
	}
	row := res[0].Rows[0]
	f.version, f.prepared, f.encoding, f.collation = string(row[0]), string(row[1]), string(row[2]), string(row[3])
	f.timezone, f.connections, f.create = string(row[4]), string(row[5]), string(row[7]) == "t"
	f.number, _ = strconv.Atoi(string(row[6]))
	f.standby, f.readOnly = string(row[8]) == "t", string(row[9]) == "on"
	return f
}
