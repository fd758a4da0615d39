"""The change stream for commands that follow it: `trueup events --follow`, `trueup log --follow`.

It goes on through restarts of the controller and of the connection, from the last cursor, without a gap and without a
change twice; the waits in between grow, and the first one is told.
"""

from __future__ import annotations

import asyncio
import random
import sys
from collections.abc import AsyncIterator, Mapping
from typing import TYPE_CHECKING, Any

from kit.backoff import Backoff
from kit.errors import Transient
from reconciler.cli.output import clean

if TYPE_CHECKING:
    from kit.control_plane import ControlPlane

IDLE_TIMEOUT_S = 45.0


async def lines(control_plane: ControlPlane, cursor: str) -> AsyncIterator[Mapping[str, Any]]:
    """Each line of GET /v1/stream behind the cursor LOGID.N, for ever. `Refusal` when the cursor is of another log."""
    backoff, failures, rng = Backoff(0.2, 10.0), 0, random.Random()  # noqa: S311  # jitter
    while True:
        try:
            async with control_plane.lines("/v1/stream", idle_timeout_s=IDLE_TIMEOUT_S, cursor=cursor) as stream:
                async for line in stream:
                    failures = 0
                    yield line
                    cursor = line.get("cursor", cursor)
        except Transient as error:
            failures += 1
            if failures == 1:
                sys.stderr.write(f"waiting: {clean(error.why)}\n")
        await asyncio.sleep(backoff.delay_s(max(failures, 1), rng))
