"""haproxy's answers, read. Pure; used by `haproxy` and `process`. Formats: haproxy's management guide, chapter 9."""

from __future__ import annotations

import re
from dataclasses import dataclass
from ipaddress import ip_address

from edge.core.config import DESCRIPTION
from edge.core.converge import ObservedServer, ServerRef
from edge.core.table import Protocol

_LISTENER = re.compile(r"(tls|raw)-(\d+)")
_SLOT = re.compile(r"slot-(\d+)")
_FORCED_MAINTENANCE, _FORCED_DRAIN = 0x01, 0x08


@dataclass(frozen=True, slots=True)
class Processes:
    """From the master's "show proc". `worker`: 0 when there is none. `failed`: reloads in a row that failed."""

    master: int
    worker: int
    reloads: int
    failed: int


def read_processes(text: str) -> Processes | None:
    master = re.search(r"^(\d+)\s+master\s+(\d+) \[failed: (\d+)\]", text, re.MULTILINE)
    current = re.search(r"^# workers\n(\d+)\s+worker", text, re.MULTILINE)
    if master is None:
        return None
    return Processes(int(master[1]), int(current[1]) if current else 0, int(master[2]), int(master[3]))


def read_settings(info: str) -> str:
    """The settings digest out of "show info"; empty if this is not a configuration of ours."""
    found = re.search(rf"^description: {DESCRIPTION} (\S+)$", info, re.MULTILINE)
    return found[1] if found else ""


def read_pid(info: str) -> int:
    found = re.search(r"^Pid: (\d+)$", info, re.MULTILINE)
    return int(found[1]) if found else 0


def read_servers(state: str) -> list[ObservedServer]:
    """From "show servers state". A server in maintenance or drain is not ready; one whose check fails is."""
    lines = state.splitlines()
    columns = {name: index for index, name in enumerate(lines[1].removeprefix("# ").split())}
    servers = []
    for line in lines[2:]:
        fields = line.split()
        slot = _SLOT.fullmatch(fields[columns["be_name"]])
        if slot:
            ref = ServerRef(int(slot[1]), fields[columns["srv_name"]])
            endpoint = _endpoint(fields[columns["srv_addr"]], fields[columns["srv_port"]])
            state_bits = int(fields[columns["srv_admin_state"]])
            servers.append(ObservedServer(ref, endpoint, not state_bits & (_FORCED_MAINTENANCE | _FORCED_DRAIN)))
    return servers


def _endpoint(address: str, port: str) -> str:
    parsed = ip_address(address)
    return f"[{parsed.compressed}]:{port}" if parsed.version == 6 else f"{parsed.compressed}:{port}"


def read_listeners(stat: str) -> dict[int, Protocol]:
    """From "show stat": the frontends' ports."""
    found: dict[int, Protocol] = {}
    for line in stat.splitlines():
        name, row, _ = (*line.split(",", 2), "", "")[:3]
        listener = _LISTENER.fullmatch(name)
        if listener and row == "FRONTEND":
            found[int(listener[2])] = "tls_passthrough" if listener[1] == "tls" else "tcp_raw"
    return found


def read_slots(stat: str) -> dict[int, int]:
    """From "show stat": slot -> its open connections, those that still look for a server included."""
    return {
        int(slot[1]): int(row["scur"]) for row in _rows(stat, "BACKEND") if (slot := _SLOT.fullmatch(row["pxname"]))
    }


def read_sessions(stat: str) -> dict[ServerRef, int]:
    """From "show stat" of the servers: their open connections."""
    return {
        ServerRef(int(slot[1]), row["svname"]): int(row["scur"]) + int(row["qcur"])
        for row in _rows(stat, "")
        if (slot := _SLOT.fullmatch(row["pxname"])) and row["svname"] not in ("FRONTEND", "BACKEND")
    }


def _rows(stat: str, only: str) -> list[dict[str, str]]:
    """The first columns of the CSV as far as the status, which comes before any text that could hold a comma."""
    lines = stat.splitlines()
    columns = lines[0].removeprefix("# ").split(",")[:18]
    rows = (dict(zip(columns, line.split(",", 18), strict=False)) for line in lines[1:] if line)
    return [row for row in rows if not only or row["svname"] == only]


def read_map(text: str) -> dict[str, str]:
    """From "show map FILE": each line is a pointer, a key and a value. A map that no frontend uses is unknown there."""
    return dict(re.findall(r"^0x[0-9a-f]+ (\S+) (\S+)$", text, re.MULTILINE))


def read_map_version(text: str) -> int:
    """From "prepare map"."""
    return int(text.rpartition(" ")[2])
