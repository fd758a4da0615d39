"""Volumes of the plan, made and deleted one at a time each. Called by `agent.loop` after every plan and change, and by
`agent.starting` for what a machine needs.

A volume that fails blocks only itself: it is tried again with backoff. Only `agent.core.converge` says what to delete,
and it does so for a tombstone alone.
"""

from __future__ import annotations

import asyncio
import random
from collections import defaultdict
from collections.abc import Awaitable, Iterable
from dataclasses import replace

from agent.core.converge import Convergence
from agent.core.model import InstanceRecord, VolumeRecord
from agent.ledger import LedgerFiles
from agent.ports import VolumeDriver
from agent.report import Reporter
from kit import logs
from kit.backoff import Backoff
from kit.clock import Clock
from kit.errors import Transient, TrueupError
from kit.wire import PlannedVolume, VolumeReport

RETRY = Backoff(first_s=0.5, cap_s=60.0)
_log = logs.get("volume")


class VolumeKeeper:
    def __init__(
        self, driver: VolumeDriver, ledger: LedgerFiles, reporter: Reporter, clock: Clock, rng: random.Random
    ) -> None:
        self._driver = driver
        self._ledger = ledger
        self._reporter = reporter
        self._clock = clock
        self._rng = rng
        self._locks: defaultdict[str, asyncio.Lock] = defaultdict(asyncio.Lock)
        self._failures: dict[str, int] = {}
        self._retry_at_s: dict[str, float] = {}

    async def converge(self, todo: Convergence) -> None:
        for volume_id in todo.forget_volume:
            self._ledger.forget_volume(volume_id)
        await asyncio.gather(
            *(self._attempt(volume, self._ensure(volume)) for volume in self._due(todo.ensure_volume)),
            *(self._attempt(volume, self._delete(volume)) for volume in self._due(todo.delete_volume)),
        )

    async def ensure_planned(self, volume_id: str) -> None:
        """For a machine that starts now: makes the volume if the plan has it and it is not there yet."""
        plan = self._ledger.applied.plan if self._ledger.applied else None
        planned = next((v for v in plan.volumes if v.volume_id == volume_id), None) if plan else None
        if planned is not None and planned.desired == "deleted":
            raise Transient(f"attach volume {volume_id}", "the plan deletes it", code="volume_attach_failed")
        if planned is not None:
            await self._ensure(planned)

    def taken(self, record: InstanceRecord) -> None:
        """A machine has these volumes open now."""
        for mount in record.planned.workload.mounts:
            known = self._ledger.volumes.get(mount.volume_id)
            if known is not None:
                taken = replace(known, status="in_use", writer=record.instance_id, writer_epoch=record.epoch)
                self._settle(taken)

    def freed(self, instance_id: str) -> None:
        """Its machine is gone."""
        for known in list(self._ledger.volumes.values()):
            if known.writer == instance_id:
                self._settle(replace(known, status="available", writer="", writer_epoch=0))

    def free_forgotten(self) -> None:
        """At a start: what an instance held that nothing remembers any more. The driver's locks are what protects."""
        for known in list(self._ledger.volumes.values()):
            if known.writer and known.writer not in self._ledger.instances:
                self.freed(known.writer)

    async def _ensure(self, volume: PlannedVolume) -> None:
        async with self._locks[volume.volume_id]:
            known = self._ledger.volumes.get(volume.volume_id)
            if known is not None and known.status == "in_use":
                return  # it grows when it is free
            await self._driver.ensure(volume)
            self._settle(VolumeRecord(volume, "available", reported=known.reported if known else ""))

    async def _delete(self, volume: PlannedVolume) -> None:
        async with self._locks[volume.volume_id]:
            await self._driver.remove(volume.volume_id)
            known = self._ledger.volumes.get(volume.volume_id)
            self._settle(VolumeRecord(volume, "deleted", reported=known.reported if known else ""))
            _log.info("volume deleted, as its tombstone says", volume_id=volume.volume_id)

    async def _attempt(self, volume: PlannedVolume, work: Awaitable[None]) -> None:
        try:
            await work
        except TrueupError as error:
            self._failed(volume, error)
        else:
            self._failures.pop(volume.volume_id, None)
            self._retry_at_s.pop(volume.volume_id, None)

    def _failed(self, volume: PlannedVolume, error: TrueupError) -> None:
        failures = self._failures.get(volume.volume_id, 0) + 1
        self._failures[volume.volume_id] = failures
        self._retry_at_s[volume.volume_id] = self._clock.now_s() + RETRY.delay_s(failures, self._rng)
        _log.warning("a volume is not as wanted", volume_id=volume.volume_id, failures=failures, why=str(error))
        known = self._ledger.volumes.get(volume.volume_id) or VolumeRecord(volume)
        if known.status != "in_use":
            self._settle(replace(known, status="failed", reason_detail=str(error)))

    def _due(self, volumes: Iterable[PlannedVolume]) -> list[PlannedVolume]:
        now_s = self._clock.now_s()
        return [volume for volume in volumes if self._retry_at_s.get(volume.volume_id, 0.0) <= now_s]

    def _settle(self, record: VolumeRecord) -> None:
        said = f"{record.status} {record.reason_detail}"
        if said != record.reported and record.status != "absent":
            report = VolumeReport(
                record.planned.volume_id, 0, record.status, self._clock.utc(), reason_detail=record.reason_detail
            )
            self._reporter.push(report)
        self._ledger.save_volume(replace(record, reported=said))
