"""Debian's cloud kernel, out of its package, without installing it. Called by `build`.

The package is fetched by `apt-get download`, which refuses what no trusted Release file vouches for; its SHA-256 is
then compared with the one in apt's own list, so that a package given as a file is as trustworthy as a fetched one.
"""

from __future__ import annotations

import hashlib
import re
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

from kit.errors import Refusal, Transient

META_PACKAGE = "linux-image-cloud-amd64"
_PACKAGE = re.compile(r"linux-image-\d[\w.+~-]*-cloud-amd64")
DOWNLOAD_TIMEOUT_S = 300
STEP_TIMEOUT_S = 120
_SYSTEM_FOLDERS = "/usr/local/sbin:/usr/sbin:/sbin:/usr/local/bin:/usr/bin:/bin"  # depmod is in sbin, off users' PATH


@dataclass(frozen=True, slots=True)
class Kernel:
    """`modules` is the folder with modules.dep. All of it lies in the temporary folder of the build."""

    version: str
    image: Path
    modules: Path


def program(name: str, package: str) -> str:
    """The path of a program that the build needs."""
    found = shutil.which(name, path=_SYSTEM_FOLDERS)
    if not found:
        raise Refusal(
            "build the guest", f"the program {name} is missing", fix=f"apt-get install {package}", code="tool_missing"
        )
    return found


def run(command: list[str], *, cwd: Path | None = None, timeout_s: float = STEP_TIMEOUT_S) -> str:
    """Its standard output; a `Transient` with the end of its messages if it fails."""
    try:
        done = subprocess.run(command, cwd=cwd, capture_output=True, text=True, timeout=timeout_s, check=False)
    except subprocess.TimeoutExpired as error:
        raise Transient(f"run {command[0]}", f"no end within {timeout_s} s", code="guest_build_failed") from error
    if done.returncode:
        tail = (done.stderr.strip() or done.stdout.strip())[-800:]
        raise Transient(f"run {' '.join(command[:4])}", tail, code="guest_build_failed")
    return done.stdout


def unpack(folder: Path, given: Path | None) -> Kernel:
    """The kernel of the package `given`, or of the one that apt has for linux-image-cloud-amd64."""
    package = _checked(given.resolve()) if given else _download(folder)
    tree = folder / "kernel"
    run([program("dpkg", "dpkg"), "-x", str(package), str(tree)])
    image = next(iter(sorted((tree / "boot").glob("vmlinuz-*"))), None)
    if image is None:
        raise Refusal(f"unpack {package.name}", "it has no boot/vmlinuz-*", code="guest_build_failed")
    version = image.name.removeprefix("vmlinuz-")
    base = tree if (tree / "lib/modules").is_dir() else tree / "usr"
    run([program("depmod", "kmod"), "-b", str(base), version])
    return Kernel(version, image, base / "lib/modules" / version)


def _download(folder: Path) -> Path:
    name = _package_name()
    try:
        run(
            # apt's own unprivileged user cannot write into a private folder; the content is checked all the same.
            [program("apt-get", "apt"), "-o", "APT::Sandbox::User=root", "-q", "download", name],
            cwd=folder,
            timeout_s=DOWNLOAD_TIMEOUT_S,
        )
    except Transient as error:
        raise Transient(
            f"download the package {name}",
            error.why,
            fix="connect to the network, or run apt-get update if the package list is old, "
            "or fetch the package elsewhere and pass it with --package",
            code="guest_build_failed",
        ) from error
    found = sorted(folder.glob(f"{name}_*.deb"))
    if not found:
        raise Transient(f"download the package {name}", "apt-get left no file", code="guest_build_failed")
    return _checked(found[0])


def _package_name() -> str:
    """The kernel that Debian's meta package depends on now."""
    listed = run([program("apt-cache", "apt"), "show", "--no-all-versions", META_PACKAGE]) if _is_listed() else ""
    depends = re.search(r"^Depends: (.*)$", listed, re.MULTILINE)
    name = _PACKAGE.search(depends[1]) if depends else None
    if not name:
        raise Transient(
            f"look up the package {META_PACKAGE}",
            "apt does not know it",
            fix="run apt-get update as root, or pass a kernel package with --package",
            code="guest_build_failed",
        )
    return name[0]


def _is_listed() -> bool:
    return META_PACKAGE in run([program("apt-cache", "apt"), "pkgnames", META_PACKAGE]).split()


def _checked(package: Path) -> Path:
    """Its name is a cloud kernel's, and its bytes are those that apt's signed list names."""
    fields = ["Package", "Version"]
    name, version = (run([program("dpkg-deb", "dpkg"), "-f", str(package), field]).strip() for field in fields)
    if not _PACKAGE.fullmatch(name):
        raise Refusal(f"use {package}", f"{name} is not a cloud kernel package", code="guest_build_failed")
    listed = run([program("apt-cache", "apt"), "show", f"{name}={version}"])
    digest = hashlib.sha256(package.read_bytes()).hexdigest()
    if f"SHA256: {digest}" not in listed.splitlines():
        raise Refusal(
            f"use {package}",
            f"its SHA-256 {digest} is not the one that apt's list has for {name} {version}",
            fix="run apt-get update, and fetch the package again with apt-get download",
            code="guest_build_failed",
        )
    return package
