"""Prometheus metrics: named `embedway_*`, base units, no label that a caller can invent."""

from __future__ import annotations

from typing import NamedTuple, get_args

from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest

from embedway.cached import CacheEvent
from embedway.ledger import UsageLine
from embedway.money import PICODOLLARS

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
_SECONDS = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0, 60.0)


class _Group(NamedTuple):
    """The counters of one model, provider and status."""

    requests: Counter
    duration: Histogram
    inputs: Counter
    tokens: Counter
    cost: Counter


class Metrics:
    """The counters of one gateway; several may live in one process."""

    def __init__(self) -> None:
        self._registry = CollectorRegistry()
        self._counters: dict[tuple[str, int], Counter] = {}
        self._groups: dict[tuple[str, str | None, int], _Group] = {}
        self._responses = Counter(
            "embedway_http_responses",
            "HTTP responses, by route and status.",
            ("route", "status"),
            registry=self._registry,
        )
        self._requests = Counter(
            "embedway_requests",
            "Embedding requests that reached the gateway, by model, provider and status.",
            ("model", "provider", "status"),
            registry=self._registry,
        )
        self._duration = Histogram(
            "embedway_request_duration_seconds",
            "Time an embedding request took inside the gateway.",
            ("model",),
            buckets=_SECONDS,
            registry=self._registry,
        )
        self._inputs = Counter(
            "embedway_inputs", "Texts embedded.", ("model",), registry=self._registry
        )
        self._tokens = Counter(
            "embedway_input_tokens", "Tokens of all inputs.", ("model",), registry=self._registry
        )
        self._cost = Counter(
            "embedway_cost_usd", "Cost billed, in USD.", ("model",), registry=self._registry
        )

        self._cache = Counter(
            "embedway_cache_events",
            "What happened to texts and vectors at the cache, by event.",
            ("event",),
            registry=self._registry,
        )
        self._cache_events = {event: self._cache.labels(event) for event in get_args(CacheEvent)}

    def count_cache(self, event: CacheEvent, number: int) -> None:
        """Texts that were hit, missed or shared a question; vectors stored, evicted, dropped or
        refused as damaged; calls of a store that failed. From any thread."""
        self._cache_events[event].inc(number)

    def cache_events(self) -> dict[str, int]:
        """The same, since the start."""
        found = {
            event: self._registry.get_sample_value("embedway_cache_events_total", {"event": event})
            for event in self._cache_events
        }
        return {event: int(number or 0) for event, number in found.items()}

    def count_response(self, route: str, status: int) -> None:
        """One HTTP response left. *route* is a pattern of ours, never a caller's path."""
        key = (route, status)
        if (counter := self._counters.get(key)) is None:
            counter = self._counters[key] = self._responses.labels(route, str(status))
        counter.inc()

    def count_request(self, line: UsageLine, /) -> None:
        """One embedding request ended."""
        key = (line.model, line.provider, line.status)
        if (group := self._groups.get(key)) is None:
            group = self._groups[key] = self._group(line)
        group.requests.inc()
        group.duration.observe(line.latency_ms / 1000)
        if line.code is None:
            group.inputs.inc(line.inputs)
            group.tokens.inc(line.tokens)
            group.cost.inc(line.cost / PICODOLLARS)

    def _group(self, line: UsageLine) -> _Group:
        """What `labels` finds, kept: finding it anew takes longer than counting."""
        model = line.model
        return _Group(
            requests=self._requests.labels(model, line.provider or "none", str(line.status)),
            duration=self._duration.labels(model),
            inputs=self._inputs.labels(model),
            tokens=self._tokens.labels(model),
            cost=self._cost.labels(model),
        )

    def render(self) -> bytes:
        """The text that Prometheus reads."""
        return generate_latest(self._registry)
