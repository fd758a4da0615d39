"""Settings come from a flag, else the environment, else the file, else the default; bad ones are all named at once."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pytest

from kit.errors import Refusal
from kit.settings import load, parse_bytes, parse_seconds, setting


@dataclass(frozen=True)
class Example:
    """An example program."""

    node_id: str = setting("the node")
    memory: int = setting("for guests", default=1 << 30, parse=parse_bytes)
    state: Path = setting("folder", default=Path(".state"))
    registries: tuple[str, ...] = setting("plain HTTP ones", default=())
    wait_s: float = setting("a wait", default=5.0, check=lambda value: "" if value < 60 else "is too long")
    quiet: bool = setting("say less", default=False)


def test_flag_wins_over_environment_over_file_over_default(tmp_path: Path) -> None:
    file = tmp_path / "settings.toml"
    file.write_text('node_id = "from-file"\nmemory = "3Gi"\nregistries = ["a:1", "b:2"]\n')
    environ = {"TRUEUP_CONFIG": str(file), "TRUEUP_NODE_ID": "from-environment", "TRUEUP_QUIET": "yes"}
    settings = load(Example, argv=["--node-id", "from-flag", "--wait-s", "500ms"], environ=environ, prog="example")
    assert settings == Example("from-flag", 3 << 30, Path(".state"), ("a:1", "b:2"), 0.5, True)
    assert load(Example, argv=[], environ=environ, prog="example").node_id == "from-environment"


def test_every_wrong_setting_is_named_with_where_it_came_from(tmp_path: Path) -> None:
    file = tmp_path / "settings.toml"
    file.write_text("colour = 1\n")
    with pytest.raises(Refusal) as refused:
        environ = {"TRUEUP_MEMORY": "lots"}
        load(Example, argv=["--config", str(file), "--wait-s", "2m"], environ=environ, prog="example")
    message = str(refused.value)
    assert refused.value.code == "settings_invalid"
    for part in (
        "--node-id (or TRUEUP_NODE_ID): is required",
        "TRUEUP_MEMORY",
        "'lots'",
        "--wait-s: is too long",
        "'colour'",
    ):
        assert part in message, part


def test_a_file_that_cannot_be_read_is_a_clear_refusal(tmp_path: Path) -> None:
    (tmp_path / "broken.toml").write_text("= 1")
    for name in ("broken.toml", "missing.toml"):
        with pytest.raises(Refusal, match=name):
            load(Example, argv=["--config", str(tmp_path / name)], environ={}, prog="example")


@pytest.mark.parametrize(("text", "size"), [("512", 512), ("64Mi", 64 << 20), ("2Gi", 2 << 30)])
def test_sizes(text: str, size: int) -> None:
    assert parse_bytes(text) == size


@pytest.mark.parametrize("text", ["", "-1", "1.5Gi", "2GB", "Gi"])
def test_bad_sizes_are_refused(text: str) -> None:
    with pytest.raises(ValueError, match="expected a size"):
        parse_bytes(text)


@pytest.mark.parametrize(("text", "seconds"), [("500ms", 0.5), ("2m", 120.0), ("3", 3.0), ("1.5h", 5400.0)])
def test_durations(text: str, seconds: float) -> None:
    assert parse_seconds(text) == seconds
