"""Agents in memory that are ended after each test."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest

from tests.unit.agent.parts import Agent, World

StartAgent = Callable[..., Agent]


@pytest.fixture
def world() -> World:
    return World()


@pytest.fixture
async def start_agent(world: World, tmp_path: Path) -> AsyncIterator[StartAgent]:
    lives: list[Agent] = []

    def start(**options: Any) -> Agent:
        lives.append(Agent(world, tmp_path, **options))
        return lives[-1]

    yield start
    for life in lives:
        await life.end()
