"""The node's bridge keeps its MAC address whatever machines come and go: it is the gateway that guests remember."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator

import pytest

from agent.drivers.network.bridge import mac_address

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="network namespaces need root")

COME_AND_GO = """
import asyncio, json, pathlib
from agent.drivers.network.bridge import BridgeNetwork
from kit.wire import Workload

def mac(bridge):
    return pathlib.Path(f"/sys/class/net/{bridge}/address").read_text().strip()

async def main():
    network, seen = BridgeNetwork("test", "fd00:7475:1::/64"), []
    await network.prepare()
    names = [f"i-{number}" for number in range(6)]
    for number, name in enumerate(names):
        address = f"fd00:7475:1::{number + 16:x}"
        await network.ensure(name, Workload("a", "e", "p", "r", "i", 1, 1.0, 1, address))
        seen.append(mac(network.bridge))
    for name in names:
        await network.remove(name)
        seen.append(mac(network.bridge))
    await network.prepare()
    seen.append(mac(network.bridge))
    await network.tear_down()
    print(json.dumps([network.bridge, seen]))

asyncio.run(main())
"""


@pytest.fixture
def namespace() -> Iterator[str]:
    name = f"tt-{os.getpid()}"
    subprocess.run(["ip", "netns", "add", name], check=True)
    yield name
    subprocess.run(["ip", "netns", "del", name], check=True)


def test_the_bridge_keeps_its_mac_when_machines_come_and_go(namespace: str) -> None:
    # `ip netns exec` shows the namespace's own /sys, which is where the address is read.
    command = ["ip", "netns", "exec", namespace, sys.executable, "-c", COME_AND_GO]
    answer = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert answer.returncode == 0, answer.stderr
    bridge, seen = json.loads(answer.stdout)
    assert set(seen) == {mac_address(bridge)}
