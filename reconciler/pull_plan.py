"""The plan of a pull request, by the judgement that its commit would meet when merged: `reconciler.ports.PlanFor`.

`reconciler.bootstrap` gives it to `reconciler.tasks.pull_requests`. Source, guards and settings are the operator's;
from the pull request come only manifests and the trailers of its commits. Nothing is decrypted: secrets are resolved
without the platform's key, on both sides of the difference alike.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from typing import Any

from reconciler.core.plan_markdown import render_plan
from reconciler.core.pulls import RenderedPlan
from reconciler.core.revisions import Source
from reconciler.git.judge import judge, reader_for
from reconciler.git.objects import ObjectStore
from reconciler.git.tree_reader import TreeReader
from reconciler.ports import Views
from reconciler.vault import resolve_offline


class JudgedPlan:
    """`objects`: a fresh look at the clone that has both commits. For one task at a time."""

    def __init__(self, source: Source, objects: Callable[[], ObjectStore], views: Views) -> None:
        self._source = source
        self._objects = objects
        self._views = views
        self._reader: TreeReader | None = None

    async def __call__(self, base_commit: str, head_commit: str) -> RenderedPlan:
        rows = (await self._views.snapshot(["resources"])).rows["resources"].values()
        ours = [row for row in rows if (row.get("origin") or {}).get("source_id") == self._source.source_id]
        return await asyncio.to_thread(self._plan, base_commit, head_commit, ours)

    def _plan(self, base: str, head: str, rows: list[Mapping[str, Any]]) -> RenderedPlan:
        """In a worker thread. The reader lives on, so that only what changes is parsed."""
        objects = self._objects()
        reader = self._reader or reader_for(self._source, objects, resolve_offline)
        self._reader = None  # after an error it is made anew: it may look at a clone that is gone
        judged = judge(self._source, objects, reader, head=head, base=base, rows=rows)
        self._reader = reader
        return render_plan(judged.plan, judged.findings)
