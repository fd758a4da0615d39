"""Memory and instances, before and after: of the nodes that change, and of the environments. Called by `preview`."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from reconciler.core.preview.document import EnvironmentUse, NodeUse
from reconciler.core.preview.simulation import Trace
from reconciler.core.preview.world import Rows, World
from reconciler.core.projection import Doc
from reconciler.core.quotas import taken_bytes


def nodes_used(world: World, trace: Trace) -> Iterator[NodeUse]:
    """Those where anything starts or stops."""
    first, last = trace.moments[0], trace.moments[-1]
    for node_id in sorted({act.node_id for _, act in trace.acts}):
        row = world.past.rows["nodes"].get(node_id)
        if row is None:
            continue
        others = world.weight.memory_bytes[node_id], world.weight.instances[node_id]
        yield NodeUse(
            node_id=node_id,
            memory_bytes=row["memory_bytes"],
            used_before_bytes=others[0] + first.used_bytes[node_id],
            used_peak_bytes=others[0] + max(moment.used_bytes[node_id] for moment in trace.moments),
            used_after_bytes=others[0] + last.used_bytes[node_id],
            instances_before=others[1] + first.instances[node_id],
            instances_after=others[1] + last.instances[node_id],
        )


def environments_used(before: Rows, world: World, trace: Trace) -> Iterator[EnvironmentUse]:
    """Those of the apps that the commit touches. Here a quota would be held against the numbers."""
    for name in sorted({_environment(app) for app in world.touched}):
        count, memory = _sums(before["instances"].values(), name)
        count_old, memory_old = _sums(trace.rows_before.values(), name)
        count_new, memory_new = _sums(world.past.rows["instances"].values(), name)
        yield EnvironmentUse(
            environment=name,
            instances_before=count,
            instances_after=count - count_old + count_new,
            memory_before_bytes=memory,
            memory_after_bytes=memory - memory_old + memory_new,
        )


def _sums(rows: Iterable[Doc], environment: str) -> tuple[int, int]:
    count, memory, prefix = 0, 0, f"{environment}/"
    for row in rows:
        if row["app"].startswith(prefix) and row["status"] != "stopped":
            count += 1
            memory += taken_bytes(row)
    return count, memory


def _environment(app: str) -> str:
    return app.rsplit("/", 3)[0]
