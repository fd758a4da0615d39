"""`unpacked(cache)`: glewlwyd and its libraries out of Debian's packages, beside the system: nothing is installed.

Its own package would start a service and ask about a database. Called by the tests and, so that they need no network,
by `python -m tests.oidc.package CACHE` in deploy/setup.sh. apt checks what it downloads; the result is kept.
"""

from __future__ import annotations

import hashlib
import subprocess
import sys
import tempfile
from pathlib import Path

from kit.errors import Transient

CACHE = Path(__file__).resolve().parents[2] / ".cache"
LIBRARIES = Path("usr", "lib", "x86_64-linux-gnu")
PACKAGES = (
    *("glewlwyd", "glewlwyd-common", "libconfig9", "libhoel1.4", "libiddawc1.1", "libmariadb3", "libmicrohttpd12"),
    *("liboath0", "liborcania2.3", "libpq5", "librhonabwy1.1", "libulfius2.7", "libyder2.0"),
)
DOWNLOAD_TIMEOUT_S = 300


def unpacked(cache: Path = CACHE) -> Path:
    """A folder with usr/ in it. Blocks; the first call needs apt's package source."""
    target = cache / f"oidc-{hashlib.sha256(Path(__file__).read_bytes()).hexdigest()[:16]}"
    if not target.exists():
        cache.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".unpacking-", dir=cache) as name:
            _unpack(Path(name))
            try:
                (Path(name) / "tree").rename(target)
            except OSError:
                if not target.exists():  # whoever comes second has unpacked the same
                    raise
    return target


def _unpack(folder: Path) -> None:
    command = ["apt-get", "-o", "APT::Sandbox::User=root", "-q", "download", *PACKAGES]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=DOWNLOAD_TIMEOUT_S)
    if done.returncode:
        raise Transient("download the tests' OIDC provider", done.stderr.strip()[-500:], fix="run apt-get update")
    for package in folder.glob("*.deb"):
        subprocess.run(["dpkg-deb", "-x", package, folder / "tree"], check=True, capture_output=True)


if __name__ == "__main__":
    sys.stdout.write(f"{unpacked(Path(sys.argv[1]))}\n")
