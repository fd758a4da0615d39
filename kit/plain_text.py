"""Words for people: other people's text on one line, counted things. Used by commands that print, and by comments."""

from __future__ import annotations

import unicodedata
from typing import Any

_OBEYED = ("Cc", "Cf", "Cs", "Zl", "Zp")
"""What a terminal or a reader's eye would obey: controls, marks that turn the direction of writing, other lines."""


def clean(value: Any) -> str:
    """As text on one line; what would be obeyed is shown as \\xNN."""
    text = "" if value is None else str(value)
    return "".join(f"\\x{ord(char):02x}" if unicodedata.category(char) in _OBEYED else char for char in text)


def counted(count: int, word: str) -> str:
    return f"{count} {word}" + ("" if count == 1 else "s")
