"""On which node, and at which address. Called by `schedule`; it carries what this pass has placed already.

Before all, the quotas (`quota`). Hard: the node is active and on duty; the memory of everything that is not stopped
there, overhead included, stays within the node's; a volume's home; one writer per volume, and none beside it; nobody at
all while a restore fills it. Soft, in this order: away from nodes where the group broke; spread over nodes those that
will stay, then all, so that a rollout ends as spread as it began; least memory used. A tie goes to the lowest node id,
so that the same snapshot gives the same placement.
"""

from __future__ import annotations

import ipaddress
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from reconciler.core.scheduler.groups import Group
from reconciler.core.scheduler.limits import FIRST_HOST
from reconciler.core.scheduler.quota import QuotaRoom
from reconciler.core.scheduler.snapshot import Instance, Node, Snapshot

_MEBIBYTE = 1 << 20


@dataclass(frozen=True, slots=True)
class Place:
    """`new_homes`: volumes that get their home by this."""

    node_id: str
    address: str
    overhead_bytes: int
    new_homes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class NoPlace:
    """`reason`: one of the unschedulable reasons."""

    reason: str
    message: str


class Placement:
    """What the nodes hold; grows as instances are placed. One per pass."""

    def __init__(self, snapshot: Snapshot) -> None:
        live = [each for each in snapshot.instances if each.live]
        self._snapshot = snapshot
        self._homes = dict(snapshot.homes)
        self._used = Counter[str]()
        self._members = Counter[tuple[str, str, str]]()
        self._placed = Counter[tuple[str, str, str]]()
        for instance in live:
            self._used[instance.node_id] += instance.workload.memory_bytes + self._overhead_bytes(instance.node_id)
            self._members[instance.node_id, instance.app, instance.process] += 1
        self._addresses = {each.workload.address for each in snapshot.instances}
        self._mounted = {(m.volume_id, m.read_only, each.instance_id) for each in live for m in each.mounts}
        self._given = 0
        self.quota = QuotaRoom(snapshot)

    def place(self, group: Group, giving_way: Iterable[Instance] = ()) -> Place | NoPlace:
        """Finds a place and takes it. `giving_way`: lost ones that are stopped when this one is placed; they do not
        count for the quota."""
        node = self._find(group, leaving=(), giving_way=tuple(giving_way))
        if isinstance(node, NoPlace):
            return node
        address = self._address(node)
        if not address:
            return NoPlace("address_exhausted", f"node {node.node_id} has no free address in {node.subnet}")
        volumes = [mount.volume_id for mount in group.target.workload.mounts]
        new_homes = tuple(volume_id for volume_id in volumes if not self._homes.get(volume_id))
        self._take(group, node, address, volumes)
        return Place(node.node_id, address, node.overhead_bytes, new_homes)

    def could_place(self, group: Group, leaving: Iterable[Instance]) -> NoPlace | None:
        """None when there is a place once `leaving` are gone. Takes nothing."""
        node = self._find(group, leaving=tuple(leaving), giving_way=tuple(leaving))
        return node if isinstance(node, NoPlace) else None

    def could_move(self, group: Group) -> NoPlace | None:
        """None when there is a place for another one beside those that have to leave their node; the quota may count
        one of them as gone. Takes nothing."""
        node = self._find(group, leaving=(), giving_way=self.quota.going(group))
        return node if isinstance(node, NoPlace) else None

    def _find(self, group: Group, *, leaving: tuple[Instance, ...], giving_way: tuple[Instance, ...]) -> Node | NoPlace:
        shortage = self.quota.shortage(group, giving_way)
        if shortage is not None:
            return NoPlace(shortage.reason, shortage.message)
        nodes = self._snapshot.nodes.values()
        active = [node for node in nodes if node.takes_more]
        refusal = self._volume_refusal(group, leaving)
        if refusal is not None:
            return refusal
        if not active:
            off_duty = "; ".join(node.duty_text for node in nodes if node.duty != "active")
            return NoPlace("no_nodes_active", f"no node is active{': ' if off_duty else ''}{off_duty}")
        eligible = self._at_home(group, active)
        if isinstance(eligible, NoPlace):
            return eligible
        wanted = group.target.workload.memory_bytes
        free = {node.node_id: self._free(node, leaving) for node in eligible}
        fitting = [node for node in eligible if free[node.node_id] >= wanted + node.overhead_bytes]
        if not fitting:
            return _no_memory(wanted, max(eligible, key=lambda node: free[node.node_id] - node.overhead_bytes), free)
        trouble = Counter(each.node_id for each in (*group.broken, *_gone_wrong(group)))
        return min(fitting, key=lambda node: self._rank(group, node, trouble))

    def _rank(self, group: Group, node: Node, trouble: Counter[str]) -> tuple[int, int, int, int, str]:
        key = (node.node_id, group.app.app_id, group.process)
        staying = sum(each.node_id == node.node_id for each in group.current) + self._placed[key]
        return trouble[node.node_id], staying, self._members[key], self._used[node.node_id], node.node_id

    def _free(self, node: Node, leaving: tuple[Instance, ...]) -> int:
        going = [each for each in leaving if each.node_id == node.node_id and each.live]
        freed = sum(each.workload.memory_bytes + node.overhead_bytes for each in going)
        return node.memory_bytes - self._used[node.node_id] + freed

    def _volume_refusal(self, group: Group, leaving: tuple[Instance, ...]) -> NoPlace | None:
        gone = {each.instance_id for each in leaving}
        for mount in group.target.workload.mounts:
            if mount.volume_id not in self._homes:
                return NoPlace("volume_missing", f"volume {mount.volume_id} is not declared")
            if restore := self._snapshot.restoring.get(mount.volume_id):
                return NoPlace("volume_in_use", f"volume {mount.volume_id} is being filled by restore {restore}")
            holders = [(read_only, owner) for volume, read_only, owner in self._mounted if volume == mount.volume_id]
            clash = sorted(owner for read_only, owner in holders if not (mount.read_only and read_only))
            clash = [owner for owner in clash if owner not in gone]
            if clash:
                return NoPlace("volume_in_use", f"volume {mount.volume_id} is mounted by instance {clash[0]}")
        return None

    def _at_home(self, group: Group, active: list[Node]) -> list[Node] | NoPlace:
        """The nodes that the volumes allow."""
        volumes = [mount.volume_id for mount in group.target.workload.mounts]
        homes = {self._homes[volume_id] for volume_id in volumes} - {""}
        if len(homes) > 1:
            return NoPlace(
                "volume_locality_no_node", f"its volumes live on different nodes: {', '.join(sorted(homes))}"
            )
        allowed = [node for node in active if not homes or node.node_id in homes]
        if not allowed:
            return self._home_closed(next(iter(homes)))
        unplaced = [volume_id for volume_id in volumes if not self._homes[volume_id]]
        tombs = self._snapshot.tombstones
        fresh = [node for node in allowed if not any((volume_id, node.node_id) in tombs for volume_id in unplaced)]
        if not fresh:
            return NoPlace(
                "volume_locality_no_node", "a deleted volume of the same name is still on every possible node"
            )
        return fresh

    def _home_closed(self, node_id: str) -> NoPlace:
        if self._snapshot.offline(node_id) or not self._snapshot.off_duty(node_id):
            return NoPlace("volume_home_node_offline", f"node {node_id}, the home of its volume, is offline")
        why = f"its volume lives on a node that takes nothing new: {self._snapshot.off_duty(node_id)}"
        return NoPlace("volume_locality_no_node", why)

    def _overhead_bytes(self, node_id: str) -> int:
        node = self._snapshot.nodes.get(node_id)
        return node.overhead_bytes if node is not None else 0

    def _address(self, node: Node) -> str:
        """The log's position counts on with every allocation, so an address comes again only after all others; a subnet
        is taken round from its first free host."""
        subnet = ipaddress.IPv6Network(node.subnet)
        hosts = subnet.num_addresses - FIRST_HOST
        for step in range(min(hosts, len(self._addresses) + 1)):
            offset = FIRST_HOST + (self._snapshot.event_id + self._given + step) % hosts
            address = str(subnet[offset])
            if address not in self._addresses:
                return address
        return ""

    def _take(self, group: Group, node: Node, address: str, volumes: list[str]) -> None:
        self._given += 1
        self.quota.take(group, node.overhead_bytes)
        self._used[node.node_id] += group.target.workload.memory_bytes + node.overhead_bytes
        self._members[node.node_id, group.app.app_id, group.process] += 1
        self._placed[node.node_id, group.app.app_id, group.process] += 1
        self._addresses.add(address)
        for volume_id in volumes:
            self._homes[volume_id] = node.node_id
        owner = f"a new one of {group.app.identity.short} {group.process}"
        self._mounted |= {(m.volume_id, m.read_only, owner) for m in group.target.workload.mounts}


def _gone_wrong(group: Group) -> tuple[Instance, ...]:
    """Broken ones that are on their way out."""
    return tuple(each for each in group.leaving if each.spec_hash == group.target.spec_hash and each.status == "failed")


def _no_memory(wanted_bytes: int, best: Node, free: Mapping[str, int]) -> NoPlace:
    own, overhead = wanted_bytes // _MEBIBYTE, best.overhead_bytes // _MEBIBYTE
    message = (
        f"it needs {own + overhead} MiB ({own} and {overhead} for the machine); "
        f"the most that is free is {max(free[best.node_id], 0) // _MEBIBYTE} MiB on {best.node_id}"
    )
    return NoPlace("no_capacity_memory", message)
