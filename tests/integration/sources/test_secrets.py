"""Secrets of sources that are followed no longer: what they declared runs on, and starts again elsewhere if it must."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyrage
import pytest

from kit.errors import Refusal
from kit.sealed_file import Binding, open_file
from reconciler.core.model import ResourceId
from reconciler.core.revisions import Source
from reconciler.git.clone import BareClone, kept_clones
from reconciler.secret_delivery import SecretDelivery
from reconciler.vault import Vault
from reconciler.vault.sealing import sealed_for
from tests.integration.git.repository import Repository

SECRET = "acme/shop/prod/site/secret/tls"
MANIFEST = (
    "apiVersion: trueup/v1\nkind: Secret\nmetadata: {name: tls, app: site, env: prod}\nspec:\n  values:\n    KEY: |\n"
)


async def test_they_are_read_from_the_clone_that_is_kept(tmp_path: Path) -> None:
    vault = Vault.open_or_create(tmp_path / "key")
    secret = ResourceId.parse(SECRET)
    armored = sealed_for(b"canary", secret, "KEY", vault.recipient_of("acme", "shop"))
    version_id = vault.version_id(secret, {"KEY": b"canary"})
    repository = Repository(tmp_path / "repository")
    repository.commit({"tls.yaml": MANIFEST + "".join(f"      {line}\n" for line in armored.splitlines())})
    blob = repository.git("rev-parse", "HEAD:tls.yaml")
    clone = BareClone(tmp_path / "state", Source("gone", "acme", "shop", str(repository.path)))
    await clone.open()
    await clone.fetch()
    identity = pyrage.x25519.Identity.generate()
    instance: dict[str, Any] = {
        "instance_id": "i-1",
        "app": "acme/shop/prod/site/app/site",
        "workload": {"secret": {"version_id": version_id}},
        "secrets": [{"resource_id": SECRET, "blob": blob, "version_id": version_id}],
    }
    node = {"node_id": "node-a", "seal_recipient": str(identity.to_public())}
    delivery = SecretDelivery(vault, lambda: kept_clones(tmp_path / "state", {"main": None}))
    try:
        binding = Binding("node-a", "i-1", instance["app"], version_id)
        assert b"canary" in open_file(await delivery.seal_for(instance, node), identity, binding)
        with pytest.raises(Refusal, match="is in no clone"):
            await delivery.seal_for({**instance, "secrets": [{**instance["secrets"][0], "blob": "0" * 40}]}, node)
    finally:
        delivery.close()
