"""What the metrics show of this moment: read when somebody asks, so that it costs requests
nothing."""

from __future__ import annotations

from collections.abc import Iterator

from embedway.gateway import Gateway
from embedway.metrics import Fares


def read_deployments(gateway: Gateway) -> Iterator[Fares]:
    """Every deployment of every model. The names are the operator's and the catalogue's."""
    for model, stack in gateway.models.items():
        for account, health in stack.health.items():
            limit = stack.limits.get(account)
            yield Fares(
                model=model,
                provider=account,
                outcomes=health.outcomes,
                breaker=health.state,
                in_flight=health.in_flight,
                waiting=None if limit is None else limit.waiting,
                concurrency=None if limit is None else limit.headroom.concurrency,
            )


def read_waiting(gateway: Gateway) -> dict[str, int]:
    """How many requests wait for each model."""
    return {model: stack.waiting for model, stack in gateway.models.items()}
