"""Everything that the demo runs on: hosts, registry, controller, two agents, an edge. Started here, stopped here.

As root each host is a network namespace with bridge networking; otherwise all share loopback, with other ports where
the usual ones are taken, and the guests use qemu's user network. Nothing is simulated in either case.
"""

from __future__ import annotations

import contextlib
import json
import secrets
import shutil
import socket
from dataclasses import dataclass, field
from pathlib import Path

from tests.acceptance.authority import Authority, as_value
from tests.acceptance.client import Client
from tests.acceptance.fleet import TRUEUP, Fleet
from tests.acceptance.hosts import CENTRE, CENTRE_V4, Host, Hosts
from tests.acceptance.images import build_images
from tests.acceptance.machines import machine_pids, mounts_in, processes_in
from tests.acceptance.programs import Program, call
from tests.acceptance.registry import Registry
from tests.acceptance.repository import Repository

ROOT = Path(__file__).resolve().parents[2]
CACHE = ROOT / ".cache"
BIN = Path(TRUEUP).parent
WAY_IN = ROOT / ".state" / "in"
CONTROLLER_PORT = 7340
REGISTRY_PORT = 5000
NODE_MEMORY = "4Gi"
SITE = "site.example.test"
NOTES = "notes.example.test"


BAD_IMAGE_REASONS = {
    "absent": "image_not_found",
    "altered": "image_digest_mismatch",
    "unreachable": "registry_unreachable",
}


