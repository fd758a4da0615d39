"""One bridge for the node, one tap for each machine. Used by `agent.starting` and `agent.loop`; needs root.

Works inside whatever network namespace the agent runs in. The bridge carries the node's gateway address (subnet::1) and
the host routes IPv6 from there; what connects the nodes' subnets to each other is the operator's. Interface names are
digests, so they are short, and the same after a restart: everything here may be repeated.
"""

from __future__ import annotations

import ipaddress
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from pyroute2 import AsyncIPRoute
from pyroute2.netlink.exceptions import NetlinkError

from agent.drivers.network.spoofing import Guard, Identity
from agent.ports import Link, Reach, ports_of
from kit.canonical import digest
from kit.errors import Transient
from kit.wire import Endpoint, Workload

EEXIST, ENODEV = 17, 19
ADDRESS_WITHOUT_DAD = 0x02  # IFA_F_NODAD: usable at once
SETTINGS = Path("/proc/sys/net/ipv6/conf")


class BridgeNetwork:
    """`subnet`: the node's IPv6 /64. `dns`: servers for the guests, separated by blanks, or "" for none."""

    reach: Reach = "direct"

    def __init__(self, node_key: str, subnet: str, dns: str = "") -> None:
        self._subnet = ipaddress.IPv6Network(subnet)
        self._gateway = str(self._subnet.network_address + 1)
        self._dns = dns
        self.bridge = f"tub-{node_key}"
        self._guard = Guard(f"trueup_{node_key}")

    async def prepare(self) -> None:
        async with _netlink("set up the node's bridge") as netlink:
            bridge = await _index(netlink, self.bridge)
            if bridge is None:
                await netlink.link("add", ifname=self.bridge, kind="bridge", br_stp_state=0, br_mcast_snooping=0)
                bridge = await _index(netlink, self.bridge)
            await self._give_address(netlink, bridge)
            # A bridge without a fixed MAC takes the lowest one of its ports: when that port goes, every other guest
            # loses its gateway until it asks anew, half a minute later.
            await netlink.link("set", index=bridge, address=mac_address(self.bridge), state="up")
        (SETTINGS / "all" / "forwarding").write_text("1")
        await self._guard.prepare()

    async def ensure(self, instance_id: str, workload: Workload) -> Link:
        tap, mac = tap_name(instance_id), mac_address(instance_id)
        async with _netlink(f"set up the network of {instance_id}") as netlink:
            bridge = await _index(netlink, self.bridge)
            index = await _index(netlink, tap)
            if index is None:
                await netlink.link("add", ifname=tap, kind="tuntap", mode="tap")
                index = await _index(netlink, tap)
            (SETTINGS / tap / "disable_ipv6").write_text("1")
            await netlink.link("set", index=index, master=bridge, state="up")
        await self._guard.admit(Identity(tap, mac, workload.address))
        endpoints = tuple(Endpoint(port.port, workload.address, port.port) for port in ports_of(workload))
        address = f"{workload.address}/{self._subnet.prefixlen}"
        return Link(mac, address, self._gateway, endpoints, tap=tap, dns=self._dns)

    async def observe(self) -> tuple[str, ...]:
        async with _netlink("look at the node's taps") as netlink:
            bridge = await _index(netlink, self.bridge)
            if bridge is None:
                return ()
            return tuple([link.get("ifname") async for link in await netlink.get_links(master=bridge)])

    async def remove(self, instance_id: str) -> None:
        await self._remove_tap(tap_name(instance_id))

    async def tear_down(self) -> None:
        for tap in await self.observe():
            await self._remove_tap(tap)
        async with _netlink("remove the node's bridge") as netlink:
            await _delete(netlink, self.bridge)
        await self._guard.tear_down()

    async def _remove_tap(self, tap: str) -> None:
        async with _netlink(f"remove {tap}") as netlink:
            await _delete(netlink, tap)
        await self._guard.expel(tap)

    async def _give_address(self, netlink: Any, bridge: int | None) -> None:
        try:
            await netlink.addr(
                "add",
                index=bridge,
                address=self._gateway,
                prefixlen=self._subnet.prefixlen,
                flags=ADDRESS_WITHOUT_DAD,
            )
        except NetlinkError as error:
            if error.code != EEXIST:
                raise


def tap_name(instance_id: str) -> str:
    return f"tut-{digest(instance_id, length=10)}"


def mac_address(instance_id: str) -> str:
    """Locally administered, unicast."""
    digits = digest(instance_id, length=10)
    return "02:" + ":".join(digits[i : i + 2] for i in range(0, 10, 2))


@asynccontextmanager
async def _netlink(attempted: str) -> AsyncIterator[Any]:
    try:
        async with AsyncIPRoute() as netlink:
            yield netlink
    except (NetlinkError, OSError) as error:
        raise Transient(attempted, str(error), fix="see `ip link`", code="network_setup_failed") from error


async def _index(netlink: Any, name: str) -> int | None:
    found = await netlink.link_lookup(ifname=name)
    return int(found[0]) if found else None


async def _delete(netlink: Any, name: str) -> None:
    index = await _index(netlink, name)
    try:
        if index is not None:
            await netlink.link("del", index=index)
    except NetlinkError as error:
        if error.code != ENODEV:
            raise
