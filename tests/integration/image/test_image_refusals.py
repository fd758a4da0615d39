"""Each way in which an image does not come, with its reason code.

Nothing is left behind, and the next try is a new one.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from agent.drivers.image import ImageStore
from agent.image.limits import Limits
from kit.errors import Refusal, Transient, TrueupError
from kit.wire import REASON_CODES
from tests.acceptance.images.oci import Node, layer_tar, write_layout
from tests.acceptance.registry import Registry
from tests.integration.image.conftest import CONFIG, NODES, layers_of, stored_blob

Push = Callable[..., str]
NewStore = Callable[..., ImageStore]
ZEROS = "0" * 64


async def refusal(store: ImageStore, reference: str) -> TrueupError:
    with pytest.raises(TrueupError) as caught:
        await store.ensure(reference)
    assert caught.value.code in REASON_CODES
    assert caught.value.fix, caught.value
    assert reference.partition("@")[2] in str(caught.value)
    assert not list(store._folder.iterdir())
    return caught.value


async def test_no_such_repository_and_no_such_manifest(push: Push, new_store: NewStore, registry: Registry) -> None:
    here = push().partition("@")[0]
    for name in (f"{registry.address}/nowhere", here):
        error = await refusal(new_store(), f"{name}@sha256:{ZEROS}")
        assert error.code == "image_not_found"
        assert isinstance(error, Refusal)
        assert registry.address in error.why


async def test_a_registry_that_is_away(new_store: NewStore) -> None:
    for name in ("127.0.0.1:1/x", "registry.invalid/x"):
        error = await refusal(new_store(), f"{name}@sha256:{ZEROS}")
        assert (error.code, type(error)) == ("registry_unreachable", Transient)


async def test_the_same_digest_in_two_registries_fails_for_each_in_its_own_way(
    new_store: NewStore, registry: Registry
) -> None:
    store, digest = new_store(), "0" * 64
    here, away = f"{registry.address}/none@sha256:{digest}", f"127.0.0.1:9/none@sha256:{digest}"
    results = await asyncio.gather(store.ensure(here), store.ensure(away), return_exceptions=True)
    assert [getattr(result, "code", "") for result in results] == ["image_not_found", "registry_unreachable"]


async def test_a_registry_that_hangs(new_store: NewStore, tmp_path: Path) -> None:
    server = await asyncio.start_server(lambda reader, writer: asyncio.sleep(3600), "127.0.0.1", 0)
    address = f"127.0.0.1:{server.sockets[0].getsockname()[1]}"
    store = ImageStore(tmp_path / "s", insecure_registries=(address,), limits=Limits(manifest_timeout_s=0.5))
    error = await refusal(store, f"{address}/x@sha256:{ZEROS}")
    server.close()
    assert (error.code, type(error)) == ("registry_unreachable", Transient)
    assert "0 s" in error.why or "1 s" in error.why


async def test_plain_http_only_where_the_setting_says_so(push: Push, tmp_path: Path, registry: Registry) -> None:
    error = await refusal(ImageStore(tmp_path / "strict"), push())
    assert error.code == "image_pull_failed"
    assert "plain HTTP" in error.why
    assert "insecure_registries" in error.fix


@pytest.mark.parametrize("what", ["layer", "manifest"])
async def test_wrong_bytes_from_the_registry(push: Push, new_store: NewStore, registry: Registry, what: str) -> None:
    reference = push({**NODES, "large": Node(b"x" * 5000)})
    digest = layers_of(registry, reference)[0] if what == "layer" else reference.rpartition(":")[2]
    blob = stored_blob(registry, digest)
    good = blob.read_bytes()
    blob.write_bytes(good[:-3] + b"bad" if what == "layer" else good.replace(b'"size":', b'"size": '))
    error = await refusal(new_store(), reference)
    assert (error.code, type(error)) == ("image_digest_mismatch", Refusal)
    blob.write_bytes(good)
    assert (await new_store().ensure(reference)).rootfs.exists()  # the refusal was about the bytes, not the name


async def test_a_layer_that_the_registry_lost(push: Push, new_store: NewStore, registry: Registry) -> None:
    reference = push()
    stored_blob(registry, layers_of(registry, reference)[0]).unlink()
    assert (await refusal(new_store(), reference)).code == "image_not_found"


async def test_too_large_as_its_manifest_says(push: Push, new_store: NewStore) -> None:
    error = await refusal(new_store(Limits(packed_bytes_max=100, manifest_bytes_max=99)), push(name="small"))
    assert error.code == "image_too_large"


@pytest.mark.parametrize(
    "limits", [Limits(packed_bytes_max=300, manifest_bytes_max=299), Limits(layers_max=1)], ids=["bytes", "layers"]
)
async def test_too_many_layers_or_bytes(push: Push, new_store: NewStore, limits: Limits) -> None:
    reference = push(NODES, {"more": Node(bytes(range(256)) * 4)})
    assert (await refusal(new_store(limits), reference)).code == "image_too_large"


async def test_a_small_layer_that_unpacks_to_much(push: Push, new_store: NewStore) -> None:
    bomb = {f"zeros{number}": Node(b"\0" * (8 << 20)) for number in range(4)}
    limits = Limits(packed_bytes_max=1 << 20, unpacked_bytes_max=16 << 20, manifest_bytes_max=1 << 19)
    error = await refusal(new_store(limits), push(bomb))
    assert (error.code, type(error)) == ("image_too_large", Refusal)
    assert "unpacked" in error.why


async def test_layers_that_hold_more_than_the_manifest_says(
    new_store: NewStore, registry: Registry, tmp_path: Path
) -> None:
    """The bound holds on the way, too: sizes in a manifest are only claims."""
    layout = tmp_path / "lying"
    content = {f"noise{number}": Node(bytes((number * index) % 251 for index in range(9000))) for number in range(9)}
    write_layout(layout, [layer_tar({**NODES, **content})], CONFIG)
    reference = registry.push(layout, "lying")
    blob = stored_blob(registry, reference.rpartition(":")[2])
    manifest = json.loads(blob.read_bytes())
    assert manifest["layers"][0]["size"] > 800
    store = new_store(Limits(packed_bytes_max=manifest["layers"][0]["size"], manifest_bytes_max=500))
    error = await refusal(store, reference)  # with index and configuration the folder holds more than the layer alone
    assert error.code == "image_too_large"


@pytest.mark.parametrize(
    ("config", "words"),
    [({**CONFIG, "User": "nobody-here"}, "nobody-here"), ({**CONFIG, "User": "web:nogroup"}, "nogroup")],
)
async def test_a_user_that_the_image_does_not_have(
    push: Push, new_store: NewStore, config: dict[str, Any], words: str
) -> None:
    error = await refusal(new_store(), push(config=config))
    assert error.code == "rootfs_build_failed"
    assert words in error.why


async def test_a_layer_that_is_no_archive(new_store: NewStore, registry: Registry, tmp_path: Path) -> None:
    layout = tmp_path / "broken"
    write_layout(layout, [b"this is no tar archive" * 100], CONFIG)
    error = await refusal(new_store(), registry.push(layout, "broken"))
    assert (error.code, type(error)) == ("rootfs_build_failed", Refusal)
