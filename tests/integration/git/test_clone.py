"""The bare clone over time: it stays small, and nothing is ever left out of it."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from reconciler.core.revisions import Source
from reconciler.git import clone as clone_module
from reconciler.git.clone import BareClone, kept_clones
from reconciler.git.objects import ObjectStore
from tests.integration.git.repository import Repository

FETCHES = 14
PACKS_MAX = 4


@pytest.fixture
def repository(tmp_path: Path) -> Repository:
    return Repository(tmp_path / "repository")


def clone_of(tmp_path: Path, repository: Repository, name: str = "main") -> BareClone:
    return BareClone(tmp_path / "state", Source(name, "org", "project", str(repository.path)))


async def test_many_packs_become_few_and_every_object_stays(
    repository: Repository, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also for a reader that was there before, and also what a force-push took off every branch."""
    monkeypatch.setattr(clone_module, "PACKS_MAX", PACKS_MAX)
    clone = clone_of(tmp_path, repository)
    await clone.open()
    blobs = {}
    reader = None
    for number in range(FETCHES):
        text = f"number {number}\n"
        repository.commit({"file": text})
        blobs[repository.git("rev-parse", "HEAD:file")] = text
        if number == FETCHES // 2:
            repository.git("checkout", "-q", "--orphan", "other")
            repository.git("branch", "-qD", "main")
            repository.git("checkout", "-q", "-b", "main")
            repository.commit({"file": f"rewritten {number}\n"})
        await clone.fetch()
        reader = reader or ObjectStore(clone.path)
    assert len(list(clone.path.glob("objects/pack/*.pack"))) <= PACKS_MAX + 1
    reachable = int(repository.git("rev-list", "--count", "main"))
    assert reachable < FETCHES, "history was rewritten on the way"
    assert reader is not None
    fetched = {blob: text for blob, text in blobs.items() if text != f"number {FETCHES // 2}\n"}
    for objects in (reader, ObjectStore(clone.path)):
        assert {blob: objects.blob(blob, 100).decode() for blob in fetched} == fetched


async def test_a_fetch_brings_only_what_is_new(repository: Repository, tmp_path: Path) -> None:
    noise = random.Random(1)
    repository.commit({f"{number}.txt": noise.randbytes(400).hex() for number in range(500)})
    clone = clone_of(tmp_path, repository)
    await clone.open()
    await clone.fetch()
    (first,) = clone.path.glob("objects/pack/*.pack")
    repository.commit({"0.txt": "new"})
    await clone.fetch()
    (second,) = set(clone.path.glob("objects/pack/*.pack")) - {first}
    assert second.stat().st_size < first.stat().st_size / 10
    before = set(clone.path.rglob("*"))
    await clone.fetch()
    assert set(clone.path.rglob("*")) == before, "and nothing when nothing is"


async def test_clones_that_are_followed_no_longer_can_be_read(repository: Repository, tmp_path: Path) -> None:
    repository.commit({"file": "text"})
    blob = repository.git("rev-parse", "HEAD:file")
    for name in ("old", "main"):
        clone = clone_of(tmp_path, repository, name)
        await clone.open()
        await clone.fetch()
    (tmp_path / "state" / "git" / "old.pulls.git").mkdir()
    kept = kept_clones(tmp_path / "state", {"main": None})
    assert [each.path.name for each in kept] == ["old.git"]
    assert ObjectStore(kept[0].path).blob(blob, 100) == b"text"
