"""Look at a source now: asked by an operator, or by the webhook of its forge. And an operator's removal of one.

Called through `reconciler.server.routes`. A webhook is proven before anything of its body is parsed, and then nothing
of it is parsed either: all that it can do is to have its own source looked at. So a replay, a lie or a storm costs one
look, and a hook that is lost is made up for by the next poll. Hooks of every kind are answered alike, a ping too.

Who guesses learns nothing: a source that does not exist is answered as a wrong signature is (401), after the same work.
"""

from __future__ import annotations

import secrets
from dataclasses import dataclass, field

from aiohttp import web

from kit import logs
from kit.codec import from_json
from reconciler.core.acts import REASON_CHARS_MAX
from reconciler.core.decide.git.source_removal import Removal
from reconciler.server.auth import Identity, WebhookProof
from reconciler.server.deps import Deps
from reconciler.server.problems import Problem
from reconciler.server.requests import feed_body, read_document
from reconciler.server.table import IDENTITY

SOURCES_COUNTED_MAX = 256
_NOBODYS_SECRET = secrets.token_bytes(32)
_log = logs.get("webhooks")


@dataclass(slots=True)
class _Counts:
    accepted: int = 0
    refused: int = 0


@dataclass(slots=True)
class HookCounts:
    """Of this process, by source. Names that are no source's are counted together, under ""."""

    _of: dict[str, _Counts] = field(default_factory=dict)

    def accepted(self, source: str) -> None:
        self._for(source).accepted += 1

    def refused(self, source: str) -> int:
        counts = self._for(source)
        counts.refused += 1
        return counts.refused

    def document(self) -> dict[str, dict[str, int]]:
        return {
            source: {"accepted": counts.accepted, "refused": counts.refused}
            for source, counts in sorted(self._of.items())
        }

    def _for(self, source: str) -> _Counts:
        known = source if source in self._of or len(self._of) < SOURCES_COUNTED_MAX else ""
        return self._of.setdefault(known, _Counts())


@dataclass(frozen=True, slots=True)
class RemovalAsked:
    """The body of a removal."""

    resources: int
    reason: str
    volumes: bool = False


class Sources:
    def __init__(self, deps: Deps) -> None:
        self._deps = deps
        self.counts = HookCounts()

    async def look(self, request: web.Request) -> web.Response:
        source = request.match_info["source"]
        if not await self._deps.look(source):
            raise Problem("not_found", f"there is no source {source[:80]!r} that this controller follows")
        return _looking(source)

    async def remove(self, request: web.Request) -> web.Response:
        """Deletes all that the source declared; refused while anybody follows it."""
        asked = from_json(RemovalAsked, await read_document(request, self._deps.limits))
        if not 0 < len(asked.reason) <= REASON_CHARS_MAX:
            raise Problem("invalid_argument", f"reason is needed, with at most {REASON_CHARS_MAX} characters")
        source, actor = request.match_info["source"], str(request[IDENTITY])
        removal = Removal(source, asked.resources, asked.volumes, asked.reason, actor)
        event_id = await self._deps.handlers.remove_source(removal)
        return web.json_response({"source_id": source, "event_id": event_id})

    async def webhook(self, request: web.Request) -> web.Response:
        """Behind `prove`, or a bearer token of the same name."""
        source = request.match_info["source"]
        if not await self._deps.look(source):
            raise self._unproven(request, source)
        self.counts.accepted(source)
        return _looking(source)

    async def prove(self, request: web.Request) -> Identity:
        """The caller, from the signature of the raw body; 401 without a good one. Called by the guard."""
        source = request.match_info["source"]
        known = self._deps.webhook_secrets(source)
        proof = WebhookProof(known or (_NOBODYS_SECRET,), request.headers)
        if proof.offered:
            limits = self._deps.limits
            await feed_body(request, proof.feed, bytes_max=limits.webhook_bytes_max, timeout_s=limits.body_timeout_s)
        if not (proof.holds() and known):
            raise self._unproven(request, source if known else "")
        return Identity("webhook", source)

    def _unproven(self, request: web.Request, source: str) -> Problem:
        """Counted and logged, the log growing by one line each time that the count doubles: a flood fills no disk."""
        refused = self.counts.refused(source)
        if refused & (refused - 1) == 0:
            sent = sorted(name for name in request.headers if name.lower() in _TELLING)
            remote = request.remote or ""
            _log.warning("webhook refused", source=source or "(none)", refused=refused, remote=remote, headers=sent)
        return Problem("unauthorized", "the webhook's signature is not that of its source", fix=_FIX)


_FIX = "give the forge the secret of the source, as docs/runbooks/pull-requests.md says"
_TELLING = frozenset(
    {
        "x-github-event",
        "x-gitlab-event",
        "x-gitea-event",
        "x-forgejo-event",
        "x-event-key",
        "x-hub-signature",
        "x-hub-signature-256",
        "x-gitlab-token",
        "x-gitea-signature",
        "x-forgejo-signature",
    }
)


def _looking(source: str) -> web.Response:
    return web.json_response({"source_id": source}, status=202)
