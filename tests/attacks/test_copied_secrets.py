"""Somebody copies another one's ciphertext to where he may write, to read it in a guest of his own.

Whatever differs (organisation, project, environment, app, name, key), whoever it was sealed to, and with or without a
place in it: it does not come out, and nothing that is said about it tells what it is.
"""

from __future__ import annotations

import base64
import json
import logging
from pathlib import Path
from typing import Any

import pyrage
import pytest

from kit.errors import Refusal
from reconciler.core.model import ResourceId
from reconciler.core.secret_file import SecretManifest, SecretRefusal
from reconciler.secret_delivery import SecretDelivery
from reconciler.vault import STRICT, Accepted, Vault, key_file, seal
from reconciler.vault.sealing import sealed_for
from tests.integration.sources.controllers import Site
from tests.unit.planner.trees import ENVIRONMENT, app

VICTIM = ResourceId("acme", "shop", "prod", "site", "secret", "tls")
CANARY = "canary-3f8e51c0a7d94b26"
ELSEWHERE: dict[str, tuple[ResourceId, str]] = {
    "org": (ResourceId("rival", "shop", "prod", "site", "secret", "tls"), "KEY"),
    "project": (ResourceId("acme", "blog", "prod", "site", "secret", "tls"), "KEY"),
    "org and project run together": (ResourceId("acmes", "hop", "prod", "site", "secret", "tls"), "KEY"),
    "env": (ResourceId("acme", "shop", "dev", "site", "secret", "tls"), "KEY"),
    "app": (ResourceId("acme", "shop", "prod", "blog", "secret", "tls"), "KEY"),
    "name": (ResourceId("acme", "shop", "prod", "site", "secret", "loot"), "KEY"),
    "key": (VICTIM, "LOOT"),
}
SEALED = ("to the project", "to the project, with age alone", "to the platform", "to the platform, with age alone")


def ciphertext(path: Path, sealed: str) -> str:
    """The victim's."""
    platform = str(key_file.read(path).identities[0].to_public())
    recipient = platform if "platform" in sealed else Vault(path).recipient_of("acme", "shop")
    if "age alone" in sealed:
        return seal(CANARY.encode(), recipient, armored=True).decode()
    return sealed_for(CANARY.encode(), VICTIM, "KEY", recipient)


def told(refusal: Refusal) -> str:
    return " ".join([str(refusal), refusal.attempted, refusal.why, refusal.fix, repr(refusal), str(refusal.__cause__)])


@pytest.mark.parametrize("sealed", SEALED)
@pytest.mark.parametrize("elsewhere", ELSEWHERE)
def test_a_copy_does_not_open(tmp_path: Path, sealed: str, elsewhere: str) -> None:
    path = tmp_path / "platform.agekey"
    vault = Vault.open_or_create(path)
    place, key = ELSEWHERE[elsewhere]
    stolen = SecretManifest(place, {key: ciphertext(path, sealed)}, "b" * 40)
    with pytest.raises(SecretRefusal) as refused:
        vault.resolve(stolen)
    assert CANARY not in told(refused.value)


@pytest.mark.parametrize("elsewhere", ELSEWHERE)
def test_no_leave_that_a_source_has_undoes_a_place(tmp_path: Path, elsewhere: str) -> None:
    """What `trueup secret seal` made opens for its own project and place, whatever the settings accept."""
    path = tmp_path / "platform.agekey"
    vault = Vault.open_or_create(path)
    place, key = ELSEWHERE[elsewhere]
    stolen = SecretManifest(place, {key: ciphertext(path, "to the project")}, "b" * 40)
    with pytest.raises(SecretRefusal) as refused:
        vault.resolve(stolen, Accepted(platform_recipient=True, unbound=True))
    assert CANARY not in told(refused.value)


@pytest.mark.parametrize("sealed", SEALED)
def test_where_a_leave_is_needed_it_is_the_victims_own(tmp_path: Path, sealed: str) -> None:
    """The controls of the two tests above: at its own place each of them opens, with the leave that it needs."""
    path = tmp_path / "platform.agekey"
    vault = Vault.open_or_create(path)
    own = SecretManifest(VICTIM, {"KEY": ciphertext(path, sealed)}, "b" * 40)
    leave = Accepted(platform_recipient="platform" in sealed, unbound="age alone" in sealed)
    version = vault.resolve(own, leave).spec.version_id
    assert vault.values(own, version) == {"KEY": CANARY.encode()}
    if leave != STRICT:
        with pytest.raises(SecretRefusal):
            vault.resolve(own)


class Heard:
    """Everything that the commands print."""

    def __init__(self, capsys: pytest.CaptureFixture[str]) -> None:
        self._capsys = capsys
        self.text = ""

    def readouterr(self) -> Any:
        found = self._capsys.readouterr()
        self.text += found.out + found.err
        return found


