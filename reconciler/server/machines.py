"""How a machine becomes one of the fleet, stays it, and ceases to be: join tokens, certificates, revocation.

Called through `reconciler.server.routes`. A join token is shown once, here, and only its keyed digest is kept. The key
of a machine is made there and never comes here; what comes is a request that is signed with it. A certificate that has
expired may be renewed for a while with the same key, so that a fleet comes back after a controller that was away for
longer than certificates live.
"""

from __future__ import annotations

import asyncio
import contextlib
import secrets
from dataclasses import dataclass
from datetime import datetime, timedelta

from aiohttp import web

from kit import logs
from kit.codec import from_json
from kit.errors import Refusal, TrueupError
from kit.join_token import JoinToken, parse_join_token
from kit.machine_names import MachineKind, machine_uri
from reconciler.certificates.authority import Authority, Issued
from reconciler.core.acts import REASON_CHARS_MAX
from reconciler.core.decide.identities import Invite, Join
from reconciler.core.permission import Identity
from reconciler.handlers.identities import IdentityHandlers
from reconciler.ports import GivenCertificate
from reconciler.server.deps import Deps
from reconciler.server.problems import Problem
from reconciler.server.renewals import Renewals
from reconciler.server.requests import read_document
from reconciler.server.standing import FRESH_S, PEER, Standing, keyed_digest
from reconciler.server.table import IDENTITY, Handler

JOIN_TOKEN_LIFETIME = timedelta(minutes=10)
EXPIRED_MAX = timedelta(days=7)
"""How long after its end a certificate can still be renewed with its own key."""
_log = logs.get("identity")


@dataclass(frozen=True, slots=True)
class JoinAsked:
    """`token`, or the `certificate` that has expired."""

    csr: str
    token: str = ""
    certificate: str = ""


@dataclass(frozen=True, slots=True)
class RenewAsked:
    csr: str


@dataclass(frozen=True, slots=True)
class RevokeAsked:
    reason: str


