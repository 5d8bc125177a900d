-- The rows. What PostgreSQL itself leaves open must not show in an answer, so that:
--
--   floats     are multiples of 1/8 and small, so that a sum is the same in any order; and never zero, whose
--              negative equals it and looks otherwise
--   numerics   of a column have one scale, since 1.0 and 1.00 are equal
--   intervals  that are equal look alike: 1 day and 24 hours don't
--
-- The lists have different lengths, most of them prime, so that columns are not tied to each other.

INSERT INTO customers SELECT
  i - 4,
  (ARRAY['Ada', 'Ben', 'ada', '', 'Cleo', 'Ärger', 'zoë', NULL, 'Ben ', 'Zoe', 'O''Neill'])[1 + i % 11],
  (ARRAY['a', 'b', 'B', '', NULL, 'a1', 'long one'])[1 + i % 7],
  (ARRAY['de', 'fr', 'it', 'us', 'xx', NULL])[1 + i % 6],
  (ARRAY[20, 30, 41, NULL, -1, 99, 20, 0])[1 + i % 8],
  CASE WHEN i % 9 = 0 THEN NULL ELSE i * 37 % 100 END,
  CASE WHEN i % 10 = 3 THEN NULL WHEN i % 13 = 5 THEN 'NaN' ELSE i * 7919 % 5000 / 100.0 - 10 END,
  (ARRAY[0.5, -1.25, 'NaN', NULL, 'Infinity', 3, 1024, -0.125, 7.75, '-Infinity', 0.5, 2, 2.5])[1 + i % 13],
  (ARRAY[true, false, NULL, true, true])[1 + i % 5],
  CASE WHEN i % 8 <> 6 THEN date '1990-02-27' + i * 131 % 900 END,
  (ARRAY['2024-03-10 06:30+00', '2024-03-10 07:30+00', 'infinity', NULL, '1999-12-31 23:59:59.999999+00', '2024-11-03 05:30+00',
    '2024-11-03 06:30+00'])[1 + i % 7]::timestamptz,
  (ARRAY['sad', 'ok', 'happy', NULL, 'ok'])[1 + i % 5]::mood,
  (ARRAY['{}', '{a,b}', NULL, '{"",NULL}', '{a}', '{b,a,"c d"}'])[1 + i % 6]::text[],
  (ARRAY['{"a": 1, "b": [1, 2]}', '{}', NULL, '{"a": null}', '{"a": "x", "c": {"d": true}}'])[1 + i % 5]::jsonb,
  CASE WHEN i % 4 > 0 THEN i / 3 - 4 END,
  (ARRAY[9223372036854775807, -9223372036854775808, 0, NULL, 1, 9007199254740993])[1 + i % 6]
FROM generate_series(1, 50) i;

INSERT INTO orders SELECT
  i * 29 % 56 - 6,
  i,
  CASE WHEN i % 11 > 0 THEN 'sku-' || i * 7 % 37 END,
  (ARRAY[1, 2, 3, NULL, 1, 5, 0])[1 + i % 7],
  CASE i % 17 WHEN 3 THEN 'NaN' WHEN 5 THEN NULL WHEN 11 THEN 'Infinity' ELSE (i * 353 % 2000 - 300)::numeric / 8 END,
  (ARRAY[0.5, 1.5, NULL, 2, -3.5, 8, 0.5])[1 + i % 7],
  (ARRAY[true, false, false, NULL])[1 + i % 4],
  CASE i % 12 WHEN 7 THEN NULL WHEN 10 THEN '-infinity' ELSE timestamp '2024-02-28 12:00' + i * 5 % 40 * interval '7 hours 13 minutes' END,
  (ARRAY['apple', 'Apple', 'äpfel', 'Zebra', '', NULL, 'apple pie', 'zebra', 'e-mail', 'email'])[1 + i % 10],
  (ARRAY['ok', NULL, 'happy', 'sad'])[1 + i % 4]::mood,
  (ARRAY['{1,2}', '{}', NULL, '{3}', '{2,NULL,1}'])[1 + i % 5]::int[],
  CASE WHEN i % 6 > 0 THEN md5((i % 20)::text)::uuid END
