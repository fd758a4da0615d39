"""Writes an OCI image layout. Called by `build`.

Equal contents give equal digests: no time, sorted names, fixed owners.
"""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import tarfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True, slots=True)
class Node:
    """One name in a layer: a file, or a link if `link` is set, or a folder if `content` is None."""

    content: bytes | None = None
    mode: int = 0o755
    link: str = ""
    uid: int = 0


def layer_tar(nodes: Mapping[str, Node]) -> bytes:
    """An uncompressed layer. Folders that the names imply are added."""
    folders = {str(parent): Node() for name in nodes for parent in Path(name).parents if str(parent) != "."}
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.USTAR_FORMAT) as tar:
        for name, node in sorted({**folders, **nodes}.items()):
            info = tarfile.TarInfo(name)
            info.mode, info.uid, info.gid = node.mode, node.uid, node.uid
            if node.link:
                info.type, info.linkname = tarfile.SYMTYPE, node.link
            elif node.content is None:
                info.type = tarfile.DIRTYPE
            else:
                info.size = len(node.content)
            tar.addfile(info, io.BytesIO(node.content or b""))
    return buffer.getvalue()


def write_layout(folder: Path, layers: list[bytes], config: Mapping[str, Any]) -> str:
    """Writes the image with the tag `latest`; returns its manifest's digest, "sha256:..."."""
    blobs = folder / "blobs/sha256"
    blobs.mkdir(parents=True)
    packed = [gzip.compress(layer, compresslevel=6, mtime=0) for layer in layers]
    document = {
        "architecture": "amd64",
        "os": "linux",
        "config": dict(config),
        "rootfs": {"type": "layers", "diff_ids": [_digest(layer) for layer in layers]},
    }
    manifest = {
        "schemaVersion": 2,
        "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "config": _blob(blobs, _json(document), "application/vnd.oci.image.config.v1+json"),
        "layers": [_blob(blobs, layer, "application/vnd.oci.image.layer.v1.tar+gzip") for layer in packed],
    }
    described = _blob(blobs, _json(manifest), "application/vnd.oci.image.manifest.v1+json")
    described["annotations"] = {"org.opencontainers.image.ref.name": "latest"}
    (folder / "index.json").write_bytes(_json({"schemaVersion": 2, "manifests": [described]}))
    (folder / "oci-layout").write_bytes(_json({"imageLayoutVersion": "1.0.0"}))
    return str(described["digest"])


def manifest_digest(folder: Path) -> str:
    return str(json.loads((folder / "index.json").read_text())["manifests"][0]["digest"])


def _blob(blobs: Path, content: bytes, media_type: str) -> dict[str, Any]:
    digest = _digest(content)
    (blobs / digest.removeprefix("sha256:")).write_bytes(content)
    return {"mediaType": media_type, "digest": digest, "size": len(content)}


def _digest(content: bytes) -> str:
    return "sha256:" + hashlib.sha256(content).hexdigest()


def _json(document: Any) -> bytes:
    return json.dumps(document, sort_keys=True, separators=(",", ":")).encode()
