"""`trueup events --follow`: the newest events, then each one as it comes. Used by `events`.

It goes on through restarts of the controller, without a gap and without showing an event twice (`following`). With
--cursor-file through its own restarts too: the file says how far what was printed goes, so that after a kill some
events may come again and none is left out. The filters of GET /v1/events are applied here, by
`reconciler.core.event_filter`.
"""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from kit.errors import Refusal
from reconciler.cli import following
from reconciler.cli.client import connect
from reconciler.cli.events import event_of, filters_of, old_events, print_one, wanted

if TYPE_CHECKING:
    from kit.control_plane import ControlPlane
    from kit.cursors import CursorStore
    from kit.stream_batches import Changes


async def follow(args: argparse.Namespace) -> None:
    """For ever."""
    from reconciler.core.event_filter import matches

    _check(args)
    only = wanted(args)

    async def on_changes(changes: Changes) -> None:
        for event in changes.events:
            if matches(event_of(event), only):
                print_one(args, event)

    async with connect(args) as control_plane:
        store = await _started(control_plane, args)
        anew = f"remove {args.cursor_file}" if args.cursor_file else "start again, without --after"
        await following.follow(control_plane, {}, on_changes, store, anew=f"{anew}: it begins with the newest events")


async def _started(control_plane: ControlPlane, args: argparse.Namespace) -> CursorStore:
    """Where to go on; when that is not known yet, behind the old events, which are shown."""
    from kit.cursors import CursorFile, CursorInMemory

    query = filters_of(args)
    chosen = {name: value for name, value in query.items() if value and name not in ("since", "before")}
    file = CursorFile(args.cursor_file, chosen) if args.cursor_file else None
    if file is not None and file.read():
        return file
    old = await old_events(control_plane, args, query)
    for event in old["events"]:
        print_one(args, event)
    store = file or CursorInMemory()
    await store.save(f"{old['log_id']}.{old['last_event_id']}")
    return store


def _check(args: argparse.Namespace) -> None:
    """Scripts read JSON."""
    if args.cursor_file is None:
        return
    if args.after is not None and args.cursor_file.exists():
        why = f"{args.cursor_file} says where to go on, and so does --after"
        raise Refusal("follow events", why, fix="give --after for the first run only", code="usage")
    args.output = "json"
