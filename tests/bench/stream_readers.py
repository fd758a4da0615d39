"""Thousands of readers in one process, as cheap as Python lets them be: one epoll, no task and no parser per reader.

`tests.bench.streaming` starts it with the fields of `Order` as JSON and then talks with it in lines: "until N" is
answered when every reader has been given everything up to N, "stop" writes the records and ends it. A record is
(seconds, reader's position before, position after); the clock is the machine's own, the same in every process.

A reader of trueup knows its position from the last cursor that it was given; one of etcd counts a mark that stands
once in every event. Readers that lose their connection come back as the client of agents and edges does: from their
last cursor, after a random pause, and not before the server's Retry-After.
"""

from __future__ import annotations

import contextlib
import json
import random
import re
import resource
import select
import socket
import ssl
import sys
import time
from array import array
from dataclasses import dataclass, field
from heapq import heappop, heappush
from pathlib import Path

from kit.backoff import Backoff
from kit.machine_names import CONTROLLER_HOST
from tests.bench import http2_watch

CHUNK_BYTES = 1 << 18
CONNECTING_MAX = 400
CHANGES = re.compile(rb'"type":"change","cursor":"[^".]+\.(\d+)"')
_CURSOR = b'"cursor":"'
_RETRY_AFTER = re.compile(rb"[Rr]etry-[Aa]fter: (\d+)")


@dataclass(frozen=True, slots=True)
class Order:
    """`requests`: what each reader sends; CURSOR in it stands for its position. `each`: a reader gets single events out
    of many, so they are told one by one. `mark`: of etcd; `watches` of them share a connection."""

    host: str
    port: int
    records: str
    log_id: str = ""
    position: int = 0
    requests: list[str] = field(default_factory=list)
    each: bool = False
    mark: str = ""
    connections: int = 0
    watches: int = 0
    certificates: str = ""
    """A folder of NUMBER.pem for each reader, and roots.pem: they come with TLS."""


class Reader:
    __slots__ = ("failures", "greeted", "open", "position", "request", "sock", "tail", "tls")

    def __init__(self, request: bytes, position: int, tls: ssl.SSLContext | None = None) -> None:
        self.request, self.position, self.tls = request, position, tls
        self.tail, self.open, self.failures, self.greeted = b"", False, 0, True
        self.sock: socket.socket | None = None

    def connect(self, host: str, port: int, request: bytes) -> socket.socket:
        """Its request is sent, but with TLS not before the handshake: see `greet`."""
        sock = socket.socket()
        try:
            sock.connect((host, port))
            sock.setblocking(False)
            if self.tls is None:
                sock.send(request)
            else:
                sock = self.tls.wrap_socket(sock, server_hostname=CONTROLLER_HOST, do_handshake_on_connect=False)
        except OSError:
            sock.close()
            raise
        self.sock, self.tail, self.open, self.greeted = sock, b"", False, self.tls is None
        self.greet(request)
        return sock

    def greet(self, request: bytes) -> None:
        if self.greeted or not isinstance(self.sock, ssl.SSLSocket):
            return
        with contextlib.suppress(ssl.SSLWantReadError):
            self.sock.do_handshake()
            self.sock.send(request)
            self.greeted = True

    def receive(self) -> bytes | None:
        """None: nothing yet. With TLS all that was decrypted already comes along."""
        assert self.sock is not None
        pieces = []
        try:
            while True:
                pieces.append(self.sock.recv(CHUNK_BYTES))
                if self.tls is None or not pieces[-1]:
                    break
        except (BlockingIOError, ssl.SSLWantReadError):
            pass
        return b"".join(pieces) if pieces else None


