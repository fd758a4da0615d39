"""Manifests for the commands that work without a controller: a folder on disk, and findings as text.

Used by `validate` and `plan`. A folder is read under the same rules as a Git tree (names, bounds, no links), by the
same code from the bytes of a file on.
"""

from __future__ import annotations

import hashlib
import stat
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from kit.errors import Refusal, TrueupError
from kit.plain_text import clean, counted
from reconciler.cli.output import print_json
from reconciler.core.cross_checks import Assembled, assemble
from reconciler.core.declared import Scope
from reconciler.core.findings import Finding, errors
from reconciler.core.language.documents import ParsedFile, parse_file
from reconciler.core.manifest import read_files
from reconciler.core.yaml_reader import FILE_BYTES_MAX, file_too_large
from reconciler.git.objects import ObjectStore
from reconciler.git.tree_entries import is_manifest
from reconciler.git.tree_walk import DEPTH_MAX, ENTRIES_MAX
from reconciler.vault import resolve_offline


def read_folder(folder: Path, scope: Scope) -> Assembled:
    """Everything that the manifests below `folder` declare, and all findings, with paths relative to it."""
    if not folder.is_dir():
        why = "it is not a folder"
        raise Refusal(f"read the manifests in {folder}", why, fix="name a folder with manifests", code="usage")
    findings: list[Finding] = []
    parsed = [_read(folder, path) for path in manifests(folder, findings)]
    files, between = read_files(parsed, scope, resolve_offline)
    return assemble(files, [*findings, *between])


def manifests(folder: Path, findings: list[Finding]) -> Iterator[Path]:
    """The manifest files below a folder, and what is wrong with names and links."""
    return _manifests(folder, folder, 0, [0], findings)


def manifest_files(paths: Iterable[Path], findings: list[Finding]) -> list[Path]:
    """The files that are named, and the manifests below the folders that are."""
    found = []
    for path in paths:
        if path.is_dir():
            found += list(manifests(path, findings))
        elif path.is_file() and not path.is_symlink():
            found.append(path)
        else:
            raise Refusal(f"read {path}", "it is no file and no folder", fix="name manifests", code="usage")
    return found


def open_clone(repository: Path, attempted: str) -> ObjectStore:
    """A local clone, to be read by object id."""
    try:
        return ObjectStore(repository)
    except TrueupError as error:
        raise _not_usable(error, attempted) from error


def commit_named(objects: ObjectStore, name: str, attempted: str) -> str:
    """The id of what a person names: a branch, HEAD~1, an abbreviation. `Refusal` ("usage") when there is none."""
    try:
        return objects.resolve(name)
    except TrueupError as error:
        why = f"{name} names no commit here"
        fix = "name a branch, a tag or a commit that is in the local clone (--repo); fetch it, if it is new"
        raise Refusal(attempted, why, fix=fix, code="usage") from error


def _not_usable(error: TrueupError, attempted: str) -> Refusal:
    fix = "name a local clone with --repo, and commits that are in it"
    return Refusal(attempted, f"{error.attempted}: {error.why}", fix=fix, code="usage")


def findings_text(findings: Iterable[Finding]) -> str:
    """A finding on one line, its fix on the next."""
    lines = []
    for finding in findings:
        lines.append(f"{finding.place}: {finding.severity}: {finding.message} [{finding.code}]")
        if finding.fix:
            lines.append(f"    {finding.fix}")
    return "\n".join(lines)


def summary_text(findings: Iterable[Finding]) -> str:
    findings = list(findings)
    bad = len(errors(findings))
    return f"{counted(bad, 'error')}, {counted(len(findings) - bad, 'warning')}"


def show(document: Any, text: str, output: str) -> None:
    """Prints the document as JSON, or its text. Names and subjects are other people's: none can move the cursor."""
    if output == "json":
        print_json(document)
    else:
        sys.stdout.write("".join(f"{clean(line)}\n" for line in text.split("\n")))
        sys.stdout.flush()


def _manifests(root: Path, folder: Path, depth: int, seen: list[int], findings: list[Finding]) -> Iterator[Path]:
    def note(path: Path, code: str, message: str, fix: str) -> None:
        findings.append(Finding(str(path.relative_to(root)), 0, 0, "", code, message, fix))

    if depth > DEPTH_MAX:
        note(folder, "too_deep", f"folders are nested more than {DEPTH_MAX} deep", "move the manifests up")
        return
    for path in sorted(folder.iterdir()):
        seen[0] += 1
        if seen[0] > ENTRIES_MAX:
            if seen[0] == ENTRIES_MAX + 1:
                note(
                    path,
                    "too_many_entries",
                    f"more than {ENTRIES_MAX} files and folders",
                    "name the folder of the manifests",
                )
            return
        mode = path.lstat().st_mode
        if path.name.startswith("."):
            continue
        if stat.S_ISDIR(mode):
            yield from _manifests(root, path, depth + 1, seen, findings)
        elif is_manifest(path.name):
            if stat.S_ISREG(mode):
                yield path
            else:
                note(path, "symbolic_link", "not a regular file; links are never followed", "put the file itself there")


def _read(root: Path, path: Path) -> ParsedFile:
    name = str(path.relative_to(root))
    if (size := path.stat().st_size) > FILE_BYTES_MAX:
        return ParsedFile(name, "", 0, findings=(file_too_large(name, size),), opaque=True)
    content = path.read_bytes()
    return parse_file(content, name, _blob_id(content))


def _blob_id(content: bytes) -> str:
    """The object id that Git would give the content. SHA-1 because Git says so; nothing rests on it."""
    return hashlib.sha1(b"blob %d\0" % len(content) + content, usedforsecurity=False).hexdigest()
