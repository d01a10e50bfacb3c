"""Records golden traces: the bytes of real conversations beside what libpq itself says of them.

    python3 record.py LIBPQ HOST PORT DATABASE USER PASSWORD

For each scenario two files appear next to this one: NAME.bytes (a line for each piece that went
over a relay, "F hex" from libpq, "B hex" from the server) and NAME.trace (PQtrace's output, without
timestamps). LIBPQ is the path of a libpq.so of PostgreSQL 18. The server needs a SCRAM user, and
an md5 user `md5user` and a cleartext user `plainuser` with the same password.
"""
import ctypes as c
import os
import select
import socket
import sys
import threading

HERE = os.path.dirname(os.path.abspath(__file__))
LIBPQ, HOST, PORT, DATABASE, USER, PASSWORD = sys.argv[1:7]
pq = c.CDLL(LIBPQ)
libc = c.CDLL(None)
libc.fopen.restype = c.c_void_p
libc.fopen.argtypes = [c.c_char_p, c.c_char_p]
libc.fclose.argtypes = [c.c_void_p]
P = c.c_void_p
S = c.c_char_p
I = c.c_int
for name, result, arguments in [
    ("PQconnectStart", P, [S]), ("PQconnectPoll", I, [P]), ("PQsocket", I, [P]),
    ("PQtrace", None, [P, P]), ("PQsetTraceFlags", None, [P, I]), ("PQfinish", None, [P]),
    ("PQerrorMessage", S, [P]), ("PQexec", P, [P, S]), ("PQclear", None, [P]),
    ("PQprepare", P, [P, S, S, I, P]), ("PQdescribePrepared", P, [P, S]),
    ("PQdescribePortal", P, [P, S]), ("PQclosePrepared", P, [P, S]),
    ("PQexecParams", P, [P, S, I, P, P, P, P, I]),
    ("PQexecPrepared", P, [P, S, I, P, P, P, I]),
    ("PQenterPipelineMode", I, [P]), ("PQexitPipelineMode", I, [P]), ("PQpipelineSync", I, [P]),
    ("PQsendQueryParams", I, [P, S, I, P, P, P, P, I]), ("PQgetResult", P, [P]),
    ("PQsendFlushRequest", I, [P]), ("PQflush", I, [P]), ("PQresultStatus", I, [P]),
    ("PQputCopyData", I, [P, S, I]), ("PQputCopyEnd", I, [P, S]),
    ("PQgetCopyData", I, [P, c.POINTER(S), I]), ("PQfreemem", None, [P]),
    ("PQfn", P, [P, I, P, P, I, P, I]), ("PQconsumeInput", I, [P]), ("PQnotifies", P, [P]),
]:
    f = getattr(pq, name)
    f.restype = result
    f.argtypes = arguments


class Relay:
    """Passes one connection on and writes down every piece."""

    def __init__(self):
        self.pieces = []
        self.listener = socket.socket()
        self.listener.bind(("127.0.0.1", 0))
        self.listener.listen(8)
        self.port = self.listener.getsockname()[1]
        self.thread = threading.Thread(target=self.run, daemon=True)
        self.thread.start()

    def run(self):
        client, _ = self.listener.accept()
        server = socket.create_connection((HOST, int(PORT)))
        while True:
            for ready in select.select([client, server], [], [])[0]:
                piece = ready.recv(65536)
                if not piece:
                    client.close()
                    server.close()
                    return
                side = "F" if ready is client else "B"
                self.pieces.append((side, piece))
                (server if ready is client else client).sendall(piece)


def record(name, run, options="", user=USER):
    relay = Relay()
    trace = libc.fopen(os.path.join(HERE, name + ".trace").encode(), b"w")
    conninfo = (
        f"host=127.0.0.1 port={relay.port} dbname={DATABASE} user={user} password={PASSWORD} "
        f"application_name=golden gssencmode=disable sslmode=disable {options}"
    )
    conn = pq.PQconnectStart(conninfo.encode())
    pq.PQtrace(conn, trace)
    pq.PQsetTraceFlags(conn, 1)
    status = 2  # PGRES_POLLING_WRITING
    while status in (1, 2):
        sock = pq.PQsocket(conn)
        select.select([sock] if status == 1 else [], [sock] if status == 2 else [], [], 10)
        status = pq.PQconnectPoll(conn)
    if status == 3:
        run(conn)
    else:
        print(name, pq.PQerrorMessage(conn).decode().strip())
    pq.PQfinish(conn)
    libc.fclose(trace)
    relay.thread.join(5)
    with open(os.path.join(HERE, name + ".bytes"), "w") as out:
        for side, piece in relay.pieces:
            out.write(f"{side} {piece.hex()}\n")
    print(name, len(relay.pieces), "pieces")


def execute(conn, text):
    pq.PQclear(pq.PQexec(conn, text.encode()))


def values(*items):
    return (S * len(items))(*items), (I * len(items))(*[len(i) if i is not None else 0 for i in items])


