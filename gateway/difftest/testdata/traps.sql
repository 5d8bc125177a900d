-- Statements that are easily answered wrong when their rows are on several servers.
--
-- Each block is a statement. Its comment says what the trap is; "ordered:" before it, that the order of the rows is
-- fixed and compared; "wrong:", that it is known to be answered wrong so far.

-- the kept side of an outer join is a reference table, of which each shard has a copy
SELECT k.code, c.id FROM countries k LEFT JOIN customers c ON c.country = k.code;

-- the same, the other way round
SELECT k.code, c.id FROM customers c RIGHT JOIN countries k ON c.country = k.code AND c.id > 0;

-- a reference table alone on the kept side, and nothing joins it
SELECT k.id, i.sku FROM kinds k LEFT JOIN items i ON i.kind = k.id AND i.sku = 'no such';

-- the kept side is a function, which each shard would call
SELECT g, c.id FROM generate_series(-5, 60) g LEFT JOIN customers c ON c.id = g;

-- the kept side is a VALUES list
SELECT v.a, o.id FROM (VALUES (1), (2), (999)) v(a) LEFT JOIN orders o ON o.customer_id = v.a;

-- counting over an outer join whose kept side is a reference table
SELECT count(*), count(c.id) FROM countries k LEFT JOIN customers c ON c.country = k.code;

-- FULL JOIN by the key
SELECT c.id, o.customer_id, o.id FROM customers c FULL JOIN orders o ON o.customer_id = c.id;

-- FULL JOIN by another column
SELECT c.id, i.sku FROM customers c FULL JOIN items i ON i.label = c.name;

-- FULL JOIN with USING: the merged column
SELECT sku, i.sku, s.sku FROM items i FULL JOIN stock s USING (sku) WHERE sku > 'sku-2';

-- FULL JOIN with a reference table
SELECT k.id, i.sku FROM kinds k FULL JOIN items i ON i.kind = k.id;

-- FULL JOIN that no plan of PostgreSQL's can do
SELECT count(*) FROM customers c FULL JOIN orders o ON o.customer_id < c.id;

-- NOT IN, where the NULL is on another shard
SELECT id FROM customers WHERE id NOT IN (SELECT referrer FROM customers);

-- NOT IN without NULLs
SELECT id FROM customers WHERE id NOT IN (SELECT referrer FROM customers WHERE referrer IS NOT NULL);

-- NOT IN over no rows
SELECT count(*) FROM customers WHERE id NOT IN (SELECT id FROM voids);

-- ALL over no rows
SELECT count(*) FROM orders WHERE qty > ALL (SELECT id FROM voids);

-- ANY over rows of another group
SELECT id FROM customers WHERE code = ANY (SELECT label FROM items);

-- EXISTS by the key
SELECT id FROM customers c WHERE EXISTS (SELECT FROM orders o WHERE o.customer_id = c.id AND o.qty > 2);

-- EXISTS correlated by another column than the key
SELECT id FROM customers c WHERE EXISTS (SELECT 1 FROM orders o WHERE o.qty = c.age);

-- NOT EXISTS correlated across groups
SELECT sku FROM items i WHERE NOT EXISTS (SELECT 1 FROM orders o WHERE o.sku = i.sku);

-- EXISTS that is not correlated: true if there is a row on any shard
SELECT count(*) FROM customers WHERE EXISTS (SELECT 1 FROM orders WHERE id = 7);

-- a reference table filtered by a sharded one
SELECT code FROM countries k WHERE EXISTS (SELECT 1 FROM customers c WHERE c.country = k.code);

-- a scalar subquery that gives no row on most shards
SELECT id, (SELECT name FROM customers WHERE id = 5) FROM orders WHERE customer_id = 3;

-- a scalar subquery that gives one row on each of two shards
SELECT (SELECT id FROM customers WHERE id IN (1, 2, 3, 4, 5)) FROM kinds;

-- an aggregate of the outer query in a subquery
SELECT (SELECT max(c.id)) FROM customers c;

-- an aggregate of the outer query in a subquery with rows of its own
SELECT (SELECT sum(c.score) FROM kinds WHERE id = 1) FROM customers c;

-- avg of integers: the mean of means is another
SELECT avg(qty), avg(id), avg(age) FROM orders JOIN customers USING (id);

