"""Everything that psycopg does, against the server of the PG* variables."""

import datetime
import decimal
import os
import platform
import threading
import time
import uuid

import psycopg
from psycopg import sql
from psycopg.types.composite import CompositeInfo, register_composite
from psycopg.types.enum import EnumInfo, register_enum
from psycopg.types.json import Jsonb

SCHEMA = os.environ["DRIVER_SCHEMA"]
GATEWAY = os.environ["DRIVER_GATEWAY"] == "true"
AWKWARD = ["", "it's", "back\\slash", '"double"', "línea\nd'été", "日本語 🐘", "$1 ? %% :x --c /* */ ;", '{"a",NULL}', "\\N"]
next_key = 1


def keys(n):
    """n keys that nobody has used."""
    global next_key
    out = list(range(next_key, next_key + n))
    next_key += n
    return out


def connect(**more):
    more.setdefault("options", "-c search_path=" + SCHEMA)
    return psycopg.connect(**more)


def equal(what, got, want):
    if got != want:
        raise AssertionError(f"{what}: got {got!r}, want {want!r}")


class fails:
    """A block that must raise an error of an SQLSTATE."""

    def __init__(self, code):
        self.code = code

    def __enter__(self):
        return self

    def __exit__(self, kind, error, _):
        if error is None:
            raise AssertionError(f"no error, where {self.code} was expected")
        if not isinstance(error, psycopg.Error) or error.sqlstate != self.code:
            return False
        self.diag = error.diag
        return True


def one(conn, query, params=None, **more):
    return conn.execute(query, params, **more).fetchone()[0]


def test_connect():
    conn = connect(application_name="a name", options=f"-c search_path={SCHEMA} -c work_mem=7MB -c datestyle=German", client_encoding="utf8")
    for name, want in {"application_name": "a name", "work_mem": "7MB", "search_path": SCHEMA, "datestyle": "German, DMY"}.items():
        equal(name, one(conn, "SHOW " + name), want)
    equal("reported", conn.info.parameter_status("DateStyle"), "German, DMY")
    equal("encoding", conn.info.encoding, "utf-8")
    equal("version", conn.info.parameter_status("server_version"), one(conn, "SHOW server_version"))
    equal("a date", one(conn, "SELECT '2024-02-01'::date::text"), "01.02.2024")
    conn.close()
    # libpq has no SQLSTATE for what ends a connection attempt, only the text.
    for options, text in {"-c work_mem=nonsense": "work_mem", "-c no_such=1": "no_such"}.items():
        try:
            connect(options=options)
        except psycopg.OperationalError as e:
            equal("message", text in str(e), True)
        else:
            raise AssertionError(options)
    latin = connect(client_encoding="latin1")
    key = keys(1)[0]
    latin.execute("INSERT INTO items(id, t) VALUES(%s, %s)", (key, "été"))
    equal("text in another encoding", one(latin, "SELECT t FROM items WHERE id = %s", (key,)), "été")
    latin.commit()
    with connect() as conn:
        equal("the same text", one(conn, "SELECT t FROM items WHERE id = %s", (key,)), "été")


def test_types():
    for threshold in (5, 0, None):
        for binary in (False, True):
            with connect() as conn:
                conn.prepare_threshold = threshold
                for i, key in enumerate(keys(len(AWKWARD))):
                    at = datetime.datetime(2024, 2, 29, 12, 0, i, 123456, datetime.timezone.utc)
                    row = (key, -i, decimal.Decimal(f"-{(1 << 40) + i}.0001"), AWKWARD[i], b"\x00\x01\xff'\\", at, uuid.UUID(int=i),
                           i % 2 == 0, [1, -2, None], [AWKWARD[i], None], {"k": AWKWARD[i], "n": 1.5})
                    conn.execute("INSERT INTO items(id, i, n, t, b, ts, u, ok, a, ta, j) VALUES (%s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s)",
                                 row[:10] + (Jsonb(row[10]),))
                    got = conn.execute("SELECT id, i, n, t, b, ts, u, ok, a, ta, j FROM items WHERE id = %s", (key,), binary=binary).fetchone()
                    equal("the row", got, row)
                    got = conn.execute("SELECT t FROM items WHERE id = %b AND t = %t", (key, AWKWARD[i]), binary=binary).fetchone()
                    equal("text", got, (AWKWARD[i],))
                key = keys(1)[0]
                conn.execute("INSERT INTO items(id, i, n, t, b, ts, u, ok, a, ta, j) VALUES (%s" + ", %s" * 10 + ")", (key,) + (None,) * 10)
                equal("nulls", one(conn, "SELECT (i,n,t,b,ts,u,ok,a,ta,j) IS NULL FROM items WHERE id = %s", (key,)), True)


