"""An instance's secret file, opened in memory. Used by `agent.starting` right before a machine starts.

The controller hands it out sealed to this node, instance and version (`kit.sealed_file`). Only the sealed bytes are
kept, in the run folder, so that a machine that crashed starts again while the controller is down. The plain file is
never written anywhere here; it leaves in the boot archive, through the guest's channel.
"""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pyrage

from kit import logs
from kit.canonical import digest
from kit.errors import Refusal, Transient, TrueupError
from kit.files import write_atomically, write_json
from kit.sealed_file import FORM, Binding, is_sealed_file, open_file
from kit.wire import SecretRef

SEALED_BYTES_MAX = 1 << 20  # a secret file is at most 256 KiB
_log = logs.get("secret")


def node_identity(path: Path) -> pyrage.x25519.Identity:
    """The node's age identity; made at the first start."""
    if not path.exists():
        write_atomically(path, f"{pyrage.x25519.Identity.generate()}\n".encode(), mode=0o600)
    try:
        return pyrage.x25519.Identity.from_str(path.read_text().strip())
    except pyrage.IdentityError as error:
        fix = "restore the file, or move it away: then a new identity is made and enrolled"
        raise Refusal(f"read node identity {path}", str(error), fix=fix, code="settings_invalid") from error


class Secrets:
    """`get_json` reads from the controller, as `kit.control_plane.ControlPlane.get_json` does."""

    def __init__(
        self, get_json: Callable[[str], Awaitable[Any]], node_id: str, identity: pyrage.x25519.Identity, sealed: Path
    ) -> None:
        self._get_json = get_json
        self._node_id = node_id
        self._identity = identity
        self._sealed = sealed

    async def ensure(self, instance_id: str, wanted: SecretRef) -> bytes:
        attempted = f"get secret {wanted.version_id} of instance {instance_id}"
        document = self._kept(instance_id)
        if document is None or document["version_id"] != wanted.version_id:
            document = await self._fetch(attempted, instance_id)
        if document["version_id"] != wanted.version_id:
            why = f"the controller has version {document['version_id']}"
            raise Transient(attempted, why, code="secrets_missing")
        plain = self._open(attempted, instance_id, document)
        write_json(self._file(instance_id), document)
        return plain

    async def remove(self, instance_id: str) -> None:
        self._file(instance_id).unlink(missing_ok=True)

    async def _fetch(self, attempted: str, instance_id: str) -> dict[str, str]:
        try:
            answer = await self._get_json(
                f"/v1/nodes/{self._node_id}/instances/{quote(instance_id, safe='')}/secret?form={FORM}"
            )
        except Transient as error:
            raise Transient(attempted, error.why, fix=error.fix, code="secrets_missing") from error
        except TrueupError as error:
            # Read while a change was on its way, perhaps: it may be there soon.
            raise Transient(attempted, error.why, fix=error.fix, code="secrets_missing") from error
        if not _is_sealed(answer):
            raise Transient(attempted, "the controller's answer makes no sense", code="secrets_injection_failed")
        return _document(answer)

    def _open(self, attempted: str, instance_id: str, document: dict[str, str]) -> bytes:
        try:
            sealed = base64.b64decode(document["sealed"], validate=True)
            binding = Binding(self._node_id, instance_id, document["app"], document["version_id"])
            return open_file(sealed, self._identity, binding)
        except (binascii.Error, Refusal) as error:
            fix = "it is sealed to another identity: let the node enrol again"
            raise Transient(
                attempted, f"it cannot be opened: {error}", fix=fix, code="secrets_injection_failed"
            ) from None

    def _kept(self, instance_id: str) -> dict[str, str] | None:
        file = self._file(instance_id)
        try:
            document = json.loads(file.read_bytes())
        except FileNotFoundError:
            return None
        except ValueError:
            document = None
        if not _is_sealed(document) or not _is_of_the_form(document):
            why = "it is damaged, or of the form of an earlier version"
            _log.warning("a kept sealed file was dropped", instance_id=instance_id, why=why)
            file.unlink(missing_ok=True)
            return None
        return _document(document)

    def _file(self, instance_id: str) -> Path:
        return self._sealed / f"{digest(instance_id, length=12)}.json"


def _document(answer: dict[str, str]) -> dict[str, str]:
    return {name: answer[name] for name in ("version_id", "sealed", "app")}


def _is_sealed(document: Any) -> bool:
    return (
        isinstance(document, dict)
        and isinstance(document.get("version_id"), str)
        and isinstance(document.get("app"), str)
        and isinstance(document.get("sealed"), str)
        and len(document["sealed"]) <= SEALED_BYTES_MAX
    )


def _is_of_the_form(document: Any) -> bool:
    try:
        return is_sealed_file(base64.b64decode(document["sealed"], validate=True))
    except binascii.Error:
        return False
