"""One command or many as the arguments of the SQL functions that append without looking first (sql/0037, sql/0038).

Called by `reconciler.store.event_log`. Such a call answers null when anything speaks against any of its commands; what
that is, and what becomes of the others, is then decided by `reconciler.store.placement`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import chain, repeat
from operator import attrgetter

from reconciler.core.commands import Append, Appended, AppendResult
from reconciler.store.placement import AggregateKey

APPEND_ONE = f"SELECT append_one({', '.join(f'${n}' for n in range(1, 20))})"
APPEND_COMMANDS = f"SELECT append_commands({', '.join(f'${n}' for n in range(1, 26))})"

CAUSE_OF = attrgetter(
    "actor_type", "actor_id", "org_id", "source_id", "commit", "path", "line", "correlation_id", "causation_id"
)


@dataclass(slots=True, eq=False)
class Unit:
    """What one caller asked for: `batch` goes into one transaction, `answer` gets the results. `payloads`: the JSON
    text of each event, in order. `sent_after`: the last event that was known when the unit was first sent."""

    batch: Sequence[Append]
    payloads: Sequence[str]
    atomic: bool
    answer: asyncio.Future[list[AppendResult]]
    deadline_s: float
    sent_after: int | None = None


def call_for(units: Sequence[Unit]) -> tuple[str, list[object]] | None:
    """The statement and its arguments; None for what needs the closer look anyway."""
    appends = [append for unit in units for append in unit.batch]
    if any(append.take or append.free for append in appends):
        return None
    if len(appends) == 1 and len(appends[0].events) == 1:
        return _one(appends[0], units[0].payloads[0])
    if len({append.command_id for append in appends}) < len(appends):
        return None
    return _many(appends, [text for unit in units for text in unit.payloads])


def results_of(units: Sequence[Unit], first_id: int) -> list[list[AppendResult]]:
    """All of them were appended, one after the other."""
    results: list[list[AppendResult]] = []
    for unit in units:
        own: list[AppendResult] = []
        for append in unit.batch:
            next_id = first_id + len(append.events)
            own.append(Appended(append.command_id, first_id, next_id - 1))
            first_id = next_id
        results.append(own)
    return results


def _one(append: Append, payload: str) -> tuple[str, list[object]] | None:
    (event,) = append.events
    key = (event.aggregate_type, event.aggregate_id)
    if any(other != key for other in append.expected):
        return None
    fence = append.fence
    arguments = [append.command_id, append.body_hash, fence.lease if fence else "", fence.epoch if fence else 0]
    arguments += [append.expected.get(key), *key, event.event_type, event.event_version]
    return APPEND_ONE, [*arguments, *CAUSE_OF(append.cause), payload]


@dataclass(slots=True)
class _Aggregates:
    """Numbers the aggregates of a batch from 1, counts their events, and carries what the commands expect back to
    before the batch."""

    numbers: dict[AggregateKey, int] = field(default_factory=dict)
    steps: list[int] = field(default_factory=list)
    versions: list[int | None] = field(default_factory=list)

    def number(self, key: AggregateKey) -> int:
        found = self.numbers.get(key)
        if found is None:
            self.steps.append(0)
            self.versions.append(None)
            found = self.numbers[key] = len(self.steps)
        return found

    def expect(self, append: Append) -> bool:
        """False when two commands expect what cannot both be."""
        for key, expected in append.expected.items():
            index = self.number(key) - 1
            before = expected - self.steps[index]
            if self.versions[index] not in (None, before):
                return False
            self.versions[index] = before
        return True

    def place(self, append: Append) -> Iterator[tuple[int, int]]:
        for event in append.events:
            number = self.number((event.aggregate_type, event.aggregate_id))
            self.steps[number - 1] += 1
            yield number, self.steps[number - 1]


def _many(appends: Sequence[Append], payloads: Sequence[str]) -> tuple[str, list[object]] | None:
    aggregates = _Aggregates()
    places: list[tuple[int, int]] = []
    for append in appends:
        if not aggregates.expect(append):
            return None
        places += aggregates.place(append)
    fences = {append.fence for append in appends if append.fence}
    events = [event for append in appends for event in append.events]
    counts = [len(append.events) for append in appends]
    causes = chain.from_iterable(
        repeat(CAUSE_OF(append.cause), count) for append, count in zip(appends, counts, strict=True)
    )
    return APPEND_COMMANDS, [
        [append.command_id for append in appends],
        [append.body_hash for append in appends],
        counts,
        [fence.lease for fence in fences],
        [fence.epoch for fence in fences],
        [key[0] for key in aggregates.numbers],
        [key[1] for key in aggregates.numbers],
        aggregates.versions,
        [number for number, _ in places],
        [step for _, step in places],
        [event.aggregate_type for event in events],
        [event.aggregate_id for event in events],
        [event.event_type for event in events],
        [event.event_version for event in events],
        [append.command_id for append in appends for _ in append.events],
        *(list(zip(*causes, strict=True)) or [()] * 9),
        payloads,
    ]
