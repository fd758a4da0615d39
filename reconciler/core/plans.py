"""What one node and one edge should do, made from rows of the views. Pure.

Called by `reconciler.server` with one snapshot of the views; the documents go over HTTP to `agent` and `edge`. A plan
is a whole: equal rows give equal plans, in the same order. `reconciler.core.plan_rows` and `route_book` give the same
for the rows of one node, and for routes of which few have changed.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any

from kit.codec import from_json
from kit.wire import Backend, NodePlan, PlannedInstance, PlannedRoute, PlannedVolume, RoutePlan, Workload
from reconciler.core.model import ResourceId, RouteSpec

Doc = Mapping[str, Any]
Rows = Mapping[str, Mapping[str, Doc]]


def node_plan(rows: Rows, node_id: str, *, log_id: str, generation: int) -> NodePlan:
    """`generation`: the event_id of the snapshot that `rows` come from."""
    here = [row for row in rows["instances"].values() if row["node_id"] == node_id]
    instances = tuple(sorted(map(_planned_instance, here), key=lambda planned: planned.instance_id))
    mounted = {mount.volume_id for planned in instances for mount in planned.workload.mounts}
    volumes = [*_present_volumes(rows["resources"], node_id), *_deleted_volumes(rows, node_id, mounted)]
    return NodePlan(
        node_id=node_id,
        log_id=log_id,
        generation=generation,
        instances=instances,
        volumes=tuple(sorted(volumes, key=lambda volume: volume.volume_id)),
    )


def _planned_instance(row: Doc) -> PlannedInstance:
    return PlannedInstance(
        instance_id=row["instance_id"],
        epoch=row["epoch"],
        desired=row["desired"],
        drain_grace_s=float(row["drain_grace_s"]),
        workload=from_json(Workload, row["workload"], where=f"workload of {row['instance_id']}"),
    )


def _present_volumes(resources: Mapping[str, Doc], node_id: str) -> Iterable[PlannedVolume]:
    for row in resources.values():
        if row["kind"] == "volume" and row.get("home_node") == node_id:
            spec = row["spec"]
            yield PlannedVolume(
                volume_id=row["resource_id"],
                name=row["name"],
                size_bytes=spec["size_bytes"],
                desired="present",
                filesystem=spec.get("filesystem", "ext4"),
            )


def _deleted_volumes(rows: Rows, node_id: str, mounted: set[str]) -> Iterable[PlannedVolume]:
    """The data of a volume that an instance still holds is removed after that instance is gone."""
    for row in rows["tombstones"].values():
        volume_id = row["resource_id"]
        if row["node_id"] != node_id or volume_id in mounted:
            continue
        declared_anew = rows["resources"].get(volume_id, {}).get("home_node") == node_id
        if not declared_anew:
            yield PlannedVolume(volume_id, ResourceId.parse(volume_id).name, size_bytes=0, desired="deleted")


def route_plan(rows: Rows, edge_id: str, *, log_id: str, generation: int) -> RoutePlan:
    """Every route, with the backends that are wanted and ready. A route without a backend is in the plan: the edge then
    fails fast. Of routes that claim the same listener the eldest is in the plan, the others are not."""
    instances: dict[str, list[Doc]] = {}
    for row in rows["instances"].values():
        instances.setdefault(row["app"], []).append(row)
    routes = [row for row in rows["resources"].values() if row["kind"] == "route"]
    planned = {row["resource_id"]: planned_route(row, instances.get(app_of(row), ())) for row in routes}
    kept = tuple(planned[name] for name in listed(routes, planned))
    return RoutePlan(edge_id=edge_id, log_id=log_id, generation=generation, routes=kept)


def app_of(row: Doc) -> str:
    """The app that a route leads to."""
    own = ResourceId.parse(row["resource_id"])
    return str(replace(own, kind="app", name=own.app))


def planned_route(row: Doc, instances: Iterable[Doc]) -> PlannedRoute:
    """`instances`: those of its app."""
    spec = from_json(RouteSpec, row["spec"], where=f"spec of {row['resource_id']}")
    return PlannedRoute(
        route_id=row["resource_id"],
        hostname=spec.hostname,
        listen_port=spec.listen_port,
        protocol=spec.protocol,
        proxy_protocol=spec.proxy_protocol,
        backends=tuple(sorted(_backends(instances, spec), key=lambda backend: backend.instance_id)),
    )


def _backends(instances: Iterable[Doc], spec: RouteSpec) -> Iterable[Backend]:
    for row in instances:
        if row["process"] != spec.process or row["desired"] != "running" or row["status"] != "ready":
            continue
        for endpoint in row.get("endpoints") or ():
            if endpoint["port"] == spec.port:
                yield Backend(row["instance_id"], endpoint["address"], endpoint["reach_port"])


def listed(rows: Iterable[Doc], planned: Mapping[str, PlannedRoute]) -> list[str]:
    """The names of the routes that are in the plan, in its order."""
    kept = _unambiguous(planned[row["resource_id"]] for row in sorted(rows, key=_eldest_first))
    return [route.route_id for route in sorted(kept, key=lambda route: (route.listen_port, route.hostname))]


def _eldest_first(row: Doc) -> tuple[int, str]:
    return int(row.get("created_event_id", 0)), row["resource_id"]


def _unambiguous(routes: Iterable[PlannedRoute]) -> Iterable[PlannedRoute]:
    """`routes` with the eldest first. Claims keep such conflicts out of the log; this is the second lock on the
    door."""
    names: set[tuple[str, int]] = set()
    raw_ports: set[int] = set()
    ports: set[int] = set()
    for route in routes:
        raw = route.protocol == "tcp_raw"
        port = route.listen_port
        if (route.hostname, port) in names or port in raw_ports or (raw and port in ports):
            continue
        names.add((route.hostname, port))
        ports.add(port)
        if raw:
            raw_ports.add(port)
        yield route
