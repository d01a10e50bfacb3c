"""psycopg 2: every feature once, a line each; run directly and through, the lines must be equal."""
import hashlib, io, select, threading, time
import psycopg2, psycopg2.extensions


def say(feature, result):
    print(feature, repr(result), sep="\t", flush=True)


def error_of(cursor, sql, args=None):
    try:
        cursor.execute(sql, args)
    except psycopg2.Error as e:
        d = e.diag
        return e.pgcode, d.severity, d.message_primary, d.constraint_name, d.statement_position


db = psycopg2.connect("")
db.autocommit = True
c = db.cursor()
c.execute("SELECT 1, 'ä€', NULL, 3.14::numeric, ARRAY[1,2], '{\"a\": 1}'::jsonb, %s", ("it's",))
say("simple", (c.fetchall(), [(d.name, d.type_code) for d in c.description]))
c.execute("SELECT 1; SELECT 2")
say("multi-statement", c.fetchall())
c.execute("PREPARE p (int) AS SELECT $1 * 2")
c.execute("EXECUTE p (21)")
first = c.fetchone()
c.execute("EXECUTE p (22)")
say("prepared", (first, c.fetchone()))

c.execute("DROP TABLE IF EXISTS drv; CREATE TABLE drv (id int PRIMARY KEY, body text)")
c.copy_expert("COPY drv FROM STDIN", io.StringIO("1\tone\n2\t\\N\n3\tthree\\tx\n"))
copied = c.rowcount
try:
    c.copy_expert("COPY drv FROM STDIN", io.StringIO("9\tnine\nx\ty\n"))
except psycopg2.Error as e:
    say("COPY in", (copied, e.pgcode, e.diag.message_primary, e.diag.context))
out = io.BytesIO()
c.copy_expert("COPY drv TO STDOUT (FORMAT csv)", out)
say("COPY out", out.getvalue())
out = io.BytesIO()
c.copy_expert("COPY drv TO STDOUT (FORMAT binary)", out)
say("binary", out.getvalue().hex())

db.autocommit = False
with db.cursor("many") as many:
    many.itersize = 100
    many.execute("SELECT n FROM generate_series(1, 1000) n")
    say("cursors", sum(row[0] for row in many))
db.rollback()
c.execute("INSERT INTO drv VALUES (10, 'x'); SAVEPOINT s; INSERT INTO drv VALUES (11, 'y')")
clash = error_of(c, "INSERT INTO drv VALUES (1, 'again')")
status = db.get_transaction_status()
c.execute("ROLLBACK TO s")
db.commit()
c.execute("SELECT array_agg(id ORDER BY id) FROM drv")
say("transactions", (clash, status, c.fetchone(), db.get_transaction_status()))
db.rollback()
db.autocommit = True
say("errors", [error_of(c, sql) for sql in ("SELEC 1", "SELECT 1/0", "SELECT * FROM nowhere", "SELECT 'ä' FROM")])
c.execute("DO $$ BEGIN RAISE NOTICE 'hello %', 1; RAISE WARNING 'careful' USING HINT = 'slow down'; END $$")
say("notices", db.notices[-2:])

other = psycopg2.connect("")
other.autocommit = True
c.execute("LISTEN news")
other.cursor().execute("SELECT pg_notify('news', 'extra')")
select.select([db], [], [], 5)
db.poll()
n = db.notifies.pop()
say("LISTEN/NOTIFY", (n.channel, n.payload, n.pid == other.info.backend_pid))

timer = threading.Timer(0.3, db.cancel)
timer.start()
started = time.time()
cancelled = error_of(c, "SELECT pg_sleep(20)")
time.sleep(0.5)
say("cancel", (cancelled, time.time() - started < 10))
c.execute("SELECT repeat('x', 10000000)")
big = hashlib.md5(c.fetchone()[0].encode()).hexdigest()
c.execute("SELECT n, md5(n::text) FROM generate_series(1, 50000) n")
say("large rows", (big, hashlib.md5(repr(c.fetchall()).encode()).hexdigest()))
c.execute("DROP TABLE drv")
other.close()
db.close()
