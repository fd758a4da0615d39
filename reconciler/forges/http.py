"""HTTP to one forge's API. Used by the modules of the providers, through `reconciler.forges.rest`.

The credentials go to the configured address and nowhere else: redirects are not followed, links in answers are not
followed, no proxy, cookie or .netrc of the environment is used. Certificates are checked, against `ca_file` when one is
named. Time, size and tries are bounded; what the forge says about its limits is obeyed (`reconciler.forges.quota`).
"""

from __future__ import annotations

import asyncio
import json
import random
import ssl
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import aiohttp
from yarl import URL

from kit.backoff import Backoff
from kit.clock import Clock
from kit.errors import Refusal, Transient, TrueupError
from kit.plain_text import clean
from reconciler.forges import limits
from reconciler.forges.quota import Quota, is_limited

_BACKOFF = Backoff(first_s=0.5, cap_s=5.0)
_FIXES = {
    401: "renew the token in the token's file",
    403: "give the token the scopes of docs/runbooks/pull-requests.md",
    404: "look at the API's address and the repository's name, and whether the token may see it",
}


@dataclass(frozen=True, slots=True)
class Answer:
    document: Any
    headers: Mapping[str, str]


class ForgeHttp:
    """`credentials`: the headers that prove who we are, read anew for each request so that a token can be renewed."""

    def __init__(
        self,
        api_url: str,
        credentials: Callable[[], Mapping[str, str]],
        clock: Clock,
        rng: random.Random,
        ca_file: Path | None = None,
    ) -> None:
        self._api_url = api_url
        self._credentials = credentials
        self._clock = clock
        self._rng = rng
        self._ca_file = ca_file
        self._quota = Quota()
        self._session: aiohttp.ClientSession | None = None

    async def close(self) -> None:
        if self._session is not None:
            await self._session.close()
            self._session = None

    def blocked_s(self) -> float:
        return self._quota.blocked_s(self._clock.now_s())

    async def get(self, path: str, **query: str | int) -> Answer:
        return await self._tried("GET", path, query, None, limits.TRIES_MAX)

    async def pages(
        self, path: str, *, size: int, pages_max: int, size_name: str = "per_page", **query: str | int
    ) -> AsyncIterator[tuple[list[Any], bool]]:
        """Each page, and whether there is another one behind it. Pages are counted; a link is never followed."""
        seen = 0
        for page in range(1, pages_max + 1):
            answer = await self.get(path, **{size_name: size}, page=page, **query)
            items = list_of(answer, path)
            seen += len(items)
            more = _has_next(answer.headers, seen, len(items), size)
            yield items, more
            if not more:
                return

    async def send(self, method: str, path: str, document: Any, *, repeatable: bool) -> Answer:
        """`repeatable`: sending it twice does no more than once, so a lost answer is no reason to give up."""
        return await self._tried(method, path, {}, document, limits.TRIES_MAX if repeatable else 1)

    async def _tried(self, method: str, path: str, query: Mapping[str, str | int], document: Any, tries: int) -> Answer:
        for failures in range(1, tries + 1):
            try:
                return await self._once(method, path, query, document)
            except Transient as error:
                if failures == tries or error.code in ("forge_rate_limited", "forge_answer_invalid"):
                    raise
                await self._clock.sleep(_BACKOFF.delay_s(failures, self._rng))
        raise AssertionError("tries is at least 1")

    async def _once(self, method: str, path: str, query: Mapping[str, str | int], document: Any) -> Answer:
        attempted = f"{method} {self._api_url}{path}"
        if blocked_s := self.blocked_s():
            raise _limited(attempted, blocked_s)
        url = URL(self._api_url + path + (f"?{urlencode(query)}" if query else ""), encoded=True)
        try:
            async with self._open().request(
                method, url, json=document, headers=self._credentials(), allow_redirects=False
            ) as answer:
                self._quota.learn(answer.status, answer.headers, self._clock.now_s())
                if answer.status >= 300:
                    raise await self._failure(attempted, answer)
                return Answer(await self._document(attempted, answer), answer.headers)
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            raise _unreachable(attempted, error) from error

    def _open(self) -> aiohttp.ClientSession:
        if self._session is None:
            context = ssl.create_default_context(cafile=str(self._ca_file) if self._ca_file else None)
            self._session = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(ssl=context, limit=limits.CONNECTIONS_MAX),
                cookie_jar=aiohttp.DummyCookieJar(),
                timeout=aiohttp.ClientTimeout(total=limits.REQUEST_TIMEOUT_S, sock_connect=limits.CONNECT_TIMEOUT_S),
                headers={"User-Agent": "trueup", "Accept": "application/json", "Accept-Encoding": "identity"},
                auto_decompress=False,  # nothing compressed was asked for, and a bomb would be
                trust_env=False,
            )
        return self._session

    async def _document(self, attempted: str, answer: aiohttp.ClientResponse) -> Any:
        body = await _read(answer, limits.ANSWER_BYTES_MAX)
        if len(body) > limits.ANSWER_BYTES_MAX:
            why = f"the answer is larger than {limits.ANSWER_BYTES_MAX} bytes"
            raise Refusal(attempted, why, fix="look what makes it so large", code="forge_answer_too_large")
        try:
            return json.loads(body) if body else None
        except (ValueError, RecursionError):
            raise _odd(attempted, "it is not JSON") from None

    async def _failure(self, attempted: str, answer: aiohttp.ClientResponse) -> TrueupError:
        status = answer.status
        if is_limited(status, answer.headers):
            return _limited(attempted, self.blocked_s())
        if status < 400:
            host = URL(answer.headers.get("Location", "")).host or "elsewhere"
            why = f"the forge answered {status} and pointed to {clean(host[:100])}; the token is not sent there"
            return Refusal(attempted, why, fix="give the API's own address", code="forge_redirect")
        said = _message(await _read(answer, limits.ERROR_BYTES_MAX))
        why = f"the forge answered {status}" + (f": {said}" if said else "")
        if status >= 500 or status == 408:
            return Transient(attempted, why, code="forge_unavailable")
        return Refusal(attempted, why, fix=_FIXES.get(status, ""), code=f"forge_{status}")


