"""The words that name texts, the same for every verb that reads them."""

from __future__ import annotations

import sys
from argparse import Namespace
from typing import BinaryIO

from embedway.cli.arguments import Parser
from embedway.cli.corpus import Corpus, corpus
from embedway.cli.terminal import is_terminal


def add_inputs(parser: Parser) -> None:
    """Declare texts, files, and how they are read."""
    parser.add_argument(
        "words",
        nargs="*",
        metavar="TEXT|FILE",
        help="a text, or a .txt (a text a line), .csv, .jsonl or .parquet file; "
        "without any, and for -, standard input: a text a line",
    )
    parser.add_argument(
        "--files",
        action="append",
        default=[],
        metavar="GLOB",
        help="embed each matching file as one text, with its path as id; ** crosses folders",
    )
    parser.add_argument(
        "--column", metavar="NAME", help="the column of the texts (default: text, or the only one)"
    )
    parser.add_argument(
        "--whole", action="store_true", help="standard input is one text, not one a line"
    )


def open_corpus(arguments: Namespace) -> Corpus:
    """What the arguments name, to be closed after use. Raises Stop."""
    return corpus(
        arguments.words,
        arguments.files,
        column=arguments.column,
        is_whole=arguments.whole,
        stdin=_piped(),
    )


def _piped() -> BinaryIO | None:
    """Standard input, unless a person sits there or it is closed."""
    if sys.stdin is None or is_terminal(sys.stdin):
        return None
    return sys.stdin.buffer
