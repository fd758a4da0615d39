"""Ciphertext to values, with the platform's key.

In the control plane only the sealer's process opens a vault (`reconciler.sealer`): for the version ids of Secret
manifests, and for a process's secret file, sealed to its node's own key. The commands that need the key open one
themselves. Plain values live in local variables of one
call: they are never logged, stored, cached or put into an exception.

A value opens with the keys of its own project. What the platform's own key opens is from before projects had keys; it
is used only where a source's settings accept it (`Accepted`), and so is a value that says no place. Version ids are
keyed (HMAC), so that nobody can guess a short value from its id in the log.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import pyrage

from kit import logs
from kit.canonical import canonical_json
from kit.errors import Refusal
from kit.sealed_file import Binding, seal_file
from reconciler.core.model import ResourceId, SecretSpec
from reconciler.core.secret_file import (
    HEADER,
    ResolvedSecret,
    SecretManifest,
    SecretNote,
    SecretRefusal,
    SopsDocument,
    secret_file,
)
from reconciler.vault import key_file
from reconciler.vault.key_file import PlatformKey
from reconciler.vault.project_keys import project_identity
from reconciler.vault.sealing import command_for, place_and_value, place_of, sops_command_for
from reconciler.vault.sops_values import DATA_KEY_BYTES, sops_values

VERSION_DIGITS = 24
PROJECTS_KEPT_MAX = 4096
KEYS_TOLD_MAX = 5
RECIPIENTS_MAX = 20
HEADER_BYTES_MAX = 4096
"""Of one value. Each recipient makes a try longer: 900, for which a manifest has room, would take seconds."""
SealedTo = Literal["newest", "earlier", "platform"]
_log = logs.get("vault")


@dataclass(frozen=True, slots=True)
class Accepted:
    """What a source's settings accept besides values that were sealed to its project for their place."""

    platform_recipient: bool = False
    unbound: bool = False


STRICT = Accepted()


@dataclass(frozen=True, slots=True, repr=False)
class Opened:
    """`sealed_to`: its project's newest key, an earlier one, or the platform's own. `place`: what it is bound to."""

    value: bytes
    sealed_to: SealedTo
    place: str | None


