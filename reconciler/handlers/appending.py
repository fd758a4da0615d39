"""Append what was decided, and decide anew when something else got in between. The base of all handlers."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass, replace

from kit import logs, request_ids
from kit.clock import Clock
from kit.errors import Bug, Refusal, Transient
from reconciler.core.commands import Append, Appended, AppendResult, Conflict, Fence
from reconciler.core.quotas import Exceeded
from reconciler.ids import Ids
from reconciler.ports import EventLog, Views, ViewSnapshot

ATTEMPTS_MAX = 8
"""Conflicts in a row before a writer gives way and says `Transient`."""

VIEW_WAIT_S = 10.0
CONFLICT_WAIT_S = 0.005
"""Grows with each conflict in a row, so that two writers do not meet again and again."""

_log = logs.get("handlers")


@dataclass(frozen=True, slots=True)
class Recorded:
    """`last_event_id`: 0 when nothing had to be appended. `stale`: another scheduler was faster, or the picture was
    old: nothing was appended; read and decide anew."""

    last_event_id: int = 0
    stale: bool = False


class Appending:
    def __init__(self, log: EventLog, views: Views, ids: Ids, clock: Clock) -> None:
        self._event_log = log
        self._views = views
        self._ids = ids
        self._clock = clock

    async def _fresh(self, views: Sequence[str]) -> ViewSnapshot:
        """The views, at least as far as the log is now."""
        head = await self._event_log.head()
        await self._views.wait_for(head.last_event_id, views, VIEW_WAIT_S)
        return await self._views.snapshot(views)

    async def _catch_up(self, views: Sequence[str], attempt: int) -> None:
        await self._clock.sleep(CONFLICT_WAIT_S * attempt)
        head = await self._event_log.head()
        await self._views.wait_for(head.last_event_id, views, VIEW_WAIT_S)

    async def _one(
        self, attempted: str, views: Sequence[str], decide: Callable[[], Awaitable[Append | Refusal | None]]
    ) -> Recorded:
        for attempt in range(ATTEMPTS_MAX):
            decision = await decide()
            if isinstance(decision, Refusal):
                raise decision
            if decision is None:
                return Recorded()
            (result,) = await self._event_log.append([in_request(decision)])
            if isinstance(result, Appended):
                return Recorded(result.last_event_id)
            if result.kind == "fence":
                raise lease_lost(attempted, result)
            if result.kind == "quota":
                said = Exceeded.of(result)
                raise Refusal(
                    attempted, said.sentence, fix="ask for less, or have the quota raised", code="quota_exceeded"
                )
            if result.kind == "claim":
                raise Refusal(attempted, f"{result.subject} belongs to {result.found}", code="claim_taken")
            await self._catch_up(views, attempt)
        raise busy(attempted)

    async def _many(
        self, attempted: str, views: Sequence[str], decide: Callable[[], Awaitable[list[Append | Refusal]]]
    ) -> list[Refusal]:
        """Each command by itself: one that is refused stops only itself. What was refused; one line of the log tells of
        all, since whoever sends such things may send many."""
        skipped: set[str] = set()
        for attempt in range(ATTEMPTS_MAX):
            decisions = await decide()
            batch = [each for each in decisions if isinstance(each, Append) and each.command_id not in skipped]
            results = await self._append_apart(batch, skipped)
            conflicts = [result for result in results if isinstance(result, Conflict)]
            skipped |= {conflict.command_id for conflict in conflicts if conflict.kind != "version"}
            if not conflicts and len(results) == len(batch):
                refused = [each for each in decisions if isinstance(each, Refusal)]
                if refused:
                    _log.warning(
                        "report refused", why=str(refused[0]), code=refused[0].code, refused=len(refused), of=attempted
                    )
                return refused
            await self._catch_up(views, attempt)
        raise busy(attempted)

    async def _append_apart(self, batch: Sequence[Append], skipped: set[str]) -> list[AppendResult]:
        """As one batch; when the log cannot take one of them, one by one, and that one is skipped."""
        if not batch:
            return []
        try:
            return await self._event_log.append([in_request(append) for append in batch], atomic=False)
        except (Refusal, Bug) as error:
            if len(batch) == 1:
                _log.error("report not recorded", command_id=batch[0].command_id, why=str(error))
                skipped.add(batch[0].command_id)
                return []
        return [result for append in batch for result in await self._append_apart([append], skipped)]


def in_request(append: Append) -> Append:
    """What follows from nothing older follows from the request that is worked on, if there is one."""
    if append.cause.correlation_id or not (request_id := request_ids.current()):
        return append
    return replace(append, cause=replace(append.cause, correlation_id=request_id))


def first_conflict(results: Iterable[AppendResult]) -> Conflict | None:
    """Of an atomic batch: the one that the others had to give way to."""
    return next((each for each in results if isinstance(each, Conflict) and each.kind != "batch"), None)


def under(batch: Sequence[Append], fence: Fence | None) -> list[Append]:
    return [replace(append, fence=fence) for append in batch]


def why_of(conflict: Conflict) -> str:
    return f"{conflict.kind} {conflict.subject}: expected {conflict.expected!r}, found {conflict.found!r}"


def lease_lost(attempted: str, conflict: Conflict) -> Transient:
    """Another controller runs this loop now; what this one decided is void."""
    return Transient(attempted, f"the lease {conflict.subject} is not ours any more", code="lease_lost")


def busy(attempted: str) -> Transient:
    return Transient(attempted, f"others wrote in between, {ATTEMPTS_MAX} times in a row", code="version_conflict")
