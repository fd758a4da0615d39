"""The signers file: what it says, and that a mistake in it is named instead of guessed at."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from kit.errors import Refusal
from reconciler.core.signing.policy_file import read_policy

ALICE = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIIt/3nGd4a5CZfvFKGFYUtRZUMhCHhJGcZEnrYTHE+mT alice"
BOB = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIDFFfeHQiE9ERXXtVENy2i2NRXu/e2ZCGuZAEZQNU9eg bob"
ROOT = f'root = "{"1" * 40}"\n'


def signer(name: str, key: str, more: str = "", key_more: str = "") -> str:
    person = f'[[signer]]\nname = "{name}"\nemails = ["{name}@Example.com"]\n{more}\n'
    return f'{person}[[signer.key]]\nssh = "{key}"\n{key_more}\n'


BOTH = signer("alice", ALICE) + signer("bob", BOB)


def test_what_a_file_says() -> None:
    rule = '[[rule]]\npaths = ["prod/**"]\nenvs = ["prod"]\n'
    policy = read_policy(ROOT + 'require = "head"\nsigned_for = "fleet"\n' + BOTH + rule, "signers.toml")
    assert (policy.require, policy.root, policy.signed_for, policy.commits_max) == ("head", "1" * 40, "fleet", 1000)
    (key, _) = policy.keys.values()
    assert (key.signer.name, key.signer.emails) == ("alice", frozenset({"alice@example.com"}))
    assert [policy.signers_for_path(path) for path in ("prod/a.yaml", "prod/x/y", "dev/a.yaml")] == [2, 2, 0]
    assert [policy.signers_for_envs(frozenset(envs)) for envs in (["prod", "dev"], ["dev"], [])] == [2, 0, 0]


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("", "signer"),
        ("require = 'any'\n" + BOTH, "any"),
        ("requires = 'all'\n" + BOTH, "requires"),
        (signer("alice", "ssh-rsa AAAA"), "alice, key 1"),
        (signer("alice", ALICE.replace("ssh-ed25519 ", "ssh-rsa ")), "type"),
        (signer("alice", ALICE[:60]), "alice, key 1"),
        (signer("alice", ALICE) + signer("bob", ALICE), "alice has this key already"),
        (signer("alice", ALICE) + signer("alice", BOB), "two signers have the name alice"),
        (signer("alice", ALICE, key_more="valid_before = 2026-01-01T00:00:00"), "timezone"),
        (signer("alice", ALICE, key_more="valid_before = 2026-01-01"), "datetime"),
        (
            signer("alice", ALICE, key_more="valid_after = 2026-01-02T00:00:00Z\nvalid_before = 2026-01-01T00:00:00Z"),
            "never",
        ),
        (signer("alice", ALICE, key_more="gpg = 'x'"), "either ssh, or gpg"),
        ("[[signer]]\nname='a'\nemails=['a@x']\n[[signer.key]]\ngpg='ABCD'\nfile='a.asc'\n", "40 hex digits"),
        (f"[[signer]]\nname='a'\nemails=['a@x']\n[[signer.key]]\ngpg='{'A' * 40}'\n", "with file"),
        ("[[signer]]\nname='a'\nemails=[]\n[[signer.key]]\nssh='x'\n", "emails"),
        ("root = 'HEAD'\n" + BOTH, "40 hex digits"),
        ("accepted = ['abc']\n" + BOTH, "40 hex digits"),
        (BOTH + "[[rule]]\npaths = ['a']\n", "root"),
        (ROOT + BOTH + "[[rule]]\n", "neither paths nor envs"),
        (ROOT + BOTH + "[[rule]]\npaths = ['/a']\n", "rule 1"),
        (ROOT + BOTH + "[[rule]]\npaths = ['a**/b']\n", "stands alone"),
        (ROOT + BOTH + "[[rule]]\npaths = ['a']\nsigners = 1\n", "signers"),
        (ROOT + BOTH + "[[rule]]\npaths = ['a']\nsigners = 3\n", "needs 3 signers, and there are 2"),
        (
            ROOT + signer("alice", ALICE) + signer("bot", BOB, "machine = true") + "[[rule]]\npaths = ['a']\n",
            "there are 1",
        ),
        ("commits_max = 0\n" + BOTH, "commits_max"),
        ("x = \n", "line 1"),
    ],
)
def test_what_is_wrong_with_it_is_said(text: str, named: str) -> None:
    with pytest.raises(Refusal, match=r"signers\.toml") as caught:
        read_policy(text, "signers.toml")
    assert caught.value.code == "signers_invalid" and named in caught.value.why


def test_the_example_of_the_documentation_is_a_good_file() -> None:
    page = Path(__file__).parents[3] / "docs" / "SIGNERS.md"
    found = re.search(r"```toml\n(.*?)```", page.read_text(), re.DOTALL)
    assert found
    policy = read_policy(found[1], "docs/SIGNERS.md")
    assert {key.signer.name for key in policy.keys.values()} == {"alice", "bob", "forge"}
    assert policy.signers_for_path("apps/base/site.yaml") == 2
