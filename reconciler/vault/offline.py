"""Secrets without any key, for `trueup plan`, `validate` and the plans of pull requests."""

from __future__ import annotations

from kit.canonical import digest
from reconciler.core.model import SecretSpec
from reconciler.core.secret_file import ResolvedSecret, SecretManifest
from reconciler.vault.opening import VERSION_DIGITS

OFFLINE_PREFIX = "sv-offline-"


def resolve_offline(secret: SecretManifest) -> ResolvedSecret:
    """`ResolveSecret`: the version id is a digest of the ciphertext and says so, and values that were only encrypted
    anew look changed."""
    version = OFFLINE_PREFIX + digest([str(secret.id), secret.values], length=VERSION_DIGITS)
    return ResolvedSecret(SecretSpec(version, tuple(sorted(secret.values)), secret.blob), 0)
