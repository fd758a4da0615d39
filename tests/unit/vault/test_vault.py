"""The vault: values resolve to versions and never show; keys come and go while versions stay."""

from __future__ import annotations

import subprocess
import time
from pathlib import Path

import pyrage
import pytest

from kit.errors import Refusal
from reconciler.core.manifest import sealed_in
from reconciler.core.model import ResourceId
from reconciler.core.secret_file import HEADER, SecretManifest, SecretRefusal, parse_secret_file, secret_file
from reconciler.vault import Accepted, Vault, bound, key_file, place_of, resolve_offline, seal
from reconciler.vault.opening import RECIPIENTS_MAX
from reconciler.vault.sealing import sealed_for

SECRET = ResourceId("org", "project", "prod", "site", "secret", "tls")
CANARY = "correct-horse-battery-staple"


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "platform.agekey"


@pytest.fixture
def vault(path: Path) -> Vault:
    return Vault.open_or_create(path)


def manifest(vault: Vault, identity: ResourceId = SECRET, **values: bytes) -> SecretManifest:
    recipient = vault.recipient_of(identity.org, identity.project)
    sealed = {key: sealed_for(value, identity, key, recipient) for key, value in values.items()}
    return SecretManifest(identity, sealed, "b" * 40)


def platform_recipient(path: Path) -> str:
    return str(key_file.read(path).identities[0].to_public())


def test_the_key_is_made_once_and_kept(tmp_path: Path) -> None:
    path = tmp_path / "state" / "platform.agekey"
    first = Vault.open_or_create(path)
    assert path.stat().st_mode & 0o777 == 0o600
    assert first.recipient_of("o", "p").startswith("age1")
    assert Vault.open_or_create(path).recipient_of("o", "p") == first.recipient_of("o", "p")


def test_a_damaged_key_is_not_replaced(path: Path) -> None:
    path.write_text("AGE-SECRET-KEY-1TORN")
    path.chmod(0o600)
    with pytest.raises(Refusal) as refused:
        Vault.open_or_create(path)
    assert refused.value.code == "key_damaged"
    assert path.read_text() == "AGE-SECRET-KEY-1TORN"


def test_a_key_that_others_may_read_is_refused(path: Path, vault: Vault) -> None:
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
    assert one.notes == ()


def test_a_version_depends_on_value_key_and_place(vault: Vault) -> None:
    dev = ResourceId("org", "project", "dev", "site", "secret", "tls")
    other = ResourceId("org", "other", "prod", "site", "secret", "tls")
    versions = {
        vault.resolve(each).spec.version_id
        for each in (
            manifest(vault, A=b"x"),
            manifest(vault, A=b"y"),
            manifest(vault, B=b"x"),
            manifest(vault, dev, A=b"x"),
            manifest(vault, other, A=b"x"),
        )
    }
    assert len(versions) == 5


def test_a_version_cannot_be_guessed_without_the_key(vault: Vault, tmp_path: Path) -> None:
    elsewhere = Vault.open_or_create(tmp_path / "other.agekey")
    mine, theirs = vault.resolve(manifest(vault, A=b"x")), elsewhere.resolve(manifest(elsewhere, A=b"x"))
    assert mine.spec.version_id != theirs.spec.version_id


def test_what_is_applied_comes_out_and_nothing_else(vault: Vault) -> None:
    applied, another = manifest(vault, A=b"x"), manifest(vault, A=b"y")
    version = vault.resolve(applied).spec.version_id
    assert vault.values(applied, version) == {"A": b"x"}
    with pytest.raises(SecretRefusal) as refused:
        vault.values(another, version)
    assert refused.value.code == "secret_changed"


# --- what earlier versions sealed ---


def former(path: Path, *, bound_to: ResourceId | None = SECRET) -> SecretManifest:
    """To the platform's own recipient."""
    value, recipient = CANARY.encode(), platform_recipient(path)
    sealed = sealed_for(value, bound_to, "A", recipient) if bound_to else seal(value, recipient, armored=True).decode()
    return SecretManifest(SECRET, {"A": sealed}, "b" * 40)


def test_the_platforms_recipient_is_accepted_where_the_settings_say_so_with_a_warning(vault: Vault, path: Path) -> None:
    with pytest.raises(SecretRefusal) as refused:
        vault.resolve(former(path))
    assert refused.value.code == "secret_platform_recipient"
    assert "trueup secret rewrap FILE --org org --project project" in refused.value.fix
    resolved = vault.resolve(former(path), Accepted(platform_recipient=True))
    assert [each.code for each in resolved.notes] == ["secret_platform_recipient"]
    assert resolved.spec.version_id == vault.resolve(manifest(vault, A=CANARY.encode())).spec.version_id
    assert vault.values(former(path), resolved.spec.version_id) == {"A": CANARY.encode()}


def test_a_value_without_a_place_is_accepted_where_the_settings_say_so(vault: Vault) -> None:
    recipient = vault.recipient_of("org", "project")
    unbound = SecretManifest(SECRET, {"A": seal(CANARY.encode(), recipient, armored=True).decode()}, "")
    with pytest.raises(SecretRefusal) as refused:
        vault.resolve(unbound)
    assert refused.value.code == "secret_unbound"
    command = f"trueup secret seal --recipient {recipient} --env prod --app site --name tls"
    assert command in refused.value.fix
    assert vault.resolve(unbound, Accepted(unbound=True)).notes == ()