def test_rows():
    for threshold in (5, 0, None):
        with connect(autocommit=True) as conn:
            conn.prepare_threshold = threshold
            ids = keys(20)
            params = [v for k in ids for v in (k, f"row {k}")]
            got = conn.execute("INSERT INTO items(id, t) VALUES " + ", ".join(["(%s, %s)"] * 20) + " RETURNING id", params).fetchall()
            equal("RETURNING", [r[0] for r in got], ids)
            for _ in range(8):
                got = conn.execute("SELECT id, t FROM items WHERE id = ANY(%s)", (ids,)).fetchall()
                equal("rows", sorted(got), [(k, f"row {k}") for k in ids])
            equal("updated", conn.execute("UPDATE items SET t = %s WHERE id = ANY(%s)", ("new", ids[:15])).rowcount, 15)
            equal("updated", conn.execute("UPDATE items SET t = %s WHERE id BETWEEN %s AND %s", ("newer", ids[0], ids[9])).rowcount, 10)
            for i in range(12):
                conn.execute("INSERT INTO states VALUES (%s, %s)", (f"{threshold} {i}", f"state {i}"))
            for i in range(12):
                equal("a state", one(conn, "SELECT name FROM states WHERE code = %s", (f"{threshold} {i}",)), f"state {i}")
            equal("deleted", conn.execute("DELETE FROM items WHERE t = %s", ("newer",)).rowcount, 10)


def test_executemany():
    with connect() as conn:
        ids = keys(60)
        with conn.cursor() as cur:
            cur.executemany("INSERT INTO items(id, t) VALUES (%s, %s)", [(k, "many") for k in ids])
            equal("count", cur.rowcount, 60)
            cur.executemany("UPDATE items SET i = %s WHERE id = %s RETURNING id", [(k, k) for k in ids], returning=True)
            got = []
            while True:
                got.append(cur.fetchone()[0])
                if not cur.nextset():
                    break
            equal("RETURNING", got, ids)
        conn.commit()
        equal("rows", len(conn.execute("SELECT 1 FROM items WHERE id = ANY(%s) AND i = id", (ids,)).fetchall()), 60)
        conn.rollback()
        more = keys(10)
        with fails("23505"):
            conn.cursor().executemany("INSERT INTO items(id) VALUES (%s)", [(k,) for k in more + ids[:1]])
        conn.rollback()
        equal("rows", conn.execute("SELECT 1 FROM items WHERE id = ANY(%s)", (more,)).fetchall(), [])


def test_pipeline():
    for autocommit in (False, True):
        with connect(autocommit=autocommit) as conn:
            ids = keys(30)
            with conn.pipeline() as p:
                for k in ids:
                    conn.execute("INSERT INTO items(id, t) VALUES (%s, %s)", (k, "piped"))
                cursors = [conn.execute("SELECT t FROM items WHERE id = %s", (k,)) for k in ids]
                everything = conn.execute("SELECT id FROM items WHERE id = ANY(%s)", (ids,))
                p.sync()
                equal("rows", [c.fetchone() for c in cursors], [("piped",)] * 30)
                equal("everything", len(everything.fetchall()), 30)
            conn.commit()
            more = keys(4)
            with fails("23505"):
                with conn.pipeline():
                    conn.execute("INSERT INTO items(id) VALUES (%s)", (more[0],))
                    conn.execute("INSERT INTO items(id) VALUES (%s)", (ids[0],))
                    conn.execute("INSERT INTO items(id) VALUES (%s)", (more[1],))
            conn.rollback()
            equal("rows", conn.execute("SELECT 1 FROM items WHERE id = ANY(%s)", (more,)).fetchall(), [])
            with conn.pipeline(), conn.transaction():
                for k in more:
                    conn.execute("INSERT INTO items(id) VALUES (%s)", (k,))
                try:
                    with conn.transaction():
                        conn.execute("DELETE FROM items WHERE id = ANY(%s)", (ids,))
                        raise psycopg.Rollback()
                except psycopg.Rollback:
                    pass
            equal("rows", len(conn.execute("SELECT 1 FROM items WHERE id = ANY(%s)", (ids + more,)).fetchall()), 34)


