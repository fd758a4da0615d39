"""`trueup fmt`: what it prints, what it writes, how it ends."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from reconciler.cli.main import main
from reconciler.core.formatting import formatted

MESSY = """\
# yaml-language-server: $schema=trueup.v1.json
---
apiVersion:   trueup/v1     # of the language
kind: Environment
metadata:
      name:    prod


spec:
            # for people
      description:   |
           What visitors
             see. # this is text
---
"""
TIDY = """\
# yaml-language-server: $schema=trueup.v1.json
apiVersion: trueup/v1 # of the language
kind: Environment
metadata:
  name: prod

spec:
  # for people
  description: |
    What visitors
      see. # this is text
"""


def test_the_layout() -> None:
    assert formatted(MESSY) == TIDY
    assert formatted(TIDY) == TIDY


def test_check_changes_nothing_and_fmt_does(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "env.yaml"
    path.write_text(MESSY)
    path.chmod(0o640)
    assert main(["fmt", "--check", str(tmp_path)]) == 1
    assert capsys.readouterr().out == f"would change: {path}\n1 file, 1 to change\n"
    assert path.read_text() == MESSY
    assert main(["fmt", str(tmp_path)]) == 0
    assert path.read_text() == TIDY
    assert path.stat().st_mode & 0o777 == 0o640
    capsys.readouterr()
    assert main(["fmt", "--check", str(path), "--output", "json"]) == 0
    assert json.loads(capsys.readouterr().out)["unchanged"] == 1


def test_what_cannot_be_laid_out_is_left_alone(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    broken, odd = tmp_path / "broken.yaml", tmp_path / "odd.yaml"
    broken.write_text("a: [\n")
    odd.write_text("a:   {b: }\n")
    assert main(["fmt", str(tmp_path)]) == 1
    printed = capsys.readouterr().out
    assert f"{broken}:2:1: error: this is not valid YAML" in printed
    assert f"{odd}: warning: it cannot be laid out" in printed
    assert (broken.read_text(), odd.read_text()) == ("a: [\n", "a:   {b: }\n")


def test_wrong_usage(tmp_path: Path) -> None:
    assert main(["fmt", str(tmp_path / "nothing.yaml")]) == 2


def test_the_examples_are_in_the_layout(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["fmt", "--check", str(Path(__file__).parents[3] / "examples-repo")]) == 0
    assert "0 to change" in capsys.readouterr().out
