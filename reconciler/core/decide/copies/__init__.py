"""Snapshots, backups and restores: `asking` and `telling`. No driver carries them out yet, so no command asks yet."""

from reconciler.core.decide.copies.asking import Restoring, ask_backup, ask_restore, ask_snapshot, in_progress
from reconciler.core.decide.copies.telling import Progress, decide_progress, prune_backup

__all__ = [
    "Progress",
    "Restoring",
    "ask_backup",
    "ask_restore",
    "ask_snapshot",
    "decide_progress",
    "in_progress",
    "prune_backup",
]
