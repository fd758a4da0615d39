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
from reconciler.core.manifest import Scope, read_file
from reconciler.vault import resolve_offline

GOLDEN = Path(__file__).parents[3] / "schemas" / "golden" / "manifest"
ACCEPTED = sorted((GOLDEN / "accepted").glob("*.yaml"))
REJECTED = sorted((GOLDEN / "rejected").glob("*.yaml"))


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
    expect(
        path,
        {str(key): {"spec": each.spec, "line": each.origin.line} for key, each in assembled.tree.resources.items()},
    )


@pytest.mark.parametrize("path", REJECTED, ids=lambda path: path.stem)
def test_rejected(path: Path) -> None:
    findings = read(path).findings
    assert errors(findings)
    assert all(finding.line and finding.column for finding in findings), "every finding has its place"
    expect(path, to_json(findings))


def test_there_is_something_to_read() -> None:
    assert len(ACCEPTED) >= 3
    assert len(REJECTED) >= 30
