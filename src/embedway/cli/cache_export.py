"""`embedway cache export`: kept vectors to a file that `embedway cache warm` reads back."""

from __future__ import annotations

import asyncio
import json
import sys
from argparse import Namespace
from collections.abc import Collection
from contextlib import ExitStack
from pathlib import Path

from msgspec.structs import replace

from embedway.cached import Group, Selection
from embedway.cli.cache_files import WRITERS
from embedway.cli.cache_store import open_store, selection
from embedway.cli.stop import NOT_FOUND, OK, WRONG_USAGE, Stop
from embedway.cli.terminal import Progress
from embedway.clock import SystemClock
from embedway.settings import Settings

FORMATS = tuple(WRITERS)
_NOTHING = "no vector is kept of what was asked for; see 'embedway cache stats'"


def export(arguments: Namespace, settings: Settings) -> int:
    """Write the file."""
    path: Path = arguments.file
    form = arguments.format or _format_of(path)
    if not path.absolute().parent.is_dir():
        raise Stop(f"{path}: there is no folder {path.absolute().parent}", WRONG_USAGE)
    vectors = asyncio.run(_export(settings, selection(arguments, settings), path, form))
    if arguments.json:
        print(json.dumps({"output": str(path), "format": form, "vectors": vectors}))
    else:
        print(f"{path}: {vectors:,} vectors", file=sys.stderr)
    return OK


def _format_of(path: Path) -> str:
    form = path.suffix.lower().removeprefix(".")
    if form not in FORMATS:
        endings = ", ".join(f".{known}" for known in FORMATS)
        raise Stop(f"{path}: must end with {endings}, or give --format", WRONG_USAGE)
    return form


async def _export(settings: Settings, chosen: Selection, path: Path, form: str) -> int:
    """How many were written."""
    async with open_store(settings) as store:
        groups = [group for group in await store.groups() if chosen.holds(group.label)]
        if not groups:
            raise Stop(_NOTHING, NOT_FOUND)
        if form == "npy":
            chosen = replace(chosen, space=_one_space(groups))
        progress = Progress(sum(group.vectors for group in groups), SystemClock().monotonic)
        rows = 0
        with ExitStack() as drafts:
            writer = WRITERS[form](path, drafts)
            drafts.callback(progress.close)
            async for entry in store.entries(chosen):
                writer.add(entry)
                progress.advance(1)
                rows += 1
            if not rows:  # all of them are too old
                raise Stop(_NOTHING, NOT_FOUND)
            writer.finish()
        return rows


def _one_space(groups: Collection[Group]) -> str:
    spaces = sorted({group.label.space for group in groups})
    if len(spaces) > 1:
        raise Stop(
            f"a matrix holds vectors of one space; give --space, one of: {', '.join(spaces)}",
            WRONG_USAGE,
        )
    return spaces[0]
