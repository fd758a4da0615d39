"""Opens the state store: server, roles, schema, pool, tail. The one entry point of this folder.

Called by `reconciler.bootstrap` and the command line; everything else gets the parts of a `Store` as
`reconciler.ports`.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections.abc import AsyncIterator, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import asyncpg

from kit import logs
from kit.backoff import Backoff
from kit.clock import Clock, SystemClock
from kit.errors import Refusal, TrueupError
from reconciler.core.event_schemas import EventSchemas
from reconciler.core.steps import Step
from reconciler.core.views import PROJECTIONS
from reconciler.store.append_line import PLANS, AppendLine
from reconciler.store.archive import Archiver, archived
from reconciler.store.certificates import MachineCertificates
from reconciler.store.claims import NAME as CLAIMS
from reconciler.store.claims import ClaimsRebuilder
from reconciler.store.event_log import PostgresEventLog
from reconciler.store.event_schema_files import load_event_schemas
from reconciler.store.head_exporter import HeadExporter
from reconciler.store.heartbeats import Heartbeats
from reconciler.store.leases import Leases
from reconciler.store.migrate import check_schema, migrate
from reconciler.store.ownership import settle_ownership
from reconciler.store.pool import connect, open_pool
from reconciler.store.rebuild import Progress, Rebuilder, Rebuilt
from reconciler.store.roles import APP_ROLE, DATABASE, MIGRATE_ROLE, Access, prepare_embedded, prepare_external
from reconciler.store.server import SUPERUSER, EmbeddedServer
from reconciler.store.settings import StoreSettings
from reconciler.store.tail import Tail
from reconciler.store.tracing import trace
from reconciler.store.view_writer import ViewWriter
from reconciler.store.views import PostgresViews

SERVER_LOOK_S = 1.0

_log = logs.get("store")


@dataclass(slots=True)
class Store:
    """`log`, `views` are the ports; `writer` moves the views (for the projector); `close` ends everything in order."""

    log: PostgresEventLog
    views: PostgresViews
    writer: ViewWriter
    heartbeats: Heartbeats
    certificates: MachineCertificates
    leases: Leases
    access: Access
    _rebuilder: Rebuilder
    _claims: ClaimsRebuilder
    _pool: asyncpg.Pool[Any]
    _clock: Clock
    _tail: Tail
    _server: EmbeddedServer | None = None
    _keeper: asyncio.Task[None] | None = field(default=None)

    async def rebuild(self, name: str) -> int:
        """Folds a view anew from the first event; returns how many rows were wrong."""
        return await self._rebuilder.rebuild(name)

    async def rebuild_views(
        self,
        names: Iterable[str] = (),
        *,
        verify: bool = False,
        archive: Path | None = None,
        progress: Progress = lambda event_id, upto: None,
    ) -> list[Rebuilt]:
        """Several views (all, unless named) in one pass over the log, and the claims, if they are named or all are
        meant. `verify` compares and changes nothing. `archive`: a folder whose events are read before the table's."""
        wanted = set(names) or {*PROJECTIONS, CLAIMS}
        done: list[Rebuilt] = []
        if views := wanted - {CLAIMS}:
            pages = archived(archive, (await self.log.head()).log_id) if archive else None
            done = await self._rebuilder.run(views, verify=verify, archive=pages, progress=progress)
        if CLAIMS in wanted:
            done.append(await self._claims.run(verify=verify, progress=progress))
        return done

    async def trace(self, view: str, key: str) -> AsyncIterator[Step]:
        """How a row came to be, event after event, by the code that runs now."""
        async for step in trace(self._pool, view, key, (await self.log.head()).last_event_id):
            yield step

    async def archive(self, before: int, folder: Path) -> dict[str, Any]:
        """Copies the events before that one into `folder`; returns its manifest. Deletes nothing."""
        return await Archiver(self._pool).archive(before, folder)

    def head_exporter(self, path: Path, key_file: Path) -> HeadExporter:
        """Adds the signed head of this log to those at `path`."""
        return HeadExporter(self._pool, path, key_file, self._clock)

    async def close(self) -> None:
        await self._tail.stop()
        await self.leases.close()
        if self._keeper is not None:
            self._keeper.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._keeper
        try:
            await self.log.close()
            async with asyncio.timeout(10):
                await self._pool.close()
        except TimeoutError:
            self._pool.terminate()
        if self._server is not None:
            await asyncio.to_thread(self._server.close)


