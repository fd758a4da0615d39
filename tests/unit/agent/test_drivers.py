"""Volumes, secrets, cgroups, the user network and process identity, on the real things where these are at hand."""

from __future__ import annotations

import base64
import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyrage
import pytest

from agent.drivers.cgroup import Cgroups
from agent.drivers.network import UserNetwork
from agent.drivers.network.bridge import mac_address, tap_name
from agent.drivers.network.spoofing import Identity as Sender
from agent.drivers.secret import Secrets, node_identity
from agent.drivers.vm import process
from agent.drivers.volume import Volumes
from kit.errors import Refusal, Transient
from kit.sealed_file import Binding, seal_file
from kit.wire import Health, PlannedVolume, Port, SecretRef
from tests.unit.agent.parts import workload

VOLUME = PlannedVolume("o/p/e/a/volume/data", "data", 16 << 20, "present")


async def test_a_volume_is_made_once_grown_and_keeps_its_data(tmp_path: Path) -> None:
    volumes = Volumes(tmp_path)
    assert await volumes.observe(VOLUME.volume_id) == "absent"
    await volumes.ensure(VOLUME)
    [data] = (tmp_path / "volumes").glob("*/data.ext4")
    write_inside(data, b"precious")
    await volumes.ensure(VOLUME)
    await volumes.ensure(replace(VOLUME, size_bytes=32 << 20))
    assert data.stat().st_size == 32 << 20
    await volumes.ensure(VOLUME)  # smaller: nothing is ever cut off
    assert data.stat().st_size == 32 << 20
    assert read_inside(data) == b"precious"
    assert subprocess.run(["/usr/sbin/e2fsck", "-fn", data], capture_output=True).returncode == 0


def write_inside(data: Path, content: bytes) -> None:
    source = data.with_name("source")
    source.write_bytes(content)
    subprocess.run(["/usr/sbin/debugfs", "-w", "-R", f"write {source} file", data], check=True, capture_output=True)


def read_inside(data: Path) -> bytes:
    return subprocess.run(["/usr/sbin/debugfs", "-R", "cat file", data], check=True, capture_output=True).stdout


async def test_a_volume_has_one_writer_as_long_as_its_process_lives(tmp_path: Path) -> None:
    volumes = Volumes(tmp_path)
    await volumes.ensure(VOLUME)
    disk = await volumes.attach(VOLUME.volume_id, "vol0", read_only=False)
    assert disk.lock_fd is not None
    machine = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"], pass_fds=[disk.lock_fd])
    os.close(disk.lock_fd)  # the agent lets go, or dies
    another = Volumes(tmp_path)
    assert await another.observe(VOLUME.volume_id) == "in_use"
    for attempt in (another.attach(VOLUME.volume_id, "vol0", read_only=True), another.remove(VOLUME.volume_id)):
        with pytest.raises(Transient):
            await attempt
    machine.kill()
    machine.wait()
    assert await another.observe(VOLUME.volume_id) == "available"
    await another.remove(VOLUME.volume_id)
    await another.remove(VOLUME.volume_id)
    assert list((tmp_path / "volumes").iterdir()) == []
    assert not (tmp_path / "trash").exists()


async def test_a_layer_is_new_at_each_start(tmp_path: Path) -> None:
    volumes = Volumes(tmp_path)
    layer = await volumes.ensure_layer("i-1", 16 << 20)
    layer.path.write_bytes(b"used")
    again = await volumes.ensure_layer("i-1", 16 << 20)
    assert again.path == layer.path
    assert again.path.stat().st_size == 16 << 20
    await volumes.remove_layer("i-1")
    assert not layer.path.exists()


class Vault:
    """What the controller answers."""

    def __init__(self, identity: pyrage.x25519.Identity) -> None:
        self.recipient = identity.to_public()
        self.version = "v-1"
        self.asked = 0
        self.down = False

    async def get_json(self, path: str) -> Any:
        assert path == "/v1/nodes/node-a/instances/i-1/secret?form=hpke-v1"
        self.asked += 1
        if self.down:
            raise Transient("GET", "away")
        binding = Binding("node-a", "i-1", "a/b/prod/site/app/site", self.version)
        sealed = seal_file(f"KEY={self.version}".encode(), str(self.recipient), binding)
        return {"version_id": self.version, "sealed": base64.b64encode(sealed).decode(), "app": binding.app}


async def test_a_secret_is_opened_in_memory_and_kept_sealed(tmp_path: Path) -> None:
    identity = node_identity(tmp_path / "node.agekey")
    vault = Vault(identity)
    secrets = Secrets(vault.get_json, "node-a", identity, tmp_path / "sealed")
    assert await secrets.ensure("i-1", SecretRef("v-1")) == b"KEY=v-1"
    vault.down = True
    restarted = Secrets(vault.get_json, "node-a", node_identity(tmp_path / "node.agekey"), tmp_path / "sealed")
    assert await restarted.ensure("i-1", SecretRef("v-1")) == b"KEY=v-1", "without the controller"
    assert all(b"KEY=" not in file.read_bytes() for file in tmp_path.rglob("*") if file.is_file())
    with pytest.raises(Transient) as caught:
        await restarted.ensure("i-1", SecretRef("v-2"))
    assert caught.value.code == "secrets_missing"
    vault.down, vault.version = False, "v-2"
    assert await restarted.ensure("i-1", SecretRef("v-2")) == b"KEY=v-2"
    await restarted.remove("i-1")
    assert list((tmp_path / "sealed").iterdir()) == []


