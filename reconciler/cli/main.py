"""`trueup`: finds the command, runs it, turns what goes wrong into one message and an exit code.

Each command is a module with `register(subparsers)`, which adds its parser and sets `run`, a function of the parsed
arguments that returns the exit code. Only the module of the command that is asked for is imported, so that
`trueup --help` is quick however heavy a command is. `trueup controller` is run by `reconciler.__main__`, since the
command line does not know the controller; here it is only listed.
"""

from __future__ import annotations

import argparse
import importlib
import os
import sys
from collections.abc import Sequence
from types import ModuleType
from typing import Any

from kit.errors import TrueupError
from reconciler.cli import exits
from reconciler.cli.output import add_output_option, clean, print_json

COMMANDS = {
    "controller": "run the controller: follow Git, keep the log, schedule, serve agents and edges",
    "status": "everything on one page: sources, apps, nodes, routes, projections",
    "source": "the repositories that are followed: list, look, remove",
    "why": "why a resource, instance, node or commit is as it is, back to the line and its author",
    "events": "read the log, or follow it: who did what, when, because of what",
    "state": "the state as it was at an event, a time or a commit",
    "diff": "what changed between two moments, and because of what",
    "lifecycles": "the states that things go through",
    "views": "list, rebuild and verify what is derived from the log",
    "log": "what each commit did; prove that the log is the one that was written; copy old events into an archive",
    "node": "let a node join; drain, disable, activate or revoke it",
    "edge": "let an edge join, or revoke one",
    "ca": "the keys that make the certificates of machines: status, rotation",
    "suspend": "keep a source, an environment or an app as it is",
    "resume": "let what is suspended follow Git again",
    "hold": "keep an app on an earlier release",
    "release-hold": "end a hold: the app becomes what Git says",
    "instance": "stop one instance; another one takes its place",
    "migrate": "bring the schema of the operator's own Postgres up to date",
    "plan": "what a commit would change",
    "validate": "check manifests without a controller",
    "fmt": "bring manifests into one layout",
    "schema": "print the JSON Schema of manifests, for editors",
    "secret": "seal the values of Secret manifests",
    "login": "prove who you are, once, to a controller: with a token or through an OIDC issuer",
    "logout": "forget a login, and take back what came with it",
    "whoami": "who you are to the controller, what you may, and until when",
    "token": "tokens of people and CI: create, list, revoke; of operators and webhooks",
    "version": "print the version",
}


def main(argv: Sequence[str] | None = None) -> int:
    arguments = list(sys.argv[1:] if argv is None else argv)
    parser = build_parser(arguments[0] if arguments else "")
    args = parser.parse_args(_spelled_out(arguments))
    if not hasattr(args, "run"):
        parser.print_help(sys.stderr)
        return exits.USAGE
    return _guarded(lambda: args.run(args), as_json=getattr(args, "output", "table") == "json")


def build_parser(chosen: str) -> argparse.ArgumentParser:
    """Knows all commands by name and `chosen` by its arguments."""
    parser = argparse.ArgumentParser(
        prog="trueup",
        description="Makes a fleet of microVMs match a Git repository.",
        epilog=exits.epilog(),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    subparsers = parser.add_subparsers(title="commands", metavar="COMMAND")
    for name, help_text in COMMANDS.items():
        if name == chosen != "controller":
            _module(name).register(subparsers)
            add_output_option(subparsers.choices[name])
        else:
            subparsers.add_parser(name, help=help_text)
    return parser


def _spelled_out(arguments: list[str]) -> list[str]:
    """A command may have an action that is meant when none is named; its module says which."""
    if not arguments or arguments[0] not in COMMANDS or arguments[0] == "controller":
        return arguments
    spelled_out = getattr(_module(arguments[0]), "spelled_out", list)
    return list(spelled_out(arguments))


def _module(command: str) -> ModuleType:
    return importlib.import_module(f"reconciler.cli.{command.replace('-', '_')}")


def _guarded(run: Any, *, as_json: bool) -> int:
    try:
        return int(run())
    except TrueupError as error:
        if as_json:
            print_json(exits.problem_document(error))
        print_error(error)
        return exits.exit_code(error)
    except BrokenPipeError:
        # The reader of our output left (`trueup events | head`). Python would complain once more at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return exits.OK
    except KeyboardInterrupt:
        return 130


def print_error(error: TrueupError) -> None:
    sys.stderr.write(f"error: {clean(error.attempted)}: {clean(error.why)}\n")
    if error.fix:
        sys.stderr.write(f"  to mend it: {clean(error.fix)}\n")


if __name__ == "__main__":
    sys.exit(main())
