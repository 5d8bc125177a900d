package tpch

import (
	"fmt"
	"testing"

	"github.com/jackc/pgx/v5/pgconn"
)

// rules are what holds of the rows (4.2.3): each query counts those of which it does not.
var rules = []struct{ what, violations string }{
	{"an order's total and status come from its lines", `select count(*) from orders left join (
		select l_orderkey, round(sum(l_extendedprice * (1 + l_tax) * (1 - l_discount)), 2) as total,
			count(*) as lines, count(*) filter (where l_linestatus = 'O') as open, max(l_linenumber) as last
		from lineitem group by l_orderkey) l on l_orderkey = o_orderkey
		where o_totalprice is distinct from total or lines <> last or lines > 7
			or o_orderstatus <> case open when 0 then 'F' when lines then 'O' else 'P' end`},
	{"a line has an order", `select count(*) from lineitem where l_orderkey not in (select o_orderkey from orders)`},
	{"a line's price comes from its part", `select count(*) from lineitem left join part on p_partkey = l_partkey
		where l_extendedprice is distinct from l_quantity * p_retailprice`},
	{"a line's supplier has the part", `select count(*) from lineitem
		left join partsupp on ps_partkey = l_partkey and ps_suppkey = l_suppkey where ps_partkey is null`},
	{"a line's dates follow from the order's", `select count(*) from lineitem join orders on o_orderkey = l_orderkey
		where l_shipdate - o_orderdate not between 1 and 121 or l_commitdate - o_orderdate not between 30 and 90
			or l_receiptdate - l_shipdate not between 1 and 30 or o_orderdate < '1992-01-01' or l_receiptdate > '1998-12-31'`},
	{"a line's flags follow from its dates", `select count(*) from lineitem
		where (l_receiptdate <= '1995-06-17') <> (l_returnflag in ('R', 'A')) or l_returnflag not in ('R', 'A', 'N')
			or l_linestatus <> case when l_shipdate > '1995-06-17' then 'O' else 'F' end`},
	{"each third customer orders nothing, the others exist", `select count(*) from orders
		where o_custkey % 3 = 0 or o_custkey not in (select c_custkey from customer)`},
	{"of 32 order keys the first 8 are used", `select count(*) from orders where (o_orderkey - 1) % 32 > 7`},
	{"phone numbers have the nation's code", `select count(*) from (select s_nationkey, s_phone from supplier
			union all select c_nationkey, c_phone from customer) as p (nation, phone)
		where phone !~ ('^' || nation + 10 || '-\d{3}-\d{3}-\d{4}$')`},
	{"names have their numbers", `select count(*) from (select s_name, 'Supplier', s_suppkey from supplier
			union all select c_name, 'Customer', c_custkey from customer) as n (name, what, key)
		where name <> what || '#' || lpad(key::text, 9, '0')`},
	{"a part's price follows from its key", `select count(*) from part
		where p_retailprice <> (90000 + p_partkey / 10 % 20001 + 100 * (p_partkey % 1000)) / 100.0`},
	{"a brand is one of its manufacturer", `select count(*) from part
		where p_brand !~ ('^Brand#' || substr(p_mfgr, 14, 1) || '[1-5] *$')`},
	{"a part's name has five different words", `select count(*) from part
		where 5 <> (select count(distinct word) from regexp_split_to_table(p_name, ' ') as word)`},
	{"some suppliers are complained of, others recommended", `select count(*) from (values ('Complaints'), ('Recommends')) as r (remark)
		where not exists (select from supplier where s_comment like '%Customer%' || remark || '%')`},
	{"some, and not many, orders are special requests", `select count(*) from (
		select avg((o_comment like '%special%requests%')::int) as part from orders) s where part not between 0.005 and 0.03`},
	{"all values occur", `select count(*) from (values
		((select count(distinct p_type) from part), 150), ((select count(distinct p_container) from part), 40),
		((select count(distinct p_brand) from part), 25), ((select count(distinct p_size) from part), 50),
		((select count(distinct c_mktsegment) from customer), 5), ((select count(distinct c_nationkey) from customer), 25),
		((select count(distinct o_orderpriority) from orders), 5), ((select count(distinct l_shipmode) from lineitem), 7),
		((select count(distinct l_shipinstruct) from lineitem), 4), ((select count(distinct l_quantity) from lineitem), 50),
		((select count(distinct l_discount) from lineitem), 11), ((select count(distinct l_tax) from lineitem), 9),
		((select count(distinct n_regionkey) from nation), 5)) as v (have, want) where have <> want`},
}

// checkRules looks at the rows as a server has them.
func checkRules(t *testing.T, conn *pgconn.PgConn, d *Data) {
	t.Helper()
	for _, r := range rules {
		if n := count(t, conn, r.violations); n != "0" {
			t.Errorf("%s: not so in %s cases", r.what, n)
		}
	}
	for table, rows := range map[string]int{"region": 5, "nation": 25, "supplier": d.suppliers, "part": d.parts,
		"partsupp": 4 * d.parts, "customer": d.customers, "orders": d.orders} {
		if n := count(t, conn, "select count(*) from "+table); n != fmt.Sprint(rows) {
			t.Errorf("%s has %s rows, not %d", table, n, rows)
		}
	}
}

func count(t *testing.T, conn *pgconn.PgConn, sql string) string {
	t.Helper()
	a, _, err := ask(t, conn, sql)
	if err != nil {
		t.Fatalf("%s: %v", sql, err)
	}
	return a.rows[0][0]
}
