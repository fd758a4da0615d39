"""Secret manifests that sops encrypted in place: what the real sops wrote opens, and nothing else does.

The vectors in schemas/golden/sops/manifests were made with sops 3.11.0, `--encrypted-regex` and the like. What sops
itself says to what is refused here is in tests/contracts/test_sops.py.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from kit.errors import Refusal
from reconciler.core.formatting import formatted
from reconciler.core.manifest import Scope, sealed_in
from reconciler.core.sealed_text import secrets_in
from reconciler.vault import Accepted, Vault, resolve_offline
from reconciler.vault.sealing import sealed_for
from tests.unit.vault.test_sops import CANARY, GOLDEN, SECRET, VALUES, resolved, vault

__all__ = ["vault"]
MANIFESTS = sorted((GOLDEN / "manifests").iterdir())
TEXT = (GOLDEN / "manifests" / "values.yaml").read_text()
LAX = Accepted(platform_recipient=True, unbound=True)


def leaf(key: str, text: str = TEXT) -> str:
    """ENC[...] of a key."""
    return next(line.strip().split(" ", 1)[1] for line in text.splitlines() if line.strip().startswith(f"{key}: "))


def line_of(start: str, text: str) -> int:
    return next(number for number, line in enumerate(text.splitlines(), 1) if line.strip().startswith(start))


@pytest.mark.parametrize("path", MANIFESTS, ids=lambda path: path.name)
def test_a_vector_opens(path: Path, vault: Vault) -> None:
    text = path.read_text()
    secret = sealed_in(text.encode(), SECRET)
    assert {key: each.value for key, each in vault.opened(secret).items()} == VALUES
    assert resolved(vault, text) == []
    version = vault.resolve(secret).spec.version_id
    assert version == vault.version_id(SECRET, VALUES), "the same as of values that trueup sealed itself"
    assert vault.values(secret, version) == VALUES
    assert resolve_offline(secret).spec.keys == tuple(sorted(VALUES))


@pytest.mark.parametrize("path", MANIFESTS, ids=lambda path: path.name)
@pytest.mark.parametrize(
    ("part", "other"), [("env: prod", "env: dev"), ("app: site", "app: blog"), ("name: tls", "name: b")]
)
def test_it_opens_for_its_own_place_alone(path: Path, part: str, other: str, vault: Vault) -> None:
    """Also where the MAC is over the values only, and whatever the source's settings accept."""
    moved = path.read_text().replace(part, other)
    ((code, line, _),) = resolved(vault, moved, LAX)
    if "mac-only" in path.name:
        assert (code, line) == ("secret_elsewhere", line_of("DEBUG", moved))
    else:
        assert (code, line) == ("secret_sops_damaged", line_of("TRUEUP_PLACE:", moved))


def test_a_place_cannot_be_cut_up_anew(vault: Vault) -> None:
    """The MAC is over texts one after the other: prod, site is as good as prods, ite to it. The place is not."""
    text = TEXT.replace("env: prod", "env: prods").replace("app: site", "app: ite")
    assert [code for code, *_ in resolved(vault, text, LAX)] == ["secret_elsewhere"]


CHANGES = {
    "a value is left out": TEXT.replace(f"        DEBUG: {leaf('DEBUG')}\n", ""),
    "two are swapped": TEXT.replace(leaf("PORT"), "\0")
    .replace(leaf("RATIO"), leaf("PORT"))
    .replace("\0", leaf("RATIO")),
    "one is emptied": TEXT.replace(leaf("DEBUG"), '""'),
    "a key is renamed": TEXT.replace("DEBUG:", "DEBUGGED:"),
    "the place is left out": TEXT.replace(f"        TRUEUP_PLACE: {leaf('TRUEUP_PLACE')}\n", ""),
    "a plain line is changed": TEXT.replace("    protect: true\n", ""),
    "the MAC is called one over the values only": TEXT.replace(
        "version: 3", "mac_only_encrypted: true\n    version: 3"
    ),
    "the time is another one": TEXT.replace("2026-11-26T0", "2026-11-26T1"),
}


