"""A real docker-registry for the demo and the image tests, with its storage in a folder of the caller's.

`Registry(folder, host, port)`, `start()`, `push(layout, name) -> reference by digest`, `stop()`. Plain HTTP: the agent
must be told so (`insecure_registries`). With port 0 it takes a free one.
"""

from __future__ import annotations

import http.client
import json
import socket
import subprocess
import time
import urllib.error
import urllib.request
from pathlib import Path

START_TIMEOUT_S = 15.0
STOP_TIMEOUT_S = 5.0
PUSH_TIMEOUT_S = 120.0
MANIFEST_TYPE = "application/vnd.oci.image.manifest.v1+json"


class RegistryError(Exception):
    """The registry did not start, or did not take an image. The text has its own words."""


class Registry:
    def __init__(self, folder: Path, host: str = "127.0.0.1", port: int = 0) -> None:
        self.folder = folder
        self.host = host
        self.port = port
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def address(self) -> str:
        """HOST:PORT, as references to its images begin."""
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    def start(self) -> None:
        """Returns when it answers. A registry that was stopped starts again with what it held."""
        self.folder.mkdir(parents=True, exist_ok=True)
        self.port = self.port or _free_port(self.host)
        config = self.folder / "config.yml"
        config.write_text(json.dumps(self._config()))  # JSON is YAML
        with (self.folder / "registry.log").open("ab") as log:
            self._process = subprocess.Popen(
                ["docker-registry", "serve", str(config)],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,  # Ctrl-C is for the caller, who stops it
            )
        deadline = time.monotonic() + START_TIMEOUT_S
        while not self._answers():
            if self._process.poll() is not None or time.monotonic() > deadline:
                self.stop()
                raise RegistryError(f"docker-registry on {self.address}: {self._last_words()}")
            time.sleep(0.05)

    def push(self, layout: Path, name: str) -> str:
        """Uploads the image tagged `latest` of an OCI layout. Returns HOST:PORT/NAME@sha256:DIGEST."""
        digest_file = self.folder / f"pushed-{name.replace('/', '-')}"
        command = ["skopeo", "copy", "--quiet", "--dest-tls-verify=false", "--digestfile", str(digest_file)]
        done = subprocess.run(
            [*command, f"oci:{layout}:latest", f"docker://{self.address}/{name}:latest"],
            capture_output=True,
            text=True,
            timeout=PUSH_TIMEOUT_S,
        )
        if done.returncode:
            raise RegistryError(f"push {layout} to {self.address}/{name}: {done.stderr.strip()}")
        return f"{self.address}/{name}@{digest_file.read_text().strip()}"

    def altered(self, reference: str, tag: str) -> str:
        """Stores the image's manifest once more, as another one, and then alters its bytes behind the registry's back:
        the reference that is returned names a digest that what is served does not have."""
        repository, _, digest = reference.removeprefix(f"{self.address}/").partition("@")
        manifest = json.loads(self._request("GET", f"{repository}/manifests/{digest}", b"").read())
        body = json.dumps({**manifest, "annotations": {"tag": tag}}).encode()
        stored = self._request("PUT", f"{repository}/manifests/{tag}", body).headers["Docker-Content-Digest"]
        hexadecimal = stored.removeprefix("sha256:")
        blobs = self.folder / "storage/docker/registry/v2/blobs/sha256"
        (blobs / hexadecimal[:2] / hexadecimal / "data").write_bytes(body.replace(b'"annotations"', b'"annotationz"'))
        return f"{self.address}/{repository}@{stored}"

    def _request(self, method: str, path: str, body: bytes) -> http.client.HTTPResponse:
        request = urllib.request.Request(f"http://{self.address}/v2/{path}", data=body or None, method=method)
        request.add_header("Accept", MANIFEST_TYPE)
        request.add_header("Content-Type", MANIFEST_TYPE)
        answer: http.client.HTTPResponse = urllib.request.urlopen(request, timeout=STOP_TIMEOUT_S)
        return answer

    def stop(self) -> None:
        """Its storage stays. Safe when it does not run."""
        process, self._process = self._process, None
        if process is None:
            return
        process.terminate()
        try:
            process.wait(STOP_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()

    def _config(self) -> dict[str, object]:
        return {
            "version": "0.1",
            "log": {"level": "warn", "accesslog": {"disabled": True}},
            "storage": {"filesystem": {"rootdirectory": str(self.folder / "storage")}, "delete": {"enabled": True}},
            "http": {"addr": self.address},
        }

    def _answers(self) -> bool:
        try:
            with urllib.request.urlopen(f"http://{self.address}/v2/", timeout=2) as answer:
                return bool(answer.status == 200)
        except (urllib.error.URLError, OSError):
            return False

    def _last_words(self) -> str:
        return (self.folder / "registry.log").read_text(errors="replace")[-500:].strip() or "it said nothing"


def _free_port(host: str) -> int:
    with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as probe:
        probe.bind((host, 0))
        return int(probe.getsockname()[1])
