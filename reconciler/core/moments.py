"""A moment of the log, as a person names it. Pure.

Parsed for `trueup state --at`, `trueup diff` and the times of `trueup events`; `reconciler.server.moments` finds the
event. The log's order is event_id, so every moment is an event in the end: "after event 1234".
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from reconciler.core.events import Event

_EVENT = re.compile(r"#?([0-9]{1,18})")
_COMMIT = re.compile(r"(?:([a-z0-9][a-z0-9._-]*)@|commit:)?([0-9a-f]{4,64})")
_AGO = re.compile(r"([0-9]{1,6})(s|m|h|d)")
_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86400}
FORMS = "an event (1234 or #1234), a time (2026-01-31T10:00:00Z; without a zone it is UTC), a commit, or now"


@dataclass(frozen=True, slots=True)
class AtEvent:
    event_id: int


@dataclass(frozen=True, slots=True)
class AtTime:
    """`text`: RFC 3339 in UTC with milliseconds, as in Event.occurred_at, so that the two compare as texts."""

    text: str


@dataclass(frozen=True, slots=True)
class AtCommit:
    """Right after that revision was applied. `source_id` "" is any source."""

    source_id: str
    commit: str


@dataclass(frozen=True, slots=True)
class Now:
    pass


Moment = AtEvent | AtTime | AtCommit | Now


def parse_moment(text: str) -> Moment | None:
    """None: it is none of FORMS. Digits alone are an event; a commit of digits alone is written commit:1234567."""
    text = text.strip()
    if text.lower() in ("now", "head"):
        return Now()
    if match := _EVENT.fullmatch(text):
        return AtEvent(int(match[1]))
    if match := _COMMIT.fullmatch(text.lower()):
        return AtCommit(match[1] or "", match[2])
    time = parse_time(text)
    return None if time is None else AtTime(time)


def parse_time(text: str, now: datetime | None = None) -> str | None:
    """RFC 3339 as it is written in the log; with `now` also 30s, 15m, 2h and 3d before it."""
    ago = _AGO.fullmatch(text.strip())
    if ago and now is not None:
        return in_log_form(now - timedelta(seconds=int(ago[1]) * _SECONDS[ago[2]]))
    if "-" not in text:
        return None
    try:
        found = datetime.fromisoformat(text.strip())
        return in_log_form(found if found.tzinfo else found.replace(tzinfo=UTC))
    except (ValueError, OverflowError):
        return None


def in_log_form(time: datetime) -> str:
    return time.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def ends_with(applied: Event, followers: Sequence[Event]) -> tuple[int, bool]:
    """The last event of the revision that `applied` begins, as far as `followers` tells, and whether that is its end.
    `followers`: a page of what comes next in the log, never empty. A revision is one transaction, so its commands are
    one after the other in the log; their ids begin with the one of `applied`: see `core.decide.git.revision`."""
    last = followers[0].event_id - 1
    for event in followers:
        if event.command_id != applied.command_id and not event.command_id.startswith(f"{applied.command_id}/"):
            return last, True
        last = event.event_id
    return last, False
