"""Keeps the garbage collector away from what is there to stay.

Whoever has just read something large that is kept (all views, a whole repository) calls `keep_aside`. Python looks for
cycles among all objects now and then, and stops the whole process meanwhile: with 10,000 apps in memory for a second.
What is kept aside is not looked at again; it is freed, as ever, when nobody refers to it any more.
"""

from __future__ import annotations

import gc

YOUNG = 1


def keep_aside() -> None:
    """What is young and garbage already goes first; older cycles that nobody found yet stay for good, which is little,
    since large readings are rare."""
    gc.collect(YOUNG)
    gc.freeze()
