"""The agent's settings: a flag, TRUEUP_NAME, a TOML file, a default. Read by `agent.__main__`."""

from __future__ import annotations

import ipaddress
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kit.canonical import digest
from kit.errors import Refusal
from kit.settings import parse_bytes, setting


def _one_of(*words: str) -> Callable[[Any], str]:
    return lambda value: "" if value in words else f"expected one of {', '.join(words)}, found {value!r}"


def _subnet(value: str) -> str:
    if not value:
        return ""
    try:
        network = ipaddress.IPv6Network(value)
    except ValueError as error:
        return str(error)
    return "" if network.prefixlen == 64 else f"expected an IPv6 /64, found /{network.prefixlen}"


def _positive(value: float) -> str:
    return "" if value > 0 else f"expected more than 0, found {value}"


@dataclass(frozen=True, slots=True)
class Settings:
    """Runs this node's microVMs as its plan says. `trueup-agent stop-all --state DIR` stops them all and cleans up."""

    node_id: str = setting("name of this node", default="")
    controller: str = setting("address of the controller, https://[..]:7341", default="")
    join_token: str = setting(
        "token to join the fleet with, once (`trueup node token NAME` prints it); better in TRUEUP_JOIN_TOKEN",
        default="",
    )
    token: str = setting("bearer token of earlier versions, instead of a certificate", default="")
    subnet: str = setting("IPv6 /64 of this node's guests", default="", check=_subnet)
    state: Path = setting("folder of everything that must survive", default=Path("/var/lib/trueup/agent"))
    run: Path | None = setting("folder for sockets, best on a tmpfs, with a short path", default=None)
    memory: int = setting("memory for guests, such as 2Gi", default=2 << 30, parse=parse_bytes, check=_positive)
    cpu: float = setting(
        "processors for guests (soft)", default=float(os.cpu_count() or 1), parse=float, check=_positive
    )
    disk: int = setting("disk for guests, such as 20Gi", default=20 << 30, parse=parse_bytes, check=_positive)
    network: str = setting(
        "bridge (needs root), user, or auto", default="auto", check=_one_of("auto", "bridge", "user")
    )
    address: str = setting("IPv4 address of this node, for forwarded ports of network=user", default="127.0.0.1")
    dns: str = setting("name servers for guests, separated by commas", default="")
    accelerator: str = setting("kvm, tcg or auto", default="auto", check=_one_of("auto", "kvm", "tcg"))
    guest: Path | None = setting("folder with the guest's vmlinuz and initramfs.cpio.gz; built if absent", default=None)
    insecure_registries: tuple[str, ...] = setting("registries that are spoken to without TLS", default=())
    registry_auth: Path | None = setting("registry credentials, in the format of skopeo's authfile", default=None)
    boots_max: int = setting("machines that may boot at once", default=2, check=_positive)
    log_level: str = setting("debug, info, warning or error", default="info")
    log_format: str = setting("json, text or auto", default="auto", check=_one_of("auto", "json", "text"))

    def run_folder(self) -> Path:
        """Short, because socket paths have to be; one for each state folder."""
        if self.run is not None:
            return self.run.resolve()
        base = Path("/run") if os.geteuid() == 0 else Path(os.environ.get("XDG_RUNTIME_DIR") or self.state)
        return base / "trueup" / digest(str(self.state.resolve()), length=8)

    def require(self) -> None:
        """What a running agent needs and stop-all does not."""
        missing = [name for name in ("node_id", "controller", "subnet") if not getattr(self, name)]
        if missing:
            wanted = ", ".join(f"--{name.replace('_', '-')} (or TRUEUP_{name.upper()})" for name in missing)
            raise Refusal("start trueup-agent", f"{wanted} is required", fix="see --help", code="settings_invalid")
