"""Names of machines in certificates: spiffe://DOMAIN/node/NAME and spiffe://DOMAIN/edge/NAME. Pure.

Written by the controller's authority, asked for by agents and edges, read by the controller of each connection.
"""

from __future__ import annotations

import re
from typing import Literal, get_args

MachineKind = Literal["node", "edge"]
MACHINE_KINDS: tuple[MachineKind, ...] = get_args(MachineKind)
DEFAULT_DOMAIN = "trueup.internal"
CONTROLLER_HOST = "controller.trueup.internal"
"""The name in every controller's certificate: machines check this name, whatever address they reach it at."""

_URI = re.compile(r"spiffe://([a-z0-9.-]{1,200})/(node|edge)/([a-z0-9](?:[a-z0-9._-]{0,61}[a-z0-9])?)")


def machine_uri(domain: str, kind: str, name: str) -> str:
    """A name that could be read as another is a ValueError."""
    uri = f"spiffe://{domain}/{kind}/{name}"
    if not _URI.fullmatch(uri):
        raise ValueError(f"{kind} {name!r} cannot be named: lower-case letters, digits, '.', '_', '-' (at most 63)")
    return uri


def machine_of(uri: str) -> tuple[str, MachineKind, str] | None:
    """(domain, kind, name) of a URI that `machine_uri` made; None for any other."""
    found = _URI.fullmatch(uri)
    return (found[1], "node" if found[2] == "node" else "edge", found[3]) if found else None
