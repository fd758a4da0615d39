"""Gives a restored log a new identity. Called by `trueup log new-id`, after a restore from an older backup.

Ids that readers have seen may be given again to other events then. With a new log_id every cursor from before is
refused (410), and its reader starts from the present state. The change is an event of the log, in the same transaction.
"""

from __future__ import annotations

import json
import secrets
from typing import TYPE_CHECKING

from reconciler.core.events import NewEvent
from reconciler.store.pool import translated
from reconciler.store.verify import ChainHead, read_head

if TYPE_CHECKING:
    from reconciler.store.pool import Connection

LOCK = "SELECT log_id, epoch FROM log_head FOR UPDATE"
RENAME = "UPDATE log_head SET log_id = $1, epoch = $2"
RECORD = """SELECT append_one($1, $1, '', 0, NULL, 0, 'log', 'log', 'log.restored', 1, 'user', $2, '', '', '', '', 0,
'', 0, $3::text)"""


def restored(log_id: str, previous_log_id: str, epoch: int, reason: str) -> NewEvent:
    payload = {"log_id": log_id, "previous_log_id": previous_log_id, "epoch": epoch, "reason": reason}
    return NewEvent("log", "log", "log.restored", payload)


async def give_new_id(connection: Connection, reason: str, actor: str) -> ChainHead:
    """`connection`: the owner's. Returns the head with the new id."""
    with translated("give the log a new id"):
        async with connection.transaction():
            row = await connection.fetchrow(LOCK)
            assert row is not None
            log_id, epoch = secrets.token_hex(16), row["epoch"] + 1
            await connection.execute(RENAME, log_id, epoch)
            payload = restored(log_id, row["log_id"], epoch, reason).payload
            text = json.dumps(payload, ensure_ascii=False)
            await connection.execute(RECORD, f"log.restored:{log_id}", actor, text)
    return await read_head(connection)
