"""Prometheus metrics: named `embedway_*`, base units, no label that a caller can invent.

The client library's counters take a lock for every number, some microseconds in each request. So
plain numbers are counted here, and the library gets its samples when somebody reads them.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from itertools import accumulate
from threading import Lock
from typing import get_args

from msgspec import Struct
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.metrics_core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    Metric,
)
from prometheus_client.registry import Collector

from embedway.cached import CacheEvent
from embedway.clock import Clock, SystemClock
from embedway.health import State
from embedway.ledger import UsageLine
from embedway.money import PICODOLLARS

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
_SECONDS = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0, 60.0)
_BOUNDS = (*map(str, _SECONDS), "+Inf")

_BREAKER: dict[State, int] = {"closed": 0, "half_open": 1, "open": 2}

_Sample = tuple[tuple[str, ...], float, float]
"""The values of the labels, the number, and since when it is counted."""


class Fares(Struct, frozen=True, kw_only=True):
    """How one deployment fares at this moment."""

    model: str
    provider: str
    outcomes: Mapping[str, int]
    breaker: State
    in_flight: int
    waiting: int | None
    """None where calls are not limited."""
    concurrency: int | None


class Load(Struct, frozen=True):
    """What the server holds at this moment."""

    requests: int
    bytes: int
    connections: int
    waiting: Mapping[str, int]
    """By model: requests that wait for a place at any of its deployments, to travel together."""


class _Number:
    """How often something happened."""

    __slots__ = ("created", "number")

    def __init__(self, created: float) -> None:
        self.created = created
        self.number = 0


class _Total:
    """What the requests of one model came to."""

    __slots__ = ("cost", "created", "durations", "inputs", "seconds", "tokens")

    def __init__(self, created: float) -> None:
        self.created = created
        self.durations = [0] * len(_BOUNDS)
        """How many requests took at most so long, but longer than the bound before."""
        self.seconds = 0.0
        self.inputs = self.tokens = self.cost = 0


class Metrics(Collector):
    """The counters of one gateway; several may live in one process.

    All but `count_cache` is called by the event loop alone.
    """

    def __init__(self, clock: Clock | None = None) -> None:
        now = (clock or SystemClock()).now
        self._responses: dict[tuple[str, int], _Number] = defaultdict(lambda: _Number(now()))
        self._requests: dict[tuple[str, str | None, int], _Number] = defaultdict(
            lambda: _Number(now())
        )
        self._models: dict[str, _Total] = defaultdict(lambda: _Total(now()))
        self._events = {event: _Number(now()) for event in get_args(CacheEvent)}
        self._events_lock = Lock()
        self._retries = {True: _Number(now()), False: _Number(now())}
        self._skipped_rates = _Number(now())
        self._since = now()
        self._read_deployments: Callable[[], Iterable[Fares]] = tuple
        self._read_load: Callable[[], Load | None] = lambda: None
        self._registry = CollectorRegistry()
        self._registry.register(self)

    def watch(
        self, read_deployments: Callable[[], Iterable[Fares]], read_load: Callable[[], Load]
    ) -> None:
        """Ask these for the state of the moment whenever somebody reads."""
        self._read_deployments, self._read_load = read_deployments, read_load

    def count_retry(self, is_granted: bool) -> None:
        """A retry might have helped; whether the budget granted it."""
        self._retries[is_granted].number += 1

    def count_skipped_rate(self) -> None:
        """A question about a key's rates had no answer, and the request was let through."""
        self._skipped_rates.number += 1

    def count_cache(self, event: CacheEvent, number: int) -> None:
        """Texts that were hit, missed or shared a question; vectors stored, evicted, dropped or
        refused as damaged; calls of a store that failed. From any thread."""
        with self._events_lock:
            self._events[event].number += number

    def cache_events(self) -> dict[str, int]:
        """The same, since the start."""
        return {event: counted.number for event, counted in self._events.items()}

    def count_response(self, route: str, status: int) -> None:
        """One HTTP response left. *route* is a pattern of ours, never a caller's path."""
        self._responses[route, status].number += 1

    def count_request(self, line: UsageLine, /) -> None:
        """One embedding request ended."""
        self._requests[line.model, line.provider, line.status].number += 1
        model, seconds = self._models[line.model], line.latency_ms / 1000
        model.durations[bisect_left(_SECONDS, seconds)] += 1
        model.seconds += seconds
        if line.code is None:
            model.inputs += line.inputs
            model.tokens += line.tokens
            model.cost += line.cost

    def render(self) -> bytes:
        """The text that Prometheus reads."""
        return generate_latest(self._registry)

    def collect(self) -> Iterator[Metric]:
        """The numbers of this moment as the client library has them."""
        yield _counter(
            "embedway_http_responses",
            "HTTP responses, by route and status.",
            ("route", "status"),
            (
                ((route, str(status)), n.number, n.created)
                for (route, status), n in self._responses.items()
            ),
        )
        yield _counter(
            "embedway_requests",
            "Embedding requests that reached the gateway, by model, provider and status.",
            ("model", "provider", "status"),
            (
                ((model, provider or "none", str(status)), n.number, n.created)
                for (model, provider, status), n in self._requests.items()
            ),
        )
        yield from self._of_models()
        yield _counter(
            "embedway_cache_events",
            "What happened to texts and vectors at the cache, by event.",
            ("event",),
            (((event,), n.number, n.created) for event, n in self._events.items()),
        )
        yield _counter(
            "embedway_retries",
            "Attempts beside the first, granted by the retry budget or refused.",
            ("granted",),
            (
                ((str(is_granted).lower(),), n.number, n.created)
                for is_granted, n in self._retries.items()
            ),
        )
        skipped = self._skipped_rates
        yield _counter(
            "embedway_skipped_rate_checks",
            "Questions about a key's rates that Redis did not answer: the key was let through.",
            (),
            (((), skipped.number, skipped.created),),
        )

        yield from self._of_deployments(list(self._read_deployments()))
        if (load := self._read_load()) is not None:
            yield from _of_load(load)

    def _of_deployments(self, deployments: list[Fares]) -> Iterator[Metric]:
        yield _counter(
            "embedway_attempts",
            "Calls of deployments, by how they ended: an error's code, success, or abandoned.",
            ("model", "provider", "outcome"),
            (
                ((one.model, one.provider, outcome), number, self._since)
                for one in deployments
                for outcome, number in sorted(one.outcomes.items())
            ),
        )
        gauges: tuple[tuple[str, str, Callable[[Fares], int | None]], ...] = (
            (
                "embedway_breaker_state",
                "0: closed, 1: half open, 2: open.",
                lambda one: _BREAKER[one.breaker],
            ),
            ("embedway_attempts_in_flight", "Calls on their way.", lambda one: one.in_flight),
            ("embedway_queue_depth", "Calls that wait for their turn.", lambda one: one.waiting),
            (
                "embedway_concurrency",
                "Calls at a time that are good for the deployment now.",
                lambda one: one.concurrency,
            ),
        )
        for name, meaning, read in gauges:
            family = GaugeMetricFamily(name, meaning, labels=("model", "provider"))
            for one in deployments:
                if (number := read(one)) is not None:
                    family.add_metric((one.model, one.provider), number)
            yield family

    def _of_models(self) -> Iterator[Metric]:
        models = self._models.items()
        yield _durations(models)
        yield _counter(
            "embedway_inputs",
            "Texts embedded.",
            ("model",),
            (((model,), total.inputs, total.created) for model, total in models),
        )
        yield _counter(
            "embedway_input_tokens",
            "Tokens of all inputs.",
            ("model",),
            (((model,), total.tokens, total.created) for model, total in models),
        )
        yield _counter(
            "embedway_cost_usd",
            "Cost billed, in USD.",
            ("model",),
            (((model,), total.cost / PICODOLLARS, total.created) for model, total in models),
        )


