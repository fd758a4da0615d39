"""How long the first reading of a large repository takes, and how much memory, in the reading process and beside it."""

from __future__ import annotations

import asyncio
import resource
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pygit2

from reconciler.core.revisions import Source
from reconciler.git.bounded.process import ReadingProcess
from reconciler.git.bounded.source import BoundedSource
from reconciler.vault import resolve_offline

TITLE = "cold: the first reading of a repository with 10,000 apps"
APPS = 10_000
_ENVIRONMENT = "apiVersion: trueup/v1\nkind: Environment\nmetadata: {name: prod}\n"
_DEFAULTS = """apiVersion: trueup/v1
kind: Defaults
metadata: {env: prod}
spec:
  variables: {registry: registry.example.com}
  process:
    memory: 128Mi
    ports: {https: 8443}
    health: {tcp: {port: https}, interval: 2s}
"""
_APP = """apiVersion: trueup/v1
kind: App
metadata: {name: NAME}
spec:
  processes:
    web:
      image: ${registry}/site@sha256:DIGEST
      replicas: 2
      env: {ENVIRONMENT: "${env}", LEVEL: info}
      update: {surge: 1, drainGrace: 3s}
""".replace("DIGEST", "ab" * 32)


async def run(progress: Callable[[str], None]) -> dict[str, Any]:
    with tempfile.TemporaryDirectory(prefix="trueup-") as folder:
        commit = await asyncio.to_thread(_make, Path(folder))
        progress(f"made a repository of {APPS} apps")
        return await asyncio.to_thread(_read, Path(folder), commit)


def _read(folder: Path, commit: str) -> dict[str, Any]:
    reading = ReadingProcess()
    bounded = BoundedSource(folder, Source("main", "o", "p", str(folder)), resolve_offline, reading)
    before_mib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    started = time.monotonic()
    found = bounded.reader.read(commit)
    seconds = time.monotonic() - started
    assert len(found.tree.resources) == APPS + 1, found.findings
    child = Path(f"/proc/{reading.pid}/status").read_text()
    child_mib = int(child.partition("VmHWM:")[2].split()[0]) / 1024
    bounded.close()
    own_mib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024 - before_mib
    return {
        "apps": APPS,
        "seconds": round(seconds, 1),
        "peak_rss_mib": round(child_mib),
        "controller_growth_mib": round(own_mib),
    }


def _make(folder: Path) -> str:
    repository = pygit2.init_repository(str(folder), bare=True)

    def blob(text: str) -> pygit2.Oid:
        return repository.create_blob(text.encode())

    def tree(entries: dict[str, tuple[pygit2.Oid, int]]) -> pygit2.Oid:
        builder = repository.TreeBuilder()
        for name, (oid, mode) in entries.items():
            builder.insert(name, oid, mode)
        return builder.write()

    file, below = 0o100644, 0o040000
    names = [f"a{number:05d}" for number in range(APPS)]
    apps = {name: (tree({"app.yaml": (blob(_APP.replace("NAME", name)), file)}), below) for name in names}
    root = {
        "apps": (tree(apps), below),
        "env.yaml": (blob(_ENVIRONMENT), file),
        "defaults.yaml": (blob(_DEFAULTS), file),
    }
    who = pygit2.Signature("Dev", "dev@example.com", 1, 0)
    return str(repository.create_commit("refs/heads/main", who, who, "Begin", tree(root), []))
