"""One connection of the HTTP server, and who gets one.

`reconciler.server.app` makes a `Connection` for each accepted socket. aiohttp's own does most of the work: lines and
the number of header lines are bounded there, pipelined requests wait in a bounded queue, and its keep-alive timer ends
a connection whose next header is not complete in time, however it drips. What is added here:

* too many connections, of all or of one address, are told so and closed before anything of them is read;
* the bytes of a header that is not complete yet are bounded together, not only line by line;
* a stop lets the requests at work be sent to their end;
* what aiohttp answers by itself (malformed requests, 417) is problem+json with a request id, like every other error.
  What the client sent is neither answered nor logged: a malformed header may well be the one with the token.
"""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
from collections import Counter
from http import HTTPStatus
from typing import Any

from aiohttp import web
from aiohttp.http_exceptions import HttpProcessingError, LineTooLong

from kit import logs, request_ids
from reconciler.server.limits import Limits
from reconciler.server.problems import Problem, problem_bytes

TURNED_AWAY_MAX = 256
CANCEL_S = 1.0
"""Of a stop: for a request whose time is over to notice that it is cancelled."""
_log = logs.get("http")


def address_of(peer: Any) -> str:
    """Whose connection it is: an IPv4 address, or the /64 of an IPv6 one, what one customer has."""
    try:
        address = ipaddress.ip_address(str(peer[0]).partition("%")[0])
    except (TypeError, ValueError, IndexError, KeyError):
        return "-"
    if isinstance(address, ipaddress.IPv4Address):
        return str(address)
    if address.ipv4_mapped is not None:
        return str(address.ipv4_mapped)
    return str(address) if address.is_loopback else str(ipaddress.ip_network((address, 64), strict=False))


