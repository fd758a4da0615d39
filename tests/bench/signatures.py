"""How long it takes to check the signatures of a thousand commits that are not applied yet."""

from __future__ import annotations

import asyncio
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from reconciler.git.objects import ObjectStore
from reconciler.git.signatures import SignatureCheck
from reconciler.git.signers_file import SignersFile
from tests.integration.git.signing import NOBODY, NOW, Gpg, Person, SignedRepository, signers_file, ssh_person

TITLE = "signatures: 1,000 signed commits since the applied one"
COMMITS = 1_000


async def run(progress: Callable[[str], None]) -> dict[str, Any]:
    return await asyncio.to_thread(_run, progress)


def _run(progress: Callable[[str], None]) -> dict[str, Any]:
    with tempfile.TemporaryDirectory(prefix="sig-") as name:
        folder = Path(name)
        gpg = Gpg(folder / "gnupg")
        try:
            ssh, two = _seconds(folder, ssh_person(folder, "alice"), ssh_person(folder, "bob"), progress)
            by_gpg, _ = _seconds(folder, gpg.person(folder, "carol"), gpg.person(folder, "dave"), progress)
        finally:
            gpg.close()
    return {"commits": COMMITS, "ssh_s": ssh, "ssh_two_signers_s": two, "gpg_s": by_gpg}


def _seconds(folder: Path, one: Person, other: Person, progress: Callable[[str], None]) -> tuple[float, float]:
    """Of the signatures alone, and with a rule that needs two signers for every file. Each commit changes one file; the
    last two approve all of them."""
    repository = SignedRepository(folder / one.name)
    files = [f"apps/{number % 100}/{number}.yaml" for number in range(COMMITS)]
    base = head = repository.signed(NOBODY, dict.fromkeys(files, "# 0"))
    for number, path in enumerate(files, start=1):
        if number <= COMMITS - 2:
            repository.write({path: "# 1"})
            repository.git("add", path)
        message = "Change" if number <= COMMITS - 2 else "Approve\n\nTrueup-Approve: **"
        head = _commit(repository, (one, other)[number % 2], head, message)
        if number % 250 == 0:
            progress(f"{number} commits signed by {one.name} and {other.name}")
    repository.git("update-ref", "refs/heads/main", head)
    repository.git("gc", "-q")
    alone = _check(repository, signers_file(folder, one, other), base, head)
    ruled = signers_file(folder, one, other, root=base, rules=[{"paths": ["**"], "signers": 2}])
    return alone, _check(repository, ruled, base, head)


def _commit(repository: SignedRepository, person: Person, parent: str, message: str) -> str:
    with repository.acting(person):
        tree = repository.git("write-tree")
        return repository.git(*person.options, "commit-tree", tree, "-p", parent, "-S", "-m", message)


def _check(repository: SignedRepository, signers: Path, base: str, head: str) -> float:
    trust = SignersFile(signers).trust()
    started = time.monotonic()
    checked = SignatureCheck(trust, NOW).check(ObjectStore(repository.path), base=base, head=head)
    seconds = time.monotonic() - started
    assert not checked.findings and len(checked.signatures) == COMMITS, checked.findings
    return round(seconds, 3)
