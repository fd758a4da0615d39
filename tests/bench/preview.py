"""Planning a one-file change, and a thousand apps at once, in fleets of 100 to 10,000 apps.

Each app has two instances, a route, a release and a deployment. What is measured is what `reconciler.planning` does
after the commit is judged and the views are read: decide, fold, schedule step after step, tell.
"""

from __future__ import annotations

import copy
import json
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from kit.codec import from_json
from reconciler.core.commands import DeclareResource
from reconciler.core.model import AppSpec, Resource, ResourceId
from reconciler.core.planner import Plan
from reconciler.core.preview import Asked, preview
from reconciler.core.preview.markdown import markdown
from reconciler.core.revisions import Change, CommitInfo, Source, revision_cause
from tests.unit.preview.test_changes import route
from tests.unit.scheduler.world import ORG, PROJECT, World, app, app_id, process

TITLE = "Plan of a change against the live fleet"
FLEETS = (100, 1_000, 10_000)
ROUNDS = 20
MANY = 1_000
SOURCE = Source("main", ORG, PROJECT, "file:///repo")
INFO = CommitInfo("c" * 40, "ann", "a change")


async def run(progress: Callable[[str], None]) -> dict[str, Any]:
    figures: dict[str, Any] = {}
    for apps in FLEETS:
        rows = fleet(apps)
        wall_ms, cpu_ms = timed(rows)
        figures[f"p95_ms_{apps}_apps"], figures[f"cpu_ms_{apps}_apps"] = round(wall_ms, 2), round(cpu_ms, 2)
        progress(f"{apps} apps, one of them changes: p95 {wall_ms:.1f} ms, {cpu_ms:.1f} ms of one core in the median")
    started_s = time.perf_counter()
    document = preview(rows, 1, asked(rows, MANY), "live")
    figures[f"seconds_{MANY}_of_{apps}_apps"] = round(time.perf_counter() - started_s, 2)
    assert document.complete
    progress(f"{MANY} of {apps} apps change: {figures[f'seconds_{MANY}_of_{apps}_apps']} s")
    figures["p95_ms"] = figures[f"p95_ms_{FLEETS[-1]}_apps"]
    return figures


def timed(rows: Any) -> tuple[float, float]:
    """The 95th percentile by the clock, and the median of the processor's time, in milliseconds."""
    wall, cpu = [], []
    for _ in range(ROUNDS):
        started_s, began_s = time.perf_counter(), time.process_time()
        document = preview(rows, 1, asked(rows, 1), "live")
        markdown(document)
        wall.append((time.perf_counter() - started_s) * 1000)
        cpu.append((time.process_time() - began_s) * 1000)
        assert document.roll_outs[0].starts == 2
        assert len(document.roll_outs) == 1
    return sorted(wall)[int(len(wall) * 0.95)], sorted(cpu)[len(cpu) // 2]


def fleet(apps: int) -> dict[str, dict[str, Any]]:
    """One app, rolled out by the real parts, and then as often as is wanted under other names."""
    world = World()
    nodes = max(3, apps // 20)
    world.node("node-0", 1 << 20)
    world.commit(app("site-00000", web=process("v1", replicas=2)), route("site-00000.test", owner="site-00000"))
    world.settle()
    one = json.dumps({view: world.views[view] for view in ("resources", "instances", "releases", "deployments")})
    rows: dict[str, dict[str, Any]] = copy.deepcopy(world.views)
    for number in range(nodes):
        name = f"node-{number}"
        rows["nodes"][name] = {**world.views["nodes"]["node-0"], "node_id": name, "subnet": f"fd00:{number:x}::/64"}
    for number in range(1, apps):
        text = one.replace("site-00000", f"site-{number:05d}").replace('"node-0"', f'"node-{number % nodes}"')
        text = (
            text.replace('"i-', f'"i-{number:05d}-').replace('"d-', f'"d-{number:05d}-').replace('"r-', f'"r-{number}-')
        )
        for view, found in json.loads(text).items():
            rows[view].update(found)
    return rows


def asked(rows: Any, count: int) -> Asked:
    """A commit that gives so many apps another image."""
    commands, changes = [], []
    for number in range(count):
        identity = app_id(f"site-{number:05d}")
        before = from_json(AppSpec, rows["resources"][str(identity)]["spec"])
        web = replace(before.processes["web"], image="registry/app@sha256:v2")
        resource = app(identity.name, web=web)
        commands.append(_declare(identity, resource))
        changes.append(Change("update", identity, resource.origin.path, 1))
    made = Plan(
        "main",
        INFO.commit,
        "b" * 40,
        len(rows["resources"]),
        len(rows["resources"]),
        tuple(commands),
        tuple(changes),
        (),
    )
    return Asked(SOURCE, INFO, "b" * 40, made, (), "b" * 40)


def _declare(identity: ResourceId, resource: Resource) -> DeclareResource:
    cause = revision_cause(SOURCE, INFO, path=resource.origin.path, line=1)
    return DeclareResource(f"declare-{identity}", cause, resource)