-- avg by group
SELECT mood, avg(qty) FROM orders GROUP BY mood;

-- sum over no rows is NULL, count is 0
SELECT sum(id), count(*), count(id), max(name), array_agg(id), bool_and(true) FROM voids;

-- sum over no rows, each shard having some
SELECT sum(qty), count(*) FROM orders WHERE id < 0;

-- groups over no rows: none at all
SELECT name, count(*) FROM voids GROUP BY name;

-- sums whose shards' parts are beyond bigint
SELECT sum(big), avg(big), sum(big::numeric) FROM customers;

-- count of a DISTINCT that is on several shards
SELECT count(DISTINCT country), count(DISTINCT mood), sum(DISTINCT age) FROM customers;

-- aggregates of DISTINCT constants over no rows
SELECT count(*), sum(DISTINCT 3), array_agg(DISTINCT 'x'::text) FROM voids;

-- count of rows with a NULL in them
SELECT count(*), count((name, code)), count(c) FROM customers c;

-- aggregates with FILTER, one of which meets nothing
SELECT count(*) FILTER (WHERE active), sum(score) FILTER (WHERE name = 'nobody'), min(born) FILTER (WHERE mood = 'ok') FROM customers;

-- standard deviations, exact for numeric
SELECT stddev(score), var_pop(balance), stddev_samp(age) FROM customers;

-- percentiles
SELECT percentile_cont(0.5) WITHIN GROUP (ORDER BY score), percentile_disc(ARRAY[0.1, 0.9]) WITHIN GROUP (ORDER BY name), mode() WITHIN GROUP (ORDER BY country) FROM customers;

-- the rank of a row that isn't there
SELECT rank(50) WITHIN GROUP (ORDER BY score), cume_dist(50) WITHIN GROUP (ORDER BY score) FROM customers;

-- aggregates with an order, over all shards
SELECT string_agg(name, ',' ORDER BY name, id), array_agg(id ORDER BY id DESC), jsonb_agg(code ORDER BY code NULLS FIRST) FROM customers;

-- an ordered aggregate with DISTINCT
SELECT string_agg(DISTINCT country::text, ',' ORDER BY country::text DESC) FROM customers;

-- bitwise and Boolean aggregates
SELECT bit_and(qty), bit_or(qty), bit_xor(id), bool_and("Gift Wrap"), every(qty > 0) FROM orders;

-- regression
SELECT regr_count(w, n), round(regr_slope(w, n)::numeric, 6), round(corr(w, n)::numeric, 6) FROM items WHERE w <> 'NaN';

-- min and max of NaN, infinities and NULL
SELECT min(ratio), max(ratio), min(balance), max(balance), min(seen), max(seen) FROM customers;

-- GROUP BY the key, where each group is on one shard
SELECT customer_id, count(*), max(at) FROM orders GROUP BY customer_id;

-- GROUP BY, and FROM refers to a column that is not grouped by
SELECT customer_id FROM orders o, unnest(parts) p GROUP BY customer_id;

-- the same of a LATERAL subquery
SELECT o.qty, count(*) FROM orders o CROSS JOIN LATERAL (SELECT o.mood) s GROUP BY o.qty;

-- the same, where the subquery groups and WHERE refers to a third column
SELECT c.country, count(*) FROM customers c, LATERAL (SELECT sum(o.qty) AS s FROM orders o WHERE o.customer_id = c.id GROUP BY c.name) l WHERE c.age > l.s GROUP BY c.country;

-- the direct argument of an ordered-set aggregate is outside of it, and depends on the primary key
SELECT c.id, rank(c.score) WITHIN GROUP (ORDER BY o.qty) FROM customers c JOIN orders o ON o.mood = c.mood GROUP BY c.id;

-- GROUP BY a part of the key
SELECT tenant, count(*), sum(size) FROM events GROUP BY tenant;

-- GROUP BY another column
SELECT country, count(*), sum(balance) FROM customers GROUP BY country;

-- GROUP BY an expression of columns with NULLs
SELECT coalesce(age, 0) / 10, count(*) FROM customers GROUP BY coalesce(age, 0) / 10;

-- GROUP BY by number and by alias
SELECT upper(name) AS n, active, count(*) FROM customers GROUP BY n, 2;

