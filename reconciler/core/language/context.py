"""Who inherits from whom in one tree: the chain of defaults of each folder, the overlay of each resource.

`reconciler.git.tree_files` and `trueup validate` make a `Context` per tree, from the outlines of all its files. Two
files with equal `inputs` resolve to the same resources, so that a commit costs what it changes: a file is resolved anew
when its own content, a defaults file above it or an overlay of one of its resources changed. `Memory` carries over from
commit to commit what was computed from unchanged files.
"""

from __future__ import annotations

import copy
import dataclasses
from collections import Counter
from collections.abc import Container, Iterable, Iterator, Mapping
from dataclasses import dataclass, field

from reconciler.core.findings import Finding, nearest
from reconciler.core.language.defaults import ALL, Chain, DefaultsFile
from reconciler.core.language.merge import get
from reconciler.core.language.outline import Outline
from reconciler.core.language.overlays import Overlay, read_overlay
from reconciler.core.language.targets import Target
from reconciler.core.language.variables import Use
from reconciler.core.schema import finding_at, pointer_join
from reconciler.core.yaml_reader import Table

Inputs = tuple[object, ...]
_ChainKey = tuple[tuple[str, str], ...]
_KNOWN_MAX = 200_000


@dataclass(slots=True)
class Memory:
    """What follows from unchanged files. Forgets everything when it grows beyond any real repository."""

    chains: dict[_ChainKey, Chain] = field(default_factory=dict)
    overlays: dict[tuple[str, str, _ChainKey], tuple[list[Overlay], list[Finding]]] = field(default_factory=dict)
    targets: dict[tuple[str, str, _ChainKey], tuple[Target, ...]] = field(default_factory=dict)

    def chain(self, files: tuple[DefaultsFile, ...]) -> Chain:
        key = tuple((file.path, file.blob) for file in files)
        if key not in self.chains:
            self.chains[key] = Chain(files, key)
        return self.chains[key]

    def trim(self) -> None:
        for known in (self.chains, self.overlays, self.targets):
            if len(known) > _KNOWN_MAX:
                known.clear()