def manifest(name: str, key: str, armored: str, *, env: str = "prod", of: str = "site") -> str:
    lines = "".join(f"      {line}\n" for line in armored.strip().splitlines())
    head = f"apiVersion: trueup/v1\nkind: Secret\nmetadata: {{name: {name}, app: {of}, env: {env}}}\n"
    return f"{head}spec:\n  values:\n    {key}: |\n{lines}"


async def test_a_repository_that_copies_anothers_secrets_gets_none_of_them(
    site: Site, caplog: pytest.LogCaptureFixture
) -> None:
    """Two organisations at one controller. The victim may still use what earlier versions sealed."""
    caplog.set_level(logging.DEBUG)
    heard = Heard(site.capsys)
    site.capsys = heard  # type: ignore[assignment]  # it listens in
    path = site.state / "platform.agekey"
    Vault.open_or_create(path)
    texts = {sealed: ciphertext(path, sealed) for sealed in SEALED}
    uses = "      secrets: [tls]\n"
    own = {"env.yaml": ENVIRONMENT, "app.yaml": app(more=uses), "tls.yaml": manifest("tls", "KEY", texts[SEALED[2]])}
    applied = site.repository("victim").commit(own)
    rival = site.repository("rival")
    tables = (
        site.table("victim", project="shop", platform_recipient=True),
        site.table("rival", project="shop", org="rival"),
    )
    async with site.controller(*tables):
        await site.until_applied("victim", applied)
        files = {"env.yaml": ENVIRONMENT}
        for number, text in enumerate(texts.values()):
            name = "site" if number == 0 else f"app{number}"
            files[f"{name}/app.yaml"] = app(name, uses)
            files[f"{name}/tls.yaml"] = manifest("tls", "KEY", text, of=name)
        copied = rival.commit(files)
        await site.until_applied("rival", copied)
        declared = await site.resources()
        assert [key for key, owner in declared.items() if owner == "rival"] == ["rival/shop/prod/-/environment/prod"]
        why = await site.run("why", copied)
        for code, count in (("cannot be decrypted with the key of rival/shop", 2), ("which is no project's", 2)):
            assert why.count(code) >= count, why
        assert "site/tls.yaml:6:10" in why
        work, scope = str(rival.path), ("--org", "rival", "--project", "shop")
        await site.run("plan", copied, "--against", "live", "--source", "rival", "--repo", work, code=1)
        for arguments in (["status"], ["events"], ["source", "list"], ["state"]):
            await site.run(*arguments)
            await site.run(*arguments, "--output", "json")
        before = rival.git("status", "--porcelain")
        laundered = await site.run("secret", "rewrap", work, *scope, code=1)
        assert laundered.count("error: the value of KEY cannot be decrypted with the key of rival/shop") == 2
        assert laundered.count("it was not applied") == 2, "the platform's key would open it for anybody"
        assert rival.git("status", "--porcelain") == before
        tables_of = await site.rows("SELECT tablename FROM pg_tables WHERE schemaname = 'trueup'")
        dump = [await site.rows(f"SELECT t::text FROM {each['tablename']} t") for each in tables_of]
    heard.readouterr()
    logged = "\n".join(str(vars(each)) for each in caplog.records)
    stored = json.dumps([[row["t"] for row in rows] for rows in dump])
    for each in (stored, heard.text, logged):
        assert copied in each
    written = stored + heard.text + logged
    for form in (CANARY, base64.b64encode(CANARY.encode()).decode()[:-3], CANARY.encode().hex()):
        assert form not in written


async def test_a_delivery_does_not_give_out_what_the_log_does_not_name(tmp_path: Path) -> None:
    """Even somebody who could point an instance at a victim's blob gets nothing for another version or place."""
    path = tmp_path / "platform.agekey"
    vault = Vault.open_or_create(path)
    stolen = SecretManifest(ELSEWHERE["org"][0], {"KEY": ciphertext(path, SEALED[3])}, "b" * 40)
    with pytest.raises(SecretRefusal) as refused:
        vault.values(stolen, vault.version_id(VICTIM, {"KEY": CANARY.encode()}))
    assert refused.value.code == "secret_changed"
    node = str(pyrage.x25519.Identity.generate().to_public())
    delivery = SecretDelivery(vault, lambda: ())
    instance: dict[str, Any] = {"secrets": [{"resource_id": str(stolen.id), "blob": "b" * 40, "version_id": "sv-x"}]}
    with pytest.raises(Refusal, match="is in no clone"):
        await delivery.seal_for(instance, {"seal_recipient": node})
    delivery.close()
