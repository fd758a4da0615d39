"""The story that the demo tells, a function a chapter. Each changes something, waits, and checks what a user would."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

from tests.acceptance.client import Client, Traffic
from tests.acceptance.fleet import Fleet, describe
from tests.acceptance.narrator import MARGIN, Narrator
from tests.acceptance.world import BAD_IMAGE_REASONS, NOTES, SITE, World
from tests.canary import files_with, forms

BOOT_WITHIN_S = 90.0
ROLL_WITHIN_S = 150.0
SITE_MANIFEST = "apps/site/app.yaml"
NOTE = "written before the instance was replaced"


@dataclass
class Story:
    world: World
    fleet: Fleet
    client: Client
    narrator: Narrator
    commits: dict[str, str] = field(default_factory=dict)
    version: str = "v1"

    async def page(self, hostname: str = SITE, path: str = "/") -> str:
        status, body = await self.client.request(hostname, path)
        if status != 200:
            raise ConnectionError(f"status {status}")
        return body

    async def ready(self, app: str, count: int, within_s: float) -> list[dict[str, Any]]:
        async def look() -> tuple[list[dict[str, Any]] | None, str]:
            serving, every = await self.fleet.instances(app, ready=True), await self.fleet.instances(app)
            return (serving if len(serving) == count and len(every) == count else None), describe(every)

        return await self.narrator.until(f"{count} of {app} ready, no other one left", look, within_s)

    async def revision(self, commit: str, status: str, within_s: float = 20.0) -> dict[str, Any]:
        async def look() -> tuple[dict[str, Any] | None, str]:
            row = await self.fleet.revision(commit)
            seen = row["status"] if row else "not seen yet"
            wanted = ("applied", "converged") if status == "applied" else (status,)
            return (row if seen in wanted else None), seen

        return await self.narrator.until(f"commit {commit[:8]} is {status}", look, within_s)

    async def tell(self, *words: str) -> str:
        """Runs `trueup` with these words and shows what it prints."""
        self.narrator.say(f"$ trueup {' '.join(words)}")
        printed = await self.fleet.shown(*words, width=self.narrator.width - len(MARGIN))
        self.narrator.say(printed)
        return printed

    async def agent_is_back(self, node: str) -> None:
        """A restarted agent enrols and then beats; the beat before its stop is older than its start."""
        started = time.monotonic()

        async def look() -> tuple[bool | None, str]:
            status = await self.fleet.control_plane.get_json("/v1/status")
            age_s = next(row["heartbeat_age_s"] for row in status["nodes"] if row["node_id"] == node)
            since_s = time.monotonic() - started
            return (True if age_s is not None and age_s < since_s else None), f"last heartbeat {age_s} s ago"

        await self.narrator.until(f"{node} beats again", look, 30)

    async def serves(self, hostname: str, text: str, within_s: float = 30.0) -> str:
        async def look() -> tuple[str | None, str]:
            body = await self.page(hostname)
            return (body if text in body else None), body.strip()

        return await self.narrator.until(f"https://{hostname}/ answers with {text!r}", look, within_s)


async def all_is_there(story: Story) -> None:
    """Waits for the parts that the demo has started."""
    fleet = story.fleet

    async def nodes() -> tuple[bool | None, str]:
        rows = await fleet.view("nodes")
        seen = ", ".join(f"{row['node_id']} {row['state']} ({row['accelerator']})" for row in rows)
        return (True if [row["state"] for row in rows] == ["active", "active"] else None), seen or "no node"

    await story.narrator.until("two nodes have enrolled", nodes, 60)


async def first_push(story: Story) -> None:
    story.narrator.step("Push an app: two replicas of an HTTPS server, a route, a certificate's key as a secret")
    world = story.world
    world.repository.write(
        "apps/site/secret.yaml", await world.seal("site", "site-tls", {**world.tls_values(SITE), "GREETING": "hello"})
    )
    commit = story.commits["site"] = world.repository.push("Run the site, version 1")
    await story.revision(commit, "applied")
    instances = await story.ready("site", 2, BOOT_WITHIN_S)
    nodes = {row["node_id"] for row in instances}
    story.narrator.check("the replicas are on two nodes", len(nodes) == 2, ", ".join(sorted(nodes)))
    body = await story.serves(SITE, story.version)
    story.narrator.check("the secret's greeting reached the guest", "hello" in body, body.strip())
    await story.revision(commit, "converged")


async def new_version(story: Story) -> None:
    story.narrator.step("Push version 2 while a client sends requests through the edge")
    images = story.world.images
    async with Traffic(story.client, SITE) as traffic:
        story.world.repository.replace(SITE_MANIFEST, images["site-v1"], images["site-v2"])
        commit = story.commits["v2"] = story.world.repository.push("Run the site, version 2")
        await story.revision(commit, "converged", ROLL_WITHIN_S)
        await story.ready("site", 2, ROLL_WITHIN_S)
        story.version = "v2"
        await story.serves(SITE, story.version)
    story.narrator.check("no request failed during the replacement", not traffic.failures, traffic.summary())
    story.narrator.check("the client asked all the while", traffic.requests > 10, traffic.summary())


async def new_secret(story: Story) -> None:
    story.narrator.step("Push a new value of the secret: the instances are replaced")
    before = {row["instance_id"] for row in await story.fleet.instances("site")}
    world = story.world
    values = {**world.tls_values(SITE), "GREETING": "good morning", "CANARY": world.canary}
    world.repository.write("apps/site/secret.yaml", await world.seal("site", "site-tls", values))
    commit = world.repository.push("Greet differently")
    await story.revision(commit, "converged", ROLL_WITHIN_S)
    after = await story.ready("site", 2, ROLL_WITHIN_S)
    story.narrator.check("every instance is a new one", not before & {row["instance_id"] for row in after})
    await story.serves(SITE, "good morning")


async def kill_a_machine(story: Story) -> None:
    story.narrator.step("Kill a microVM's process with SIGKILL")
    victim = (await story.ready("site", 2, 10))[0]
    pid = story.world.machine_pid(victim["node_id"], victim["instance_id"])
    os.kill(pid, signal.SIGKILL)
    story.narrator.say(f"killed pid {pid}, instance {victim['instance_id']} on {victim['node_id']}")

    async def look() -> tuple[dict[str, Any] | None, str]:
        row = next(row for row in await story.fleet.instances("site") if row["instance_id"] == victim["instance_id"])
        back = row["status"] == "ready" and row["restarts"] > victim["restarts"]
        return (row if back else None), f"{row['status']}, {row['restarts']} restarts, {row['reason_code']}"

    await story.narrator.until("the same instance is ready again", look, BOOT_WITHIN_S)
    await story.serves(SITE, story.version)


async def restart_agent(story: Story) -> None:
    story.narrator.step("Restart an agent: no microVM restarts")
    node = (await story.ready("site", 2, 10))[0]["node_id"]
    before = story.world.machine_pids(node)
    agent = story.world.programs[node]
    code = await agent.stop()
    story.narrator.check("the agent stops cleanly on SIGTERM", code == 0, f"exit {code}")
    story.narrator.check("the microVMs live on without it", story.world.machine_pids(node) == before, str(before))
    await agent.start()
    await story.agent_is_back(node)
    story.narrator.check("the agent adopted them", story.world.machine_pids(node) == before, str(before))
    await story.ready("site", 2, 20)


async def drain_node(story: Story) -> None:
    story.narrator.step("Drain a node: what can leave it leaves it, while the site serves")
    node = (await story.ready("site", 2, 10))[0]["node_id"]
    async with Traffic(story.client, SITE) as traffic:
        await story.tell("node", "drain", node, "--reason", "new disks", "--for", "1h")

        async def moved() -> tuple[bool | None, str]:
            rows = await story.fleet.instances("site")
            left = [row for row in rows if row["node_id"] == node]
            serving = [row for row in rows if row["status"] == "ready" and row["node_id"] != node]
            return (True if not left and len(serving) == 2 else None), describe(rows)

        await story.narrator.until(f"no instance of the site is left on {node}", moved, ROLL_WITHIN_S)
    story.narrator.check("no request failed meanwhile", not traffic.failures, traffic.summary())
    printed = await story.fleet.trueup("status")
    held = printed.partition("HELD BACK BY PEOPLE")[2]
    story.narrator.check("the status page shows it, with its reason", node in held and "new disks" in held)
    why = await story.fleet.trueup("why", node)
    story.narrator.check(f"`trueup why {node}` says it first", "WHY 1: node_draining" in why)
    await story.tell("node", "activate", node, "--reason", "the disks are in")
    after = await story.fleet.trueup("status")
    story.narrator.check("nothing is held back any more", "HELD BACK" not in after)


async def stop_controller(story: Story) -> None:
    story.narrator.step("Stop the controller: the site serves on; a push meanwhile is caught up with afterwards")
    controller = story.world.programs["controller"]
    code = await controller.stop()
    story.narrator.check("the controller drains on SIGTERM", code == 0, f"exit {code}")
    async with Traffic(story.client, SITE) as traffic:
        await add_notes(story)
        commit = story.commits["notes"] = story.world.repository.push("Keep notes")
        await asyncio.sleep(3)
    story.narrator.check("the site serves without a controller", not traffic.failures, traffic.summary())
    await controller.start()
    await story.revision(commit, "applied", 40)
    await story.ready("notes", 1, BOOT_WITHIN_S)


async def add_notes(story: Story) -> None:
    """Writes the manifests of the second app; sealing needs no controller, only its recipient."""
    world = story.world
    sealed = await world.seal("notes", "notes-tls", world.tls_values(NOTES))
    for path, text in {**world.later_manifests, "apps/notes/secret.yaml": sealed}.items():
        world.repository.write(path, text)


async def keep_data(story: Story) -> None:
    story.narrator.step("Write to the volume, replace the instance: the data is still there")

    async def store() -> tuple[int | None, str]:
        status, _ = await story.client.request(NOTES, "/notes/first", method="PUT", body=NOTE.encode())
        return (status if status in (201, 204) else None), f"status {status}"

    await story.narrator.until("the note is stored", store, 20)
    before = (await story.fleet.instances("notes"))[0]["instance_id"]
    story.world.repository.replace("apps/notes/app.yaml", "memory: 128Mi", "memory: 160Mi")
    commit = story.world.repository.push("Give the notes more memory")
    await story.revision(commit, "converged", ROLL_WITHIN_S)
    after = (await story.ready("notes", 1, BOOT_WITHIN_S))[0]["instance_id"]
    story.narrator.check("the instance is a new one", before != after, f"{before} -> {after}")

    async def look() -> tuple[str | None, str]:
        body = await story.page(NOTES, "/notes/first")
        return (body if body == NOTE else None), body

    await story.narrator.until("the note is there", look, 20)


async def broken_manifest(story: Story) -> None:
    story.narrator.step("Push a broken manifest: its app is held back with file and line, nothing of it changes")
    before = {row["instance_id"] for row in await story.fleet.instances("site")}
    story.world.repository.replace(SITE_MANIFEST, "replicas: 2", "replicaz: 2")
    commit = story.commits["broken"] = story.world.repository.push("Scale the site (with a typing error)")
    row = await story.revision(commit, "converged")
    held = row["held"][0]
    story.narrator.check("the site is held back, and nothing else", len(row["held"]) == 1, held["app"])
    finding = held["findings"][0]
    where = f"{finding['path']}:{finding['line']}:{finding['column']}"
    story.narrator.say(f"{where}: {finding['message']}; {finding['fix']}")
    story.narrator.check(
        "the finding names file and line", finding["path"] == SITE_MANIFEST and finding["line"] > 1, where
    )
    story.narrator.check("the finding names the right field", "replicas" in finding["message"] + finding["fix"])
    after = {row["instance_id"] for row in await story.fleet.instances("site")}
    story.narrator.check("nothing changed", before == after)
    await story.serves(SITE, story.version)


async def bad_images(story: Story) -> None:
    story.narrator.step("Push three apps whose images cannot be had: each says why, the others go on")
    world = story.world
    serving = {row["instance_id"] for row in await story.fleet.instances("site")}
    for name, image in world.bad_images().items():
        world.repository.write(f"apps/{name}/app.yaml", manifest_of(name, image))
    commit = story.commits["bad"] = world.repository.push("Run three apps that cannot run")
    await story.revision(commit, "applied")
    for name, reason in BAD_IMAGE_REASONS.items():

        async def look(name: str = name, reason: str = reason) -> tuple[str | None, str]:
            rows = await story.fleet.instances(name)
            codes = {row["reason_code"] for row in rows}
            return (rows[0]["reason_detail"] if reason in codes else None), ", ".join(sorted(codes)) or "no report"

        detail = await story.narrator.until(f"{name}: {reason}", look, 60)
        story.narrator.say(detail)
        why = await story.fleet.trueup("why", f"app/{name}")
        story.narrator.check(f"`trueup why app/{name}` says so", reason in why)
    await story.serves(SITE, story.version)
    still = {row["instance_id"] for row in await story.fleet.instances("site")}
    story.narrator.check("the site's instances are the same", still == serving)
    world.repository.remove("apps/absent", "apps/altered", "apps/unreachable")
    removed = world.repository.push("Remove the three")
    await story.revision(removed, "applied")


def manifest_of(name: str, image: str) -> str:
    return f"""apiVersion: trueup/v1
