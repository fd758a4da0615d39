"""The command `trueup`. Joins the command line with the controller, which the command line itself does not know."""

from __future__ import annotations

import os
import sys

from kit import logs, programs
from kit.errors import TrueupError
from kit.settings import load


def main() -> int:
    """Imports only what the command needs: `trueup --help` has to be quick."""
    if sys.argv[1:2] == ["controller"]:
        return run_controller(sys.argv[2:])
    from reconciler.cli.main import main as run_command

    return run_command(sys.argv[1:])


def run_controller(argv: list[str]) -> int:
    from reconciler import bootstrap
    from reconciler.settings import ControllerSettings

    try:
        settings = load(ControllerSettings, argv=argv, environ=os.environ, prog="trueup controller")
    except TrueupError as error:
        sys.stderr.write(f"error: {error}\n")
        return programs.exit_code(error)
    logs.setup(level=settings.log_level, form=settings.log_format)
    return programs.run(lambda stop: bootstrap.run(settings, stop))


if __name__ == "__main__":
    sys.exit(main())
