"""`embedway cache`: what is kept for later, and to export, fill and purge it.

It works on the store itself, beside a gateway that runs, and without one.
"""

from __future__ import annotations

import asyncio
import json
from argparse import ArgumentTypeError, Namespace
from collections.abc import Callable
from pathlib import Path
from typing import Any

from embedway.cached import Group, Selection
from embedway.cli.arguments import Parser, add_common, load
from embedway.cli.cache_export import FORMATS, export
from embedway.cli.cache_store import add_selection, open_store, selection, why_none
from embedway.cli.cache_warm import warm
from embedway.cli.keys_values import project_name
from embedway.cli.stop import OK, WRONG_USAGE, Stop
from embedway.cli.terminal import table
from embedway.settings import Settings
from embedway.store.keys import DEFAULT_PROJECT

_HEAD = ("MODEL", "SPACE", "PROJECT", "VECTORS", "SIZE")


def add_arguments(parser: Parser) -> None:
    """Declare `stats`, `export`, `warm` and `purge`."""
    actions = parser.add_subcommands()
    stats = actions.add_parser("stats", help="where vectors are kept, how many, and for whom")
    add_common(stats, "print one JSON object")
    exporting = actions.add_parser("export", help="write kept vectors to a file")
    exporting.add_argument("file", metavar="FILE", type=Path, help="the file to be made")
    add_selection(exporting)
    exporting.add_argument(
        "--format", choices=tuple(FORMATS), help="default: as the end of FILE's name says"
    )
    add_common(exporting, "print a JSON object about the file")
    _add_warm(actions.add_parser("warm", help="keep what is in a file, so that it is a hit later"))
    purge = actions.add_parser("purge", help="forget vectors, in running gateways too")
    add_selection(purge)
    purge.add_argument("--all", action="store_true", help="forget everything")
    add_common(purge, "print a JSON object")


def _add_warm(parser: Parser) -> None:
    parser.add_argument(
        "file",
        metavar="FILE",
        type=Path,
        help="an export, or a .txt, .csv, .jsonl or .parquet file of texts to embed now",
    )
    texts = parser.add_argument_group("for texts")
    texts.add_argument("-m", "--model", help="the model, or alias, that embeds them")
    texts.add_argument(
        "-d", "--dimensions", type=_positive, metavar="N", help="shorter vectors of N numbers"
    )
    texts.add_argument("--input-type", metavar="TYPE", help="query or document")
    texts.add_argument("--column", metavar="NAME", help="the column of the texts")
    texts.add_argument(
        "--project",
        type=project_name,
        metavar="P",
        help=f"for whose keys they are kept (default: {DEFAULT_PROJECT})",
    )
    add_common(parser, "print a JSON object about the run")


def run(arguments: Namespace) -> int:
    """Do what `arguments.action` says."""
    action: Callable[[Namespace, Settings], int] = {
        "stats": _stats,
        "export": export,
        "warm": warm,
        "purge": _purge,
    }[arguments.action]
    return action(arguments, load(arguments).settings)


def _stats(arguments: Namespace, settings: Settings) -> int:
    kind, path = _kind(settings), settings.home_path / "vectors.db"
    groups = asyncio.run(_groups(settings)) if kind else []
    size, limit = sum(group.bytes for group in groups), settings.cache.disk_bytes
    if arguments.json:
        record = {
            "store": kind,
            "path": str(path) if kind == "file" else None,
            "vectors": sum(group.vectors for group in groups),
            "bytes": size,
            "max_bytes": limit if kind == "file" else None,
            "groups": [_record(group) for group in groups],
        }
        print(json.dumps(record))
        return OK
    if kind is None:
        print(f"no vectors are kept outside of a gateway's memory: {why_none(settings)}")
        return OK
    where = "Redis" if kind == "redis" else str(path)
    most = "" if kind == "redis" else f" of at most {_size(limit)}"
    vectors = sum(group.vectors for group in groups)
    print(f"{where}: {vectors:,} vectors, {_size(size)}{most}")
    if groups:
        print(table(_HEAD, list(map(_cells, groups)), right=(3, 4)))
    return OK


def _kind(settings: Settings) -> str | None:
    """Where vectors are kept, as `open_vector_store` decides."""
    if not settings.cache.enabled:
        return None
    if settings.redis_url is not None:
        return "redis"
    return "file" if settings.cache.disk_bytes else None


async def _groups(settings: Settings) -> list[Group]:
    async with open_store(settings) as store:
        return sorted(await store.groups(), key=lambda group: _cells(group))


def _purge(arguments: Namespace, settings: Settings) -> int:
    chosen = selection(arguments, settings)
    if arguments.all == (chosen != Selection()):
        raise Stop(
            "purge what? Give --model, --space or --project, several for what is all of that, "
            "or --all alone",
            WRONG_USAGE,
        )
    deleted = asyncio.run(_delete(settings, chosen))
    if arguments.json:
        print(json.dumps({"deleted": deleted}))
    else:
        print(f"deleted {deleted:,} vectors; a running gateway forgets them within two seconds")
    return OK


async def _delete(settings: Settings, chosen: Selection) -> int:
    async with open_store(settings) as store:
        return await store.purge(chosen)


def _record(group: Group) -> dict[str, Any]:
    label = group.label
    return {
        "model": label.model,
        "space": label.space,
        "project": label.project,
        "vectors": group.vectors,
        "bytes": group.bytes,
    }


def _cells(group: Group) -> tuple[str, ...]:
    label = group.label
    return label.model, label.space, label.project, f"{group.vectors:,}", _size(group.bytes)


def _size(count: int) -> str:
    """Bytes for people, such as `75.3 MB`."""
    size, units = float(count), iter(("bytes", "kB", "MB", "GB", "TB"))
    unit = next(units)
    while size >= 1000 and (larger := next(units, None)):
        size, unit = size / 1000, larger
    return f"{size:.1f} {unit}" if unit != "bytes" else f"{count} bytes"


def _positive(text: str) -> int:
    if not text.isascii() or not text.isdigit() or not 0 < int(text) < 10**6:
        raise ArgumentTypeError(f"{text!r} is no whole number above 0")
    return int(text)
