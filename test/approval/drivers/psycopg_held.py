"""psycopg 2, psycopg 3 and asyncpg while a statement is held: one line a scenario, its name, a tab,
what the program saw. Usage: psycopg_held.py DRIVER DSN; whoever approves looks at the texts."""

import asyncio
import sys
import threading
import time

driver, dsn = sys.argv[1:]
insert = "INSERT INTO ran (what) VALUES ('{}-{}') RETURNING what"


def text(scenario):
    return insert.format(driver, scenario)


def say(scenario, result):
    print(f"{scenario}\t{result}", flush=True)


def seen(cursor, sql):
    """The rows, or the SQLSTATE."""
    try:
        cursor.execute(sql)
        return str(cursor.fetchall()[0][0])
    except Exception as error:  # Each driver has its own classes.
        code = getattr(error, "sqlstate", None) or getattr(error, "pgcode", None)
        return f"{code} {type(error).__name__}"


def soon(work):
    timer = threading.Timer(2.0, work)
    timer.start()
    return timer


def synchronous(module):
    connection = module.connect(dsn)
    connection.autocommit = True
    cursor = connection.cursor()
    say("waits", seen(cursor, text("yes")))
    say("rejected", seen(cursor, text("no")))
    soon(connection.cancel)
    say("cancelled", seen(cursor, text("cancel")))
    say("afterwards", seen(cursor, "SELECT 'alive'"))
    connection.autocommit = False
    cursor.execute("SELECT 1")
    say("in a transaction", seen(cursor, text("tx-yes")))
    connection.commit()
    connection.close()


async def asynchronous():
    import psycopg

    connection = await psycopg.AsyncConnection.connect(dsn, autocommit=True)
    started = time.monotonic()
    try:
        await asyncio.wait_for(connection.execute(text("timeout")), timeout=2)
        say("its own timeout", "ran")
    except asyncio.TimeoutError:
        waited = "in time" if time.monotonic() - started < 30 else "late"
        say("its own timeout", f"TimeoutError {waited}")
    await connection.close()


async def asyncpg_held():
    import asyncpg

    connection = await asyncpg.connect(dsn)

    async def of(sql, **options):
        try:
            return await connection.fetchval(sql, **options)
        except asyncio.TimeoutError:
            return "TimeoutError"
        except asyncpg.PostgresError as error:
            return f"{error.sqlstate} {type(error).__name__}"

    say("waits", await of(text("yes")))
    say("rejected", await of(text("no")))
    say("its own timeout", await of(text("timeout"), timeout=2))
    say("afterwards", await of("SELECT 'alive'"))
    await connection.close()


if driver == "asyncpg":
    asyncio.run(asyncpg_held())
else:
    synchronous(__import__(driver))
    if driver == "psycopg":
        asyncio.run(asynchronous())
