"""Machines that join and are revoked, and tokens of people and CI, into the log. Called by `reconciler.server`."""

from __future__ import annotations

from datetime import datetime

from kit.errors import Refusal
from reconciler.core.commands import Append
from reconciler.core.decide.identities import (
    Invite,
    Join,
    NewToken,
    decide_invite,
    decide_join,
    decide_revoke,
    decide_revoke_token,
    decide_token,
    join_refused,
)
from reconciler.core.events import Cause
from reconciler.handlers.appending import Appending, Recorded

_IDENTITIES = ("identities",)
_TOKENS = ("tokens",)


class IdentityHandlers(Appending):
    async def invite(self, invite: Invite, actor_id: str) -> Recorded:
        async def decide() -> Append | Refusal | None:
            rows = (await self._fresh(_IDENTITIES)).rows["identities"]
            return decide_invite(rows.get(invite.identity_id), invite, _by(actor_id))

        return await self._one(f"invite {invite.identity_id}", _IDENTITIES, decide)

    async def join(self, join: Join) -> int:
        """The generation that the certificate has to say. `Refusal`, after an alarm where it is one."""
        found = 0

        async def decide() -> Append | Refusal | None:
            nonlocal found
            found = 0
            rows = (await self._fresh(_IDENTITIES)).rows["identities"]
            now = datetime.fromisoformat(self._clock.utc())
            cause = Cause("system", join.identity_id, "default")
            decision = decide_join(rows.get(join.identity_id), join, now, cause)
            if isinstance(decision, Append):
                found = decision.events[0].payload.get("generation", 0)
                return decision
            if isinstance(decision, int):
                found = decision
                return None
            return decision

        await self._one(f"join as {join.identity_id}", _IDENTITIES, decide)
        if not found:
            raise join_refused(join.identity_id)
        return found

    async def revoke(self, identity_id: str, reason: str, actor_id: str) -> Recorded:
        """Also of one that is revoked already: nothing is recorded then."""

        async def decide() -> Append | Refusal | None:
            rows = (await self._fresh(_IDENTITIES)).rows["identities"]
            return decide_revoke(rows.get(identity_id), identity_id, reason, _by(actor_id))

        return await self._one(f"revoke {identity_id}", _IDENTITIES, decide)

    async def create_token(self, token: NewToken, actor_id: str) -> Recorded:
        async def decide() -> Append | Refusal | None:
            rows = (await self._fresh(_TOKENS)).rows["tokens"]
            return decide_token(rows.get(token.token_id), token, _by(actor_id))

        return await self._one("create a token", _TOKENS, decide)

    async def revoke_token(self, token_id: str, reason: str, actor_id: str) -> Recorded:
        async def decide() -> Append | Refusal | None:
            row = (await self._fresh(_TOKENS)).rows["tokens"].get(token_id)
            return decide_revoke_token(row, token_id, reason, _by(actor_id))

        return await self._one(f"revoke token {token_id[:40]}", _TOKENS, decide)


def _by(actor_id: str) -> Cause:
    return Cause("user", actor_id, "default")
