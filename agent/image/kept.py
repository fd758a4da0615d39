"""An image that is kept on the disk: a folder with root.squashfs and image.json. Written and read by the image driver.

The folder gets its name when both are whole and on the disk. Its time of change is the time of its last use.
"""

from __future__ import annotations

import json
import os
import shutil
import stat
from collections.abc import Callable
from pathlib import Path

from agent.image.reference import Reference
from agent.image.unpack import SQUASHFS
from agent.ports import RootImage
from kit.codec import to_json
from kit.files import write_json

_RECORD = "image.json"


def write(reference: Reference, image: RootImage, squashfs: Path, draft: Path, target: Path) -> None:
    """Moves `squashfs` into `draft`, adds the record, and makes that `target`. All on one file system."""
    draft.mkdir()
    squashfs.rename(draft / SQUASHFS)
    described = {key: value for key, value in to_json(image).items() if key != "rootfs"}
    size = size_bytes(draft)
    write_json(draft / _RECORD, {"reference": str(reference), "squashfs_bytes": size, "image": described})
    draft.rename(target)
    folder = os.open(target.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def read(path: Path) -> RootImage | None:
    """The image, marked as used now; None if it is absent or damaged."""
    try:
        document = json.loads((path / _RECORD).read_bytes())
        fields = {**document["image"], "rootfs": path / SQUASHFS, "argv": tuple(document["image"]["argv"])}
        image = RootImage(**fields)
        if (path / SQUASHFS).stat().st_size != document["squashfs_bytes"]:
            return None
        os.utime(path)
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return image


def size_bytes(path: Path) -> int:
    try:
        return (path / SQUASHFS).stat().st_size
    except FileNotFoundError:
        return 0


def remove_tree(path: Path) -> None:
    """Also what a rootless unpacking left in folders without the right to write."""

    def open_and_retry(function: Callable[[str], object], name: str, _: object) -> None:
        parent = Path(name).parent
        if not parent.is_symlink() and parent.is_relative_to(path):
            parent.chmod(stat.S_IRWXU)
            if function is os.unlink or function is os.rmdir:
                function(name)

    if path.exists():
        shutil.rmtree(path, onerror=open_and_retry)
