"""`build_images(cache)`: the demo's three images as OCI layouts, from Debian's nginx and busybox packages.

Called by the acceptance tests and by `python -m tests.acceptance.images CACHE`. The packages come from apt, which
checks them; the result is kept under CACHE by a digest of this folder, so that the second call takes milliseconds.
`site-v1` and `site-v2` answer with their version; `notes` keeps what is PUT to /notes/NAME on the volume at /data.
"""

from __future__ import annotations

import functools
import hashlib
import io
import shutil
import subprocess
import tarfile
import tempfile
from pathlib import Path, PurePosixPath

from kit.errors import Transient
from tests.acceptance.images.oci import Node, layer_tar, write_layout

HERE = Path(__file__).parent
USER_ID = 1000
PACKAGES = ("nginx", "libc6", "libcrypt1", "libpcre2-8-0", "libssl3", "zlib1g", "busybox-static")
LIBRARIES = ("libc.so.6", "libcrypt.so.1", "libpcre2-8.so.0", "libssl.so.3", "libcrypto.so.3", "libz.so.1")
LOADER = "ld-linux-x86-64.so.2"
APPLETS = ("sh", "cat", "mkdir", "base64", "tr", "sed", "hostname", "sleep", "sync", "ls", "ps", "id", "mount", "wget")
DOWNLOAD_TIMEOUT_S = 300
IMAGES = {"site-v1": ("site", "v1"), "site-v2": ("site", "v2"), "notes": ("notes", "v1")}


def build_images(cache: Path) -> dict[str, Path]:
    """Image name to OCI layout (tag `latest`). Blocks; the first call needs apt's package source."""
    target = cache / f"images-{_inputs_digest()}"
    if not target.exists():
        cache.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".building-", dir=cache) as name:
            base = layer_tar(_base_nodes(_download(Path(name))))
            result = Path(name) / "result"
            for image, (role, version) in IMAGES.items():
                write_layout(result / image, [base, layer_tar(_top_nodes(version))], _config(role, version))
            _move(result, target)
    return {image: target / image for image in IMAGES}


def _inputs_digest() -> str:
    digest = hashlib.sha256()
    for path in sorted([*HERE.glob("*.py"), *HERE.glob("*.sh")]):
        digest.update(path.read_bytes())
    return digest.hexdigest()[:16]


def _move(result: Path, target: Path) -> None:
    """Whoever comes second has built the same."""
    try:
        result.rename(target)
    except OSError:
        if not target.exists():
            raise
        shutil.rmtree(result)


def _download(folder: Path) -> dict[str, tarfile.TarFile]:
    """Package name to its open archive of files."""
    command = ["apt-get", "-o", "APT::Sandbox::User=root", "-q", "download", *PACKAGES]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=DOWNLOAD_TIMEOUT_S)
    if done.returncode:
        raise Transient("download the images' packages", done.stderr.strip()[-500:], fix="run apt-get update")
    return {name: _files(next(folder.glob(f"{name}_*.deb"))) for name in PACKAGES}


def _files(package: Path) -> tarfile.TarFile:
    unpacked = subprocess.run(["dpkg-deb", "--fsys-tarfile", str(package)], capture_output=True, check=True).stdout
    return tarfile.open(fileobj=io.BytesIO(unpacked))


def _base_nodes(packages: dict[str, tarfile.TarFile]) -> dict[str, Node]:
    find = functools.partial(_find, packages)
    nodes = {
        "bin/nginx": Node(find("nginx")),
        "bin/busybox": Node(find("busybox")),
        f"lib64/{LOADER}": Node(find(LOADER)),
        "etc/passwd": Node(f"root:x:0:0::/root:/bin/sh\nweb:x:{USER_ID}:{USER_ID}::/tmp:/bin/sh\n".encode(), 0o644),
        "etc/group": Node(f"root:x:0:\nweb:x:{USER_ID}:\n".encode(), 0o644),
        "data": Node(uid=USER_ID),
    }
    nodes |= {f"lib/x86_64-linux-gnu/{name}": Node(find(name), 0o644) for name in LIBRARIES}
    return nodes | {f"bin/{applet}": Node(link="busybox") for applet in APPLETS}


def _find(packages: dict[str, tarfile.TarFile], name: str) -> bytes:
    """A program or library by its name, links followed inside its package."""
    for archive in packages.values():
        for member in archive.getmembers():
            path = PurePosixPath(member.name)
            if path.name != name or path.parent.name not in ("sbin", "bin", "x86_64-linux-gnu"):
                continue
            if member.issym():
                return _find(packages, PurePosixPath(member.linkname).name)
            handle = archive.extractfile(member)
            if handle:
                return handle.read()
    raise FileNotFoundError(f"{name} is in none of {', '.join(packages)}")


def _top_nodes(version: str) -> dict[str, Node]:
    return {
        "entrypoint": Node((HERE / "entrypoint.sh").read_bytes()),
        "etc/image-version": Node(version.encode() + b"\n", 0o644),
    }


def _config(role: str, version: str) -> dict[str, object]:
    return {
        "User": "web",
        "Env": ["PATH=/bin"],
        "Entrypoint": ["/bin/sh", "/entrypoint"],
        "Cmd": [role],
        "WorkingDir": "/",
        "StopSignal": "SIGQUIT",
        "ExposedPorts": {"8443/tcp": {}, "8080/tcp": {}},
        "Labels": {"org.opencontainers.image.title": role, "org.opencontainers.image.version": version},
    }
