"""Prometheus metrics: named `embedway_*`, base units, no label that a caller can invent."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest

from embedway.ledger import UsageLine
from embedway.money import PICODOLLARS

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
_SECONDS = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0, 60.0)


class Metrics:
    """The counters of one gateway; several may live in one process."""

    def __init__(self) -> None:
        self._registry = CollectorRegistry()
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

    def count_response(self, route: str, status: int) -> None:
        """One HTTP response left. *route* is a pattern of ours, never a caller's path."""
        self._responses.labels(route, str(status)).inc()

    def count_request(self, line: UsageLine, /) -> None:
        """One embedding request ended."""
        model = line.model
        self._requests.labels(model, line.provider or "none", str(line.status)).inc()
        self._duration.labels(model).observe(line.latency_ms / 1000)
        if line.code is None:
            self._inputs.labels(model).inc(line.inputs)
            self._tokens.labels(model).inc(line.tokens)
            self._cost.labels(model).inc(line.cost / PICODOLLARS)

    def render(self) -> bytes:
        """The text that Prometheus reads."""
        return generate_latest(self._registry)
