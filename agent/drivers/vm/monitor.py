"""QEMU's own view of a machine, through QMP. Called by `attached.py` when a machine is adopted."""

from __future__ import annotations

import asyncio
import logging
from pathlib import Path

from qemu.qmp import QMPClient, QMPError

ANSWER_TIMEOUT_S = 5.0
logging.getLogger("qemu.qmp").setLevel(logging.CRITICAL)  # that a socket is not there yet is no error of ours


async def status(monitor: Path) -> str:
    """ "running", "paused", "internal-error", ...; "" if QEMU does not answer."""
    client = QMPClient("trueup-agent")
    try:
        async with asyncio.timeout(ANSWER_TIMEOUT_S):
            await client.connect(str(monitor))
            answer = await client.execute("query-status")
    except (QMPError, OSError, TimeoutError):
        return ""
    finally:
        await _disconnect(client)
    return str(answer["status"]) if isinstance(answer, dict) else ""


async def _disconnect(client: QMPClient) -> None:
    try:
        async with asyncio.timeout(ANSWER_TIMEOUT_S):
            await client.disconnect()
    except (QMPError, OSError, TimeoutError, EOFError):
        return
