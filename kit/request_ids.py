"""The id of a request: in its answer, in the logs of both sides, and on the events that it became.

`kit.control_plane` sends one with everything that it asks, `reconciler.server.guard` takes it over when it is sound and
makes one when it is not, and `reconciler.handlers.appending` writes it into the events as what they follow from. A
sound one needs no escaping in a header, a line of a log or a query, and is never SOURCE@COMMIT. It links; it proves
nothing: whoever asks chooses it.
"""

from __future__ import annotations

import re
import secrets
from contextvars import ContextVar

HEADER = "X-Request-Id"
_SOUND = re.compile(r"[A-Za-z0-9._-]{8,128}")
_current: ContextVar[str] = ContextVar("the request that this task works on", default="")


def made() -> str:
    return "req-" + secrets.token_hex(8)


def sound(text: str) -> bool:
    return _SOUND.fullmatch(text) is not None


def work_on(request_id: str) -> str:
    """This task and those that it starts work on that request from now on."""
    _current.set(request_id)
    return request_id


def current() -> str:
    """Of the request that is worked on, or ""."""
    return _current.get()
