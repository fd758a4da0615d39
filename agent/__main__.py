"""trueup-agent: runs a node. `trueup-agent stop-all --state DIR` (or drain, or --stop-all) stops all its machines."""

from __future__ import annotations

import asyncio
import os
import sys

from agent import bootstrap
from agent import stop_all as stopping
from agent.settings import Settings
from kit import logs, programs, settings
from kit.errors import TrueupError

STOP_ALL = ("stop-all", "drain", "--stop-all")


def main() -> None:
    sys.exit(run(sys.argv[1:]))


def run(argv: list[str]) -> int:
    stop_all = any(word in STOP_ALL for word in argv)
    rest = [word for word in argv if word not in STOP_ALL]
    try:
        chosen = settings.load(Settings, argv=rest, environ=os.environ, prog="trueup-agent")
    except TrueupError as error:
        sys.stderr.write(f"error: {error}\n")
        return programs.exit_code(error)
    logs.setup(level=chosen.log_level, form=chosen.log_format)  # type: ignore[arg-type]  # checked by Settings

    async def stop_everything(_: asyncio.Event) -> None:
        await stopping.stop_all(chosen)

    async def run_agent(stop: asyncio.Event) -> None:
        await bootstrap.run(chosen, stop)

    return programs.run(stop_everything if stop_all else run_agent)


if __name__ == "__main__":
    main()
