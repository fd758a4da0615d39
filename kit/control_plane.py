"""HTTP to the controller, for agents, edges and the command line. Used by `kit.follow`, reports and reads.

A problem+json answer becomes a `Refusal` (4xx) or a `Transient` (5xx, 408, 429, no connection, time-out) that carries
the server's own code, message, request id and the time after which it wants to be asked again. Every request has an id
(`kit.request_ids`), which stands in the controller's log too, and in every error here, also when no answer came.
"""

from __future__ import annotations

import asyncio
import json
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from types import MappingProxyType
from typing import Any

import aiohttp
from aiohttp.http_exceptions import LineTooLong

from kit import logs, request_ids
from kit.errors import Refusal, Transient, TrueupError
from kit.machine_identity import MachineIdentity
from kit.machine_names import CONTROLLER_HOST

REQUEST_TIMEOUT_S = 15.0
CONNECT_TIMEOUT_S = 5.0
ANSWER_BYTES_MAX = 64 << 20
LINE_BYTES_MAX = 4 << 20
RETRY_AFTER_S_MAX = 120.0
_log = logs.get("control-plane")


class ControlPlane:
    """One session to one controller. Close it, or use it as an asynchronous context."""

    def __init__(
        self,
        base_url: str,
        token: str | Callable[[], Awaitable[str]] = "",
        *,
        identity: MachineIdentity | None = None,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        """`token`: itself, or what gives one that is good now, asked for each request. `identity`: a machine's
        certificate proves who asks, and its roots who answers. `tls`: those of who has none. Without both an https://
        address is checked as the system says."""
        self._base_url = base_url.rstrip("/")
        self._token = token
        self._identity = identity
        self._tls = tls
        self._session: aiohttp.ClientSession | None = None

    async def __aenter__(self) -> ControlPlane:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def close(self) -> None:
        if self._session is not None:
            await self._session.close()
            self._session = None

    async def get_json(
        self,
        path: str,
        /,
        *,
        timeout_s: float = REQUEST_TIMEOUT_S,
        headers: Mapping[str, str] = MappingProxyType({}),
        **query: str | int,
    ) -> Any:
        """The document at `path` ("/v1/..."); empty query values are left out."""
        return await self._call("GET", path, None, query, timeout_s, headers)

    async def post_json(
        self,
        path: str,
        document: Any,
        *,
        timeout_s: float = REQUEST_TIMEOUT_S,
        headers: Mapping[str, str] = MappingProxyType({}),
    ) -> Any:
        return await self._call("POST", path, document, {}, timeout_s, headers)

    @asynccontextmanager
    async def lines(self, path: str, *, idle_timeout_s: float, **query: str | int) -> AsyncIterator[AsyncIterator[Any]]:
        """The documents of an NDJSON answer as they come. No line for `idle_timeout_s` is a `Transient`."""
        limits = aiohttp.ClientTimeout(total=None, sock_connect=CONNECT_TIMEOUT_S, sock_read=idle_timeout_s)
        attempted, request_id = f"GET {path}", _asked("GET", path)
        try:
            async with self._open().get(
                self._base_url + path,
                params=_given(query),
                timeout=limits,
                headers={request_ids.HEADER: request_id, **await self._proof()},
                **self._security(),
            ) as answer:
                await _raise_for_problem(attempted, answer)
                yield _documents(attempted, answer.content)
        except aiohttp.ConnectionTimeoutError as error:
            raise _unreachable(attempted, self._base_url, request_id, error) from error
        except TimeoutError as error:
            why = f"nothing came for {idle_timeout_s:g} s (request {request_id})"
            raise Transient(attempted, why, code="stream_silent") from error
        except (aiohttp.ClientError, OSError) as error:
            raise _unreachable(attempted, self._base_url, request_id, error) from error

    async def _call(
        self,
        method: str,
        path: str,
        document: Any,
        query: dict[str, Any],
        timeout_s: float,
        headers: Mapping[str, str] = MappingProxyType({}),
    ) -> Any:
        attempted, request_id = f"{method} {path}", _asked(method, path)
        limits = aiohttp.ClientTimeout(total=timeout_s, sock_connect=CONNECT_TIMEOUT_S)
        try:
            async with self._open().request(
                method,
                self._base_url + path,
                params=_given(query),
                json=document,
                timeout=limits,
                headers={request_ids.HEADER: request_id, **headers, **await self._proof()},
                **self._security(),
            ) as answer:
                await _raise_for_problem(attempted, answer)
                body = await answer.content.read(-1)
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            raise _unreachable(attempted, self._base_url, request_id, error) from error
        return _parsed(attempted, body) if body else None

    def _security(self) -> dict[str, Any]:
        """Asked for each request: a renewed certificate is another context, and so another connection."""
        tls = self._identity.context() if self._identity is not None else self._tls
        return {} if tls is None else {"ssl": tls, "server_hostname": CONTROLLER_HOST}

    async def _proof(self) -> dict[str, str]:
        token = self._token if isinstance(self._token, str) else await self._token()
        return {"Authorization": f"Bearer {token}"} if token else {}

    def _open(self) -> aiohttp.ClientSession:
        if self._session is None:
            self._session = aiohttp.ClientSession(read_bufsize=LINE_BYTES_MAX, trust_env=False)
        return self._session


def _asked(method: str, path: str) -> str:
    """The id of the request that goes out now: what the task works on, or a new one."""
    request_id = request_ids.current() or request_ids.made()
    _log.debug("asked", method=method, path=path.partition("?")[0], request_id=request_id)
    return request_id


def _given(query: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in query.items() if value not in ("", None)}


async def _documents(attempted: str, content: aiohttp.StreamReader) -> AsyncIterator[Any]:
    while line := await _line(attempted, content):
        if not line.endswith(b"\n"):
            raise Transient(attempted, "the connection ended inside a line", code="stream_cut")
        yield _parsed(attempted, line)


async def _line(attempted: str, content: aiohttp.StreamReader) -> bytes:
    try:
        return await content.readline()
    except LineTooLong as error:
        why = f"a line is longer than {2 * LINE_BYTES_MAX} bytes"
        raise Transient(attempted, why, code="answer_garbled") from error


def _parsed(attempted: str, text: bytes) -> Any:
    """What is no JSON comes from somebody else: a proxy that asks for a log-in answers 200 too."""
    try:
        return json.loads(text)
    except ValueError as error:
        why = f"what was answered is no JSON: {text[:80]!r}"
        raise Transient(attempted, why, fix="look what stands in between", code="answer_garbled") from error


async def _raise_for_problem(attempted: str, answer: aiohttp.ClientResponse) -> None:
    if answer.status < 400:
        return
    problem = _parse_problem(await answer.content.read(65536))
    kind: type[TrueupError] = Transient if answer.status >= 500 or answer.status in (408, 429) else Refusal
    why = problem.get("detail") or problem.get("title") or answer.reason or "no reason given"
    request_id = problem.get("request_id") or answer.headers.get("X-Request-Id", "")
    raise kind(
        attempted,
        f"the controller answered {answer.status}: {why}" + (f" (request {request_id})" if request_id else ""),
        fix=problem.get("fix", ""),
        code=problem.get("code") or f"http_{answer.status}",
        retry_after_s=_retry_after_s(answer.headers.get("Retry-After", "")),
    )


def _retry_after_s(text: str) -> float:
    """In seconds; a date is no number and means nothing here."""
    return min(float(text), RETRY_AFTER_S_MAX) if text.isascii() and text.isdigit() else 0.0


def _parse_problem(body: bytes) -> dict[str, Any]:
    try:
        document = json.loads(body)
    except ValueError:
        return {}
    return document if isinstance(document, dict) else {}


def _unreachable(attempted: str, base_url: str, request_id: str, error: BaseException) -> Transient:
    why = "it did not answer in time" if isinstance(error, asyncio.TimeoutError) else f"{type(error).__name__}: {error}"
    return Transient(
        attempted,
        f"the controller at {base_url} cannot be reached: {why} (request {request_id})",
        fix="look whether the controller runs and the address is right",
        code="controller_unreachable",
    )
