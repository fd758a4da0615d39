"""Asks the pure parts, as the server and the command line do together."""

from __future__ import annotations

from typing import Any

from kit.codec import to_json
from reconciler.cli import output, status, why
from reconciler.core.explanation import Ambiguous, Explanation, NothingFound
from reconciler.core.views import PROJECTIONS
from reconciler.server.status import status_document
from reconciler.server.why import explain_resource
from tests.twin import MemoryLog, MemoryViews
from tests.unit.cli.story import Story


class World:
    def __init__(self) -> None:
        self.log = MemoryLog()
        self.views = MemoryViews(self.log)
        self.story = Story(self.log)

    async def answer(self, text: str) -> Explanation | Ambiguous | NothingFound:
        snapshot = await self.views.snapshot(PROJECTIONS)
        return await explain_resource(self.log, snapshot, {}, text)

    async def explain(self, text: str) -> Explanation:
        answer = await self.answer(text)
        assert isinstance(answer, Explanation), answer
        return answer

    async def page(self, text: str) -> str:
        return output.plain(why.page(to_json(await self.explain(text))))

    async def status(self) -> dict[str, Any]:
        snapshot = await self.views.snapshot(PROJECTIONS)
        checkpoints = await self.views.checkpoints()
        return status_document(snapshot, await self.log.head(), {"node-a": 2.0}, checkpoints)

    async def status_page(self) -> str:
        return output.plain(status.page(await self.status()))
