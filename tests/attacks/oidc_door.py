"""A controller that trusts an issuer of the test's, with a clock that the test moves."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

from reconciler.oidc.issuers import Issuers
from reconciler.oidc.settings import OidcRuleSettings, OidcSettings
from reconciler.server.limits import Limits
from tests.oidc.issuer import Issuer, issuing, rule
from tests.unit.server.world import World, serving


class Hand:
    """A monotonic clock that is moved by hand, beside its own going."""

    moved_s = 0.0

    def now_s(self) -> float:
        return time.monotonic() + self.moved_s

    def utc(self) -> str:
        raise NotImplementedError

    async def sleep(self, seconds: float) -> None:
        raise NotImplementedError


@dataclass
class Door:
    world: World
    issuer: Issuer
    clock: Hand

    async def status(self, token: str, path: str = "/v1/status", method: str = "GET") -> int:
        return (await self.world.call(method, path, token))[0]

    async def why(self, token: str, path: str = "/v1/status") -> tuple[int, str]:
        status, document, _ = await self.world.call("GET", path, token)
        return status, document["detail"]


@asynccontextmanager
async def oidc_door(
    *rules: OidcRuleSettings,
    limits: Limits | None = None,
    others: Sequence[OidcSettings] = (),
    **settings: Any,
) -> AsyncIterator[Door]:
    """`rules`: without any, the group ops may read."""
    clock = Hand()
    async with issuing() as issuer:
        issuers = Issuers((issuer.settings(**settings), *others), rules or (rule(groups="ops"),), clock)
        async with serving(limits, issuers=issuers) as world:
            yield Door(world, issuer, clock)
