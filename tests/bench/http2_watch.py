"""As much HTTP/2 and gRPC as a reader of etcd's watch needs to send. Used by `tests.bench.stream_readers`.

Windows are opened as wide as they go, so that nothing but the first answer has to be acknowledged. All watches of a
connection share one stream, as in etcd's own client.
"""

from __future__ import annotations

import struct

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
WINDOW_MAX = (1 << 31) - 1
WINDOW_AT_FIRST = 65_535
DATA, HEADERS, SETTINGS, WINDOW_UPDATE = 0, 1, 4, 8
END_HEADERS, ACK = 4, 1
INITIAL_WINDOW_SIZE = 4


def frame(kind: int, flags: int, stream: int, body: bytes) -> bytes:
    return struct.pack(">I", len(body))[1:] + bytes((kind, flags)) + struct.pack(">I", stream) + body


SETTINGS_ACK = frame(SETTINGS, ACK, 0, b"")


def opening(host: str, key: bytes, watches: int) -> bytes:
    """From the first byte of a connection to its last watch."""
    settings = frame(SETTINGS, 0, 0, struct.pack(">HI", INITIAL_WINDOW_SIZE, WINDOW_MAX))
    window = frame(WINDOW_UPDATE, 0, 0, struct.pack(">I", WINDOW_MAX - WINDOW_AT_FIRST))
    headers = frame(HEADERS, END_HEADERS, 1, _headers(host.encode()))
    create = b"\x0a" + bytes((len(key),)) + key
    request = b"\x0a" + bytes((len(create),)) + create
    message = b"\x00" + struct.pack(">I", len(request)) + request
    return PREFACE + settings + window + headers + frame(DATA, 0, 1, message) * watches


def _headers(host: bytes) -> bytes:
    """HPACK without a table of its own: indexed names where the static table has them."""
    path, kind = b"/etcdserverpb.Watch/Watch", b"application/grpc"
    return b"".join(
        (
            b"\x83\x86",  # :method POST, :scheme http
            b"\x04" + bytes((len(path),)) + path,
            b"\x01" + bytes((len(host),)) + host,
            b"\x00\x02te\x08trailers",
            b"\x0f\x10" + bytes((len(kind),)) + kind,
        )
    )
