"""QEMU's user network: no root, no bridge. Used by `agent.starting` where the agent may not make interfaces.

Each machine has a network of its own behind qemu; its ports are reached through ports of the node's address, which are
what is reported. qemu forwards over IPv4 only, so the guest gets an IPv4 address besides its planned one, which nobody
else can reach.

    STATE/links/KEY.json   [[guest port, node port], ...]: a restarted machine keeps its ways in
"""

from __future__ import annotations

import ipaddress
import json
import socket
from pathlib import Path

from agent.ports import Link, Reach, ports_of
from kit.canonical import digest
from kit.errors import Transient
from kit.files import write_json
from kit.wire import Endpoint, Workload

GUEST_ADDRESS = "10.0.2.15/24"
GUEST_GATEWAY = "10.0.2.2"


class UserNetwork:
    """`node_address`: the IPv4 address of this node where the edge reaches it."""

    reach: Reach = "forwarded"

    def __init__(self, state: Path, subnet: str, node_address: str, dns: str = "") -> None:
        self._links = state / "links"
        self._subnet = ipaddress.IPv6Network(subnet)
        self._node_address = str(ipaddress.IPv4Address(node_address))
        self._dns = dns

    async def prepare(self) -> None:
        self._links.mkdir(parents=True, exist_ok=True)

    async def ensure(self, instance_id: str, workload: Workload) -> Link:
        wanted = [port.port for port in ports_of(workload)]
        known = self._read(instance_id)
        if sorted(known) != sorted(wanted):
            known = dict(zip(wanted, _free_ports(self._node_address, len(wanted)), strict=True))
            write_json(self._file(instance_id), sorted(known.items()))
        endpoints = tuple(Endpoint(port, self._node_address, known[port]) for port in wanted)
        return Link(
            mac="02:00:00:00:00:02",  # nobody else is in this network
            address=f"{workload.address}/{self._subnet.prefixlen}",
            gateway=str(self._subnet.network_address + 2),
            endpoints=endpoints,
            dns=self._dns,
            address4=GUEST_ADDRESS,
            gateway4=GUEST_GATEWAY,
            forwards=endpoints,
        )

    async def observe(self) -> tuple[str, ...]:
        return tuple(sorted(path.stem for path in self._links.glob("*.json")))

    async def remove(self, instance_id: str) -> None:
        self._file(instance_id).unlink(missing_ok=True)

    async def tear_down(self) -> None:
        for file in self._links.glob("*.json"):
            file.unlink(missing_ok=True)

    def _read(self, instance_id: str) -> dict[int, int]:
        try:
            return {int(port): int(reach) for port, reach in json.loads(self._file(instance_id).read_bytes())}
        except (FileNotFoundError, ValueError, TypeError):
            return {}

    def _file(self, instance_id: str) -> Path:
        return self._links / f"{digest(instance_id, length=12)}.json"


def _free_ports(address: str, count: int) -> list[int]:
    """All are held until all are found, so that they differ."""
    holders = [socket.socket() for _ in range(count)]
    try:
        for holder in holders:
            holder.bind((address, 0))
        return [holder.getsockname()[1] for holder in holders]
    except OSError as error:
        why = f"no port of {address} can be bound: {error}"
        raise Transient("forward ports", why, code="network_setup_failed") from error
    finally:
        for holder in holders:
            holder.close()
