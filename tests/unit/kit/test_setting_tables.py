"""Tables of settings: strict, and every mistake told with its file, line, table and key."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from kit.errors import Refusal
from kit.setting_tables import table
from kit.settings import load, setting, tables


@dataclass(frozen=True)
class Forge:
    kind: str = setting("which", default="none")
    poll_s: float = setting("how often", default=60.0)


@dataclass(frozen=True)
class Part:
    name: str = setting("its name")
    port: int = setting("where", default=80)
    wait_s: float = setting("a wait", default=1.0)
    keys: tuple[str, ...] = setting("several", default=())
    file: Path | None = setting("a file", default=None)
    quiet: bool = setting("say less", default=False)
    forge: Forge = table(Forge)

    def complaints(self) -> Iterator[tuple[str, str]]:
        if self.port == 22 and not self.keys:
            yield "keys", "port 22 needs some"


@dataclass(frozen=True)
class Program:
    """An example program."""

    level: str = setting("how much to say", default="info")
    parts: tuple[Part, ...] = tables("what there is", Part)

    def complaints(self) -> Iterator[tuple[str, str]]:
        if len(self.parts) > 2:
            yield "parts", "two are enough"


def loaded(tmp_path: Path, text: str) -> Program:
    file = tmp_path / "p.toml"
    file.write_text(text)
    return load(Program, argv=["--config", str(file)], environ={}, prog="p")


def refusal(tmp_path: Path, text: str) -> str:
    with pytest.raises(Refusal) as refused:
        loaded(tmp_path, text)
    assert refused.value.code == "settings_invalid"
    return str(refused.value)


def test_tables_become_objects_with_what_is_left_out_filled_in(tmp_path: Path) -> None:
    text = """
level = "debug"
[[parts]]
name = "a"
port = 22
wait_s = "2m"
keys = ["x", "y"]
file = "/etc/a"
[[parts]]
name = "b"
quiet = true
wait_s = 3
[parts.forge]
kind = "gitea"
poll_s = "5s"
"""
    first, second = loaded(tmp_path, text).parts
    assert first == Part("a", 22, 120.0, ("x", "y"), Path("/etc/a"), forge=Forge())
    assert second == Part("b", quiet=True, wait_s=3, forge=Forge("gitea", 5.0))
    assert loaded(tmp_path, "").parts == ()


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ('[[parts]]\nname = "a"\n\nprot = 1\n', 'p.toml:4: [[parts]] "a": prot: there is no such setting; did you'),
        ("[[parts]]\nport = 1\n", "p.toml:1: [[parts]] number 1: name: is required"),
        ('[[parts]]\nname = "a"\nport = "x"\n', 'p.toml:3: [[parts]] "a": port:'),
        ('[[parts]]\nname = "a"\nport = true\n', "port: expected a whole number, found True"),
        ('[[parts]]\nname = "a"\nport = 1.5\n', "port: expected a whole number, found 1.5"),
        ('[[parts]]\nname = "a"\nwait_s = true\n', "wait_s: expected a number or a duration, found True"),
        ('[[parts]]\nname = "a"\nkeys = ["x", 1]\n', "keys: expected a list of texts"),
        ('[[parts]]\nname = "a"\nfile = 1\n', "file: expected a text, found 1"),
        ('[[parts]]\nname = "a"\nquiet = 1\n', "quiet: expected true or false, found 1"),
        ("[[parts]]\nname = 1\n", "p.toml:2: [[parts]] number 1: name: expected a text"),
        ('[[parts]]\nname = "a"\n[parts.forge]\nkimd = "x"\n', 'p.toml:4: [[parts]] "a": forge.kimd: there is no such'),
        ('[[parts]]\nname = "a"\nforge = 1\n', "p.toml:3: [[parts]] \"a\": forge: expected a table"),
        ('[[parts]]\nname = "a"\nport = 22\n', 'p.toml:1: [[parts]] "a": keys: port 22 needs some'),
        ('parts = [1]\n', "p.toml: parts: expected tables [[parts]]"),
        ('[parts]\nname = "a"\n', "p.toml: parts: expected tables [[parts]]"),
        ('[[part]]\nname = "a"\n', "unknown key 'part'"),
        ('[[parts]]\nname="a"\n[[parts]]\nname="b"\n[[parts]]\nname="c"\n', "parts: two are enough"),
    ],
)  # fmt: skip
def test_a_mistake_names_file_line_table_and_key(tmp_path: Path, text: str, told: str) -> None:
    assert told in refusal(tmp_path, text)


def test_all_mistakes_are_told_at_once_each_at_its_own_table(tmp_path: Path) -> None:
    text = '[[parts]]\nname = "a"\nport = "x"\n[[other]]\nport = 1\n[[parts]]\nname = "b"\n\nquiet = 2\n'
    message = refusal(tmp_path, text)
    assert 'p.toml:3: [[parts]] "a": port' in message
    assert 'p.toml:9: [[parts]] "b": quiet' in message
    assert "'other'" in message


def test_tables_are_no_flags(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        load(Program, argv=["--parts", "x"], environ={}, prog="p")
    assert "--parts" in capsys.readouterr().err
