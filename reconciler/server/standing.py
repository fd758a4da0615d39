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
from collections.abc import Callable, Collection, Iterator, Mapping
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
from reconciler.server.ending import ENDING, Ending
from reconciler.server.problems import Problem
from reconciler.server.renewals import Renewals

LOOK_S = 0.5
LOOK_TIMEOUT_S = 10.0
FRESH_S = 2.0
VIEWS = ("identities", "tokens")
SKEW = timedelta(minutes=1)
STREAM_ALLOWANCE = timedelta(minutes=5)
"""For clocks that differ, before a stream ends with the newest certificate of its machine."""
_TOKEN = re.compile(r"trueup_(t-[a-z0-9]{4,40})_([A-Za-z0-9_-]{43})")
_log = logs.get("identity")


@dataclass(frozen=True, slots=True)
class Peer:
    """Whom the certificate of a connection names."""

    identity: Identity
    generation: int
    not_after: datetime
    issuer: str

    @property
    def identity_id(self) -> str:
        return f"{self.identity.role}/{self.identity.name}"


PEER = web.RequestKey("peer", Peer)
"""Not set when the caller showed no certificate."""


@dataclass(slots=True)
class _Open:
    """`until`: the end of the newest certificate of its machine that is known; None: it has none."""

    identity: Identity
    why_void: Callable[[], str]
    transport: asyncio.BaseTransport
    ending: Ending
    peer: Peer | None
    until: datetime | None


class Standing:
    """`domain`: the trust domain; empty: no certificate is good. `retired`: the issuers that do not count."""

    def __init__(
        self,
        views: Views,
        token_key: bytes,
        clock: Clock,
        domain: str,
        renewals: Renewals,
        retired: Callable[[], Collection[str]],
    ) -> None:
        self._views = views
        self._token_key = token_key
        self._clock = clock
        self._domain = domain
        self._renewals = renewals
        self._retired = retired
        self._identities: Mapping[str, Doc] = {}
        self._tokens: Mapping[str, Doc] = {}
        self._looked = asyncio.Event()
        self._looking = asyncio.Lock()
        self._seen_event_id = 0
        self._open: dict[int, _Open] = {}
        self._numbers = itertools.count()

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            with contextlib.suppress(TrueupError, TimeoutError):
                async with asyncio.timeout(LOOK_TIMEOUT_S):
                    await self.look()
                    await self._renewals.flush()
                    await self._end_with_certificates()
            await asyncio.sleep(LOOK_S)

    async def look_past(self, event_id: int) -> None:
        """As `look`, and what that event says is in it, if the views and the database come that far in FRESH_S. Of many
        who ask at once, each gets what one of them has seen."""
        with contextlib.suppress(TrueupError, TimeoutError):
            async with asyncio.timeout(FRESH_S), self._looking:
                if self._seen_event_id < event_id:
                    await self._views.wait_for(event_id, VIEWS, FRESH_S)
                    await self.look()

    async def look(self) -> None:
        snapshot = await self._views.snapshot(VIEWS)
        self._identities, self._tokens = snapshot.rows["identities"], snapshot.rows["tokens"]
        self._seen_event_id = snapshot.event_id
        self._looked.set()
        for number, each in list(self._open.items()):
            if why := each.why_void():
                _log.warning("connection ended", identity=str(each.identity), why=why)
                self._open.pop(number, None)
                if isinstance(each.transport, asyncio.Transport):
                    each.transport.abort()

    async def _end_with_certificates(self) -> None:
        """A stream lives as long as its machine renews, here or at another controller. One that has not is told so: it
        comes back with a newer certificate, or renews the one that has ended with its key."""
        over = self._now() - STREAM_ALLOWANCE
        late = [each for each in self._open.values() if each.until is not None and each.until < over]
        newest = await self._renewals.of({each.peer.identity_id for each in late if each.peer is not None})
        for each in late:
            given = newest.get(each.peer.identity_id) if each.peer is not None else None
            if given is not None and each.peer is not None and given.generation == each.peer.generation:
                each.until = given.not_after
            if each.until is not None and each.until < over and not each.ending.reason:
                _log.warning("stream ended", identity=str(each.identity), why="its machine has not renewed")
                each.ending.end("certificate_ended")

    async def known(self, timeout_s: float) -> None:
        """Nobody is let in before it is known who was revoked."""
        try:
            async with asyncio.timeout(timeout_s):
                await self._looked.wait()
        except TimeoutError as error:
            raise Problem("unavailable", "it is not known yet which identities are revoked") from error

    def why_peer_void(self, peer: Peer) -> str:
        """Of a certificate; see `why_void`."""
        if peer.issuer in self._retired():
            return f"who made the certificate of {peer.identity} does not count any more: join anew"
        return self.why_void(peer.identity, peer.generation)

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
        if found is None or found[0] != self._domain or not (generation.isascii() and generation.isdecimal()):
            raise Problem("unauthorized", "the certificate names no machine of this fleet")
        not_after = datetime.strptime(certificate["notAfter"], "%b %d %H:%M:%S %Y GMT").replace(tzinfo=UTC)
        if self._now() > not_after + SKEW:
            raise Problem("unauthorized", "the certificate has expired", fix="connect anew with the renewed one")
        issuer = {name: value for part in certificate.get("issuer", ()) for name, value in part}
        return Peer(Identity(found[1], found[2]), int(generation), not_after, issuer.get("commonName", ""))

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
        """While it is open the connection is cut as soon as `why_void` says something, and ended with its machine's
        certificate."""
        if request.transport is None:
            yield
            return
        number = next(self._numbers)
        request[ENDING] = ending = Ending()
        peer = request.get(PEER)
        until = peer.not_after if peer is not None else None
        self._open[number] = _Open(identity, why_void, request.transport, ending, peer, until)
        try:
            yield
        finally:
            self._open.pop(number, None)

    def _now(self) -> datetime:
        return datetime.fromisoformat(self._clock.utc())


def keyed_digest(key: bytes, secret: str) -> str:
    return hmac.new(key, b"secret\0" + secret.encode(), hashlib.sha256).hexdigest()