class Doorman:
    """Counts the open connections, together and by address. Bounded by the number of connections."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._open: Counter[str] = Counter()
        self._total = 0
        self._refused = 0
        self._closed = False
        self.turned_away = 0
        """Connections that hear why they are refused, just now."""

    def close(self) -> None:
        """Nobody gets a connection any more: the server is on its way out."""
        self._closed = True

    @property
    def open_count(self) -> int:
        return self._total

    def refuse(self, address: str) -> str:
        """Why this address gets no connection now, or "" and it is counted."""
        why = self._why_not(address)
        if why:
            self._refused += 1
            if self._refused & (self._refused - 1) == 0:  # a flood fills no disk
                _log.warning("connection refused", remote=address, why=why, refused=self._refused)
            return why
        self._open[address] += 1
        self._total += 1
        return ""

    def left(self, address: str) -> None:
        self._total -= 1
        self._open[address] -= 1
        if not self._open[address]:
            del self._open[address]

    def _why_not(self, address: str) -> str:
        if self._closed:
            return "the controller is shutting down"
        if self._total >= self._limits.connections_max:
            return f"{self._limits.connections_max} connections are open, which is the bound"
        per_address = self._limits.connections_per_address_max
        if self._open[address] >= per_address:
            return f"{per_address} connections of {address} are open, which is the bound"
        return ""


class Connection(web.RequestHandler):
    __slots__ = ("_address", "_deaf", "_doorman", "_header_bytes", "_limits", "_lingers", "_refused")

    def __init__(self, manager: web.Server, doorman: Doorman, limits: Limits) -> None:
        super().__init__(
            manager,
            loop=asyncio.get_running_loop(),
            access_log=None,  # type: ignore[arg-type]  # the guard writes it, without headers and queries
            auto_decompress=False,  # nothing that is sent here is compressed, and a bomb would be
            keepalive_timeout=limits.header_timeout_s,
            max_line_size=limits.header_line_bytes_max,
            max_field_size=limits.header_line_bytes_max,
            max_headers=limits.header_lines_max,
            lingering_time=limits.linger_s,
        )
        self._limits = limits
        self._doorman = doorman
        self._address = ""
        self._header_bytes = 0
        self._refused = self._lingers = False
        self._deaf = False  # the last answer was given: what still comes is dropped

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._address = address_of(transport.get_extra_info("peername"))
        if why := self._doorman.refuse(self._address):
            self._refused = True
            transport.write(_raw_answer(Problem("unavailable", why)))
            self._turn_away(transport)
            return
        super().connection_made(transport)

    def _turn_away(self, transport: asyncio.Transport) -> None:
        """What it asks is on its way and stays unread: closed at once, the connection would be reset by it. A flood is
        not waited for."""
        if self._doorman.turned_away >= TURNED_AWAY_MAX:
            transport.close()
            return
        self._lingers = True
        self._doorman.turned_away += 1
        if transport.can_write_eof():
            transport.write_eof()
        self._loop.call_later(self._limits.linger_s, transport.abort)

    def connection_lost(self, exc: BaseException | None) -> None:
        if self._refused:
            self._doorman.turned_away -= self._lingers
            return
        self._doorman.left(self._address)
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        if self._refused or self._deaf:
            return
        waiting, complete = self._waiter is not None, self._request_count
        super().data_received(data)
        if not waiting or self._request_count != complete:
            self._header_bytes = 0
            return
        self._header_bytes += len(data)
        if self._header_bytes > self._limits.header_bytes_max and self.transport is not None:
            self.transport.write(_raw_answer(_too_large(self._limits)))
            self._say_no_more()
            self._loop.call_later(self._limits.linger_s, self.force_close)

    def close(self) -> None:
        """The server stops. Now aiohttp would drop whatever comes, and with it the rest of the body that a request at
        work is waiting for; such a connection ends with its answer, which says so."""
        if not self._request_in_progress:
            super().close()

    async def shutdown(self, timeout: float | None = 15.0) -> None:  # noqa: ASYNC109  # as aiohttp has it
        """The request at work has its time, and the rest of its body is taken; then it is cancelled."""
        if self._request_in_progress:
            self._handler_waiter = self._loop.create_future()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(timeout):
                    await self._handler_waiter
            self._handler_waiter = None
        await super().shutdown(CANCEL_S)

    def handle_error(
        self, request: web.BaseRequest, status: int = 500, exc: BaseException | None = None, message: str | None = None
    ) -> web.StreamResponse:
        """What did not become a request, and what broke outside of the guard."""
        if request.writer.output_size > 0:
            raise ConnectionError("an answer has begun already")
        if isinstance(exc, HttpProcessingError):
            return self._answer(_malformed(exc, self._limits), type(exc).__name__)
        _log.error("a request broke outside of its handler", exc=exc, remote=self._address)
        return self._answer(Problem("internal", "the controller met a bug of its own; its log has the details"), "")

    async def finish_response(
        self, request: web.BaseRequest, resp: web.StreamResponse, start_time: float | None
    ) -> tuple[web.StreamResponse, bool]:
        if isinstance(resp, web.HTTPException):  # raised before the guard was asked: an Expect that nobody knows
            resp = self._answer(Problem("expectation_failed", "only Expect: 100-continue is known"), "Expect")
        finished = await super().finish_response(request, resp, start_time)
        if self._deaf:
            self._say_no_more()
            await asyncio.sleep(self._limits.linger_s)  # ended at once when the client closes
        return finished

    def _say_no_more(self) -> None:
        """Closing with bytes unread would reset the connection, and the client might never see its answer."""
        self._deaf = True
        if self.transport is not None and self.transport.can_write_eof():
            self.transport.write_eof()

    def _answer(self, problem: Problem, kind: str) -> web.Response:
        request_id = request_ids.made()
        self._deaf = True
        _log.info("no request", code=problem.code, kind=kind, remote=self._address, request_id=request_id)
        body, headers = problem_bytes(problem, request_id), _headers(request_id)
        response = web.Response(status=problem.status, body=body, headers=headers)
        response.force_close()
        return response


def _headers(request_id: str) -> dict[str, str]:
    return {
        "Content-Type": "application/problem+json",
        request_ids.HEADER: request_id,
        "X-Content-Type-Options": "nosniff",
        "Cache-Control": "no-store",
    }


def _malformed(error: HttpProcessingError, limits: Limits) -> Problem:
    if isinstance(error, LineTooLong) or "Too many headers" in error.message:
        return _too_large(limits)
    return Problem("malformed_request", "what was sent is not an HTTP/1.1 request")


def _too_large(limits: Limits) -> Problem:
    bounds = f"{limits.header_bytes_max} bytes, {limits.header_lines_max} lines, {limits.header_line_bytes_max} a line"
    return Problem("header_too_large", f"the header is larger than is taken here: {bounds}")


def _raw_answer(problem: Problem) -> bytes:
    """For a connection on which no request is at work."""
    request_id = request_ids.made()
    body = problem_bytes(problem, request_id)
    retry = {} if problem.retry_after_s is None else {"Retry-After": str(problem.retry_after_s)}
    headers = {**_headers(request_id), **retry, "Connection": "close", "Content-Length": str(len(body))}
    lines = [f"HTTP/1.1 {problem.status} {HTTPStatus(problem.status).phrase}"]
    lines += [f"{name}: {value}" for name, value in headers.items()]
    return ("\r\n".join(lines) + "\r\n\r\n").encode() + body
