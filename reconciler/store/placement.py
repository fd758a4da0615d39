"""Gives the commands of a batch their places in the log, or says why not. Pure.

Called by `reconciler.store.event_log` while it holds the lock of the head row, with everything that the batch depends
on (`Known`). The commands are taken in order, each one seeing the effects of those before it; a command that conflicts
leaves no trace. What comes out is written as it is. Quotas (`reconciler.core.quotas`) are counted for each command, or
for a whole atomic batch: what one of its commands gives back another may use, whichever comes first.

An aggregate whose last life ended with TYPE.deleted does not exist, so `expected` 0 fits it; its aggregate_seq goes on
counting, because (type, id, seq) is unique for ever.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from reconciler.core import quotas
from reconciler.core.commands import Append, Appended, AppendResult, Claim, Conflict
from reconciler.core.events import Cause, NewEvent

AggregateKey = tuple[str, str]
ClaimKey = tuple[str, str]


@dataclass(frozen=True, slots=True)
class Recorded:
    """A command that the log has seen."""

    body_hash: str
    first_event_id: int
    last_event_id: int


@dataclass(frozen=True, slots=True)
class Version:
    """`ended`: its last life ended. Known only where some command expects 0."""

    aggregate_seq: int = 0
    ended: bool = False


@dataclass(slots=True)
class Known:
    """The state of the log, as far as the batch depends on it. `place` moves it forward."""

    log_id: str
    last_event_id: int
    commands: dict[str, Recorded] = field(default_factory=dict)
    versions: dict[AggregateKey, Version] = field(default_factory=dict)
    claims: dict[ClaimKey, str] = field(default_factory=dict)
    epochs: dict[str, int] = field(default_factory=dict)  # lease -> its present epoch

    def copy(self) -> Known:
        return Known(
            self.log_id,
            self.last_event_id,
            dict(self.commands),
            dict(self.versions),
            dict(self.claims),
            self.epochs,
        )


@dataclass(frozen=True, slots=True)
class PlacedEvent:
    event_id: int
    aggregate_seq: int
    command_id: str
    cause: Cause
    event: NewEvent


@dataclass(slots=True)
class Placement:
    """What to write. `claims`: key -> its owner after the batch and the event_id; owner None: freed."""

    results: list[AppendResult] = field(default_factory=list)
    events: list[PlacedEvent] = field(default_factory=list)
    commands: dict[str, Recorded] = field(default_factory=dict)
    claims: dict[ClaimKey, tuple[str | None, int]] = field(default_factory=dict)
    counted_before: dict[ClaimKey, str | None] = field(default_factory=dict)

    @property
    def conflicts(self) -> list[Conflict]:
        return [result for result in self.results if isinstance(result, Conflict)]


def place(batch: Sequence[Append], known: Known, *, whole: bool = False) -> Placement:
    """`whole`: of a batch in which anything conflicts the caller keeps nothing."""
    placement = Placement()
    grown: list[quotas.Moved] = []
    for append in batch:
        counted = quotas.moved(append.free, append.take, known.claims)
        result = _place_one(append, known, placement, counted, whole)
        placement.results.append(result)
        placed = isinstance(result, Appended) and not result.duplicate
        grown.append(counted if placed else quotas.Moved({}, {}))
    if whole and not placement.conflicts:
        _judge_whole(batch, grown, known, placement)
    return placement


def _judge_whole(batch: Sequence[Append], grown: Sequence[quotas.Moved], known: Known, placement: Placement) -> None:
    found = quotas.to_blame(grown, placement.counted_before, known.claims)
    if found is not None:
        index, over = found
        placement.results[index] = _over(batch[index], over)


def place_units(
    units: Iterable[tuple[Sequence[Append], bool]], known: Known
) -> tuple[Placement, list[list[AppendResult]]]:
    """Several batches in one transaction, each atomic or not; what is to be written, and the results of each."""
    whole, answers = Placement(), []
    for batch, atomic in units:
        before = known.copy() if atomic and len(batch) > 1 else known
        part = place(batch, known, whole=atomic and len(batch) > 1)
        if atomic and part.conflicts:
            known = before
            answers.append(nothing_appended(part.results))
            continue
        answers.append(part.results)
        whole.events += part.events
        whole.commands.update(part.commands)
        for key, claim in part.claims.items():
            whole.claims[key] = claim
    return whole, answers


def nothing_appended(results: Sequence[AppendResult]) -> list[AppendResult]:
    """The results of an atomic batch in which something conflicts: no command may be read as appended."""
    first = next(result for result in results if isinstance(result, Conflict))
    undone = {result.command_id for result in results if isinstance(result, Appended) and not result.duplicate}
    return [
        result
        if isinstance(result, Conflict) or (result.duplicate and result.command_id not in undone)
        else Conflict(result.command_id, "batch", first.command_id, "", "")
        for result in results
    ]


def _place_one(append: Append, known: Known, placement: Placement, counted: quotas.Moved, whole: bool) -> AppendResult:
    seen = known.commands.get(append.command_id)
    if seen is not None:
        return _seen_before(append, seen)
    conflict = (
        _fence_conflict(append, known.epochs)
        or _version_conflict(append, known.versions)
        or _claim_conflict(append, known.claims)
        or (None if whole else _quota_conflict(append, known.claims, counted))
    )
    if conflict is not None:
        return conflict
    first = known.last_event_id + 1
    _place_events(append, known, placement)
    _move_claims(append, known, placement)
    _move_counted(counted, known, placement)
    recorded = Recorded(append.body_hash, first, known.last_event_id)
    known.commands[append.command_id] = placement.commands[append.command_id] = recorded
    return Appended(append.command_id, first, known.last_event_id)


def _seen_before(append: Append, seen: Recorded) -> AppendResult:
    if seen.body_hash != append.body_hash:
        return Conflict(append.command_id, "command_id", append.command_id, append.body_hash, seen.body_hash)
    return Appended(append.command_id, seen.first_event_id, seen.last_event_id, duplicate=True)


def _fence_conflict(append: Append, epochs: Mapping[str, int]) -> Conflict | None:
    if append.fence is None or epochs.get(append.fence.lease) == append.fence.epoch:
        return None
    found = str(epochs.get(append.fence.lease, 0))
    return Conflict(append.command_id, "fence", append.fence.lease, str(append.fence.epoch), found)


def _version_conflict(append: Append, versions: Mapping[AggregateKey, Version]) -> Conflict | None:
    for key, expected in append.expected.items():
        version = versions.get(key, Version())
        fits = version.aggregate_seq == expected or (expected == 0 and version.ended)
        if not fits:
            subject = f"{key[0]}/{key[1]}"
            return Conflict(append.command_id, "version", subject, str(expected), str(version.aggregate_seq))
    return None


def _claim_conflict(append: Append, claims: Mapping[ClaimKey, str]) -> Conflict | None:
    freed = {(claim.kind, claim.key) for claim in append.free if claims.get((claim.kind, claim.key)) == claim.owner}
    taken: dict[ClaimKey, str] = {}
    for claim in append.take:
        if claim.kind in quotas.KINDS:
            continue
        key = (claim.kind, claim.key)
        owner = taken.get(key) or ("" if key in freed else claims.get(key, ""))
        if owner and owner != claim.owner:
            return Conflict(append.command_id, "claim", f"{claim.kind}:{claim.key}", claim.owner, owner)
        taken[key] = claim.owner
    return None


def _quota_conflict(append: Append, claims: Mapping[ClaimKey, str], counted: quotas.Moved) -> Conflict | None:
    over = quotas.exceeded(counted.grown, claims, counted.rows)
    return None if over is None else _over(append, over)


def _over(append: Append, over: quotas.Exceeded) -> Conflict:
    return over.conflict(append.command_id)


def _place_events(append: Append, known: Known, placement: Placement) -> None:
    for event in append.events:
        known.last_event_id += 1
        key = (event.aggregate_type, event.aggregate_id)
        before = known.versions.get(key, Version())
        version = Version(before.aggregate_seq + 1, _ended(event, before))
        known.versions[key] = version
        placement.events.append(
            PlacedEvent(known.last_event_id, version.aggregate_seq, append.command_id, append.cause, event)
        )


def _ended(event: NewEvent, before: Version) -> bool:
    if event.event_type == f"{event.aggregate_type}.deleted":
        return True
    return before.ended and event.event_type != f"{event.aggregate_type}.created"


def _move_claims(append: Append, known: Known, placement: Placement) -> None:
    for claim in append.free:
        if claim.kind not in quotas.KINDS and known.claims.get((claim.kind, claim.key)) == claim.owner:
            del known.claims[(claim.kind, claim.key)]
            placement.claims[(claim.kind, claim.key)] = (None, known.last_event_id)
    for claim in append.take:
        if claim.kind not in quotas.KINDS:
            known.claims[(claim.kind, claim.key)] = claim.owner
            placement.claims[(claim.kind, claim.key)] = (claim.owner, known.last_event_id)


def _move_counted(counted: quotas.Moved, known: Known, placement: Placement) -> None:
    for key, text in counted.rows.items():
        placement.counted_before.setdefault(key, known.claims.get(key))
        placement.claims[key] = (text, known.last_event_id)
        if text is None:
            known.claims.pop(key, None)
        else:
            known.claims[key] = text


def claims_of(batch: Iterable[Append]) -> list[Claim]:
    """Every row of the claims that the batch depends on, those of the quotas included."""
    found: list[Claim] = []
    for claim in (each for append in batch for each in (*append.free, *append.take)):
        if claim.kind in quotas.KINDS:
            found += [Claim(kind, key, "") for kind, key in quotas.rows_for(claim)]
        else:
            found.append(claim)
    return found