def list_of(answer: Answer, path: str) -> list[Any]:
    if not isinstance(answer.document, list):
        raise _odd(f"GET {path}", "it is not a list")
    return answer.document


async def _read(answer: aiohttp.ClientResponse, bound_bytes: int) -> bytes:
    """At most a little more than the bound: enough to see that it was passed."""
    body = bytearray()
    async for chunk in answer.content.iter_any():
        body += chunk
        if len(body) > bound_bytes:
            answer.close()
            break
    return bytes(body)


def _has_next(headers: Mapping[str, str], seen: int, count: int, size: int) -> bool:
    if not count:
        return False
    if link := headers.get("Link", ""):
        return 'rel="next"' in link
    total = headers.get("X-Total-Count") or headers.get("X-Total") or ""
    if total.isascii() and total.isdigit() and len(total) < 10:
        return seen < int(total)
    return count >= size


def _message(body: bytes) -> str:
    """What the forge says, on one short line."""
    try:
        document = json.loads(body)
    except (ValueError, RecursionError):
        return ""
    if not isinstance(document, dict):
        return ""
    said = document.get("message") or document.get("error") or ""
    details = document.get("errors") or ""
    return clean(f"{said} {json.dumps(details) if details else ''}".strip())[: limits.MESSAGE_CHARS_MAX]


def _odd(attempted: str, why: str) -> Transient:
    fix = "look whether the API's address leads to the API"
    return Transient(attempted, f"the forge's answer is not understood: {why}", fix=fix, code="forge_answer_invalid")


def _limited(attempted: str, blocked_s: float) -> Transient:
    why = f"the forge allows no more requests for {blocked_s:.0f} s"
    return Transient(attempted, why, fix="nothing; it goes on by itself", code="forge_rate_limited")


def _unreachable(attempted: str, error: BaseException) -> Transient:
    late = isinstance(error, asyncio.TimeoutError)
    why = "it did not answer in time" if late else f"{type(error).__name__}: {str(error)[:200]}"
    fix = "look at the address, the network, and the certificate"
    return Transient(attempted, f"the forge cannot be reached: {why}", fix=fix, code="forge_unreachable")
