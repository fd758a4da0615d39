"""What operators read: the views, the status, the reason why. And the two questions of a load balancer. What they ask
about the past is in `reconciler.server.history`, and about commits in `commits`.

Called through `reconciler.server.routes`. Reads come from the views; only `why` touches the log.
`min_event_id` asks for read-your-writes and gets 504 projection_timeout when the projections do not come that far.
Every answer names the event_id that it shows, so that a reader who passes it on never goes back in time.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from aiohttp import web

from kit.codec import to_json
from kit.errors import TrueupError
from reconciler.core.explanation import Ambiguous, NothingFound
from reconciler.core.views import PROJECTIONS
from reconciler.ports import ViewSnapshot
from reconciler.server.commits import Commits
from reconciler.server.deps import Deps
from reconciler.server.draining import Draining
from reconciler.server.history import History
from reconciler.server.hub import Hub
from reconciler.server.problems import Problem
from reconciler.server.pulse import Pulse
from reconciler.server.requests import query_int
from reconciler.server.sources import HookCounts
from reconciler.server.status import status_document
from reconciler.server.status_sources import Followed
from reconciler.server.why import explain_resource

VIEWS = tuple(sorted(PROJECTIONS))
STATUS_VIEWS = tuple(view for view in VIEWS if view != "deliveries")
"""A view that is read is kept in memory; one that grows with secrets times nodes is only when somebody asks for it."""
READY_LAG_EVENTS_MAX = 50_000
_READY_TIMEOUT_S = 2.0
_SUBJECT_CHARS_MAX = 512


class Reads:
    """`streams`: how many are open, and how many were cut off."""

    def __init__(
        self,
        deps: Deps,
        hub: Hub,
        pulse: Pulse,
        hooks: HookCounts,
        draining: Draining,
        streams: Callable[[], Mapping[str, int]],
        warnings: Callable[[], Sequence[Mapping[str, Any]]],
    ) -> None:
        self._deps = deps
        self._warnings = warnings
        self._hub = hub
        self._pulse = pulse
        self._hooks = hooks
        self._draining = draining
        self._streams = streams
        self.history = History(deps)
        self.commits = Commits(deps)

    async def healthz(self, request: web.Request) -> web.Response:
        """This process answers. Nothing more: a database that is down is no reason to restart it."""
        return web.json_response({"status": "ok"})

    async def readyz(self, request: web.Request) -> web.Response:
        """The database answers and the projections are not hopelessly behind. `troubled` names loops that go
        wrong, here or at another controller; it makes none unready. What it is, `trueup status` tells to operators."""
        if self._draining.begun or self._hub.closing:
            raise Problem("unavailable", "the controller is shutting down: go to another one")
        try:
            async with asyncio.timeout(_READY_TIMEOUT_S):
                head, checkpoints, lags_s, leases = await asyncio.gather(
                    self._deps.log.head(), self._deps.checkpoints(), self._deps.lags_s(), self._deps.leases()
                )
        except (TrueupError, TimeoutError) as error:
            raise Problem("unavailable", f"the database does not answer: {error or 'time-out'}") from error
        lags = {view: max(0, head.last_event_id - checkpoint) for view, checkpoint in sorted(checkpoints.items())}
        late = [f"{view} is {lag} events behind" for view, lag in lags.items() if lag > READY_LAG_EVENTS_MAX]
        if late or not self._hub.ready:
            raise Problem("unavailable", "; ".join(late) or "the tail of the log has not started")
        ages_s = {view: round(age_s, 3) for view, age_s in sorted(lags_s.items())}
        return web.json_response(
            {
                "status": "ready",
                "last_event_id": head.last_event_id,
                "lag_events": lags,
                "lag_s": ages_s,
                "troubled": sorted(each.lease for each in leases if each.held and each.trouble),
            }
        )

    async def view(self, request: web.Request) -> web.Response:
        """Rows of a view by ascending key. `next` is the key to pass as `after`, null when this was the last page."""
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
        view, key = _view_name(request), request.match_info["key"]
        await self._wait(request, (view,))
        event_id = (await self._deps.checkpoints())[view]  # before the row, which then is as new or newer
        doc = await self._deps.views.get(view, key)
        if doc is None:
            raise Problem("not_found", f"view {view} has no row {key[:200]!r}")
        return web.json_response({"view": view, "key": key, "event_id": event_id, "doc": doc})

    async def status(self, request: web.Request) -> web.Response:
        head = await self._deps.log.head()
        snapshot = await self.snapshot(request, STATUS_VIEWS)
        checkpoints, quarantined = await asyncio.gather(self._deps.checkpoints(), self._deps.quarantined())
        # A large fleet's page takes a second to make; the streams of this process go on meanwhile.
        ages_s, leases, lags_s = await asyncio.gather(self._pulse.ages_s(), self._deps.leases(), self._deps.lags_s())
        troubles, behind = self._deps.source_troubles(), self._deps.commits_behind()
        own, ages = self._deps.notes_troubles(), self._deps.source_fetch_ages_s()
        followed = Followed(troubles, leases, own, ages, self._deps.recipient_of)
        document = await asyncio.to_thread(
            status_document, snapshot, head, ages_s, checkpoints, quarantined, followed, lags_s, behind
        )
        more = {
            "webhooks": self._hooks.document(),
            "streams": self._streams(),
            "warnings": list(self._warnings()),
        }
        return web.json_response({**document, **more})

    async def why(self, request: web.Request) -> web.Response:
        """Why a resource, an instance, a node or a commit is as it is: see `reconciler.core.explain`."""
        subject = request.query.get("resource", "")
        if not 0 < len(subject) <= _SUBJECT_CHARS_MAX:
            raise Problem("invalid_argument", f"resource= is needed, with at most {_SUBJECT_CHARS_MAX} characters")
        snapshot = await self.snapshot(request, VIEWS)
        answer = await explain_resource(self._deps.log, snapshot, await self._pulse.ages_s(), subject)
        match answer:
            case NothingFound():
                raise Problem("not_found", answer.message, fix=answer.fix)
            case Ambiguous():
                extra = {"candidates": to_json(answer.candidates)}
                fix = f"name one of: {', '.join(each.label for each in answer.candidates)}"
                raise Problem("ambiguous", answer.message, status=409, fix=fix, extra=extra)
        return web.json_response(to_json(answer))

    async def plan(self, request: web.Request) -> web.Response:
        """What a commit would do if it were merged now: see `reconciler.planning`."""
        source, base, head = (request.query.get(name, "") for name in ("source", "base", "head"))
        plan = self._deps.plan.get(source)
        if plan is None:
            known = ", ".join(sorted(self._deps.plan))
            raise Problem("not_found", f"there is no source {source[:80]!r}", fix=f"sources here: {known}")
        return web.json_response(to_json(await plan(base, head)))

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
