"""The developer's side: a bare origin, a working clone, commits and pushes, all made by git itself."""

from __future__ import annotations

import os
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

IDENTITY = {
    "GIT_AUTHOR_NAME": "Dana Developer",
    "GIT_AUTHOR_EMAIL": "dana@example.test",
    "GIT_COMMITTER_NAME": "Dana Developer",
    "GIT_COMMITTER_EMAIL": "dana@example.test",
    "GIT_CONFIG_GLOBAL": "/dev/null",
    "GIT_CONFIG_SYSTEM": "/dev/null",
}


@dataclass
class Repository:
    origin: Path
    work: Path

    @classmethod
    def create(cls, folder: Path) -> Repository:
        repository = cls(folder / "origin.git", folder / "work")
        _run("git", "init", "-q", "--bare", "-b", "main", str(repository.origin))
        _run("git", "clone", "-q", str(repository.origin), str(repository.work))
        repository._git("checkout", "-q", "-b", "main")
        repository._git("config", "user.name", IDENTITY["GIT_AUTHOR_NAME"])  # for who plays with `make up`
        repository._git("config", "user.email", IDENTITY["GIT_AUTHOR_EMAIL"])
        return repository

    def copy_in(self, source: Path) -> None:
        shutil.copytree(source, self.work, dirs_exist_ok=True)

    def read(self, path: str) -> str:
        return (self.work / path).read_text()

    def write(self, path: str, text: str) -> None:
        (self.work / path).parent.mkdir(parents=True, exist_ok=True)
        (self.work / path).write_text(text)

    def replace(self, path: str, old: str, new: str) -> None:
        text = self.read(path)
        assert old in text, f"{path} holds no {old!r}"
        self.write(path, text.replace(old, new))

    def remove(self, *paths: str) -> None:
        self._git("rm", "-rq", *paths)

    def push(self, message: str, *trailers: str) -> str:
        """Commits everything (or nothing, if nothing changed) and pushes; the commit id."""
        self._git("add", "-A")
        text = message + ("\n\n" + "\n".join(trailers) if trailers else "")
        self._git("commit", "-q", "--allow-empty", "-m", text)
        self._git("push", "-q", "origin", "main")
        return self.head()

    def revert(self, commit: str) -> str:
        self._git("revert", "--no-edit", commit)
        self._git("push", "-q", "origin", "main")
        return self.head()

    def head(self) -> str:
        return self._git("rev-parse", "HEAD").strip()

    def _git(self, *words: str) -> str:
        return _run("git", "-C", str(self.work), *words)


def _run(*command: str) -> str:
    environ = {**os.environ, **IDENTITY}
    answer = subprocess.run(
        command, capture_output=True, text=True, env=environ, timeout=60, start_new_session=True
    )  # Ctrl-C is for the demo, which then stops everything
    assert answer.returncode == 0, f"{' '.join(command)}: {answer.stderr}"
    return answer.stdout
