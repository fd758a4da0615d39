"""The README of examples-repo, run as it is written: its shell blocks, in order, in one home."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

from reconciler.vault import Vault
from tests.integration.git.platform import Platform, sync_for

ROOT = Path(__file__).parents[3]
NOT_HERE = ("trueup controller", "skopeo")
"""Blocks that need more than this test has; the demo runs a controller on the same manifests."""

PROJECT = {"TRUEUP_ORG": "org", "TRUEUP_PROJECT": "project"}
"""What `sync_for` declares for; a controller with one --repository has default/default, as the command has."""


def blocks() -> list[str]:
    text = (ROOT / "examples-repo" / "README.md").read_text()
    return [block for block in re.findall(r"```sh\n(.*?)```", text, re.DOTALL) if not any(x in block for x in NOT_HERE)]


async def test_the_readme(tmp_path: Path) -> None:
    home = tmp_path / "home"
    home.mkdir()
    shutil.copytree(ROOT / "examples-repo", home / "examples-repo")
    state = home / "state"
    Vault.open_or_create(state / "platform.agekey")
    script = "\n".join(["set -eu", "cd ~", *blocks()])
    done = subprocess.run(["bash", "-c", script], env=environment(home), capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert ".: 8 resources, all good" in done.stdout
    assert "~ update prod/notes/secret/notes-tls" in done.stdout

    platform = Platform()
    looked = await sync_for(platform, state, str(home / "fleet.git")).step()
    assert looked.result == "applied", looked.findings
    assert {name.rpartition("/")[2] for name in platform.declared()} >= {"prod", "site", "notes", "notes-data"}


async def test_the_first_commit_leaves_the_apps_out_as_the_readme_says(tmp_path: Path) -> None:
    home = tmp_path / "home"
    home.mkdir()
    shutil.copytree(ROOT / "examples-repo", home / "examples-repo")
    script = "\n".join(["set -eu", "cd ~", blocks()[0]])
    subprocess.run(["bash", "-c", script], env=environment(home), check=True, capture_output=True)
    platform = Platform()
    looked = await sync_for(platform, home / "state", str(home / "fleet.git")).step()
    assert looked.result == "applied"
    assert {(each.short, one.path, one.code) for each in looked.held for one in each.findings} == {
        ("prod/app/site", "apps/site/secret.yaml", "secret_undecryptable"),
        ("prod/app/notes", "apps/notes/secret.yaml", "secret_undecryptable"),
    }
    assert {name.rpartition("/")[2] for name in platform.declared()} == {"prod"}


def environment(home: Path) -> dict[str, str]:
    """A home of its own with a `trueup` in it; the author is known, as git asks for."""
    programs = home / "bin"
    programs.mkdir()
    (programs / "trueup").write_text(
        f'#!/bin/sh\nPYTHONPATH={ROOT} exec {sys.executable} -m reconciler.cli.main "$@"\n'
    )
    (programs / "trueup").chmod(0o755)
    who = {f"GIT_{role}_{part}": "dev@example.com" for role in ("AUTHOR", "COMMITTER") for part in ("NAME", "EMAIL")}
    return {"HOME": str(home), "PATH": f"{programs}:{os.environ['PATH']}", "GIT_CONFIG_NOSYSTEM": "1", **PROJECT, **who}
