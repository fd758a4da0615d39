"""`trueup events --follow`: the newest events, then each one as it comes. Used by `events`.

It goes on through restarts of the controller, without a gap and without showing an event twice (`following`). With
--cursor-file through its own restarts too: the file says how far what was printed goes, so that after a kill some
events may come again and none is left out. The filters that the stream does not know are applied here,
by `reconciler.core.event_filter`.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from kit.errors import Refusal
from reconciler.cli import following
from reconciler.cli.client import connect
from reconciler.cli.events import event_of, filters_of, old_events, place_of, print_one, wanted
from reconciler.cli.output import clean, print_json_line

if TYPE_CHECKING:
    from kit.control_plane import ControlPlane
    from kit.cursors import CursorStore
    from kit.stream_batches import Changes
    from reconciler.core.event_filter import EventFilter


async def follow(args: argparse.Namespace) -> None:
    """For ever."""
    from reconciler.core.event_filter import matches

    _check(args)
    only = wanted(args)

    async def on_changes(changes: Changes) -> None:
        for line in changes.lines:
            if line["type"] == "removal":
                _print_removal(args, line, only)
            elif matches(event_of(line["event"]), only):
                print_one(args, line["event"])

    async with connect(args) as control_plane:
        store = await _started(control_plane, args)
        anew = f"remove {args.cursor_file}" if args.cursor_file else "start again, without --after"
        await following.follow(
            control_plane, place_of(args), on_changes, store, anew=f"{anew}: it begins with the newest events"
        )


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


def _print_removal(args: argparse.Namespace, line: Mapping[str, Any], only: EventFilter) -> None:
    """It left the filter by an event that the filter does not show."""
    kind, name = line["aggregate_type"], line["aggregate_id"]
    if kind not in (only.aggregate_types or (kind,)) or name != (only.aggregate_id or name):
        return
    if args.output == "json":
        print_json_line(line)
    else:
        sys.stdout.write(f"{kind} {clean(name)} is not among what is followed any more\n")
        sys.stdout.flush()


def _check(args: argparse.Namespace) -> None:
    """Scripts read JSON."""
    if args.cursor_file is None:
        return
    if args.after is not None and args.cursor_file.exists():
        why = f"{args.cursor_file} says where to go on, and so does --after"
        raise Refusal("follow events", why, fix="give --after for the first run only", code="usage")
    args.output = "json"
