"""A gateway with everything it stands on, opened together and closed in the reverse order."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field

from embedway.admissions import Admissions
from embedway.cached import VectorStore
from embedway.catalog import Catalog
from embedway.catalog_file import load_catalog
from embedway.clock import Clock, SystemClock
from embedway.gateway import LOCAL_MODEL, Gateway, build_gateway
from embedway.ids import Ids
from embedway.introductions import introduce
from embedway.local import Local
from embedway.metrics import Metrics
from embedway.oidc import TokenVerifier
from embedway.provider import Send
from embedway.rate_stores import open_rate_store
from embedway.rates import KeyRates
from embedway.settings import Settings
from embedway.spending import Spending
from embedway.static_model import load_wordllama
from embedway.store.books import UsageBook
from embedway.store.budgets import BudgetStore
from embedway.store.database import Database, open_database
from embedway.store.keys import KeyStore, load_pepper
from embedway.store.ledger import Ledger
from embedway.store.recent import RecentVectors
from embedway.surroundings import Books, Kept
from embedway.tokens import load_cl100k
from embedway.transport import Transport
from embedway.turns import Turns
from embedway.vector_stores import follow_purges, open_vector_store


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
    recent: RecentVectors | None = None
    """The vectors in memory; None where none are kept."""
    vectors: VectorStore | None = None
    """The vectors on disk or in Redis."""
    turns: Turns = field(kw_only=True)
    """The requests that wait for the event loop."""
    rates: KeyRates = field(kw_only=True)
    database: Database = field(kw_only=True)
    """What the two books are added up in."""
    budgets: BudgetStore = field(kw_only=True)
    admissions: Admissions | None = field(kw_only=True)
    """Callers with tokens of other issuers; None where none is trusted."""


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
            asyncio.to_thread(open_database, settings.home_path, settings.database_url),
            asyncio.to_thread(_load_local, settings, catalog, clock),
        )
        stack.callback(engine.dispose)
        ids = Ids(clock)
        ledger = Ledger(engine, clock, process=ids.new())
        stack.push_async_callback(asyncio.to_thread, ledger.close)
        book = UsageBook(engine, paid=ledger)
        stack.push_async_callback(asyncio.to_thread, book.close)
        if send is None:
            send = await stack.enter_async_context(Transport())
        settings = await introduce(settings, send)
        if local is not None:
            stack.push_async_callback(local.close)
        metrics = Metrics()
        recent = _recent(settings, clock, metrics) if settings.cache.enabled else None
        vectors = open_vector_store(settings, clock, metrics.count_cache)
        if vectors is not None:
            stack.push_async_callback(vectors.close)
        if vectors is not None and recent is not None:
            # By the machine's time, whatever the gateway's clock: a test's does not wait.
            following = asyncio.create_task(follow_purges(recent, vectors, SystemClock().sleep))
            stack.callback(following.cancel)
        rates = KeyRates(open_rate_store(settings, clock, metrics.count_skipped_rate), clock)
        stack.push_async_callback(rates.close)
        turns, budgets = Turns(clock.monotonic), BudgetStore(engine, clock)
        spending = Spending(budgets.all, clock)
        gateway = build_gateway(
            settings=settings,
            catalog=catalog,
            local=local,
            send=send,
            book=book,
            count=metrics.count_request,
            clock=clock,
            kept=Kept(recent, vectors) if recent is not None else None,
            count_cache=metrics.count_cache,
            count_retry=metrics.count_retry,
            count_local=local.count_tokens if local is not None else None,
            is_busy=lambda: turns.is_busy,
            rates=rates,
            books=Books(ledger, spending.budgets_of, ids),
        )
        if gateway.counts_cl100k:
            await asyncio.to_thread(load_cl100k)
        keys = KeyStore(engine, load_pepper(settings.home_path), clock)
        yield Runtime(
            settings,
            catalog,
            gateway,
            keys,
            book,
            metrics,
            clock,
            ids,
            recent=recent,
            vectors=vectors,
            turns=turns,
            rates=rates,
            database=engine,
            budgets=budgets,
            admissions=_admissions(settings, send, clock, budgets, spending),
        )


def _admissions(
    settings: Settings, send: Send, clock: Clock, budgets: BudgetStore, spending: Spending
) -> Admissions | None:
    if not settings.oidc:
        return None
    return Admissions(TokenVerifier(settings, send, clock), budgets, spending.forget)


def _recent(settings: Settings, clock: Clock, metrics: Metrics) -> RecentVectors:
    return RecentVectors(
        max_bytes=settings.cache.memory_bytes,
        ttl_s=settings.cache.ttl_s,
        clock=clock,
        count=metrics.count_cache,
    )


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