-- GROUP BY a number that means another column than in the same statement with another number
SELECT 'y', 'x', count(*) FROM voids GROUP BY 2;

-- the same number, and a star before it
SELECT *, count(*) FROM voids GROUP BY 1, 2, 3;

-- GROUP BY the name that PostgreSQL gives a column of the result
SELECT extract(year FROM at), count(*) FROM orders GROUP BY "extract";

-- GROUP BY the name of an operator's column
SELECT id > 4, count(*) FROM customers GROUP BY "?column?";

-- GROUP BY the name of a subquery's column
SELECT (SELECT max(o.qty) AS most FROM orders o WHERE o.customer_id = c.id), count(*) FROM customers c GROUP BY most;

-- GROUP BY a name in grouping sets
SELECT upper(name), mood, count(*) FROM customers GROUP BY GROUPING SETS ((upper, mood), 1, ());

-- GROUP BY an expression that refers to its column in another way than the list
SELECT upper(c.name), count(*) FROM customers c JOIN orders o ON o.mood = c.mood GROUP BY upper(name);

-- the same, where the shards group
SELECT id > 4, count(*) FROM customers c GROUP BY c.id > 4;

-- GROUP BY a name of FROM that is also one of the result, but not what stands there
SELECT qty AS id, count(*) FROM orders GROUP BY id, qty;

-- GROUP BY a name of the result that a table outside has as well
SELECT c.id, l.* FROM customers c, LATERAL (SELECT o.qty % 2 AS age, count(*) FROM orders o WHERE o.id > c.id GROUP BY age) l;

-- the same in a scalar subquery
SELECT (SELECT max(n) FROM (SELECT qty % 2 AS name, count(*) AS n FROM orders GROUP BY name) s) FROM customers c ORDER BY id LIMIT 2;

-- GROUP BY an expression that is the same as in the list
SELECT id % 3, count(*) FROM customers GROUP BY id, id % 3;

-- one that is not, in the same statement with another number
SELECT id % 3, count(*) FROM customers GROUP BY id, id % 4;

-- GROUP BY a column with a collation of its own
SELECT note, count(*), min(note) FROM orders GROUP BY note;

-- GROUP BY float, NaN and infinities
SELECT ratio, count(*) FROM customers GROUP BY ratio;

-- GROUP BY the primary key of a table gives its other columns
SELECT c.id, c.name, count(o.id) FROM customers c LEFT JOIN orders o ON o.customer_id = c.id GROUP BY c.id;

-- the same for a star
SELECT c.*, count(*) FROM customers c JOIN orders o ON o.qty = c.age GROUP BY c.id;

-- the same for a part of the primary key, which does not do
SELECT e.what, count(*) FROM events e GROUP BY e.n, e.day;

-- the same with grouping sets
SELECT id, name FROM customers GROUP BY GROUPING SETS ((id), (id, age));

-- GROUP BY a subquery, which has to be the same in the list
SELECT (SELECT count(*) FROM customers c WHERE c.name = i.label), count(*) FROM items i GROUP BY (SELECT count(*) FROM customers c WHERE c.name = i.label);

-- an aggregate with DISTINCT and the same subquery in its ORDER BY
SELECT array_agg(DISTINCT EXISTS (SELECT FROM customers c WHERE c.name = i.label) ORDER BY EXISTS (SELECT FROM customers c WHERE c.name = i.label)) FROM items i;

-- GROUP BY nothing
SELECT count(*) FROM customers WHERE false GROUP BY ();

-- GROUPING SETS with the empty one, over no rows: one row
SELECT name, count(*) FROM voids GROUP BY GROUPING SETS ((name), ());

-- GROUPING SETS with the empty one twice
SELECT country, mood, count(*), grouping(country, mood) FROM customers GROUP BY GROUPING SETS ((country), (mood), (), ());

-- ROLLUP, ordered
SELECT country, mood, count(*), grouping(country) FROM customers GROUP BY ROLLUP (country, mood) ORDER BY country, mood, 4;

-- CUBE with avg
SELECT active, mood, avg(score) FROM customers GROUP BY CUBE (active, mood);

-- HAVING without GROUP BY
SELECT 1 FROM customers HAVING count(*) > 10;

