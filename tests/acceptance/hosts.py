"""Hosts on one machine: network namespaces joined by a bridge, or plain loopback when not root.

Layout as root (PREFIX names the run; everything goes when the namespaces go):

    namespace PREFIX        the controller, the registry, the client; holds the bridge "lan"
    namespace PREFIX-NAME   one per host, with one end of a veth pair whose other end is on the bridge

Programs enter a namespace with nsenter, which leaves the mounts (and so the cgroups) alone.
"""

from __future__ import annotations

import subprocess
from dataclasses import dataclass, field

UNDERLAY = "fd00:7475:0:0"
CENTRE = f"{UNDERLAY}::1"
UNDERLAY_V4 = "192.0.2"  # documentation addresses; references to images know no IPv6 address
CENTRE_V4 = f"{UNDERLAY_V4}.1"


class HostsError(Exception):
    """A command that prepares the namespaces failed."""


def run(*command: str) -> str:
    answer = subprocess.run(command, capture_output=True, text=True, timeout=20)
    if answer.returncode != 0:
        raise HostsError(f"{' '.join(command)}: {answer.stderr.strip() or answer.returncode}")
    return answer.stdout


@dataclass
class Host:
    """`address`: its underlay address. `subnet`: what its guests live in; empty for a host without guests."""

    name: str
    namespace: str
    address: str
    subnet: str = ""

    def enter(self) -> list[str]:
        """Put before a command, it runs there."""
        return ["nsenter", f"--net=/run/netns/{self.namespace}"] if self.namespace else []


@dataclass
class Hosts:
    prefix: str
    made: list[str] = field(default_factory=list)
    members: list[Host] = field(default_factory=list)

    def centre(self) -> Host:
        return Host("centre", self.prefix, CENTRE)

    def open(self) -> None:
        """Makes the central namespace. The caller then lives in it: see `tests.acceptance.demo`."""
        self._namespace(self.prefix)
        self._inside(self.prefix, "ip", "link", "add", "lan", "type", "bridge")
        self._inside(self.prefix, "ip", "-6", "addr", "add", f"{CENTRE}/64", "dev", "lan", "nodad")
        self._inside(self.prefix, "ip", "addr", "add", f"{CENTRE_V4}/24", "dev", "lan")
        self._inside(self.prefix, "ip", "link", "set", "lan", "up")

    def add(self, name: str, number: int, *, guests: bool) -> Host:
        namespace = f"{self.prefix}-{name}"
        host = Host(name, namespace, f"{UNDERLAY}::{number:x}", f"fd00:7475:{number:x}::/64" if guests else "")
        self._namespace(namespace)
        wire = f"w-{name}"
        link = ("ip", "link", "add", wire, "type", "veth", "peer", "name", "eth0", "netns", namespace)
        self._inside(self.prefix, *link)
        self._inside(self.prefix, "ip", "link", "set", wire, "master", "lan", "up")
        self._inside(namespace, "ip", "-6", "addr", "add", f"{host.address}/64", "dev", "eth0", "nodad")
        self._inside(namespace, "ip", "addr", "add", f"{UNDERLAY_V4}.{number}/24", "dev", "eth0")
        self._inside(namespace, "ip", "link", "set", "eth0", "up")
        if guests:
            self._inside(namespace, "sh", "-c", "echo 1 >/proc/sys/net/ipv6/conf/all/forwarding")
            self._inside(self.prefix, "ip", "-6", "route", "add", host.subnet, "via", host.address)
        self._route_to_guests(host)
        return host

    def _route_to_guests(self, host: Host) -> None:
        """Each host reaches the others' guests directly."""
        for other in self.members:
            for here, there in ((host, other), (other, host)):
                if there.subnet:
                    self._inside(here.namespace, "ip", "-6", "route", "add", there.subnet, "via", there.address)
        self.members.append(host)

    def close(self) -> None:
        for namespace in reversed(self.made):
            subprocess.run(["ip", "netns", "del", namespace], capture_output=True, timeout=20)

    def _namespace(self, name: str) -> None:
        run("ip", "netns", "add", name)
        self.made.append(name)
        self._inside(name, "ip", "link", "set", "lo", "up")

    def _inside(self, namespace: str, *command: str) -> str:
        return run("nsenter", f"--net=/run/netns/{namespace}", *command)