class Context:
    """One tree. Everything is computed when it is asked for, once."""

    def __init__(self, outlines: Mapping[str, Outline], memory: Memory) -> None:
        memory.trim()
        self._outlines = outlines
        self._memory = memory
        self._defaults = {
            path.rpartition("/")[0]: each.defaults for path, each in outlines.items() if each.defaults is not None
        }
        self._opaque = any(each.opaque for each in outlines.values())
        self._environments = {name for each in outlines.values() for name in each.environments}
        self._chains: dict[str, Chain] = {}
        self._chains_by_key: dict[_ChainKey, Chain] = {}
        self._twice: list[Finding] = []
        self._overlays = self._index()
        self._declared = self._count(outlines.values() if self._overlays else ())

    def onto(self, gone: Iterable[Outline], new: Iterable[Outline]) -> Context:
        """Of a tree that differs in these, all of them plain (`Outline.is_plain`): everybody inherits what they did
        here."""
        other = copy.copy(self)
        if self._overlays:
            other._declared = self._declared + self._count(new) - self._count(gone)
        return other

    def chain(self, path: str) -> Chain:
        """Of the folder that the file lies in."""
        return self._chain_of(path.rpartition("/")[0])

    def overlay(self, target: Target) -> Overlay | None:
        return self._overlays.get(target)

    def overlay_findings(self, of: Outline) -> list[Finding]:
        """What is wrong with the overlays of a file in themselves."""
        return self._read(of)[1]

    def overlaid(self, of: Outline) -> tuple[tuple[Target, ...], bool]:
        """What the overlays of a file lie over, and whether one of them does not say."""
        overlays = self._read(of)[0]
        lines = {overlay.document_line for overlay in overlays}
        astray = any(document.node.mark.line not in lines for document in of.overlays)
        return tuple(overlay.target for overlay in overlays), astray

    def targets(self, of: Outline) -> tuple[Target, ...]:
        chain = self.chain(of.path)
        key = (of.path, of.blob, chain.key)
        if key not in self._memory.targets:
            self._memory.targets[key] = of.targets(chain)
        return self._memory.targets[key]

    def inputs(self, of: Outline) -> Inputs:
        """Everything that decides what the file resolves to."""
        key: Inputs = (of.blob, self.chain(of.path).key)
        if not self._overlays:
            return key
        return (*key, *(found.key for target in self.targets(of) if (found := self._overlays.get(target))))

    def resources(self) -> int:
        """How many there will be."""
        return sum(self.resources_of(each) for each in self._outlines.values())

    def resources_of(self, of: Outline) -> int:
        return len(self.targets(of)) + of.others

    def findings(self, used: Container[Use]) -> Iterator[Finding]:
        """What is wrong between files. `used`: the variables that any file used."""
        yield from self._twice
        for chain in self._chains_by_key.values():
            yield from chain.findings()
        if not self._opaque:
            yield from self._without_target()
            yield from self._unknown_environments()
        yield from self._unused(used)

    def _chain_of(self, folder: str) -> Chain:
        known = self._chains.get(folder)
        if known is None:
            above = self._chain_of(folder.rpartition("/")[0]) if folder else self._memory.chain(())
            own = self._defaults.get(folder)
            known = above if own is None else self._memory.chain((*above.files, own))
            self._chains[folder] = self._chains_by_key[known.key] = known
        return known

    def _read(self, of: Outline) -> tuple[list[Overlay], list[Finding]]:
        if not of.overlays:
            return [], []
        chain = self.chain(of.path)
        key = (of.path, of.blob, chain.key)
        if key not in self._memory.overlays:
            overlays: list[Overlay] = []
            findings: list[Finding] = []
            for document in of.overlays:
                found, wrong = read_overlay(document, of.path, of.blob, chain)
                overlays += found
                findings += wrong
            self._memory.overlays[key] = (overlays, findings)
        return self._memory.overlays[key]

    def _index(self) -> dict[Target, Overlay]:
        found: dict[Target, Overlay] = {}
        for _, each in sorted(self._outlines.items()):
            for overlay in self._read(each)[0]:
                first = found.setdefault(overlay.target, overlay)
                if first is not overlay:
                    message = f"{overlay.target.short} has an overlay at {first.path}:{first.mark.line} already"
                    fix = "put the two together"
                    self._twice.append(finding_at(overlay.mark, overlay.path, "/target", "overlay_twice", message, fix))
        return found

    def _count(self, outlines: Iterable[Outline]) -> Counter[Target]:
        """How many declare each resource that an overlay may be for."""
        return Counter(target for each in outlines for target in self.targets(each))

    def _without_target(self) -> Iterator[Finding]:
        for target, overlay in self._overlays.items():
            if target not in self._declared:
                names = [each.short for each in self._declared if each.kind == target.kind]
                near = nearest(target.short, names)
                fix = f"did you mean {near}?" if near else "name a resource that a manifest declares, or remove it"
                message = f"there is no {target.short} to lay this over"
                yield finding_at(overlay.mark, overlay.path, "/target", "overlay_without_target", message, fix)

    def _unknown_environments(self) -> Iterator[Finding]:
        known = self._environments
        for file in self._defaults.values():
            for env, mark in file.environments.items():
                if env not in known:
                    near = nearest(env, known)
                    fix = f"did you mean '{near}'?" if near else "declare it: kind Environment"
                    message = f"there is no environment '{env}'"
                    pointer = pointer_join("/spec/environments", env)
                    yield finding_at(mark, file.path, pointer, "environment_unknown", message, fix)

    def _unused(self, used: Container[Use]) -> Iterator[Finding]:
        for file in self._defaults.values():
            for env, section in file.sections.items() if not file.findings else ():
                variables = get(section, "variables")
                for entry in variables.entries if isinstance(variables, Table) else ():
                    mark = entry.value.mark
                    if (file.path, mark.line, mark.column) not in used:
                        where = f" for {env}" if env != ALL else ""
                        message = f"nothing uses the variable '{entry.key}'{where} that is set here"
                        found = finding_at(entry.key_mark, file.path, "", "variable_unused", message, "remove it")
                        yield dataclasses.replace(found, severity="warning")
