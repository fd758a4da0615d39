"""Opens the store of a controller for a command that works on it directly. Called by `reconciler.cli`.

A rebuild, a verification and an archive read the whole log; they run in the process of the command, on the controller's
database, and cost the controller nothing but the database's time. They need no controller, so they also work when it
does not start.
"""

from __future__ import annotations

from contextlib import AbstractAsyncContextManager
from pathlib import Path

from kit.errors import Refusal
from reconciler.store.settings import StoreSettings
from reconciler.store.store import Store, opened_store


def store_of(state: Path, database_url: str) -> AbstractAsyncContextManager[Store]:
    """`database_url` empty: the embedded Postgres in `state`, which has to be there."""
    if not database_url and not (state / "postgres").is_dir():
        raise Refusal(
            f"open the store in {state}",
            "there is no database in it",
            fix="name the controller's state folder with --state, or its database with --database-url",
            code="not_found",
        )
    return opened_store(StoreSettings(state_dir=state, database_url=database_url))