class Readers:
    def __init__(self, order: Order) -> None:
        self.order = order
        if order.mark:
            one = http2_watch.opening(order.host, b"watched", order.watches)
            self.readers = [Reader(one, 0) for _ in range(order.connections)]
        else:
            self.readers = [
                Reader(text.encode(), order.position, contexts(order.certificates, number))
                for number, text in enumerate(order.requests)
            ]
        self.epoll = select.epoll()
        self.by_fd: dict[int, Reader] = {}
        self.due: list[tuple[float, int]] = [(0.0, number) for number in range(len(self.readers))]
        self.numbers = {id(reader): number for number, reader in enumerate(self.readers)}
        self.connecting = 0
        self.times, self.befores, self.afters = array("d"), array("q"), array("q")
        self.rng, self.backoff = random.Random(1), Backoff(0.2, 15.0)
        self.refused = self.cuts = 0
        self.per_connection = order.watches or 1

    @property
    def open_count(self) -> int:
        return sum(reader.open for reader in self.readers)

    def run(self) -> None:
        self.epoll.register(sys.stdin.fileno(), select.EPOLLIN)
        wanted: int | None = None
        said_open = False
        while True:
            self.connect_due()
            for fd, _ in self.epoll.poll(0.02):
                if fd != sys.stdin.fileno():
                    self.read(self.by_fd[fd])
                    continue
                word, _, number = sys.stdin.readline().strip().partition(" ")
                if word != "until":
                    return
                wanted = int(number)
            if not said_open and not self.due and not self.connecting and self.open_count == len(self.readers):
                said_open = True
                say(open=len(self.readers))
            if wanted is not None and all(reader.position >= wanted for reader in self.readers):
                say(reached=wanted, seconds=time.monotonic(), refused=self.refused, cuts=self.cuts)
                wanted = None

    def connect_due(self) -> None:
        now = time.monotonic()
        while self.due and self.due[0][0] <= now and self.connecting < CONNECTING_MAX:
            reader = self.readers[heappop(self.due)[1]]
            try:
                sock = reader.connect(self.order.host, self.order.port, self.request(reader))
            except OSError:
                self.again(reader, 0)
                continue
            self.by_fd[sock.fileno()] = reader
            self.epoll.register(sock.fileno(), select.EPOLLIN)
            self.connecting += 1

    def request(self, reader: Reader) -> bytes:
        return reader.request.replace(b"CURSOR", f"{self.order.log_id}.{reader.position}".encode())

    def read(self, reader: Reader) -> None:
        try:
            reader.greet(self.request(reader))
            data = reader.receive() if reader.greeted else None
        except OSError:
            data = b""
        if data is None:
            return
        now = time.monotonic()
        if not data:
            self.cuts += reader.open
            self.lost(reader, 0)
            return
        if not reader.open and not self.opened(reader, data):
            return
        self.take(reader, reader.tail + data, now)

    def opened(self, reader: Reader, data: bytes) -> bool:
        if self.order.mark:
            reader.sock.send(http2_watch.SETTINGS_ACK)  # type: ignore[union-attr]  # it is open
        elif not data.startswith(b"HTTP/1.1 200"):
            self.refused += 1
            after = _RETRY_AFTER.search(data)
            self.lost(reader, int(after[1]) if after else 0)
            return False
        reader.open, reader.failures = True, 0
        self.connecting -= 1
        return True

    def take(self, reader: Reader, data: bytes, now: float) -> None:
        before = reader.position
        if self.order.mark:
            mark = self.order.mark.encode()
            reader.position += data.count(mark)
            reader.tail = data[-len(mark) + 1 :]
        elif self.order.each:
            whole = data.rfind(b"\n") + 1
            for change in CHANGES.finditer(data, 0, whole):
                self.record(now, int(change[1]) - 1, int(change[1]))
            reader.tail = data[whole:]
            self.move(reader, data, whole)
            return
        else:
            whole = data.rfind(b"\n") + 1
            reader.tail = data[whole:]
            self.move(reader, data, whole)
        if reader.position > before:
            self.record(now, before, reader.position)

    def move(self, reader: Reader, data: bytes, whole: int) -> None:
        """To the last cursor of the whole lines."""
        at = data.rfind(_CURSOR, 0, whole)
        if at >= 0:
            cursor = data[at + len(_CURSOR) : data.index(b'"', at + len(_CURSOR))]
            reader.position = max(reader.position, int(cursor.rpartition(b".")[2]))

    def record(self, now: float, before: int, after: int) -> None:
        self.times.append(now)
        self.befores.append(before)
        self.afters.append(after)

    def lost(self, reader: Reader, retry_after_s: int) -> None:
        assert reader.sock is not None
        self.connecting -= not reader.open
        del self.by_fd[reader.sock.fileno()]
        reader.sock.close()
        reader.sock, reader.open = None, False
        self.again(reader, retry_after_s)

    def again(self, reader: Reader, retry_after_s: int) -> None:
        reader.failures += 1
        pause_s = self.backoff.delay_s(reader.failures, self.rng)
        if retry_after_s:
            pause_s = retry_after_s * (1 + self.rng.random())
        heappush(self.due, (time.monotonic() + pause_s, self.numbers[id(reader)]))

    def write_records(self) -> None:
        with Path(self.order.records).open("wb") as file:
            for column in (self.times, self.befores, self.afters):
                file.write(len(column).to_bytes(8, "little"))
                column.tofile(file)


def contexts(folder: str, number: int) -> ssl.SSLContext | None:
    """A machine's: its own certificate, and the platform's roots."""
    if not folder:
        return None
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.load_verify_locations(f"{folder}/roots.pem")
    context.load_cert_chain(f"{folder}/{number}.pem")
    return context


def say(**words: object) -> None:
    print(json.dumps(words), flush=True)


def main() -> None:
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    readers = Readers(Order(**json.loads(sys.stdin.readline())))
    readers.run()
    readers.write_records()
    say(records=len(readers.times))


if __name__ == "__main__":
    main()