kind: App
metadata:
  name: {name}
  env: prod
spec:
  processes:
    web:
      image: {image}
      memory: 128Mi
      update: {{drainGrace: 1s}}
"""


async def revert(story: Story) -> None:
    story.narrator.step("Revert: first the broken commit, then version 2; the old version returns")
    fixed = story.world.repository.revert(story.commits["broken"])
    await story.revision(fixed, "applied")
    commit = story.world.repository.revert(story.commits["v2"])
    story.version = "v1"
    await story.revision(commit, "converged", ROLL_WITHIN_S)
    await story.ready("site", 2, ROLL_WITHIN_S)
    await story.serves(SITE, story.version)
    kinds = [row["kind"] for row in await story.fleet.view("deployments") if row["commit"] == commit]
    story.narrator.check("it is a rollback to a release that is known", kinds == ["rollback"], str(kinds))


async def remove_app(story: Story) -> None:
    story.narrator.step("Remove an app: everything goes but its volume, which needs an explicit confirmation")
    story.world.repository.remove("apps/notes")
    commit = story.world.repository.push("Stop keeping notes")
    row = await story.revision(commit, "applied")
    trailer = next(f["fix"] for f in row["findings"] if "volume" in f["message"])
    story.narrator.say(f"finding: {row['findings'][0]['message']}\nfix: {trailer}")

    async def gone() -> tuple[bool | None, str]:
        rows = [row for row in await story.fleet.view("resources") if row["app"] == "notes"]
        instances = await story.fleet.instances("notes")
        left = [row["kind"] for row in rows]
        return (True if left == ["volume"] and not instances else None), f"left: {left}, {describe(instances)}"

    await story.narrator.until("only the volume is left", gone, 60)
    story.narrator.check("the volume's data is on the host", len(story.world.volumes_on_disk()) == 1)
    confirmed = story.world.repository.push("Delete the notes", "Trueup-Confirm-Delete: prod/notes/volume/notes-data")
    await story.revision(confirmed, "applied")

    async def deleted() -> tuple[bool | None, str]:
        rows = [row for row in await story.fleet.view("resources") if row["app"] == "notes"]
        disks = story.world.volumes_on_disk()
        return (True if not rows and not disks else None), f"{len(rows)} resources, {len(disks)} volumes on disk"

    await story.narrator.until("after the confirmation the volume is gone", deleted, 30)
    await story.serves(SITE, story.version)


async def history(story: Story) -> None:
    story.narrator.step("Ask why, and read the history of one instance from its commit to its removal")
    instance = (await story.ready("site", 2, 10))[0]
    printed = await story.tell("why", instance["instance_id"])
    story.narrator.check("why names the manifest's file", SITE_MANIFEST in printed)
    allocated = await story.fleet.events("--event-type", "instance.allocated")
    first = next(event for event in allocated if event["payload"]["app"].endswith("/app/notes"))
    await story.tell("events", "--aggregate-id", first["aggregate_id"])
    story.narrator.check("the first event names the commit", first["cause"]["commit"] == story.commits["notes"])
    last = (await story.fleet.events("--aggregate-id", first["aggregate_id"]))[-1]
    seen = f"{last['event_type']}: {last['payload'].get('status')}"
    story.narrator.check("the last event is its end", last["payload"].get("status") == "stopped", seen)
    await story.tell("status")


async def search_disks(story: Story) -> None:
    story.narrator.step("Search all that was written for a value of the secret, which the guests have had since")
    needles = [*forms(story.world.canary.encode())]
    found, files, size = await asyncio.to_thread(files_with, story.world.folder, needles)
    seen = f"{files} files, {size >> 20} MiB: logs, database and its WAL, clones, states of agents and edge, disks"
    story.narrator.check("it is in none of them, in no form", not found and size > 1 << 20, "; ".join(found) or seen)


Chapter = Callable[[Story], Awaitable[None]]
CHAPTERS = (
    first_push,
    new_version,
    new_secret,
    kill_a_machine,
    restart_agent,
    drain_node,
    stop_controller,
    keep_data,
    broken_manifest,
    revert,
    bad_images,
    remove_app,
    history,
    search_disks,
)