def test_one_leave_is_not_the_other(vault: Vault, path: Path) -> None:
    for accepted, code in (
        (Accepted(platform_recipient=True), "secret_unbound"),
        (Accepted(unbound=True), "secret_platform_recipient"),
    ):
        with pytest.raises(SecretRefusal) as refused:
            vault.resolve(former(path, bound_to=None), accepted)
        assert refused.value.code == code
    vault.resolve(former(path, bound_to=None), Accepted(platform_recipient=True, unbound=True))


def test_a_value_for_a_crowd_is_refused_before_anything_is_tried(vault: Vault) -> None:
    recipient = vault.recipient_of("org", "project")
    to = pyrage.x25519.Recipient.from_str(recipient)

    def crowd(size: int) -> SecretManifest:
        place = bound(b"x", place_of(SECRET, "A"))
        return SecretManifest(SECRET, {"A": pyrage.encrypt(place, [to] * size, armored=True).decode()}, "")

    assert vault.resolve(crowd(RECIPIENTS_MAX)).spec.keys == ("A",)
    large = crowd(800)
    started_s = time.process_time()
    with pytest.raises(SecretRefusal, match="sealed to too many recipients"):
        vault.resolve(large)
    assert time.process_time() - started_s < 0.5


# --- a new platform key ---


def test_a_rotation_keeps_versions_and_opens_what_was_sealed_before(vault: Vault, path: Path) -> None:
    before = manifest(vault, A=CANARY.encode())
    version, recipient = vault.resolve(before).spec.version_id, vault.recipient_of("org", "project")
    key_file.rotate(path)
    assert vault.recipient_of("org", "project") != recipient, "without a restart"
    for each in (vault, Vault(path)):
        resolved = each.resolve(before)
        assert resolved.spec.version_id == version
        assert [note.code for note in resolved.notes] == ["secret_earlier_key"]
        anew = each.resolve(manifest(each, A=CANARY.encode()))
        assert (anew.spec.version_id, anew.notes) == (version, ())


def test_a_key_that_was_dropped_opens_nothing_and_versions_stay(vault: Vault, path: Path) -> None:
    before = manifest(vault, A=CANARY.encode())
    version = vault.resolve(before).spec.version_id
    key_file.rotate(path)
    anew = manifest(vault, A=CANARY.encode())
    key_file.drop_earlier(path, 1)
    for each in (vault, Vault(path)):
        assert each.resolve(anew).spec.version_id == version
        assert each.values(anew, version) == {"A": CANARY.encode()}
        with pytest.raises(SecretRefusal) as refused:
            each.resolve(before)
        assert refused.value.code == "secret_undecryptable"


@pytest.mark.parametrize("damage", ["torn", "gone", "exposed", "another platform's"])
def test_a_file_that_went_bad_does_not_take_the_keys_that_are_held(vault: Vault, path: Path, damage: str) -> None:
    sealed = manifest(vault, A=b"x")
    version = vault.resolve(sealed).spec.version_id
    if damage == "torn":
        path.write_text("AGE-SECRET-KEY-1TORN")
    elif damage == "exposed":
        key_file.rotate(path)
        path.chmod(0o644)
    else:
        path.unlink()
        if damage == "another platform's":
            key_file.read_or_create(path)
    assert vault.resolve(sealed).spec.version_id == version


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
    of = manifest(vault, A=b"hello")
    indented = "".join(f"      {line}\n" for line in of.values["A"].strip().splitlines())
    meta = "{name: tls, app: site, env: prod}"
    text = f"apiVersion: trueup/v1\nkind: Secret\nmetadata: {meta}\nspec:\n  values:\n    A: |\n{indented}"
    stands = SecretManifest(SECRET, sealed_in(text.encode(), SECRET).values, "b")
    assert vault.values(stands, vault.resolve(of).spec.version_id) == {"A": b"hello"}
    with pytest.raises(Refusal) as refused:
        sealed_in(b"", SECRET)
    assert refused.value.code == "secrets_missing"


def test_a_node_opens_what_was_sealed_for_it_with_age_itself(vault: Vault, tmp_path: Path) -> None:
    node = pyrage.x25519.Identity.generate()
    (tmp_path / "node.key").write_text(f"{node}\n")
    (tmp_path / "sealed").write_bytes(seal(b"content", str(node.to_public())))
    command = ["age", "-d", "-i", str(tmp_path / "node.key"), str(tmp_path / "sealed")]
    assert subprocess.run(command, capture_output=True, check=True).stdout == b"content"


def test_offline_versions_say_that_they_are() -> None:
    armored = "-----BEGIN AGE ENCRYPTED FILE-----\nAAAA\n-----END AGE ENCRYPTED FILE-----\n"
    offline = resolve_offline(SecretManifest(SECRET, {"A": armored}, "b"))
    assert offline.spec.version_id.startswith("sv-offline-")
