"""`python -m tests.bench NAME`: progress on standard error, one JSON object on the last line of standard output.

`python -m tests.bench --all [--output FILE]` runs every benchmark and writes docs/PERFORMANCE.md.
"""

from __future__ import annotations

import argparse
import asyncio
import importlib
import json
import os
import pkgutil
import platform
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import tests.bench
from tests.bench.report import render

ROOT = Path(__file__).resolve().parents[2]


def names() -> list[str]:
    hidden = {
        "__main__",
        "crowd_clients",
        "http2_watch",
        "log_filling",
        "monorepo",
        "report",
        "rival_etcd",
        "rival_eventsourcing",
    }
    hidden |= {"stream_process", "stream_readers", "streaming"}
    return sorted(module.name for module in pkgutil.iter_modules(tests.bench.__path__) if module.name not in hidden)


def main(argv: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.bench", description="Benchmarks: " + ", ".join(names()))
    parser.add_argument("name", nargs="?", choices=names())
    parser.add_argument("--all", action="store_true", help="run all and write the table")
    parser.add_argument("--output", type=Path, default=ROOT / "docs" / "PERFORMANCE.md")
    arguments = parser.parse_args(argv)
    if not arguments.all and not arguments.name:
        parser.error("give a benchmark's name, or --all")
    results = [measure(name) for name in (names() if arguments.all else [arguments.name])]
    if arguments.all:
        arguments.output.write_text(render(results, machine(), commit()))
    print(json.dumps(results if arguments.all else results[0]["figures"], sort_keys=True), flush=True)
    return 0


def measure(name: str) -> dict[str, Any]:
    module = importlib.import_module(f"tests.bench.{name}")
    started = time.monotonic()

    def progress(text: str) -> None:
        print(f"{name} {time.monotonic() - started:7.1f} s  {text}", file=sys.stderr, flush=True)

    progress(module.TITLE)
    figures = asyncio.run(module.run(progress))
    return {"name": name, "title": module.TITLE, "figures": figures}


def machine() -> str:
    memory_gib = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / (1 << 30)
    release = platform.freedesktop_os_release().get("PRETTY_NAME", "Linux")
    return f"{os.cpu_count()} cores, {memory_gib:.0f} GiB, {release}, Python {platform.python_version()}"


def commit() -> str:
    answer = subprocess.run(["git", "rev-parse", "--short=12", "HEAD"], cwd=ROOT, capture_output=True, text=True)
    return answer.stdout.strip() or "no commit"


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
