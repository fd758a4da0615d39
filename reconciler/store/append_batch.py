"""One command or many as the arguments of the SQL functions that append without looking first (sql/0045, sql/0046).

Called by `reconciler.store.event_log`. Such a call answers null when anything speaks against any of its commands; what
that is, and what becomes of the others, is then decided by `reconciler.store.placement`.

What a unit brings into a batch (`Part`) is made while it waits for its turn, so that between two batches the parts only
have to be laid one after the other.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field
from operator import attrgetter

from reconciler.core.commands import Append, Appended, AppendResult
from reconciler.core.events import Cause
from reconciler.store.placement import AggregateKey
from reconciler.store.reached import Reached

APPEND_ONE = f"SELECT append_one({', '.join(f'${n}' for n in range(1, 21))})"
APPEND_BATCH = f"SELECT append_batch({', '.join(f'${n}' for n in range(1, 27))})"

EventKind = tuple[str, int]
"""Event type and version."""

CAUSE_OF = attrgetter(
    "actor_type", "actor_id", "org_id", "source_id", "commit", "path", "line", "correlation_id", "causation_id"
)


@dataclass(slots=True, eq=False)
class Part:
    """A unit's share of a batch, numbered from 0 within itself. `keys`: aggregate -> its number; `sizes`: how many
    events each of them gets; `versions`: what each has to be at before the unit, None for whatever."""

    keys: dict[AggregateKey, int] = field(default_factory=dict)
    sizes: list[int] = field(default_factory=list)
    versions: list[int | None] = field(default_factory=list)
    commands: list[int] = field(default_factory=list)  # from here on, one for each event
    numbers: list[int] = field(default_factory=list)
    steps: list[int] = field(default_factory=list)
    kinds: list[EventKind] = field(default_factory=list)

    def number(self, key: AggregateKey) -> int:
        found = self.keys.get(key)
        if found is None:
            found = self.keys[key] = len(self.sizes)
            self.sizes.append(0)
            self.versions.append(None)
        return found


@dataclass(slots=True, eq=False)
class Unit:
    """What one caller asked for: `batch` goes into one transaction, `answer` gets the results. `payloads`: the JSON
    text of each event, in order. `sent_after`: the last event that was known when the unit was first sent. `part`: None
    before it is made, and for what needs the closer look anyway."""

    batch: Sequence[Append]
    payloads: Sequence[str]
    atomic: bool
    answer: asyncio.Future[list[AppendResult]]
    deadline_s: float
    sent_after: int | None = None
    part: Part | None = None

    _touches: set[object] | None = None

    def alone(self) -> list[object]:
        """What no other unit of its batch may have: its commands, and the aggregates whose version it expects."""
        return [key for append in self.batch for key in (append.command_id, *append.expected)]

    def touches(self) -> set[object]:
        """Its commands, aggregates and claims: units that share any keep their order."""
        if self._touches is None:
            self._touches = set(self.alone())
            for append in self.batch:
                self._touches.update((event.aggregate_type, event.aggregate_id) for event in append.events)
                self._touches.update(("claim", claim.kind, claim.key) for claim in (*append.take, *append.free))
        return self._touches


def part_of(batch: Sequence[Append]) -> Part | None:
    """None for what needs the closer look: claims, a command twice, versions that cannot all be."""
    part = Part()
    if len(batch) > 1 and len({append.command_id for append in batch}) < len(batch):
        return None
    for index, append in enumerate(batch):
        if append.take or append.free or not _expect(part, append):
            return None
        for event in append.events:
            number = part.number((event.aggregate_type, event.aggregate_id))
            part.sizes[number] += 1
            part.steps.append(part.sizes[number])
            part.numbers.append(number)
            part.commands.append(index)
            part.kinds.append((event.event_type, event.event_version))
    return part


def _expect(part: Part, append: Append) -> bool:
    """False when two commands expect what cannot both be."""
    for key, expected in append.expected.items():
        number = part.number(key)
        before = expected - part.sizes[number]
        if part.versions[number] not in (None, before):
            return False
        part.versions[number] = before
    return True


@dataclass(frozen=True, slots=True)
class Call:
    """Its answer is the id of the first event, then what each aggregate of `keys` was at. `sizes`: how many events each
    of them gets."""

    statement: str
    arguments: list[object]
    keys: Sequence[AggregateKey]
    sizes: Sequence[int]


def call_for(units: Sequence[Unit], reached: Reached) -> Call | None:
    """None for what needs the closer look."""
    if len(units) == 1 and len(units[0].batch) == 1 and len(units[0].payloads) == 1:
        return _one(units[0].batch[0], units[0].payloads[0], reached)
    for unit in units:
        unit.part = unit.part or part_of(unit.batch)
        if unit.part is None:
            return None
    return _many(units, reached)


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


def _one(append: Append, payload: str, reached: Reached) -> Call | None:
    (event,) = append.events
    key = (event.aggregate_type, event.aggregate_id)
    if append.take or append.free or any(other != key for other in append.expected):
        return None
    fence = append.fence
    arguments = [append.command_id, append.body_hash, fence.lease if fence else "", fence.epoch if fence else 0]
    arguments += [append.expected.get(key), *reached.floors([key]), *key, event.event_type, event.event_version]
    return Call(APPEND_ONE, [*arguments, *CAUSE_OF(append.cause), payload], [key], [1])


@dataclass(slots=True)
class _Laid:
    """The parts of a batch, one after the other. Numbers are the database's: they count from 1."""

    keys: dict[AggregateKey, int] = field(default_factory=dict)
    sizes: list[int] = field(default_factory=list)
    versions: list[int | None] = field(default_factory=list)
    commands: list[int] = field(default_factory=list)
    numbers: list[int] = field(default_factory=list)
    steps: list[int] = field(default_factory=list)
    known_kinds: dict[EventKind, int] = field(default_factory=dict)
    kinds: list[int] = field(default_factory=list)

    def add(self, part: Part, first_command: int) -> bool:
        """False when it expects what cannot be after those before it."""
        numbers: list[int] = []
        offsets: list[int] = []
        for (key, _), size, version in zip(part.keys.items(), part.sizes, part.versions, strict=True):
            number = self.keys.setdefault(key, len(self.sizes) + 1)
            if number > len(self.sizes):
                self.sizes.append(0)
                self.versions.append(None)
            if version is not None:
                before = version - self.sizes[number - 1]
                if self.versions[number - 1] not in (None, before):
                    return False
                self.versions[number - 1] = before
            numbers.append(number)
            offsets.append(self.sizes[number - 1])
            self.sizes[number - 1] += size
        self.commands += [first_command + index for index in part.commands]
        self.numbers += [numbers[number] for number in part.numbers]
        self.steps += [offsets[number] + step for number, step in zip(part.numbers, part.steps, strict=True)]
        known = self.known_kinds
        self.kinds += [known.setdefault(kind, len(known) + 1) for kind in part.kinds]
        return True