-- HAVING that no shard meets by itself
SELECT count(*) FROM customers HAVING count(*) = 50;

-- HAVING about another aggregate than those that are shown
SELECT country FROM customers GROUP BY country HAVING sum(score) > 200 AND count(*) > 2;

-- HAVING over no rows
SELECT 'none' FROM voids HAVING count(*) = 0;

-- expressions of aggregates
SELECT count(*) + 1, coalesce(sum(score), 0) * 2, max(id) - min(id), 'x' FROM customers;

-- an aggregate of an aggregate
SELECT avg(n), max(n) FROM (SELECT customer_id, count(*) AS n FROM orders GROUP BY customer_id) s;

-- DISTINCT
SELECT DISTINCT country, mood FROM customers;

-- ordered: DISTINCT with ORDER BY of it
SELECT DISTINCT name FROM customers ORDER BY name DESC;

-- ordered: DISTINCT with LIMIT
SELECT DISTINCT score FROM customers ORDER BY score LIMIT 5;

-- DISTINCT of an aggregate
SELECT DISTINCT count(*) FROM orders GROUP BY customer_id;

-- ordered: DISTINCT of an aggregate, and the same aggregate in ORDER BY
SELECT DISTINCT count(*), country FROM customers GROUP BY country, mood ORDER BY count(*), country;

-- ordered: DISTINCT ON, the first of each group by another column
SELECT DISTINCT ON (country) country, id, score FROM customers ORDER BY country, score DESC NULLS LAST, id;

-- ordered: DISTINCT ON what has a name in the list and stands there once more without
SELECT DISTINCT ON (id, age) id, age AS x, age FROM customers ORDER BY id, age;

-- DISTINCT ON a window function, of which each row counts
SELECT DISTINCT ON (count(*) OVER (PARTITION BY mood)) mood FROM orders ORDER BY count(*) OVER (PARTITION BY mood), mood;

-- DISTINCT ON one that ORDER BY doesn't have
SELECT DISTINCT ON (count(*) OVER ()) 1 FROM orders;

-- ordered: DISTINCT ON a subquery, which has to be the same in ORDER BY
SELECT DISTINCT ON ((SELECT count(*) FROM orders o WHERE o.qty = c.age)) id FROM customers c ORDER BY (SELECT count(*) FROM orders o WHERE o.qty = c.age), id;

-- ordered: DISTINCT ON with LIMIT
SELECT DISTINCT ON (mood) mood, id FROM orders ORDER BY mood DESC, id LIMIT 2;

-- ordered: ORDER BY with NULLS FIRST, by number, LIMIT and OFFSET
SELECT id, score FROM customers ORDER BY score DESC NULLS FIRST, 1 LIMIT 7 OFFSET 3;

-- ordered: ORDER BY a name that USING has merged, and that is one side's column in the list
SELECT v.*, c.age FROM customers c LEFT JOIN voids v USING (id) ORDER BY id DESC NULLS LAST, age, country, score, c.id;

-- ordered: the same with LIMIT
SELECT v.* FROM customers c LEFT JOIN voids v USING (id) ORDER BY id NULLS FIRST LIMIT 20;

-- ordered: ORDER BY an output column by the name of another column of FROM
SELECT id AS age, age AS id FROM customers ORDER BY id DESC, age;

-- ordered: ORDER BY two columns whose order depends on the direction of NULLs
SELECT score, id FROM customers ORDER BY score DESC NULLS LAST, id DESC;

-- ordered: ORDER BY a column that is not in the list
SELECT name FROM customers ORDER BY id;

-- ordered: ORDER BY an expression that is not in the list
SELECT id FROM customers ORDER BY coalesce(score, 1000) % 10, id;

-- ordered: ORDER BY an alias that is a column as well
SELECT - id AS id FROM customers ORDER BY id;

-- ordered: ORDER BY an expression takes the column, not the alias
SELECT - id AS id FROM customers ORDER BY id + 0;

-- ordered: ORDER BY a number
SELECT id, age FROM customers ORDER BY 2, id LIMIT 3;

-- ordered: ORDER BY a number, which is another one in the same statement
SELECT id, age FROM customers ORDER BY 1, id LIMIT 3;

