"""`embedway cache warm`: an export back into the store, or texts through the gateway into it."""

from __future__ import annotations

import asyncio
import json
import sys
from argparse import Namespace
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

from embedway.cli.cache_readers import find_export
from embedway.cli.cache_store import open_store
from embedway.cli.cache_texts import warm_texts
from embedway.cli.stop import FAILED, OK, WRONG_USAGE, Stop
from embedway.cli.terminal import Progress
from embedway.clock import SystemClock
from embedway.settings import Settings
from embedway.vector_files import Entry, Restored, restore


def warm(arguments: Namespace, settings: Settings) -> int:
    """Fill the store from the file."""
    path: Path = arguments.file
    if not path.is_file():
        raise Stop(f"{path}: no such file", WRONG_USAGE)
    if find_export(path) is None:
        return warm_texts(arguments, settings)
    _refuse_options(arguments)
    return _tell(asyncio.run(_restore(settings, path)), path, is_json=arguments.json)


def _refuse_options(arguments: Namespace) -> None:
    """What an export says of its vectors no option may change."""
    for name in ("model", "dimensions", "input_type", "column", "project"):
        if getattr(arguments, name) is not None:
            option = name.replace("_", "-")
            raise Stop(
                f"--{option} is about texts to embed, but {arguments.file} is an export",
                WRONG_USAGE,
            )


async def _restore(settings: Settings, path: Path) -> Restored:
    rows = sum(1 for _ in _entries(path))  # all of them are sound, or none is stored
    clock = SystemClock()
    oldest_s = clock.now() - settings.cache.ttl_s if settings.cache.ttl_s else -1.0
    progress = Progress(rows, clock.monotonic)
    async with open_store(settings, clock) as store:
        with closing(progress):
            return await restore(store, _entries(path), oldest_s, progress.advance)


def _entries(path: Path) -> Iterator[Entry]:
    if (entries := find_export(path)) is None:
        raise Stop(f"{path}: was changed while it was read")
    return entries


def _tell(restored: Restored, path: Path, *, is_json: bool) -> int:
    record: dict[str, Any] = {
        "stored": restored.stored,
        "expired": restored.expired,
        "lost": restored.lost,
    }
    if is_json:
        print(json.dumps(record))
    else:
        old = f" · {restored.expired:,} too old" if restored.expired else ""
        print(f"{path}: {restored.stored:,} vectors stored{old}", file=sys.stderr)
    if restored.lost:
        print(
            f"embedway: the store did not keep {restored.lost:,} vectors: it failed, or has no "
            "room for them",
            file=sys.stderr,
        )
    return FAILED if restored.lost else OK
