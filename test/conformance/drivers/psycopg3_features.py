"""psycopg 3: every feature once, a line each; run directly and through, the lines must be equal."""
import hashlib, threading, time
import psycopg


def say(feature, result):
    print(feature, repr(result), sep="\t", flush=True)


def error_of(run):
    try:
        run()
    except psycopg.Error as e:
        d = e.diag
        return e.sqlstate, d.severity, d.message_primary, d.constraint_name, d.statement_position


db = psycopg.connect("", autocommit=True)
row = db.execute("SELECT 1, 'ä€', NULL, 3.14::numeric, ARRAY[1,2], '{\"a\": 1}'::jsonb")
say("simple", (row.fetchall(), [(d.name, d.type_code) for d in row.description]))
many = db.execute("SELECT 1; SELECT 2")
many.nextset()
say("multi-statement", many.fetchall())
values = [db.execute("SELECT %s::int * 2, %s", (n, "it's"), prepare=True).fetchone() for n in range(8)]
say("prepared", values)
binary = db.cursor(binary=True)
binary.execute("SELECT 7::int8, 2.5::float8, 1.25::numeric, 'ä', ARRAY[1,NULL,3], '2024-02-29'::date, %s", (b"\0\1",))
say("binary", (binary.fetchall(), [d.type_code for d in binary.description]))

db.execute("DROP TABLE IF EXISTS drv")
db.execute("CREATE TABLE drv (id int PRIMARY KEY, body text)")
cur = db.cursor()
with cur.copy("COPY drv FROM STDIN") as copy:
    for r in ((1, "one"), (2, None), (3, "three\tx")):
        copy.write_row(r)
with cur.copy("COPY drv FROM STDIN (FORMAT binary)") as copy:
    copy.set_types(["int4", "text"])
    copy.write_row((4, "four"))


def bad():
    with cur.copy("COPY drv FROM STDIN") as copy:
        copy.write("9\tnine\nx\ty\n")


def failed():
    with cur.copy("COPY drv FROM STDIN") as copy:
        copy.write("9\tnine\n")
        raise ValueError("given up")


refused = error_of(bad)
given_up = error_of(failed)
say("COPY in", (db.execute("SELECT * FROM drv ORDER BY id").fetchall(), refused, given_up))
with cur.copy("COPY drv TO STDOUT") as copy:
    text = list(copy.rows())
with cur.copy("COPY drv TO STDOUT (FORMAT binary)") as copy:
    copy.set_types(["int4", "text"])
    say("COPY out", (text, list(copy.rows())))

with db.transaction():
    with db.cursor(name="many") as many:
        many.execute("SELECT n FROM generate_series(1, 1000) n")
        total = sum(r[0] for r in many.fetchmany(10))
        many.scroll(100)
        say("cursors", (total, many.fetchone()))
    with db.cursor() as stream:
        streamed = sum(r[0] for r in stream.stream("SELECT n FROM generate_series(1, 100) n"))
clash = None
with db.transaction():
    db.execute("INSERT INTO drv VALUES (10, 'x')")

    def nested():
        with db.transaction():
            db.execute("INSERT INTO drv VALUES (11, 'y')")
            db.execute("INSERT INTO drv VALUES (1, 'again')")

    clash = error_of(nested)
say("transactions", (streamed, clash, db.execute("SELECT array_agg(id ORDER BY id) FROM drv").fetchone(), db.info.transaction_status.name))
say("errors", [error_of(lambda: db.execute(q)) for q in ("SELEC 1", "SELECT 1/0", "SELECT * FROM nowhere", "SELECT 'ä' FROM")])
notices = []
db.add_notice_handler(lambda d: notices.append((d.severity, d.message_primary, d.message_hint)))
db.execute("DO $$ BEGIN RAISE NOTICE 'hello %', 1; RAISE WARNING 'careful' USING HINT = 'slow down'; END $$")
say("notices", notices)

other = psycopg.connect("", autocommit=True)
db.execute("LISTEN news")
other.execute("SELECT pg_notify('news', 'extra')")
n = next(db.notifies())
say("LISTEN/NOTIFY", (n.channel, n.payload, n.pid == other.info.backend_pid))
threading.Timer(0.3, db.cancel).start()
started = time.time()
say("cancel", (error_of(lambda: db.execute("SELECT pg_sleep(20)")), time.time() - started < 10))
time.sleep(0.5)
big = db.execute("SELECT repeat('x', 10000000)").fetchone()[0]
rows = db.execute("SELECT n, md5(n::text) FROM generate_series(1, 50000) n", binary=True).fetchall()
say("large rows", (hashlib.md5(big.encode()).hexdigest(), hashlib.md5(repr(rows).encode()).hexdigest()))

results = []
with db.pipeline() as p:
    cursors = [db.execute("SELECT %s::int", (n,)) for n in range(20)]
    p.sync()
    results.append(sum(c.fetchone()[0] for c in cursors))


def broken():
    with db.pipeline():
        db.execute("INSERT INTO drv VALUES (20, 'a')")
        db.execute("INSERT INTO drv VALUES (1, 'clash')")
        db.execute("INSERT INTO drv VALUES (21, 'b')")


results.append(error_of(broken))
results.append(db.execute("SELECT array_agg(id ORDER BY id) FROM drv WHERE id >= 20").fetchone())
say("pipelining", results)
db.execute("DROP TABLE drv")
other.close()
db.close()
