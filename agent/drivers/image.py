"""Images on this node: `ImageStore` is the agent's `ImageDriver` (agent/ports.py). Made in the agent's bootstrap.

STATE/images/sha256-DIGEST/ holds root.squashfs and image.json. A build grows in STATE/images/.building-*/ and is
renamed when it is whole and on the disk, so a folder with a digest's name is always complete. What is here needs no
registry. The result goes into a machine's root disk and boot archive.
"""

from __future__ import annotations

import asyncio
import tempfile
import time
from collections.abc import Collection
from pathlib import Path

from agent.image import kept
from agent.image.config import root_image
from agent.image.fetch import Registry, fetch
from agent.image.limits import Limits
from agent.image.reference import Reference, parse
from agent.image.unpack import SQUASHFS, pack, unpack
from agent.ports import RootImage
from kit import logs
from kit.errors import Transient, TrueupError

FRESH_S = 600.0  # what was asked for so lately is about to be used, even if no machine has it yet
_BUILDING = ".building-"
_log = logs.get("image")


class ImageStore:
    """One per agent: no second process builds in the same state folder."""

    def __init__(
        self,
        state: Path,
        *,
        insecure_registries: Collection[str] = (),
        authfile: Path | None = None,
        limits: Limits | None = None,
    ) -> None:
        self._folder = state / "images"
        self._registry = Registry(frozenset(insecure_registries), authfile)
        self._limits = limits or Limits()
        self._builds: dict[str, asyncio.Task[RootImage]] = {}
        self._places = asyncio.Semaphore(self._limits.builds_at_once_max)
        self._asked_for: dict[str, float] = {}
        self._folder.mkdir(parents=True, exist_ok=True)
        for half_built in self._folder.glob(f"{_BUILDING}*"):
            kept.remove_tree(half_built)

    async def ensure(self, image: str) -> RootImage:
        """The image on this node; at once if it is here. Callers of the same digest share one build, and a caller that
        goes away does not end it. Raises `Refusal` or `Transient` with a reason code of `kit.wire`."""
        reference = parse(image)
        self._asked_for[reference.digest] = time.monotonic()
        while build := self._builds.get(reference.digest):
            try:
                return await asyncio.shield(build)
            except TrueupError:
                # Of the same digest in another registry: that one's failure says nothing about ours.
                if build.get_name() == str(reference):
                    raise
        if image_here := self._kept(reference):
            return image_here
        build = asyncio.create_task(self._build(reference), name=str(reference))
        self._builds[reference.digest] = build
        build.add_done_callback(lambda done: self._built(reference, done))
        return await asyncio.shield(build)

    async def remove_unused(self, in_use: Collection[str]) -> tuple[str, ...]:
        """Removes images that nothing uses, least lately used first, until the rest fits the cache. `in_use`:
        references that an instance has or will have. Returns the digests that were removed."""
        used = {parse(image).digest for image in in_use}
        oldest_first = sorted(self._folder.glob("sha256-*"), key=lambda path: path.stat().st_mtime_ns)
        total = sum(map(kept.size_bytes, oldest_first))
        removed = []
        for path in oldest_first:
            digest = path.name.removeprefix("sha256-")
            if total <= self._limits.cache_bytes_max or digest in used | set(self._builds) | self._fresh():
                continue
            total -= kept.size_bytes(path)
            going = path.rename(self._folder / f"{_BUILDING}gone-{digest}")  # from here on it is not found any more
            await asyncio.to_thread(kept.remove_tree, going)
            removed.append(digest)
        return tuple(removed)

    async def close(self) -> None:
        """Ends the builds under way; what they left is removed at the next start at the latest."""
        builds = list(self._builds.values())
        for build in builds:
            build.cancel()
        await asyncio.gather(*builds, return_exceptions=True)

    # --- one build ---

    async def _build(self, reference: Reference) -> RootImage:
        async with self._places:
            work = Path(tempfile.mkdtemp(prefix=f"{_BUILDING}{reference.digest[:12]}-", dir=self._folder))
            begun = time.monotonic()
            try:
                built = await self._steps(reference, work)
            except OSError as error:
                raise Transient(
                    f"prepare {reference}",
                    str(error),
                    fix="check the disk of the agent's state folder",
                    code="rootfs_build_failed",
                ) from error
            finally:
                await asyncio.to_thread(kept.remove_tree, work)
            _log.info("image is here", image=str(reference), seconds=round(time.monotonic() - begun, 1))
            return built

    async def _steps(self, reference: Reference, work: Path) -> RootImage:
        config = await fetch(reference, self._registry, self._limits, work)
        tree = await unpack(reference, self._limits, work)
        target = self._path(reference)
        image = root_image(reference, config, tree, target / SQUASHFS)
        squashfs = await pack(reference, self._limits, work)
        kept.write(reference, image, squashfs, work / "result", target)
        return image

    def _built(self, reference: Reference, done: asyncio.Task[RootImage]) -> None:
        del self._builds[reference.digest]
        if not done.cancelled():
            done.exception()  # asked for here, as every caller may have gone away

    # --- what is here ---

    def _path(self, reference: Reference) -> Path:
        return self._folder / f"sha256-{reference.digest}"

    def _fresh(self) -> set[str]:
        now = time.monotonic()
        self._asked_for = {digest: at for digest, at in self._asked_for.items() if now - at < FRESH_S}
        return set(self._asked_for)

    def _kept(self, reference: Reference) -> RootImage | None:
        path = self._path(reference)
        image = kept.read(path)
        if image is None and path.exists():
            _log.warning("a kept image is damaged and will be built anew", image=str(reference))
            kept.remove_tree(path)
        return image