async def open_store(settings: StoreSettings, *, clock: Clock | None = None, holder: str = "trueup") -> Store:
    """`holder`: the name under which this process holds leases. Raises `Refusal` for what somebody has to change,
    `Transient` for what may go by itself."""
    ours = clock or SystemClock()
    server = None if settings.database_url else EmbeddedServer(settings.state_dir / "postgres")
    try:
        access = await _prepare_embedded(server) if server is not None else await _prepare_external(settings)
        await _bring_up_to_date(access)
        store = await _open(settings, access, ours, holder)
    except BaseException:
        if server is not None:
            await asyncio.to_thread(server.close)
        raise
    if server is not None:
        store._server = server
        store._keeper = asyncio.create_task(_keep_running(server, ours), name="keeper of Postgres")
    return store


@contextlib.asynccontextmanager
async def opened_store(
    settings: StoreSettings, *, clock: Clock | None = None, holder: str = "trueup"
) -> AsyncIterator[Store]:
    store = await open_store(settings, clock=clock, holder=holder)
    try:
        yield store
    finally:
        await store.close()


async def migrate_only(settings: StoreSettings) -> list[str]:
    """For an operator whose controllers log in without the right to migrate. The names of the files applied."""
    if not await prepare_external(settings.database_url):
        fix = f"use a log-in that is a member of {MIGRATE_ROLE}"
        raise Refusal("migrate the database", "this log-in may not change the schema", fix=fix, code="postgres_denied")
    await settle_ownership(settings.database_url)
    return await migrate(settings.database_url)


async def _prepare_embedded(server: EmbeddedServer) -> Access:
    await asyncio.to_thread(server.start)
    await prepare_embedded(server.url(SUPERUSER, "postgres"))
    return Access(server.url(MIGRATE_ROLE, DATABASE), server.url(APP_ROLE, DATABASE))


async def _prepare_external(settings: StoreSettings) -> Access:
    migrates = await prepare_external(settings.database_url)
    if migrates:
        await settle_ownership(settings.database_url)
    migrate_url = settings.database_url if migrates else ""
    if settings.app_url:
        return Access(migrate_url, settings.app_url)
    return Access(migrate_url, settings.database_url, APP_ROLE)


async def _bring_up_to_date(access: Access) -> None:
    if access.migrate_url:
        await migrate(access.migrate_url)
    else:
        await check_schema(access.app_url, access.app_role)


async def _open(settings: StoreSettings, access: Access, clock: Clock, holder: str) -> Store:
    schemas = EventSchemas(load_event_schemas())
    pool = await open_pool(access.app_url, role=access.app_role, connections_max=settings.connections_max)
    tail = Tail(lambda: connect(access.app_url, role=access.app_role), clock)
    line = AppendLine(lambda: connect(access.app_url, role=access.app_role, settings=PLANS))
    log = PostgresEventLog(pool, tail, schemas.check, clock, line)
    views = PostgresViews(pool, clock)
    tail.advance((await log.head()).last_event_id)
    tail.start()
    return Store(
        log=log,
        views=views,
        writer=ViewWriter(pool, log, views),
        heartbeats=Heartbeats(pool, clock),
        certificates=MachineCertificates(pool),
        leases=Leases(lambda: connect(access.app_url, role=access.app_role), pool, holder, clock),
        access=access,
        _rebuilder=Rebuilder(pool, log, views),
        _claims=ClaimsRebuilder(pool, log),
        _pool=pool,
        _clock=clock,
        _tail=tail,
    )


async def _keep_running(server: EmbeddedServer, clock: Clock) -> None:
    """Starts the embedded server again when it has died (out of memory, kill -9)."""
    backoff, rng, failures = Backoff(first_s=0.2, cap_s=30.0), random.Random(), 0  # noqa: S311  # jitter, no secret
    while True:
        await clock.sleep(SERVER_LOOK_S if failures == 0 else backoff.delay_s(failures, rng))
        try:
            if not await asyncio.to_thread(server.is_running):
                _log.warning("the embedded Postgres has died; starting it again", data=str(server.data))
                await asyncio.to_thread(server.start)
            failures = 0
        except TrueupError as error:
            failures += 1
            _log.error("the embedded Postgres does not start", failures=failures, why=str(error))
