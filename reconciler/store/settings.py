"""How the store is reached. Filled in by `reconciler.bootstrap` from the command line, and by the tests."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from reconciler.store.limits import CONNECTIONS_MAX


@dataclass(frozen=True, slots=True)
class StoreSettings:
    """Either the embedded server in `state_dir`/postgres (`database_url` empty), or any Postgres >= 15.

    `database_url`: a role that owns the schema; it runs the migrations. `app_url`: a log-in role that is a member of
    trueup_app and nothing more; empty: the `database_url` with SET ROLE trueup_app, which guards against our own
    mistakes but not against somebody who has that URL. The embedded server always has separate roles.
    """

    state_dir: Path
    database_url: str = field(default="", repr=False)
    app_url: str = field(default="", repr=False)
    connections_max: int = CONNECTIONS_MAX
