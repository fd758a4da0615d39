"""What nodes and edges say, into the log. Called by `reconciler.server` and `reconciler.tasks.nodes`."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from kit.errors import Refusal
from kit.wire import EdgeReport, Enrolment, InstanceReport, NodeReport, RefusedReport, ReportTaken, VolumeReport
from reconciler.core.commands import Append, Fence
from reconciler.core.decide import edges, instances, nodes, volumes
from reconciler.core.events import Cause
from reconciler.handlers.appending import Appending, Recorded

DETAIL_CHARS_MAX = 2000
"""Of a text that an agent or an edge reports."""
REFUSED_TOLD_MAX = 50
"""Of one report, in the answer; they are all counted in the log."""


class ReportHandlers(Appending):
    async def enrol_node(self, enrolment: Enrolment) -> Recorded:
        """Raises `Refusal` for a subnet that is not one, or that belongs to another node."""
        cause = _node_cause(enrolment.node_id)

        async def decide() -> Append | Refusal | None:
            return nodes.decide_enrolment(await self._views.get("nodes", enrolment.node_id), enrolment, cause)

        return await self._one(f"enrol node {enrolment.node_id}", ("nodes",), decide)

    async def set_node_state(self, node_id: str, state: str, reason: str, fence: Fence | None = None) -> Recorded:
        """`state`: active or offline. `fence`: of the loop that watches the nodes."""
        cause = Cause("system", "nodes", "")

        async def decide() -> Append | Refusal | None:
            row = await self._views.get("nodes", node_id)
            decision = nodes.decide_node_state(row, node_id, state, reason, cause)
            return replace(decision, fence=fence) if isinstance(decision, Append) else decision

        return await self._one(f"set node {node_id} {state}", ("nodes",), decide)

    async def record_node_report(self, report: NodeReport) -> ReportTaken:
        """What is refused is told and not asked for again: the same report would be refused again."""
        node_id, cause = report.node_id, _node_cause(report.node_id)
        told_instances = tuple(_clean_instance(each) for each in report.instances)
        told_volumes = tuple(_clean_volume(each) for each in _last_words(report.volumes))

        async def decide() -> list[Append | Refusal]:
            found: list[Append | Refusal] = []
            await self._decide_instances(node_id, told_instances, cause, found)
            for told in told_volumes:
                row = await self._views.get("resources", told.volume_id)
                tombstone = await self._views.get("tombstones", f"{told.volume_id}@{node_id}")
                decision = volumes.decide_volume_report(row, tombstone, node_id, told, cause)
                found.extend([decision] if decision is not None else [])
            return found

        attempted = f"record a report of node {node_id}"
        refused = await self._many(attempted, ("instances", "resources", "tombstones"), decide)
        counters = [each.counter for each in report.instances] + [each.counter for each in report.volumes]
        counters += [await self._counter_of(each, node_id) for each in {told.instance_id for told in told_instances}]
        return ReportTaken(
            max(counters, default=0),
            tuple(RefusedReport(each.code, f"{each.attempted}: {each.why}") for each in refused[:REFUSED_TOLD_MAX]),
        )

    async def _counter_of(self, instance_id: str, node_id: str) -> int:
        """The last one that is known, of an instance of this node."""
        row = await self._views.get("instances", instance_id)
        return int(row.get("counter") or 0) if row is not None and row["node_id"] == node_id else 0

    async def _decide_instances(
        self, node_id: str, reports: Iterable[InstanceReport], cause: Cause, found: list[Append | Refusal]
    ) -> None:
        """Reports of one instance build upon each other."""
        known: dict[str, instances.Known | None] = {}
        for told in reports:
            if told.instance_id not in known:
                row = await self._views.get("instances", told.instance_id)
                known[told.instance_id] = instances.Known.of(row) if row else None
            decision = instances.decide_report(known[told.instance_id], node_id, told, cause)
            if isinstance(decision, Refusal):
                found.append(decision)
            elif decision is not None:
                append, known[told.instance_id] = decision
                found.append(append)

    async def record_edge_report(self, report: EdgeReport) -> None:
        cause = Cause("service_principal", f"edge:{report.edge_id}", "")

        async def decide() -> list[Append | Refusal]:
            found = []
            rows = (await self._views.snapshot(("resources",))).rows["resources"]
            for told in report.routes:
                told = replace(told, reason_detail=_clean(told.reason_detail))
                row = rows.get(told.route_id)
                found.append(edges.decide_route_report(row, report.edge_id, report.applied_generation, told, cause))
            return [each for each in found if each is not None]

        await self._many(f"record a report of edge {report.edge_id}", ("resources",), decide)


def _node_cause(node_id: str) -> Cause:
    return Cause("service_principal", f"node:{node_id}", "")


def _last_words(reports: Iterable[VolumeReport]) -> list[VolumeReport]:
    """Of each volume the newest, and every end of a life: what came in between is not so any more, and said again after
    a lost answer it would undo what came after it."""
    ordered = sorted(reports, key=lambda each: each.counter)
    newest = {each.volume_id: each for each in ordered}
    return [each for each in ordered if each.status == "deleted" or newest[each.volume_id] is each]


def _clean(text: str) -> str:
    """What the log can hold: no NUL, no half surrogate pairs, not too long."""
    return text.replace("\x00", "").encode(errors="replace").decode()[:DETAIL_CHARS_MAX]


def _clean_instance(told: InstanceReport) -> InstanceReport:
    return replace(told, reason_detail=_clean(told.reason_detail), boot_id=_clean(told.boot_id))


def _clean_volume(told: VolumeReport) -> VolumeReport:
    return replace(told, reason_detail=_clean(told.reason_detail))