def _of_load(load: Load) -> Iterator[Metric]:
    for name, meaning, number in (
        ("embedway_requests_in_flight", "Requests that are worked on.", load.requests),
        ("embedway_bytes_in_flight", "Bytes of their bodies, and of unread answers.", load.bytes),
        ("embedway_connections", "Connections that are open.", load.connections),
    ):
        yield GaugeMetricFamily(name, meaning, value=number)
    waiting = GaugeMetricFamily(
        "embedway_waiting_requests",
        "Requests that wait for a place at any deployment of the model, to travel together.",
        labels=("model",),
    )
    for model, requests in load.waiting.items():
        waiting.add_metric((model,), requests)
    yield waiting


def _counter(
    name: str, meaning: str, labels: tuple[str, ...], samples: Iterable[_Sample]
) -> Metric:
    family = CounterMetricFamily(name, meaning, labels=labels)
    for values, number, created in samples:
        family.add_metric(values, number, created)
    return family


def _durations(models: Iterable[tuple[str, _Total]]) -> Metric:
    name = "embedway_request_duration_seconds"
    meaning = "Time an embedding request took inside the gateway."
    family = HistogramMetricFamily(name, meaning, labels=("model",))
    for model, total in models:
        buckets = zip(_BOUNDS, accumulate(total.durations), strict=True)
        family.add_metric((model,), [*buckets], total.seconds)
        # The library's own histograms tell it, its families have no word for it.
        family.add_sample(f"{name}_created", {"model": model}, total.created)
    return family
