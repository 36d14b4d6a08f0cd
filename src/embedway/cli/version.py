"""`embedway version`."""

from __future__ import annotations

import json
import platform
from argparse import Namespace

from embedway import __version__
from embedway.cli.arguments import Parser
from embedway.cli.stop import OK


def add_arguments(parser: Parser) -> None:
    """Declare `--json`; there is nothing to configure."""
    parser.add_argument("--json", action="store_true", help="print one JSON object")


def run(arguments: Namespace) -> int:
    """Print the version."""
    if arguments.json:
        print(json.dumps({"version": __version__, "python": platform.python_version()}))
    else:
        print(f"embedway {__version__}")
    return OK