-- ordered: ORDER BY a name that a star gives, where the same name in FROM is the merged column
SELECT i.*, s.place FROM items i RIGHT JOIN stock s USING (sku) ORDER BY sku DESC, s.sku, place LIMIT 9;

-- ORDER BY a name of the result that a table outside has as well
SELECT c.id, ARRAY(SELECT o.qty AS name FROM orders o ORDER BY name) FROM customers c;

-- the same in a set operation
SELECT c.id, ARRAY(SELECT o.qty AS name FROM orders o UNION SELECT 1 ORDER BY name) FROM customers c;

-- DISTINCT ON such a name
SELECT c.id, ARRAY(SELECT DISTINCT ON (age) o.qty AS age FROM orders o ORDER BY age) FROM customers c;

-- ordered: ORDER BY a collation that is not the database's
SELECT note, id FROM orders ORDER BY note, id;

-- ordered: ORDER BY with COLLATE
SELECT name, id FROM customers ORDER BY name COLLATE "en-x-icu" DESC, id;

-- ordered: ORDER BY an enum, and by text with NULLs last
SELECT mood, name, id FROM customers ORDER BY mood DESC NULLS LAST, name, id;

-- ordered: ORDER BY floats and numerics with NaN
SELECT ratio, balance, id FROM customers ORDER BY ratio, balance DESC, id;

-- ordered: ORDER BY jsonb, arrays and bytea
SELECT doc, tags, id FROM customers ORDER BY doc, tags DESC, id;

-- ordered: ORDER BY USING an operator
SELECT id FROM customers ORDER BY id USING >;

-- LIMIT WITH TIES: the ties are on several shards
SELECT qty FROM orders ORDER BY qty FETCH FIRST 3 ROWS WITH TIES;

-- ordered: LIMIT 0
SELECT id FROM customers ORDER BY id LIMIT 0;

-- ordered: OFFSET beyond the end
SELECT id FROM customers ORDER BY id OFFSET 1000;

-- ordered: LIMIT of a subquery
SELECT id FROM customers ORDER BY id LIMIT (SELECT count(*) FROM kinds);

-- ordered: LIMIT of a subquery over a sharded table
SELECT id FROM customers ORDER BY id LIMIT (SELECT count(*) FROM orders) / 18;

-- ordered: OFFSET of one
SELECT id FROM customers ORDER BY id OFFSET (SELECT count(*) FROM orders) / 2 LIMIT 3;

-- ordered: LIMIT by the key alone, each shard by itself giving less
SELECT o.id FROM customers c JOIN orders o ON o.customer_id = c.id ORDER BY o.id LIMIT 4;

-- LIMIT in a subquery
SELECT count(*), max(id) FROM (SELECT id FROM orders ORDER BY id LIMIT 10) s;

-- LIMIT in a correlated subquery: one for each row
SELECT c.id, (SELECT o.id FROM orders o WHERE o.qty = c.age ORDER BY o.id DESC LIMIT 1) FROM customers c;

-- UNION ALL of two shards' tables
SELECT id FROM customers UNION ALL SELECT customer_id FROM orders;

-- ordered: UNION ALL with LIMIT
SELECT id FROM customers UNION ALL SELECT customer_id FROM orders ORDER BY 1 LIMIT 12;

-- UNION ALL of a branch with a LIMIT of its own
(SELECT id::text FROM customers ORDER BY customers.id LIMIT 2) UNION ALL (SELECT sku FROM items ORDER BY 1 DESC LIMIT 2);

-- UNION of a sharded and a reference table
SELECT country FROM customers UNION SELECT code FROM countries;

-- UNION ALL with a constant row, which each shard would add
SELECT name FROM customers UNION ALL SELECT 'extra';

-- UNION of types that are not the same
SELECT age FROM customers UNION SELECT balance FROM customers UNION SELECT NULL;

-- INTERSECT and EXCEPT, which bind differently
SELECT sku FROM stock EXCEPT SELECT sku FROM items INTERSECT SELECT sku FROM orders;

-- EXCEPT ALL counts
SELECT qty FROM orders EXCEPT ALL SELECT age FROM customers;

-- INTERSECT of a reference table with a sharded one
SELECT code FROM countries INTERSECT SELECT country FROM customers;

