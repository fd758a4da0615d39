"""The people of the signature tests, as fixtures; their keys are made once a module."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.integration.git.repository import SITE
from tests.integration.git.signing import NOBODY, Gpg, Person, SignedRepository, ssh_person


@pytest.fixture(scope="module")
def folder() -> Iterator[Path]:
    """Where keys and signers files are; short, since an agent's socket lies below it."""
    made = Path(tempfile.mkdtemp(prefix="keys-"))
    yield made
    shutil.rmtree(made)


@pytest.fixture(scope="module")
def alice(folder: Path) -> Person:
    return ssh_person(folder, "alice")


@pytest.fixture(scope="module")
def bob(folder: Path) -> Person:
    return ssh_person(folder, "bob")


@pytest.fixture(scope="module")
def mallory(folder: Path) -> Person:
    return ssh_person(folder, "mallory")


@pytest.fixture(scope="module")
def gpg(folder: Path) -> Iterator[Gpg]:
    made = Gpg(folder / "gnupg")
    yield made
    made.close()


@pytest.fixture(scope="module")
def carol(gpg: Gpg, folder: Path) -> Person:
    return gpg.person(folder, "carol")


@pytest.fixture
def repository(tmp_path: Path) -> SignedRepository:
    """With one commit, unsigned: what was applied before signatures were asked for."""
    made = SignedRepository(tmp_path / "repository")
    made.signed(NOBODY, SITE, message="begin")
    return made
