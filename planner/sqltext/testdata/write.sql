INSERT INTO pgbench_history (tid, bid, aid, delta, mtime) VALUES (7, 1, 56789, -1234, CURRENT_TIMESTAMP);

UPDATE pgbench_accounts SET abalance = abalance + -1234 WHERE aid = 56789;

UPDATE pgbench_tellers SET tbalance = tbalance + $1 WHERE tid = $2;

INSERT INTO t DEFAULT VALUES RETURNING *

INSERT INTO t (a, b, c) VALUES (1, 'x', DEFAULT), (2, 'it''s', now() - interval '1 hour'), (-3, E'tab\there', '2024-01-01'::timestamptz), ($1, $2, $3::jsonb)

INSERT INTO t AS x (id, n, arr[1], rec.f) OVERRIDING SYSTEM VALUE SELECT id, 1, 2, 'y' FROM s WHERE id > 100 ON CONFLICT (id) WHERE n > 0 DO UPDATE SET n = x.n + excluded.n, (a, b) = (1, 'z'), (c, d) = (SELECT 1, 2) WHERE x.n < 10 RETURNING id, n AS "N"

INSERT INTO t VALUES (1) ON CONFLICT ON CONSTRAINT t_pkey DO NOTHING

INSERT INTO docs (body) VALUES ('{"a": "b\\c", "d": [1, 2, "it''s"]}'::jsonb), ($${"q": "'"}$$), ($j${"$$": 1}$j$)

UPDATE t SET a = a + 1, b = b || 'x', c[1] = 2, d.e = 3, f = DEFAULT, (g, h) = ROW(1, 2) FROM s LEFT JOIN r USING (id) WHERE t.id = s.id AND s.x > 1.5e3 RETURNING t.*, s.x

UPDATE t * SET a = 1 WHERE CURRENT OF c1

DELETE FROM t USING s, r WHERE t.id = s.id AND s.y = r.y AND r.z IN ('a', 'b', 'c') RETURNING *

WITH moved AS (DELETE FROM a WHERE id = 1 RETURNING *), ins AS (INSERT INTO b SELECT * FROM moved RETURNING 1) UPDATE c SET n = n - 1 WHERE id = 2

MERGE INTO target t USING (SELECT 1 AS id, 'x' AS v) s ON t.id = s.id WHEN MATCHED AND t.v <> s.v THEN UPDATE SET v = s.v, n = n + 1 WHEN MATCHED THEN DELETE WHEN NOT MATCHED BY SOURCE AND t.n > 5 THEN DO NOTHING WHEN NOT MATCHED THEN INSERT (id, v) VALUES (s.id, 'new') RETURNING merge_action(), t.*

COPY pgbench_accounts (aid, bid) FROM STDIN WITH (FORMAT csv, DELIMITER '|', NULL '\N', HEADER true, QUOTE '"', FORCE_NOT_NULL (aid))

COPY (SELECT * FROM t WHERE a > 5) TO STDOUT BINARY

COPY t FROM '/tmp/x.csv' DELIMITERS E'\t' CSV WHERE a <> 3

TRUNCATE TABLE a, ONLY b RESTART IDENTITY CASCADE

SELECT nextval('s'), setval('s', 100, false), pg_advisory_xact_lock(42), txid_current()

UPDATE bmsql_stock SET s_quantity = CASE WHEN s_quantity >= 17 THEN s_quantity - 7 ELSE s_quantity + 91 - 7 END, s_ytd = s_ytd + 7 WHERE s_w_id = 1 AND s_i_id = 12345

CALL transfer(1, 2, -100.50, note => 'it''s')

DO $do$
DECLARE
  r record;
  s text := 'a $$ b';
BEGIN
  -- 'unbalanced
  FOR r IN SELECT 1 AS x LOOP
    EXECUTE format('SELECT %L', r.x) /* " */;
  END LOOP;
  RAISE NOTICE 'done %', s;
END
$do$ LANGUAGE plpgsql

LOCK TABLE shardgate.decisions IN ROW EXCLUSIVE MODE; PREPARE TRANSACTION 'sg_1_2_3'

BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY, NOT DEFERRABLE; SAVEPOINT f; ROLLBACK TO SAVEPOINT f; COMMIT AND CHAIN; END; ABORT;

COMMIT PREPARED 'it''s'; ROLLBACK PREPARED $$x$$
