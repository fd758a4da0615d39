"""The language of manifests has no way to bring a sealed value to another place: each try is a finding at its line.

And a node that has an instance of the same app in another environment is not given the file of this one.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pyrage
import pytest

from kit.errors import Refusal
from kit.sealed_file import Binding, open_file
from reconciler.core.cross_checks import Assembled, assemble
from reconciler.core.decide.deliveries import Parties, delivery_refused
from reconciler.core.declared import Scope
from reconciler.core.language.documents import parse_file
from reconciler.core.manifest import read_files, sealed_in
from reconciler.core.secret_file import SecretRefusal
from reconciler.vault import Vault
from reconciler.vault.sealing import sealed_for
from tests.attacks.test_copied_secrets import CANARY, VICTIM, manifest
from tests.unit.decide.test_deliveries import IDENTITY, INSTANCE, NODE
from tests.unit.planner.trees import ENVIRONMENT, app

DEV = ENVIRONMENT.replace("prod", "dev")
HEAD = "apiVersion: trueup/v1\nkind: {}\n"
USES_IT = app(more="      secrets: [tls]\n").replace("env: prod", "env: dev")
OVERLAY = HEAD.format("Overlay") + "target: {kind: Secret, env: dev, app: site, name: tls}\npatch: {values: {KEY: x}}\n"
DEFAULTS = HEAD.format("Defaults") + "spec:\n  "


def moved(own: str, what: str) -> tuple[dict[str, str], str]:
    """Files beside two environments, and the place of the finding."""
    cases = {
        "the environment is a variable": (
            {"defaults.yaml": DEFAULTS + "variables: {to: dev}\n", "s.yaml": own.replace("env: prod", "env: '${to}'")},
            "s.yaml:3",
        ),
        "it is for several": ({"s.yaml": own.replace("env: prod", "envs: [prod, dev]")}, "s.yaml:3"),
        "an overlay brings it": ({"s.yaml": own, "o.yaml": OVERLAY}, "o.yaml:3"),
        "defaults bring it": (
            {"s.yaml": own, "defaults.yaml": DEFAULTS + "secret: {values: {KEY: x}}\n"},
            "defaults.yaml:4",
        ),
        "renamed": ({"s.yaml": own.replace("name: tls", "name: loot")}, "s.yaml:6"),
        "of another app": ({"s.yaml": own.replace("app: site", "app: blog")}, "s.yaml:6"),
        "a key of another name": ({"s.yaml": own.replace("KEY:", "LOOT:")}, "s.yaml:6"),
        "copied whole": ({"s.yaml": own, "dev/s.yaml": own.replace("env: prod", "env: dev")}, "dev/s.yaml:6"),
        "without an environment": ({"s.yaml": own.replace(", env: prod", "")}, "s.yaml:3"),
        "used from another environment": ({"s.yaml": own, "a.yaml": USES_IT}, "a.yaml:"),
        "a variable in a value": ({"s.yaml": own.replace("|\n", "${to}\n", 1).partition("      -----")[0]}, "s.yaml:6"),
    }
    return cases[what]


WAYS = (
    "the environment is a variable", "it is for several", "an overlay brings it", "defaults bring it", "renamed",
    "of another app", "a key of another name", "copied whole", "without an environment",
    "used from another environment", "a variable in a value",
)  # fmt: skip


def tree(vault: Vault, files: dict[str, str]) -> Assembled:
    parsed = [parse_file(text.encode(), path, "b" * 40) for path, text in files.items()]
    read, between = read_files(parsed, Scope("acme", "shop"), vault.resolve)
    return assemble(read, between)


@pytest.fixture
def vault(tmp_path: Path) -> Vault:
    return Vault.open_or_create(tmp_path / "platform.agekey")


@pytest.fixture
def own(vault: Vault) -> str:
    return manifest("tls", "KEY", sealed_for(CANARY.encode(), VICTIM, "KEY", vault.recipient_of("acme", "shop")))


def test_at_its_place_it_is_good(vault: Vault, own: str) -> None:
    good = app(more="      secrets: [tls]\n")
    assert tree(vault, {"env.yaml": ENVIRONMENT, "dev.yaml": DEV, "s.yaml": own, "a.yaml": good}).findings == ()


@pytest.mark.parametrize("way", WAYS)
def test_nothing_moves_it(way: str, vault: Vault, own: str) -> None:
    files, place = moved(own, way)
    found = tree(vault, {"env.yaml": ENVIRONMENT, "dev.yaml": DEV, **files})
    places = [each.place for each in found.findings if each.severity == "error"]
    assert any(each.startswith(place) for each in places), found.findings
    assert CANARY not in str(found.findings)
    elsewhere = [str(each) for each in found.tree.resources if each.kind == "secret" and each != VICTIM]
    assert elsewhere == []


def test_the_same_app_of_another_environment_is_another_app(vault: Vault, own: str) -> None:
    """Whoever asks, for which instance, and whatever file he got."""
    secret = sealed_in(own.encode(), VICTIM)
    version = vault.resolve(secret).spec.version_id
    node = pyrage.x25519.Identity.generate()
    prod = Binding("node-a", "i-1", "acme/shop/prod/site/app/site", version)
    sealed = vault.seal_file([(secret, version)], str(node.to_public()), prod)
    assert CANARY.encode() in open_file(sealed, node, prod)
    for other in (
        ("node-a", "i-2", prod.app),
        ("node-a", "i-1", prod.app.replace("prod", "dev")),
        ("node-b", "i-1", prod.app),
    ):
        with pytest.raises(Refusal):
            open_file(sealed, node, Binding(*other, version))
    dev = {**INSTANCE, "node_id": "node-b", "app": prod.app.replace("prod", "dev")}
    refused = delivery_refused(Parties(NODE, IDENTITY, dev), "node-a", "i-1")
    assert refused is not None
    assert refused.code == "not_found"
    copied = sealed_in(own.replace("env: prod", "env: dev").encode(), replace(VICTIM, env="dev"))
    with pytest.raises(SecretRefusal):
        vault.seal_file([(copied, version)], str(node.to_public()), prod)
