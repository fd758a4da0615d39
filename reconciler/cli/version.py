"""`trueup version`."""

from __future__ import annotations

import argparse
import importlib.metadata
import platform
import sys
from typing import Any

from reconciler.cli.output import print_json


def register(subparsers: Any) -> None:
    parser = subparsers.add_parser("version", help="print the version")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    versions = {"trueup": installed_version(), "python": platform.python_version()}
    if args.output == "json":
        print_json(versions)
    else:
        sys.stdout.write(f"trueup {versions['trueup']} (Python {versions['python']})\n")
    return 0


def installed_version() -> str:
    try:
        return importlib.metadata.version("trueup")
    except importlib.metadata.PackageNotFoundError:
        return "unknown (not installed)"
