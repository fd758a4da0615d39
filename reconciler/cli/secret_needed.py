"""Whether anything still needs an earlier key of the platform. Asked by `trueup secret drop-keys`.

Everything that the controller may have to deliver is looked for as it does itself (`reconciler.secret_delivery`), in
the clones of the state folder, with the newest key alone.
"""

from __future__ import annotations

import argparse
import asyncio
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from kit.errors import Refusal, Transient, TrueupError
from reconciler.cli.client import state_folder, view_rows
from reconciler.core.model import ResourceId
from reconciler.git.clone import kept_clones
from reconciler.secret_delivery import SecretDelivery, Standing
from reconciler.vault import Vault

SHOWN_MAX = 10


def refuse_if_needed(args: argparse.Namespace, key: Path) -> None:
    """`Refusal` with the secrets whose applied version the newest key does not open."""
    vault = Vault(key, newest_only=True)
    try:
        views = {name: view_rows(args, name) for name in ("resources", "instances", "sources")}
    except TrueupError as error:
        why = f"the controller was asked what still needs them: {error.why}"
        fix = "start it, or name it with --controller; or say with --vouch that nothing needs them"
        kind = Transient if error.retryable else Refusal
        raise kind(f"drop keys of {key}", why, fix=fix, code=error.code) from error
    wanted = _wanted(views)
    missing = asyncio.run(_missing(vault, state_folder(args), views, list(wanted.values())))
    if missing:
        names = sorted({ResourceId.parse(each["resource_id"]).short for each in missing})
        more = f" and {len(names) - SHOWN_MAX} more" if len(names) > SHOWN_MAX else ""
        why = f"{len(missing)} versions of secrets need an earlier one: {', '.join(names[:SHOWN_MAX])}{more}"
        fix = (
            "trueup secret rewrap in a checkout of each source, push, wait until it is applied; holds and rollouts end"
        )
        raise Refusal(f"drop keys of {key}", why, fix=fix, code="conflict")


def _wanted(views: Mapping[str, Mapping[str, Any]]) -> dict[tuple[str, str], Any]:
    """What is declared, and what instances were placed with: each version once."""
    secrets = [row for row in views["resources"].values() if row["kind"] == "secret"]
    declared = [{"resource_id": row["resource_id"], **row["spec"]} for row in secrets]
    used = [each for row in views["instances"].values() for each in row["secrets"]]
    return {(each["resource_id"], each["version_id"]): each for each in (*used, *declared)}


async def _missing(vault: Vault, state: Path, views: Mapping[str, Mapping[str, Any]], wanted: list[Any]) -> list[Any]:
    async def standing(secret: str) -> Standing | None:
        origin = (views["resources"].get(secret) or {}).get("origin") or {}
        commit = (views["sources"].get(origin.get("source_id", "")) or {}).get("applied_commit")
        return Standing(commit, origin["path"]) if commit and origin.get("path") else None

    delivery = SecretDelivery(vault, lambda: kept_clones(state, ()), standing=standing)
    try:
        return await delivery.missing(wanted)
    finally:
        delivery.close()