-- window functions over all rows
SELECT id, row_number() OVER (ORDER BY id), sum(score) OVER (ORDER BY id), lag(name) OVER (ORDER BY id) FROM customers;

-- a window by another column than the key
SELECT id, rank() OVER (PARTITION BY country ORDER BY score), count(*) OVER (PARTITION BY country), count(*) OVER () FROM customers;

-- a window by the key
SELECT id, customer_id, row_number() OVER (PARTITION BY customer_id ORDER BY id) FROM orders;

-- a window over aggregates
SELECT country, count(*), sum(count(*)) OVER (), rank() OVER (ORDER BY count(*) DESC) FROM customers GROUP BY country;

-- a named window with frames
SELECT id, sum(qty) OVER w, first_value(id) OVER (w ROWS BETWEEN 1 PRECEDING AND 1 FOLLOWING) FROM orders WINDOW w AS (ORDER BY id);

-- a window that nothing uses makes one group of the rows
SELECT 1 FROM customers WINDOW w AS (ORDER BY count(*));

-- WITH, used twice
WITH o AS (SELECT customer_id, sum(qty) AS q FROM orders GROUP BY 1) SELECT a.customer_id FROM o a JOIN o b ON a.q = b.q AND a.customer_id < b.customer_id;

-- WITH that nothing uses
WITH unused AS (SELECT * FROM orders) SELECT count(*) FROM kinds;

-- WITH MATERIALIZED, and of the name of a table
WITH orders AS MATERIALIZED (SELECT 1 AS id) SELECT o.id FROM orders o JOIN customers c ON c.id = o.id;

-- WITH RECURSIVE over a reference table
WITH RECURSIVE up AS (SELECT id, parent, 0 AS depth FROM kinds WHERE id = 5 UNION ALL SELECT k.id, k.parent, depth + 1 FROM kinds k JOIN up ON up.parent = k.id) SELECT * FROM up;

-- WITH RECURSIVE over a sharded table: each step leads to another shard
WITH RECURSIVE r AS (SELECT id, referrer, 1 AS n FROM customers WHERE referrer IS NULL UNION ALL SELECT c.id, c.referrer, n + 1 FROM customers c JOIN r ON c.referrer = r.id) SELECT n, count(*) FROM r GROUP BY n;

-- WITH RECURSIVE that is joined with the table again
WITH RECURSIVE r(id) AS (VALUES (1::int8) UNION SELECT referrer FROM customers JOIN r USING (id) WHERE referrer IS NOT NULL) SELECT c.name FROM r JOIN customers c USING (id);

-- a self-join by the key
SELECT a.id, b.id FROM customers a JOIN customers b ON a.id = b.id AND a.age < b.score;

-- a self-join by another column
SELECT a.id, b.id FROM customers a JOIN customers b ON a.referrer = b.id;

-- a cross join of sharded tables
SELECT count(*), sum(a.id * b.tenant) FROM customers a, events b;

-- a join of two groups
SELECT o.id, i.label FROM orders o JOIN items i ON i.sku = o.sku;

-- a join of three tables, of which the first two are on one shard
SELECT c.id, o.id, s.place FROM customers c JOIN orders o ON o.customer_id = c.id JOIN stock s ON s.sku = o.sku WHERE s.qty > 5;

-- a join by an inequality
SELECT c.id, e.n FROM customers c JOIN events e ON e.day > c.born + 12350 AND e.tenant = c.age % 5;

-- a join with a local table
SELECT n.id, c.name FROM notes n LEFT JOIN customers c ON c.id = n.customer_id;

-- a local table that is the kept side of a join by the key
SELECT c.id, n.id FROM customers c LEFT JOIN notes n ON n.customer_id = c.id;

-- a local table in a subquery
SELECT id FROM customers WHERE id IN (SELECT customer_id FROM notes WHERE place = 2);

-- NATURAL JOIN by what happens to be common
SELECT * FROM stock NATURAL JOIN items;

-- NATURAL LEFT JOIN of a table with itself
SELECT count(*) FROM events a NATURAL LEFT JOIN events b;

-- USING of columns with different types: the merged one has the wider
SELECT id, count(*), pg_typeof(id) FROM kinds JOIN customers USING (id) GROUP BY id;

-- USING of numerics with different scales
SELECT factor, pg_typeof(factor) FROM kinds JOIN (SELECT balance::numeric(20, 5) AS factor FROM customers) s USING (factor);

