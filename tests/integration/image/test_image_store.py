"""The image driver against a real registry: what comes out, what is shared, what is kept and what is removed."""

from __future__ import annotations

import asyncio
import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from agent.drivers import image as driver
from agent.drivers.image import ImageStore
from agent.image.fetch import fetch
from agent.image.limits import Limits
from agent.ports import RootImage
from kit.errors import Transient
from tests.acceptance.images.oci import Node
from tests.acceptance.registry import Registry
from tests.integration.image.conftest import NODES

Push = Callable[..., str]
NewStore = Callable[..., ImageStore]


def listing(image: RootImage) -> dict[str, tuple[str, str]]:
    """Name in the squashfs -> (mode, owner)."""
    done = subprocess.run(["unsquashfs", "-lln", str(image.rootfs)], capture_output=True, text=True, check=True)
    rows = [line.split() for line in done.stdout.splitlines() if "squashfs-root/" in line]
    return {row[5].removeprefix("squashfs-root/"): (row[0], row[1]) for row in rows}


def left_behind(store: ImageStore) -> list[str]:
    return [path.name for path in store._folder.iterdir() if path.name.startswith(".")]


async def test_an_image_becomes_a_root_with_its_owners_and_modes(push: Push, new_store: NewStore) -> None:
    store = new_store()
    image = await store.ensure(push())
    assert image.argv == ("/start", "now")
    assert dict(image.environment) == {"PATH": driver_path(), "HOME": "/home/web", "A": "b=c"}
    assert (image.user, image.workdir, image.stop_signal) == ("1000:1001", "/", "SIGINT")
    found = listing(image)
    assert found["start"][0] == "-rwsr-xr-x"
    assert found["data"] == ("drwxr-xr-x", "1000/1000" if os.geteuid() == 0 else found["data"][1])
    assert left_behind(store) == []


def driver_path() -> str:
    return "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


async def test_a_later_layer_removes_what_it_whites_out(push: Push, new_store: NewStore) -> None:
    image = await new_store().ensure(push({**NODES, "gone": Node(b"x")}, {".wh.gone": Node(b""), "new": Node(b"y")}))
    assert {"new", "start"} <= set(listing(image))
    assert "gone" not in listing(image)


async def test_callers_at_the_same_time_share_one_build(
    push: Push, new_store: NewStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    store, reference = new_store(), push()
    fetches = 0
    real_fetch = fetch

    async def counted(*arguments: object) -> object:
        nonlocal fetches
        fetches += 1
        return await real_fetch(*arguments)  # type: ignore[arg-type]  # handed through

    monkeypatch.setattr(driver, "fetch", counted)
    impatient = asyncio.create_task(store.ensure(reference))
    await asyncio.sleep(0)
    others = [asyncio.create_task(store.ensure(reference)) for _ in range(5)]
    await asyncio.sleep(0)
    impatient.cancel()  # must not take the build from the others
    first, *rest = await asyncio.gather(*others)
    assert all(other == first for other in rest)
    assert fetches == 1


async def test_what_is_here_needs_no_registry_and_survives_a_restart(
    push: Push, new_store: NewStore, registry: Registry
) -> None:
    reference = push()
    built = await new_store().ensure(reference)
    registry.stop()
    assert await new_store().ensure(reference) == built
    with pytest.raises(Transient) as caught:
        await new_store().ensure(reference[:-4] + "0000")
    assert caught.value.code == "registry_unreachable"


async def test_a_damaged_image_is_built_anew(push: Push, new_store: NewStore) -> None:
    store, reference = new_store(), push()
    built = await store.ensure(reference)
    size = built.rootfs.stat().st_size
    os.truncate(built.rootfs, size - 1)
    assert (await store.ensure(reference)).rootfs.stat().st_size == size
    (built.rootfs.parent / "image.json").write_text('{"image": [')
    assert await store.ensure(reference) == built


async def test_half_a_build_is_removed_at_the_next_start(push: Push, new_store: NewStore, tmp_path: Path) -> None:
    half = tmp_path / "state/images/.building-0000-x/tree/locked"
    half.mkdir(parents=True)
    (half / "file").touch()
    half.chmod(0o500)
    store = new_store()
    assert left_behind(store) == []


async def test_unused_images_go_in_the_order_of_their_last_use(
    push: Push, new_store: NewStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(driver, "FRESH_S", -1.0)
    references = [push({**NODES, "content": Node(os.urandom(200_000))}) for _ in range(3)]
    store = new_store(Limits(packed_bytes_max=10 << 20, cache_bytes_max=500_000))
    for reference in references:
        await store.ensure(reference)
    await store.ensure(references[0])  # used again: now the second is the oldest
    digests = [reference.rpartition(":")[2] for reference in references]
    assert await store.remove_unused(in_use=[references[1]]) == (digests[2],)
    assert await store.remove_unused(in_use=references) == ()
    store = new_store(Limits(packed_bytes_max=10 << 20, cache_bytes_max=0))
    assert await store.remove_unused(in_use=[references[1]]) == (digests[0],)
    assert (await store.ensure(references[1])).rootfs.exists()


async def test_an_image_that_was_just_asked_for_is_not_removed(push: Push, new_store: NewStore) -> None:
    store = new_store(Limits(cache_bytes_max=0))
    await store.ensure(push())
    assert await store.remove_unused(in_use=[]) == ()


@pytest.mark.skipif(os.geteuid() != 0, reason="becomes another user")
async def test_owners_are_right_without_root_too(push: Push, registry: Registry, tmp_path: Path) -> None:
    code, state = tmp_path / "code", tmp_path / "rootless"
    for package in ("agent", "kit"):  # the other user may be unable to read this checkout
        shutil.copytree(Path(__file__).resolve().parents[3] / package, code / package)
    state.mkdir()
    for folder in (state, *state.parents[:3]):
        folder.chmod(0o777)
    program = (
        "import asyncio, sys, pathlib\nfrom agent.drivers.image import ImageStore\n"
        "store = ImageStore(pathlib.Path(sys.argv[1]), insecure_registries=[sys.argv[2].split('/')[0]])\n"
        "print(asyncio.run(store.ensure(sys.argv[2])).rootfs)"
    )
    command = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", "env", f"PYTHONPATH={code}"]
    command += [f"HOME={state}", "/usr/bin/python3", "-c"]
    done = await asyncio.to_thread(
        subprocess.run, [*command, program, str(state), push()], cwd="/", capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    found = listing(RootImage(Path(done.stdout.strip()), ()))
    assert found["data"][1] == "1000/1000"
    assert found["start"] == ("-rwsr-xr-x", "0/0")
