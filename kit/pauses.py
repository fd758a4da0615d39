"""Keeps short what stops a whole process: turns between threads, and collections of garbage.

Each program that others wait for calls `keep_short` at its start: the controller, its reading process.

Threads: whoever waits for the interpreter gets it after 5 ms, and the event loop waits anew after each call into the
kernel. Beside a thread that computes, a hook of ten such calls takes 50 ms, and a hundred hooks a second no end. With
turns of half a millisecond it takes 5; a thread that computes loses next to nothing by them.

Collections: Python looks for cycles among all objects now and then, with 10,000 apps in memory for a second. So what
has survived a collection that took long is put aside (`gc.freeze`) and not looked at again; it is freed, as ever, when
nobody refers to it any more. Cycles that become garbage after they were put aside are found once in LOOK_AGAIN times,
when everything is looked at once more.
"""

from __future__ import annotations

import gc
import sys
import time
from dataclasses import dataclass

TURN_S = 0.0005
PAUSE_S = 0.01
"""Of the processor, for one collection."""
LOOK_AGAIN = 1_000
_OLDEST = 2


def keep_short() -> None:
    """For this process, once and for all."""
    sys.setswitchinterval(TURN_S)
    if _keep_aside not in gc.callbacks:
        gc.callbacks.append(_keep_aside)


@dataclass(slots=True)
class KeepAside:
    """`put_aside`: how often, since everything was looked at."""

    put_aside: int = 0
    _started_s: float = 0.0

    def __call__(self, phase: str, info: dict[str, int]) -> None:
        """Python calls it before and after each collection."""
        if info["generation"] < _OLDEST:
            return
        if phase == "start":
            self._started_s = time.thread_time()
        elif time.thread_time() - self._started_s > PAUSE_S:
            self._put_aside()

    def _put_aside(self) -> None:
        if self.put_aside >= LOOK_AGAIN:
            self.put_aside = 0
            gc.unfreeze()  # for the next collection, which puts it all aside again
        else:
            self.put_aside += 1
            gc.freeze()


_keep_aside = KeepAside()
