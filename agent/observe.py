"""Health probes, made by the agent itself against the instance's own address. Run by each `agent.actors.InstanceActor`
while its workload's process runs; the verdicts come from `agent.core.health`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from agent.core.health import HealthState, State, after_probe
from agent.core.model import InstanceRecord
from agent.ports import Reach
from kit.clock import Clock
from kit.wire import Health

STATUS_LINE_BYTES_MAX = 1024
EARLY_CLOSE_S = 0.2  # how soon a forwarded connection without a listener is closed again
GOOD = ""


async def probe(check: Health, address: str, port: int, reach: Reach) -> str:
    """GOOD, or what was wrong."""
    try:
        async with asyncio.timeout(check.timeout_s):
            reader, writer = await asyncio.open_connection(address, port)
            try:
                return await (_http(check, reader, writer) if check.kind == "http" else _tcp(reader, reach))
            finally:
                writer.close()
    except TimeoutError:
        return f"no answer within {check.timeout_s:g} s"
    except (OSError, ValueError) as error:  # ValueError: a line without end
        return str(getattr(error, "strerror", None) or error)


async def _tcp(reader: asyncio.StreamReader, reach: Reach) -> str:
    """A forwarded port accepts for the guest and closes at once if the guest does not."""
    if reach == "direct":
        return GOOD
    try:
        async with asyncio.timeout(EARLY_CLOSE_S):
            return GOOD if await reader.read(1) else "the connection was closed at once"
    except TimeoutError:
        return GOOD


async def _http(check: Health, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> str:
    writer.write(f"GET {check.path} HTTP/1.0\r\nHost: health\r\nUser-Agent: trueup\r\n\r\n".encode())
    line = (await reader.readline())[:STATUS_LINE_BYTES_MAX].decode("latin-1")
    _, _, rest = line.partition(" ")
    status = rest[:3]
    if not line.startswith("HTTP/") or not status.isdigit():
        return (
            f"the answer is not HTTP: {line.strip()[:80]!r}" if line else "the connection was closed without an answer"
        )
    return GOOD if 200 <= int(status) < 400 else f"the answer was {status} on {check.path}"


class HealthWatch:
    """Probes one instance while its process runs. `on_turn` is called when the verdict changes."""

    def __init__(self, reach: Reach, clock: Clock, on_turn: Callable[[], None]) -> None:
        self.state: HealthState | None = None
        self._reach = reach
        self._clock = clock
        self._on_turn = on_turn
        self._task: asyncio.Task[None] | None = None

    def ensure(self, record: InstanceRecord) -> None:
        """A workload without a check is ready as soon as its process runs."""
        check = record.planned.workload.health
        if check is None:
            self.state = HealthState(self._clock.now_s(), "ready")
        elif self._task is None or self._task.done():
            self.state = HealthState(self._clock.now_s(), _KNOWN.get(record.reported or "", "starting"))
            address, port = _where(record, check.port)
            self._task = asyncio.create_task(self._probe(check, address, port), name=f"probe {record.instance_id}")

    async def end(self) -> None:
        task, self._task, self.state = self._task, None, None
        if task is not None:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    async def _probe(self, check: Health, address: str, port: int) -> None:
        """Before the first success it looks more often, so that a start is seen soon."""
        while self.state is not None:
            wrong = await probe(check, address, port, self._reach)
            before = self.state
            self.state = after_probe(before, check, self._clock.now_s(), good=wrong == GOOD, detail=wrong)
            if self.state.state != before.state:
                self._on_turn()
            await self._clock.sleep(min(check.interval_s, 1.0) if self.state.state == "starting" else check.interval_s)


_KNOWN: dict[str, State] = {"ready": "ready", "draining": "ready", "unready": "unready"}
"""What an adopted instance was last told to be is what it is until probes say otherwise."""


def _where(record: InstanceRecord, port: int) -> tuple[str, int]:
    found = next((endpoint for endpoint in record.endpoints if endpoint.port == port), None)
    return (found.address, found.reach_port) if found else (record.planned.workload.address, port)
