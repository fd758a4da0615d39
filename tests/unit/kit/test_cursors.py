"""A cursor in a file: the old one or the new one, or none and a word about it."""

from __future__ import annotations

from pathlib import Path

import pytest

from kit.cursors import CursorFile, CursorInMemory
from kit.errors import Refusal

QUERY = {"org": "acme"}


async def test_what_is_saved_is_loaded(tmp_path: Path) -> None:
    for store in (CursorFile(tmp_path / "deep" / "cursor", QUERY), CursorInMemory()):
        assert await store.load() == ""
        await store.save("log-1.5")
        await store.save("log-1.6")
        assert await store.load() == "log-1.6"
    assert [path.name for path in (tmp_path / "deep").iterdir()] == ["cursor"]
    assert await CursorFile(tmp_path / "deep" / "cursor", QUERY).load() == "log-1.6"


async def test_a_torn_file_is_no_cursor_wherever_it_is_torn(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = tmp_path / "cursor"
    store = CursorFile(path, QUERY)
    await store.save("log-1.5123")
    whole = path.read_bytes()
    for size in range(len(whole) - 1):  # without the last line break it is whole
        path.write_bytes(whole[:size])
        assert await store.load() == ""
    assert "beginning with a snapshot" in caplog.text
    path.write_bytes(whole.replace(b"5123", b"5124"))
    assert await store.load() == "", "one that was changed by hand"


@pytest.mark.parametrize("content", [b"\xff\xfe", b"[]", b"7", b"{}", b"log-1.5\n", b"[" * 60_000, b"\0" * 70_000])
async def test_a_file_of_somebody_else_is_no_cursor(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "cursor"
    path.write_bytes(content)
    store = CursorFile(path, QUERY)
    assert await store.load() == ""
    with pytest.raises(Refusal, match=r"damaged.*remove it"):
        store.read()


async def test_a_cursor_of_another_filter_is_none(tmp_path: Path) -> None:
    """With this one there would be gaps: what the other did not let through is behind it."""
    await CursorFile(tmp_path / "cursor", QUERY).save("log-1.5")
    wider = CursorFile(tmp_path / "cursor", {})
    assert await wider.load() == ""
    with pytest.raises(Refusal, match="filter"):
        wider.read()