class Vault:
    """Cheap to call: one value takes some 0.2 ms. It blocks, so call it from a worker thread for many values. A key
    file that is replaced (a rotation) takes effect with the next call."""

    def __init__(self, path: Path, *, newest_only: bool = False) -> None:
        """`newest_only`: as it will be once the earlier keys are dropped."""
        self._path = path
        self._newest_only = newest_only
        self._stamp = stamp_of(path)
        self._ring = self._ring_of(key_file.read(path))

    @classmethod
    def open_or_create(cls, path: Path) -> Vault:
        """See `key_file.read_or_create`."""
        key_file.read_or_create(path)
        return cls(path)

    def recipient_of(self, org: str, project: str) -> str:
        """age1...: what the secrets of a project are sealed to."""
        return str(self._keys().of(org, project)[0].to_public())

    def resolve(self, secret: SecretManifest, accepted: Accepted = STRICT) -> ResolvedSecret:
        """`ResolveSecret` with the key: every value opens, is accepted and fits, or a `SecretRefusal`."""
        opened = self.opened(secret)
        of_sops = secret.sops is not None
        for key, each in opened.items():
            self._check(secret.id, key, each, accepted, of_sops=of_sops)
        values = {key: each.value for key, each in opened.items()}
        added_bytes = len(secret_file(values)) - len(HEADER)
        spec = SecretSpec(self.version_id(secret.id, values), tuple(sorted(values)), secret.blob)
        return ResolvedSecret(spec, added_bytes, tuple(_notes(opened)))

    def values(self, secret: SecretManifest, version_id: str) -> dict[str, bytes]:
        """The plain values, for immediate use only. The version id is the one in the log: what a source's settings had
        to accept they accepted when it was written there, and nothing else comes out here."""
        values = {key: each.value for key, each in self.opened(secret).items()}
        if not hmac.compare_digest(self.version_id(secret.id, values), version_id):
            why = "its values are not those of the version that was applied"
            raise SecretRefusal("", why, "push the secret anew", "secret_changed")
        return values

    def fits(self, secret: SecretManifest, version_id: str) -> bool:
        """Whether that version's values are in this manifest, and open."""
        try:
            self.values(secret, version_id)
        except SecretRefusal:
            return False
        return True

    def seal_file(self, parts: Sequence[tuple[SecretManifest, str]], recipient: str, binding: Binding) -> bytes:
        """The secret file of a process, from its secrets with their version ids, sealed to its node."""
        content = self.secret_file([self.values(secret, version_id) for secret, version_id in parts])
        return seal_file(content, recipient, binding)

    def opened(self, secret: SecretManifest) -> dict[str, Opened]:
        """Every value, whatever key it is sealed to and whatever it is bound to. For immediate use only."""
        if secret.sops is not None:
            return self._opened_sops(secret.id, secret.sops)
        return {key: self._open(secret.id, key, armored) for key, armored in sorted(secret.values.items())}

    def _opened_sops(self, secret: ResourceId, document: SopsDocument) -> dict[str, Opened]:
        """All at once, because its MAC is over all. A value's place is the document's with the value's key."""
        refusal: SecretRefusal | None = None
        for armored in document.age_keys:
            try:
                sealed_to, data_key = self._tried(secret, "", "its data key", armored)
            except SecretRefusal as error:
                refusal = error
                continue
            if len(data_key) == DATA_KEY_BYTES:
                place, values = sops_values(document, data_key)
                places = {key: None if place is None else f"{place}/{key}" for key in values}
                return {key: Opened(values[key], sealed_to, places[key]) for key in sorted(values)}
        why = refusal.why if refusal else "its data key has the wrong length"
        recipient = self.recipient_of(secret.org, secret.project)
        fix = f"encrypt it to that project: sops encrypt --age {recipient}"
        raise SecretRefusal("", why, fix, "secret_undecryptable")

    def secret_file(self, secrets: Sequence[Mapping[str, bytes]]) -> bytes:
        """The secret file of a process: the values of all its secrets together."""
        merged: dict[str, bytes] = {}
        for values in secrets:
            if twice := sorted(set(merged) & set(values)):
                why = "two secrets of the process have the same key"
                raise SecretRefusal(twice[0], why, "rename the key in one of them", "secret_key_twice")
            merged.update(values)
        return secret_file(merged)

    def version_id(self, identity: ResourceId, values: Mapping[str, bytes]) -> str:
        canonical = {key: base64.b64encode(value).decode() for key, value in values.items()}
        message = canonical_json([str(identity), canonical])
        return "sv-" + hmac.new(self._keys().key.version_key, message, hashlib.sha256).hexdigest()[:VERSION_DIGITS]

    def _open(self, secret: ResourceId, key: str, armored: str) -> Opened:
        sealed_to, plain = self._tried(secret, key, f"the value of {key}", armored)
        place, value = place_and_value(plain)
        return Opened(value, sealed_to, place)

    def _tried(self, secret: ResourceId, key: str, what: str, armored: str) -> tuple[SealedTo, bytes]:
        if _is_for_a_crowd(armored):
            why = f"{what} is sealed to too many recipients; some {RECIPIENTS_MAX} are allowed"
            raise SecretRefusal(key, why, "seal it to its project alone: trueup secret seal", "secret_too_large")
        keys = self._keys()
        newest, *earlier = keys.of(secret.org, secret.project)
        tries: tuple[tuple[SealedTo, Sequence[pyrage.x25519.Identity]], ...] = (
            ("newest", [newest]),
            ("earlier", earlier),
            ("platform", keys.key.identities),
        )
        for sealed_to, identities in tries:
            plain = _decrypted(armored, identities) if identities else None
            if plain is not None:
                return sealed_to, plain
        recipient = self.recipient_of(secret.org, secret.project)
        why = f"{what} cannot be decrypted with the key of {secret.org}/{secret.project}"
        fix = f"seal it to that project: {command_for(secret, recipient)}"
        raise SecretRefusal(key, why, fix, "secret_undecryptable")

    def _check(
        self, secret: ResourceId, key: str, opened: Opened, accepted: Accepted, *, of_sops: bool = False
    ) -> None:
        recipient = self.recipient_of(secret.org, secret.project)
        command = sops_command_for(secret, recipient) if of_sops else command_for(secret, recipient)
        if opened.sealed_to == "platform" and not accepted.platform_recipient:
            why = f"the value of {key} is sealed to the platform's recipient of earlier versions, which is no project's"
            fix = (
                f"on the controller's host: trueup secret rewrap FILE --org {secret.org} --project {secret.project}; "
                f"or seal it anew: {command}; until then the operator can set platform_recipient = true for the source"
            )
            raise SecretRefusal(key, why, fix, "secret_platform_recipient")
        if opened.place is None and not accepted.unbound:
            why = f"the value of {key} does not say what it is for, so it could have been copied from another place"
            fix = f"seal it with: {command}; or the operator sets unbound_secrets = true for the source"
            raise SecretRefusal(key, why, fix, "secret_unbound")
        if opened.place not in (None, place_of(secret, key)):
            why = f"the value of {key} was sealed for another secret or key"
            fix = f"seal it for {place_of(secret, key)} with: {command}"
            raise SecretRefusal(key, why, fix, "secret_elsewhere")

    def _keys(self) -> _Ring:
        """Those of the file as it is now. One that cannot be read, or that would change every version id, is not
        taken: the program goes on with what it has."""
        stamp = stamp_of(self._path)
        if stamp != self._stamp:
            self._stamp = stamp
            try:
                key = key_file.read(self._path)
            except (OSError, Refusal) as error:
                _log.warning("the platform's key is not read anew", path=str(self._path), why=str(error))
                return self._ring
            if key.version_key == self._ring.key.version_key:
                self._ring = self._ring_of(key)
                _log.info("the platform's key was read anew", identities=len(key.identities))
            else:
                why = "its version key is another one: no version of a secret that the log names would fit"
                _log.warning("the platform's key is not read anew", path=str(self._path), why=why)
        return self._ring

    def _ring_of(self, key: PlatformKey) -> _Ring:
        return _Ring(PlatformKey(key.identities[:1], key.version_key) if self._newest_only else key)


