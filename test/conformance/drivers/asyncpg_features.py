"""asyncpg: every feature once, a line each; run directly and through, the lines must be equal."""
import asyncio, hashlib, io, os, time
import asyncpg


def say(feature, result):
    print(feature, repr(result), sep="\t", flush=True)


async def error_of(awaitable):
    try:
        await awaitable
    except asyncpg.PostgresError as e:
        return e.sqlstate, e.severity, str(e), e.constraint_name, getattr(e, "position", None)


async def connect():
    return await asyncpg.connect(ssl=False)


async def main():
    db = await connect()
    await db.execute("SELECT 1; SELECT 2")
    say("simple", await db.execute("SELECT 1"))
    say("multi-statement", await error_of(db.fetch("SELECT 1; SELECT 2")))
    p = await db.prepare("SELECT $1::int * 2 AS double, $2::text AS said")
    say("prepared", ([tuple(await p.fetchrow(n, "it's")) for n in range(5)], [a.type.name for a in p.get_attributes()]))
    row = await db.fetchrow("SELECT 7::int8, 2.5::float8, 1.25::numeric, 'ä', ARRAY[1,NULL,3], '2024-02-29'::date, '{\"a\":1}'::jsonb, ROW(1,'x')::record, '[1,3)'::int4range, $1::bytea", b"\0\1")
    say("binary", tuple(row))

    await db.execute("DROP TABLE IF EXISTS drv; CREATE TYPE mood AS ENUM ('ok', 'bad'); DROP TYPE mood; CREATE TABLE drv (id int PRIMARY KEY, body text)")
    tag = await db.copy_records_to_table("drv", records=[(1, "one"), (2, None), (3, "three\tx")])
    refused = await error_of(db.copy_to_table("drv", source=io.BytesIO(b"9\tnine\nx\ty\n")))
    say("COPY in", (tag, refused))
    out, binary = io.BytesIO(), io.BytesIO()
    await db.copy_from_query("SELECT * FROM drv ORDER BY $1::int", 1, output=out)
    await db.copy_from_table("drv", output=binary, format="binary")
    say("COPY out", (out.getvalue(), binary.getvalue().hex()))

    async with db.transaction():
        total = 0
        async for r in db.cursor("SELECT n FROM generate_series(1, 1000) n", prefetch=50):
            total += r[0]
        cursor = await db.cursor("SELECT n FROM generate_series(1, 1000) n")
        await cursor.forward(10)
        say("cursors", (total, [tuple(r) for r in await cursor.fetch(3)]))

    async def nested():
        async with db.transaction():
            await db.execute("INSERT INTO drv VALUES (11, 'y')")
            await db.execute("INSERT INTO drv VALUES (1, 'again')")

    async with db.transaction():
        await db.execute("INSERT INTO drv VALUES (10, 'x')")
        clash = await error_of(nested())
    say("transactions", (clash, await db.fetchval("SELECT array_agg(id ORDER BY id) FROM drv"), db.is_in_transaction()))
    say("errors", [await error_of(db.fetch(q)) for q in ("SELEC 1", "SELECT 1/0", "SELECT * FROM nowhere", "SELECT 'ä' FROM")])
    notices = []
    db.add_log_listener(lambda _, m: notices.append((m.severity, m.message, m.hint)))
    await db.execute("DO $$ BEGIN RAISE NOTICE 'hello %', 1; RAISE WARNING 'careful' USING HINT = 'slow down'; END $$")
    await asyncio.sleep(0.1)
    say("notices", notices)

    other = await connect()
    heard = asyncio.get_running_loop().create_future()
    await db.add_listener("news", lambda _, pid, channel, payload: heard.set_result((channel, payload, pid == other.get_server_pid())))
    await other.execute("SELECT pg_notify('news', 'extra')")
    say("LISTEN/NOTIFY", await asyncio.wait_for(heard, 5))
    started = time.time()
    try:
        await db.execute("SELECT pg_sleep(20)", timeout=0.3)
    except asyncio.TimeoutError:
        await asyncio.sleep(0.5)
        say("cancel", (await db.fetchval("SELECT 1"), time.time() - started < 10))
    big = await db.fetchval("SELECT repeat('x', 10000000)")
    rows = await db.fetch("SELECT n, md5(n::text) FROM generate_series(1, 50000) n")
    say("large rows", (hashlib.md5(big.encode()).hexdigest(), hashlib.md5(repr([tuple(r) for r in rows]).encode()).hexdigest()))
    await db.executemany("INSERT INTO drv VALUES ($1, $2)", [(n, str(n)) for n in range(100, 300)])
    clash = await error_of(db.executemany("INSERT INTO drv VALUES ($1, $2)", [(400, "a"), (1, "clash"), (401, "b")]))
    say("pipelining", (clash, await db.fetchval("SELECT count(*) FROM drv WHERE id >= 100")))
    await db.execute("DROP TABLE drv")
    await other.close()
    await db.close()


asyncio.run(main())
