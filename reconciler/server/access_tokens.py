"""Tokens of people and CI: made, listed, revoked. Called through `reconciler.server.routes`.

A token is trueup_ID_SECRET. The secret is shown once, here; only its keyed digest is kept. Nobody makes a token that
may more than he may himself.
"""

from __future__ import annotations

import re
import secrets
from dataclasses import dataclass
from datetime import datetime, timedelta

from aiohttp import web

from kit.codec import from_json
from reconciler.core.decide.identities import NewToken
from reconciler.core.permission import ALL, Identity
from reconciler.handlers.identities import IdentityHandlers
from reconciler.server.deps import Deps
from reconciler.server.machines import check_reason
from reconciler.server.problems import Problem
from reconciler.server.requests import read_document
from reconciler.server.standing import Standing, keyed_digest
from reconciler.server.table import IDENTITY

DAYS_MAX = 366
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9 ._@-]{0,99}")
_SHOWN = ("token_id", "name", "org", "project", "verbs", "expires_at", "created_by", "created_at", "revoked")


@dataclass(frozen=True, slots=True)
class TokenAsked:
    name: str
    verbs: tuple[str, ...]
    days: float
    org: str = ALL
    project: str = ALL


@dataclass(frozen=True, slots=True)
class RevokeAsked:
    reason: str


class AccessTokens:
    def __init__(self, deps: Deps, standing: Standing) -> None:
        self._deps = deps
        self._standing = standing

    async def create(self, request: web.Request) -> web.Response:
        asked = from_json(TokenAsked, await read_document(request, self._deps.limits))
        names_fit = all(_NAME.fullmatch(each) or each == ALL for each in (asked.org, asked.project))
        if not _NAME.fullmatch(asked.name) or not names_fit or not 0 < asked.days <= DAYS_MAX:
            raise Problem(
                "invalid_argument", f"a name, names or * for org and project, and 1 to {DAYS_MAX} days are needed"
            )
        _check_within(request[IDENTITY], asked)
        token_id, secret = f"t-{secrets.token_hex(6)}", secrets.token_urlsafe(32)
        now = datetime.fromisoformat(self._deps.clock.utc())
        expires_at = (now + timedelta(days=asked.days)).isoformat(timespec="seconds").replace("+00:00", "Z")
        digest = keyed_digest(self._deps.token_key, secret)
        new = NewToken(token_id, asked.name, digest, asked.org, asked.project, asked.verbs, expires_at)
        recorded = await self._handlers().create_token(new, str(request[IDENTITY]))
        await self._standing.look()
        document = {"token": f"trueup_{token_id}_{secret}", "token_id": token_id, "expires_at": expires_at}
        return web.json_response({**document, "event_id": recorded.last_event_id})

    async def show(self, request: web.Request) -> web.Response:
        rows = (await self._deps.views.snapshot(("tokens",))).rows["tokens"]
        return web.json_response({"tokens": [{name: row[name] for name in _SHOWN} for _, row in sorted(rows.items())]})

    async def revoke(self, request: web.Request) -> web.Response:
        asked = from_json(RevokeAsked, await read_document(request, self._deps.limits))
        check_reason(asked.reason)
        token_id = request.match_info["token"]
        recorded = await self._handlers().revoke_token(token_id, asked.reason, str(request[IDENTITY]))
        await self._standing.look()
        return web.json_response({"token_id": token_id, "event_id": recorded.last_event_id})

    def _handlers(self) -> IdentityHandlers:
        if self._deps.identities is None:
            raise Problem("unavailable", "this controller makes no tokens")
        return self._deps.identities


def _check_within(identity: Identity, asked: TokenAsked) -> None:
    """Of one with a scope that makes tokens: what it makes may no more than itself."""
    if identity.role == "operator":
        return
    mine = identity.scope
    wider = [verb for verb in asked.verbs if verb not in mine.verbs]
    if wider or mine.org not in (ALL, asked.org) or mine.project not in (ALL, asked.project):
        raise Problem("forbidden", f"{identity} may not give what it has not: {', '.join(wider) or 'another project'}")
