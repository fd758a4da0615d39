"""Pages on terminals of 80 to 160 columns: nothing is cut, no id is broken, nothing is wider than the terminal."""

from __future__ import annotations

import fcntl
import os
import pty
import struct
import subprocess
import sys
import termios
from datetime import UTC, datetime
from pathlib import Path

import pytest

from kit.codec import to_json
from reconciler.cli.layout import Line, age, fitted, packed_lines, with_ages
from reconciler.cli.output import Table, aligned, plain
from reconciler.cli.why import page
from tests.unit.cli.asking import World
from tests.unit.cli.story import BAD

ID = "i-01m84m88annf75y4jtfv2j76k8"
COLUMNS = ("event", "instance", "because of", "what")
ROWS = [
    (
        "#1",
        ID,
        "Dana Developer <dana@example.test>, commit 40e0802dc2e1, site.yaml:1",
        f"instance {ID} placed on node-a",
    ),
    (
        "#123456",
        "-",
        "scheduler",
        "registry.example/site@sha256:" + "1" * 64 + " is not there, and " + "very " * 20 + "late",
    ),
]


def texts(lines: list[Line]) -> list[str]:
    return ["".join(piece.text for piece in line).rstrip() for line in lines]


@pytest.mark.parametrize("width", [*range(80, 161), 400])
def test_a_table_fits_without_breaking_a_word(width: int) -> None:
    lines = texts(fitted(COLUMNS, ROWS, width))
    longest_word = max(len(word) for row in ROWS for cell in row for word in cell.split())
    assert all(len(line) <= max(width, longest_word + 12) for line in lines)
    told = " ".join(" ".join(lines).split())
    for row in ROWS:
        for cell in row:
            assert set(cell.split()) <= set(told.split()), cell


def test_a_wide_terminal_shows_what_a_pipe_shows() -> None:
    assert texts(fitted(COLUMNS, ROWS, 400)) == aligned(Table(COLUMNS, tuple(ROWS)))


def test_on_a_narrow_one_the_sentence_stands_first() -> None:
    lines = texts(fitted(COLUMNS, ROWS, 80))
    assert lines[0] == f"#1  instance {ID} placed on node-a"
    assert lines[1] == f"    INSTANCE {ID}"


def test_parts_of_a_line_stay_whole() -> None:
    assert packed_lines(["by Ada", "source main", "commit aaaa"], 20) == ["by Ada, source main", "commit aaaa"]
    assert packed_lines(["x" * 30, "y"], 20) == ["x" * 30, "y"]


def test_how_long_ago_something_was() -> None:
    now = datetime(2026, 1, 1, 12, 0, 0, tzinfo=UTC)
    assert with_ages("at 2026-01-01T11:57:00.123Z, then", now) == "at 2026-01-01 11:57:00Z (3 min ago), then"
    assert with_ages("2026-13-01T11:57:00Z and main@abc", now) == "2026-13-01T11:57:00Z and main@abc"
    told = {5: "5 s ago", 89: "89 s ago", 90: "1 min ago", 5400: "1 h ago", 200_000: "2 d ago", -1: "now"}
    assert {seconds: age(seconds) for seconds in told} == told
    assert (age(-3600), age(-1)) == ("in 60 min", "now")


async def test_a_whole_page_has_the_reason_first() -> None:
    world = World()
    await world.story.site()
    await world.story.status("i-0002", "node-b", "failed", "process_exited", "panic", exit_code=1, restarts=2)
    await world.story.refused(BAD, "More")
    lines = plain(page(to_json(await world.explain("app/site")))).splitlines()
    assert [line for line in lines if line.isupper() or line.startswith("WHY")][:4] == [
        "WHY 1: process_exited",
        "WHY 2: revision_refused",
        "WANTED",
        "THERE",
    ]


def on_terminal(width: int, *argv: str, **environment: str) -> str:
    """What a command writes to a terminal of that width."""
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 50, width, 0, 0))
    kept = {name: value for name, value in os.environ.items() if name not in ("COLUMNS", "NO_COLOR")}
    process = subprocess.Popen(
        [sys.executable, "-m", "reconciler", *argv], stdin=theirs, stdout=theirs, stderr=theirs,
        cwd=Path(__file__).parents[3], env={**kept, "TERM": "xterm-256color", **environment},
    )  # fmt: skip
    os.close(theirs)
    told = b""
    try:
        while chunk := os.read(ours, 65536):
            told += chunk
    except OSError:  # the other end is closed: Linux says it so
        pass
    os.close(ours)
    assert process.wait() == 0
    return told.decode()


def test_colours_are_for_terminals_only() -> None:
    argv = ("lifecycles", "node")
    assert "\x1b[" in on_terminal(100, *argv)
    assert "\x1b[3" not in on_terminal(100, *argv, NO_COLOR="1")
    piped = subprocess.run(
        [sys.executable, "-m", "reconciler", *argv], capture_output=True, check=True, cwd=Path(__file__).parents[3]
    )
    assert b"\x1b" not in piped.stdout
