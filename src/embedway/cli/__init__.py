"""The command `embedway`: one file a verb, imported only when that verb is asked for.

A verb's module has `add_arguments(parser)` and `run(arguments) -> int`. What can go wrong for a
user ends as one line on standard error and an exit code; only a bug shows a traceback.
"""

from __future__ import annotations

import contextlib
import difflib
import os
import sys
from argparse import Namespace
from collections.abc import Sequence
from importlib import import_module
from typing import Protocol, cast

from embedway.cli.arguments import Parser, general_help
from embedway.cli.stop import FAILED, INTERRUPTED, OK, PIPE_CLOSED, WRONG_USAGE, Stop

VERBS = {
    "serve": "start the gateway; what 'embedway' alone does",
    "embed": "embed texts or files without a server",
    "models": "list the models",
    "providers": "list the accounts at providers, and try them",
    "usage": "what was asked, by whom, and what it cost",
    "cost": "what embedding a file would cost with each model",
    "keys": "create, list and revoke API keys",
    "cache": "show, export, fill and purge the cache",
    "config": "show or check the settings",
    "doctor": "check that everything works",
    "version": "print the version",
}


class Verb(Protocol):
    """What the module of a verb offers."""

    def add_arguments(self, parser: Parser) -> None:
        """Declare the verb's arguments."""

    def run(self, arguments: Namespace) -> int:
        """Do it; returns the exit code."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line in *argv* (default: the process's own). Returns the exit code."""
    _write_what_fits()
    try:
        code = _dispatch(list(sys.argv[1:] if argv is None else argv))
        sys.stdout.flush()
    except SystemExit as leaving:  # argparse, after --help or wrong usage
        return leaving.code if isinstance(leaving.code, int) else OK
    except KeyboardInterrupt:
        return INTERRUPTED
    except BrokenPipeError:
        _drop_output()
        return PIPE_CLOSED
    except Exception as error:
        if (explained := _explain(error)) is None:
            raise
        message, code = explained
        print(f"embedway: {message}", file=sys.stderr)
    return code


def _dispatch(words: list[str]) -> int:
    if words and words[0] in ("-h", "--help", "help"):
        print(general_help(VERBS), end="")
        return OK
    if words and words[0] in ("-V", "--version"):
        words[0] = "version"
    if not words or words[0].startswith("-"):
        words.insert(0, "serve")
    name, rest = words[0], words[1:]
    if name not in VERBS:
        close = difflib.get_close_matches(name, VERBS, 1)
        hint = f"did you mean '{close[0]}'?" if close else "see 'embedway --help'"
        raise Stop(f"there is no verb {name!r}; {hint}", WRONG_USAGE)
    verb = cast(Verb, import_module(f"embedway.cli.{name}"))
    parser = Parser(f"embedway {name}", VERBS[name])
    verb.add_arguments(parser)
    return verb.run(parser.read(rest))


def _explain(error: Exception) -> tuple[str, int] | None:
    """One line and the exit code for what a user can bring about; None for a bug."""
    if isinstance(error, Stop):
        return str(error), error.exit_code
    if isinstance(error, OSError) and error.strerror:
        where = f"{error.filename}: " if error.filename else ""
        return f"{where}{error.strerror}", FAILED
    # Imported only here, so that `embedway version` stays fast.
    from embedway.errors import EmbedError
    from embedway.store.database import StoreError
    from embedway.wrong_settings import SettingsError

    if isinstance(error, SettingsError):
        return str(error), WRONG_USAGE
    if isinstance(error, (EmbedError, StoreError, FileNotFoundError)):
        return str(error), FAILED
    return None


def _write_what_fits() -> None:
    """A terminal that cannot show a character gets a question mark instead of a traceback."""
    for stream in (sys.stdout, sys.stderr):
        if (reconfigure := getattr(stream, "reconfigure", None)) is not None:
            reconfigure(errors="replace")


def _drop_output() -> None:
    """Nobody reads any more: what Python would still flush at its end goes nowhere."""
    with contextlib.suppress(OSError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
