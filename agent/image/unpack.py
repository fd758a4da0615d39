"""Layers -> folder -> squashfs. Called by the image driver, with the OCI layout that `fetch` filled.

As root, umoci gives every file its owner and mksquashfs packs it as it is. Without root, umoci notes an owner that it
may not set in the attribute user.rootlesscontainers; mksquashfs is then told to give every file to root, and those to
whom the notes say.
lz4 is the compressor that costs an emulated guest the least.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from pathlib import Path

from agent.image.bounded import TooLarge, TooSlow, Watched, run
from agent.image.failures import too_large
from agent.image.fetch import LAYOUT, TAG
from agent.image.limits import Limits
from agent.image.reference import Reference
from kit.errors import Refusal, Transient

TREE = "tree"
SQUASHFS = "root.squashfs"
OWNERS = "owners"
_OWNER_ATTRIBUTE = "user.rootlesscontainers"


async def unpack(reference: Reference, limits: Limits, work: Path) -> Path:
    """Applies the layers. Returns the folder with the files."""
    rootless = ["--rootless"] if os.geteuid() else []
    command = ["umoci", "raw", "unpack", *rootless, "--image", f"{LAYOUT}:{TAG}", TREE]
    watched = Watched(work / TREE, limits.unpacked_bytes_max)
    await _step(reference, command, "umoci", limits, limits.unpack_timeout_s, work, watched)
    return work / TREE


async def pack(reference: Reference, limits: Limits, work: Path) -> Path:
    """Packs the folder. Returns the squashfs file, which is on the disk for good."""
    owners = [] if os.geteuid() == 0 else _owner_options(work)
    command = ["mksquashfs", TREE, SQUASHFS, "-comp", "lz4", "-noappend", "-no-progress", "-quiet", *owners]
    await _step(reference, command, "squashfs-tools", limits, limits.pack_timeout_s, work, None)
    with (work / SQUASHFS).open("rb") as handle:
        os.fsync(handle.fileno())
    return work / SQUASHFS


async def _step(
    reference: Reference,
    command: list[str],
    package: str,
    limits: Limits,
    timeout_s: float,
    work: Path,
    watched: Watched | None,
) -> None:
    attempted = f"unpack {reference} with {command[0]}"
    try:
        result = await run(command, cwd=work, timeout_s=timeout_s, package=package, watched=watched)
    except TooLarge as error:
        raise too_large(reference, "unpacked files", error.args[0], limits.unpacked_bytes_max, "bytes") from error
    except TooSlow as error:
        raise Transient(attempted, f"no end within {timeout_s:.0f} s", code="rootfs_build_failed") from error
    if not result.code:
        return
    words = result.errors.strip()[-500:] or "it failed without a word"
    if "no space left" in words.lower():
        raise Transient(attempted, words, fix="free space under the agent's state folder", code="rootfs_build_failed")
    raise Refusal(attempted, words, fix="check the image: its layers cannot be applied", code="rootfs_build_failed")


def _owner_options(work: Path) -> list[str]:
    """A pseudo-file definition for every name: -all-root or -force-uid would win over those with a note. The top folder
    cannot have one; the guest takes that folder's owner from its layer."""
    tree = work / TREE
    lines = [line for path in _paths(tree) if (line := _owner_line(tree, path))]
    (work / OWNERS).write_text("".join(lines), errors="surrogateescape")
    return ["-no-xattrs", "-pf", OWNERS]


def _paths(tree: Path) -> Iterator[Path]:
    for folder, folders, files in os.walk(tree):
        for name in (*folders, *files):
            yield Path(folder, name)


def _owner_line(tree: Path, path: Path) -> str:
    """ "NAME m MODE UID GID". A name with a line break cannot be written, and so keeps its owner."""
    status = path.lstat()
    name = str(path.relative_to(tree)).replace("\\", "\\\\").replace('"', '\\"')
    if "\n" in name:
        return ""
    try:
        uid, gid = decode_owner(os.getxattr(path, _OWNER_ATTRIBUTE, follow_symlinks=False))
    except OSError:
        uid, gid = 0, 0
    return f'"{name}" m {stat.S_IMODE(status.st_mode):o} {uid} {gid}\n'


def decode_owner(note: bytes) -> tuple[int, int]:
    """The protobuf message {1: uid, 2: gid} of rootlesscontainers.proto. An absent field is 0."""
    fields = {1: 0, 2: 0}
    at = 0
    while at < len(note):
        key, shift, value = note[at] >> 3, 0, 0
        while True:
            at += 1
            value |= (note[at] & 0x7F) << shift
            shift += 7
            if not note[at] & 0x80:
                break
        fields[key] = value
        at += 1
    no_change = 0xFFFFFFFF
    return tuple(0 if fields[key] == no_change else fields[key] for key in (1, 2))  # type: ignore[return-value]  # two