def test_transactions():
    with connect() as conn, connect(autocommit=True) as other:
        ids = keys(12)

        def present():
            return len(other.execute("SELECT 1 FROM items WHERE id = ANY(%s)", (ids,)).fetchall())

        for k in ids:
            conn.execute("INSERT INTO items(id) VALUES (%s)", (k,))
        equal("what another sees", present(), 0)
        conn.rollback()
        equal("after ROLLBACK", present(), 0)
        with conn.transaction():
            for k in ids[:6]:
                conn.execute("INSERT INTO items(id) VALUES (%s)", (k,))
            with fails("23505"):
                with conn.transaction():
                    conn.execute("INSERT INTO items(id) VALUES (%s)", (ids[7],))
                    with fails("23505"):
                        conn.execute("INSERT INTO items(id) VALUES (%s)", (ids[0],))
                    with fails("25P02"):
                        conn.execute("SELECT 1 FROM items WHERE id = %s", (ids[8],))
                    raise psycopg.errors.UniqueViolation()
            with conn.transaction(savepoint_name='a "name"'):
                conn.execute("INSERT INTO items(id) VALUES (%s)", (ids[9],))
        equal("after COMMIT", present(), 7)
        conn.execute("DELETE FROM items WHERE id = ANY(%s)", (ids,))
        with fails("22012"):
            conn.execute("SELECT 1/0")
        equal("status", conn.info.transaction_status, psycopg.pq.TransactionStatus.INERROR)
        conn.commit()
        equal("after COMMIT of a failed transaction", present(), 7)
        conn.isolation_level = psycopg.IsolationLevel.REPEATABLE_READ
        conn.read_only = True
        equal("level", one(conn, "SHOW transaction_isolation"), "repeatable read")
        with fails("25006"):
            conn.execute("DELETE FROM items WHERE id = %s", (ids[0],))
        conn.rollback()
        # Two-phase commit of the client's own is not for a gateway that has its own.
        if GATEWAY:
            conn.read_only = None
            conn.isolation_level = None
            conn.tpc_begin(conn.xid(1, "gtrid", "bqual"))
            conn.execute("INSERT INTO items(id) VALUES (%s)", (ids[10],))
            with fails("0A000"):
                conn.tpc_prepare()
            conn.close()
            equal("nothing is prepared", present(), 7)


def test_errors():
    with connect(autocommit=True) as conn:
        key = keys(1)[0]
        conn.execute("INSERT INTO items(id) VALUES (%s)", (key,))
        with fails("23505") as e:
            conn.execute("INSERT INTO items(id) VALUES (%s)", (key,))
        d = e.diag
        equal("fields", (d.severity, d.severity_nonlocalized, d.schema_name, d.table_name, d.constraint_name, d.message_detail),
              ("ERROR", "ERROR", SCHEMA, "items", "items_pkey", f"Key (id)=({key}) already exists."))
        for query, code, position in [("SELEC 1", "42601", "1"), ("SELECT 1 FROM nosuch", "42P01", "15"), ("SELECT nosuch FROM items", "42703", "8")]:
            with fails(code) as e:
                conn.execute(query)
            equal("position", e.diag.statement_position, position)
            with fails(code):
                conn.execute(query + " WHERE %s = 1" if "FROM" in query else query + "%s", (1,))
        with fails("23503"):
            conn.execute("INSERT INTO lines VALUES (%s, 1)", (key + 1_000_000,))
        with fails("23502"):
            conn.execute("INSERT INTO states VALUES (%s, NULL)", ("x",))
        if GATEWAY:
            with fails("0A000") as e:
                conn.execute("UPDATE items SET i = 1 WHERE ctid IN (SELECT ctid FROM items WHERE id <> %s)", (key,))
            equal("a hint", bool(e.diag.message_hint), True)
        conn.execute("PREPARE p AS SELECT %s", (key,))  # whose parameter is another
        equal("executed", conn.execute("EXECUTE p('x')").fetchone(), ("x",))
        notices = []
        conn.add_notice_handler(lambda n: notices.append(n.message_primary))
        conn.execute("DROP TABLE IF EXISTS nosuch")
        equal("notices", notices, ['table "nosuch" does not exist, skipping'])
        equal("the connection goes on", one(conn, "SELECT 1"), 1)


