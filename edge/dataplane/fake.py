"""A dataplane in memory with the promises of the real one. Used by tests of the loop and by simulations."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from edge.core.table import EMPTY, RouteTable
from edge.dataplane.contract import Serving
from kit.errors import Transient


@dataclass
class FakeDisk:
    """What outlives the edge program: the running process, its files, open connections by server name."""

    applied: RouteTable | None = None
    running: bool = False
    draining: set[str] = field(default_factory=set)
    open: dict[str, int] = field(default_factory=dict)
    taken_ports: dict[int, str] = field(default_factory=dict)
    reloads: int = 0
    failures: int = 0  # so many applies fail


class FakeDataplane:
    def __init__(self, disk: FakeDisk | None = None) -> None:
        self.disk = disk or FakeDisk()
        self.generation = 0

    async def apply(self, table: RouteTable, generation: int) -> None:
        if self.disk.failures:
            self.disk.failures -= 1
            raise Transient("apply", "a planted failure", code="dataplane_unreachable")
        blocked = await self.blocked_ports(table.listeners)
        if blocked:
            raise Transient("apply", "; ".join(blocked.values()), code="dataplane_reload_failed")
        before = self.disk.applied or EMPTY
        if not self.disk.running or before.listeners != table.listeners:
            self.disk.reloads += self.disk.running
            self.disk.draining.clear()
        else:
            self.disk.draining |= _servers(before)
        self.disk.draining -= _servers(table)
        self.disk.applied, self.disk.running, self.generation = table, True, generation

    async def observe(self) -> Serving | None:
        if not self.disk.running or self.disk.applied is None:
            return None
        table = self.disk.applied
        return Serving(self.generation, table.listeners, table.served, frozenset(self.disk.draining))

    async def blocked_ports(self, ports: Iterable[int]) -> Mapping[int, str]:
        return {port: self.disk.taken_ports[port] for port in sorted(ports) if port in self.disk.taken_ports}

    async def tend(self) -> None:
        if not self.disk.running and self.disk.applied is not None:
            self.disk.running = True
            self.disk.draining.clear()
        self.disk.draining = {name for name in self.disk.draining if self.disk.open.get(name)}

    async def stop(self) -> None:
        self.disk.running = False


def _servers(table: RouteTable) -> set[str]:
    return {server.name for route in table.routes for server in route.servers}