class _Ring:
    """The platform's key with the projects' that were asked for."""

    def __init__(self, key: PlatformKey) -> None:
        self.key = key
        self._projects: dict[tuple[str, str], tuple[pyrage.x25519.Identity, ...]] = {}

    def of(self, org: str, project: str) -> tuple[pyrage.x25519.Identity, ...]:
        """Newest first."""
        known = self._projects.get((org, project))
        if known is None:
            if len(self._projects) >= PROJECTS_KEPT_MAX:
                self._projects.clear()
            known = tuple(project_identity(each, org, project) for each in self.key.identities)
            self._projects[org, project] = known
        return known


def _decrypted(armored: str, identities: Iterable[pyrage.x25519.Identity]) -> bytes | None:
    try:
        return bytes(pyrage.decrypt(armored.encode(), list(identities)))
    except (pyrage.DecryptError, ValueError):
        return None


def _is_for_a_crowd(armored: str) -> bool:
    """By its header, without trying anything. The age program adds one that is nobody's now and then."""
    try:
        content = base64.b64decode("".join(armored.split("\n")[1:]).partition("-----")[0])
    except binascii.Error:
        return False
    header = content.partition(b"\n--- ")[0]
    return header.count(b"\n-> ") > RECIPIENTS_MAX + 1 or len(header) > HEADER_BYTES_MAX


def _notes(opened: Mapping[str, Opened]) -> Iterator[SecretNote]:
    """What still works and should not stay."""
    fix = "on the controller's host: trueup secret rewrap FILE; or seal the values anew"
    for sealed_to, code, what in (
        (
            "platform",
            "secret_platform_recipient",
            "the platform's recipient of earlier versions, which is no project's",
        ),
        ("earlier", "secret_earlier_key", "an earlier key of the platform, which is to go one day"),
    ):
        keys = [key for key, each in opened.items() if each.sealed_to == sealed_to]
        if keys:
            more = f" and {len(keys) - KEYS_TOLD_MAX} more" if len(keys) > KEYS_TOLD_MAX else ""
            told = ", ".join(keys[:KEYS_TOLD_MAX])
            yield SecretNote(keys[0], f"sealed to {what}: {told}{more}", fix, code)


def stamp_of(path: Path) -> tuple[int, int, int]:
    """Changes when the file is replaced. Zeros while there is none."""
    try:
        found = path.stat()
    except OSError:
        return (0, 0, 0)
    return (found.st_ino, found.st_mtime_ns, found.st_size)
