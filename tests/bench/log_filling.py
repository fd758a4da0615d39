"""A long log with the mix of a working fleet, put straight into `events`. Used by the benchmarks of the projections.

Instances dominate: each is allocated, reports four changes, lives for a while, drains and stops with two more. COPY as
the superuser, because the benchmark measures reading; columns that are not named here get defaults.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator
from datetime import UTC, datetime
from itertools import islice
from typing import Any

import asyncpg

from reconciler.core.events import newest_version
from tests.unit.projections.samples import PAYLOADS

COLUMNS = (
    "event_id", "occurred_at", "aggregate_type", "aggregate_id", "aggregate_seq", "event_type", "event_version",
    "command_id", "actor_type", "actor_id", "org_id", "source_id", "commit_id", "path", "line", "correlation_id",
    "causation_id", "payload",
)  # fmt: skip
START = ("preparing", "booting", "unready", "ready")
END = ("draining", "stopped")
INSTANCES_PER_DEPLOYMENT = 20
NODES = 50
APPS = 200
_AT = datetime(2026, 1, 1, tzinfo=UTC)

# Digests that a row cannot be without. Here they are not true; nothing that is measured looks at them.
NEEDED = """
SELECT column_name FROM information_schema.columns WHERE table_schema = 'trueup' AND table_name = 'events'
    AND is_nullable = 'NO' AND column_default IS NULL AND data_type = 'bytea' AND column_name <> ALL ($1::text[])"""
UNKNOWN = bytes(32)

Step = tuple[str, str, str, dict[str, Any]]
"""Aggregate type, id, event type, what differs from the sample payload."""


def story(deployments: int) -> Iterator[Step]:
    """Nodes, then apps with volumes and routes, then one deployment after the other: each starts its instances and ends
    those of the one before."""
    for number in range(NODES):
        yield "node", f"node-{number}", "node.enrolled", {"node_id": f"node-{number}"}
    for number in range(deployments):
        app = f"acme/shop/prod/app{number % APPS}/app/app{number % APPS}"
        yield from _app_once(number, app)
        release, deployment = f"r-{number:012x}", f"d-{number:012x}"
        named = {"app": app, "release_id": release, "deployment_id": deployment}
        yield "release", release, "release.created", {**named, "number": number // APPS + 1}
        yield "deployment", deployment, "deployment.created", named
        for index in range(INSTANCES_PER_DEPLOYMENT):
            yield from _start(*_instance(number, index), named)
        for index in range(INSTANCES_PER_DEPLOYMENT if number >= APPS else 0):
            yield from _end(*_instance(number - APPS, index))
        yield "deployment", deployment, "deployment.status_changed", named


def _app_once(number: int, app: str) -> Iterator[Step]:
    if number >= APPS:
        return
    yield "app", app, "app.created", {"resource_id": app}
    for kind in ("volume", "route"):
        resource = f"acme/shop/prod/app{number}/{kind}/{kind}{number}"
        yield kind, resource, f"{kind}.created", {"resource_id": resource}
    yield (
        "volume",
        resource.replace("route", "volume"),
        "volume.placed",
        {
            "resource_id": resource.replace("route", "volume"),
            "node_id": f"node-{number % NODES}",
        },
    )


def _instance(number: int, index: int) -> tuple[str, str]:
    return f"i-{number:08x}-{index:02d}", f"node-{(number + index) % NODES}"


def _start(instance: str, node: str, named: dict[str, Any]) -> Iterator[Step]:
    mine = {"instance_id": instance, "node_id": node}
    yield "instance", instance, "instance.allocated", {**named, **mine}
    for counter, status in enumerate(START, start=1):
        yield "instance", instance, "instance.status_changed", {**mine, "status": status, "counter": counter}


def _end(instance: str, node: str) -> Iterator[Step]:
    mine = {"instance_id": instance, "node_id": node}
    yield "instance", instance, "instance.desired_state_changed", mine
    for counter, status in enumerate(END, start=1 + len(START)):
        yield "instance", instance, "instance.status_changed", {**mine, "status": status, "counter": counter}


def rows(first: int, last: int) -> Iterator[tuple[Any, ...]]:
    """The rows of the events first..last of the story of deployments."""
    per_deployment = 3 + INSTANCES_PER_DEPLOYMENT * (2 + len(START) + len(END))
    return islice(records(story(last // per_deployment + 2 * APPS), first), last - first + 1)


def records(steps: Iterable[Step], first: int = 1) -> Iterator[tuple[Any, ...]]:
    """The rows of `steps`, from event `first` on; every aggregate counts from 1."""
    sequences: dict[str, int] = {}
    for event_id, (kind, name, event_type, changes) in enumerate(steps, start=1):
        sequences[name] = sequences.get(name, 0) + 1
        if event_id < first:
            continue
        payload = PAYLOADS[event_type]
        payload = {**payload, **{field: value for field, value in changes.items() if field in payload}}
        cause = ("user", "ann@example.org", "acme", "shop", "c0ffee00" * 5, "apps/site.yaml", 3, "shop@c0ffee00", 0)
        text = json.dumps(payload)
        yield (
            event_id,
            _AT,
            kind,
            name,
            sequences[name],
            event_type,
            newest_version(event_type),
            f"c-{event_id // 4}",
            *cause,
            text,
        )


async def fill(superuser_url: str, last: int) -> None:
    """Lets the log, which is empty or was filled by this function, end at event `last`."""
    await copy(superuser_url, lambda first: rows(first, last))


async def copy(superuser_url: str, rows_from: Callable[[int], Iterable[tuple[Any, ...]]]) -> None:
    """Appends what `rows_from` gives for the first event_id that is free."""
    connection = await asyncpg.connect(superuser_url, server_settings={"search_path": "trueup"})
    try:
        await connection.execute("SET synchronous_commit = off")
        first = 1 + await connection.fetchval("SELECT last_event_id FROM log_head")
        more = [name for (name,) in await connection.fetch(NEEDED, list(COLUMNS))]
        new = ((*row, *(UNKNOWN for _ in more)) for row in rows_from(first))
        await connection.copy_records_to_table("events", records=new, columns=(*COLUMNS, *more))
        await connection.execute("UPDATE log_head SET last_event_id = (SELECT max(event_id) FROM events)")
        await connection.execute("VACUUM ANALYZE events")
    finally:
        await connection.close()
