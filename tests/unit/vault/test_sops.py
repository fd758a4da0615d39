"""Documents of sops: the vectors in schemas/golden/sops open; whatever was moved, cut or copied does not.

The vectors `getsops.*` were written by sops 3.11.0, the others by `sops_writer`, after the specification; the npm
package sops-age 4.0.2, which is somebody else's reading of it, gave the same values for them.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from kit.errors import Refusal
from reconciler.core.manifest import Scope, read_file, sealed_in
from reconciler.core.model import ResourceId
from reconciler.core.secret_file import SecretRefusal
from reconciler.core.sops import FORMATS
from reconciler.vault import STRICT, Accepted, Vault, key_file, project_identity, resolve_offline
from tests.unit.vault.sops_writer import document

GOLDEN = Path(__file__).parents[3] / "schemas" / "golden" / "sops"
VECTORS: dict[str, Any] = json.loads((GOLDEN / "vectors.json").read_text())
FORM = {".env": "dotenv", ".json": "json", ".yaml": "yaml"}
FILES = sorted(
    path for path in GOLDEN.iterdir() if path.suffix in FORM and path.is_file() and path.name != "vectors.json"
)
VALUES = {key: value.encode() for key, value in VECTORS["values"].items()}
SECRET = ResourceId("org", "project", "prod", "site", "secret", "tls")
CANARY = "correct-horse-battery-staple"
PLACED = {"TRUEUP_PLACE": "prod/site/tls", "PASSWORD": CANARY, "OTHER": "another-value"}


def manifest(form: str, text: str, env: str = "prod", name: str = "tls") -> str:
    head = f"apiVersion: trueup/v1\nkind: Secret\nmetadata: {{name: {name}, env: {env}, app: site}}\nspec:\n  sops:\n"
    return head + f"    {form}: |\n" + "".join(f"      {line}\n" if line else "\n" for line in text.split("\n"))


@pytest.fixture
def vault(tmp_path: Path) -> Vault:
    path = tmp_path / "platform.agekey"
    path.write_text(VECTORS["platform_identity"] + "\n")
    path.chmod(0o600)
    return Vault(path)


def resolved(vault: Vault, text: str, accepted: Accepted = STRICT) -> list[tuple[str, int, str]]:
    """What is found wrong: code, line, message."""
    found = read_file(
        text.encode(), "s.yaml", "b" * 40, Scope("org", "project"), lambda secret: vault.resolve(secret, accepted)
    )
    for each in found.findings:
        assert CANARY not in each.message + each.fix
    return [(each.code, each.line, each.message) for each in found.findings]


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_a_vector_opens(path: Path, vault: Vault) -> None:
    text = manifest(FORM[path.suffix], path.read_text())
    secret = sealed_in(text.encode(), SECRET)
    assert {key: each.value for key, each in vault.opened(secret).items()} == VALUES
    assert resolved(vault, text) == []
    version = vault.resolve(secret).spec.version_id
    assert version == vault.version_id(SECRET, VALUES), "the same as of values that trueup sealed itself"
    assert vault.values(secret, version) == VALUES
    assert resolve_offline(secret).spec.keys == tuple(sorted(VALUES))


@pytest.mark.parametrize("form", FORMATS)
def test_another_environment_does_not_get_it(form: str, vault: Vault) -> None:
    text = document(form, PLACED, vault.recipient_of("org", "project"))
    assert resolved(vault, manifest(form, text)) == []
    for copied in (manifest(form, text, env="dev"), manifest(form, text, name="other")):
        assert [code for code, *_ in resolved(vault, copied, Accepted(True, True))] == ["secret_elsewhere"]
    foreign = document(form, PLACED, vault.recipient_of("org", "other"))
    ((code, line, _),) = resolved(vault, manifest(form, foreign))
    assert (code, line) == ("secret_undecryptable", 6)


def test_without_a_place_only_a_source_that_may(vault: Vault) -> None:
    text = manifest("dotenv", document("dotenv", {"PASSWORD": CANARY}, vault.recipient_of("org", "project")))
    ((code, line, _),) = resolved(vault, text)
    assert (code, line) == ("secret_unbound", 8), "at the value's own line"
    assert resolved(vault, text, Accepted(unbound=True)) == []


def leaves(text: str) -> dict[str, str]:
    return dict(re.findall(r"^(PASSWORD|OTHER|TRUEUP_PLACE)=(.*)$", text, re.MULTILINE))


def test_what_was_changed_by_hand_is_refused(vault: Vault) -> None:
    recipient, key = vault.recipient_of("org", "project"), b"k" * 32
    good = document("dotenv", PLACED, recipient, data_key=key)
    donor = document("dotenv", {**PLACED, "PASSWORD": "older"}, recipient, data_key=key)
    stranger = document("dotenv", {**PLACED, "TRUEUP_PLACE": "dev/site/tls"}, recipient)
    of = leaves(good)
    changed = {
        "swapped": good.replace(of["PASSWORD"], "\0").replace(of["OTHER"], of["PASSWORD"]).replace("\0", of["OTHER"]),
        "left out": good.replace(f"OTHER={of['OTHER']}\n", ""),
        "emptied": good.replace(of["OTHER"], ""),
        "an older value under the same data key": good.replace(of["PASSWORD"], leaves(donor)["PASSWORD"]),
        "a place from another document": good.replace(of["TRUEUP_PLACE"], leaves(stranger)["TRUEUP_PLACE"]),
        "without its place": good.replace(f"TRUEUP_PLACE={of['TRUEUP_PLACE']}\n", ""),
        "another time": good.replace("2026-11-26T01:00:00Z", "2026-11-26T01:00:01Z"),
        "another kind of MAC": good.replace("sops_version", "sops_mac_only_encrypted=true\nsops_version"),
        "a wrong MAC": document("dotenv", PLACED, recipient, mac="0" * 128),
        "reordered": good.replace(f"OTHER={of['OTHER']}\n", "").replace("PASSWORD=", f"OTHER={of['OTHER']}\nPASSWORD="),
    }
    for what, text in changed.items():
        codes = [code for code, *_ in resolved(vault, manifest("dotenv", text), Accepted(True, True))]
        assert codes == ["secret_sops_damaged"], what


@pytest.mark.parametrize("form", FORMATS)
def test_a_plain_value_is_refused_at_its_line(form: str, vault: Vault) -> None:
    text = document(form, PLACED, vault.recipient_of("org", "project"))
    start = text.index("ENC[", text.index("PASSWORD"))
    plain = manifest(form, text[:start] + CANARY + text[text.index("]", start) + 1 :])
    ((code, line, message),) = resolved(vault, plain)
    wanted = next(number for number, each in enumerate(plain.split("\n"), 1) if "PASSWORD" in each)
    assert (code, line) == ("secret_not_encrypted", wanted), message


@pytest.mark.parametrize(
    ("form", "text", "code"),
    [
        ("dotenv", "A=1\n", "secret_not_encrypted"),
        ("dotenv", "A\n", "sops_invalid"),
        ("json", "[" * 100_000, "sops_invalid"),
        ("json", "[]\n", "sops_invalid"),
        ("json", '{"sops": {"shamir_threshold": 2}}\n', "sops_invalid"),
        ("json", '{"A": {"B": ""}, "sops": {"x": 1}}\n', "sops_invalid"),
        ("json", '{"A": "", "A": "", "sops": {"x": 1}}\n', "duplicate_key"),
        ("json", '{"a-b": "", "sops": {"x": 1}}\n', "name_invalid"),
        ("json", '{"A": "", "sops": {"age": [{"enc": 1}]}}\n', "sops_invalid"),
        ("json", '{"A": "", "sops": {"x": 1}, "sops": {}}\n', "secret_not_encrypted"),
        ("yaml", "- A\n", "sops_invalid"),
        ("yaml", "A: &a x\nB: *a\n", "sops_invalid"),
    ],
)
def test_nonsense_is_a_finding(form: str, text: str, code: str, vault: Vault) -> None:
    assert [found for found, *_ in resolved(vault, manifest(form, text))] == [code]


def test_one_of_the_two_forms(vault: Vault) -> None:
    text = manifest("dotenv", document("dotenv", PLACED, vault.recipient_of("org", "project")))
    both = text + "  values: {A: x}\n"
    assert [code for code, *_ in resolved(vault, both)] != []
    assert [code for code, *_ in resolved(vault, text.replace("dotenv:", "ini:"))] == ["unknown_field"]
    assert [code for code, *_ in resolved(vault, text.replace("  sops:", "  sobs:"))] == ["unknown_field"]


def test_an_earlier_key_of_the_platform_is_told(vault: Vault, tmp_path: Path) -> None:
    text = manifest("yaml", document("yaml", PLACED, vault.recipient_of("org", "project")))
    key_file.rotate(tmp_path / "platform.agekey")
    ((code, *_),) = resolved(vault, text)
    assert code == "secret_earlier_key"
    key_file.drop_earlier(tmp_path / "platform.agekey", 1)
    assert [code for code, *_ in resolved(vault, text)] == ["secret_undecryptable"]


def test_the_vectors_are_of_this_platform(vault: Vault) -> None:
    (platform,) = key_file.read(vault._path).identities
    assert str(project_identity(platform, "org", "project")) == VECTORS["project_identity"]
    with pytest.raises(Refusal):
        sealed_in(b"", SECRET)
    with pytest.raises(SecretRefusal):
        vault.values(sealed_in(manifest("json", (GOLDEN / "values.json").read_text()).encode(), SECRET), "sv-0")
