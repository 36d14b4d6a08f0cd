"""The store that the settings name, and which of its vectors a command line means."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from embedway.cached import CacheEvent, Selection, VectorStore
from embedway.catalog_file import load_catalog
from embedway.cli.served import look_around
from embedway.cli.stop import Stop
from embedway.clock import Clock, SystemClock
from embedway.settings import Settings
from embedway.vector_stores import open_vector_store


def add_selection(parser: ArgumentParser) -> None:
    """`--model`, `--space`, `--project`: only vectors to which all that is given applies."""
    parser.add_argument("--model", metavar="M", help="only vectors of this model, or alias")
    parser.add_argument("--space", metavar="S", help="only vectors of this space; see 'stats'")
    parser.add_argument(
        "--project", metavar="P", help="only vectors of this project, or scope; see 'stats'"
    )


def selection(arguments: Namespace, settings: Settings) -> Selection:
    """What the command line means. A name that no catalogue knows is looked for as it is."""
    model = arguments.model
    if model is not None:
        model = look_around(settings, load_catalog()).directory.canonical(model)
    return Selection(model=model, space=arguments.space, project=arguments.project)


@asynccontextmanager
async def open_store(settings: Settings, clock: Clock | None = None) -> AsyncIterator[VectorStore]:
    """The store, closed at the end. Raises Stop if the settings want none."""
    store = open_vector_store(settings, clock or SystemClock(), _ignore)
    if store is None:
        raise Stop(f"no vectors are kept outside of a gateway's memory: {why_none(settings)}")
    try:
        yield store
    finally:
        await store.close()


def why_none(settings: Settings) -> str:
    """Which setting wants no store."""
    return "cache.disk_bytes is 0" if settings.cache.enabled else "cache.enabled is false"


def _ignore(event: CacheEvent, count: int) -> None:
    """The command line has no metrics; what matters is read back."""
