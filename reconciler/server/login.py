"""Who one can log in with, who one is, and giving one's own token back: what `trueup login`, `whoami` and `logout` ask.

Called through `reconciler.server.routes`.
"""

from __future__ import annotations

from datetime import UTC, datetime

from aiohttp import web

from reconciler.core.permission import Identity
from reconciler.server.deps import Deps
from reconciler.server.problems import Problem
from reconciler.server.standing import Standing
from reconciler.server.table import ENDS_AT_S, IDENTITY

WHY_RETURNED = "logged out"


class Login:
    def __init__(self, deps: Deps, standing: Standing) -> None:
        self._deps = deps
        self._standing = standing

    async def issuers(self, request: web.Request) -> web.Response:
        """For everybody: nothing of it is secret."""
        issuers = self._deps.issuers
        return web.json_response({"issuers": issuers.for_people() if issuers is not None else []})

    async def whoami(self, request: web.Request) -> web.Response:
        identity = request[IDENTITY]
        scoped, scope = identity.role in ("token", "oidc"), identity.scope
        document = {
            "identity": str(identity),
            "role": identity.role,
            "org": scope.org if scoped else "",
            "project": scope.project if scoped else "",
            "verbs": sorted(scope.verbs) if scoped else [],
            "expires_at": self._expires_at(identity, request.get(ENDS_AT_S)),
        }
        return web.json_response(document)

    async def logout(self, request: web.Request) -> web.Response:
        """Voids the token that asks, which needs no right to void others. What an issuer made only it can take back."""
        identity, handlers = request[IDENTITY], self._deps.identities
        if identity.role != "token" or handlers is None:
            raise Problem("invalid_argument", f"{identity} has no token of this controller that could be revoked")
        recorded = await handlers.revoke_token(identity.name, WHY_RETURNED, str(identity))
        await self._standing.look()
        return web.json_response({"token_id": identity.name, "event_id": recorded.last_event_id})

    def _expires_at(self, identity: Identity, ends_at_s: float | None) -> str:
        if identity.role == "token":
            return self._standing.token_ends_at(identity.name)
        if ends_at_s is None:
            return ""
        return datetime.fromtimestamp(ends_at_s, UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