@dataclass
class World:
    """`hosts` is None without root."""

    folder: Path
    hosts: Hosts | None
    programs: dict[str, Program] = field(default_factory=dict)
    images: dict[str, str] = field(default_factory=dict)
    later_manifests: dict[str, str] = field(default_factory=dict)
    edge_address: str = ""
    canary: str = field(default_factory=lambda: secrets.token_hex(24))
    """A value of a secret, which must be on no disk."""

    def __post_init__(self) -> None:
        self.centre = CENTRE if self.hosts else "::1"
        self.registry_host = CENTRE_V4 if self.hosts else "127.0.0.1"
        self.https_port = 443 if self.hosts else free_port("::", 8443)
        self.controller_port = CONTROLLER_PORT if self.hosts else free_port(self.centre, CONTROLLER_PORT)
        self.state = self.folder / "controller"
        self.machines_port = self.controller_port + 1 if self.hosts else free_port(self.centre, CONTROLLER_PORT + 1)
        self.controller_url = f"http://[{self.centre}]:{self.controller_port}"
        self.machines_url = f"https://[{self.centre}]:{self.machines_port}"
        self.authority = Authority.create()
        self.repository = Repository.create(self.folder)
        registry_port = REGISTRY_PORT if self.hosts else free_port(self.registry_host, REGISTRY_PORT)
        self.registry = Registry(self.folder / "registry", self.registry_host, registry_port)

    # --- start ---

    def start_registry(self) -> None:
        self.registry.start()
        layouts = build_images(CACHE / "images")
        self.images = {name: self.registry.push(layout, name.split("-")[0]) for name, layout in layouts.items()}

    async def start_controller(self) -> None:
        await self._start(
            "controller",
            [TRUEUP, "controller", "--repository", str(self.repository.origin), "--state", str(self.state)]
            + [
                "--listen",
                f"[{self.centre}]:{self.controller_port}",
                "--machines-listen",
                f"[{self.centre}]:{self.machines_port}",
                "--machine-tokens",
                "false",
                "--poll-interval-s",
                "1s",
                "--log-format",
                "json",
            ],
        )

    async def start_agent(self, name: str, number: int) -> None:
        host = self._host(name, number, guests=True)
        await self._start(
            name,
            [*host.enter(), str(BIN / "trueup-agent"), "--node-id", name, "--controller", self.machines_url]
            + ["--join-token", await self._join_token("node", name), "--state", str(self.folder / name)]
            + ["--subnet", host.subnet, "--memory", NODE_MEMORY, "--guest", str(CACHE / "guest")]
            + ["--network", "bridge" if self.hosts else "user", "--log-format", "json"]
            + ["--insecure-registries", self.registry.address],
        )

    async def start_edge(self, name: str, number: int) -> None:
        host = self._host(name, number, guests=False)
        self.edge_address = host.address
        token = await self._join_token("edge", name)
        await self._start(
            name,
            [*host.enter(), str(BIN / "trueup-edge"), "--edge-id", name, "--controller", self.machines_url]
            + ["--join-token", token, "--state", str(self.folder / name), "--listen-address", "::"],
        )

    # --- the parts, for the scenario ---

    def fleet(self) -> Fleet:
        return Fleet(self.controller_url, (self.state / "operator.token").read_text().strip(), self.state)

    def client(self) -> Client:
        return Client(self.edge_address, self.authority.write(self.folder / "authority.pem"), self.https_port)

    async def seal(self, app: str, name: str, values: dict[str, str]) -> str:
        """A Secret manifest, made with the command that a developer uses."""
        lines = "".join(f"{key}={value}\n" for key, value in values.items())
        command = [TRUEUP, "secret", "seal", "--env", "prod", "--app", app, "--name", name, "--state", str(self.state)]
        return await call(command, stdin=lines.encode())

    def tls_values(self, hostname: str) -> dict[str, str]:
        certificate, key = self.authority.issue(hostname)
        return {"TLS_CERT": as_value(certificate), "TLS_KEY": as_value(key)}

    def machine_pid(self, node: str, instance_id: str) -> int:
        """As the agent wrote it down, and checked against the host."""
        records = [json.loads(path.read_bytes()) for path in (self.folder / node / "vm").glob("*.json")]
        pid = next(record["pid"] for record in records if record["instance_id"] == instance_id)
        assert pid in self.machine_pids(node), f"process {pid} of {instance_id} is no machine of {node}"
        return int(pid)

    def machine_pids(self, node: str) -> list[int]:
        return machine_pids(f"{self.folder / node}/")

    def bad_images(self) -> dict[str, str]:
        """Images that cannot be had, by the name of an app for each (BAD_IMAGE_REASONS)."""
        registry, zeros = self.registry.address, "0" * 64
        return {
            "absent": f"{registry}/site@sha256:{zeros}",
            "altered": self.registry.altered(self.images["notes"], "altered"),
            "unreachable": f"{self.registry_host}:9/site@sha256:{zeros}",
        }

    def volumes_on_disk(self) -> list[Path]:
        return sorted(self.folder.glob("node-*/volumes/*/data.ext4"))

    def left_behind(self) -> tuple[bool, str]:
        """Whether nothing is left, and what is."""
        namespaces = [name for name in self._namespaces() if Path(f"/run/netns/{name}").exists()]
        left = processes_in(self.folder) + mounts_in(self.folder) + namespaces
        left += [str(self.folder)] if self.folder.exists() else []
        return not left, "; ".join(left) or "no process, mount, namespace or folder"

    def how_to_play(self) -> str:
        """For `make up`: writes a script that enters this world, and says what to try with it."""
        WAY_IN.parent.mkdir(exist_ok=True)
        enter = " ".join(self.hosts.centre().enter()) if self.hosts else ""
        WAY_IN.write_text(
            f"#!/bin/sh\n# into {self.folder}\n"
            f"export PATH={BIN}:$PATH TRUEUP_STATE={self.state} TRUEUP_CONTROLLER={self.controller_url}\n"
            f"export CURL_HOME={self.folder}\n"
            f'[ $# -gt 0 ] || set -- "${{SHELL:-sh}}"\nexec {enter} "$@"\n'
        )
        WAY_IN.chmod(0o755)
        way_in = WAY_IN.relative_to(ROOT)
        names = "".join(f'resolve = "{name}:{self.https_port}:[{self.edge_address}]"\n' for name in (SITE, NOTES))
        (self.folder / ".curlrc").write_text(f'{names}cacert = "{self.folder}/authority.pem"\n')
        port = "" if self.https_port == 443 else f":{self.https_port}"
        return "\n".join(
            (
                f"It is up. In another terminal{', as root' if self.hosts else ''}, in {ROOT}:",
                f"  {way_in} trueup status",
                f"  {way_in} trueup why app/site",
                f"  {way_in} trueup events --follow",
                f"  {way_in} curl https://{SITE}{port}/",
                "Change something: edit a manifest, commit, push, and look at the status again:",
                f"  cd {self.repository.work}",
                "  sed -i 's/replicas: 2/replicas: 3/' apps/site/app.yaml",
                "  git commit -qam 'Three replicas' && git push -q origin main",
                f"Logs: {self.folder}/*.log. Ctrl-C here stops everything and removes that folder.",
            )
        )

    # --- stop ---

    async def close(self) -> None:
        """Stops what was started, the guests included, in the reverse order. Safe after half a start."""
        for name, program in reversed(self.programs.items()):
            await program.stop()
            if name.startswith("node-"):
                await call(
                    [*self._enter(name), str(BIN / "trueup-agent"), "--stop-all", "--state", str(self.folder / name)]
                )
            if name.startswith("edge-"):
                await call(
                    [*self._enter(name), str(BIN / "trueup-edge"), "--stop-all", "--state", str(self.folder / name)]
                )
        self.registry.stop()
        if self.hosts:
            self.hosts.close()
        if WAY_IN.exists() and str(self.folder) in WAY_IN.read_text():
            WAY_IN.unlink()
        shutil.rmtree(self.folder, ignore_errors=True)

    async def _start(self, name: str, command: list[str]) -> None:
        program = Program(name, command, self.folder / f"{name}.log")
        self.programs[name] = program
        await program.start()

    def _host(self, name: str, number: int, *, guests: bool) -> Host:
        if self.hosts:
            return self.hosts.add(name, number, guests=guests)
        return Host(name, "", "::1", f"fd00:7475:{number:x}::/64" if guests else "")

    def _namespaces(self) -> list[str]:
        return self.hosts.made if self.hosts else []

    def _enter(self, name: str) -> list[str]:
        return ["nsenter", f"--net=/run/netns/{self.hosts.prefix}-{name}"] if self.hosts else []

    async def _join_token(self, kind: str, name: str) -> str:
        enter = self.hosts.centre().enter() if self.hosts else []
        told = await call([*enter, TRUEUP, kind, "token", name, "--state", str(self.state), "--output", "json"])
        return str(json.loads(told)["token"])


def free_port(address: str, usual: int) -> int:
    """The usual port, or another one where that is taken."""
    for port in (usual, 0):
        with (
            socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET) as probe,
            contextlib.suppress(OSError),
        ):
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # a connection that is ending is no obstacle
            probe.bind((address, port))
            return int(probe.getsockname()[1])
    raise OSError(f"no port can be bound on {address}")
