"""`embedway embed`: texts and files to vectors, with the gateway in this process."""

from __future__ import annotations

import sys
from argparse import ArgumentTypeError, Namespace
from contextlib import closing
from pathlib import Path

from embedway.catalog_file import load_catalog
from embedway.cli.arguments import Parser, add_common, load
from embedway.cli.corpus import Corpus
from embedway.cli.inputs import add_inputs, open_corpus
from embedway.cli.job import LOCAL_REQUESTS, REMOTE_REQUESTS, Job
from embedway.cli.journal import Journal, open_journal
from embedway.cli.output import Output
from embedway.cli.plan import Plan, make_plan, read_again
from embedway.cli.shown import Printer, Tally
from embedway.cli.stop import OK, WRONG_USAGE, Stop
from embedway.cli.terminal import Progress, is_terminal
from embedway.errors import EmbedError
from embedway.gateway import LOCAL_MODEL

_BATCH_INPUTS = 256


def add_arguments(parser: Parser) -> None:
    """Declare what to embed, how, and where to put it."""
    parser.epilog = (
        "examples:\n"
        '  embedway embed "Sunny day at the beach"\n'
        "  embedway embed docs.jsonl -o docs.parquet\n"
        "  embedway embed --files 'notes/**/*.md' -o notes.npy\n\n"
        "A run with -o that was interrupted goes on where it was when the same command is given\n"
        "again; texts that OUT already has are not embedded again.\n\n"
        f"{parser.epilog}"
    )
    add_inputs(parser)
    _add_params(parser)
    parser.add_argument(
        "-o", "--output", type=Path, metavar="OUT", help="a .jsonl, .npy or .parquet file"
    )
    parser.add_argument(
        "--restart", action="store_true", help="embed everything again and replace OUT"
    )
    parser.add_argument(
        "--format",
        choices=("text", "json"),
        help="without -o: a line about each vector, or a JSON array of all its numbers "
        "(default: text on a terminal, json elsewhere)",
    )
    add_common(parser, "with -o: print a JSON object about the run; without: --format json")


def _add_params(parser: Parser) -> None:
    parser.add_argument(
        "-m",
        "--model",
        default=LOCAL_MODEL,
        help=f"a model or alias; see 'embedway models' (default: {LOCAL_MODEL})",
    )
    parser.add_argument(
        "-d", "--dimensions", type=_positive, metavar="N", help="shorter vectors of N numbers"
    )
    parser.add_argument(
        "--input-type", metavar="TYPE", help="query or document, for models that tell them apart"
    )
    parser.add_argument(
        "--batch-inputs",
        type=_positive,
        metavar="N",
        default=_BATCH_INPUTS,
        help=f"the most texts in one request (default: {_BATCH_INPUTS}); it is split further "
        "where the provider takes less",
    )
    parser.add_argument(
        "--concurrency",
        type=_positive,
        metavar="N",
        help=f"requests in flight (default: {REMOTE_REQUESTS}; {LOCAL_REQUESTS} for the local "
        "model)",
    )


def run(arguments: Namespace) -> int:
    """Embed; returns the exit code."""
    settings, catalog = load(arguments).settings, load_catalog()
    with closing(open_corpus(arguments)) as texts:
        job = Job(arguments, settings, catalog)
        write = _print if arguments.output is None else _write
        return write(arguments, job, texts)


def _print(arguments: Namespace, job: Job, texts: Corpus) -> int:
    """To standard output, in order, as the vectors come."""
    if arguments.restart:
        raise Stop("--restart is about the file of -o, which is missing", WRONG_USAGE)
    is_person = is_terminal(sys.stdout) and not arguments.json
    form = arguments.format or ("text" if is_person else "json")
    journal = open_journal(job.header, None)
    printer = Printer(form, journal)
    try:
        job.fill(texts.rows(), journal, printer.tell)
    finally:
        journal.close()
    if texts.blank:
        print(f"embedway: {texts.blank} blank lines or files skipped", file=sys.stderr)
    if not printer.rows:
        raise Stop("nothing to embed: the input is empty", WRONG_USAGE)
    return OK


def _write(arguments: Namespace, job: Job, texts: Corpus) -> int:
    """To the file of -o."""
    if arguments.format:
        raise Stop(
            "--format is for the terminal; the end of OUT's name says its format", WRONG_USAGE
        )
    started = job.clock.monotonic()
    output = Output(arguments.output, job.header, texts.files)
    plan = make_plan(texts)
    tally = Tally(plan, job.header, output.path)
    if (journal := output.open(plan, is_restart=arguments.restart)) is not None:
        try:
            _complete(job, texts, plan, journal, tally, is_restart=arguments.restart)
            output.finish(texts, plan, journal)
        finally:
            journal.close()
    tally.print(job.clock.monotonic() - started, is_json=arguments.json)
    return OK


def _complete(
    job: Job, texts: Corpus, plan: Plan, journal: Journal, tally: Tally, *, is_restart: bool
) -> None:
    """Embed what is missing, with a progress bar."""
    missing = sum(name not in journal for name in plan.unique)
    tally.skipped = len(plan.unique) - missing
    if not missing:
        return
    progress = Progress(missing, job.clock.monotonic)
    rows = (row for row, _ in read_again(texts, plan))
    try:
        job.fill(rows, journal, lambda filled: progress.advance(tally.add(filled)))
    except (KeyboardInterrupt, EmbedError, Stop):
        progress.close()
        if len(journal):
            command = "the same command" + (" without --restart" if is_restart else "")
            print(
                f"embedway: vectors kept in {journal.path}: {len(journal):,}; "
                f"run {command} again to go on",
                file=sys.stderr,
            )
        raise
    finally:
        progress.close()


def _positive(text: str) -> int:
    if not text.isascii() or not text.isdigit() or not 0 < int(text) < 10**6:
        raise ArgumentTypeError(f"{text!r} is no whole number above 0")
    return int(text)
