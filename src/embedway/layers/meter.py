"""Write one ledger line and the metrics for every request, whatever its end.

Topmost layer: refusals, failures and cache hits are counted too.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Protocol

from embedway.clock import Clock
from embedway.errors import EmbedError
from embedway.ledger import UsageLine
from embedway.types import (
    CACHED,
    Attempt,
    Embedder,
    Embedding,
    EmbedParams,
    EmbedRequest,
    EmbedResponse,
    Space,
)

CALLER_GONE = 499  # nginx's number for a caller who hung up


class Book(Protocol):
    """Takes ledger lines. Must not block and must not fail the request."""

    def add(self, line: UsageLine) -> None: ...


class Count(Protocol):
    """Counts a line in the metrics."""

    def __call__(self, line: UsageLine, /) -> None: ...


@dataclass(frozen=True, eq=False)
class Meter:
    """Passes everything through and writes down what happened."""

    inner: Embedder
    book: Book = field(repr=False)
    count: Count = field(repr=False)
    prices: Mapping[str, int] = field(repr=False)
    """Canonical model name to list price, in picodollars per token; holds every known model."""
    canonical: Callable[[str], str] = field(repr=False)
    clock: Clock = field(repr=False)
    space: Callable[[EmbedParams], Space] = field(repr=False)
    """The space of what was made with these parameters."""

    async def __call__(self, request: EmbedRequest, /) -> EmbedResponse:
        started = self.clock.monotonic()
        try:
            response = await self.inner(request)
        except EmbedError as error:
            # What was answered of it is kept and paid, though its caller sees none of it.
            done = tuple(error.finished.values())
            self._write(request, started, error.status, error.code, error.attempts, done)
            raise
        except asyncio.CancelledError:
            self._write(request, started, CALLER_GONE, "caller_gone")
            raise
        except Exception:
            self._write(request, started, 500, "internal_error")
            raise
        self._write(
            request, started, 200, None, response.attempts, response.embeddings, response.params
        )
        return response

    def _write(
        self,
        request: EmbedRequest,
        started: float,
        status: int,
        code: str | None,
        attempts: tuple[Attempt, ...] = (),
        embeddings: tuple[Embedding, ...] = (),
        answered: EmbedParams | None = None,
    ) -> None:
        """answered: the params of an answer; None if there is none."""
        call, seconds = request.call, self.clock.monotonic() - started
        params = answered or request.params
        model = self.canonical(params.model)
        price = self.prices.get(model)
        tried = attempts[-1].provider if attempts else None
        tokens = cost = saved_tokens = 0
        provider = CACHED if answered else tried
        for embedding in embeddings:  # in one pass: every answer goes through here
            tokens += embedding.tokens
            cost += embedding.cost
            if embedding.source == CACHED:
                saved_tokens += embedding.tokens
            elif provider == CACHED:
                provider = embedding.source
        line = UsageLine(
            id=call.id,
            created_ms=int((self.clock.now() - seconds) * 1000),
            key_id=call.grant.key_id,
            model="unknown" if price is None else model,
            provider=provider,
            inputs=len(request.inputs),
            tokens=tokens,
            cost=cost,
            market_cost=tokens * (price or 0),
            latency_ms=round(seconds * 1000),
            status=status,
            code=code,
            user=call.user,
            tags=call.tags,
            trace=call.trace,
            app=call.app,
            is_byok=any([attempt.credential_type == "byok" for attempt in attempts]),
            project=call.grant.project,
            space=str(self.space(answered)) if answered else None,
            saved=saved_tokens * (price or 0),
        )
        self.book.add(line)
        self.count(line)
