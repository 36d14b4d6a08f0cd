"""The parser that all verbs share, their common options, and the help."""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from embedway.cli.stop import EXIT_CODES, WRONG_USAGE

if TYPE_CHECKING:
    from embedway.origins import Origins

_EXIT_CODES = "exit codes:\n" + "".join(
    f"  {code:<5}{meaning}\n" for code, meaning in EXIT_CODES.items()
)


class Parser(argparse.ArgumentParser):
    """argparse with one-line errors and the exit codes under every help."""

    def __init__(self, prog: str, description: str = "", **options: Any) -> None:
        super().__init__(
            prog=prog,
            description=description[:1].upper() + description[1:],
            epilog=_EXIT_CODES,
            formatter_class=argparse.RawDescriptionHelpFormatter,
            allow_abbrev=False,  # "--dim" would change its meaning when an option is added
            **options,
        )
        self._has_subcommands = False

    def add_subcommands(self) -> argparse._SubParsersAction[Parser]:
        """Verbs of the verb, such as `keys create`; the chosen one is `arguments.action`."""
        self._has_subcommands = True
        return self.add_subparsers(
            dest="action", metavar="ACTION", required=True, parser_class=Parser
        )

    def read(self, words: Sequence[str]) -> argparse.Namespace:
        """Parse *words*; options may stand before, between and after the others."""
        if self._has_subcommands:  # argparse cannot mix these
            return self.parse_args(words)
        return self.parse_intermixed_args(words)

    def error(self, message: str) -> NoReturn:
        """One line, and exit."""
        self.exit(WRONG_USAGE, f"embedway: {message}; see '{self.prog} --help'\n")


def add_common(parser: argparse.ArgumentParser, json_help: str) -> None:
    """`--config` and `--json`, which every verb has."""
    parser.add_argument(
        "--config",
        type=Path,
        metavar="FILE",
        help="the settings file, in place of ./embedway.toml and the others",
    )
    parser.add_argument("--json", action="store_true", help=json_help)


def load(arguments: argparse.Namespace, overrides: Mapping[str, str] | None = None) -> Origins:
    """The settings that the command line asks for. Raises SettingsError."""
    from embedway.origins import load_settings  # late, so that --help is fast

    return load_settings(config=arguments.config, overrides=overrides)


def general_help(verbs: Mapping[str, str]) -> str:
    """What `embedway --help` prints."""
    table = "".join(f"  {verb:<11}{help}\n" for verb, help in verbs.items())
    return (
        "usage: embedway [VERB] [OPTIONS]\n\n"
        "An OpenAI-compatible gateway for embeddings, with a model in the same process.\n\n"
        f"verbs:\n{table}\n"
        "'embedway VERB --help' tells more. Without a verb it starts the gateway.\n\n"
        f"{_EXIT_CODES}"
    )
