"""Out of the registry, checked: manifest, sizes, then all layers, into an OCI layout. Called by the image driver.

The manifest is read first and its digest is computed here (`skopeo inspect --raw` does not compare it); the sizes that
it names are held against the bounds before a layer moves. skopeo compares every blob's digest while it copies, and the
folder is measured meanwhile, because sizes in a manifest are only claims.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from agent.image.bounded import Result, TooLarge, TooSlow, Watched, run
from agent.image.config import PLATFORM
from agent.image.failures import fetch_failure, too_large
from agent.image.limits import Limits
from agent.image.reference import Reference
from kit.errors import Refusal, Transient

LAYOUT = "layout"
TAG = "image"
_INDEXES = (
    "application/vnd.oci.image.index.v1+json",
    "application/vnd.docker.distribution.manifest.list.v2+json",
)


@dataclass(frozen=True, slots=True)
class Registry:
    """How to speak to registries. `insecure`: hosts that may use plain HTTP or a certificate of unknown origin."""

    insecure: frozenset[str] = frozenset()
    authfile: Path | None = None

    def options(self, reference: Reference, prefix: str = "") -> list[str]:
        verify = "false" if reference.registry in self.insecure else "true"
        auth = [f"--{prefix}authfile={self.authfile}"] if self.authfile else []
        return [f"--{prefix}tls-verify={verify}", *auth]


async def fetch(reference: Reference, registry: Registry, limits: Limits, work: Path) -> dict[str, Any]:
    """Fills WORK/layout. Returns the image's configuration."""
    manifest_of, manifest = await _resolve(reference, registry, limits, work)
    _check_sizes(reference, manifest, limits)
    command = ["skopeo", "copy", "--quiet", *registry.options(reference, "src-"), f"docker://{manifest_of}"]
    try:
        result = await run(
            [*command, f"oci:{LAYOUT}:{TAG}"],
            cwd=work,
            timeout_s=limits.fetch_timeout_s,
            package="skopeo",
            watched=Watched(work, limits.packed_bytes_max),
        )
    except TooLarge as error:
        raise too_large(reference, "layers on the way", error.args[0], limits.packed_bytes_max, "bytes") from error
    except TooSlow as error:
        raise _slow(reference, limits.fetch_timeout_s) from error
    if result.code:
        raise fetch_failure(reference, result.errors)
    return _read_config(work / LAYOUT)


async def _resolve(
    reference: Reference, registry: Registry, limits: Limits, work: Path
) -> tuple[Reference, Mapping[str, Any]]:
    """The manifest of this platform: the one referred to, or the one that an index names."""
    document = await _manifest(reference, registry, limits, work)
    if document.get("mediaType") not in _INDEXES and "manifests" not in document:
        return reference, document
    for entry in document.get("manifests") or ():
        platform = entry.get("platform") or {}
        if (platform.get("os"), platform.get("architecture")) == PLATFORM:
            found = reference.at(str(entry["digest"]).removeprefix("sha256:"))
            return found, await _manifest(found, registry, limits, work)
    raise Refusal(
        f"fetch {reference}",
        "the index has no image for linux/amd64",
        fix="build and push the image for linux/amd64",
        code="image_not_found",
    )


async def _manifest(reference: Reference, registry: Registry, limits: Limits, work: Path) -> dict[str, Any]:
    result = await _inspect(reference, registry, limits, work)
    if result.code:
        raise fetch_failure(reference, result.errors)
    if len(result.output) > limits.manifest_bytes_max:
        raise too_large(reference, "manifest", len(result.output), limits.manifest_bytes_max, "bytes")
    found = hashlib.sha256(result.output).hexdigest()
    if found != reference.digest:
        raise fetch_failure(reference, f"digest did not match: the manifest's is sha256:{found}")
    document = json.loads(result.output)
    assert isinstance(document, dict), "skopeo hands on JSON objects only"
    return document


async def _inspect(reference: Reference, registry: Registry, limits: Limits, work: Path) -> Result:
    command = ["skopeo", "inspect", "--raw", *registry.options(reference), f"docker://{reference}"]
    try:
        return await run(command, cwd=work, timeout_s=limits.manifest_timeout_s, package="skopeo")
    except TooSlow as error:
        raise _slow(reference, limits.manifest_timeout_s) from error


def _check_sizes(reference: Reference, manifest: Mapping[str, Any], limits: Limits) -> None:
    layers = manifest.get("layers") or ()
    if len(layers) > limits.layers_max:
        raise too_large(reference, "number of layers", len(layers), limits.layers_max, "layers")
    total = sum(max(0, int(layer.get("size") or 0)) for layer in layers)
    if total > limits.packed_bytes_max:
        raise too_large(reference, "layers as its manifest says", total, limits.packed_bytes_max, "bytes")


def _read_config(layout: Path) -> dict[str, Any]:
    """Through index and manifest, whose digests skopeo has checked or computed."""
    index = json.loads((layout / "index.json").read_bytes())
    manifest = _blob(layout, index["manifests"][0]["digest"])
    return _blob(layout, manifest["config"]["digest"])


def _blob(layout: Path, digest: str) -> dict[str, Any]:
    content = (layout / "blobs/sha256" / digest.removeprefix("sha256:")).read_bytes()
    document: dict[str, Any] = json.loads(content)
    return document


def _slow(reference: Reference, timeout_s: float) -> Transient:
    return Transient(
        f"fetch {reference}",
        f"the registry {reference.registry} did not deliver within {timeout_s:.0f} s",
        fix="check the network between this node and the registry",
        code="registry_unreachable",
    )
