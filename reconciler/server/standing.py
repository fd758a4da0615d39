"""Whether a certificate or a token is still good, now. Asked by `reconciler.server.guard` at every request.

The views `identities` and `tokens` are kept in memory and looked at anew every LOOK_S, in every controller process: so
a revocation, whichever process it was told to, ends requests and open streams everywhere about that soon. While the
database is away, what was known last goes on to count.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import hmac
import itertools
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from aiohttp import web

from kit import logs
from kit.clock import Clock
from kit.errors import TrueupError
from kit.machine_names import machine_of
from reconciler.core.permission import Identity, Scope
from reconciler.ports import Doc, Views
from reconciler.server.problems import Problem

LOOK_S = 0.5
LOOK_TIMEOUT_S = 10.0
SKEW = timedelta(minutes=1)
_TOKEN = re.compile(r"trueup_(t-[a-z0-9]{4,40})_([A-Za-z0-9_-]{43})")
_log = logs.get("identity")


@dataclass(frozen=True, slots=True)
class Peer:
    """Whom the certificate of a connection names."""

    identity: Identity
    generation: int
    not_after: datetime


@dataclass(frozen=True, slots=True)
class _Open:
    identity: Identity
    why_void: Callable[[], str]
    transport: asyncio.BaseTransport


class Standing:
    """`domain`: the trust domain; empty: no certificate is good."""

    def __init__(self, views: Views, token_key: bytes, clock: Clock, domain: str) -> None:
        self._views = views
        self._token_key = token_key
        self._clock = clock
        self._domain = domain
        self._identities: Mapping[str, Doc] = {}
        self._tokens: Mapping[str, Doc] = {}
        self._looked = asyncio.Event()
        self._open: dict[int, _Open] = {}
        self._numbers = itertools.count()

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            with contextlib.suppress(TrueupError, TimeoutError):
                async with asyncio.timeout(LOOK_TIMEOUT_S):
                    await self.look()
            await asyncio.sleep(LOOK_S)

    async def look(self) -> None:
        rows = (await self._views.snapshot(("identities", "tokens"))).rows
        self._identities, self._tokens = rows["identities"], rows["tokens"]
        self._looked.set()
        for number, each in list(self._open.items()):
            if why := each.why_void():
                _log.warning("connection ended", identity=str(each.identity), why=why)
                self._open.pop(number, None)
                if isinstance(each.transport, asyncio.Transport):
                    each.transport.abort()

    async def known(self, timeout_s: float) -> None:
        """Nobody is let in before it is known who was revoked."""
        try:
            async with asyncio.timeout(timeout_s):
                await self._looked.wait()
        except TimeoutError as error:
            raise Problem("unavailable", "it is not known yet which identities are revoked") from error

    def why_void(self, identity: Identity, generation: int | None) -> str:
        """Empty for a machine that may go on. `generation`: of its certificate; None: it has none. A certificate that
        is newer than what is known here was made by another controller a moment ago."""
        row = self._identities.get(f"{identity.role}/{identity.name}")
        if row is None or (generation is not None and generation > row["generation"]):
            return ""
        if row["state"] == "revoked":
            return f"{identity} is revoked: {row['reason']}"
        replaced = generation is not None and generation < row["generation"]
        return f"another machine has joined as {identity} since" if replaced else ""

    def peer(self, certificate: Mapping[str, Any]) -> Peer:
        """From the certificate of a connection, as `ssl` gives it after it has checked the chain. 401 for one that
        names no machine of this fleet, or that ended since the connection was made."""
        uris = [value for kind, value in certificate.get("subjectAltName", ()) if kind == "URI"]
        found = machine_of(uris[0]) if len(certificate.get("subjectAltName", ())) == len(uris) == 1 else None
        subject = {name: value for part in certificate.get("subject", ()) for name, value in part}
        generation = subject.get("serialNumber", "")
        if found is None or found[0] != self._domain or not generation.isdecimal():
            raise Problem("unauthorized", "the certificate names no machine of this fleet")
        not_after = datetime.strptime(certificate["notAfter"], "%b %d %H:%M:%S %Y GMT").replace(tzinfo=UTC)
        if self._now() > not_after + SKEW:
            raise Problem("unauthorized", "the certificate has expired", fix="connect anew with the renewed one")
        return Peer(Identity(found[1], found[2]), int(generation), not_after)

    def bearer(self, text: str) -> Identity | None:
        """Whom a token of people or CI proves. As slow for a nearly right secret as for a wrong one."""
        found = _TOKEN.fullmatch(text)
        row = self._tokens.get(found[1]) if found else None
        if found is None or row is None:
            return None
        right = hmac.compare_digest(row["digest"], keyed_digest(self._token_key, found[2]))
        if not right or self.token_void(found[1]):
            return None
        return Identity("token", found[1], Scope(row["org"], row["project"], frozenset(row["verbs"])))

    def token_void(self, token_id: str) -> str:
        row = self._tokens.get(token_id)
        if row is None or row["revoked"]:
            return f"token {token_id} is revoked"
        return f"token {token_id} has expired" if self._now() >= datetime.fromisoformat(row["expires_at"]) else ""

    def token_ends_at(self, token_id: str) -> str:
        row = self._tokens.get(token_id)
        return str(row["expires_at"]) if row is not None else ""

    @contextlib.contextmanager
    def watching(self, request: web.Request, identity: Identity, why_void: Callable[[], str]) -> Iterator[None]:
        """While it is open the connection is cut as soon as `why_void` says something."""
        if request.transport is None:
            yield
            return
        number = next(self._numbers)
        self._open[number] = _Open(identity, why_void, request.transport)
        try:
            yield
        finally:
            self._open.pop(number, None)

    def _now(self) -> datetime:
        return datetime.fromisoformat(self._clock.utc())


def keyed_digest(key: bytes, secret: str) -> str:
    return hmac.new(key, b"secret\0" + secret.encode(), hashlib.sha256).hexdigest()
