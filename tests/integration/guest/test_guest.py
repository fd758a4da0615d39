"""Real boots: the guest's side of CONTRACT.md, from HELLO to the end of qemu."""

from __future__ import annotations

import asyncio
import json
import ssl
import subprocess
from pathlib import Path

import pytest

from agent.ports import RootImage
from tests.integration.guest.conftest import HOSTNAME, Identity, StartMachine, request
from tests.integration.guest.machine import archive, empty_disk

pytestmark = pytest.mark.guest

SECRET_PATH = "/run/secrets/platform.env"
CHECKS = f"""
exec >/data/report 2>&1
mkdir -p /data/notes && echo survivor >/data/notes/first
echo uid=$(id -u) gid=$(id -g) pwd=$(pwd) hostname=$(hostname) odd=$ODD
ls -l {SECRET_PATH}
cat {SECRET_PATH}; echo
while read -r what where type rest; do echo "mount $where $type"; done </proc/mounts
cat /etc/hosts /etc/resolv.conf
ls /run/trueup /init /modules
(sleep 0.1 & exec true) &
(( sleep 0.2 & ) & )
sleep 1
for stat in /proc/[0-9]*/stat; do read -r line <$stat && case $line in *") Z "*) echo "zombie $line" ;; esac; done
trap 'echo stopped; exit 7' TERM
echo ready >&3
while :; do sleep 0.1; done
"""


def read_from(disk: Path, path: str) -> str:
    done = subprocess.run(["debugfs", "-R", f"cat {path}", str(disk)], capture_output=True, text=True, check=True)
    return done.stdout


def is_clean(disk: Path) -> bool:
    """Unmounted in order: nothing to recover from the journal."""
    header = subprocess.run(["dumpe2fs", "-h", str(disk)], capture_output=True, text=True, check=True).stdout
    assert "Filesystem state:         clean" in header
    return "needs_recovery" not in header


async def test_a_site_serves_https_and_stops_gracefully(
    start_machine: StartMachine, root_images: dict[str, RootImage], identity: Identity, free_port: int
) -> None:
    image = root_images["site-v1"]
    machine = await start_machine(image, forward=free_port)
    await machine.expect("HELLO 1")
    secret = {"secret": identity.secret, "secret.path": SECRET_PATH.encode(), "secret.mode": b"400"}
    settings = {"user": image.user, "stop_signal": image.stop_signal, "hostname": "i-0001"}
    machine.boot(archive(list(image.argv), settings, secret))
    await machine.expect("STARTED")

    status, body = await request(free_port, identity.trust, "GET", "/")
    page = json.loads(body)
    assert status == 200
    assert page == {"app": "site", "version": "v1", "greeting": 'hello "world"=', "instance": "i-0001"}
    assert await request(free_port, identity.trust, "GET", "/healthz") == (200, b"ok\n")

    # The agent restarts: another connection, and a BOOT that comes too late with a line inside that must not be obeyed.
    await machine.disconnect()
    await machine.connect()
    machine.boot(b"x\nSTOP 0\n")
    machine.send(b"nonsense\nPING\n")
    await machine.expect("PONG")
    await machine.expect("STARTED")

    machine.send(b"STOP 10\n")
    await machine.expect("EXIT 0")
    assert await machine.end() == 0
    assert "trueup: EXIT 0" in machine.console()
    layer = machine.folder / "layer.ext4"
    assert is_clean(layer)
    assert identity.key_pem[60:120] not in layer.read_bytes()


