"""A real repository, made by git itself."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

from tests.unit.planner.trees import ENVIRONMENT, app, route, volume

SITE = {
    "env.yaml": ENVIRONMENT,
    "apps/site/app.yaml": app(),
    "apps/site/route.yaml": route("r", "site"),
    "apps/site/volume.yaml": volume("data"),
}


class Repository:
    """A work tree whose commits are what is followed."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.environment: dict[str, str] = {}
        path.mkdir(parents=True)
        self.git("init", "-q", "-b", "main")

    def git(self, *arguments: str, stdin: bytes = b"") -> str:
        environment = {
            "PATH": os.environ["PATH"],
            "HOME": str(self.path),
            "GIT_CONFIG_NOSYSTEM": "1",
            **{f"GIT_{who}_{what}": value for who in ("AUTHOR", "COMMITTER") for what, value in _WHO.items()},
            **self.environment,
        }
        command = ["git", "-C", str(self.path), *arguments]
        return (
            subprocess.run(command, input=stdin, env=environment, capture_output=True, check=True)
            .stdout.decode()
            .strip()
        )

    def write(self, files: dict[str, str]) -> None:
        for name, text in files.items():
            target = self.path / name
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_text(text)

    def commit(
        self, files: dict[str, str] | None = None, *, remove: tuple[str, ...] = (), message: str = "change"
    ) -> str:
        """Writes, removes, commits everything. An empty commit is one too."""
        self.write(files or {})
        for name in remove:
            self.git("rm", "-rqf", name)
        self.git("add", "-A")
        self.git("commit", "-q", "--allow-empty", "-m", message)
        return self.head()

    def commit_tree(self, tree: str, *, message: str = "a tree made by hand") -> str:
        """A commit of a tree object that git's porcelain would not make."""
        parents = ["-p", self.head()] if self.has_head() else []
        commit = self.git("commit-tree", tree, *parents, "-m", message)
        self.git("update-ref", "refs/heads/main", commit)
        return commit

    def blob(self, text: str) -> str:
        return self.git("hash-object", "-w", "--stdin", stdin=text.encode())

    def tree(self, *entries: tuple[str, bytes, str]) -> str:
        """A tree object of (mode, name, object id), whatever the names."""
        raw = b"".join(mode.encode() + b" " + name + b"\0" + bytes.fromhex(oid) for mode, name, oid in entries)
        return self.git("hash-object", "-w", "-t", "tree", "--literally", "--stdin", stdin=raw)

    def head(self) -> str:
        return self.git("rev-parse", "HEAD")

    def has_head(self) -> bool:
        return bool(self.git("for-each-ref", "refs/heads/main"))


_WHO = {"NAME": "Dev", "EMAIL": "dev@example.com", "DATE": "2026-01-01T00:00:00Z"}