def test_cancel():
    with connect(autocommit=True) as conn:
        conn.execute("INSERT INTO items(id) VALUES (%s)", (keys(1)[0],))
        for query in ["SELECT pg_sleep(20)", "SELECT pg_sleep(20) FROM items", "SELECT pg_sleep(%s)"]:
            timer = threading.Timer(0.15, conn.cancel)
            timer.start()
            begun = time.monotonic()
            with fails("57014"):
                conn.execute(query, (20,) if "%s" in query else None)
            timer.join()
            equal("in time", time.monotonic() - begun < 10, True)
            equal("the connection goes on", one(conn, "SELECT 1"), 1)
        conn.execute("SET statement_timeout = 100")
        with fails("57014"):
            conn.execute("SELECT pg_sleep(20) FROM items")
        conn.execute("RESET statement_timeout")


def test_copy():
    with connect() as conn:
        ids = keys(300)
        with conn.cursor() as cur:
            with cur.copy("COPY items(id, t, b, a) FROM STDIN") as copy:
                for i, k in enumerate(ids[:200]):
                    copy.write_row((k, AWKWARD[i % len(AWKWARD)], bytes([i, 0, 92]), [i, None]))
            equal("count", cur.rowcount, 200)
            with cur.copy("COPY items(id, t) FROM STDIN (FORMAT csv)") as copy:
                for i, k in enumerate(ids[200:]):
                    # Pieces that don't end where rows do.
                    row = f'{k},"' + AWKWARD[i % len(AWKWARD)].replace('"', '""') + '"\n'
                    copy.write(row[:3])
                    copy.write(row[3:])
            for i in list(range(0, 200, 7)):
                equal("copied", cur.execute("SELECT t, b, a FROM items WHERE id = %s", (ids[i],)).fetchone(), (AWKWARD[i % len(AWKWARD)], bytes([i, 0, 92]), [i, None]))
            with cur.copy(sql.SQL("COPY (SELECT id, t FROM items WHERE id BETWEEN {} AND {}) TO STDOUT").format(ids[0], ids[-1])) as copy:
                copy.set_types(["int8", "text"])
                got = dict(copy.rows())
            equal("copied out", got, {k: AWKWARD[(i if i < 200 else i - 200) % len(AWKWARD)] for i, k in enumerate(ids)})
            with cur.copy("COPY lines TO STDOUT (FORMAT csv, HEADER)") as copy:
                equal("header", b"".join(bytes(b) for b in copy), b"item,line,note\n")
        conn.commit()
        binary = keys(50)
        with conn.cursor().copy("COPY items(id, b) FROM STDIN (FORMAT binary)") as copy:
            copy.set_types(["int8", "bytea"])
            for k in binary:
                copy.write_row((k, str(k).encode()))
        with conn.cursor().copy("COPY items(b, id) TO STDOUT (FORMAT binary)") as copy:
            copy.set_types(["bytea", "int8"])
            got = {k: b for b, k in copy.rows() if k in binary}
        equal("copied in binary", got, {k: str(k).encode() for k in binary})
        conn.commit()
        with fails("23505"):
            with conn.cursor().copy("COPY items(id) FROM STDIN") as copy:
                for k in keys(50) + ids[:1]:
                    copy.write_row((k,))
        conn.rollback()
        more = keys(50)
        with fails("57014"):
            with conn.cursor().copy("COPY items(id) FROM STDIN") as copy:
                for k in more:
                    copy.write_row((k,))
                raise psycopg.errors.QueryCanceled()
        conn.rollback()
        equal("rows", conn.execute("SELECT 1 FROM items WHERE id = ANY(%s)", (more,)).fetchall(), [])


