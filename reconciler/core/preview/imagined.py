"""A fleet for plans without a controller: so many nodes of one size, and the base commit rolled out on them.

Called by `reconciler.cli.plan`. The base goes the way of every commit: decided, folded, scheduled, a few apps at a time
so that the work follows its size. Without a size of the nodes there is room for everything, and only the apps that the
commit touches are rolled out before: places and memory are then not told.
"""

from __future__ import annotations

import itertools
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass, replace

from kit.errors import Refusal
from kit.wire import Enrolment
from reconciler.core.commands import Append, DeclareResource, GitCommand
from reconciler.core.decide.nodes import decide_enrolment
from reconciler.core.decide.sources import decide_source
from reconciler.core.events import Cause
from reconciler.core.model import KINDS, ResourceId
from reconciler.core.past import Past
from reconciler.core.planner import revision_of
from reconciler.core.preview.document import Fleet, PlanDocument
from reconciler.core.preview.preview import Asked, preview, touched_apps
from reconciler.core.preview.simulation import decided, run
from reconciler.core.preview.world import app_of, fold_appends, moving_world
from reconciler.core.revisions import Refused

NODES_MAX = 1000
BASE_PREFIX = "i-base-"
"""Of instances that the base runs; they are older than those of the plan."""
APPS_AT_ONCE = 25
"""Of the base; each chunk costs a few passes over itself."""
ROOMY = (3, 1 << 50)
"""Nodes and bytes where no size was given."""

_OFFLINE = (
    "Offline: what the live fleet runs, retains or holds back now is not known, nor hostnames of other sources.",
    "Offline: a secret that was only encrypted anew counts as changed.",
)
_ROOM = "Room is taken for granted: --nodes and --memory describe a fleet, --against live asks the controller."
_BASE_REFUSED = "The base commit would be refused by itself; the plan starts from an empty fleet."


@dataclass(frozen=True, slots=True)
class ImaginedFleet:
    nodes: int
    memory_bytes: int


def imagined(base: Asked | None, head: Asked, fleet: ImaginedFleet | None) -> PlanDocument:
    """`base`: the base commit, judged from nothing; None when the plan starts from nothing. `Refusal` ("usage") for a
    fleet that cannot be."""
    size = fleet or ImaginedFleet(*ROOMY)
    past = _empty(head, size)
    wanted: Collection[GitCommand] = base.plan.commands if base and base.plan else ()
    if fleet is None and head.plan is not None:
        mine = touched_apps(head.plan.commands)
        wanted = [each for each in wanted if app_of(_id(each)) in mine or _id(each).kind == "environment"]
    settled = base is None or base.plan is None or _roll_out(past, base, wanted)
    notes = [*_OFFLINE, *([] if fleet else [_ROOM]), *([] if settled else [_BASE_REFUSED])]
    kind: Fleet = "simulated" if fleet else "unknown"
    return preview(past.rows, past.event_id, head, kind, notes)


def _empty(asked: Asked, size: ImaginedFleet) -> Past:
    if not 1 <= size.nodes <= NODES_MAX or size.memory_bytes <= 0:
        why = f"a fleet has 1 to {NODES_MAX} nodes with memory"
        raise Refusal("make a plan on an imagined fleet", why, fix="for example --nodes 3 --memory 8Gi", code="usage")
    past, system = Past(), Cause("system", "plan", asked.source.org)
    appends = [decide_source(None, asked.source, system)]
    for number in range(1, size.nodes + 1):
        enrolment = Enrolment(
            f"node-{number:03d}", f"fd00:0:0:{number:x}::/64", size.memory_bytes, 0.0, 0, "", "kvm", ""
        )
        appends.append(_granted(decide_enrolment(None, enrolment, system)))
    fold_appends(past, (each for each in appends if each is not None))
    return past


def _granted(decision: Append | Refusal | None) -> Append | None:
    assert not isinstance(decision, Refusal), decision
    return decision


def _roll_out(past: Past, base: Asked, commands: Collection[GitCommand]) -> bool:
    """Leaves the rows as if the base had been applied and had converged. False: it is refused."""
    assert base.plan is not None
    ids = itertools.count(1)
    for chunk in _chunks(commands):
        part = replace(base.plan, commands=tuple(chunk), changes=())
        world = moving_world(past.rows, past.event_id, touched_apps(chunk))
        decision = decided(past.rows, world.past.rows["releases"], revision_of(part, base.source, base.info), chunk)
        if isinstance(decision, Refused):
            return False
        run(world, decision, lambda: f"{BASE_PREFIX}{next(ids):06d}")
        _take_over(past, world.past)
    return True


def _take_over(past: Past, moved: Past) -> None:
    """What the simulation made of its part of the rows. The base begins with an empty fleet: nothing of it goes."""
    for view, rows in moved.rows.items():
        past.rows[view].update(rows)
    past.event_id = moved.event_id


def _chunks(commands: Iterable[GitCommand]) -> Iterator[list[GitCommand]]:
    """Environments first; then apps with all that is theirs, in the order in which the planner creates things."""
    by_app: dict[str, list[GitCommand]] = {}
    for each in commands:
        by_app.setdefault(app_of(_id(each)), []).append(each)
    environments = by_app.pop("", [])
    if environments:
        yield environments
    apps = iter(sorted(by_app))
    while names := list(itertools.islice(apps, APPS_AT_ONCE)):
        yield sorted((each for name in names for each in by_app[name]), key=_rank)


def _rank(command: GitCommand) -> tuple[int, ResourceId]:
    return KINDS.index(_id(command).kind), _id(command)


def _id(command: GitCommand) -> ResourceId:
    return command.resource.id if isinstance(command, DeclareResource) else command.resource_id
