"""Operators' acts over HTTP: drain, disable and activate a node; suspend and resume; hold; stop an instance.

Called through `reconciler.server.routes`; only operators get here. The header Idempotency-Key makes an act one act: the
same key with the same body is answered as the first time, with another body it is 409. The answer is the events that
the act became, so that `min_event_id` of any read can wait for them; with `wait=true` the answer itself comes when
every view shows them, or says after a bound that the act is done and the views are late (504 projection_timeout).
"""

from __future__ import annotations

import re
from collections.abc import Collection
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from aiohttp import web

from kit import logs
from kit.canonical import digest
from kit.codec import from_json, to_json
from kit.errors import Transient
from reconciler.core.acts import (
    REASON_CHARS_MAX,
    Act,
    Duty,
    Hold,
    Order,
    ReleaseHold,
    Resume,
    SetDuty,
    StopInstance,
    Suspend,
)
from reconciler.core.views import PROJECTIONS
from reconciler.server.deps import Deps
from reconciler.server.problems import Problem
from reconciler.server.requests import read_document
from reconciler.server.table import IDENTITY, Handler

_log = logs.get("acts")
_KEY = re.compile(r"[A-Za-z0-9._-]{8,128}")
FOR_S_MIN = 1.0
FOR_S_MAX = 366 * 86_400.0
"""An act that is to last longer is no act any more: it belongs into Git."""

_NAME_CHARS_MAX = 500


@dataclass(frozen=True, slots=True)
class Asked:
    """The body of every act. Each route says which of the fields it knows, besides `reason`."""

    reason: str
    until: str = ""
    for_s: float = 0.0
    scope: str = ""
    app: str = ""
    release_id: str = ""


_END = frozenset({"until", "for_s"})


class Acts:
    def __init__(self, deps: Deps) -> None:
        self._deps = deps

    def duty(self, duty: Duty) -> Handler:
        async def answer(request: web.Request) -> web.StreamResponse:
            asked = await self._asked(request, _END if duty == "draining" else ())
            return await self._do(request, asked, SetDuty(request.match_info["node"], duty))

        return answer

    async def suspend(self, request: web.Request) -> web.StreamResponse:
        asked = await self._asked(request, {"scope", *_END}, needed=("scope",))
        return await self._do(request, asked, Suspend(asked.scope))

    async def resume(self, request: web.Request) -> web.StreamResponse:
        """A source that may go on is looked at at once."""
        asked = await self._asked(request, {"scope"}, needed=("scope",))
        response = await self._do(request, asked, Resume(asked.scope))
        kind, _, source_id = asked.scope.partition("/")
        if kind == "source":
            await self._deps.look(source_id)
        return response

    async def hold(self, request: web.Request) -> web.StreamResponse:
        asked = await self._asked(request, {"app", "release_id", *_END}, needed=("app", "release_id"))
        return await self._do(request, asked, Hold(asked.app, asked.release_id))

    async def release_hold(self, request: web.Request) -> web.StreamResponse:
        asked = await self._asked(request, {"app"}, needed=("app",))
        return await self._do(request, asked, ReleaseHold(asked.app))

    async def stop_instance(self, request: web.Request) -> web.StreamResponse:
        asked = await self._asked(request, ())
        return await self._do(request, asked, StopInstance(request.match_info["instance"]))

    async def _asked(self, request: web.Request, known: Collection[str], *, needed: Collection[str] = ()) -> Asked:
        _waits(request)  # a misspelt one is refused before anything is done
        document = await read_document(request, self._deps.limits)
        if unknown := sorted(set(document) - {"reason", *known}):
            raise Problem("invalid_argument", f"unknown field {unknown[0][:40]!r}", fix=f"known: reason, {known}")
        asked = from_json(Asked, document)
        for name in ("reason", *needed):
            text = getattr(asked, name)
            if not text.strip() or len(text) > _bound(name) or not text.isprintable():
                raise Problem("invalid_argument", f"{name} is needed, on one line of at most {_bound(name)} characters")
        return asked

    async def _do(self, request: web.Request, asked: Asked, act: Act) -> web.StreamResponse:
        identity, key = str(request[IDENTITY]), request.headers.get("Idempotency-Key", "")
        if not _KEY.fullmatch(key):
            fix = "8 to 128 letters, digits, points, dashes and underscores, chosen anew for each act"
            raise Problem("invalid_argument", "the header Idempotency-Key is missing or unfit", fix=fix)
        order = Order(
            command_id=f"{identity}/{key}",
            body_hash=digest([type(act).__name__, to_json(act), to_json(asked)]),
            actor_type="user",
            actor_id=identity,
            reason=asked.reason.strip(),
            until=_until(asked, datetime.fromisoformat(self._deps.clock.utc())),
        )
        done = await self._deps.handlers.act(act, order)
        event_ids = [event.event_id for event in done.events]
        _log.info("act", act=type(act).__name__, command_id=order.command_id, events=event_ids, replayed=done.replayed)
        if _waits(request):
            await self._shown(act, done.events[-1].event_id)
        events = [to_json(event) for event in done.events]
        document = {"command_id": order.command_id, "event_id": events[-1]["event_id"], "events": events}
        headers = {"Idempotency-Replayed": "true"} if done.replayed else {}
        return web.json_response(document, headers=headers)

    async def _shown(self, act: Act, event_id: int) -> None:
        try:
            await self._deps.views.wait_for(event_id, PROJECTIONS, self._deps.limits.view_wait_s)
        except Transient as late:
            attempted = f"show {type(act).__name__} in all views"
            why = f"it is done and recorded as event {event_id}, but {late.attempted} was in vain: {late.why}"
            raise Transient(attempted, why, fix="read with min_event_id; do not act again", code=late.code) from late


def _waits(request: web.Request) -> bool:
    value = request.query.get("wait", "false")
    if value not in ("true", "false"):
        raise Problem("invalid_argument", f"wait={value[:40]!r} is neither true nor false")
    return value == "true"


def _bound(name: str) -> int:
    return REASON_CHARS_MAX if name == "reason" else _NAME_CHARS_MAX


def _until(asked: Asked, now: datetime) -> str:
    """RFC 3339 in UTC, or "" for an act without an end of its own."""
    if not asked.until and not asked.for_s:
        return ""
    if asked.until and asked.for_s:
        raise Problem("invalid_argument", "until and for_s are both given", fix="give one of them")
    try:
        end = datetime.fromisoformat(asked.until) if asked.until else now + timedelta(seconds=asked.for_s)
    except (ValueError, OverflowError):
        raise Problem("invalid_argument", f"until={asked.until[:40]!r} for_s={asked.for_s} is no time") from None
    end = end if end.tzinfo else end.replace(tzinfo=UTC)
    if not FOR_S_MIN <= (end - now).total_seconds() <= FOR_S_MAX:
        raise Problem("invalid_argument", f"{end.isoformat()} is not between a second and a year from now")
    return end.astimezone(UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
