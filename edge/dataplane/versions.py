"""haproxy's files as a whole: configuration, map and layout change together or not at all.

    FOLDER/versions/DIGEST/{haproxy.cfg,routes.map,layout.json}    each version complete before it is named
    FOLDER/current -> versions/DIGEST                               the one that a reload or a restart of haproxy loads

haproxy is started with `-C FOLDER/current`, so it follows the link at each reload. Used by `haproxy` only.
"""

from __future__ import annotations

import json
import os
import shutil
from dataclasses import dataclass
from pathlib import Path

from edge.core.config import CONFIG_FILE, MAP_FILE, Rendered
from edge.core.layout import Layout
from kit.canonical import digest
from kit.codec import from_json, to_json
from kit.errors import TrueupError
from kit.files import write_atomically, write_json

LAYOUT_FILE = "layout.json"
VERSIONS_KEPT = 3


@dataclass(frozen=True, slots=True)
class Version:
    folder: Path


class Versions:
    def __init__(self, folder: Path) -> None:
        self._versions = folder / "versions"
        self.link = folder / "current"

    def current(self) -> Version | None:
        return Version(self._versions / self.link.readlink().name) if (self.link / CONFIG_FILE).is_file() else None

    def current_layout(self) -> Layout | None:
        """None when there is none, or when it cannot be read: a new one is then made, at the cost of moving routes."""
        try:
            return from_json(Layout, json.loads((self.link / LAYOUT_FILE).read_text()))
        except (OSError, ValueError, TrueupError):
            return None

    def write(self, rendered: Rendered, layout: Layout) -> Version:
        """A complete version on disk that nothing uses yet."""
        layout_json = to_json(layout)
        name = digest([rendered.config.decode(), rendered.map.decode(), layout_json], length=24)
        folder = self._versions / name
        if (folder / LAYOUT_FILE).is_file():  # written last, so the others are there
            os.utime(folder)
            return Version(folder)
        write_atomically(folder / CONFIG_FILE, rendered.config)
        write_atomically(folder / MAP_FILE, rendered.map)
        write_json(folder / LAYOUT_FILE, layout_json)
        return Version(folder)

    def use(self, version: Version) -> None:
        """The one step that changes what haproxy loads next."""
        temporary = self.link.with_name(f".current.{os.getpid()}.tmp")
        temporary.unlink(missing_ok=True)
        temporary.symlink_to(Path("versions") / version.folder.name)
        temporary.replace(self.link)
        _sync_folder(self.link.parent)
        self._prune(version)

    def _prune(self, keep: Version) -> None:
        """The newest few stay: one may be the version to return to."""
        others = [folder for folder in self._versions.iterdir() if folder != keep.folder]
        by_age = sorted(others, key=lambda folder: folder.stat().st_mtime_ns, reverse=True)
        for folder in by_age[VERSIONS_KEPT - 1 :]:
            shutil.rmtree(folder, ignore_errors=True)


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
