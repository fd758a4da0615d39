"""What an image says about its process: an OCI configuration -> `agent.ports.RootImage`. Used by the image driver.

The image is not trusted: its /etc/passwd is opened without following a link, so that it cannot name a file of the host.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from agent.image.reference import Reference
from agent.ports import RootImage
from kit.errors import Refusal

PASSWD_BYTES_MAX = 1 << 20
PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
PLATFORM = ("linux", "amd64")


def root_image(reference: Reference, document: Mapping[str, Any], tree: Path, squashfs: Path) -> RootImage:
    """`document` is the configuration, `tree` the unpacked files, `squashfs` where they will be packed."""
    platform = (document.get("os"), document.get("architecture"))
    if platform != PLATFORM:
        raise _unfit(reference, f"it is for {platform[0]}/{platform[1]}", "build it for linux/amd64")
    given = document.get("config") or {}
    user, home = _user(reference, str(given.get("User") or ""), tree)
    environment = dict(str(entry).partition("=")[::2] for entry in given.get("Env") or ())
    return RootImage(
        rootfs=squashfs,
        argv=(*_texts(given.get("Entrypoint")), *_texts(given.get("Cmd"))),
        environment={"PATH": PATH, "HOME": home, **environment},
        user=user,
        workdir=str(given.get("WorkingDir") or "/"),
        stop_signal=str(given.get("StopSignal") or "SIGTERM"),
    )


def _texts(values: Sequence[Any] | None) -> tuple[str, ...]:
    return tuple(map(str, values or ()))


def _user(reference: Reference, text: str, tree: Path) -> tuple[str, str]:
    """("UID:GID", home). `text` is USER or USER:GROUP, names or numbers; empty is root."""
    name, _, group = text.partition(":")
    rows = _table(tree, "passwd")
    row = next((row for row in rows if name in (row[0], row[2])), None) if name else ["", "", "0", "0", "", "/root"]
    if row is None and not name.isdecimal():
        raise _unfit(reference, f"its user {name!r} is not in its /etc/passwd", "add the user, or use a number")
    user_id = row[2] if row else name
    group_id = _group(reference, group, tree) if group else row[3] if row else "0"
    return f"{user_id}:{group_id}", (row[5] if row else "") or "/"


def _group(reference: Reference, text: str, tree: Path) -> str:
    if text.isdecimal():
        return text
    row = next((row for row in _table(tree, "group") if row[0] == text), None)
    if row is None:
        raise _unfit(reference, f"its group {text!r} is not in its /etc/group", "add the group, or use a number")
    return row[2]


def _table(tree: Path, name: str) -> list[list[str]]:
    """The rows of /etc/NAME with numeric ids; none if the image has no such regular file."""
    columns = {"passwd": 7, "group": 4}[name]
    try:
        folder = os.open(tree / "etc", os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
        try:
            handle = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=folder)
        finally:
            os.close(folder)
        with os.fdopen(handle, "rb") as file:
            text = file.read(PASSWD_BYTES_MAX).decode(errors="replace")
    except OSError:
        return []
    rows = [line.split(":") for line in text.splitlines()]
    return [
        row for row in rows if len(row) == columns and row[2].isdecimal() and (name == "group" or row[3].isdecimal())
    ]


def _unfit(reference: Reference, why: str, fix: str) -> Refusal:
    return Refusal(f"prepare {reference}", why, fix=fix, code="rootfs_build_failed")
