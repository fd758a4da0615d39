"""Whose error is it? From the findings of a commit's files to apps. Pure; called by `isolation`.

- A document that says what it is, and is wrong: the app of that resource.
- A file that cannot be read as far as to say what it declares: every app that it is known to be about (what lives from
  that path, what the applied commit had in it, what it still says). Nobody knows what else it holds, so if it is new or
  changed, every app that would lose something is held back as well: the lost part may be in there.
- Folder defaults with an error: as if every file below them were such a file, because they complete what those say.
- An overlay with an error: the apps that it lies over. One that does not say over what: nobody's, so the whole commit.
- Environments belong to all their apps: an error of one is the whole commit's.
"""

from __future__ import annotations

from collections.abc import Collection, Container, Iterable, Mapping
from dataclasses import dataclass, field

from reconciler.core.cross_checks import Assembled
from reconciler.core.declared import ManifestFile
from reconciler.core.findings import Finding, errors
from reconciler.core.isolation.situation import Situation
from reconciler.core.language.documents import is_defaults_file
from reconciler.core.model import ResourceId

NOBODY = ""
"""Stands for the app that an unreadable file may declare."""


@dataclass(slots=True)
class Blame:
    """`held`: app -> findings. `files`: app -> unreadable files. `common`: errors that are nobody's own."""

    held: dict[str, list[Finding]] = field(default_factory=dict)
    files: dict[str, set[str]] = field(default_factory=dict)
    common: list[Finding] = field(default_factory=list)

    def hold(self, app: str, findings: Iterable[Finding], files: Iterable[str] = ()) -> None:
        self.held.setdefault(app, []).extend(findings)
        self.files.setdefault(app, set()).update(files)

    def on(self, identities: Iterable[ResourceId], findings: Iterable[Finding], files: Iterable[str] = ()) -> bool:
        """Holds the owners back; False when there are none. An environment makes the findings everybody's."""
        findings = tuple(findings)
        owners = {identity.owner for identity in identities}
        if None in owners:
            self.common.extend(findings)
        for owner in owners:
            if owner is not None:
                self.hold(str(owner), findings, files)
        return bool(owners)


@dataclass(frozen=True, slots=True)
class _Here:
    """What the commit declares, well or with mistakes."""

    resources: Container[ResourceId]
    broken: Container[ResourceId]

    def __contains__(self, identity: ResourceId) -> bool:
        return identity in self.resources or identity in self.broken


_NOTHING = _Here((), ())


def blame_files(head: Assembled, noted: Collection[str], situation: Situation) -> Blame:
    """Of the files by themselves; what is wrong between them is `isolation`'s matter. `noted`: the files that there is
    something to say of. The others are only looked at when they inherit a mistake."""
    blame = Blame()
    told = _between_files(head, blame)
    suspects = [head.files[path] for path in sorted({*noted, *told})]
    folders = {
        file.path.rpartition("/")[0]: tuple(found)
        for file in suspects
        if is_defaults_file(file.path) and (found := [*errors(file.findings), *told.get(file.path, ())])
    }
    here = _Here(head.tree.resources, frozenset(identity for file in suspects for identity in file.broken))
    unreadable: dict[str, tuple[Finding, ...]] = {}
    for file in head.files.values() if folders else suspects:
        above = _above(file.path, folders)
        own = (*errors(file.findings), *told.get(file.path, ()))
        if file.opaque or above:
            both = tuple(dict.fromkeys((*own, *above)))
            _unreadable(file, both, here, situation, blame, inherits=bool(above))
            if file.opaque and not is_defaults_file(file.path):
                unreadable[file.path] = both
        elif own:
            _mistaken(file, own, here, situation, blame)
    _lost(head, here, unreadable, situation, blame)
    told_of = {finding for findings in blame.held.values() for finding in findings}
    for file in suspects:
        mine = folders.get(file.path.rpartition("/")[0], ()) if is_defaults_file(file.path) else ()
        if mine and not told_of.intersection(mine):
            blame.hold(NOBODY, mine, [file.path])
    return blame


def _between_files(head: Assembled, blame: Blame) -> Mapping[str, list[Finding]]:
    """What the walk and the inheritance found wrong, by file. Without a line it is about the tree, and everybody's."""
    told: dict[str, list[Finding]] = {}
    for finding in errors(head.more):
        if finding.path in head.files and finding.line:
            told.setdefault(finding.path, []).append(finding)
        else:
            blame.common.append(finding)
    return told


def _above(path: str, folders: Mapping[str, tuple[Finding, ...]]) -> tuple[Finding, ...]:
    """The errors of the defaults that a file inherits."""
    if not folders:
        return ()
    folder, found = path.rpartition("/")[0], list[Finding]()
    while True:
        found.extend(folders.get(folder, ()))
        if not folder:
            return tuple(found)
        folder = folder.rpartition("/")[0]


def _unreadable(
    file: ManifestFile,
    found: tuple[Finding, ...],
    here: _Here,
    situation: Situation,
    blame: Blame,
    *,
    inherits: bool,
) -> None:
    """`inherits`: it may be readable in itself, but not what it inherits. Else an environment that it or another file
    declares is sound."""
    if file.overlays_astray:
        blame.common.extend(found)
    sound = here if file.opaque and not inherits else _NOTHING
    known = {*_declared(file), *file.overlaid, *situation.knew(file.path)}
    known = {each for each in known if each.kind != "environment" or each not in sound}
    if not blame.on({*known, *file.broken}, found, [file.path]) and not is_defaults_file(file.path):
        blame.hold(NOBODY, found, [file.path])


def _mistaken(file: ManifestFile, own: tuple[Finding, ...], here: _Here, situation: Situation, blame: Blame) -> None:
    """What lived from this file and is nowhere now has likely been renamed by the very change that went wrong."""
    if file.overlays_astray:
        blame.common.extend(own)
    gone = {each for each in situation.live.by_path.get(file.path, ()) if each not in here}
    if blame.on({*file.broken, *file.overlaid, *gone}, own) or is_defaults_file(file.path):
        return
    if not blame.on(_declared(file), own):
        blame.common.extend(own)


def _lost(
    head: Assembled,
    here: _Here,
    unreadable: Mapping[str, tuple[Finding, ...]],
    situation: Situation,
    blame: Blame,
) -> None:
    """Nothing is deleted, no overlay ends, and no unreadable file is forgotten, while a new or changed file that cannot
    be read may be what became of it."""
    changed = [file for path in unreadable if situation.changed(file := head.files[path])]
    if not changed:
        return
    overlaid = {identity for file in situation.base.values() for identity in file.overlaid}
    overlaid -= {identity for file in head.files.values() for identity in file.overlaid}
    unknown = {
        ResourceId.parse(app) for app, files in situation.carried.items() if app and not head.files.keys() >= set(files)
    }
    for identity in sorted({each for each in situation.live.tree.resources if each not in here} | overlaid | unknown):
        perhaps = [_perhaps(identity, file.path, unreadable[file.path][0]) for file in changed]
        blame.on([identity], perhaps, [file.path for file in changed])


def _perhaps(identity: ResourceId, path: str, first: Finding) -> Finding:
    message = f"{identity.short} is in no file that can be read; it may be in {path}: {first.message}"
    fix = "mend that file; what is really gone is removed then"
    return Finding(path, first.line, first.column, "", "perhaps_unreadable", message, fix)


def _declared(file: ManifestFile) -> tuple[ResourceId, ...]:
    return tuple(each.resource.id for each in file.declared)
