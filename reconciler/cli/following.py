"""The change stream for commands that follow it: `trueup events --follow`, `trueup log --follow`.

`kit.follow_changes` does the work: through restarts of the controller and of the connection, without a gap and without
a change twice. Here is what a command adds: it says when it waits, and it ends when the log has become another one,
because what it has shown is of the old one.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Mapping
from typing import TYPE_CHECKING

from kit.errors import Refusal, TrueupError
from reconciler.cli.output import clean

if TYPE_CHECKING:
    from kit.control_plane import ControlPlane
    from kit.cursors import CursorStore
    from kit.follow_changes import OnChanges


async def follow(
    control_plane: ControlPlane, query: Mapping[str, str], on_changes: OnChanges, store: CursorStore, *, anew: str
) -> None:
    """For ever, from the cursor that the store has. `anew`: how to begin again, for the message."""
    from kit.follow_changes import follow_changes

    try:
        await follow_changes(control_plane, query, None, on_changes, store, asyncio.Event(), on_break=_say)
    except Refusal as error:
        if error.code != "cursor_invalid":
            raise
        raise Refusal("go on following", error.why, fix=anew, code=error.code) from error


def _say(error: TrueupError, failures: int) -> None:
    """Once for as long as nothing comes."""
    if failures == 1:
        sys.stderr.write(f"waiting: {clean(error.why)}\n")
