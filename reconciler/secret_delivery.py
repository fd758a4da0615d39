"""The secret file of one instance, for its node alone. Called by the server when an agent asks.

The instance's row names each secret's version, and the manifest blob that it was read from; a reading process takes the
values out of it, still encrypted. The sealer's process opens them with the platform's key, holds them against the
version, merges them, and seals them to the node's own recipient. Nothing of it is kept or logged.

Values that were only encrypted anew (`trueup secret rewrap`) have the version that they had, and no instance is
replaced for them. So where a blob does not open any more, the manifest of the applied commit is looked at as well.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from kit.errors import Refusal, Transient, TrueupError
from kit.sealed_file import Binding
from reconciler.core.model import ResourceId
from reconciler.core.secret_file import SecretManifest
from reconciler.git.bounded.process import ReadingProcess
from reconciler.git.bounded.source import RemoteObjects
from reconciler.git.clone import BareClone
from reconciler.git.tree_walk import TreeWalk, WalkRefused
from reconciler.ports import Doc


@dataclass(frozen=True, slots=True)
class Standing:
    """Where a secret stands now: a full path in the applied commit."""

    commit: str
    path: str


class Seals(Protocol):
    """`reconciler.sealer.Sealer`, in which the values are, and stay."""

    def fits(self, secret: SecretManifest, version_id: str) -> bool: ...

    def seal_file(self, parts: Sequence[tuple[SecretManifest, str]], recipient: str, binding: Binding) -> bytes: ...


class SecretDelivery:
    """`clones`: all there are now; a blob's name is its content's digest, so it does not matter where it is found.
    `refresh` returns after the next fetch of the source that declared the instance's app."""

    def __init__(
        self,
        sealer: Seals,
        clones: Callable[[], Iterable[BareClone]],
        refresh: Callable[[Doc], Awaitable[None]] | None = None,
        standing: Callable[[str], Awaitable[Standing | None]] | None = None,
    ) -> None:
        self._sealer = sealer
        self._reading = ReadingProcess()
        self._clones = clones
        self._refresh = refresh
        self._standing = standing

    def close(self) -> None:
        self._reading.close()

    async def seal_for(self, instance: Doc, node: Doc) -> bytes:
        """The file, sealed to the node. `Refusal` with code "secrets_missing" when a value is gone."""
        try:
            return await asyncio.to_thread(self._seal_for, instance, node, {})
        except TrueupError:
            if self._refresh is None and self._standing is None:
                raise
        # Another controller applied the commit, and this one's clone may not have it yet; or a key was dropped.
        if self._refresh is not None:
            await self._refresh(instance)
        standings = await self._standings(instance)
        return await asyncio.to_thread(self._seal_for, instance, node, standings)

    async def missing(self, wanted: Iterable[Doc]) -> list[Doc]:
        """Of secrets with their versions and blobs, as an instance's row names them: those that could not be delivered
        now."""
        secrets = list(wanted)
        standings = await self._standings({"secrets": secrets})
        return await asyncio.to_thread(self._missing, secrets, standings)

    def _missing(self, secrets: list[Doc], standings: Mapping[str, Standing]) -> list[Doc]:
        missing = []
        for each in secrets:
            try:
                self._found(each, standings.get(each["resource_id"]))
            except TrueupError:
                missing.append(each)
        return missing

    async def _standings(self, instance: Doc) -> Mapping[str, Standing]:
        if self._standing is None:
            return {}
        found = {each["resource_id"]: await self._standing(each["resource_id"]) for each in instance["secrets"]}
        return {name: standing for name, standing in found.items() if standing is not None}

    def _seal_for(self, instance: Doc, node: Doc, standings: Mapping[str, Standing]) -> bytes:
        parts = [self._found(each, standings.get(each["resource_id"])) for each in instance["secrets"]]
        return self._sealer.seal_file(parts, node["seal_recipient"], _binding(instance, node))

    def _found(self, wanted: Doc, standing: Standing | None) -> tuple[SecretManifest, str]:
        secret = ResourceId.parse(wanted["resource_id"])
        for objects, blob in self._places(wanted["blob"], standing):
            try:
                manifest = objects.sealed(blob, secret)
            except (KeyError, Refusal, Transient):
                continue
            if self._sealer.fits(manifest, wanted["version_id"]):
                return manifest, wanted["version_id"]
        raise Refusal(
            f"read the secret {secret.short}",
            f"its manifest (blob {wanted['blob'][:12]}) is in no clone, or cannot be opened with the platform's key",
            fix="look whether the source can be fetched; push the secret anew if its history was removed",
            code="secrets_missing",
        )

    def _places(self, blob: str, standing: Standing | None) -> Iterator[tuple[RemoteObjects, str]]:
        clones = [RemoteObjects(self._reading, clone.path) for clone in self._clones()]
        yield from ((objects, blob) for objects in clones)
        for objects in clones if standing is not None else ():
            assert standing is not None
            if now := _blob_at(objects, standing):
                yield objects, now


def _binding(instance: Doc, node: Doc) -> Binding:
    version_id = instance["workload"]["secret"]["version_id"]
    return Binding(node["node_id"], instance["instance_id"], instance["app"], version_id)


def _blob_at(objects: RemoteObjects, standing: Standing) -> str | None:
    try:
        return TreeWalk(objects).blob(objects.commit(standing.commit).tree, standing.path)
    except (WalkRefused, Refusal, Transient):
        return None
