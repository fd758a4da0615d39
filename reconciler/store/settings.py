"""How the store is reached. Filled in by `reconciler.bootstrap` from the command line, and by the tests."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from reconciler.store.limits import CONNECTIONS_MAX


@dataclass(frozen=True, slots=True)
class StoreSettings:
    """Either the embedded server in `state_dir`/postgres (`database_url` empty), or any Postgres >= 15.

    `database_url`: a log-in that may become trueup_owner (a member of trueup_migrate) runs the migrations, and works
    as trueup_app by SET ROLE: that guards against our own mistakes, not against somebody who has the URL. One that may
    only be trueup_app works on a schema that somebody else migrates (`trueup migrate`). `app_url`: a log-in of the
    application's own beside the one that migrates. The embedded server always has separate ones.
    """

    state_dir: Path
    database_url: str = field(default="", repr=False)
    app_url: str = field(default="", repr=False)
    connections_max: int = CONNECTIONS_MAX
