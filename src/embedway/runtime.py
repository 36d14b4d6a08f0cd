"""A gateway with everything it stands on, opened together and closed in the reverse order."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass

from embedway.catalog import Catalog
from embedway.catalog_file import load_catalog
from embedway.clock import Clock, SystemClock
from embedway.gateway import LOCAL_MODEL, Gateway, build_gateway
from embedway.ids import Ids
from embedway.introductions import introduce
from embedway.local import Local
from embedway.metrics import Metrics
from embedway.provider import Send
from embedway.settings import Settings
from embedway.static_model import load_wordllama
from embedway.store.books import UsageBook
from embedway.store.database import open_database
from embedway.store.keys import KeyStore, load_pepper
from embedway.transport import Transport


@dataclass(frozen=True, eq=False)
class Runtime:
    """All that a face (HTTP or command line) needs."""

    settings: Settings
    catalog: Catalog
    gateway: Gateway
    keys: KeyStore
    book: UsageBook
    metrics: Metrics
    clock: Clock
    ids: Ids


@asynccontextmanager
async def open_runtime(
    settings: Settings, *, clock: Clock | None = None, send: Send | None = None
) -> AsyncIterator[Runtime]:
    """Open the database, the local model and the transport, and build the gateway.

    send: in place of the real transport.
    Raises StoreError, SettingsError, or OSError if the local model's files are missing.
    """
    clock = clock or SystemClock()
    async with AsyncExitStack() as stack:
        catalog = load_catalog()
        # The model's files and the database are read side by side: both wait for the disk.
        engine, local = await asyncio.gather(
            asyncio.to_thread(open_database, settings.home_path),
            asyncio.to_thread(_load_local, settings, catalog, clock),
        )
        stack.callback(engine.dispose)
        book = UsageBook(engine)
        stack.push_async_callback(asyncio.to_thread, book.close)
        if send is None:
            send = await stack.enter_async_context(Transport())
        settings = await introduce(settings, send)
        if local is not None:
            stack.push_async_callback(local.close)
        metrics = Metrics()
        gateway = build_gateway(
            settings=settings,
            catalog=catalog,
            local=local,
            send=send,
            book=book,
            count=metrics.count_request,
            clock=clock,
        )
        keys = KeyStore(engine, load_pepper(settings.home_path), clock)
        yield Runtime(settings, catalog, gateway, keys, book, metrics, clock, Ids(clock))


def _load_local(settings: Settings, catalog: Catalog, clock: Clock) -> Local | None:
    if not settings.local.enabled:
        return None
    found = catalog.find(LOCAL_MODEL)
    assert found is not None, "the catalogue holds the local model"
    return Local(
        load_wordllama(),
        clock=clock,
        name=LOCAL_MODEL,
        max_input_tokens=found.model.max_input_tokens,
        batch_inputs=settings.local.batch_inputs,
        queue_inputs=settings.local.queue_inputs,
    )
