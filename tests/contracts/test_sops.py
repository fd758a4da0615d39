"""The real sops and our reading of its documents: what it writes opens here, what it refuses is refused here."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from reconciler.core.manifest import sealed_in
from reconciler.vault import Accepted, Vault
from tests.unit.vault.test_sops import GOLDEN, SECRET, VECTORS, resolved, vault
from tests.unit.vault.test_sops_manifest import CHANGES, TEXT

__all__ = ["vault"]
SOPS = Path(sys.executable).with_name("sops")
HEAD = """\
# ask the shop team
apiVersion: trueup/v1
kind: Secret
metadata: {name: tls, env: prod, app: site}
spec:
  values:
    # of the database
    TRUEUP_PLACE: prod/site/tls
"""
TYPED = {
    "WORD": ("correct horse", b"correct horse"),
    "QUOTED": ("'5432'", b"5432"),
    "PORT": ("5432", b"5432"),
    "NEGATIVE": ("-7", b"-7"),
    "RATIO": ("1.50", b"1.5"),
    "SMALL": ("0.00001", b"0.00001"),
    "YES": ("true", b"true"),
    "NO": ("False", b"false"),
    "EMPTY": ('""', b""),
    "SPACES": ('"  "', b"  "),
    "UNICODE": ("grüße € 🔑", "grüße € 🔑".encode()),
    "DAY": ("2026-01-01", b"2026-01-01T00:00:00Z"),
    "LINES": ("|\n      one\n      two\n", b"one\ntwo\n"),
    "LOOKS_ENCRYPTED": ("'ENC[x]'", b"ENC[x]"),
    "A_KEY_LAST": ("z", b"z"),
}
Run = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture
def sops(tmp_path: Path) -> Run:
    def run(*arguments: str, **more: str) -> subprocess.CompletedProcess[str]:
        private = {"HOME": str(tmp_path), "SOPS_AGE_KEY": VECTORS["project_identity"]}
        environment = {"PATH": os.environ["PATH"], **private, **more}
        command = [str(SOPS), *arguments]
        return subprocess.run(command, cwd=tmp_path, env=environment, text=True, capture_output=True, check=False)

    return run


def written(sops: Run, path: Path, vault: Vault, *more: str) -> str:
    arguments = ("encrypt", "--in-place", "--age", vault.recipient_of("org", "project"), *more, str(path))
    done = sops(*arguments)
    assert done.returncode == 0, done.stderr
    return path.read_text()


def values_of(vault: Vault, text: str) -> dict[str, bytes]:
    return {key: each.value for key, each in vault.opened(sealed_in(text.encode(), SECRET)).items()}


@pytest.mark.parametrize("rule", [("--encrypted-regex", "^values$"), ("--encrypted-regex", "^spec$")])
def test_every_type_that_sops_knows_opens_and_edits_stay_readable(
    rule: tuple[str, str], sops: Run, vault: Vault, tmp_path: Path
) -> None:
    path = tmp_path / "s.yaml"
    path.write_text(HEAD + "".join(f"    {key}: {value[0]}\n" for key, value in TYPED.items()))
    text = written(sops, path, vault, *rule)
    assert resolved(vault, text) == []
    assert values_of(vault, text) == {key: value[1] for key, value in TYPED.items()}
    done = sops("set", str(path), '["spec"]["values"]["WORD"]', '"another horse"')
    assert done.returncode == 0, done.stderr
    assert resolved(vault, path.read_text()) == []
    assert values_of(vault, path.read_text())["WORD"] == b"another horse"
    editor = tmp_path / "editor.sh"
    editor.write_text('#!/bin/sh\nsed -i "s/another horse/a third one/; s/PORT: 5432/PORT: 5433/" "$1"\n')
    editor.chmod(0o755)
    done = sops("edit", str(path), EDITOR=str(editor))
    assert done.returncode == 0, done.stderr
    assert resolved(vault, path.read_text()) == []
    edited = values_of(vault, path.read_text())
    assert (edited["WORD"], edited["PORT"]) == (b"a third one", b"5433")
    assert sops("rotate", "--in-place", str(path)).returncode == 0, "a new data key"
    assert resolved(vault, path.read_text()) == []


@pytest.mark.parametrize("what", CHANGES)
def test_what_sops_refuses_is_refused(what: str, sops: Run, vault: Vault, tmp_path: Path) -> None:
    (tmp_path / "s.yaml").write_text(CHANGES[what])
    done = sops("decrypt", "s.yaml")
    assert done.returncode != 0, "sops would take it"
    assert [code for code, *_ in resolved(vault, CHANGES[what], Accepted(True, True))] == ["secret_sops_damaged"]


def test_sops_takes_the_vectors(sops: Run) -> None:
    for path in (*GOLDEN.glob("getsops.*"), *(GOLDEN / "manifests").iterdir(), GOLDEN / "values.yaml"):
        done = sops("decrypt", str(path))
        assert done.returncode == 0, (path.name, done.stderr)
        assert "correct-horse-battery-staple" in done.stdout


def test_a_null_is_refused_since_no_mac_is_over_it(sops: Run, vault: Vault, tmp_path: Path) -> None:
    path = tmp_path / "s.yaml"
    path.write_text(HEAD + "    NOTHING: null\n    WORD: x\n")
    text = written(sops, path, vault, "--encrypted-regex", "^values$")
    assert sops("decrypt", str(path)).returncode == 0
    ((code, line, _),) = resolved(vault, text)
    assert (code, text.splitlines()[line - 1].strip()) == ("value_missing", "NOTHING: null")


def test_a_part_that_sops_was_told_to_leave_plain_is_refused(sops: Run, vault: Vault, tmp_path: Path) -> None:
    path = tmp_path / "s.yaml"
    path.write_text(HEAD + "    WORD: x\n    OTHER: plain\n")
    text = written(sops, path, vault, "--encrypted-regex", "^(WORD|TRUEUP_PLACE)$")
    assert sops("decrypt", str(path)).returncode == 0
    ((code, line, _),) = resolved(vault, text)
    assert (code, text.splitlines()[line - 1].strip()) == ("secret_not_encrypted", "OTHER: plain")
    whole = tmp_path / "whole.yaml"
    whole.write_text(HEAD + "    WORD: x\n")
    ((code, *_),) = resolved(vault, written(sops, whole, vault))
    assert code == "sops_encrypts_all"


def test_several_documents_and_key_groups_are_refused_by_name(sops: Run, vault: Vault, tmp_path: Path) -> None:
    path = tmp_path / "s.yaml"
    path.write_text(f"{HEAD}    WORD: x\n---\n{HEAD.replace('tls', 'other')}    WORD: y\n")
    found = resolved(vault, written(sops, path, vault, "--encrypted-regex", "^values$"))
    assert "sops_several_documents" in [code for code, *_ in found]
    recipient = vault.recipient_of("org", "project")
    (tmp_path / ".sops.yaml").write_text(
        "creation_rules:\n- encrypted_regex: ^values$\n  shamir_threshold: 2\n  key_groups:\n"
        f"  - age: [{recipient}]\n  - age: [{recipient}]\n"
    )
    path.write_text(f"{HEAD}    WORD: x\n")
    assert sops("encrypt", "--in-place", "s.yaml").returncode == 0
    ((code, _, message),) = resolved(vault, path.read_text())
    assert (code, message) == ("sops_invalid", "its data key is split between key groups")
    assert "ENC[" in path.read_text() != TEXT


def test_the_command_that_is_told_to_whoever_rotates_works(sops: Run, vault: Vault, tmp_path: Path) -> None:
    (tmp_path / "s.yaml").write_text(TEXT)
    command = [str(SOPS), "set", "--value-stdin", "s.yaml", '["spec"]["values"]["PASSWORD"]']
    environment = {"PATH": os.environ["PATH"], "SOPS_AGE_KEY": VECTORS["project_identity"]}
    subprocess.run(command, cwd=tmp_path, env=environment, input=b'"a new one"', check=True, capture_output=True)
    assert values_of(vault, (tmp_path / "s.yaml").read_text())["PASSWORD"] == b"a new one"