def test_notify():
    with connect(autocommit=True) as conn, connect(autocommit=True) as sender:
        conn.execute("LISTEN psycopg_news")
        sender.execute("NOTIFY psycopg_news, 'hello'")
        sender.execute("SELECT pg_notify(%s, %s)", ("psycopg_news", "bye"))
        got = []
        for n in conn.notifies():
            got.append((n.channel, n.payload))
            if n.payload == "bye":
                break
        equal("notifications", got, [("psycopg_news", "hello"), ("psycopg_news", "bye")])


def test_settings():
    with connect() as conn:
        conn.execute("SET TIME ZONE 'Asia/Tokyo'")
        equal("time zone", str(conn.info.timezone), "Asia/Tokyo")
        conn.rollback()
        equal("time zone after ROLLBACK", str(conn.info.timezone), one(conn, "SHOW TimeZone"))
        conn.execute("SET LOCAL work_mem = '8MB'")
        equal("work_mem", one(conn, "SELECT current_setting('work_mem')"), "8MB")
        conn.commit()
        equal("work_mem", one(conn, "SHOW work_mem"), "4MB")
        with fails("22023"):
            conn.execute("SET work_mem = 'much'")
        conn.rollback()
        conn.execute("SELECT set_config('work_mem', '9MB', false)")
        equal("work_mem", one(conn, "SHOW work_mem"), "9MB")
        conn.rollback()
        equal("work_mem", one(conn, "SHOW work_mem"), "4MB")
        if GATEWAY:  # it would have to look into the parameter
            with fails("0A000"):
                conn.execute("SELECT set_config('work_mem', %s, true)", ("9MB",))


def test_cursors():
    with connect() as conn:
        key = keys(1)[0]
        conn.execute("INSERT INTO items(id) VALUES (%s)", (key,))
        conn.cursor().executemany("INSERT INTO lines VALUES (%s, %s, 'x')", [(key, i) for i in range(50)])
        conn.commit()
        with conn.cursor("named") as cur:
            cur.itersize = 7
            cur.execute("SELECT line FROM lines WHERE item = %s ORDER BY line", (key,))
            equal("columns", [c.name for c in cur.description], ["line"])
            equal("rows", [r[0] for r in cur], list(range(50)))
        with conn.cursor("scrolling", scrollable=True) as cur:
            cur.execute("SELECT line FROM lines WHERE item = %s ORDER BY line", (key,))
            cur.scroll(10)
            equal("row", cur.fetchone(), (10,))
            cur.scroll(0, mode="absolute")
            equal("rows", cur.fetchmany(2), [(0,), (1,)])
        conn.commit()
        with conn.cursor("holdable", withhold=True) as cur:
            cur.execute("SELECT line FROM lines WHERE item = %s ORDER BY line", (key,))
            conn.commit()
            equal("rows", len(cur.fetchall()), 50)
        conn.commit()
        # Over several shards: a few rows, and arrays of many.
        ids = keys(3000)
        conn.execute("INSERT INTO items(id, i, a) VALUES " + ", ".join(f"({k}, -{k}, '{{{k}}}')" for k in ids))
        with conn.cursor("everywhere") as cur, conn.cursor("scrolled", scrollable=True) as scrolled:
            cur.itersize = 1000
            cur.execute("SELECT id, a FROM items WHERE id >= %s ORDER BY i", (ids[0],), binary=True)
            scrolled.execute("SELECT item, count(*) FROM lines GROUP BY item HAVING item <= %s ORDER BY item", (key,))
            equal("columns", [c.name for c in scrolled.description], ["item", "count"])
            equal("a row", cur.fetchone(), (ids[-1], [ids[-1]]))
            with fails("22012"), conn.transaction():
                conn.execute("SELECT 1 / 0")
            scrolled.scroll(0, mode="absolute")
            before = scrolled.fetchone()
            scrolled.scroll(0, mode="absolute")
            equal("a row again", scrolled.fetchone(), before)
            equal("rows", [r[0] for r in cur], ids[-2::-1])
        with conn.cursor().copy("COPY (SELECT id % 2 AS odd, count(*) FROM items WHERE id >= " + str(ids[0]) + " GROUP BY 1 ORDER BY 1) TO STDOUT (FORMAT csv, HEADER)") as copy:
            equal("copied", b"".join(copy).split(), [b"odd,count", b"0,1500", b"1,1500"])
        conn.rollback()
        cur = conn.execute("SELECT id FROM items")
        equal("a client-side cursor", len(cur.fetchall()) > 100, True)
        # Row by row as it comes.
        equal("streamed", len(list(conn.cursor().stream("SELECT id FROM items WHERE id > %s", (0,)))) > 100, True)


