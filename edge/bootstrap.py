"""The only place where the edge's real parts are wired together. Called by `edge.__main__`."""

from __future__ import annotations

import asyncio
import fcntl
import os
import pwd
import resource
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from edge.core.config import Options
from edge.dataplane.haproxy import HaproxyDataplane
from edge.dataplane.process import Process
from edge.ledger import Ledger
from edge.loop import Loop
from edge.report import Reporter
from edge.settings import EdgeSettings, StopSettings
from kit import logs
from kit.clock import SystemClock
from kit.codec import from_json
from kit.errors import Refusal
from kit.follow import follow_plan
from kit.joining import joined
from kit.machine_identity import MachineIdentity
from kit.wire import RoutePlan

UNPRIVILEGED_USER = "haproxy"
DESCRIPTORS_RESERVED = 1_000  # health checks, listeners, sockets: what is not a connection
_log = logs.get("edge")


async def run_edge(settings: EdgeSettings, stop: asyncio.Event) -> None:
    """Returns when `stop` is set. haproxy goes on."""
    settings.state.mkdir(parents=True, exist_ok=True, mode=0o700)
    clock = SystemClock()
    with _sole_owner(settings.state):
        folder = _haproxy_folder(settings.state)
        ledger = Ledger(settings.state, settings.edge_id)
        ledger.load()
        dataplane = HaproxyDataplane(folder, _options(settings, folder), clock, drain_bound_s=settings.drain_bound)
        identity = MachineIdentity(settings.state / "identity", "edge", settings.edge_id)
        async with joined(identity, settings.controller, settings.join_token, settings.token) as control_plane:
            base = f"/v1/edges/{settings.edge_id}"

            async def post(document: Any) -> Any:
                return await control_plane.post_json(f"{base}/reports", document)

            reporter = Reporter(post, clock)
            loop = Loop(dataplane, ledger, reporter, clock)
            _log.info("edge starts", edge_id=settings.edge_id, controller=settings.controller)
            async with asyncio.TaskGroup() as group:
                reports = group.create_task(reporter.run())
                group.create_task(follow_plan(control_plane, f"{base}/plan", _decode, loop.on_plan, stop))
                await loop.run(stop)
                reports.cancel()
    _log.info("edge ends, haproxy goes on", edge_id=settings.edge_id)


async def stop_all(settings: StopSettings) -> None:
    """Refused while an edge runs: it would start haproxy again."""
    if settings.state.is_dir():
        with _sole_owner(settings.state):
            await Process(_haproxy_folder(settings.state)).stop()


def _decode(document: Any) -> RoutePlan:
    return from_json(RoutePlan, document, where="route plan")


def _haproxy_folder(state: Path) -> Path:
    return state.resolve() / "haproxy"


def _options(settings: EdgeSettings, folder: Path) -> Options:
    user, group = _unprivileged()
    return Options(
        listen_addresses=settings.listen_address,
        runtime_socket=str(folder / "worker.sock"),
        inspect_delay_ms=round(settings.inspect_delay * 1000),
        hard_stop_s=max(1, round(settings.hard_stop)),
        connections_max=min(settings.connections_max, _connections_possible()),
        user=user,
        group=group,
    )


def _unprivileged() -> tuple[str, str]:
    """Debian's package makes a user for haproxy; root is given up for it."""
    if os.geteuid() != 0:
        return "", ""
    try:
        pwd.getpwnam(UNPRIVILEGED_USER)
    except KeyError:
        return "", ""
    return UNPRIVILEGED_USER, UNPRIVILEGED_USER


def _connections_possible() -> int:
    """haproxy refuses to start when two descriptors per connection are more than this process may have."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    return 1 << 20 if hard == resource.RLIM_INFINITY else max(100, (hard - DESCRIPTORS_RESERVED) // 2)


@contextmanager
def _sole_owner(state: Path) -> Iterator[None]:
    """Two edges on one folder would fight over one haproxy."""
    with (state / "lock").open("w") as handle:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise Refusal(
                f"use the state folder {state}",
                "another trueup-edge uses it",
                fix="stop that one first, or name another --state",
                code="settings_invalid",
            ) from error
        yield
