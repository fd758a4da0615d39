"""People with real keys, made by ssh-keygen and gpg, and repositories in which they sign what they commit."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from reconciler.core.revisions import Source
from reconciler.git.judge import Judged, judge, reader_for
from reconciler.git.objects import ObjectStore
from reconciler.git.signatures import SignatureCheck
from reconciler.git.signers_file import SignersFile
from reconciler.vault import resolve_offline
from tests.integration.git.repository import Repository

NOW = datetime(2026, 6, 1, 12, tzinfo=UTC)


@dataclass(frozen=True)
class Person:
    """`options`: what makes git sign as this person. `key`: the table of the signers file."""

    name: str
    options: tuple[str, ...]
    key: dict[str, str]
    environment: tuple[tuple[str, str], ...] = ()

    @property
    def email(self) -> str:
        return f"{self.name}@example.com"

    @property
    def variables(self) -> dict[str, str]:
        who = {f"GIT_{role}_{what}": value for role in ("AUTHOR", "COMMITTER") for what, value in self._parts()}
        return who | dict(self.environment)

    def _parts(self) -> tuple[tuple[str, str], ...]:
        return ("NAME", self.name.title()), ("EMAIL", self.email)


NOBODY = Person("dev", (), {})


def ssh_person(folder: Path, name: str, kind: str = "ed25519", bits: str = "") -> Person:
    key = folder / f"{name}-{kind}{bits}"
    size = ["-b", bits] if bits else []
    subprocess.run(["ssh-keygen", "-q", "-t", kind, *size, "-N", "", "-C", name, "-f", str(key)], check=True)
    public = key.with_suffix(".pub").read_text().strip()
    return Person(name, ("-c", "gpg.format=ssh", "-c", f"user.signingkey={key}"), {"ssh": public})


class Gpg:
    """A GnuPG home; `close` ends the agent that gpg starts for it."""

    def __init__(self, home: Path) -> None:
        self.home = home
        home.mkdir(mode=0o700)

    def run(self, *arguments: str, stdin: bytes = b"") -> str:
        command = ["gpg", "--homedir", str(self.home), "--batch", "--quiet", "--passphrase", "", *arguments]
        return subprocess.run(command, input=stdin, check=True, capture_output=True).stdout.decode()

    def person(self, folder: Path, name: str, *options: str, expire: str = "0") -> Person:
        self.run(*options, "--quick-gen-key", f"{name} <{name}@example.com>", "ed25519", "sign", expire)
        fingerprint = self.fingerprint(name)
        self.export(folder, fingerprint)
        sign = ("-c", "gpg.format=openpgp", "-c", f"user.signingkey={fingerprint}")
        key = {"gpg": fingerprint, "file": f"{fingerprint}.asc"}
        return Person(name, sign, key, (("GNUPGHOME", str(self.home)),))

    def fingerprint(self, name: str) -> str:
        rows = self.run("--with-colons", "--list-keys", f"{name}@example.com").splitlines()
        return next(row.split(":")[9] for row in rows if row.startswith("fpr"))

    def export(self, folder: Path, fingerprint: str) -> None:
        (folder / f"{fingerprint}.asc").write_text(self.run("--armor", "--export", fingerprint))

    def revoke(self, folder: Path, fingerprint: str) -> None:
        certificate = (self.home / "openpgp-revocs.d" / f"{fingerprint}.rev").read_text().replace(":-----", "-----")
        self.run("--import", stdin=certificate.encode())
        self.export(folder, fingerprint)

    def close(self) -> None:
        subprocess.run(["gpgconf", "--homedir", str(self.home), "--kill", "all"], check=True)


class SignedRepository(Repository):
    """`commit(..., by=PERSON)` through `acting`."""

    @contextmanager
    def acting(self, person: Person) -> Iterator[None]:
        before, self.environment = self.environment, person.variables
        try:
            yield
        finally:
            self.environment = before

    def signed(
        self,
        person: Person,
        files: dict[str, str] | None = None,
        *,
        message: str = "change",
        remove: tuple[str, ...] = (),
    ) -> str:
        with self.acting(person):
            self.write(files or {})
            for name in remove:
                self.git("rm", "-rqf", name)
            self.git("add", "-A")
            sign = ["-S"] if person.options else []
            self.git(*person.options, "commit", "-q", "--allow-empty", *sign, "-m", message)
        return self.head()

    def merge(self, person: Person, branch: str, *, message: str = "merge") -> str:
        with self.acting(person):
            sign = ["-S"] if person.options else []
            self.git(*person.options, "merge", "-q", "--no-ff", *sign, "-m", message, branch)
        return self.head()

    def raw(self, commit: str) -> bytes:
        """Byte for byte, unlike what `git` gives as text."""
        command = ["git", "-C", str(self.path), "cat-file", "commit", commit]
        return subprocess.run(command, check=True, capture_output=True, env={"PATH": os.environ["PATH"]}).stdout

    def write_commit(self, raw: bytes) -> str:
        """A commit object of these very bytes, and the branch on it."""
        commit = self.git("hash-object", "-w", "-t", "commit", "--literally", "--stdin", stdin=raw)
        self.git("update-ref", "refs/heads/main", commit)
        return commit


def signers_file(folder: Path, *people: Person, keys: dict[str, dict[str, Any]] | None = None, **settings: Any) -> Path:
    """`keys`: more for the key of a person of that name (valid_before, ...)."""
    lines = [f"{name} = {_toml(value)}" for name, value in settings.items() if name != "rules"]
    for person in people:
        lines += ["[[signer]]", f"name = {_toml(person.name)}", f"emails = [{_toml(person.email)}]"]
        if person.name.endswith("-bot"):
            lines.append("machine = true")
        lines.append("[[signer.key]]")
        lines += [
            f"{name} = {_toml(value)}" for name, value in (person.key | (keys or {}).get(person.name, {})).items()
        ]
    for rule in settings.get("rules", ()):
        lines += ["[[rule]]", *(f"{name} = {_toml(value)}" for name, value in rule.items())]
    path = folder / "signers.toml"
    path.write_text("\n".join(lines) + "\n")
    return path


def _toml(value: Any) -> str:
    return value.isoformat() if isinstance(value, datetime) else json.dumps(value)


def judged(
    repository: Repository, signers: Path, head: str, base: str = "", *, now: datetime = NOW, rewrite: str = ""
) -> Judged:
    """As the controller judges the commit."""
    source = Source("main", "default", "default", str(repository.path), accepted_rewrite=rewrite)
    objects = ObjectStore(repository.path)
    check = SignatureCheck(SignersFile(signers).trust(), now)
    return judge(source, objects, reader_for(source, objects, resolve_offline), head=head, base=base, signatures=check)


def codes(found: Judged) -> list[str]:
    return sorted({each.code for each in found.findings if each.severity == "error"})
