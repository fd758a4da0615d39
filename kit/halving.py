"""What is sent together and cannot be read there is sent apart. Used by the reports of agents and edges.

One entry that the controller cannot read (it is older, or the entry is damaged) would hold back all others for ever.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import TypeVar

from kit.errors import Refusal

Item = TypeVar("Item")
UNREADABLE = frozenset({"document_invalid", "invalid_argument", "body_too_large"})
"""Of a refusal: it is about what is said, not about who says it, and stays as it is."""


async def deliver(
    items: Sequence[Item],
    send: Callable[[Sequence[Item]], Awaitable[None]],
    put_aside: Callable[[Item, Refusal], None],
) -> None:
    """Halves what is refused as unreadable, until what is at fault is alone and put aside. Other errors are raised."""
    try:
        await send(items)
    except Refusal as error:
        if error.code not in UNREADABLE or not items:
            raise
        if len(items) == 1:
            put_aside(items[0], error)
            return
        half = len(items) // 2
        for part in (items[:half], items[half:]):
            await deliver(part, send, put_aside)
