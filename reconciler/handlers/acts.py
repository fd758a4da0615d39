"""Operators' acts into the log. Called by `reconciler.server.acts` and, to end those whose time has come, by
`reconciler.tasks.expiry`.

An act takes the scheduler's fence (docs/decisions/0004): a pass of the scheduler that was decided before the act, and
is not recorded yet, is then decided anew. So once an act is answered nothing happens any more that did not know of it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from kit import logs
from kit.errors import Bug, Refusal
from reconciler.core.act_scopes import Rows, find_app, find_scope
from reconciler.core.acts import Act, Hold, Order, ReleaseHold, Resume, SetDuty, StopInstance, Suspend
from reconciler.core.commands import Append, Appended, Claim, Conflict, Fence
from reconciler.core.decide import holds, instances, nodes, suspensions
from reconciler.core.event_filter import EventFilter
from reconciler.core.events import Event, NewEvent
from reconciler.core.scheduler.record import ACTOR
from reconciler.handlers.appending import ATTEMPTS_MAX, Appending, busy, in_request, lease_lost
from reconciler.ports import EventLog

_VIEWS: Mapping[type, Sequence[str]] = {
    SetDuty: ("nodes",),
    Suspend: ("acts", "instances", "resources", "sources"),
    Resume: ("acts", "resources", "sources"),
    Hold: ("instances", "releases", "resources"),
    ReleaseHold: ("resources",),
    StopInstance: ("instances",),
}
EVENTS_MAX = 100
"""Of one act: there are two at most."""

_log = logs.get("handlers")


@dataclass(frozen=True, slots=True)
class Done:
    """`events`: what the act became. `replayed`: it was done before, under the same command id."""

    events: tuple[Event, ...]
    replayed: bool


class ActHandlers(Appending):
    async def act(self, act: Act, order: Order, fence: Fence | None = None) -> Done:
        """Raises `Refusal`, also when the command id was used for something else. `fence`: of the loop that asks."""
        before = await _recorded(self._event_log, order.command_id)
        if before:
            await self._compare(order, before)
            return Done(tuple(before), replayed=True)
        result = await self._record(act, order, fence)
        events = await _recorded(self._event_log, order.command_id)
        _log.info("act", command_id=order.command_id, what=str(act), by=order.actor_id, reason=order.reason)
        return Done(tuple(events), result.duplicate)

    async def _record(self, act: Act, order: Order, fence: Fence | None) -> Appended:
        attempted, held, token = f"record {act}", "", self._ids("fence")
        for _ in range(ATTEMPTS_MAX):
            decision = decide(act, order, (await self._fresh(_VIEWS[type(act)])).rows)
            if isinstance(decision, Refusal):
                raise decision
            (result,) = await self._event_log.append(
                [in_request(replace(_before_the_scheduler(decision, held, token), fence=fence))]
            )
            if isinstance(result, Appended):
                return result
            if result.kind == "command_id":
                raise _reused(order)
            if result.kind == "fence":
                raise lease_lost(attempted, result)
            if result.kind == "claim":
                held = result.found
        raise busy(attempted)

    async def _compare(self, order: Order, before: Sequence[Event]) -> None:
        """The log knows the body that came with this id; it appends nothing for an id that it knows."""
        again = tuple(
            NewEvent(each.aggregate_type, each.aggregate_id, each.event_type, each.payload, each.event_version)
            for each in before
        )
        (result,) = await self._event_log.append(
            [Append(order.command_id, order.body_hash, before[0].cause, again, {})]
        )
        if isinstance(result, Conflict):
            raise _reused(order)
        if not result.duplicate:
            raise Bug(f"repeat act {order.command_id}", "the log recorded it twice", code="command_repeated")


def decide(act: Act, order: Order, rows: Rows) -> Append | Refusal:
    """`rows`: of the views that the act needs. Raises `Refusal` too."""
    match act:
        case SetDuty():
            return nodes.decide_duty(rows["nodes"].get(act.node_id), act, order)
        case StopInstance():
            return instances.decide_stop(rows["instances"].get(act.instance_id), act.instance_id, order)
        case Suspend():
            scope = find_scope(act.scope, rows)
            found = rows["instances"].values()
            return suspensions.decide_suspend(scope, rows["acts"].get(scope), rows["resources"], found, order)
        case Resume():
            scope = find_scope(act.scope, rows)
            return suspensions.decide_resume(scope, rows["acts"].get(scope), order)
        case Hold():
            row = rows["resources"][find_app(act.app, rows)]
            return holds.decide_hold(row, act.release_id, rows["releases"], rows["instances"].values(), order)
        case ReleaseHold():
            return holds.decide_release_hold(rows["resources"][find_app(act.app, rows)], order)


def _before_the_scheduler(append: Append, held: str, token: str) -> Append:
    """`held`: whose token the fence is, as far as it is known."""
    free = (*append.free, Claim("fence", ACTOR, held)) if held else append.free
    return replace(append, free=free, take=(Claim("fence", ACTOR, token), *append.take))


async def _recorded(log: EventLog, command_id: str) -> list[Event]:
    return await log.read(0, limit=EVENTS_MAX, only=EventFilter(command_id=command_id))


def _reused(order: Order) -> Refusal:
    return Refusal(
        f"record act {order.command_id}",
        "this key was used for another act",
        fix="choose a new key for a new act",
        code="idempotency_key_reuse",
    )