-- LATERAL with LIMIT: one for each row
SELECT c.id, l.id FROM customers c CROSS JOIN LATERAL (SELECT o.id FROM orders o WHERE o.customer_id = c.id ORDER BY o.id DESC LIMIT 1) l;

-- LEFT JOIN LATERAL with an aggregate across groups
SELECT i.sku, l.n FROM items i LEFT JOIN LATERAL (SELECT count(*) AS n FROM orders o WHERE o.sku = i.sku) l ON l.n > 1;

-- LATERAL without tables: its columns have the names of those outside
SELECT l.*, row_to_json(l) FROM customers c CROSS JOIN LATERAL (SELECT c.name, c.id + 1, now() = now()) l;

-- the same of a set operation, whose first query gives the names
SELECT c.id, row_to_json(l) FROM customers c CROSS JOIN LATERAL (SELECT c.name UNION SELECT c.code) l;

-- a function in FROM that refers to a sharded table's column
SELECT id, p FROM orders, unnest(parts) p;

-- WITH ORDINALITY
SELECT c.id, t.tag, t.n FROM customers c LEFT JOIN unnest(c.tags) WITH ORDINALITY AS t(tag, n) ON true;

-- a set-returning function in the list
SELECT id, unnest(parts), generate_series(1, 2) FROM orders WHERE id < 20;

-- a whole row
SELECT c FROM customers c WHERE id < 3;

-- a whole row as JSON
SELECT row_to_json(o), to_jsonb(o) -> 'Gift Wrap' FROM orders o WHERE id < 9;

-- a whole row as JSON, from a join
SELECT row_to_json(c), row_to_json(k) FROM customers c LEFT JOIN countries k ON k.code = c.country;

-- the whole row of a nullable side
SELECT c.id, o IS NULL, count(o) OVER () FROM customers c LEFT JOIN orders o ON o.customer_id = c.id AND o.qty = 5;

-- a count of whole rows after a LEFT JOIN
SELECT count(c), count(o) FROM customers c LEFT JOIN orders o ON o.customer_id = c.id;

-- the whole row of a table with new names for its columns: JSON has the old ones
SELECT row_to_json(t) FROM countries AS t(a, b) JOIN customers c ON c.country = t.a AND c.id = 2 JOIN orders o ON o.qty = c.id;

-- the whole row of a subquery
SELECT row_to_json(s), s FROM (SELECT id, name AS "The Name" FROM customers) s WHERE s.id = 1;

-- elements that have the names of their columns
SELECT xmlforest(id, name AS n), xmlelement(name x, xmlattributes(id)) FROM customers ORDER BY id LIMIT 2;

-- a field of a whole row, and all of them
SELECT (c).name, (c).* FROM customers c WHERE (c).id IN (1, 2);

-- a field of a whole row, written as a function
SELECT mood(o), count(*) FROM orders o GROUP BY mood(o);

-- rows compared with each other
SELECT o.id FROM orders o JOIN customers c ON ROW(o.customer_id, o.qty) = ROW(c.id, c.age);

-- no columns, but as many rows
SELECT FROM customers;

-- no columns, and an order
SELECT FROM customers ORDER BY id LIMIT 5;

-- names with their schema
SELECT public.customers.name, customers.id FROM public.customers WHERE public.customers.id > 40;

-- names with their schema, in a join by another column
SELECT public.customers.id, public.items.sku FROM public.customers JOIN public.items ON public.items.label = public.customers.name;

-- a table under another name hides its own
SELECT orders.id FROM customers AS orders WHERE orders.id < 5;

-- new names for columns, swapped
SELECT t.id, t.name FROM customers AS t(name, id) WHERE t.name = 7;

-- fewer new names than columns, in a join that has to be brought together
SELECT a, b, code FROM customers AS t(a, b) JOIN items i ON i.label = b;

-- a join under a name
SELECT j.* FROM (customers c JOIN orders o ON o.customer_id = c.id) AS j(a, b) WHERE j.a = 3;

-- the same name for two columns
SELECT c.id, o.id FROM customers c JOIN orders o ON o.customer_id = c.id WHERE o.id < 5;

