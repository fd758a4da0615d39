"""The note on a commit: what became of it, as Git keeps it beside the commit. Pure.

`reconciler.tasks.notes` writes it into refs/notes/trueup; `git log --notes=trueup` shows it. A line each, NAME: VALUE,
so that people and programs read it. The same rows and events give the same note, byte for byte, and a note is bounded.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from kit.plain_text import clean
from reconciler.core.explain_history import counts_text, finding_text
from reconciler.core.history import Deployments, Told, counts_of_row, deployments_text, events_text, held_of, signers_of

Doc = Mapping[str, Any]
NOTED = frozenset({"refused", "applied", "converged", "failed", "superseded"})
"""What a commit may have become. The steps before that are not noted: they pass."""
LINE_CHARACTERS_MAX = 300
FINDINGS_MAX = 5


def note_text(row: Doc, deployments: Deployments, events: Sequence[Told]) -> str:
    """`row`: of the view `revisions`, with a status that is NOTED."""
    return "".join(f"{clean(line)[:LINE_CHARACTERS_MAX]}\n" for line in _lines(row, deployments, events))


def between_text(source_id: str, merge: str, head: str) -> str:
    """Of a commit that nobody looked at by itself: what it is part of, or what took its place. It says the same for
    ever: what became of that is in the note there."""
    if merge:
        return f"trueup: part\nsource: {source_id}\npart of: {merge}\n"
    return f"trueup: superseded\nsource: {source_id}\nsuperseded by: {head}\nwas: not looked at by itself\n"


def _lines(row: Doc, deployments: Deployments, events: Sequence[Told]) -> Iterator[str]:
    yield f"trueup: {row['status']}"
    yield f"source: {row['source_id']}"
    if row.get("base"):
        yield f"base: {row['base']}"
    if row["status"] == "superseded":
        yield f"superseded by: {row['superseded_by']}"
        yield f"was: {row.get('was') or 'not looked at by itself'}"
    if row.get("seconds") is not None:
        yield f"seconds to converge: {row['seconds']:.1f}"
    if row.get("message"):
        yield f"why: {row['message']}"
    if row.get("pull_request"):
        yield f"pull request, as the message says: {row['pull_request']}"
    if signers := signers_of(row):
        yield f"signed by: {', '.join(signers)}"
    yield from (f"except: {each}" for each in held_of(row))
    findings = row.get("findings") or ()
    for finding in findings[:FINDINGS_MAX]:
        yield f"finding: {finding_text(finding)}"
    if len(findings) > FINDINGS_MAX:
        yield f"findings: {len(findings)} in all"
    if deployments.made or row["status"] in ("applied", "converged", "failed"):
        yield f"changes: {counts_text(counts_of_row(row))}"
    if deployments.made:
        yield f"deployments: {deployments_text(deployments)}"
    if events:
        yield f"events: {events_text(events)}"
