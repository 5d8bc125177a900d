SELECT abalance FROM pgbench_accounts WHERE aid = 4711;

SELECT 1

select * from only users u where u.id = $1 and u.tenant_id = $2 for update skip locked

SELECT -1, - 1, +1, a-1, a -1, a - -1, a--1
+2

SELECT a.b.c.d, "A"."b""c"."$1", a."select" FROM "weird table" AS "it's"

SELECT DISTINCT ON (customer_id) customer_id, total, created_at FROM orders ORDER BY customer_id, created_at DESC NULLS LAST LIMIT 10 OFFSET 20

SELECT count(*), count(DISTINCT x), sum(x) FILTER (WHERE x > 0), array_agg(x ORDER BY y DESC), percentile_cont(0.5) WITHIN GROUP (ORDER BY x) FROM t GROUP BY ROLLUP (a, b), GROUPING SETS ((), (c), (d, 1)) HAVING count(*) > 10 AND sum(x) BETWEEN 1.5 AND 2e10

SELECT rank() OVER w, lag(x, 1, 0) OVER (PARTITION BY a ORDER BY b ROWS BETWEEN 1 PRECEDING AND UNBOUNDED FOLLOWING EXCLUDE TIES) FROM t WINDOW w AS (PARTITION BY c ORDER BY d RANGE BETWEEN INTERVAL '1 day' PRECEDING AND CURRENT ROW)

WITH RECURSIVE t(n, path) AS (VALUES (1, ARRAY[1]) UNION ALL SELECT n + 1, path || n FROM t WHERE n < 100) SEARCH DEPTH FIRST BY n SET ord CYCLE n SET is_cycle USING p SELECT sum(n) FROM t

WITH a AS MATERIALIZED (SELECT 1), b AS NOT MATERIALIZED (SELECT 2) SELECT * FROM a, b UNION SELECT 3, 4 INTERSECT ALL SELECT 5, 6 EXCEPT SELECT 7, 8 ORDER BY 1, 2 DESC FETCH FIRST 3 ROWS WITH TIES

SELECT CASE WHEN a IS NULL THEN 'null' WHEN a = 1 THEN 'one' ELSE 'many' END, CASE a WHEN 1 THEN 2 END, COALESCE(a, b, 0), NULLIF(a, ''), GREATEST(1, 2), LEAST(a, b)

SELECT a::int, b::numeric(10,2), c::timestamp(3) with time zone, CAST(d AS varchar(20)), '{1,2}'::int[], e::text[][], f::double precision, int '42', date '2024-02-29', interval '1' year, interval(3) '1.5 s', bit '101', time with time zone '12:00+01'

SELECT a->'b'->>'c', a#>'{x,1}', a#>>'{y}', a@>'{"k":[1,2]}', a<@b, a?'k', a?|array['x','y'], a?&b, a@?'$.a[*] ? (@ > 1)', a@@'$.b == 1', a || b, a - 'k', a #- '{1}'

SELECT a ~ '^x', a ~* 'y$', a !~ 'z', a !~* E'\\d+', a LIKE '%\%', a ILIKE 'b!_%' ESCAPE '!', a SIMILAR TO '(x|y)+', a NOT LIKE 'c', a ~~ 'd', a !~~* 'e'

SELECT a = ANY ($1), a <> ALL (ARRAY[1,2,3]), a IN (1, 2, 3), a NOT IN (SELECT b FROM c), EXISTS (SELECT FROM d), (a, b) = (1, 2), ROW(a, b) < ROW(1, 'x'), (a, b) OVERLAPS (c, d)

SELECT a[1], a[1:2], a[:], a[2:], (f(x)).y, (f(x)).*, (ROW(1,2)).f1, ARRAY[[1,2],[3,4]], ARRAY(SELECT 1), (ARRAY[1,2])[1]

SELECT x AT TIME ZONE 'UTC', x COLLATE "de_DE", x IS DISTINCT FROM y, x IS NOT TRUE, x ISNULL, y NOTNULL, x IS NOT UNKNOWN, x IS NFC NORMALIZED, x IS JSON OBJECT WITH UNIQUE KEYS

SELECT extract(epoch from now()), substring('abc' from 2 for 1), position('b' in 'abc'), overlay('abc' placing 'x' from 1), trim(both ' ' from ' a '), trim(leading from x), current_date, current_timestamp(3), localtime, session_user

SELECT * FROM a JOIN b USING (x) LEFT OUTER JOIN c ON b.y = c.y AND c.z > 5 CROSS JOIN LATERAL (SELECT * FROM d WHERE d.a = a.x LIMIT 1) l NATURAL FULL JOIN e, generate_series(1, 10, 2) WITH ORDINALITY AS g(i, n), ROWS FROM (f(1), g(2) AS (a int, b text)) r, t TABLESAMPLE bernoulli (10.5) REPEATABLE (42)

SELECT * FROM json_to_recordset('[{"a":1}]') AS x(a int, b text), XMLTABLE('/r' PASSING x.doc COLUMNS id int PATH '@id' DEFAULT 0, n FOR ORDINALITY) xt

SELECT * FROM JSON_TABLE(js, '$.favorites[*]' AS p PASSING 1 AS x COLUMNS (id FOR ORDINALITY, kind text PATH '$.kind' DEFAULT 'x' ON EMPTY ERROR ON ERROR, NESTED PATH '$.films[*]' COLUMNS (title text PATH '$.title'))) AS jt

