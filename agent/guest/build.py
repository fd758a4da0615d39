"""`python -m agent.guest.build --output DIR [--package FILE.deb] [--refresh]`: the kernel and the initramfs of guests.

Called by people, by the agent's start (in a thread: it blocks) and by tests. It promises that DIR/vmlinuz and
DIR/initramfs.cpio.gz belong together and are whole: a build grows in a folder of its own under DIR/builds and the two
links move last. An unchanged build is reused; only --refresh asks apt for a newer kernel. qemu reads the result.
"""

from __future__ import annotations

import argparse
import fcntl
import hashlib
import shutil
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from agent.guest import cpio, modules
from agent.guest.kernel import program, run, unpack
from agent.ports import GuestFiles
from kit.errors import Transient, TrueupError
from kit.programs import exit_code

SOURCES = Path(__file__).parent
_COMPILE = ("-std=gnu11", "-Os", "-static", "-s", "-Wall", "-Wextra", "-Wl,--build-id=none", "-Wl,--gc-sections")
BUILDS_KEPT = 2  # the current one, and the one that a machine may be starting from


def build(output: Path, *, package: Path | None = None, refresh: bool = False) -> GuestFiles:
    """The files in `output`, built if need be. Blocks for up to minutes. The paths outlive the next newer build.

    Raises `Refusal` (tool_missing, guest_build_failed) or `Transient` (guest_build_failed: no network and the like).
    """
    output.mkdir(parents=True, exist_ok=True)
    inputs = _inputs_digest(package)
    with _one_at_a_time(output):
        finished = None if refresh else _finished(output, inputs)
        if finished is None:
            finished = _build(output, inputs, package)
        _point_to(output, finished)
    return GuestFiles(finished / "vmlinuz", finished / "initramfs.cpio.gz")


def _inputs_digest(package: Path | None) -> str:
    """Of everything that decides the outcome but apt's present list, which --refresh asks for."""
    digest = hashlib.sha256()
    for path in sorted([*SOURCES.glob("init/*"), *SOURCES.glob("*.py"), *([package] if package else [])]):
        digest.update(path.name.encode() + b"\0" + hashlib.sha256(path.read_bytes()).digest())
    return digest.hexdigest()[:16]


@contextmanager
def _one_at_a_time(output: Path) -> Iterator[None]:
    with (output / ".lock").open("w") as handle:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield


def _finished(output: Path, inputs: str) -> Path | None:
    """A build is moved to its name only when it is whole: the newest of these inputs will do."""
    candidates = sorted((output / "builds").glob(f"{inputs}-*"), key=lambda path: path.stat().st_mtime_ns)
    return candidates[-1] if candidates else None


def _build(output: Path, inputs: str, package: Path | None) -> Path:
    with tempfile.TemporaryDirectory(prefix=".building-", dir=output) as name:
        work = Path(name)
        work.chmod(0o755)
        kernel = unpack(work, package)
        init = _compile_init(work)
        result = work / "result"
        result.mkdir()
        shutil.copyfile(kernel.image, result / "vmlinuz")
        (result / "initramfs.cpio.gz").write_bytes(_initramfs(init, kernel.modules))
        (result / "KERNEL").write_text(kernel.version + "\n")
        target = output / "builds" / f"{inputs}-{_content_digest(result)}"
        if not target.exists():
            target.parent.mkdir(exist_ok=True)
            result.rename(target)
        target.touch()
        return target


def _compile_init(work: Path) -> bytes:
    sources = sorted(path.name for path in (SOURCES / "init").glob("*.c"))
    target = work / "init"
    try:
        run([program("gcc", "gcc"), *_COMPILE, "-o", str(target), *sources], cwd=SOURCES / "init")
    except Transient as error:
        raise Transient(
            "compile the guest's init", error.why, fix="apt-get install gcc libc6-dev", code="guest_build_failed"
        ) from error
    return target.read_bytes()


def _initramfs(init: bytes, module_folder: Path) -> bytes:
    order = modules.load_order(
        (module_folder / "modules.dep").read_text(), (module_folder / "modules.builtin").read_text()
    )
    names = [Path(path).name.split(".ko")[0] + ".ko" for path in order]
    folders = [cpio.folder(name) for name in ("dev", "proc", "sys", "lower", "layer", "newroot", "modules")]
    files = [
        cpio.file(f"modules/{name}", modules.read(module_folder / path))
        for name, path in zip(names, order, strict=True)
    ]
    listing = cpio.file("modules/order", "".join(f"{name}\n" for name in names).encode())
    return cpio.archive([*folders, cpio.console(), cpio.file("init", init, 0o755), *files, listing])


def _content_digest(folder: Path) -> str:
    digest = hashlib.sha256()
    for path in sorted(folder.iterdir()):
        digest.update(hashlib.sha256(path.read_bytes()).digest())
    return digest.hexdigest()[:16]


def _point_to(output: Path, finished: Path) -> None:
    for name in ("vmlinuz", "initramfs.cpio.gz"):
        link, target = output / name, finished.relative_to(output) / name
        if not (link.is_symlink() and link.readlink() == target):
            temporary = output / f".{name}.new"
            temporary.unlink(missing_ok=True)
            temporary.symlink_to(target)
            temporary.replace(link)
    builds = sorted((output / "builds").iterdir(), key=lambda path: path.stat().st_mtime_ns, reverse=True)
    for old in [path for path in builds if path != finished][BUILDS_KEPT - 1 :]:
        shutil.rmtree(old)


def main(argv: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m agent.guest.build", description="Makes a guest's boot files.")
    parser.add_argument("--output", type=Path, required=True, help="folder for vmlinuz and initramfs.cpio.gz")
    parser.add_argument("--package", type=Path, help="a linux-image-*-cloud-amd64 package; else apt fetches it")
    parser.add_argument("--refresh", action="store_true", help="ask apt for the newest kernel even if a build is there")
    options = parser.parse_args(argv)
    try:
        files = build(options.output.resolve(), package=options.package, refresh=options.refresh)
    except TrueupError as error:
        sys.stderr.write(f"error: {error}\n")
        return exit_code(error)
    sys.stdout.write(f"{files.kernel}\n{files.initramfs}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