def simple(conn):
    execute(conn, "SELECT 1 AS one, 'zwei'::text, NULL::int4, '\\x00ff'::bytea, 'grün \u20ac'::varchar(9)")
    execute(conn, "BEGIN; CREATE TEMP TABLE t (id int primary key, name varchar(20), n numeric(8,2)); COMMIT")
    execute(conn, "INSERT INTO t VALUES (1, 'a', 1.5), (2, NULL, -3)")
    execute(conn, "SELECT id, name, n, ctid, tableoid::regclass FROM t ORDER BY id")
    execute(conn, "SELECT 1; SELECT 1/0; SELECT 2")
    execute(conn, "")
    execute(conn, "SELEC 1")
    execute(conn, "DO $$BEGIN RAISE NOTICE 'look %', 'here' USING HINT = 'a hint', DETAIL = 'more'; END$$")
    execute(conn, "SET application_name = 'other'; BEGIN; SELECT 1/0; ")
    execute(conn, "SELECT 'in a failed transaction'")
    execute(conn, "ROLLBACK")


def extended(conn):
    types = (c.c_uint * 2)(23, 0)
    pq.PQclear(pq.PQprepare(conn, b"s1", b"SELECT $1::int4 + 1, $2::text, relname FROM pg_class WHERE oid = 1259", 1, types))
    pq.PQclear(pq.PQdescribePrepared(conn, b"s1"))
    v, n = values(b"41", b"x y")
    pq.PQclear(pq.PQexecPrepared(conn, b"s1", 2, v, n, None, 0))
    v, n = values(b"\x00\x00\x00\x29", None)
    pq.PQclear(pq.PQexecPrepared(conn, b"s1", 2, v, n, (I * 2)(1, 0), 1))
    pq.PQclear(pq.PQclosePrepared(conn, b"s1"))
    execute(conn, "BEGIN; DECLARE c1 CURSOR FOR SELECT generate_series(1, 3)")
    pq.PQclear(pq.PQdescribePortal(conn, b"c1"))
    execute(conn, "FETCH 2 FROM c1; CLOSE c1; COMMIT")
    v, n = values(b"seven")
    pq.PQclear(pq.PQexecParams(conn, b"SELECT $1::int4", 1, None, v, n, None, 0))
    pq.PQclear(pq.PQexecParams(conn, b"", 0, None, None, None, None, 0))
    pq.PQclear(pq.PQexecParams(conn, b"SET search_path = public", 0, None, None, None, None, 0))


def pipeline(conn):
    pq.PQenterPipelineMode(conn)
    for text in [b"SELECT 1", b"SELECT 1/0", b"SELECT 3"]:
        pq.PQsendQueryParams(conn, text, 0, None, None, None, None, 0)
    pq.PQpipelineSync(conn)
    pq.PQsendQueryParams(conn, b"SELECT 4", 0, None, None, None, None, 1)
    pq.PQsendFlushRequest(conn)
    pq.PQflush(conn)
    pq.PQpipelineSync(conn)
    syncs = 0
    while syncs < 2:
        result = pq.PQgetResult(conn)
        if result and pq.PQresultStatus(result) == 10:  # PGRES_PIPELINE_SYNC
            syncs += 1
        pq.PQclear(result)
    pq.PQexitPipelineMode(conn)


def copy(conn):
    execute(conn, "CREATE TEMP TABLE c (a int, b text)")
    pq.PQclear(pq.PQexec(conn, b"COPY c FROM STDIN"))
    pq.PQputCopyData(conn, b"1\tone\n2\t", 8)
    pq.PQputCopyData(conn, b"two\n", 4)
    pq.PQputCopyEnd(conn, None)
    drain(conn)
    pq.PQclear(pq.PQexec(conn, b"COPY c FROM STDIN"))
    pq.PQputCopyData(conn, b"3\tthree\n", 8)
    pq.PQputCopyEnd(conn, b"changed my mind")
    drain(conn)
    for text in [b"COPY c TO STDOUT", b"COPY c TO STDOUT (FORMAT binary)"]:
        pq.PQclear(pq.PQexec(conn, text))
        row = S()
        while pq.PQgetCopyData(conn, c.byref(row), 0) > 0:
            pq.PQfreemem(row)
        drain(conn)


def drain(conn):
    while True:
        result = pq.PQgetResult(conn)
        if not result:
            return
        pq.PQclear(result)


def notify(conn):
    execute(conn, "LISTEN news; NOTIFY news, 'it''s here'; NOTIFY news")
    pq.PQconsumeInput(conn)
    while True:
        notice = pq.PQnotifies(conn)
        if not notice:
            break
        pq.PQfreemem(notice)
    execute(conn, "UNLISTEN *")


def function_call(conn):
    class Argument(c.Structure):
        _fields_ = [("len", I), ("isint", I), ("integer", I)]

    length, answer = I(), I()
    arguments = (Argument * 1)(Argument(4, 1, -7))
    # 1397 is int4abs
    pq.PQclear(pq.PQfn(conn, 1397, c.byref(answer), c.byref(length), 1, arguments, 1))
    assert answer.value == 7, answer.value
    pq.PQclear(pq.PQfn(conn, 1, c.byref(answer), c.byref(length), 1, arguments, 1))


record("simple", simple)
record("extended", extended)
record("pipeline", pipeline)
record("copy", copy)
record("notify", notify)
record("function-call", function_call)
record("protocol-3.2", lambda conn: execute(conn, "SELECT 32"), "min_protocol_version=3.2 max_protocol_version=3.2")
record("md5", lambda conn: execute(conn, "SELECT 5"), user="md5user")
record("cleartext", lambda conn: execute(conn, "SELECT 6"), user="plainuser")
record("ssl-request", lambda conn: execute(conn, "SELECT 7"), "sslmode=prefer")
record("unknown-database", lambda conn: None, "dbname=nowhere")
