"""HTTP to an issuer: one document, in bounded time and size. Used for its keys and by `trueup login`.

No redirect is followed, since it would lead where nobody allowed; no proxy, cookie or .netrc of the environment is
used; nothing compressed is taken, since it could become larger than what was counted.
"""

from __future__ import annotations

import json
import ssl
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import aiohttp

from kit.errors import Transient

TIMEOUT_S = 5.0
DOCUMENT_BYTES_MAX = 256 << 10


class IssuerHttp:
    """One request, one connection: an issuer is asked seldom."""

    def __init__(self, ca_file: Path | None = None) -> None:
        self._ca_file = ca_file

    async def get(self, url: str) -> dict[str, Any]:
        status, document = await self._ask("GET", url, None)
        if status != 200:
            raise Transient(f"GET {url}", f"the issuer answered {status}", code="issuer_unreachable")
        return document

    async def post(self, url: str, form: Mapping[str, str]) -> tuple[int, dict[str, Any]]:
        """Status and document: of RFC 6749 an error is a document too. `Transient` when it may work later."""
        status, document = await self._ask("POST", url, form)
        if status == 429 or status >= 500:
            raise Transient(f"POST {url}", f"the issuer answered {status}", code="issuer_unreachable")
        return status, document

    async def _ask(self, method: str, url: str, form: Mapping[str, str] | None) -> tuple[int, dict[str, Any]]:
        attempted = f"{method} {url}"
        try:
            async with self._session() as session:
                async with session.request(method, url, data=form, allow_redirects=False) as answer:
                    body = await _bounded(attempted, answer)
                    if 300 <= answer.status < 400:
                        why = f"the issuer answered {answer.status}: redirects are not followed"
                        raise Transient(attempted, why, code="issuer_unreachable")
                    return answer.status, _object(attempted, answer.status, body)
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            why = f"it did not answer within {TIMEOUT_S:g} s" if isinstance(error, TimeoutError) else _said(error)
            fix = "look whether this host reaches the issuer, and whether its certificate is trusted here"
            raise Transient(attempted, why, fix=fix, code="issuer_unreachable") from error

    def _session(self) -> aiohttp.ClientSession:
        context = ssl.create_default_context(cafile=str(self._ca_file) if self._ca_file else None)
        return aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(ssl=context, limit=1),
            timeout=aiohttp.ClientTimeout(total=TIMEOUT_S),
            headers={"Accept": "application/json", "Accept-Encoding": "identity"},
            auto_decompress=False,
            cookie_jar=aiohttp.DummyCookieJar(),
            trust_env=False,
        )


async def _bounded(attempted: str, answer: aiohttp.ClientResponse) -> bytes:
    body = bytearray()
    async for chunk in answer.content.iter_any():
        body += chunk
        if len(body) > DOCUMENT_BYTES_MAX:
            why = f"the answer is larger than {DOCUMENT_BYTES_MAX} bytes"
            raise Transient(attempted, why, code="issuer_unreachable")
    return bytes(body)


def _object(attempted: str, status: int, body: bytes) -> dict[str, Any]:
    try:
        document = json.loads(body) if body else {}
    except (ValueError, RecursionError) as error:
        raise Transient(attempted, f"the answer {status} is not JSON", code="issuer_unreachable") from error
    if not isinstance(document, dict):
        raise Transient(attempted, f"the answer {status} is not an object", code="issuer_unreachable")
    return document


def _said(error: BaseException) -> str:
    return f"{type(error).__name__}: {error}"