SELECT JSON_OBJECT('a' : 1, 'b' VALUE 2 ABSENT ON NULL), JSON_ARRAY(1, 'x' NULL ON NULL RETURNING jsonb), JSON_VALUE(a, '$.b' RETURNING int DEFAULT 0 ON ERROR), JSON_EXISTS(a, '$.c'), JSON_QUERY(a, '$.d' WITH WRAPPER), JSON('{}'), JSON_SCALAR(1.5), JSON_SERIALIZE(a), JSON_ARRAYAGG(x ORDER BY y), JSON_OBJECTAGG(k : v WITH UNIQUE KEYS)

SELECT xmlelement(name foo, xmlattributes('a' as b, c), 'content', xmlforest(d, e AS f)), xmlparse(document '<a/>'), xmlpi(name php, 'echo'), xmlserialize(content x as text), x IS DOCUMENT

SELECT f(a => 1, b := 'x', VARIADIC ARRAY[1]), f(), f(*), pg_catalog.f(DISTINCT a), f(ALL a), a OPERATOR(pg_catalog.+) b, OPERATOR(public.@@) c

SELECT 1 UNION ALL (SELECT 2 ORDER BY 1 LIMIT 1) UNION ALL TABLE t UNION ALL VALUES (1), (2), (DEFAULT)

SELECT a AS select, b "from", c order_by, d AS and, e AS case FROM t

SELECT between, x.end, x.case, x.or + 1 FROM y x

TABLE ONLY accounts

VALUES (1, 'a', NULL), (2, 'b', true), (-3, E'c\n', false)

SELECT * FROM t WHERE (a > 1 OR b < 2) AND NOT (c = 3 OR d <> 4 AND e != 5) AND f BETWEEN SYMMETRIC 10 AND 1 AND g NOT BETWEEN 'a' AND 'b'

SELECT 'a'
  'b', E'c'
	'\n'

SELECT .5 + 5. + 5.5 + 5e5 + 5E-5 + .5e+5 + 1_000_000 + 0x1F + 0XfF_Ff + 0o17 + 0B1_0 + 9223372036854775807 + 9223372036854775808 + 12345678901234567890123456789.5

SELECT pg_size_pretty(pg_total_relation_size('public.orders')) , nextval('orders_id_seq'::regclass), to_tsvector('english', body) @@ plainto_tsquery($1)

SELECT l_returnflag, l_linestatus, sum(l_quantity) AS sum_qty, sum(l_extendedprice * (1 - l_discount) * (1 + l_tax)) AS sum_charge, avg(l_discount) AS avg_disc FROM lineitem WHERE l_shipdate <= date '1998-12-01' - interval '90' day GROUP BY l_returnflag, l_linestatus ORDER BY l_returnflag, l_linestatus

SELECT s_acctbal, s_name FROM part, supplier, partsupp, nation, region WHERE p_partkey = ps_partkey AND p_size = 15 AND p_type LIKE '%BRASS' AND r_name = 'EUROPE' AND ps_supplycost = (SELECT min(ps_supplycost) FROM partsupp, supplier WHERE p_partkey = ps_partkey AND s_suppkey = ps_suppkey) ORDER BY s_acctbal DESC, n_name LIMIT 100

SELECT c_discount, c_last, c_credit, w_tax FROM bmsql_customer JOIN bmsql_warehouse ON (w_id = c_w_id) WHERE c_w_id = $1 AND c_d_id = $2 AND c_id = $3

SELECT c FROM sbtest1 WHERE id=503284

SELECT SUM(k) FROM sbtest1 WHERE id BETWEEN 499284 AND 499383

SELECT DISTINCT c FROM sbtest2 WHERE id BETWEEN 1 AND 100 ORDER BY c

SELECT "users".* FROM "users" WHERE "users"."email" = 'o''brien@example.com' AND "users"."deleted_at" IS NULL ORDER BY "users"."id" ASC LIMIT 1 /*application='web',controller='sessions'*/

SELECT "auth_user"."id", (SELECT COUNT(*) FROM "blog" U0 WHERE U0."author_id" = ("auth_user"."id")) AS "n" FROM "auth_user" WHERE ("auth_user"."is_active" AND UPPER("auth_user"."username"::text) LIKE UPPER('%a\_b%')) LIMIT 21

select c.oid, c.relname, c.relkind::char, n.nspname from pg_catalog.pg_class c left join pg_catalog.pg_namespace n on n.oid = c.relnamespace where c.relname operator(pg_catalog.~) '^(users)$' collate pg_catalog.default and pg_catalog.pg_table_is_visible(c.oid) order by 2, 3;

SELECT t.oid, typinput = 'pg_catalog.array_in'::regproc, typtype, pg_type.oid FROM pg_catalog.pg_type LEFT JOIN (select ns.oid as nspoid, ns.nspname, r.r from pg_namespace as ns join (select s.r, (current_schemas(false))[s.r] as nspname from generate_series(1, array_upper(current_schemas(false), 1)) as s(r)) as r using (nspname)) as sp ON sp.nspoid = typnamespace WHERE pg_type.oid = $1 ORDER BY sp.r, pg_type.oid DESC