async def test_a_file_of_the_form_that_was_bound_to_nothing_is_not_used(tmp_path: Path) -> None:
    """Kept by an earlier agent it is fetched anew; a controller that answers with it is not believed."""
    identity = node_identity(tmp_path / "node.agekey")
    vault, kept = Vault(identity), tmp_path / "sealed"
    secrets = Secrets(vault.get_json, "node-a", identity, kept)
    await secrets.ensure("i-1", SecretRef("v-1"))
    former = base64.b64encode(pyrage.encrypt(b"KEY=elsewhere", [vault.recipient])).decode()
    (file,) = kept.iterdir()
    for document in ({"version_id": "v-1", "sealed": former}, {"version_id": "v-1", "sealed": former, "app": "a"}):
        file.write_text(json.dumps(document))
        assert await secrets.ensure("i-1", SecretRef("v-1")) == b"KEY=v-1"
    assert vault.asked == 3
    file.unlink()

    async def earlier(path: str) -> Any:
        return {"version_id": "v-1", "sealed": former, "app": "a"}

    with pytest.raises(Transient, match="not of the form hpke-v1") as caught:
        await Secrets(earlier, "node-a", identity, kept).ensure("i-1", SecretRef("v-1"))
    assert caught.value.code == "secrets_injection_failed"
    assert list(kept.iterdir()) == []


async def test_a_secret_of_another_version_or_for_another_node_is_not_used(tmp_path: Path) -> None:
    identity, other = pyrage.x25519.Identity.generate(), pyrage.x25519.Identity.generate()
    with pytest.raises(Transient) as caught:
        await Secrets(Vault(identity).get_json, "node-a", identity, tmp_path).ensure("i-1", SecretRef("v-9"))
    assert caught.value.code == "secrets_missing"
    with pytest.raises(Transient) as caught:
        await Secrets(Vault(other).get_json, "node-a", identity, tmp_path).ensure("i-1", SecretRef("v-1"))
    assert caught.value.code == "secrets_injection_failed"
    assert list(tmp_path.iterdir()) == []


def test_the_nodes_identity_is_private_and_stays(tmp_path: Path) -> None:
    file = tmp_path / "node.agekey"
    assert str(node_identity(file)) == str(node_identity(file))
    assert file.stat().st_mode & 0o777 == 0o600
    file.write_text("torn")
    with pytest.raises(Refusal):
        node_identity(file)


async def test_a_cgroup_bounds_and_is_removed() -> None:
    groups = Cgroups(f"t{os.getpid()}", overhead_bytes=64 << 20)
    if groups.version == "none":
        pytest.skip("no cgroups here")
    try:
        files = await groups.ensure("i-1", 128 << 20, 0.5)
        await groups.ensure("i-1", 64 << 20, 2.0)  # again, smaller
        folder = files[0].parent
        limit = folder / ("memory.max" if groups.version == "v2" else "memory.limit_in_bytes")
        assert int(limit.read_text()) == 128 << 20
        assert await groups.observe("i-1") == 0
        await groups.remove("i-1")
        assert not folder.exists()
        await groups.remove("i-1")
    finally:
        await groups.tear_down()
    assert not files[0].parent.parent.exists()


async def test_what_is_above_its_bound_is_killed_and_counted() -> None:
    groups = Cgroups(f"o{os.getpid()}", overhead_bytes=0)
    if groups.version == "none":
        pytest.skip("no cgroups here")
    try:
        files = await groups.ensure("i-1", 32 << 20, 1.0)
        hungry = "import sys; b'x' * (200 << 20); sys.exit(0)"
        enter = 'for f in "$@"; do echo $$ >$f; done; exec ' + f'{sys.executable} -c "{hungry}"'
        ended = subprocess.run(["/bin/sh", "-c", enter, "sh", *map(str, files)], capture_output=True)
        assert ended.returncode == -9
        assert await groups.observe("i-1") > 0
    finally:
        await groups.tear_down()


async def test_forwarded_ports_stay_the_same(tmp_path: Path) -> None:
    network = UserNetwork(tmp_path, "fd00:7475:a::/64", "127.0.0.1")
    await network.prepare()
    task = workload(ports=(Port("a", 80), Port("b", 81)), health=Health("tcp", 82), address="fd00:7475:a::5")
    link = await network.ensure("i-1", task)
    assert [endpoint.port for endpoint in link.endpoints] == [80, 81, 82]
    assert len({endpoint.reach_port for endpoint in link.endpoints}) == 3
    assert {endpoint.address for endpoint in link.endpoints} == {"127.0.0.1"}
    again = UserNetwork(tmp_path, "fd00:7475:a::/64", "127.0.0.1")
    assert (await again.ensure("i-1", task)) == link
    await again.remove("i-1")
    assert await again.observe() == ()


def test_names_of_interfaces_are_short_and_addresses_local() -> None:
    tap = tap_name("an-instance-with-a-name-that-is-far-too-long-for-an-interface")
    assert len(tap) < 16
    mac = mac_address("i-1")
    assert mac.startswith("02:")
    assert Sender(tap, "02:50:52:87:d4:6a", "fd00::5").link_local == "fe80::50:52ff:fe87:d46a"


def test_a_process_is_known_by_more_than_its_number() -> None:
    child = subprocess.Popen(["sleep", "60"])
    identity = process.identity_of(child.pid)
    assert identity is not None
    assert process.lives(identity)
    assert not process.lives(replace(identity, start_ticks=identity.start_ticks + 1)), "a reused number"
    assert not process.lives(replace(identity, host_boot_id="earlier")), "an earlier boot"
    assert process.open_pidfd(replace(identity, start_ticks=1)) is None
    process.kill(identity)
    assert os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT) is not None
    assert not process.lives(identity), "dead, and only not buried yet"
    child.wait()
    process.kill(identity)
