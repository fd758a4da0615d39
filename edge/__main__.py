"""trueup-edge: the command line of the edge. `--stop-all` ends haproxy, everything else runs the edge."""

from __future__ import annotations

import os
import sys

from edge.bootstrap import run_edge, stop_all
from edge.settings import EdgeSettings, StopSettings
from kit import logs, programs, settings
from kit.errors import TrueupError


def main(argv: list[str] | None = None) -> int:
    arguments = list(sys.argv[1:] if argv is None else argv)
    try:
        if "--stop-all" in arguments:
            arguments.remove("--stop-all")
            wanted = settings.load(StopSettings, argv=arguments, environ=os.environ, prog="trueup-edge --stop-all")
            logs.setup()
            return programs.run(lambda _: stop_all(wanted))
        given = settings.load(EdgeSettings, argv=arguments, environ=os.environ, prog="trueup-edge")
    except TrueupError as error:
        sys.stderr.write(f"error: {error}\n")
        return programs.exit_code(error)
    logs.setup(level=given.log_level, form=given.log_format)
    return programs.run(lambda stop: run_edge(given, stop))


if __name__ == "__main__":
    sys.exit(main())
