"""One batch, sent until each of its units has its answer.

Called by `reconciler.store.batcher`. Nobody else's trouble becomes a unit's error: when a batch fails for a reason that
nobody foresaw, each of its units is sent again by itself.
"""

from __future__ import annotations

import random
from collections.abc import Awaitable, Callable, Sequence

from kit.backoff import Backoff
from kit.clock import Clock
from kit.errors import Transient
from reconciler.core.commands import AppendResult
from reconciler.store.append_batch import Unit

Send = Callable[[Sequence[Unit]], Awaitable[list[list[AppendResult]]]]


class Settler:
    """`send` appends the units in one transaction and gives the results of each; its `Transient` is tried again.
    Once `closed` is set it is not."""

    def __init__(self, send: Send, clock: Clock) -> None:
        self._send = send
        self._clock = clock
        self._backoff = Backoff(first_s=0.02, cap_s=1.0)
        self._rng = random.Random()  # noqa: S311  # jitter, no secret
        self.closed = False

    async def settle(self, units: Sequence[Unit]) -> None:
        failures = 0
        while units:
            try:
                answers = await self._send(units)
            except Transient as error:
                failures += 1
                units = await self._postpone(units, error, self._backoff.delay_s(failures, self._rng))
            except Exception as error:
                if len(units) > 1:
                    for unit in units:
                        await self.settle([unit])
                else:
                    fail(units[0], error)
                return
            else:
                for unit, answer in zip(units, answers, strict=True):
                    if not unit.answer.done():
                        unit.answer.set_result(answer)
                return

    async def _postpone(self, units: Sequence[Unit], error: Transient, delay_s: float) -> list[Unit]:
        """Those that have time left, after the delay; the others hear of the error."""
        again_s = self._clock.now_s() + delay_s
        hopeless = self.closed or error.code == "disk_full"
        late = [unit for unit in units if hopeless or again_s > unit.deadline_s]
        for unit in late:
            fail(unit, error)
        left = [unit for unit in units if unit not in late and not unit.answer.done()]
        if left:
            await self._clock.sleep(delay_s)
        return left


def fail(unit: Unit, error: Exception) -> None:
    if not unit.answer.done():
        unit.answer.set_exception(error)
