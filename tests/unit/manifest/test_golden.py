"""Every file in schemas/golden/manifest: what it becomes, or exactly what is said about it.

TRUEUP_UPDATE_GOLDEN=1 writes the expectations anew; read the difference before committing it.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from kit.codec import to_json
from reconciler.core.cross_checks import Assembled, assemble
from reconciler.core.findings import errors
from reconciler.core.language.documents import parse_file
from reconciler.core.manifest import Scope, read_file, read_files
from reconciler.core.model import UNMARKED
from reconciler.vault import resolve_offline

GOLDEN = Path(__file__).parents[3] / "schemas" / "golden" / "manifest"
ACCEPTED = sorted((GOLDEN / "accepted").glob("*.yaml"))
REJECTED = sorted((GOLDEN / "rejected").glob("*.yaml"))
TREES = sorted(path for path in (GOLDEN / "trees").iterdir() if path.is_dir())


def read(path: Path) -> Assembled:
    file = read_file(path.read_bytes(), path.name, "0" * 40, Scope("org", "project"), resolve_offline)
    return assemble([file])


def expect(path: Path, found: Any) -> None:
    golden = path.with_suffix(".json")
    text = json.dumps(found, indent=1, sort_keys=True) + "\n"
    if os.environ.get("TRUEUP_UPDATE_GOLDEN"):
        golden.write_text(text)
    assert text == golden.read_text()


@pytest.mark.parametrize("path", ACCEPTED, ids=lambda path: path.stem)
def test_accepted(path: Path) -> None:
    assembled = read(path)
    assert not assembled.findings
    found: dict[str, Any] = {}
    for key, each in assembled.tree.resources.items():
        marks = {} if each.marks == UNMARKED else {"marks": to_json(each.marks)}
        found[str(key)] = {"spec": each.spec, "line": each.origin.line, **marks}
    expect(path, found)


@pytest.mark.parametrize("path", REJECTED, ids=lambda path: path.stem)
def test_rejected(path: Path) -> None:
    findings = read(path).findings
    assert errors(findings)
    assert all(finding.line and finding.column for finding in findings), "every finding has its place"
    expect(path, to_json(findings))


@pytest.mark.parametrize("folder", TREES, ids=lambda path: path.name)
def test_trees(folder: Path) -> None:
    """Files that build on one another: what they become, and what is said about them, together."""
    parsed = [
        parse_file(path.read_bytes(), str(path.relative_to(folder)), "0" * 40)
        for path in sorted(folder.rglob("*.yaml"))
    ]
    files, between = read_files(parsed, Scope("org", "project"), resolve_offline)
    assembled = assemble(files, between)
    assert all(each.line and each.column for each in assembled.findings), "every finding has its place"
    resources = {
        str(key): {"spec": each.spec, "origin": f"{each.origin.path}:{each.origin.line}"}
        for key, each in assembled.tree.resources.items()
    }
    expect(folder.with_suffix(".tree"), {"resources": resources, "findings": to_json(assembled.findings)})


def test_there_is_something_to_read() -> None:
    assert len(TREES) >= 6
    assert len(ACCEPTED) >= 3
    assert len(REJECTED) >= 30