def _many(units: Sequence[Unit], reached: Reached) -> Call | None:
    laid, appends = _Laid(), [append for unit in units for append in unit.batch]
    first_command = 1
    for unit in units:
        if unit.part is None or not laid.add(unit.part, first_command):
            return None
        first_command += len(unit.batch)
    if len(units) > 1 and len({append.command_id for append in appends}) < len(appends):
        return None
    fences = {append.fence for append in appends if append.fence}
    causes: dict[Cause, int] = {}
    caused = [causes.setdefault(append.cause, len(causes) + 1) for append in appends]
    arguments: list[object] = [
        *zip(*map(CAUSE_OF, causes), strict=True),
        [append.command_id for append in appends],
        [append.body_hash for append in appends],
        [len(append.events) for append in appends],
        caused,
        [fence.lease for fence in fences] or None,
        [fence.epoch for fence in fences] or None,
        [key[0] for key in laid.keys],
        [key[1] for key in laid.keys],
        laid.versions if any(version is not None for version in laid.versions) else None,
        reached.floors(laid.keys),
        [kind[0] for kind in laid.known_kinds],
        [kind[1] for kind in laid.known_kinds],
        laid.commands,
        laid.numbers,
        laid.steps,
        laid.kinds,
        [text for unit in units for text in unit.payloads],
    ]
    return Call(APPEND_BATCH, arguments, list(laid.keys), laid.sizes)
