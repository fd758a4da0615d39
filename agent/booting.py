"""Getting one machine ready and up, as a task beside its actor. Used by `agent.actors`.

Preparing may take as long as a registry likes and holds no place; from the intent on disk until its process runs or it
is gone, a machine holds one of the node's places to boot. Every failure is told and gets a time for the next try.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections.abc import Callable
from dataclasses import dataclass, replace

from agent.core.model import Exit, InstanceRecord, Machine, move
from agent.core.restarts import after_exit
from agent.ledger import LedgerFiles
from agent.ports import Host
from agent.report import Reporter
from agent.starting import Preparation, Prepared
from agent.volumes import VolumeKeeper
from kit import logs
from kit.clock import Clock
from kit.errors import Refusal, TrueupError
from kit.wire import REASON_CODES, InstanceStatus

HAND_OVER_AGAIN_S = 2.0
Tell = Callable[[InstanceRecord, InstanceStatus, Exit | None], InstanceRecord]
_log = logs.get("instance")


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What all actors share. `boots` has one place per machine that may boot at once."""

    host: Host
    ledger: LedgerFiles
    reporter: Reporter
    volumes: VolumeKeeper
    preparation: Preparation
    boots: asyncio.Semaphore
    clock: Clock
    rng: random.Random


class Boot:
    """`tell` reports a transition; `wake` asks the actor for another turn."""

    def __init__(self, instance_id: str, surroundings: Surroundings, tell: Tell, wake: Callable[[], None]) -> None:
        self._instance_id = instance_id
        self._all = surroundings
        self._host = surroundings.host
        self._tell = tell
        self._wake = wake
        self._job: asyncio.Task[None] | None = None
        self._has_place = False
        self._has_archive = False

    @property
    def under_way(self) -> bool:
        return self._job is not None and not self._job.done()

    def begin(self) -> None:
        self._job = asyncio.create_task(self._start(), name=f"start {self._instance_id}")
        self._job.add_done_callback(lambda _: self._wake())

    def hand_over(self) -> None:
        """A machine that an earlier agent started may still wait for its archive."""
        if not self._has_archive:
            self._has_archive = True
            self._job = asyncio.create_task(self._give_archive(), name=f"hand over {self._instance_id}")
            self._job.add_done_callback(lambda _: self._wake())

    def leave_place(self, machine: Machine) -> None:
        """As soon as its process runs, or nothing boots any more."""
        if machine.started or (machine.presence == "absent" and not self.under_way):
            self._leave()

    async def give_up(self) -> None:
        """Ends the task. A machine that was started already is left for the actor to see."""
        if self._job is not None:
            self._job.cancel()
            await asyncio.gather(self._job, return_exceptions=True)

    async def end(self) -> None:
        await self.give_up()
        self._leave()

    async def _start(self) -> None:
        prepared: Prepared | None = None
        try:
            prepared = await self._all.preparation.prepare(self._record())
            await self._all.boots.acquire()
            self._has_place = self._has_archive = True
            record = self._intend(prepared)
            machine = await self._host.machines.ensure(prepared.spec)
            self._all.volumes.taken(record)
            self._save(self._tell(replace(record, boot_id=machine.boot_id), "booting", None))
        except Exception as error:  # whatever it was, it is told and tried again
            await self._failed(error)
        finally:
            if prepared is not None:
                prepared.close()

    def _intend(self, prepared: Prepared) -> InstanceRecord:
        """On disk before the act: from here on a machine may exist."""
        record = self._record()
        record = replace(
            move(record, "starting"),
            attempt=record.attempt + 1,
            restarts=record.restarts + (1 if record.attempt > 0 else 0),
            started_at_s=self._all.clock.now_s(),
            ready_since_s=None,
            retry_at_s=None,
            endpoints=prepared.link.endpoints,
        )
        self._save(record)
        return record

    async def _failed(self, error: Exception) -> None:
        self._leave()
        record = after_exit(self._record(), _cause(error), self._all.clock.now_s(), self._all.rng)
        _log.warning("start failed", instance_id=self._instance_id, why=str(error), exc=bug(error))
        with contextlib.suppress(TrueupError):
            if (await self._host.machines.observe(self._instance_id)).presence == "absent":
                await self._host.network.remove(self._instance_id)  # another port may be free
                await self._host.cgroups.remove(self._instance_id)
        self._save(self._tell(record, "failed", record.last_exit))

    async def _give_archive(self) -> None:
        try:
            archive = await self._all.preparation.archive(self._record())
            await self._host.machines.attach(self._instance_id, archive)
        except TrueupError as error:
            _log.warning("no archive for a machine that waits", instance_id=self._instance_id, why=str(error))
            await asyncio.sleep(HAND_OVER_AGAIN_S)
            self._has_archive = False

    def _record(self) -> InstanceRecord:
        return self._all.ledger.instances[self._instance_id]

    def _save(self, record: InstanceRecord) -> None:
        self._all.ledger.save_instance(record)

    def _leave(self) -> None:
        if self._has_place:
            self._has_place = False
            self._all.boots.release()


def _cause(error: Exception) -> Exit:
    if isinstance(error, TrueupError):
        code = error.code if error.code in REASON_CODES else "vmm_start_failed"
        return Exit(code, str(error), permanent=isinstance(error, Refusal))
    return Exit("vmm_start_failed", f"{type(error).__name__}: {error}", permanent=True)


def bug(error: Exception) -> Exception | None:
    """What is worth a traceback: not a refusal or a failure that the drivers foresaw."""
    return None if isinstance(error, TrueupError) else error
