"""What is known besides the commit itself when its errors are looked at."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from reconciler.core.declared import ManifestFile
from reconciler.core.findings import Finding
from reconciler.core.isolation.live import Live
from reconciler.core.model import ResourceId


@dataclass(frozen=True, slots=True)
class Situation:
    """`live`: what the source has declared and holds, less what is retained. `base`: the files of the applied commit by
    path. `carried`: app -> the unreadable files that it was held back for so far ("" for an unknown app). `blamed`: app
    -> what the live system has against it."""

    live: Live = field(default_factory=Live)
    base: Mapping[str, ManifestFile] = field(default_factory=dict)
    carried: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    blamed: Mapping[str, tuple[Finding, ...]] = field(default_factory=dict)

    def knew(self, path: str) -> frozenset[ResourceId]:
        """What a file was about, as far as anybody knows: live, in the applied commit, and what is held for it."""
        file = self.base.get(path)
        named = (*(each.resource.id for each in file.declared), *file.broken, *file.overlaid) if file else ()
        held = (ResourceId.parse(app) for app, files in self.carried.items() if app and path in files)
        return frozenset((*self.live.by_path.get(path, ()), *named, *held))

    def changed(self, file: ManifestFile) -> bool:
        """Whether the file is another one than in the applied commit."""
        before = self.base.get(file.path)
        return before is None or before.blob != file.blob
