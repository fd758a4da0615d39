"""What the rest of a tree needs to know of one file. Small, so that it is kept for every file of a large repository."""

from __future__ import annotations

from dataclasses import dataclass

from reconciler.core.language.defaults import Chain, DefaultsFile, read_defaults
from reconciler.core.language.documents import Document, ParsedFile
from reconciler.core.language.merge import get
from reconciler.core.language.targets import Target, targets_of, texts
from reconciler.core.yaml_reader import Table

IN_FOLDERS = frozenset(("app", "route", "volume"))
"""Kinds that inherit from defaults and take overlays."""


@dataclass(frozen=True, slots=True)
class Outline:
    """`declares`: kind and metadata of the documents that declare resources in folders; `environments` of those that
    declare environments; `others`: how many declare something else."""

    path: str
    blob: str
    size_bytes: int
    opaque: bool = False
    declares: tuple[tuple[str, Table], ...] = ()
    environments: tuple[str, ...] = ()
    others: int = 0
    overlays: tuple[Document, ...] = ()
    defaults: DefaultsFile | None = None

    @property
    def is_plain(self) -> bool:
        """No other file can be the wiser for it."""
        return not (self.opaque or self.environments or self.overlays or self.defaults)

    def targets(self, chain: Chain) -> tuple[Target, ...]:
        """The resources that overlays may be for, as far as their metadata can be read."""
        return tuple(target for kind, table in self.declares for target in targets_of(kind, table, chain))


def outline(parsed: ParsedFile) -> Outline:
    documents = parsed.documents
    defaults = next((each for each in documents if each.kind == "defaults"), None)
    names = (texts(get(each.node, "metadata"), "name")[0] for each in documents if each.kind == "environment")
    return Outline(
        parsed.path,
        parsed.blob,
        parsed.size_bytes,
        parsed.opaque,
        tuple(
            (each.kind, metadata)
            for each in documents
            if each.kind in IN_FOLDERS and isinstance(metadata := get(each.node, "metadata"), Table)
        ),
        tuple(name for name in names if name),
        sum(each.kind in ("environment", "secret") for each in documents),
        tuple(each for each in documents if each.kind == "overlay"),
        read_defaults(defaults, parsed.path, parsed.blob) if defaults and not parsed.findings else None,
    )
