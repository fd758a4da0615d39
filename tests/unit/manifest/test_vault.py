"""The platform's key: made once, kept safe; values resolve to versions and never show."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pyrage
import pytest

from kit.errors import Refusal
from reconciler.core.manifest import sealed_in
from reconciler.core.model import ResourceId
from reconciler.core.secret_file import HEADER, SecretManifest, SecretRefusal, parse_secret_file, secret_file
from reconciler.vault import Vault, bound, place_of, resolve_offline, seal

SECRET = ResourceId("org", "project", "prod", "site", "secret", "tls")
CANARY = "correct-horse-battery-staple"


@pytest.fixture
def vault(tmp_path: Path) -> Vault:
    return Vault.open_or_create(tmp_path / "platform.agekey")


def manifest(vault: Vault, identity: ResourceId = SECRET, **values: bytes) -> SecretManifest:
    sealed = {key: seal(value, vault.recipient, armored=True).decode() for key, value in values.items()}
    return SecretManifest(identity, sealed, "b" * 40)


def test_the_key_is_made_once_and_kept(tmp_path: Path) -> None:
    path = tmp_path / "state" / "platform.agekey"
    first = Vault.open_or_create(path)
    assert path.stat().st_mode & 0o777 == 0o600
    assert first.recipient.startswith("age1")
    assert Vault.open_or_create(path).recipient == first.recipient


def test_a_damaged_key_is_not_replaced(tmp_path: Path) -> None:
    path = tmp_path / "platform.agekey"
    path.write_text("AGE-SECRET-KEY-1TORN")
    path.chmod(0o600)
    with pytest.raises(Refusal) as refused:
        Vault.open_or_create(path)
    assert refused.value.code == "key_damaged"
    assert path.read_text() == "AGE-SECRET-KEY-1TORN"


def test_a_key_that_others_may_read_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "platform.agekey"
    Vault.open_or_create(path)
    path.chmod(0o644)
    with pytest.raises(Refusal, match="others may read"):
        Vault.open_or_create(path)


def test_encrypting_the_same_values_anew_is_the_same_version(vault: Vault) -> None:
    one = vault.resolve(manifest(vault, A=b"x", B=b"y"))
    two = vault.resolve(manifest(vault, B=b"y", A=b"x"))
    assert one == two
    assert one.spec.version_id.startswith("sv-")
    assert len(one.spec.version_id) == 3 + 24
    assert one.spec.keys == ("A", "B")


def test_a_version_depends_on_value_key_and_place(vault: Vault) -> None:
    other = ResourceId("org", "project", "dev", "site", "secret", "tls")
    versions = {
        vault.resolve(each).spec.version_id
        for each in (
            manifest(vault, A=b"x"),
            manifest(vault, A=b"y"),
            manifest(vault, B=b"x"),
            manifest(vault, other, A=b"x"),
        )
    }
    assert len(versions) == 4


def test_a_version_cannot_be_guessed_without_the_key(vault: Vault, tmp_path: Path) -> None:
    elsewhere = Vault.open_or_create(tmp_path / "other.agekey")
    mine, theirs = vault.resolve(manifest(vault, A=b"x")), elsewhere.resolve(manifest(elsewhere, A=b"x"))
    assert mine.spec.version_id != theirs.spec.version_id


def test_a_value_for_another_key_is_refused_without_its_content(vault: Vault) -> None:
    stranger = str(pyrage.x25519.Identity.generate().to_public())
    foreign = SecretManifest(SECRET, {"A": seal(CANARY.encode(), stranger, armored=True).decode()}, "b" * 40)
    with pytest.raises(SecretRefusal) as refused:
        vault.resolve(foreign)
    assert refused.value.key == "A"
    assert refused.value.code == "secret_undecryptable"
    assert CANARY not in str(refused.value)


def test_a_sealed_value_works_only_at_its_place(vault: Vault) -> None:
    sealed = seal(bound(CANARY.encode(), place_of(SECRET, "A")), vault.recipient, armored=True).decode()
    assert vault.values(SecretManifest(SECRET, {"A": sealed}, "")) == {"A": CANARY.encode()}
    dev = ResourceId("org", "project", "dev", "mine", "secret", "loot")
    for stolen in (SecretManifest(dev, {"A": sealed}, ""), SecretManifest(SECRET, {"B": sealed}, "")):
        with pytest.raises(SecretRefusal) as refused:
            vault.resolve(stolen)
        assert refused.value.code == "secret_elsewhere"
        assert CANARY not in str(refused.value)


def test_bounds_are_those_of_the_domain(vault: Vault) -> None:
    vault.resolve(manifest(vault, A=b"x" * 65536))
    with pytest.raises(SecretRefusal, match="65537 bytes"):
        vault.resolve(manifest(vault, A=b"x" * 65537))
    with pytest.raises(SecretRefusal, match="257 keys"):
        secret_file({f"K{number}": b"" for number in range(257)})
    with pytest.raises(SecretRefusal, match="the secret file would have"):
        secret_file({f"K{number}": b"x" * 60_000 for number in range(4)})


def test_the_secret_file_is_canonical(vault: Vault) -> None:
    pem = b"-----BEGIN-----\nabc\n"
    content = vault.secret_file([{"Z": b"plain = text"}, {"A": pem, "B": b"\xff\x00", "C": b"base64:x", "D": b" x"}])
    assert content == HEADER + b"A=base64:LS0tLS1CRUdJTi0tLS0tCmFiYwo=\nB=base64:/wA=\nC=base64:YmFzZTY0Ong=\n" + (
        b"D=base64:IHg=\nZ=plain = text\n"
    )
    assert parse_secret_file(content)["A"] == pem


def test_two_secrets_with_one_key_do_not_merge(vault: Vault) -> None:
    with pytest.raises(SecretRefusal, match="same key"):
        vault.secret_file([{"A": b"1"}, {"A": b"2"}])


def test_values_come_out_of_the_blob_that_a_spec_names(vault: Vault) -> None:
    sealed = manifest(vault, A=b"hello").values["A"]
    indented = "".join(f"      {line}\n" for line in sealed.strip().splitlines())
    meta = "{name: tls, app: site, env: prod}"
    text = f"apiVersion: trueup/v1\nkind: Secret\nmetadata: {meta}\nspec:\n  values:\n    A: |\n{indented}"
    assert vault.values(SecretManifest(SECRET, sealed_in(text.encode(), SECRET), "b")) == {"A": b"hello"}
    with pytest.raises(Refusal) as refused:
        sealed_in(b"", SECRET)
    assert refused.value.code == "secrets_missing"


def test_a_node_opens_what_was_sealed_for_it_with_age_itself(vault: Vault, tmp_path: Path) -> None:
    node = pyrage.x25519.Identity.generate()
    (tmp_path / "node.key").write_text(f"{node}\n")
    (tmp_path / "sealed").write_bytes(vault.seal(b"content", str(node.to_public())))
    command = ["age", "-d", "-i", str(tmp_path / "node.key"), str(tmp_path / "sealed")]
    assert subprocess.run(command, capture_output=True, check=True).stdout == b"content"


def test_offline_versions_say_that_they_are() -> None:
    armored = "-----BEGIN AGE ENCRYPTED FILE-----\nAAAA\n-----END AGE ENCRYPTED FILE-----\n"
    offline = resolve_offline(SecretManifest(SECRET, {"A": armored}, "b"))
    assert offline.spec.version_id.startswith("sv-offline-")
