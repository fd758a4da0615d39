from __future__ import annotations

from collections.abc import AsyncIterator

import pytest_asyncio

from reconciler.store.store import Store
from tests.integration.tasks.controller import Controller, running


@pytest_asyncio.fixture
async def controller(store: Store) -> AsyncIterator[Controller]:
    async with running(store) as made:
        yield made
