"""A controller's HTTP server over the twins, and the callers who knock at it."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import aiohttp

from kit.clock import SystemClock
from kit.errors import Refusal
from kit.machine_names import CONTROLLER_HOST
from kit.wire import EdgeReport, Enrolment, NodeReport, ReportTaken
from reconciler.certificates.authority import Authority
from reconciler.core.acts import Act, Order
from reconciler.core.decide.git.source_removal import Removal
from reconciler.core.events import NewEvent, newest_version
from reconciler.core.history import Deployments, Entry, FailedDeployment, HistoryPage, Onward, Told, Wanted
from reconciler.core.preview import PlanDocument
from reconciler.handlers.acts import ActHandlers, Done
from reconciler.handlers.deliveries import DeliveryHandlers
from reconciler.handlers.identities import IdentityHandlers
from reconciler.ids import UlidIds
from reconciler.oidc.issuers import Issuers
from reconciler.ports import Doc
from reconciler.server.app import HUB, STREAMS, HttpServer, build_app
from reconciler.server.auth import Role, make_token
from reconciler.server.deps import Deps, Handlers
from reconciler.server.limits import Limits
from reconciler.server.tls import MachinesTls
from tests.twin import MemoryLog, MemoryViews, append

KEY = b"k" * 32
WEBHOOK_SECRET = b"a secret of the forge and us"
DEADLINE_S = 10.0


@dataclass
class World:
    log: Any
    views: Any
    url: str = ""
    calls: list[tuple[str, Any]] = field(default_factory=list)
    refuse: Refusal | None = None
    break_with: BaseException | None = None
    session: aiohttp.ClientSession | None = None
    app: Any = None
    webhook_secrets: dict[str, tuple[bytes, ...]] = field(default_factory=lambda: {"main": (WEBHOOK_SECRET,)})

    server: Any = None
    tls: MachinesTls | None = None

    def server_connections(self) -> list[Any]:
        server = self.server._runner.server
        return list(server.connections) if server else []

    @property
    def hub(self) -> Any:
        return self.app[HUB]

    @property
    def streams(self) -> Any:
        return self.app[STREAMS]

    async def handle(self, name: str, document: Any) -> Any:
        self.calls.append((name, document))
        if self.break_with is not None:
            raise self.break_with
        if self.refuse is not None:
            raise self.refuse
        return 7

    async def call(self, method: str, path: str, token: str = "", **more: Any) -> tuple[int, Any, Any]:
        """status, document, headers."""
        assert self.session is not None
        headers = {**({"Authorization": f"Bearer {token}"} if token else {}), **more.pop("headers", {})}
        async with self.session.request(method, self.url + path, headers=headers, **more) as answer:
            body = await answer.read()
            is_document = answer.headers.get("Content-Type", "").split(";")[0].endswith(("/json", "+json"))
            return answer.status, json.loads(body) if is_document and body else body, answer.headers

    async def get(self, path: str, token: str = "") -> Any:
        status, document, _ = await self.call("GET", path, token or token_of("operator", "ops"))
        assert status == 200, document
        return document


def empty_plan(base: str, head: str) -> PlanDocument:
    return PlanDocument("main", head, base, base, "ann", "a change", "live", 1, True, True, "nothing changes")


def an_entry(**more: Any) -> Entry:
    """A commit that failed; everything that an entry can say is said."""
    finding = {"path": "a.yaml", "line": 1, "column": 1, "pointer": "", "code": "c", "message": "m", "fix": ""}
    told: dict[str, Any] = {
        "commit": "a" * 40,
        "parent": "b" * 40,
        "author": "Ann <ann@example.org>",
        "at": "2026-01-01T00:00:00Z",
        "subject": "Add the site",
        "pull_request": "#12",
        "brought": 2,
        "parts": ({"commit": "c" * 40, "author": "Ben <ben@example.org>", "subject": "Try it"},),
        "came_with": "",
        "merge_outcome": "",
        "outcome": "failed",
        "superseded_by": "",
        "was": "",
        "message": "app/site: it broke",
        "seconds": None,
        "base": "b" * 40,
        "counts": {"created": 1, "updated": 0},
        "changes": ({"verb": "create", "resource_id": "o/p/prod/site/app/site", "path": "a.yaml", "line": 1},),
        "changes_omitted": 0,
        "findings": ({**finding, "severity": "warning"},),
        "findings_omitted": 0,
        "held": ("app prod/app/shop: b.yaml:2:3 no such field",),
        "signers": ("ann",),
        "deployments": Deployments(1, failed=1, failures=(FailedDeployment("d-1", "o/p/prod/site/app/site", "x"),)),
        "events": (Told(9, "revision.applied", "2026-01-01T00:00:00.000Z"),),
    }
    return Entry(**{**told, **more})


def token_of(role: Role, name: str) -> str:
    return make_token(KEY, role, name)


@asynccontextmanager
async def serving(
    limits: Limits | None = None,
    log: Any = None,
    views: Any = None,
    look: Callable[[], None] = lambda: None,
    port: int = 0,
    *,
    authority: Authority | None = None,
    machine_tokens: bool = True,
    issuers: Issuers | None = None,
) -> AsyncIterator[World]:
    """`log` and `views`: the real ones; without, the twins. `look`: what happens when a source is looked at."""
    log = log or MemoryLog()
    world = World(log, views or MemoryViews(log))
    bounds = limits or Limits()

    async def enrol(document: Enrolment) -> Any:
        return await world.handle("enrol", document)

    async def heartbeat(node_id: str) -> Any:
        return await world.handle("heartbeat", node_id)

    async def node_report(document: NodeReport) -> ReportTaken:
        return ReportTaken(int(await world.handle("node_report", document)))

    async def edge_report(document: EdgeReport) -> Any:
        return await world.handle("edge_report", document)

    acts = ActHandlers(log, world.views, UlidIds(), SystemClock())
    deliveries = DeliveryHandlers(log, world.views, UlidIds(), SystemClock())

    async def act(wanted: Act, order: Order) -> Done:
        await world.handle("act", (wanted, order))
        return await acts.act(wanted, order)

    async def remove_source(removal: Removal) -> int:
        return int(await world.handle("remove_source", removal))

    async def secret_for(instance: Doc, node: Doc) -> bytes:
        await world.handle("secret", instance["instance_id"])
        return f"sealed for {node['node_id']}".encode()

    async def looked_at(source: str) -> bool:
        await world.handle("look", source)
        look()
        return source == "main"

    async def plan(base: str, head: str) -> PlanDocument:
        await world.handle("plan", (base, head))
        return empty_plan(base, head)

    async def history(wanted: Wanted) -> HistoryPage:
        await world.handle("history", wanted)
        return HistoryPage("main", "a" * 40, "a" * 40, "log-1", 1, (an_entry(),), Onward("b" * 40, ""))

    async def quarantined() -> list[Any]:
        return []

    deps = Deps(
        log=log,
        views=world.views,
        handlers=Handlers(enrol, heartbeat, node_report, edge_report, act, remove_source, deliveries.record_delivery),
        checkpoints=world.views.checkpoints,
        secret_for=secret_for,
        quarantined=quarantined,
        look=looked_at,
        token_key=KEY,
        plan={"main": plan},
        history={"main": history},
        webhook_secrets=lambda source: world.webhook_secrets.get(source, ()),
        limits=bounds,
        authority=authority,
        identities=IdentityHandlers(log, world.views, UlidIds(), SystemClock()) if authority else None,
        machines_url=lambda: str(world.server.machines_url),
        machine_tokens=machine_tokens,
        issuers=issuers,
    )
    world.app = build_app(deps)
    world.tls = listener_tls(authority) if authority else None
    machines = ("127.0.0.1", 0, world.tls.open()) if world.tls else None
    async with HttpServer(world.app, "127.0.0.1", port, bounds, machines=machines) as server:
        world.url, world.server = server.url, server
        async with aiohttp.ClientSession() as session:
            world.session = session
            await until(lambda: world.hub.ready)
            yield world


def listener_tls(authority: Authority) -> MachinesTls:
    return MachinesTls(authority, (CONTROLLER_HOST,), authority.folder, SystemClock())


async def until(condition: Any) -> None:
    async with asyncio.timeout(DEADLINE_S):
        while not condition():
            await asyncio.sleep(0.005)


def enrolment(node_id: str) -> dict[str, Any]:
    return {
        "node_id": node_id,
        "subnet": "fd00:0:0:1::/64",
        "memory_bytes": 4 << 30,
        "cpu": 2.0,
        "disk_bytes": 10 << 30,
        "seal_recipient": "age1xyz",
        "accelerator": "tcg",
        "agent_version": "0.1.0",
    }


async def enrol_node(log: Any, node_id: str) -> int:
    return await append(log, f"enrol-{node_id}", NewEvent("node", node_id, "node.enrolled", enrolment(node_id)))


def heard(node_id: str, number: int) -> NewEvent:
    """An event that only that node's stream carries."""
    return placed(f"o/p/prod/site/volume/v{number}", node_id)


def placed(volume_id: str, node_id: str, previous_node_id: str = "") -> NewEvent:
    payload = {"resource_id": volume_id, "node_id": node_id, "previous_node_id": previous_node_id}
    return NewEvent("volume", volume_id, "volume.placed", payload, newest_version("volume.placed"))


def long_event(number: int, payload: dict[str, str]) -> NewEvent:
    """Of an instance that has no row, so no fold reads the payload."""
    name = "instance.status_changed"
    return NewEvent("instance", f"i-{number}", name, payload, newest_version(name))