async def test_what_a_process_finds_and_what_it_leaves(
    start_machine: StartMachine, root_images: dict[str, RootImage], identity: Identity, free_port: int, tmp_path: Path
) -> None:
    volume = empty_disk(tmp_path / "volume.ext4", 16)
    image = root_images["notes"]
    machine = await start_machine(image, volumes=(volume,))
    await machine.expect("HELLO 1")
    files = {
        "secret": b"CANARY=abc",
        "secret.path": SECRET_PATH.encode(),
        "secret.mode": b"440",
        "mounts": b"vol0 /data rw\n",
        "environ": b"PATH=/bin\0ODD=a 'b\" $(id) `id`\0",
    }
    script = ["/bin/sh", "-c", f"exec 3>/dev/stderr; {CHECKS}"]
    whole = archive(script, {"user": "1000:1000", "workdir": "/srv/new", "dns": "fec0::3"}, files)

    # An agent that dies in the middle of its archive: the guest asks the next one again.
    machine.send(b"BOOT %d\n" % len(whole) + whole[:700])
    await asyncio.sleep(0.3)
    await machine.disconnect()
    await asyncio.sleep(0.5)  # a restart takes as long; without it the guest notices only by its stall limit of 5 s
    await machine.connect()
    await machine.expect("HELLO 1")
    machine.boot(whole)
    await machine.expect("STARTED")
    async with asyncio.timeout(30):
        while "ready" not in machine.console():
            await asyncio.sleep(0.05)
    machine.send(b"STOP 10\n")
    await machine.expect("EXIT 7")
    assert await machine.end() == 0

    assert is_clean(volume)
    report = read_from(volume, "/report").splitlines()
    assert "uid=1000 gid=1000 pwd=/srv/new hostname=i-test odd=a 'b\" $(id) `id`" in report
    assert any(line.startswith("-r--r-----") and " web " in line for line in report), report
    assert "CANARY=abc" in report
    assert "mount /run/secrets tmpfs" in report
    assert {"mount / overlay", "mount /tmp tmpfs", "mount /run tmpfs", "mount /data ext4"} <= set(report)
    assert not [line for line in report if line.startswith("mount") and ("/layer" in line or "/lower" in line)]
    assert "fec0::15 i-test" in report
    assert "nameserver fec0::3" in report
    assert sum("No such file" in line for line in report) == 3  # nothing of the initramfs is to be seen
    assert not [line for line in report if line.startswith("zombie")]
    assert report[-1] == "stopped"
    assert b"CANARY=abc" not in (machine.folder / "layer.ext4").read_bytes()
    await notes_survive(start_machine, image, volume, identity, free_port)


async def notes_survive(
    start_machine: StartMachine, image: RootImage, volume: Path, identity: Identity, port: int
) -> None:
    """Another machine has the data of the first; a process that does not stop in time is killed."""
    machine = await start_machine(image, volumes=(volume,), forward=port)
    await machine.expect("HELLO 1")
    files = {"secret": identity.secret, "secret.path": SECRET_PATH.encode(), "mounts": b"vol0 /data rw\n"}
    machine.boot(archive(list(image.argv), {"user": image.user, "stop_signal": image.stop_signal}, files))
    await machine.expect("STARTED")
    assert await request(port, identity.trust, "GET", "/notes/first") == (200, b"survivor\n")
    assert (await request(port, identity.trust, "PUT", "/notes/second", b"more"))[0] == 201
    assert await request(port, identity.trust, "GET", "/notes/second") == (200, b"more")

    unfinished = await half_a_request(port, identity.trust)
    machine.send(b"STOP 1\n")
    await machine.expect("EXIT 137")
    unfinished.close()
    assert await machine.end() == 0
    assert is_clean(volume)
    assert read_from(volume, "/notes/second") == "more"


async def half_a_request(port: int, trust: ssl.SSLContext) -> asyncio.StreamWriter:
    """nginx has begun to take it and waits for the rest, as long as the result is kept: it does not end by itself."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port, ssl=trust, server_hostname=HOSTNAME)
    head = f"PUT /notes/x HTTP/1.1\r\nHost: {HOSTNAME}\r\nContent-Length: 100\r\nExpect: 100-continue\r\n\r\nhalf"
    writer.write(head.encode())
    assert b"100 Continue" in await reader.readuntil(b"\r\n\r\n")
    return writer


async def test_a_process_that_takes_too_much_memory_is_told_apart(
    start_machine: StartMachine, root_images: dict[str, RootImage]
) -> None:
    machine = await start_machine(root_images["notes"])
    await machine.expect("HELLO 1")
    hog = "busybox tail -c 40000000 /dev/zero & exec busybox tail -c 75000000 /dev/zero"
    machine.boot(archive(["/bin/sh", "-c", hog]))
    await machine.expect("STARTED")
    await machine.expect("EXIT 137 oom")
    assert await machine.end() == 0


async def test_a_boot_that_cannot_be_done_says_why(
    start_machine: StartMachine, root_images: dict[str, RootImage]
) -> None:
    machine = await start_machine(root_images["site-v1"])
    await machine.expect("HELLO 1")
    machine.send(b"PING\n")
    await machine.expect("PONG")
    machine.boot(archive(["/bin/nowhere"]))
    await machine.expect("FAILED process_exited run the image's process: /bin/nowhere: No such file or directory")
    assert await machine.end() == 0
    assert "trueup: FAILED process_exited" in machine.console()
