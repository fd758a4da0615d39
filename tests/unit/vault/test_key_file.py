"""The platform's key file: several identities, a version key that outlives them, changes in one step."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

from kit.errors import Refusal
from reconciler.vault import key_file


@pytest.fixture
def path(tmp_path: Path) -> Path:
    made = tmp_path / "platform.agekey"
    key_file.read_or_create(made)
    return made


def identities(path: Path) -> list[str]:
    return [str(each) for each in key_file.read(path).identities]


def test_a_rotation_puts_a_new_key_first_and_keeps_the_version_key(path: Path) -> None:
    before = key_file.read(path)
    key_file.rotate(path)
    after = key_file.read(path)
    assert identities(path)[1:] == [str(each) for each in before.identities]
    assert after.version_key == before.version_key
    assert path.stat().st_mode & 0o777 == 0o600
    assert [each.name for each in path.parent.iterdir()] == [path.name], "nothing is left beside it"


def test_the_version_key_outlives_the_key_that_it_came_from(path: Path) -> None:
    before = key_file.read(path)
    for earlier in (1, 1):
        key_file.rotate(path)
        assert key_file.drop_earlier(path, earlier) == 1
    assert len(identities(path)) == 1
    assert not set(identities(path)) & {str(each) for each in before.identities}
    assert key_file.read(path).version_key == before.version_key


def test_dropping_another_number_than_there_is_drops_nothing(path: Path) -> None:
    key_file.rotate(path)
    before = path.read_bytes()
    with pytest.raises(Refusal, match="it holds 1 earlier keys, not 2"):
        key_file.drop_earlier(path, 2)
    assert path.read_bytes() == before


def test_rotations_at_the_same_time_lose_none(path: Path) -> None:
    threads = [threading.Thread(target=key_file.rotate, args=(path,)) for _ in range(5)]
    for each in threads:
        each.start()
    for each in threads:
        each.join()
    assert len(set(identities(path))) == 6


def test_there_is_a_bound(path: Path) -> None:
    for _ in range(key_file.IDENTITIES_MAX - 1):
        key_file.rotate(path)
    with pytest.raises(Refusal, match="8 identities already"):
        key_file.rotate(path)
    assert len(identities(path)) == key_file.IDENTITIES_MAX


@pytest.mark.parametrize("broken", ["no version key", "torn", "twice", "foreign line", "empty"])
def test_a_damaged_file_is_refused_and_kept(path: Path, broken: str) -> None:
    """Above all one whose version key is lost: with another one no version in the log would fit."""
    key_file.rotate(path)
    lines = path.read_text().splitlines()
    content = {
        "no version key": lines[:-1],
        "torn": [*lines[:-1], lines[-1][:40]],
        "twice": [*lines, lines[-2]],
        "foreign line": [*lines, "hello"],
        "empty": [],
    }[broken]
    path.write_text("\n".join(content))
    before = path.read_bytes()
    for act in (key_file.read, key_file.read_or_create, key_file.rotate):
        with pytest.raises(Refusal) as refused:
            act(path)
        assert refused.value.code == "key_damaged"
        assert "AGE-SECRET-KEY-1" not in str(refused.value)
    assert path.read_bytes() == before
