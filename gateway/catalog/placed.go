package catalog

import (
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/shardgate/shardgate/configs"
	"github.com/shardgate/shardgate/gateway/pool"
	"github.com/shardgate/shardgate/planner"
	"github.com/shardgate/shardgate/shardmap"
	"github.com/shardgate/shardgate/wire"
)

// placedSQL makes the list of distributed tables whose rows are known to be where
// the rule for them says. A rule that is given to a table with rows, or changed, would
// otherwise make rows invisible without a word.
const placedSQL = `CREATE TABLE IF NOT EXISTS shardgate.tables (
	schema_name name, table_name name, distribution text NOT NULL, PRIMARY KEY (schema_name, table_name))`

// verifyTimeout bounds the look at the rows of one table on one shard, which reads
// all of them.
const verifyTimeout = 10 * time.Minute

// verify makes sure that the rows of each distributed table are where its rule says.
// A table is looked at once, when it is first seen; what is wrong is noted as a
// problem, and the table can't be used.
func (c *reading) verify(conns []*pool.Conn, s *Snapshot) error {
	home := conns[c.home]
	res, err := home.QueryTimeout("SELECT schema_name, table_name, distribution FROM shardgate.tables", timeout)
	if err != nil {
		return err
	}
	known := map[string]string{}
	for _, row := range res.Rows {
		known[string(row[0])+"."+string(row[1])] = string(row[2])
	}
	var failed error
	s.Schema.Distributed(func(t *planner.Table) {
		if failed != nil || t.Kind != 'r' && t.Kind != 'p' || t.Distribution == planner.Sharded && t.Key == nil {
			return
		}
		name := t.Schema + "." + t.Name
		was, seen := known[name]
		delete(known, name)
		is := describe(t)
		switch {
		case seen && was == is:
			return
		case seen:
			c.misplaced(t, fmt.Sprintf("the rows of the table %s are %s, and the rule for it says %s", t, was, is),
				"restore the rule, or make a table of another name and copy the rows")
			return
		}
		if failed = c.verifyTable(conns, s, t); failed == nil && t.Distribution != planner.Local {
			_, failed = home.QueryTimeout(fmt.Sprintf("INSERT INTO shardgate.tables VALUES (%s, %s, %s) ON CONFLICT DO NOTHING",
				planner.QuoteLiteral(t.Schema), planner.QuoteLiteral(t.Name), planner.QuoteLiteral(is)), timeout)
		}
	})
	if failed != nil {
		return failed
	}
	// A table that is gone may come back in another form.
	for name := range known {
		schema, table, _ := strings.Cut(name, ".")
		if s.Schema.Table(schema, table) == nil {
			if _, err := home.QueryTimeout(fmt.Sprintf("DELETE FROM shardgate.tables WHERE schema_name = %s AND table_name = %s",
				planner.QuoteLiteral(schema), planner.QuoteLiteral(table)), timeout); err != nil {
				return err
			}
		}
	}
	return nil
}

// describe is what is remembered of a table's distribution.
func describe(t *planner.Table) string {
	if t.Distribution == planner.Reference {
		return "on every shard"
	}
	var names []string
	for _, n := range t.Key.Columns {
		names = append(names, planner.QuoteIdent(t.Columns[n].Name))
	}
	return "sharded by " + strings.Join(names, ", ")
}

// misplaced notes a problem, and makes the table unusable.
func (c *reading) misplaced(t *planner.Table, message, hint string) {
	e := &configs.Error{Message: message, Hint: hint}
	if rule, ok := c.config.Rule(t.Schema, t.Name); ok {
		e.Position = rule.Pos
	}
	c.problems = append(c.problems, e)
	t.Distribution, t.Key = planner.Sharded, nil
}

// verifyTable looks at a table for the first time.
func (c *reading) verifyTable(conns []*pool.Conn, s *Snapshot, t *planner.Table) error {
	table := planner.QuoteIdent(t.Schema) + "." + planner.QuoteIdent(t.Name)
	first := ""
	for _, shard := range s.Active {
		query, err := c.verifySQL(s, t, table, shard)
		if err != nil {
			return err
		}
		res, err := conns[shard].QueryTimeout(query, verifyTimeout)
		switch we, _ := err.(*wire.Error); {
		case we != nil && (we.Code == wire.UndefinedTable || we.Code == "3F000"):
			c.misplaced(t, fmt.Sprintf("the table %s is not on shard %s", t, c.pools.Shards[shard].Name),
				"create it there with the same definition, or drop it and create it through the gateway")
			return nil
		case we != nil && we.Code == "42501":
			c.log.Warn("the gateway's role may not read a distributed table: whether its rows are in place is not known", "table", t.String())
			return nil
		case err != nil:
			return err
		}
		got := res.Value(0)
		switch {
		case t.Distribution == planner.Sharded && got == "t":
			c.misplaced(t, fmt.Sprintf("the table %s has rows on shard %s that belong to other shards by the rule for it", t, c.pools.Shards[shard].Name),
				"make an empty table of another name with a rule, and copy the rows through the gateway")
			return nil
		case t.Distribution == planner.Reference && first != "" && got != first:
			c.misplaced(t, fmt.Sprintf("the copies of the table %s on shards %s and %s differ", t, c.pools.Shards[s.Active[0]].Name, c.pools.Shards[shard].Name),
				"make the copies equal, or empty them and fill the table through the gateway")
			return nil
		}
		first = got
	}
	return nil
}

// verifySQL asks, for a sharded table, whether a row is on the wrong shard, and for a
// reference table for a digest of its rows.
func (c *reading) verifySQL(s *Snapshot, t *planner.Table, table string, shard int) (string, error) {
	if t.Distribution == planner.Reference {
		return "SELECT count(*)::text || ' ' || coalesce(sum(hashtextextended(t::text, 0)::numeric), 0)::text FROM " + table + " t", nil
	}
	var exprs, nulls []string
	for _, n := range t.Key.Columns {
		name := planner.QuoteIdent(t.Columns[n].Name)
		exprs = append(exprs, name)
		nulls = append(nulls, name+" IS NULL")
	}
	slot, err := shardmap.SlotSQL(t.Key.Types, exprs)
	if err != nil {
		return "", err
	}
	var slots strings.Builder
	for i := range shardmap.SlotCount {
		if s.ShardOf(shardmap.Slot(i)) == shard {
			if slots.Len() > 0 {
				slots.WriteByte(',')
			}
			slots.WriteString(strconv.Itoa(i))
		}
	}
	return fmt.Sprintf("SELECT EXISTS (SELECT FROM %s WHERE %s OR (%s) <> ALL ('{%s}'::bigint[]))", table, strings.Join(nulls, " OR "), slot, slots.String()), nil
}
