"""The settings of trueup-edge. Read by `edge.__main__`, used by `edge.bootstrap`."""

from __future__ import annotations

import re
from dataclasses import dataclass
from ipaddress import ip_address
from pathlib import Path
from typing import get_args

from edge.core.limits import INSPECT_DELAY_MAX_MS, INSPECT_DELAY_MIN_MS
from kit.logs import Format
from kit.settings import setting


def _check_id(value: str) -> str:
    return "" if re.fullmatch(r"[a-z0-9][a-z0-9-]{0,62}", value) else f"{value!r} is not lower-case letters, digits, -"


def _check_url(value: str) -> str:
    return "" if re.fullmatch(r"https?://\S+", value) else f"{value!r} is not an http(s) address"


def _check_addresses(values: tuple[str, ...]) -> str:
    for value in values:
        try:
            ip_address(value)
        except ValueError:
            return f"{value!r} is not an IP address"
    return "" if values else "at least one address is needed"


def _check_inspect_delay(value: float) -> str:
    low, high = INSPECT_DELAY_MIN_MS / 1000, INSPECT_DELAY_MAX_MS / 1000
    return "" if low <= value <= high else f"{value} s is not between {low} and {high} s"


def _check_positive(value: float) -> str:
    return "" if value > 0 else f"{value} is not above 0"


@dataclass(frozen=True)
class EdgeSettings:
    """Serves the routes of a trueup fleet: follows its route plan and drives a haproxy on this host. haproxy goes on
    when this program ends; `trueup-edge --stop-all --state DIR` ends it."""

    edge_id: str = setting("this edge's name in the controller", check=_check_id)
    controller: str = setting("the controller's address, such as https://control.example.org:8420", check=_check_url)
    state: Path = setting("folder for the last plan, haproxy's files and sockets")
    join_token: str = setting(
        "token to join the fleet with, once (`trueup edge token NAME` prints it); better in TRUEUP_JOIN_TOKEN",
        default="",
    )
    token: str = setting("bearer token of earlier versions, instead of a certificate", default="")
    listen_address: tuple[str, ...] = setting(
        "addresses to listen on; :: takes IPv4 too", default=("::",), check=_check_addresses
    )
    inspect_delay: float = setting(
        "how long a client may take to say its TLS hello", default=3.0, check=_check_inspect_delay
    )
    drain_bound: float = setting(
        "how long connections to a backend that left may go on", default=600.0, check=_check_positive
    )
    hard_stop: float = setting("how long connections may outlive a reload", default=3600.0, check=_check_positive)
    connections_max: int = setting("connections at a time, over all routes", default=10_000, check=_check_positive)
    log_level: str = setting(
        "debug, info, warning or error",
        default="info",
        check=lambda v: "" if v in ("debug", "info", "warning", "error") else f"{v!r} is not a level",
    )
    log_format: Format = setting(
        "json, text, or auto: text on a terminal, else json",
        default="auto",
        check=lambda v: "" if v in get_args(Format) else f"{v!r} is not json, text or auto",
    )


@dataclass(frozen=True)
class StopSettings:
    """Ends the haproxy of the edge whose state folder is given, connections included."""

    state: Path = setting("the edge's state folder")
