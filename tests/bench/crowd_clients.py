"""Clients that want nothing but to be there, for `tests.bench.crowd`: they connect, say little or nothing, and stay.

`python -m tests.bench.crowd_clients PORT COUNT ADDRESS...`: COUNT connections from each address. A third says nothing,
a third drips a header, a third asks once and then says nothing. Who is cut comes back at once; who is told 503 waits a
second. Says a JSON line a second, until its standard input ends.
"""

from __future__ import annotations

import contextlib
import errno
import json
import select
import socket
import sys
import threading
import time
from collections import deque

DRIP_EVERY_S = 4.0
CONNECTING_MAX = 200
BEGINNINGS = (b"", b"GET /healthz HTTP/1.1\r\nHost: x\r\nX-Slow: ", b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n")


class Crowd:
    def __init__(self, port: int, count: int, addresses: list[str]) -> None:
        self._port = port
        self._epoll = select.epoll()
        self._wanted = deque((0.0, address, kind % 3) for kind in range(count) for address in addresses)
        self._connecting: dict[int, tuple[socket.socket, str, int]] = {}
        self._open: dict[int, tuple[socket.socket, str, int]] = {}
        self.counts = {"refused": 0, "cut": 0}

    def step(self, now_s: float) -> None:
        while self._wanted and self._wanted[0][0] <= now_s and len(self._connecting) < CONNECTING_MAX:
            self._connect(*self._wanted.popleft()[1:])
        for number, _ in self._epoll.poll(0.05):
            if number in self._connecting:
                self._connected(number, now_s)
            elif number in self._open:
                self._heard(number, now_s)

    def drip(self) -> None:
        for each, _, kind in self._open.values():
            if kind == 1:
                with contextlib.suppress(OSError):
                    each.send(b"y")

    @property
    def open_count(self) -> int:
        return len(self._open)

    def _connect(self, address: str, kind: int) -> None:
        made = socket.socket()
        made.setblocking(False)
        made.setsockopt(socket.IPPROTO_IP, 24, 1)  # IP_BIND_ADDRESS_NO_PORT: each address has all ports for itself
        made.bind((address, 0))
        if made.connect_ex(("127.0.0.1", self._port)) not in (0, errno.EINPROGRESS):
            made.close()
            self._wanted.append((time.monotonic() + 1, address, kind))
            return
        self._connecting[made.fileno()] = (made, address, kind)
        self._epoll.register(made.fileno(), select.EPOLLOUT)

    def _connected(self, number: int, now_s: float) -> None:
        made, address, kind = self._connecting.pop(number)
        try:
            made.send(BEGINNINGS[kind])
        except OSError:
            self._left(made, now_s + 1, address, kind)
            return
        self._epoll.modify(number, select.EPOLLIN)
        self._open[number] = (made, address, kind)

    def _heard(self, number: int, now_s: float) -> None:
        made, address, kind = self._open[number]
        try:
            data = made.recv(4096)
        except OSError:
            data = b""
        if data.startswith(b"HTTP/1.1 503"):
            self.counts["refused"] += 1
            del self._open[number]
            self._left(made, now_s + 1, address, kind)
        elif not data:
            self.counts["cut"] += 1
            del self._open[number]
            self._left(made, now_s, address, kind)

    def _left(self, made: socket.socket, again_s: float, address: str, kind: int) -> None:
        self._epoll.unregister(made.fileno())
        made.close()
        self._wanted.append((again_s, address, kind))


def until_the_input_ends(over: threading.Event) -> None:
    sys.stdin.read()
    over.set()


def main(port: int, count: int, addresses: list[str]) -> None:
    crowd, over = Crowd(port, count, addresses), threading.Event()
    threading.Thread(target=until_the_input_ends, args=(over,), daemon=True).start()
    said_s = dripped_s = time.monotonic()
    while not over.is_set():
        now_s = time.monotonic()
        crowd.step(now_s)
        if now_s - dripped_s > DRIP_EVERY_S:
            dripped_s = now_s
            crowd.drip()
        if now_s - said_s > 1:
            said_s = now_s
            print(json.dumps({"open": crowd.open_count, **crowd.counts}), flush=True)


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]), sys.argv[3:])
