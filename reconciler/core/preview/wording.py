"""How a plan is told: the words that terminals, comments and statuses share. Pure.

Used by `preview` (the summary), `markdown` and `reconciler.cli.plan`. Works on the dataclasses of `document`.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any

from kit.plain_text import counted
from reconciler.core.difference import FieldChange
from reconciler.core.preview.document import (
    EnvironmentUse,
    Gap,
    NodeUse,
    PlanDocument,
    PlannedChange,
    RollOut,
    RollOutStep,
    RouteEffect,
)
from reconciler.core.revisions import HeldApp

SIGNS = {"create": "+", "update": "~", "move": ">", "mark": "=", "delete": "-", "retain": "!", "backends": "~"}
_DONE = {
    "create": "created",
    "update": "changed",
    "move": "moved",
    "mark": "marked",
    "delete": "removed",
    "retain": "retained",
}
_DIGEST = re.compile(r"(@sha256:[0-9a-f]{12})[0-9a-f]{52}")
_MEBIBYTE = 1 << 20
_HELD_NAMED_MAX = 5
_AS_IT_IS = " as it is, nothing restarts"
_SETS = ("keys", "secrets")
"""Lists whose order says nothing: what came and went is told."""


def summary(changes: Sequence[PlannedChange], rolled: Iterable[RollOut], confirmations: int) -> str:
    """One line: what changes, what restarts, what is down meanwhile."""
    verbs = Counter(_DONE[change.verb] for change in changes)
    mine = [each for each in rolled if each.by_commit]
    stuck = [each for each in mine if each.unschedulable and each.wanted_after > each.serving_after]
    parts = [f"{verbs[word]} {word}" for word in _DONE.values() if verbs[word]] or ["nothing changes"]
    if taken := sum(bool(change.was_source) for change in changes):
        parts.append(f"{taken} taken over from {_names(change.was_source for change in changes)}")
    if starts := sum(each.starts for each in mine):
        parts.append(f"{counted(starts, 'instance')} start")
    if stops := sum(each.stops for each in mine):
        parts.append(f"{stops} stop")
    parts += [f"{each.app} {each.process}: {gap_text(each.gap)}" for each in mine if each.gap][:1]
    parts += [f"{each.app} {each.process} cannot be placed: {each.unschedulable}" for each in stuck][:1]
    if confirmations:
        parts.append(f"{counted(confirmations, 'confirmation')} missing")
    return ", ".join(parts)


def _names(sources: Iterable[str]) -> str:
    return ", ".join(sorted({each for each in sources if each}))


def verdict(plan: PlanDocument) -> str:
    bad = sum(finding.severity == "error" for finding in plan.findings)
    if plan.held:
        return f"The commit would be applied except {held_text(plan.held)}; {plan.summary}"
    if not plan.ok:
        told = f"{counted(bad, 'error')}, {counted(len(plan.findings) - bad, 'warning')}"
        return f"The commit would be refused, and nothing would change: {told}"
    return plan.summary


def held_text(held: Sequence[HeldApp]) -> str:
    named = [each.short for each in held[:_HELD_NAMED_MAX]]
    more = f" and {len(held) - len(named)} more" if len(held) > len(named) else ""
    return ", ".join(named) + more


def held_line(each: HeldApp) -> str:
    first = each.findings[0]
    return f"{each.short}: stays as it is: {first.place}: {first.message}"


def change_text(change: PlannedChange) -> str:
    place = f"{change.path}:{change.line}" if change.path else "not in Git any more"
    before = f"{change.was_source} " if change.was_source else ""
    was = f" (was {before}{change.was_path}:{change.was_line})" if change.was_path else ""
    if change.was_source:
        was += f"; taken over from the source {change.was_source}" + _AS_IT_IS * (change.verb == "move")
    note = f"; {change.note}" if change.note else ""
    return f"{place}{was}{note}"


def field_text(field: FieldChange) -> str:
    name = field.path.rpartition(".")[2]
    if name in _SETS:
        before, after = set(field.before or ()), set(field.after or ())
        moves = [*(f"+{each}" for each in sorted(after - before)), *(f"-{each}" for each in sorted(before - after))]
        return f"{field.path}: {' '.join(moves) or 'in another order'}"
    return f"{field.path}: {_value(field, field.before)} -> {_value(field, field.after)}"


def _value(field: FieldChange, value: Any) -> str:
    if value is None:
        return "none"
    if isinstance(value, int) and field.path.endswith("_bytes"):
        return size_text(value)
    text = value if isinstance(value, str) else json.dumps(value, sort_keys=True, ensure_ascii=False)
    return _DIGEST.sub(r"\1", text) if text else '""'


def size_text(size_bytes: int) -> str:
    if size_bytes % _MEBIBYTE == 0 and size_bytes:
        return f"{size_bytes // _MEBIBYTE} MiB"
    return f"{size_bytes} B"


def mebibytes(size_bytes: int) -> int:
    return size_bytes // _MEBIBYTE


def seconds_text(seconds: float) -> str:
    return f"{seconds:g} s"


def gap_text(gap: Gap) -> str:
    if gap.at_most_s is None:
        return f"no replica serves from step {gap.from_step} on"
    steps = f"step {gap.from_step} to {gap.to_step}"
    return f"no replica serves for at most {seconds_text(gap.at_most_s)} ({steps})"


def roll_out_text(each: RollOut) -> str:
    """What happens to the process, in a line."""
    parts = []
    if each.starts and each.stops:
        parts.append(f"{counted(each.stops, 'instance')} replaced by {each.starts}")
    elif each.starts or each.stops:
        parts.append(f"{counted(each.starts or each.stops, 'instance')} {'start' if each.starts else 'stop'}")
    surge = each.at_once_max - max(each.wanted_before, each.wanted_after)
    if each.starts and each.stops:
        parts.append(f"{each.at_once_max} at once" + (f" (surge {surge})" if surge > 0 else ""))
    if each.gap:
        parts.append(gap_text(each.gap))
    elif each.serving_before and each.wanted_after:
        parts.append(f"at least {each.serving_least} of {each.wanted_after} serve throughout")
    if each.unschedulable:
        why = f": {each.unschedulable_message}" if each.unschedulable_message else ""
        parts.append(f"cannot be placed ({each.unschedulable}{why})")
    if each.placed:
        parts.append("then on " + ", ".join(f"{node} {count}" for node, count in each.placed.items()))
    return "; ".join(parts)


def step_text(step: RollOutStep) -> str:
    at = f" on {step.at}" if step.at else ""
    return f"{step.act} {step.instance}{at}" + (f": {step.reason}" if step.reason else "")


def basis_text(plan: PlanDocument) -> str:
    """What the plan stands on."""
    told = {
        "live": f"planned on the live fleet as it was at event {plan.event_id}",
        "simulated": "planned on a simulated fleet that has run the base",
        "unknown": "planned without a fleet: room is taken for granted",
    }
    return told[plan.fleet]


def route_text(route: RouteEffect) -> str:
    return f"{route.hostname}:{route.listen_port} ({route.route} to {route.process}): {route.message}"


def node_text(node: NodeUse) -> str:
    used = [mebibytes(size) for size in (node.used_before_bytes, node.used_peak_bytes, node.used_after_bytes)]
    peak = f", {used[1]} MiB at the peak" if used[1] > max(used[0], used[2]) else ""
    return (
        f"{node.node_id}: {used[0]} -> {used[2]} of {mebibytes(node.memory_bytes)} MiB{peak};"
        f" {node.instances_before} -> {counted(node.instances_after, 'instance')}"
    )


def environment_text(use: EnvironmentUse) -> str:
    return (
        f"{use.environment}: {use.instances_before} -> {counted(use.instances_after, 'instance')},"
        f" {mebibytes(use.memory_before_bytes)} -> {mebibytes(use.memory_after_bytes)} MiB"
    )
