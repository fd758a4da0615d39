"""`python -m tests.planted [PROMISE...]`: plants each bug into a copy of the tree and expects its test to fail.

Exit code 1 when a bug was not caught. `--write` writes docs/PLANTED-BUGS.md from the list. The copy is what Git knows,
with the changes that are not committed; the working tree is never touched.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from tests.planted.bugs import BUGS, Bug
from tests.planted.page import PAGE, render

ROOT = Path(__file__).resolve().parents[2]
TEST_TIMEOUT_S = 240
RUN_TIMEOUT_S = 600
AT_ONCE = 2


def main(argv: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.planted", description=__doc__)
    parser.add_argument("promises", nargs="*", metavar="PROMISE", help="L1 to P6, ...; none: all")
    parser.add_argument("--write", action="store_true", help=f"write {PAGE}")
    arguments = parser.parse_args(argv)
    if arguments.write:
        (ROOT / PAGE).write_text(render(BUGS))
        return 0
    chosen = [bug for bug in BUGS if not arguments.promises or bug.promise in arguments.promises]
    with tempfile.TemporaryDirectory(prefix="trueup-planted-") as folder:
        with ThreadPoolExecutor(AT_ONCE) as pool:
            caught = list(pool.map(lambda bug: _try(bug, folder), chosen))
    print(f"{sum(caught)} of {len(caught)} planted bugs were caught")
    return 0 if all(caught) else 1


def plant(bug: Bug, tree: Path) -> None:
    path = tree / bug.path
    text = path.read_text()
    assert text.count(bug.old) == 1, f"{bug.path} holds {bug.old!r} {text.count(bug.old)} times"
    path.write_text(text.replace(bug.old, bug.new))


def _try(bug: Bug, folder: str) -> bool:
    """True: the named test failed, and nothing else went wrong."""
    tree = Path(tempfile.mkdtemp(dir=folder))
    started = time.monotonic()
    try:
        _copy(tree)
        plant(bug, tree)
        said = _run(bug, tree)
    finally:
        shutil.rmtree(tree, ignore_errors=True)
    summary = said.strip().splitlines()[-1] if said.strip() else ""
    caught = re.search(r"\b\d+ failed\b", summary) is not None
    mark = "caught" if caught else "NOT CAUGHT"
    print(f"{bug.promise:10} {mark:10} {time.monotonic() - started:5.0f} s  {bug.what} ({bug.path}): {summary}")
    if not caught:
        print(said[-3000:])
    sys.stdout.flush()
    return caught


def _copy(tree: Path) -> None:
    command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    listed = subprocess.run(command, cwd=ROOT, check=True, capture_output=True)
    for name in filter(None, listed.stdout.decode().split("\0")):
        if (ROOT / name).is_file():
            (tree / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, tree / name)


def _run(bug: Bug, tree: Path) -> str:
    """The copy's modules come first, for the test and for every program that it starts."""
    environ = {**os.environ, **bug.environ, "PYTHONPATH": str(tree), "PYTHONDONTWRITEBYTECODE": "1", "CI": ""}
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", f"--timeout={TEST_TIMEOUT_S}", bug.test]
    try:
        done = subprocess.run(
            command, cwd=tree, env=environ, capture_output=True, text=True, timeout=RUN_TIMEOUT_S, check=False
        )
    except subprocess.TimeoutExpired:
        return f"no end within {RUN_TIMEOUT_S} s"
    return done.stdout


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
