"""Keys of projects: the same for ever, each of its own, and what the age program takes for one."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pyrage
import pytest

from reconciler.vault.project_keys import derived, project_identity

PLATFORM = "AGE-SECRET-KEY-1GFPYYSJZGFPYYSJZGFPYYSJZGFPYYSJZGFPYYSJZGFPYYSJZGFPQ4EGAEX"
VECTORS = {
    ("default", "default"): (
        "AGE-SECRET-KEY-1456TJD9ZN040Q7S8E0MY7ZSA4QL2DV5DQMA0AAW00YC7XTWD0LLSR0Y7W7",
        "age1w6k9mxqn00m8derre7hhzu22v2v95jevsaj3uqeyzmzaukjgsg9q8tc38f",
    ),
    ("acme", "shop"): (
        "AGE-SECRET-KEY-1H80K6KL8UWUZLZCWK5RFZSELGJ9CQHF80Y5PQ4Y3HKKQAH87JR0SNP0S7K",
        "age1fsa46q0ytnau5qc8tknqqfvakapsr3fyj8y8n5rpmxzmdqhglues3zrxgu",
    ),
    ("a", "bc"): (
        "AGE-SECRET-KEY-10C9Y590CM7A63LD2F95RA8STWPKTFT25VMFMVU4FDE8WT4J8GM9QSPJNEC",
        "age15l0hychg28v778twwrqnu23aj5pnx8ckndg0rdlh0azj8uv7cucsfu2mmu",
    ),
    ("ab", "c"): (
        "AGE-SECRET-KEY-1E3MCEH5KDWJ0ES026DUSJ82CKCFV4LJ74QYM27XHFF2HWH90DCJQH4SPP7",
        "age1mwz0rwuh4xh2mkdu8sca9278vhspz5c8v9hy4e3ghacqpunjselsne7a0k",
    ),
}
"""Never changed: what was sealed to these opens with these."""
VERSION_KEY = "2b67ac38c616cf4307a7cf253441e4f0aabd2c6d0d5a3354ba11e85536cd7e60"


@pytest.fixture
def platform() -> pyrage.x25519.Identity:
    return pyrage.x25519.Identity.from_str(PLATFORM)


@pytest.mark.parametrize(("project", "expected"), VECTORS.items())
def test_a_project_has_the_key_that_it_always_had(
    platform: pyrage.x25519.Identity, project: tuple[str, str], expected: tuple[str, str]
) -> None:
    found = project_identity(platform, *project)
    assert (str(found), str(found.to_public())) == expected


def test_the_key_of_version_ids_is_what_it_always_was(platform: pyrage.x25519.Identity) -> None:
    assert derived(platform, b"trueup secret version v1").hex() == VERSION_KEY


def test_no_two_projects_and_no_two_platforms_share_a_key(platform: pyrage.x25519.Identity) -> None:
    other = _other()
    names = [("a", "b"), ("b", "a"), ("a", "bc"), ("ab", "c"), ("abc", ""), ("", "abc"), ("a/b", "c"), ("a", "b/c")]
    keys = {str(project_identity(each, *name)) for name in names for each in (platform, other)}
    assert len(keys) == 2 * len(names)
    assert str(platform) not in keys


def test_age_itself_knows_the_key_and_its_recipient(platform: pyrage.x25519.Identity, tmp_path: Path) -> None:
    found = project_identity(platform, "acme", "shop")
    (tmp_path / "key").write_text(f"{found}\n")
    shown = subprocess.run(["age-keygen", "-y", str(tmp_path / "key")], capture_output=True, text=True, check=True)
    assert shown.stdout.strip() == VECTORS["acme", "shop"][1]


def _other() -> pyrage.x25519.Identity:
    return pyrage.x25519.Identity.generate()
