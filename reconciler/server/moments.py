"""From a moment as a person names it to the event after which it lies. Called by `reconciler.server.history`.

A time is found by bisection over event_id, which is dense and in commit order: some twenty reads of one event, however
long the log is, and no index to keep. Should the database's clock have been set back, a time may lie at more than one
place of the log; the answer is then one of them.
"""

from __future__ import annotations

from reconciler.core.event_filter import EventFilter
from reconciler.core.events import Event
from reconciler.core.moments import FORMS, AtCommit, AtEvent, AtTime, Now, ends_with, parse_moment
from reconciler.ports import EventLog
from reconciler.server.problems import Problem

PAGE_EVENTS = 500


async def event_at(log: EventLog, text: str, last_event_id: int) -> int:
    """The event_id after which that moment lies; 0 is the empty log. `last_event_id`: the head that the caller saw."""
    match parse_moment(text):
        case Now():
            return last_event_id
        case AtEvent(event_id):
            if event_id > last_event_id:
                raise Problem("invalid_argument", f"event {event_id} is not there yet: the log ends at {last_event_id}")
            return event_id
        case AtTime(time):
            return await last_at_or_before(log, time, last_event_id)
        case AtCommit(source_id, commit):
            return await _after_commit(log, source_id, commit, last_event_id)
        case None:
            raise Problem("invalid_argument", f"{text[:80]!r} names no moment", fix=f"give {FORMS}")


async def last_at_or_before(log: EventLog, time: str, last_event_id: int) -> int:
    """`time`: as `Event.occurred_at` is written."""
    low, high = 0, last_event_id  # low is at or before `time`, everything above high is behind it
    while low < high:
        middle = (low + high + 1) // 2
        [event] = await log.read(middle - 1, limit=1)
        low, high = (middle, high) if event.occurred_at <= time else (low, middle - 1)
    return low


async def _after_commit(log: EventLog, source_id: str, commit: str, last_event_id: int) -> int:
    only = EventFilter(event_types=("revision.applied",), commit=commit, source_id=source_id, newest=True)
    found = await log.read(0, limit=PAGE_EVENTS, only=only, upto=last_event_id)
    commits = sorted({event.aggregate_id for event in found})
    if len(commits) > 1:
        fix = f"give more of it: {', '.join(commits[:5])}"
        raise Problem("ambiguous", f"commit {commit} may mean {len(commits)} commits", status=409, fix=fix)
    if not found:
        message = f"no commit {commit} was ever applied" + (f" by source {source_id}" if source_id else "")
        raise Problem(
            "not_found", message, fix="`trueup events --type revision.*` lists them; a refused one did nothing"
        )
    return await _end_of(log, found[-1], last_event_id)


async def _end_of(log: EventLog, applied: Event, last_event_id: int) -> int:
    last, ended = applied.event_id, False
    while not ended:
        followers = await log.read(last, limit=PAGE_EVENTS, upto=last_event_id)
        last, ended = ends_with(applied, followers) if followers else (last, True)
    return last
