"""Logs in by OAUTHBEARER with libpq 18 and runs one query.

libpq does the whole exchange of RFC 7628 by itself: it connects without a token, is told where the
issuer is, asks its token hook (this script stands in for the device flow's person), and connects
again. Usage: libpq18.py LIBRARY CONNINFO TOKEN QUERY
"""
import ctypes
import sys

library, conninfo, token, query = sys.argv[1:5]
pq = ctypes.CDLL(library)
token_bytes = ctypes.create_string_buffer(token.encode())


class BearerRequest(ctypes.Structure):
    _fields_ = [
        ("openid_configuration", ctypes.c_char_p),
        ("scope", ctypes.c_char_p),
        ("asynchronous", ctypes.c_void_p),
        ("cleanup", ctypes.c_void_p),
        ("token", ctypes.c_void_p),
        ("user", ctypes.c_void_p),
    ]


@ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_int, ctypes.c_void_p, ctypes.c_void_p)
def hook(kind, connection, data):
    if kind != 1:  # PQAUTHDATA_OAUTH_BEARER_TOKEN
        return 0
    request = ctypes.cast(data, ctypes.POINTER(BearerRequest)).contents
    print("discovery", request.openid_configuration.decode(), request.scope.decode())
    request.token = ctypes.cast(token_bytes, ctypes.c_void_p)
    return 1


for name in ("PQconnectdb", "PQexec"):
    getattr(pq, name).restype = ctypes.c_void_p
for name in ("PQerrorMessage", "PQgetvalue"):
    getattr(pq, name).restype = ctypes.c_char_p
pq.PQsetAuthDataHook(hook)
connection = ctypes.c_void_p(pq.PQconnectdb(conninfo.encode()))
if pq.PQstatus(connection) != 0:
    print("refused", pq.PQerrorMessage(connection).decode().strip())
    sys.exit(1)
result = ctypes.c_void_p(pq.PQexec(connection, query.encode()))
print("value", pq.PQgetvalue(result, 0, 0).decode())
pq.PQfinish(connection)