def test_user_types():
    import enum

    class Mood(enum.Enum):
        sad = "sad"
        ok = "ok"
        happy = "happy"

    with connect(autocommit=True) as conn:
        register_enum(EnumInfo.fetch(conn, "mood"), conn, Mood)
        place = CompositeInfo.fetch(conn, "place")
        register_composite(place, conn)
        for binary in (False, True):
            ids = keys(24)
            for i, k in enumerate(ids):
                row = (k, list(Mood)[i % 3], place.python_type(i, 'a "b", (c)'), [Mood.ok, Mood.sad])
                conn.execute("INSERT INTO moods VALUES (%s, %s, %s, %s)", row)
                equal("the row", conn.execute("SELECT id, m, p, ms FROM moods WHERE id = %s", (k,), binary=binary).fetchone(), row)
            cur = conn.execute("SELECT m, p FROM moods WHERE m = %s AND id = ANY(%s)", (Mood.sad, ids), binary=binary)
            equal("sad ones", [r[0] for r in cur.fetchall()], [Mood.sad] * 8)
            equal("types", [c.type_code for c in cur.description], [EnumInfo.fetch(conn, "mood").oid, place.oid])
        equal("several", [r[0] for r in conn.execute("INSERT INTO moods(id, m) VALUES (%s, %s), (%s, %s), (%s, %s) RETURNING m",
              (keys(1)[0], Mood.ok, keys(1)[0], Mood.sad, keys(1)[0], Mood.happy)).fetchall()], [Mood.ok, Mood.sad, Mood.happy])


def test_metadata():
    with connect() as conn:
        for query in ["SELECT id, t AS name, n FROM items WHERE id = 3", "SELECT id, t AS name, n FROM items"]:
            cur = conn.execute(query)
            equal("columns", [(c.name, c.type_code) for c in cur.description], [("id", 20), ("name", 25), ("n", 1700)])
            equal("numeric", (cur.description[2].precision, cur.description[2].scale), (20, 4))
            equal("table", cur.pgresult.ftable(0), one(conn, "SELECT 'items'::regclass::oid"))
        equal("status", conn.execute("SELECT id FROM items WHERE id = 3").statusmessage[:6], "SELECT")


def test_threads():
    rounds, workers = 10, 12
    ids = keys(rounds * workers)
    wrong = []

    def work(w):
        try:
            for r in range(rounds):
                with connect() as conn:
                    conn.prepare_threshold = 0
                    k = ids[w * rounds + r]
                    conn.execute("INSERT INTO items(id, i) VALUES (%s, %s)", (k, r))
                    conn.execute("INSERT INTO lines VALUES (%s, %s, 'thread')", (k, w))
                    conn.execute("INSERT INTO items(id, i) VALUES (%s, %s)", (-k, r))
                    conn.commit()
                    got = conn.execute("SELECT i.i, l.line FROM items i JOIN lines l ON l.item = i.id WHERE i.id = %s", (k,)).fetchall()
                    equal("rows", got, [(r, w)])
        except Exception as e:
            wrong.append(e)

    threads = [threading.Thread(target=work, args=(w,)) for w in range(workers)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    if wrong:
        raise wrong[0]
    with connect() as conn:
        equal("rows", len(conn.execute("SELECT 1 FROM lines WHERE note = 'thread'").fetchall()), rounds * workers)


print(f"psycopg {psycopg.__version__} ({psycopg.pq.__impl__}), libpq {psycopg.pq.version()}, Python {platform.python_version()}")
failures = 0
for name, test in list(globals().items()):
    if name.startswith("test_"):
        try:
            test()
        except Exception:
            import traceback

            failures += 1
            print(f"{name} failed:")
            traceback.print_exc()
raise SystemExit(failures)
