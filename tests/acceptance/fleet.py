"""What an operator can see of the fleet: views over HTTP, and the `trueup` command itself."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from kit.control_plane import ControlPlane
from tests.acceptance.programs import call, show

TRUEUP = str(Path(sys.executable).parent / "trueup")


class Fleet:
    def __init__(self, controller_url: str, operator_token: str, state: Path) -> None:
        self.control_plane = ControlPlane(controller_url, operator_token)
        self._options = ["--controller", controller_url, "--state", str(state)]

    async def close(self) -> None:
        await self.control_plane.close()

    async def view(self, name: str) -> list[dict[str, Any]]:
        """The rows of a view, in the order of their keys."""
        document = await self.control_plane.get_json(f"/v1/views/{name}")
        return [dict(row["doc"]) for row in document["rows"]]

    async def instances(self, app: str, *, ready: bool = False) -> list[dict[str, Any]]:
        """Instances of an app that are not stopped; with `ready`, only those that serve."""
        rows = [row for row in await self.view("instances") if row["app"].endswith(f"/app/{app}")]
        return [row for row in rows if row["status"] == "ready" and row["desired"] == "running"] if ready else rows

    async def revision(self, commit: str) -> dict[str, Any] | None:
        rows = [row for row in await self.view("revisions") if row["commit"] == commit]
        return rows[0] if rows else None

    async def trueup(self, *words: str, ok: tuple[int, ...] = (0,)) -> str:
        """Runs the command as a person would and returns what it printed."""
        return await call([TRUEUP, *words, *self._options], ok=ok)

    async def shown(self, *words: str, width: int) -> str:
        """What a person sees who runs the command in a terminal of that width."""
        return await show([TRUEUP, *words, *self._options], width)

    async def events(self, *words: str) -> list[dict[str, Any]]:
        """What `trueup events --output json` prints, with these options."""
        document = json.loads(await self.trueup("events", *words, "--output", "json"))
        return [dict(event) for event in document["events"]]


def describe(rows: list[Mapping[str, Any]] | list[dict[str, Any]]) -> str:
    shown = []
    for row in rows:
        wish = "" if row["desired"] == "running" else f", shall be {row['desired']}"
        shown.append(f"{row['instance_id'][-6:]} on {row['node_id']} {row['status'] or 'new'}{wish}")
    return ", ".join(shown) or "no instance"
