"""`make demo`: the main job of trueup, end to end, on real parts. `--stay` (`make up`) keeps it running to play with.

As root it enters a network namespace of its own first, so that nothing on the machine's network is touched; the last
line is `demo: N checks passed, M failed`.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import re
import signal
import sys
import tempfile
import traceback
from pathlib import Path

from kit.control_plane import ControlPlane
from tests.acceptance import scenario
from tests.acceptance.hosts import Hosts
from tests.acceptance.images import build_images
from tests.acceptance.narrator import CheckFailed, Narrator
from tests.acceptance.world import CACHE, ROOT, World

EXAMPLES = ROOT / "examples-repo"
EXIT_INTERRUPTED = 130
STEPS_AROUND = 3  # the registry, the fleet, the end
WITH_ROOT = "Each host is a network namespace of its own; guests are reached over bridges. Stop it with Ctrl-C."
WITHOUT_ROOT = """\
Without root all hosts share loopback, guests are reached through ports that qemu forwards,
and there are no cgroups: only qemu bounds a machine. The rest is the same. Stop it with Ctrl-C."""
READ_ON = """\
make up                 the same fleet, to play with: push, kill, ask why
examples-repo/          the manifests that were pushed
docs/ARCHITECTURE.md    what happened, step by step, with file names
docs/runbooks/          what to do when it does not"""


def main(argv: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.acceptance.demo", description=__doc__)
    parser.add_argument("--stay", action="store_true", help="keep everything running after the first chapter")
    names = [chapter.__name__ for chapter in scenario.CHAPTERS]
    parser.add_argument("--chapter", action="append", choices=names, help="the first and only these; repeatable")
    parser.add_argument("--no-root", action="store_true", help="do without namespaces even as root")
    arguments = parser.parse_args(argv)
    hosts = None if os.geteuid() != 0 or arguments.no_root else Hosts(f"trueup-{os.getpid()}")
    told = chosen(arguments)
    narrator = Narrator(steps=len(told) + STEPS_AROUND + arguments.stay)
    narrator.say(WITH_ROOT if hosts else WITHOUT_ROOT)
    whole = False
    try:
        build_images(CACHE / "images")  # before the namespace is entered: inside there is no way out to packages
        if hosts:
            hosts.open()
            enter(hosts.prefix)
        whole = asyncio.run(tell(narrator, hosts, told, stay=arguments.stay)) or arguments.stay
    except CheckFailed:
        pass
    except KeyboardInterrupt:  # before there is anything to stop but the namespace
        pass
    except Exception:
        traceback.print_exc()
        narrator.failed += 1
    finally:
        if hosts:
            hosts.close()
    if not narrator.failed and not arguments.stay:
        print(f"\n{READ_ON if whole else 'interrupted; everything was stopped'}")
    print(f"\n{narrator.total()}", flush=True)
    return 1 if narrator.failed else 0 if whole else EXIT_INTERRUPTED


def enter(namespace: str) -> None:
    """Moves this process (one thread so far) into the network namespace."""
    import ctypes

    libc = ctypes.CDLL(None, use_errno=True)
    with Path(f"/run/netns/{namespace}").open() as handle:
        if libc.setns(handle.fileno(), 0) != 0:
            raise OSError(ctypes.get_errno(), f"enter the network namespace {namespace}")


def chosen(arguments: argparse.Namespace) -> list[scenario.Chapter]:
    """All chapters, or the first and those that were asked for; with --stay the first alone."""
    only = [] if arguments.stay else arguments.chapter
    if only is None:
        return list(scenario.CHAPTERS)
    return [each for each in scenario.CHAPTERS if each is scenario.first_push or each.__name__ in only]


async def tell(narrator: Narrator, hosts: Hosts | None, told: list[scenario.Chapter], *, stay: bool) -> bool:
    """Whether it came to its end before somebody asked it to stop."""
    # Paths of unix sockets are bounded at 107 bytes, so the folder's path is short.
    world = World(Path(tempfile.mkdtemp(prefix="trueup-")), hosts)
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    telling = asyncio.create_task(chapters(narrator, world, stop, told, stay=stay))
    stopping = asyncio.create_task(stop.wait())
    try:
        await asyncio.wait((telling, stopping), return_when=asyncio.FIRST_COMPLETED)
        telling.cancel() if not telling.done() else telling.result()
    except BaseException:
        for program in world.programs.values():
            narrator.say(program.tail())
        raise
    finally:
        await asyncio.gather(telling, return_exceptions=True)
        stopping.cancel()
        narrator.step("Stop everything, guests included" + (" (asked to)" if stop.is_set() else ""))
        await world.close()
    narrator.check("nothing is left behind", *world.left_behind())
    return not stop.is_set()


async def chapters(
    narrator: Narrator, world: World, stop: asyncio.Event, told: list[scenario.Chapter], *, stay: bool
) -> None:
    story = await start(narrator, world)
    try:
        for chapter in told:
            await chapter(story)
        if stay:
            await scenario.add_notes(story)
            world.repository.push("Keep notes")
            await story.ready("notes", 1, scenario.BOOT_WITHIN_S)
            narrator.step("Play")
            narrator.say(world.how_to_play())
            await stop.wait()
    finally:
        await story.fleet.close()


async def start(narrator: Narrator, world: World) -> scenario.Story:
    narrator.step("Start a registry, and push the images of the demo into it")
    world.start_registry()
    for name, reference in sorted(world.images.items()):
        narrator.say(f"{name}: {reference.partition('@')[0]}@{reference.partition('@')[2][:19]}...")
    narrator.step("Make a repository of examples-repo; start Postgres and the controller, two agents, an edge")
    prepare_repository(world)
    await world.start_controller()
    await narrator.until("the controller is ready", lambda: controller_ready(world), 60)
    for name, number in (("node-a", 0xA), ("node-b", 0xB)):
        await world.start_agent(name, number)
    await world.start_edge("edge-a", 0xE)
    story = scenario.Story(world, world.fleet(), world.client(), narrator)
    await scenario.all_is_there(story)
    return story


async def controller_ready(world: World) -> tuple[bool | None, str]:
    async with ControlPlane(world.controller_url, "") as anybody:
        await anybody.get_json("/readyz")
    return True, world.controller_url


def prepare_repository(world: World) -> None:
    """The first commit declares the environment alone; the rest is kept for later chapters."""
    manifests = {
        str(path.relative_to(EXAMPLES)): adapt(path.read_text(), world) for path in sorted(EXAMPLES.rglob("*.yaml"))
    }
    first = {path: text for path, text in manifests.items() if path.startswith("environments/")}
    for path, text in first.items():
        world.repository.write(path, text)
    world.repository.push("Declare the environment prod")
    world.later_manifests = {path: text for path, text in manifests.items() if path.startswith("apps/notes/")}
    for path, text in manifests.items():
        if path.startswith(("apps/site/", "apps/defaults")) and "kind: Secret" not in text:
            world.repository.write(path, text)


def adapt(text: str, world: World) -> str:
    """The examples name an example registry and port 443; here they get this run's images and its port."""
    text = re.sub(r"image: \S+/site@\S+", f"image: {world.images['site-v1']}", text)
    text = re.sub(r"image: \S+/notes@\S+", f"image: {world.images['notes']}", text)
    return (
        text
        if world.https_port == 443
        else text.replace("spec:\n  hostname:", f"spec:\n  listenPort: {world.https_port}\n  hostname:")
    )


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