FROM generate_series(1, 90) i;
UPDATE orders SET price = round(price, 3);

INSERT INTO items SELECT
  'sku-' || i,
  (ARRAY['Bolt', 'bolt', 'Ärmel', NULL, 'nut', '', 'Nut'])[1 + i % 7],
  CASE WHEN i % 7 > 0 THEN i % 12 END,
  (ARRAY[0.25, 0.5, NULL, 12, 'NaN', -4.75])[1 + i % 6],
  (ARRAY[5, 10, NULL, 5, -7, 100])[1 + i % 6] + i / 20,
  (ARRAY['\x00ff', '\x', NULL, '\x616263', '\x00'])[1 + i % 5]::bytea,
  CASE WHEN i % 5 > 0 THEN md5((i % 25)::text)::uuid END,
  (ARRAY['00:00', '08:30', NULL, '23:59:59.5', '08:30'])[1 + i % 5]::time,
  (ARRAY['1 hour', '02:30', NULL, '-00:45', '01:00:01.5'])[1 + i % 5]::interval,
  CASE WHEN i % 9 > 0 THEN date '2023-12-25' + i * 5 % 40 END,
  (ARRAY['{"size": 3}', '{"size": 10, "tags": ["x", "y"]}', NULL, '{"size": "big"}'])[1 + i % 4]::jsonb
FROM generate_series(1, 40) i;

INSERT INTO stock SELECT
  'sku-' || i * 13 % 47,
  i % 9,
  (ARRAY[0, 10, 25, NULL, 10])[1 + i % 5],
  CASE WHEN i % 8 > 0 THEN i * 77 % 900 / 4.0 END,
  CASE WHEN i % 6 > 0 THEN timestamptz '2024-03-09 20:00+00' + i * interval '5 hours' END,
  (ARRAY[9223372036854775807, 1, NULL, -9223372036854775807])[1 + i % 4]
FROM generate_series(1, 70) i;

INSERT INTO events SELECT
  i % 5,
  date '2024-01-01' + i * 3 % 7,
  i,
  (ARRAY['login', 'logout', 'Login', NULL, 'error', ''])[1 + i % 6],
  (ARRAY['00:00:01', '00:10', NULL, '02:00', '00:00:01'])[1 + i % 5]::interval,
  CASE WHEN i % 10 > 0 THEN timestamptz '2024-01-01 00:00+00' + i * interval '11 hours 7 minutes' END,
  (ARRAY[0.5, 4, NULL, -2.25])[1 + i % 4]
FROM generate_series(1, 60) i;

INSERT INTO countries VALUES
  ('de', 'Germany', 357588, true, 0.5), ('fr', 'France', 643801, true, 2), ('it', 'Italy', 301340, true, NULL), ('us', 'USA', 9833520, false, 1.25),
  ('ch', 'Schweiz', 41285, false, 'NaN'), ('at', 'Österreich', 83879, true, 0.5), ('zz', NULL, NULL, NULL, NULL), ('b ', '', 0, false, -8);

INSERT INTO kinds VALUES
  (0, 'all', NULL, 1.00, 'ok'), (1, 'metal', 0, 1.50, NULL), (2, 'wood', 0, 0.75, 'sad'), (3, 'bolts', 1, 2.00, 'happy'), (4, 'nuts', 1, NULL, 'ok'),
  (5, 'oak', 2, 1.50, 'sad'), (6, '', 2, -1.00, NULL), (7, NULL, 3, 'NaN', 'happy'), (20, 'unused', NULL, 0.00, 'ok');

INSERT INTO notes SELECT
  i, i * 5 % 60 - 5, (ARRAY['call', 'Call back', NULL, '', 'Ünlü'])[1 + i % 5], (ARRAY[1.5, NULL, 8, -0.25])[1 + i % 4],
  CASE WHEN i % 6 > 0 THEN date '2024-02-01' + i * 9 % 50 END, i % 4
FROM generate_series(1, 25) i;
