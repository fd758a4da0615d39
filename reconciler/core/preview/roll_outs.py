"""Who starts and stops, in which order, and what serves meanwhile: one `RollOut` per process that moves, or cannot.

Called by `preview` with the trace of a simulation. Everything is read off the trace; nothing is guessed but the length
of a gap, which is what drain and start may take together.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Literal

from reconciler.core.model import ResourceId
from reconciler.core.preview.document import Gap, RollOut, RollOutStep
from reconciler.core.preview.simulation import NEW_PREFIX, Moment, ProcessKey, Trace
from reconciler.core.preview.world import Rows, World
from reconciler.core.projection import Doc
from reconciler.core.scheduler.actions import Allocate, Drain


def roll_outs(before: Rows, world: World, trace: Trace, *, places_known: bool) -> tuple[RollOut, ...]:
    """`before`: the rows that the commit found; `world` and `trace` as the simulation left them."""
    acts = _acts_by_process(trace)
    after = world.past.rows
    apps = {key: row for key, row in after["resources"].items() if row["kind"] == "app"}
    keys = set(acts) | {(app, process) for app in world.touched & set(apps) for process in apps[app]["unschedulable"]}
    lasts = _last_seconds(after["deployments"].values())
    placed: dict[ProcessKey, Counter[str]] = {}
    for row in after["instances"].values():
        if row["desired"] == "running":
            placed.setdefault((row["app"], row["process"]), Counter())[row["node_id"]] += 1
    made = []
    for key in sorted(keys):
        told = _Told(key, before["resources"].get(key[0]), apps.get(key[0]), world, trace, acts.get(key, []))
        places = dict(sorted(placed.get(key, Counter()).items())) if places_known else None
        made.append(told.roll_out(lasts.get(key[0]), places))
    return tuple(made)


def _acts_by_process(trace: Trace) -> dict[ProcessKey, list[tuple[int, Allocate | Drain]]]:
    owners: dict[str, ProcessKey] = {key: (row["app"], row["process"]) for key, row in trace.rows_before.items()}
    found: dict[ProcessKey, list[tuple[int, Allocate | Drain]]] = {}
    for step, act in trace.acts:
        if isinstance(act, Allocate):
            owners[act.instance_id] = (act.app, act.process)
        found.setdefault(owners[act.instance_id], []).append((step, act))
    return found


def _last_seconds(deployments: Iterable[Doc]) -> dict[str, float]:
    """App -> how long its last successful deployment took that was not made by the simulation."""
    done = [row for row in deployments if row["status"] == "succeeded" and row.get("seconds")]
    return {row["app"]: float(row["seconds"]) for row in sorted(done, key=lambda row: int(row["created_event_id"]))}


class _Told:
    """One process. `before`, `after`: the rows of its app."""

    def __init__(
        self,
        key: ProcessKey,
        before: Doc | None,
        after: Doc | None,
        world: World,
        trace: Trace,
        acts: Sequence[tuple[int, Allocate | Drain]],
    ) -> None:
        self._key, self._before, self._after = key, before, after
        self._world, self._trace, self._acts = world, trace, acts

    def roll_out(self, last_seconds: float | None, places: Mapping[str, int] | None) -> RollOut:
        """`places`: node -> instances after it; None when nobody knows."""
        first, *rest = self._trace.moments
        serving = [moment.serving[self._key] for moment in rest] or [first.serving[self._key]]
        why = (self._after or {}).get("unschedulable", {}).get(self._key[1], {})
        return RollOut(
            app=ResourceId.parse(self._key[0]).short,
            resource_id=self._key[0],
            process=self._key[1],
            by_commit=self._key[0] in self._world.touched,
            stateful=bool((self._spec(self._after) or self._spec(self._before)).get("volumes")),
            wanted_before=_wanted(self._spec(self._before)),
            wanted_after=_wanted(self._spec(self._after)),
            starts=sum(isinstance(act, Allocate) for _, act in self._acts),
            stops=sum(isinstance(act, Drain) for _, act in self._acts),
            at_once_max=max(moment.live[self._key] for moment in self._trace.moments),
            serving_before=first.serving[self._key],
            serving_least=min(serving),
            serving_after=serving[-1],
            gap=self._gap(first, rest),
            steps=tuple(self._steps(places is not None)),
            placed=places,
            unschedulable=why.get("reason", ""),
            unschedulable_message=why.get("message", "") if places is not None else "",
            outcome=str((self._after or {}).get("status", "")),
            last_seconds=last_seconds,
        )

    def _spec(self, app: Doc | None) -> Doc:
        spec: Doc = app["spec"]["processes"].get(self._key[1], {}) if app else {}
        return spec

    def _steps(self, places_known: bool) -> Iterator[RollOutStep]:
        for step, act in self._acts:
            at = act.node_id if places_known else ""
            if isinstance(act, Allocate):
                yield RollOutStep(step, "start", name_of(act.instance_id), at)
            else:
                verb: Literal["drain", "stop"] = "drain" if act.desired == "draining" else "stop"
                yield RollOutStep(step, verb, name_of(act.instance_id), at, act.reason)

    def _gap(self, first: Moment, rest: Sequence[Moment]) -> Gap | None:
        """The first time that nothing serves although something did, and something shall."""
        if not first.serving[self._key] or not _wanted(self._spec(self._after)):
            return None
        down = next((index for index, each in enumerate(rest) if not each.serving[self._key]), None)
        if down is None:
            return None
        up = next((each.step for each in rest[down:] if each.serving[self._key]), 0)
        begin = rest[down].step
        return Gap(begin, up, self._length_s(begin, up) if up else None)

    def _length_s(self, begin: int, end: int) -> float:
        """The old one drains, the new one starts. Where that one has to wait for room, so for the roll-outs of others,
        the steps until then count as long as their slowest act may take."""
        graces = [act.drain_grace_s for step, act in self._acts if isinstance(act, Drain) and step == begin]
        starts = [(step, act) for step, act in self._acts if isinstance(act, Allocate) and begin <= step <= end]
        first = min((step for step, _ in starts), default=begin)
        waited = sum(self._longest_s(step) for step in range(begin + 1, first))
        at_once = self._longest_s(begin) if first > begin + 1 else max(graces, default=0.0)
        return at_once + waited + max((_may_take_s(act) for _, act in starts), default=0.0)

    def _longest_s(self, step: int) -> float:
        return max((_may_take_s(act) for each, act in self._trace.acts if each == step), default=0.0)


def _may_take_s(act: Allocate | Drain) -> float:
    return act.drain_grace_s if isinstance(act, Drain) else act.target.workload.start_timeout_s


def name_of(instance_id: str) -> str:
    """An instance that does not exist yet has no id; it is called new-N."""
    if instance_id.startswith(NEW_PREFIX):
        return f"new-{int(instance_id.removeprefix(NEW_PREFIX))}"
    return instance_id


def _wanted(process: Mapping[str, object]) -> int:
    replicas = int(str(process.get("replicas", 1))) if process else 0
    return min(replicas, 1) if process.get("volumes") else replicas
