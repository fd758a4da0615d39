"""Which hostnames a commit affects: by a route that changes, or by instances that are replaced. Called by `preview`."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Literal

from reconciler.core.model import ResourceId
from reconciler.core.preview.document import PlannedChange, RollOut, RouteEffect
from reconciler.core.preview.wording import gap_text
from reconciler.core.preview.world import Rows, app_of_row
from reconciler.core.projection import Doc

Verb = Literal["create", "update", "delete", "backends"]
_VERBS: Mapping[str, Verb] = {"create": "create", "update": "update", "delete": "delete"}


def route_effects(
    before: Rows, after: Mapping[str, Doc], changed: Iterable[PlannedChange], rolled: Iterable[RollOut]
) -> Iterator[RouteEffect]:
    """`after`: resources of the moving part of the fleet, when the simulation has ended."""
    verbs = {each.resource_id: _VERBS[each.verb] for each in changed if each.verb in _VERBS}
    by_process = {(each.resource_id, each.process): each for each in rolled if each.by_commit}
    gone = {key: row for key, verb in verbs.items() if verb == "delete" and (row := before["resources"][key])}
    routes = {key: row for key, row in (gone | dict(after)).items() if row["kind"] == "route"}
    for key, row in sorted(routes.items()):
        spec = row["spec"]
        roll_out = by_process.get((app_of_row(row), spec["process"]))
        verb = verbs.get(key, "backends")
        if verb == "backends" and roll_out is None:
            continue
        short, message = ResourceId.parse(key).short, _message(verb, roll_out)
        yield RouteEffect(short, spec["hostname"], spec["listen_port"], spec["process"], verb, message)


def _message(verb: Verb, roll_out: RollOut | None) -> str:
    if verb == "delete":
        return "nothing answers there any more"
    if roll_out is None:
        return "traffic follows at once"
    if roll_out.unschedulable and not roll_out.serving_after:
        return f"no instance: {roll_out.unschedulable}"
    if roll_out.gap:
        return gap_text(roll_out.gap)
    if not roll_out.serving_before:
        return "traffic as soon as an instance is ready"
    return f"at least {roll_out.serving_least} of {roll_out.wanted_after} serve throughout"
