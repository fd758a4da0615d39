"""The agent's state folder: one process at a time works on it, and it says whose it is. Used by `agent.bootstrap` and
`agent.stop_all`.
"""

from __future__ import annotations

import fcntl
import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from kit.canonical import digest
from kit.codec import from_json, to_json
from kit.errors import Refusal, TrueupError
from kit.files import write_json


@dataclass(frozen=True, slots=True)
class NodeFile:
    """STATE/node.json: what `agent.stop_all` needs to know of the agent that ran here."""

    node_id: str
    subnet: str
    network: str
    run: str


def write_node_file(state: Path, file: NodeFile) -> None:
    write_json(state / "node.json", to_json(file))


def read_node_file(state: Path) -> NodeFile | None:
    try:
        return from_json(NodeFile, json.loads((state / "node.json").read_bytes()), where="node.json")
    except (OSError, ValueError, TrueupError):
        return None


def node_key(state: Path) -> str:
    """Names what the node has on its host: two agents on one host have two state folders."""
    return digest(str(state), length=8)


@contextmanager
def only_one(state: Path, patience_s: float) -> Iterator[None]:
    """Blocks for at most `patience_s`, at a start, before anything else runs."""
    state.mkdir(parents=True, exist_ok=True, mode=0o700)
    with (state / "agent.lock").open("w") as handle:
        deadline_s = time.monotonic() + patience_s
        while True:
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() >= deadline_s:
                    fix = "stop the agent that runs on it (its machines go on)"
                    raise Refusal(f"use {state}", "an agent runs on it", fix=fix, code="state_in_use") from None
                time.sleep(0.1)
        yield
