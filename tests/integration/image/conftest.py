"""A registry of the test's own, and small images made on the spot."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from agent.drivers.image import ImageStore
from agent.image.limits import Limits
from tests.acceptance.images.oci import Node, layer_tar, write_layout
from tests.acceptance.registry import Registry

PASSWD = Node(b"root:x:0:0::/root:/bin/sh\nweb:x:1000:1001::/home/web:/bin/sh\n", 0o644)
CONFIG = {"User": "web", "Env": ["A=b=c"], "Entrypoint": ["/start"], "Cmd": ["now"], "StopSignal": "SIGINT"}
NODES = {"etc/passwd": PASSWD, "start": Node(b"#!/bin/sh\n", 0o4755), "data": Node(uid=1000)}


@pytest.fixture
def registry(tmp_path: Path) -> Iterator[Registry]:
    running = Registry(tmp_path / "registry")
    running.start()
    yield running
    running.stop()


@pytest.fixture
def push(registry: Registry, tmp_path: Path) -> Callable[..., str]:
    """push(nodes, config, name=...) -> reference; another tuple of nodes is another layer."""
    count = iter(range(1000))

    def make(*layers: dict[str, Node], config: dict[str, Any] | None = None, name: str = "demo/image") -> str:
        layout = tmp_path / f"layout{next(count)}"
        write_layout(layout, [layer_tar(nodes) for nodes in layers or (NODES,)], config or CONFIG)
        return registry.push(layout, name)

    return make


@pytest.fixture
def new_store(registry: Registry, tmp_path: Path) -> Callable[..., ImageStore]:
    def make(limits: Limits | None = None) -> ImageStore:
        return ImageStore(tmp_path / "state", insecure_registries=(registry.address,), limits=limits)

    return make


def stored_blob(registry: Registry, digest: str) -> Path:
    """The file in the registry's storage that holds these bytes."""
    return registry.folder / "storage/docker/registry/v2/blobs/sha256" / digest[:2] / digest / "data"


def layers_of(registry: Registry, reference: str) -> list[str]:
    manifest = json.loads(stored_blob(registry, reference.rpartition(":")[2]).read_bytes())
    return [layer["digest"].removeprefix("sha256:") for layer in manifest["layers"]]