class Machines:
    def __init__(self, deps: Deps, standing: Standing, renewals: Renewals) -> None:
        self._deps = deps
        self._standing = standing
        self._renewals = renewals

    async def trust(self, request: web.Request) -> web.Response:
        """The roots, for a machine that checks them against its join token."""
        authority = self._authority()
        return web.json_response({"domain": authority.domain, "bundle": authority.bundle})

    def invite(self, kind: MachineKind) -> Handler:
        async def answer(request: web.Request) -> web.StreamResponse:
            name, authority = request.match_info[kind], self._authority()
            try:
                machine_uri(authority.domain, kind, name)
            except ValueError as error:
                raise Problem("invalid_argument", str(error)) from error
            token_id, secret = f"j-{secrets.token_hex(8)}", secrets.token_urlsafe(32)
            expires_at = _text(self._now() + JOIN_TOKEN_LIFETIME)
            digest = keyed_digest(self._deps.token_key, secret)
            invite = Invite(f"{kind}/{name}", token_id, digest, expires_at)
            recorded = await self._handlers().invite(invite, str(request[IDENTITY]))
            token = JoinToken(kind, name, token_id, secret, authority.fingerprint)
            controller, event_id = self._deps.machines_url(), recorded.last_event_id
            document = {"token": str(token), "expires_at": expires_at, "controller": controller, "event_id": event_id}
            return web.json_response(document)

        return answer

    def revoke(self, kind: MachineKind) -> Handler:
        async def answer(request: web.Request) -> web.StreamResponse:
            asked = from_json(RevokeAsked, await read_document(request, self._deps.limits))
            check_reason(asked.reason)
            identity_id = f"{kind}/{request.match_info[kind]}"
            recorded = await self._handlers().revoke(identity_id, asked.reason, str(request[IDENTITY]))
            await self._standing.look_past(recorded.last_event_id)
            return web.json_response({"identity_id": identity_id, "event_id": recorded.last_event_id})

        return answer

    async def join(self, request: web.Request) -> web.Response:
        asked = from_json(JoinAsked, await read_document(request, self._deps.limits))
        remote = (request.remote or "")[:100]
        if not (asked.token or asked.certificate):
            why = "there is neither a join token nor a certificate that has expired"
            raise Problem("invalid_argument", why, fix="`trueup node token NAME` prints a token")
        try:
            issued = await (self._join(asked, remote) if asked.token else self._come_back(asked))
        except TrueupError as error:
            _log.warning("join refused", remote=remote, code=error.code, why=str(error))
            raise
        return self._answer(issued)

    def renew(self, kind: MachineKind) -> Handler:
        async def answer(request: web.Request) -> web.StreamResponse:
            """Over a connection that the present certificate proves; the new one is of the same generation."""
            asked = from_json(RenewAsked, await read_document(request, self._deps.limits))
            peer = request.get(PEER)
            if peer is None:
                raise Problem("forbidden", "only a machine that has a certificate can renew it")
            await self._look_at_all()
            if why := self._standing.why_peer_void(peer):
                raise Problem("unauthorized", why)
            return self._answer(self._certify(asked.csr, kind, request.match_info[kind], peer.generation))

        return answer

    async def _join(self, asked: JoinAsked, remote: str) -> Issued:
        token, authority = parse_join_token(asked.token), self._authority()
        key_id = authority.key_id(asked.csr, token.kind, token.name)  # before the token is used up
        digest = keyed_digest(self._deps.token_key, token.secret)
        join = Join(f"{token.kind}/{token.name}", token.token_id, digest, key_id, remote)
        generation = await self._handlers().join(join)
        _log.info("joined", machine=join.identity_id, generation=generation, key_id=key_id, remote=remote)
        return self._certify(asked.csr, token.kind, token.name, generation)

    async def _come_back(self, asked: JoinAsked) -> Issued:
        authority = self._authority()
        former = authority.former(asked.certificate)
        identity = Identity(former.kind, former.name)
        await self._standing.known(self._deps.limits.view_wait_s)
        await self._look_at_all()
        why = self._standing.why_void(identity, former.generation)
        if self._now() > former.not_after + EXPIRED_MAX:
            why = f"it ended more than {EXPIRED_MAX.days} days ago"
        if authority.key_id(asked.csr, former.kind, former.name) != former.key_id:
            why = "the request is signed with another key"
        if why:
            fix = f"join anew: `trueup {former.kind} token {former.name}`"
            raise Refusal(f"renew the certificate of {identity}", why, fix=fix, code="join_refused")
        return self._certify(asked.csr, former.kind, former.name, former.generation)

    async def _look_at_all(self) -> None:
        """Whatever was recorded before, by any controller, counts before a certificate is given; while the database is
        away, what was known last."""
        with contextlib.suppress(TrueupError, TimeoutError):
            async with asyncio.timeout(FRESH_S):
                await self._standing.look_past((await self._deps.log.head()).last_event_id)

    def _certify(self, csr: str, kind: MachineKind, name: str, generation: int) -> Issued:
        now = self._now()
        issued = self._authority().certify(csr, kind, name, generation, now)
        made = (issued.issuer, issued.root, now, issued.not_after)
        self._renewals.note(GivenCertificate(f"{kind}/{name}", generation, *made))
        return issued

    def _answer(self, issued: Issued) -> web.Response:
        return web.json_response({"certificate": issued.chain, "bundle": self._authority().bundle})

    def _authority(self) -> Authority:
        if self._deps.authority is None:
            raise Problem("unavailable", "this controller certifies no machines")
        return self._deps.authority

    def _handlers(self) -> IdentityHandlers:
        if self._deps.identities is None:
            raise Problem("unavailable", "this controller certifies no machines")
        return self._deps.identities

    def _now(self) -> datetime:
        return datetime.fromisoformat(self._deps.clock.utc())


def check_reason(reason: str) -> None:
    if not reason.strip() or len(reason) > REASON_CHARS_MAX or not reason.isprintable():
        raise Problem("invalid_argument", f"reason is needed, on one line of at most {REASON_CHARS_MAX} characters")


def _text(moment: datetime) -> str:
    return moment.isoformat(timespec="seconds").replace("+00:00", "Z")
