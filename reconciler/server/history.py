"""What operators ask about the past: the audit read, the state of an earlier moment, what changed between two.

Called through `reconciler.server.routes`. The past is folded from the log, page by page, in a thread: memory is the
state of that moment, the streams of this process go on meanwhile, and one such question is answered at a time.
"""

from __future__ import annotations

import asyncio
import re
from typing import Any

from aiohttp import web

from kit.codec import to_json
from reconciler.core.difference import VIEWS, difference
from reconciler.core.event_filter import is_event_type
from reconciler.core.explanation import Ambiguous, NothingFound
from reconciler.core.past import Past, chosen, shown, views_for, with_states
from reconciler.core.views import PROJECTIONS
from reconciler.ports import EventFilter
from reconciler.server.deps import Deps
from reconciler.server.moments import event_at, last_at_or_before
from reconciler.server.problems import Problem
from reconciler.server.requests import query_int, query_text, query_time, query_words
from reconciler.server.stream_query import reader_key
from reconciler.server.table import IDENTITY

STATE_ROWS_MAX = 20_000
"""Of each view; a row is about 1 KB."""
PAGE_EVENTS = 5000
_COMMIT_PREFIX = re.compile(r"[0-9a-f]{4,64}")
_TEXTS = ("aggregate_id", "command_id", "request", "org_id", "source_id", "path", "correlation_id")


class History:
    def __init__(self, deps: Deps) -> None:
        self._deps = deps
        self._one_at_a_time = asyncio.Semaphore(1)

    async def events(self, request: web.Request) -> web.Response:
        """The audit read, ascending. `next_after` is where the next page starts, null when this was the last. With
        newest=true it is the last page that matches, and `next_before` leads to the one before it."""
        limits, log = self._deps.limits, self._deps.log
        limit = query_int(request, "limit", limits.page_rows, lowest=1, highest=limits.page_rows_max)
        only = event_filter(request)
        head = await log.head()
        after, upto = await self._bounds(request, head.last_event_id)
        found = await log.read(after, limit=limit, only=only, upto=upto) if after < upto else []
        full = len(found) == limit
        return web.json_response(
            {
                "log_id": head.log_id,
                "last_event_id": head.last_event_id,
                "events": [to_json(event) for event in found],
                "next_after": found[-1].event_id if full and not only.newest and found[-1].event_id < upto else None,
                "next_before": found[0].event_id if full and only.newest and found[0].event_id > after + 1 else None,
            }
        )

    async def state(self, request: web.Request) -> web.Response:
        """The rows as they were right after that moment."""
        of = query_text(request, "of")
        head = await self._deps.log.head()
        event_id = await event_at(self._deps.log, query_text(request, "at") or "now", head.last_event_id)
        async with self._one_at_a_time:
            past = Past(views_for(of))
            await self._fold(past, event_id)
            document = await asyncio.to_thread(_state_document, past, of)
        return web.json_response({"log_id": head.log_id, "last_event_id": head.last_event_id, **document})

    async def difference(self, request: web.Request) -> web.Response:
        """What changed from one moment to the other; the older one is first, however they are given."""
        log, of = self._deps.log, query_text(request, "of")
        head = await log.head()
        ends = [await event_at(log, query_text(request, name) or "now", head.last_event_id) for name in ("from", "to")]
        older, newer = sorted(ends)
        async with self._one_at_a_time:
            past = Past(set(views_for(of)) & set(VIEWS))
            await self._fold(past, older)
            before, began = past.copy(), past.occurred_at
            past.touched = {}
            await self._fold(past, newer)
            changes = await asyncio.to_thread(difference, before, past.rows, past.touched)
        return web.json_response(
            {
                "log_id": head.log_id,
                "from": {"event_id": older, "at": began},
                "to": {"event_id": newer, "at": past.occurred_at},
                "changes": to_json([each for each in changes if _is_of(each.kind, each.label, of)]),
                "broken": past.broken,
            }
        )

    async def _fold(self, past: Past, upto: int) -> None:
        while past.event_id < upto:
            page = await self._deps.log.read(past.event_id, limit=PAGE_EVENTS, upto=upto)
            if not page:
                return
            await asyncio.to_thread(past.fold, page)

    async def _bounds(self, request: web.Request, last_event_id: int) -> tuple[int, int]:
        """after, upto: from event ids and times, whichever is narrower."""
        after, before = query_int(request, "after", 0), query_int(request, "before", last_event_id + 1)
        upto = min(before - 1, last_event_id)
        if since := query_time(request, "since"):
            after = max(after, await self._last_before(since, last_event_id))
        if until := query_time(request, "until"):
            upto = min(upto, await last_at_or_before(self._deps.log, until, last_event_id))
        return after, upto

    async def _last_before(self, time: str, last_event_id: int) -> int:
        # Times compare as texts, and a text is behind its own beginning: so the instant itself is not before itself.
        return await last_at_or_before(self._deps.log, time.removesuffix("Z"), last_event_id)


def _state_document(past: Past, of: str) -> dict[str, Any]:
    rows = chosen(past.rows, of)
    match rows:
        case NothingFound():
            raise Problem("not_found", f"at event {past.event_id}: {rows.message}", fix=rows.fix)
        case Ambiguous():
            names = ", ".join(each.label for each in rows.candidates)
            raise Problem("ambiguous", rows.message, status=409, fix=f"name one of: {names}")
    if "releases" in rows and "deployments" in past.rows:
        rows["releases"] = with_states(rows["releases"], past.rows["deployments"])
    return {
        "event_id": past.event_id,
        "at": past.occurred_at,
        "views": {
            view: [{"key": key, "doc": shown(view, found[key])} for key in sorted(found)[:STATE_ROWS_MAX]]
            for view, found in rows.items()
        },
        "omitted": {view: len(found) - STATE_ROWS_MAX for view, found in rows.items() if len(found) > STATE_ROWS_MAX},
        "broken": past.broken,
    }


def _is_of(kind: str, label: str, of: str) -> bool:
    """A kind, or a thing by the end of its name."""
    wanted = of.lower().removesuffix("s") if of.lower() in PROJECTIONS else of.lower()
    return wanted in ("", kind, "resource") or f"/{label.lower()}".endswith(f"/{wanted}")


def event_filter(request: web.Request) -> EventFilter:
    commit = query_text(request, "commit").lower()
    if commit and not _COMMIT_PREFIX.fullmatch(commit):
        raise Problem("invalid_argument", f"commit={commit[:80]!r} is not 4 to 64 hex digits")
    event_types = query_words(request, "event_type")
    for each in event_types:
        if not is_event_type(each):
            raise Problem("invalid_argument", f"event_type={each[:80]!r} is not like instance.allocated or instance.*")
    newest = request.query.get("newest", "false")
    if newest not in ("true", "false"):
        raise Problem("invalid_argument", f"newest={newest[:40]!r} is not true or false")
    return EventFilter(
        aggregate_types=query_words(request, "aggregate_type"),
        event_types=event_types,
        commit=commit,
        actor=query_text(request, "actor"),
        causation_id=query_int(request, "causation_id", 0),
        newest=newest == "true",
        reader=reader_key(request[IDENTITY], request.query),
        **{name: query_text(request, name) for name in _TEXTS},
    )
