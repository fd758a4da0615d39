"""The secret file of one instance, for its node alone. Called by the server when an agent asks.

The instance's row names each secret's manifest blob; a reading process takes the values out of it, still encrypted.
They are opened with the platform's key, merged, and sealed to the node's own recipient, all in one call in a worker
thread. Nothing of it is kept or logged.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable

from kit.errors import Refusal, Transient, TrueupError
from reconciler.core.model import ResourceId
from reconciler.core.secret_file import SecretManifest
from reconciler.git.bounded.process import ReadingProcess
from reconciler.git.bounded.source import RemoteObjects
from reconciler.git.clone import BareClone
from reconciler.ports import Doc
from reconciler.vault import Vault


class SecretDelivery:
    """`clones`: all there are now; a blob's name is its content's digest, so it does not matter where it is found.
    `refresh` returns after the next fetch of the source that declared the instance's app."""

    def __init__(
        self,
        vault: Vault,
        clones: Callable[[], Iterable[BareClone]],
        refresh: Callable[[Doc], Awaitable[None]] | None = None,
    ) -> None:
        self._vault = vault
        self._reading = ReadingProcess()
        self._clones = clones
        self._refresh = refresh

    def close(self) -> None:
        self._reading.close()

    async def seal_for(self, instance: Doc, node: Doc) -> bytes:
        """The file, encrypted to the node's recipient. `Refusal` with code "secrets_missing" when a value is gone."""
        try:
            return await asyncio.to_thread(self._seal_for, instance, node)
        except TrueupError:
            if self._refresh is None:
                raise
        # Another controller applied the commit, and this one's clone may not have it yet.
        await self._refresh(instance)
        return await asyncio.to_thread(self._seal_for, instance, node)

    def _seal_for(self, instance: Doc, node: Doc) -> bytes:
        values = [self._values(ResourceId.parse(each["resource_id"]), each["blob"]) for each in instance["secrets"]]
        return self._vault.seal(self._vault.secret_file(values), node["seal_recipient"])

    def _values(self, secret: ResourceId, blob: str) -> dict[str, bytes]:
        for clone in self._clones():
            try:
                sealed = RemoteObjects(self._reading, clone.path).sealed(blob, secret)
                return self._vault.values(SecretManifest(secret, sealed, blob))
            except (KeyError, Refusal, Transient):
                continue
        raise Refusal(
            f"read the secret {secret.short}",
            f"its manifest (blob {blob[:12]}) is in no clone, or cannot be opened with the platform's key",
            fix="look whether the source can be fetched; push the secret anew if its history was removed",
            code="secrets_missing",
        )
