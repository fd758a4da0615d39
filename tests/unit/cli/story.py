"""One small system's history, told in events as the controller writes them."""

from __future__ import annotations

from typing import Any

from reconciler.core.events import Cause, NewEvent, newest_version
from tests.twin import append
from tests.unit.server.world import enrolment

SITE = "default/default/prod/site/app/site"
ROUTE = "default/default/prod/site/route/site"
DATA = "default/default/prod/site/volume/notes-data"
KEYS = "default/default/prod/site/secret/keys"
PROD = "default/default/prod/-/environment/prod"
GOOD, BAD, LATER = "a" * 40, "b" * 40, "c" * 40
ADA, BEN = "Ada <ada@example.org>", "Ben <ben@example.org>"
IMAGE = "registry.example/site@sha256:" + "1" * 64


def git(commit: str = GOOD, author: str = ADA, path: str = "", line: int = 0) -> Cause:
    return Cause("user", author, "default", "main", commit, path, line, f"main@{commit}")


def scheduler(commit: str = GOOD, causation_id: int = 0, path: str = "apps/site.yaml", line: int = 3) -> Cause:
    return Cause("system", "scheduler", "default", "main", commit, path, line, f"main@{commit}", causation_id)


def app_spec(image: str = IMAGE, replicas: int = 2, **more: Any) -> dict[str, Any]:
    return {
        "processes": {
            "web": {
                "image": image,
                "memory_bytes": 128 << 20,
                "cpu": 1.0,
                "disk_bytes": 1 << 30,
                "replicas": replicas,
                "command": [],
                "environment": {},
                "ports": [{"name": "http", "port": 8080}],
                "health": {"kind": "http", "port": 8080, "path": "/healthz"},
                "volumes": [{"volume": "notes-data", "path": "/data", "read_only": False}],
                "secrets": ["keys"],
                "update": {},
                "restart": "always",
                **more,
            }
        }
    }


ROUTE_SPEC = {
    "hostname": "site.example.org",
    "process": "web",
    "port": 8080,
    "listen_port": 443,
    "protocol": "tls_passthrough",
    "proxy_protocol": "off",
}


