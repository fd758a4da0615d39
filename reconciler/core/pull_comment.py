"""The one comment that a pull request gets: how it is recognised, and how it fits. Pure.

`reconciler.tasks.pull_requests` writes what `comment_body` makes and reads it back with `read_marker` after a restart.
The first line is a marker that a forge does not show. It names the source, the head that was planned, a key of all that
went into the plan, and a digest of the text; so whoever reads the comment knows what has been done, and nothing has to
be stored. A marker counts only in a comment of our own user (`reconciler.forges.rest`).
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from kit.canonical import digest
from reconciler.core.preview.document import RenderedPlan
from reconciler.core.preview.markdown import block, code

DIGEST_DIGITS = 32
UNFINISHED = "0" * DIGEST_DIGITS
"""The inputs of a comment whose status is not there yet."""
LEFT_OUT = (
    "_The plan goes on; {lines} more lines do not fit into a comment. `trueup plan BASE..HEAD` prints all of it._"
)
_MARKER = re.compile(
    r"<!-- trueup:plan source=([a-z0-9-]+) head=([0-9a-f]{40,64}) inputs=([0-9a-f]{32}) text=([0-9a-f]{32}) -->"
)
_FENCE = re.compile(r"(`{3,})[a-z]*")


@dataclass(frozen=True, slots=True)
class Marker:
    source_id: str
    head: str
    inputs: str
    text: str

    def __str__(self) -> str:
        return f"{marker_prefix(self.source_id)}head={self.head} inputs={self.inputs} text={self.text} -->"


def marker_prefix(source_id: str) -> str:
    """What a plan's comment of that source begins with."""
    return f"<!-- trueup:plan source={source_id} "


def inputs_key(head: str, tip: str, applied: str) -> str:
    """Of the commits that a plan was made from: the pull request's head, its base branch's tip, what is applied."""
    return digest([head, tip, applied], length=DIGEST_DIGITS)


def marker_for(source_id: str, head: str, inputs: str, markdown: str) -> Marker:
    return Marker(source_id, head, inputs, digest([markdown], length=DIGEST_DIGITS))


def read_marker(body: str) -> Marker | None:
    """Of a comment's first line; None when it is none."""
    found = _MARKER.fullmatch(body.partition("\n")[0].strip())
    return Marker(*found.groups()) if found else None


def conflict_plan(paths: Sequence[str], branch: str) -> RenderedPlan:
    """Of a pull request that cannot be merged as it is. The paths are a stranger's."""
    why = f"It conflicts with {code(branch)}. Merge or rebase it, then there is a plan."
    parts = ["### trueup plan: no plan", why, *([block([f"! {path}" for path in paths])] if paths else [])]
    return RenderedPlan("\n\n".join(parts), False, f"conflicts with {branch}")


def comment_body(marker: Marker, markdown: str, chars_max: int) -> str:
    """At most `chars_max` characters. What does not fit is cut at a line, and the comment says so."""
    whole = f"{marker}\n{markdown}"
    if len(whole) <= chars_max:
        return whole
    lines = whole.split("\n")
    reserve = len(LEFT_OUT) + 64
    kept: list[str] = []
    used = 0
    for line in lines:
        if used + len(line) + 1 > chars_max - reserve:
            break
        kept.append(line)
        used += len(line) + 1
    fence = _open_fence(kept)
    tail = [fence] if fence else []
    return "\n".join([*kept, *tail, "", LEFT_OUT.format(lines=len(lines) - len(kept))])


def _open_fence(lines: list[str]) -> str:
    """The fence of the code block that is open at the end, "" for none."""
    fence = ""
    for line in lines:
        if fence:
            fence = "" if line == fence else fence
        elif found := _FENCE.fullmatch(line):
            fence = found[1]
    return fence
