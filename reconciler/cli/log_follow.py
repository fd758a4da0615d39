"""`trueup log --follow`: new commits, and what becomes of them, as it happens.

Used by `log_history`. The stream says of which commits something was told; what became of each is asked for once the
events of a command are all there, so that a commit that is seen and applied at once is one entry. It goes on through
restarts of the controller (`following`). The events of an entry say where `--after` of another run goes on.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode

from kit.backoff import Backoff
from kit.errors import Refusal, Transient
from reconciler.cli import following

if TYPE_CHECKING:
    from kit.control_plane import ControlPlane
    from kit.stream_batches import Changes

Doc = Mapping[str, Any]
STEPS = ("revision.validated", "revision.planned")
"""They pass, and are told with what follows."""
SHOWN_MAX = 200
"""Commits of which it is remembered how much of them was shown."""


async def follow(control_plane: ControlPlane, page: Doc, after: int, path: str, show: Callable[[Doc], None]) -> None:
    """For ever. `page`: of GET /v1/log, for its source and its log. `after`: the event to go on from. `path`: only
    commits that changed it. `show`: is given each entry."""
    from kit.cursors import CursorInMemory

    shown: dict[str, int] = {}

    async def on_changes(changes: Changes) -> None:
        told: dict[str, int] = {}
        for event in changes.events:
            _note(told, event, page["source"])
        for commit, event_id in told.items():
            if shown.get(commit, 0) >= event_id:
                continue  # it was there already when the commit was asked about for an earlier event
            if entry := await _entry(control_plane, page["source"], commit, event_id, path):
                show(entry)
                shown[commit] = max((each["event_id"] for each in entry["events"]), default=0)
        while len(shown) > SHOWN_MAX:
            shown.pop(next(iter(shown)))

    store = CursorInMemory(f"{page['log_id']}.{after}")
    await following.follow(control_plane, {"kind": "revision"}, on_changes, store, anew="start again, without --after")


def _note(told: dict[str, int], event: Doc, source_id: str) -> None:
    """The newest event of each commit, in the order in which they were told."""
    if event["aggregate_type"] != "revision" or event["event_type"] in STEPS:
        return
    if event["payload"]["source_id"] == source_id:
        commit = event["payload"]["commit"]
        told.pop(commit, None)
        told[commit] = event["event_id"]


async def _entry(control_plane: ControlPlane, source_id: str, commit: str, event_id: int, path: str) -> Doc | None:
    """None for a commit that did not change the path, or that is not in the clone any more."""
    query: dict[str, str | int] = {"source": source_id, "from": commit, "limit": 1, "min_event_id": event_id}
    found = await _ask(control_plane, query)
    if found is not None and path:
        found = await _ask(control_plane, {**query, "to": found["parent"], "path": path})
    return found if found is not None and found["commit"] == commit else None


async def _ask(control_plane: ControlPlane, query: Mapping[str, str | int]) -> Doc | None:
    """As often as it takes: a controller that restarts, or whose views are late, is asked again."""
    given = urlencode({name: value for name, value in query.items() if value != ""})
    backoff, failures, rng = Backoff(0.2, 10.0), 0, random.Random()  # noqa: S311  # jitter
    while True:
        try:
            entries = (await control_plane.get_json(f"/v1/log?{given}"))["entries"]
        except Transient:
            failures += 1
            await asyncio.sleep(backoff.delay_s(failures, rng))
        except Refusal as error:
            if error.code != "not_found":
                raise
            return None
        else:
            return entries[0] if entries else None
