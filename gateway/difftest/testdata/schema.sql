-- The tables of the comparison. How they are distributed is in cluster_test.go.
--
-- Of a column, the generator knows the type, the collation and some of its values; and that those of a column
-- called big are too big for arithmetic.

CREATE TYPE mood AS ENUM ('sad', 'ok', 'happy');

-- One group.
CREATE TABLE customers (
  id int8 PRIMARY KEY, name text, code varchar(8), country char(2), age int2, score int4, balance numeric(12,2),
  ratio float8, active bool, born date, seen timestamptz, mood mood, tags text[], doc jsonb, referrer int8, big int8
);
CREATE TABLE orders (
  customer_id int8, id int4, sku text, qty int4, price numeric, weight float4, "Gift Wrap" bool, at timestamp,
  note text COLLATE "en-x-icu", mood mood, parts int[], ref uuid, PRIMARY KEY (customer_id, id)
);
CREATE TABLE voids (id int8 PRIMARY KEY, name text, n numeric(12,2));

-- Another group.
CREATE TABLE items (
  sku text PRIMARY KEY, label text COLLATE "C", kind int2, w float8, n int8, raw bytea, u uuid, opens time, span interval,
  made date, doc jsonb
);
CREATE TABLE stock (
  sku text, place int4, qty int8, cost numeric(12,2), checked timestamptz, big int8, PRIMARY KEY (sku, place)
);

-- A key of two columns.
CREATE TABLE events (
  tenant int4, day date, n int4, what text, took interval, at timestamptz, size float4, PRIMARY KEY (tenant, day, n)
);

-- Reference tables.
CREATE TABLE countries (code char(2) PRIMARY KEY, name text, area int8, eu bool, rate float8);
CREATE TABLE kinds (id int2 PRIMARY KEY, name varchar(20), parent int2, factor numeric(12,2), mood mood);

-- A local table.
CREATE TABLE notes (id int4 PRIMARY KEY, customer_id int8, "Mixed Case" text, score float8, "on" date, place int4);

-- Views, also over views.
CREATE VIEW adults AS SELECT id, name, country, age, balance, mood, tags AS "Tags", referrer FROM customers WHERE age > 20;
CREATE VIEW lines AS SELECT o.customer_id, o.id, a.name, o.sku, o.qty, o.price, o."Gift Wrap", i.label, o.at
  FROM orders o JOIN adults a ON a.id = o.customer_id LEFT JOIN items i USING (sku);
CREATE VIEW sales (sku, sold, orders, best) AS SELECT sku, sum(qty), count(*), max(price) FROM orders GROUP BY sku HAVING count(*) > 1 ORDER BY 2, sku;
CREATE VIEW homes AS SELECT country AS code, name FROM customers UNION SELECT code, upper(name) FROM countries WHERE eu;
CREATE VIEW ranks AS WITH e AS (SELECT tenant, day, n, what, took, coalesce(size, 0.5) AS size FROM events)
  SELECT e.*, row_number() OVER (PARTITION BY tenant ORDER BY day, n) AS rank FROM e;