class Story:
    """Appends to a log; every method is one thing that happens."""

    def __init__(self, log: Any) -> None:
        self._log = log
        self._number = 0
        self._counter = 0

    async def event(self, kind: str, key: str, what: str, payload: dict[str, Any], cause: Cause) -> int:
        self._number += 1
        name = f"{kind}.{what}"
        event = NewEvent(kind, key, name, payload, newest_version(name))
        return await append(self._log, f"s-{self._number}", event, cause=cause)

    async def begin(self) -> None:
        url = "file:///srv/repo.git"
        source = {"source_id": "main", "org": "default", "project": "default", "url": url, "branch": "main", "path": ""}
        source["previous_org"] = ""
        await self.event("source", "main", "registered", source, Cause("system", "controller", "default"))
        await self.node("node-a")
        await self.node("node-b")

    async def node(self, node_id: str) -> None:
        payload = {**enrolment(node_id), "subnet": f"fd00:0:0:{ord(node_id[-1]):x}::/64"}
        await self.event("node", node_id, "enrolled", payload, Cause("service_principal", f"node:{node_id}", ""))

    async def node_state(self, node_id: str, state: str, reason: str) -> None:
        payload = {"node_id": node_id, "state": state, "reason": reason}
        await self.event("node", node_id, "state_changed", payload, Cause("system", "nodes", ""))

    async def applied(self, commit: str, subject: str, *changes: tuple[str, str, str, int], author: str = ADA) -> None:
        payload = {
            "source_id": "main", "commit": commit, "base": "", "author": author, "subject": subject, "findings": [],
            "changes": [{"verb": v, "resource_id": r, "path": p, "line": n} for v, r, p, n in changes],
        }  # fmt: skip
        await self.event("revision", f"main@{commit}", "applied", payload, git(commit, author))

    async def refused(self, commit: str, subject: str, path: str = "apps/site.yaml") -> None:
        finding = {
            "path": path, "line": 9, "column": 5, "pointer": "/spec", "code": "unknown_field",
            "message": "unknown field 'replicsa'", "fix": "write replicas", "severity": "error",
        }  # fmt: skip
        payload = {
            "source_id": "main", "commit": commit, "base": GOOD, "author": BEN, "subject": subject,
            "findings": [finding],
        }  # fmt: skip
        await self.event("revision", f"main@{commit}", "refused", payload, git(commit, BEN))

    async def declare(self, resource_id: str, spec: dict[str, Any], path: str, line: int, commit: str = GOOD) -> int:
        kind = resource_id.split("/")[4]
        payload = {"resource_id": resource_id, "spec": spec}
        return await self.event(kind, resource_id, "created", payload, git(commit, path=path, line=line))

    async def release(self, release: str, deployment: str, commit: str = GOOD, number: int = 1) -> int:
        payload = {"release_id": release, "app": SITE, "spec": app_spec(), "number": number}
        await self.event("release", release, "created", payload, git(commit, path="apps/site.yaml", line=3))
        payload = {
            "deployment_id": deployment, "app": SITE, "release_id": release, "kind": "deploy", "reason": "commit",
        }  # fmt: skip
        return await self.event(
            "deployment", deployment, "created", payload, git(commit, path="apps/site.yaml", line=3)
        )

    async def deployment(self, deployment: str, status: str, message: str = "") -> None:
        payload = {"deployment_id": deployment, "app": SITE, "status": status, "message": message, "seconds": 12.5}
        await self.event("deployment", deployment, "status_changed", payload, scheduler())

    async def allocate(self, instance: str, node: str, release: str, deployment: str, commit: str = GOOD) -> None:
        workload = {
            "app": "site", "env": "prod", "process": "web", "release_id": release, "image": IMAGE,
            "memory_bytes": 128 << 20, "cpu": 1.0, "disk_bytes": 1 << 30, "address": f"fd00::{instance[-1]}",
            "mounts": [{"volume_id": DATA, "path": "/data", "read_only": False}],
        }  # fmt: skip
        payload = {
            "instance_id": instance, "node_id": node, "app": SITE, "process": "web", "release_id": release,
            "deployment_id": deployment, "spec_hash": "h", "epoch": 1, "workload": workload, "drain_grace_s": 10.0,
            "secrets": [],
        }  # fmt: skip
        await self.event("instance", instance, "allocated", payload, scheduler(commit))

    async def status(
        self, instance: str, node: str, status: str, code: str = "", detail: str = "", **more: Any
    ) -> None:
        self._counter += 1
        payload = {
            "instance_id": instance, "node_id": node, "app": SITE, "status": status, "epoch": 1,
            "counter": self._counter,
            "boot_id": "boot-1", "reason_code": code, "reason_detail": detail, "exit_code": None, "restarts": 0,
            "endpoints": [], "observed_at": "", **more,
        }  # fmt: skip
        await self.event(
            "instance", instance, "status_changed", payload, Cause("service_principal", f"node:{node}", "")
        )

    async def desired(self, instance: str, node: str, desired: str, reason: str) -> None:
        payload = {
            "instance_id": instance, "node_id": node, "app": SITE, "desired": desired, "drain_grace_s": 10.0,
            "reason": reason, "reason_code": "",
        }  # fmt: skip
        await self.event("instance", instance, "desired_state_changed", payload, scheduler())

    async def site(self) -> None:
        """A commit that declares everything, and its deployment up to two ready instances."""
        await self.begin()
        changes = [
            ("create", PROD, "env.yaml", 1),
            ("create", DATA, "apps/site.yaml", 20),
            ("create", SITE, "apps/site.yaml", 3),
        ]
        await self.applied(GOOD, "Serve the site", *changes, ("create", ROUTE, "apps/site.yaml", 30))
        await self.declare(PROD, {"description": "what people use", "quota": {}}, "env.yaml", 1)
        await self.declare(DATA, {"size_bytes": 1 << 30, "filesystem": "ext4"}, "apps/site.yaml", 20)
        await self.declare(SITE, app_spec(), "apps/site.yaml", 3)
        await self.declare(ROUTE, ROUTE_SPEC, "apps/site.yaml", 30)
        await self.release("r-one", "d-one")
        for instance, node in (("i-0001", "node-a"), ("i-0002", "node-b")):
            await self.allocate(instance, node, "r-one", "d-one")
            await self.status(instance, node, "booting")
            await self.status(instance, node, "ready")
        await self.deployment("d-one", "succeeded")
