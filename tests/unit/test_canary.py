"""The search that says a secret is nowhere finds it where it is."""

from __future__ import annotations

import base64
from collections.abc import Callable
from pathlib import Path

import pytest

from tests import canary

VALUE = b"0123456789abcdef" * 3


def _across_two_pieces(path: Path) -> None:
    path.write_bytes(b"x" * (canary.PIECE_BYTES - 10) + VALUE)


def _behind_a_hole(path: Path) -> None:
    with path.open("wb") as file:
        file.seek(64 << 20)
        file.write(b"y" * 100 + VALUE[::-1])


def _in_base64(path: Path) -> None:
    path.write_bytes(b"GREETING=" + base64.b64encode(b"ab" + VALUE))


@pytest.mark.parametrize("write", [_across_two_pieces, _behind_a_hole, _in_base64])
def test_a_file_that_holds_it_is_found(tmp_path: Path, write: Callable[[Path], None]) -> None:
    (tmp_path / "deep").mkdir()
    (tmp_path / "other.log").write_bytes(VALUE[:-1])
    write(tmp_path / "deep" / "file")
    found, files, _ = canary.files_with(tmp_path, [*canary.forms(VALUE)])
    assert (found, files) == (["deep/file"], 2)


def test_holes_are_not_read(tmp_path: Path) -> None:
    _behind_a_hole(tmp_path / "disk")
    assert canary.files_with(tmp_path, [b"no"])[2] < 1 << 20
