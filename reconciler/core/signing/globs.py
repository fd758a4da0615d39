"""Patterns of paths, as operators and approvers write them. Used by `policy_file` and `approvals`.

`*` and `?` stay within a name, `**` is any number of folders or names, none included; a pattern that ends in `/` means
all below. Others write both patterns and paths, so matching never backtracks further than the last star.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeVar

T = TypeVar("T")
GLOB_CHARS_MAX = 200


def complaint(glob: str) -> str:
    """What is wrong with a pattern, or ""."""
    if not glob or len(glob) > GLOB_CHARS_MAX:
        return f"a pattern has 1 to {GLOB_CHARS_MAX} characters"
    parts = _parts(glob)
    if any(part in ("", ".", "..") for part in parts):
        return "a pattern is a path from the root of the repository, without a / in front, . or .."
    if any("**" in part and part != "**" for part in parts):
        return "** stands alone between two /"
    return ""


def matches(glob: str, path: str) -> bool:
    return _wild(_parts(glob), path.split("/"), "**", _name_matches)


def _parts(glob: str) -> list[str]:
    return (glob + "**" if glob.endswith("/") else glob).split("/")


def _name_matches(pattern: str, name: str) -> bool:
    return _wild(pattern, name, "*", lambda sign, letter: sign in ("?", letter))


def _wild(pattern: Sequence[T], items: Sequence[T], star: T, fits: Callable[[T, T], bool]) -> bool:
    """Whether the pattern is the whole of the items, a star being any number of them. Quadratic at worst."""
    at, index, star_at, tried = 0, 0, -1, 0
    while index < len(items):
        if at < len(pattern) and pattern[at] == star:
            star_at, tried, at = at, index, at + 1
        elif at < len(pattern) and fits(pattern[at], items[index]):
            at, index = at + 1, index + 1
        elif star_at >= 0:
            tried += 1
            at, index = star_at + 1, tried
        else:
            return False
    return all(each == star for each in pattern[at:])
