"""What operators read: the log, the views, the status, the reason why. And the two questions of a load balancer.

Called through `reconciler.server.routes`. Reads come from the views; only the audit read and `why` touch the log.
`min_event_id` asks for read-your-writes and gets 504 projection_timeout when the projections do not come that far.
Every answer names the event_id that it shows, so that a reader who passes it on never goes back in time.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Iterable, Mapping
from typing import Any

from aiohttp import web

from kit.codec import to_json
from kit.errors import TrueupError
from reconciler.core.explanation import Ambiguous, NothingFound
from reconciler.core.views import PROJECTIONS
from reconciler.ports import EventFilter, ViewSnapshot
from reconciler.server.deps import Deps
from reconciler.server.hub import Hub
from reconciler.server.problems import Problem
from reconciler.server.pulse import Pulse
from reconciler.server.requests import known_query, query_int, query_words
from reconciler.server.status import status_document
from reconciler.server.why import explain_resource

VIEWS = tuple(sorted(PROJECTIONS))
READY_LAG_EVENTS_MAX = 50_000
_READY_TIMEOUT_S = 2.0
_COMMIT_PREFIX = re.compile(r"[0-9a-f]{4,64}")
_SUBJECT_CHARS_MAX = 512


class Reads:
    def __init__(self, deps: Deps, hub: Hub, pulse: Pulse) -> None:
        self._deps = deps
        self._hub = hub
        self._pulse = pulse

    async def healthz(self, request: web.Request) -> web.Response:
        """This process answers. Nothing more: a database that is down is no reason to restart it."""
        return web.json_response({"status": "ok"})

    async def readyz(self, request: web.Request) -> web.Response:
        """The database answers and the projections are not hopelessly behind."""
        if self._hub.closing:
            raise Problem("unavailable", "the controller is shutting down")
        try:
            async with asyncio.timeout(_READY_TIMEOUT_S):
                head, checkpoints = await asyncio.gather(self._deps.log.head(), self._deps.checkpoints())
        except (TrueupError, TimeoutError) as error:
            raise Problem("unavailable", f"the database does not answer: {error or 'time-out'}") from error
        lags = {view: max(0, head.last_event_id - checkpoint) for view, checkpoint in sorted(checkpoints.items())}
        late = [f"{view} is {lag} events behind" for view, lag in lags.items() if lag > READY_LAG_EVENTS_MAX]
        if late or not self._hub.ready:
            raise Problem("unavailable", "; ".join(late) or "the tail of the log has not started")
        return web.json_response({"status": "ready", "last_event_id": head.last_event_id, "lag_events": lags})

    async def events(self, request: web.Request) -> web.Response:
        """The audit read, ascending. `next_after` is where the next page starts, null when this was the last."""
        known_query(request, "after", "limit", "aggregate_type", "aggregate_id", "event_type", "commit", "command_id")
        limits = self._deps.limits
        after = query_int(request, "after", 0)
        limit = query_int(request, "limit", limits.page_rows, lowest=1, highest=limits.page_rows_max)
        head = await self._deps.log.head()
        found = await self._deps.log.read(after, limit=limit, only=_event_filter(request), upto=head.last_event_id)
        more = len(found) == limit and found[-1].event_id < head.last_event_id
        return web.json_response(
            {
                "log_id": head.log_id,
                "last_event_id": head.last_event_id,
                "events": [to_json(event) for event in found],
                "next_after": found[-1].event_id if more else None,
            }
        )

    async def view(self, request: web.Request) -> web.Response:
        """Rows of a view by ascending key. `next` is the key to pass as `after`, null when this was the last page."""
        known_query(request, "min_event_id", "after", "limit")
        view = _view_name(request)
        limit = query_int(request, "limit", self._deps.limits.page_rows_max, lowest=1, highest=10_000)
        snapshot = await self.snapshot(request, (view,))
        after = request.query.get("after", "")
        keys = sorted(key for key in snapshot.rows[view] if key > after)
        page = keys[:limit]
        return web.json_response(
            {
                "view": view,
                "log_id": snapshot.log_id,
                "event_id": snapshot.event_id,
                "rows": [{"key": key, "doc": snapshot.rows[view][key]} for key in page],
                "next": page[-1] if len(keys) > limit else None,
            }
        )

    async def view_row(self, request: web.Request) -> web.Response:
        known_query(request, "min_event_id")
        view, key = _view_name(request), request.match_info["key"]
        await self._wait(request, (view,))
        doc = await self._deps.views.get(view, key)
        if doc is None:
            raise Problem("not_found", f"view {view} has no row {key[:200]!r}")
        return web.json_response({"view": view, "key": key, "doc": doc})

    async def status(self, request: web.Request) -> web.Response:
        known_query(request, "min_event_id")
        head = await self._deps.log.head()
        snapshot = await self.snapshot(request, VIEWS)
        checkpoints, quarantined = await asyncio.gather(self._deps.checkpoints(), self._deps.quarantined())
        # A large fleet's page takes a second to make; the streams of this process go on meanwhile.
        ages_s = self._pulse.ages_s()
        troubles = self._deps.source_troubles()
        document = await asyncio.to_thread(status_document, snapshot, head, ages_s, checkpoints, quarantined, troubles)
        return web.json_response(document)

    async def why(self, request: web.Request) -> web.Response:
        """Why a resource, an instance, a node or a commit is as it is: see `reconciler.core.explain`."""
        known_query(request, "resource", "min_event_id")
        subject = request.query.get("resource", "")
        if not 0 < len(subject) <= _SUBJECT_CHARS_MAX:
            raise Problem("invalid_argument", f"resource= is needed, with at most {_SUBJECT_CHARS_MAX} characters")
        snapshot = await self.snapshot(request, VIEWS)
        answer = await explain_resource(self._deps.log, snapshot, self._pulse.ages_s(), subject)
        match answer:
            case NothingFound():
                raise Problem("not_found", answer.message, fix=answer.fix)
            case Ambiguous():
                extra = {"candidates": to_json(answer.candidates)}
                fix = f"name one of: {', '.join(each.label for each in answer.candidates)}"
                raise Problem("ambiguous", answer.message, status=409, fix=fix, extra=extra)
        return web.json_response(to_json(answer))

    async def snapshot(self, request: web.Request, views: Iterable[str]) -> ViewSnapshot:
        """Rows of one moment, not older than what the request asks for."""
        names = tuple(views)
        await self._wait(request, names)
        return await self._deps.views.snapshot(names)

    async def _wait(self, request: web.Request, views: tuple[str, ...]) -> None:
        wanted = query_int(request, "min_event_id", 0)
        if wanted:
            await self._deps.views.wait_for(wanted, views, self._deps.limits.view_wait_s)


def _view_name(request: web.Request) -> str:
    view = request.match_info["view"]
    if view not in VIEWS:
        raise Problem("not_found", f"there is no view {view[:80]!r}", fix=f"views: {', '.join(VIEWS)}")
    return view


def _event_filter(request: web.Request) -> EventFilter:
    query: Mapping[str, Any] = request.query
    commit = str(query.get("commit", "")).lower()
    if commit and not _COMMIT_PREFIX.fullmatch(commit):
        raise Problem("invalid_argument", f"commit={commit[:80]!r} is not 4 to 64 hex digits")
    return EventFilter(
        aggregate_types=query_words(request, "aggregate_type"),
        aggregate_id=query.get("aggregate_id", ""),
        event_types=query_words(request, "event_type"),
        commit=commit,
        command_id=query.get("command_id", ""),
    )
