"""`trueup fmt [--check] PATHS`: brings manifests into one layout. Comments stay, and so does what the manifests say.

A file with mistakes in its syntax is left alone, and so is one that cannot be laid out without changing more.
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from kit.files import write_atomically
from kit.plain_text import counted
from reconciler.cli import exits
from reconciler.cli.source_tree import findings_text, manifest_files, show
from reconciler.core.findings import Finding, errors
from reconciler.core.formatting import formatted
from reconciler.core.yaml_reader import read_documents


@dataclass(slots=True)
class Outcome:
    """Paths as they were given, or found below a folder that was."""

    changed: list[str] = field(default_factory=list)
    unchanged: int = 0
    findings: list[Finding] = field(default_factory=list)


def register(subparsers: Any) -> None:
    parser = subparsers.add_parser("fmt", help="bring manifests into one layout", description=__doc__)
    parser.add_argument("paths", nargs="*", default=[Path()], type=Path, help="files and folders (default: .)")
    parser.add_argument("--check", action="store_true", help="change nothing; exit with 1 when a file would change")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    outcome = Outcome()
    for path in manifest_files(args.paths, outcome.findings):
        _one(path, outcome, write=not args.check)
    document = {
        "changed": outcome.changed,
        "unchanged": outcome.unchanged,
        "written": not args.check,
        "findings": [f"{each.place}: {each.message}" for each in outcome.findings],
    }
    show(document, _render(outcome, check=args.check), args.output)
    return exits.GENERIC if errors(outcome.findings) or (args.check and outcome.changed) else exits.OK


def _one(path: Path, outcome: Outcome, *, write: bool) -> None:
    content = path.read_bytes()
    _, wrong = read_documents(content, str(path))
    if wrong:
        outcome.findings += wrong
        return
    laid_out = formatted(content.decode("utf-8-sig"))
    if laid_out is None:
        message = "it cannot be laid out without changing more than the layout"
        fix = "look for empty values in {} and [], and for comments in odd places"
        outcome.findings.append(Finding(str(path), 0, 0, "", "layout_kept", message, fix, "warning"))
    elif laid_out.encode() == content:
        outcome.unchanged += 1
    else:
        outcome.changed.append(str(path))
        if write:
            write_atomically(path, laid_out.encode(), mode=path.stat().st_mode & 0o777)


def _render(outcome: Outcome, *, check: bool) -> str:
    lines = [findings_text(outcome.findings)] if outcome.findings else []
    lines += [f"{'would change' if check else 'changed'}: {path}" for path in outcome.changed]
    total = outcome.unchanged + len(outcome.changed)
    lines.append(f"{counted(total, 'file')}, {len(outcome.changed)} {'to change' if check else 'changed'}")
    return "\n".join(lines)