@pytest.mark.parametrize("what", CHANGES)
def test_what_was_changed_by_hand_is_refused(what: str, vault: Vault) -> None:
    assert CHANGES[what] != TEXT
    assert [code for code, *_ in resolved(vault, CHANGES[what], LAX)] == ["secret_sops_damaged"]


def age_part(text: str) -> str:
    return text[text.index("    age:\n") : text.index("    lastmodified")]


PGP = '    pgp:\n        - created_at: "2026-01-01T00:00:00Z"\n          enc: x\n          fp: y\n'
UNREADABLE = {
    "plain": (TEXT.replace(leaf("PASSWORD"), CANARY), "secret_not_encrypted", "PASSWORD:", "not an age-encrypted text"),
    "a number": (TEXT.replace(leaf("PORT"), "5432"), "secret_not_encrypted", "PORT:", "not an age-encrypted text"),
    "null": (TEXT.replace(leaf("PORT"), "null"), "value_missing", "PORT:", ""),
    "no metadata": (TEXT[: TEXT.index("sops:")], "secret_not_encrypted", "TRUEUP_PLACE:", "that sops wrote below it"),
    "pgp alone": (TEXT.replace(age_part(TEXT), PGP), "sops_invalid", "age|pgp", "encrypted with pgp alone"),
    "nobody": (TEXT.replace(age_part(TEXT), ""), "sops_invalid", "sops", "to 0 age recipients"),
    "groups": (
        TEXT.replace("    version", "    shamir_threshold: 2\n    version"),
        "sops_invalid",
        "",
        "between key groups",
    ),
    "newer": (
        TEXT.replace("version: 3.11.0", "version: 4.0.1"),
        "sops_version_unknown",
        "",
        "sops 4.0.1; 3.x is known",
    ),
    "no MAC": (TEXT.replace("    mac: ", "    mock: "), "sops_invalid", "", "has no mac"),
    "two documents": (TEXT + "---\n" + TEXT.replace("tls", "b"), "sops_several_documents", "", "holds one document"),
    "all of it": (
        TEXT.replace("apiVersion: trueup/v1", f"apiVersion: {leaf('PORT')}"),
        "sops_encrypts_all",
        "apiVersion",
        "",
    ),
    "a document": (
        TEXT[: TEXT.index("    values")] + "    sops: {dotenv: A=1}\n" + TEXT[TEXT.index("sops:") :],
        "sops_invalid",
        "",
        "no values",
    ),
}


@pytest.mark.parametrize("what", UNREADABLE)
def test_what_cannot_be_read_is_a_finding_that_says_why(what: str, vault: Vault) -> None:
    text, code, start, said = UNREADABLE[what]
    assert text != TEXT
    found = resolved(vault, text, LAX)
    assert code in {each[0] for each in found} <= {code, "secret_sops_damaged"}, found
    assert all(line for _, line, _ in found)
    assert said in found[0][2]
    if start.endswith(":"):
        assert found[0][1] == line_of(start, text)


def test_another_projects_and_an_age_value_in_between(vault: Vault) -> None:
    """What only the file's own data key opens is the file's."""
    armored = sealed_for(b"x", SECRET, "PORT", vault.recipient_of("org", "project"))
    block = "|\n" + "".join(f"            {line}\n" for line in armored.strip().splitlines())
    ((code, line, message),) = resolved(vault, TEXT.replace(leaf("PORT") + "\n", block), LAX)
    assert (code, line) == ("secret_not_encrypted", line_of("PORT:", TEXT)), message
    with pytest.raises(Refusal) as refused:
        vault.resolve(sealed_in(TEXT.encode(), SECRET.__class__("org", "other", "prod", "site", "secret", "tls")))
    assert refused.value.code == "secret_undecryptable"


def test_its_layout_is_left_to_sops() -> None:
    assert formatted(TEXT) == TEXT


def test_the_commands_know_it_and_leave_it_to_sops() -> None:
    (found,), findings = secrets_in(TEXT.encode(), "s.yaml", Scope("org", "project"))
    assert findings == []
    assert found.manifest.sops is not None
    assert found.marks["PORT"].line == line_of("PORT:", TEXT)
