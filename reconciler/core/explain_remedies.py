"""What a person does about each reason. Pure; a part of `reconciler.core.explain`.

The keys are REASON_CODES of `kit.wire` and the reasons for which a process cannot be placed (docs/DATA.md).
"""

from __future__ import annotations

from collections.abc import Mapping

_QUOTA = "ask for less or remove something there; `trueup status` shows what is used. Else have the quota raised: "
_RAISED_IN = {"env": "its Environment manifest", "project": "--project-quota", "org": "--org-quota of the controller"}

REMEDY_OF_REASON: Mapping[str, str] = {
    **{
        f"{level}_quota_exceeded:{dimension}": f"{_QUOTA}{place}"
        for level, place in _RAISED_IN.items()
        for dimension in ("instances", "memory_bytes")
    },
    "image_pull_failed": "is the registry reachable from the node, and does the image exist there? It is tried again",
    "image_not_found": "the registry does not have this digest: push the image, or correct the manifest",
    "image_digest_mismatch": "what the registry sent is not what the manifest names: correct the digest",
    "registry_unreachable": "look at the registry and the node's way to it; it is tried again",
    "image_too_large": "make the image smaller",
    "rootfs_build_failed": "look at the agent's log and the node's free disk space",
    "vmm_start_failed": "look at the agent's log on that node: the virtual machine did not start",
    "network_setup_failed": "look at the agent's log on that node: tap device or address",
    "volume_attach_failed": "look at the volume with `trueup why volume/NAME`",
    "secrets_missing": "declare the secret that the process names, in the same environment",
    "secrets_injection_failed": "look at the agent's log: the secret file did not reach the guest",
    "healthcheck_failed": "the process runs but does not answer its health check: port, path, or the process itself",
    "start_timeout": "it did not become healthy in time: is it slow (startTimeout), or does it not listen?",
    "oom_killed": "give the process more memory in the manifest, or make it need less",
    "process_exited": "read the console log of the instance on its node: the process ended by itself",
    "vm_died": "look at the agent's log: the virtual machine ended without being asked",
    "crash_loop_backoff": "it ends again and again; read its console log, then mend it in a commit or revert the last",
    "node_offline": "look at the machine, its network and the agent's log",
    "no_nodes_active": "start an agent, or bring a node back: `trueup status` lists them",
    "no_capacity_memory": "add a node, lower memory or replicas, or remove something",
    "volume_locality_no_node": "the node that holds the volume takes no more: make room, or `trueup node activate`",
    "volume_in_use": "another instance still holds the volume; it is freed when that one has stopped",
    "volume_home_node_offline": "bring back the node that holds the volume's data; the data is nowhere else",
    "volume_missing": "declare the volume that the process names, for the same app and environment",
    "address_exhausted": "the subnets of the nodes are used up: add a node",
}