-- names that the gateway might use itself
SELECT country AS c1, count(*) AS c2, sum(score) AS c3, min(id) AS c4 FROM customers GROUP BY country ORDER BY c3, c1, c2;

-- such a name for a column that the shards give in another place
SELECT count(*), 'x'::text AS c2, age + 1, age + 2 AS c1 FROM customers GROUP BY age + 1, age + 2 ORDER BY c2, c1;

-- such a name in GROUP BY, where a column that has it comes before an alias
SELECT id AS c2, count(*) AS c3 FROM customers GROUP BY c2;

-- such names in a statement whose rows are brought together
SELECT c1.id AS c3, c2.id AS c1 FROM customers c1 JOIN orders c2 ON c2.qty = c1.age ORDER BY c3, c1;

-- quoted names
SELECT "O"."Gift Wrap", "O".id AS "Id", count(*) OVER () AS "The ""count""" FROM orders "O" WHERE "O"."Gift Wrap";

-- a column called like a keyword
SELECT n."on", count(*) FROM notes n JOIN customers c ON c.id = n.customer_id GROUP BY n."on";

-- TABLE
TABLE stock;

-- ordered: TABLE with LIMIT
TABLE events ORDER BY n LIMIT 3;

-- VALUES joined with a sharded table
SELECT v.x, c.name FROM (VALUES (1, 'a'), (2, 'b'), (3, NULL)) AS v(x, y) JOIN customers c ON c.id = v.x;

-- VALUES with a subquery over a sharded table
VALUES ((SELECT count(*) FROM customers)), ((SELECT max(id) FROM orders));

-- no FROM, but subqueries over sharded tables
SELECT (SELECT count(*) FROM customers), (SELECT sum(qty) FROM stock), ARRAY(SELECT sku FROM items ORDER BY 1 LIMIT 3), EXISTS (SELECT FROM voids);

-- keys on several shards
SELECT id, name FROM customers WHERE id IN (1, 5, 9, NULL);

-- a key that is NULL
SELECT id FROM customers WHERE id = NULL;

-- two keys that can't both be
SELECT count(*) FROM customers WHERE id = 1 AND id = 2;

-- a key compared with another type
SELECT id FROM customers WHERE id = 1.0 OR id = '2' OR id = 3::int2;

-- a key of text with blanks at its end
SELECT sku FROM items WHERE sku = 'sku-1 ' OR sku = 'sku-1'::char(10);

-- a part of a composite key
SELECT n FROM events WHERE tenant = 1;

-- a composite key as a row
SELECT n FROM events WHERE (tenant, day) IN ((1, '2024-01-04'), (2, '2024-01-07'));

-- a condition that only seems to pin
SELECT id FROM customers WHERE id = 1 OR name = 'Ada';

-- a pin under an outer join does not pin the kept side
SELECT c.id, o.id FROM customers c LEFT JOIN orders o ON o.customer_id = c.id AND o.customer_id = 5;

-- a pinned part joined with one that is not
SELECT c.id, o.id FROM customers c JOIN orders o ON o.qty = c.age WHERE c.id = 2;

-- CASE with subqueries of several tables
SELECT CASE WHEN id = (SELECT min(customer_id) FROM orders) THEN 'first' ELSE (SELECT max(label) FROM items WHERE kind = customers.age % 5) END FROM customers;

-- time zones, dates and intervals as text
SELECT id, seen::text, seen::date, date_trunc('day', seen), seen AT TIME ZONE 'UTC', extract(hour FROM seen) FROM customers;

-- JSON across a join by another column
SELECT c.id, i.sku FROM customers c JOIN items i ON (i.doc ->> 'size') = (c.doc ->> 'a') OR i.doc @> '{"tags": ["x"]}' AND c.doc ? 'c';

-- arrays of an enum, whose type has another OID on each server
SELECT array_agg(mood ORDER BY mood), max(mood), enum_range(NULL::mood) FROM customers;

-- a row with an enum in it
SELECT ROW(id, mood), ARRAY[mood, 'ok'] FROM orders WHERE id < 6;

-- OIDs of the user's types and tables, which each server gives for itself
SELECT pg_typeof(mood)::text, count(*), min('orders'::regclass::oid) = max('orders'::regclass::oid) FROM orders GROUP BY pg_typeof(mood);
