"""GET /v1/log: the commits of a source and what became of each. Called through `reconciler.server.routes`."""

from __future__ import annotations

import re

from aiohttp import web

from kit.codec import to_json
from reconciler.core.history import ENTRIES_MAX, Wanted
from reconciler.server.deps import Deps, ReadHistory
from reconciler.server.problems import Problem
from reconciler.server.requests import query_int, query_text, query_time

ENTRIES = 20
_COMMIT = re.compile(r"([0-9a-f]{7,64})?")


class Commits:
    def __init__(self, deps: Deps) -> None:
        self._deps = deps

    async def log(self, request: web.Request) -> web.Response:
        """A page, newest first. `next` has the `from` (as start) and the `under` of the page after it, null when this
        was the last."""
        read = self._source(query_text(request, "source"))
        if event_id := query_int(request, "min_event_id", 0):
            await self._deps.views.wait_for(event_id, ("revisions", "sources"), self._deps.limits.view_wait_s)
        wanted = Wanted(
            start=_commit(request, "from"),
            stop=_commit(request, "to"),
            path=query_text(request, "path").strip("/"),
            since=query_time(request, "since"),
            until=query_time(request, "until"),
            limit=query_int(request, "limit", ENTRIES, lowest=1, highest=ENTRIES_MAX),
            under=_commit(request, "under"),
        )
        return web.json_response(to_json(await read(wanted)))

    def _source(self, name: str) -> ReadHistory:
        known = self._deps.history
        found = next(iter(known.values())) if not name and len(known) == 1 else known.get(name)
        if found is None:
            what = f"there is no source {name[:80]!r}" if name else "there is more than one source"
            raise Problem("not_found", what, fix=f"sources here: {', '.join(sorted(known))}")
        return found


def _commit(request: web.Request, name: str) -> str:
    text = query_text(request, name).lower()
    if not _COMMIT.fullmatch(text):
        raise Problem("invalid_argument", f"{name}={text[:80]!r} is not 7 to 64 hex digits")
    return text
