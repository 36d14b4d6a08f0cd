"""A whole application over one place where all providers are found: a real transport, real
connections, every layer, and vectors that are kept."""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager, nullcontext
from dataclasses import replace as with_fields
from typing import Any
from urllib.parse import urlsplit

from embedway.budgets import Budget
from embedway.gateway import build_gateway
from embedway.ids import Ids
from embedway.metrics import Metrics
from embedway.provider import HttpRequest, HttpResponse, Send
from embedway.rates import KeyRates
from embedway.runtime import Runtime
from embedway.server.app import App
from embedway.settings import ServerSettings, Settings
from embedway.store.keys import KeyStore
from embedway.store.rate_memory import MemoryRates
from embedway.store.recent import RecentVectors
from embedway.surroundings import Books, Kept
from embedway.transport import Transport
from embedway.turns import Turns
from embedway.types import Grant, replace
from tests.fake_provider.accounts import settings as fake_settings
from tests.fake_provider.bench import CATALOG, Bench, Wanted, make_bench, true_vectors
from tests.fake_provider.server import FakeProvider
from tests.fakes import MemoryBook
from tests.faults.heard import Heard, ask
from tests.faults.place import Place
from tests.faults.quick_clock import QuickClock
from tests.memory_ledger import MemoryLedger
from tests.memory_store import MemoryStore

PATIENT_S, HURRY_S = 600.0, 0.4
"""The time of a call: more than any wait that is jumped over, and so much in real seconds."""


class World:
    """The application, and what it stands on."""

    def __init__(
        self,
        fake: FakeProvider,
        providers: Sequence[str],
        keys: KeyStore,
        *,
        is_public: bool = False,
        hurry_s: float = HURRY_S,
        clock: QuickClock | None = None,
        keep: Callable[[RecentVectors, MemoryStore], Kept] = Kept,
        **changes: Any,
    ) -> None:
        """hurry_s: the time of a hurried call. *changes* are of the accounts."""
        self.fake = fake
        self.clock = clock or QuickClock()
        self.send: Send | None = None
        self.sent: Counter[str] = Counter()
        """Upstream calls by provider."""
        self.benches = {one: make_bench(fake, one, self._send) for one in providers}
        self.models = {one: narrow_model(self.benches[one]) for one in providers}
        settings = fake_settings(fake, *providers, **changes)
        self._keep = keep
        if is_public:
            accounts = {n: replace(a, private=False) for n, a in settings.providers.items()}
            settings = replace(settings, providers=accounts)
        self._runtime = self._open(settings, keys)
        self.gateway = self._runtime.gateway
        self.app = App(lambda: nullcontext(self._runtime), is_loopback_only=True)
        self.hurried = App(
            lambda: nullcontext(_hurried(self._runtime, hurry_s)), is_loopback_only=True
        )

    async def start(self) -> None:
        """Build the routes."""
        await self.app.start()
        await self.hurried.start()

    async def ask(
        self, account: str, texts: Sequence[str], *, in_a_hurry: bool = False, **fields: Any
    ) -> Heard:
        """Ask one account for the vectors of some texts; *fields* may say otherwise."""
        app = self.hurried if in_a_hurry else self.app
        body = {
            "model": self.models[account],
            "input": list(texts),
            "encoding_format": "base64",
            "provider": account,
        }
        return await ask(app, body | fields)

    def true_vectors(self, account: str, texts: Sequence[str]) -> list[bytes]:
        """What must come."""
        wanted = Wanted(self.models[account], list(texts), None, None)
        return true_vectors(self.benches[account], wanted)

    async def _send(
        self, request: HttpRequest, /, *, timeout_s: float, max_bytes: int
    ) -> HttpResponse:
        self.sent[urlsplit(request.url).path.split("/")[1]] += 1
        assert self.send is not None
        return await self.send(request, timeout_s=timeout_s, max_bytes=max_bytes)

    def _open(self, settings: Settings, keys: KeyStore) -> Runtime:
        metrics, book = Metrics(), MemoryBook()
        server = ServerSettings(request_timeout_s=PATIENT_S)
        settings = replace(settings, server=server)
        self.recent = RecentVectors(
            max_bytes=2**24, ttl_s=0, clock=self.clock, count=metrics.count_cache
        )
        self.store = MemoryStore(self.clock)
        self.ledger = MemoryLedger()
        gateway = build_gateway(
            settings=settings,
            catalog=CATALOG,
            local=None,
            send=self._send,
            book=book,
            count=metrics.count_request,
            clock=self.clock,
            kept=self._keep(self.recent, self.store),
            count_cache=metrics.count_cache,
            count_retry=metrics.count_retry,
            books=Books(self.ledger, _no_budgets, Ids(self.clock)),
        )
        parts: dict[str, Any] = {
            "book": book,
            "recent": self.recent,
            "vectors": self.store,
            "turns": Turns(self.clock.monotonic),
            "rates": KeyRates(MemoryRates(self.clock), self.clock),
            "database": None,
            "budgets": None,
            "admissions": None,
        }
        return Runtime(
            settings=settings,
            catalog=CATALOG,
            gateway=gateway,
            keys=keys,
            metrics=metrics,
            clock=self.clock,
            ids=Ids(self.clock),
            **parts,
        )


async def _no_budgets(grant: Grant) -> tuple[Budget, ...]:
    return ()


def _hurried(runtime: Runtime, hurry_s: float) -> Runtime:
    server = replace(runtime.settings.server, request_timeout_s=hurry_s)
    return with_fields(runtime, settings=replace(runtime.settings, server=server))


def narrow_model(bench: Bench) -> str:
    """The narrowest model that takes three texts at once, where there is one."""
    deployments = bench.deployments.values()
    return min(deployments, key=lambda d: (-min(d.max_inputs, 3), d.dimensions, d.model)).model


@asynccontextmanager
async def open_world(
    providers: Sequence[str], keys: KeyStore, *, is_secure: bool = False, **traits: Any
) -> AsyncIterator[tuple[World, Place]]:
    """A world over sockets, and the place where its providers are; *traits* are the world's."""
    place = Place(FakeProvider(), is_secure=is_secure)
    await place.open()
    try:
        world = World(place.fake, providers, keys, **traits)
        await world.start()
        async with Transport(place.names) as world.send:
            yield world, place
    finally:
        await place.close()
