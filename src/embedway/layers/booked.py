"""Write each call of an account down before it leaves, and what became of it.

Below `limit`: what waits for its turn is not under way yet. Above the end, where the call leaves.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol

from embedway.clock import Clock
from embedway.errors import DeadlineExceeded, EmbedError, MalformedResponse, UpstreamError
from embedway.ids import Ids
from embedway.ledger import AttemptBegun, AttemptEnded, AttemptState
from embedway.provider import Deployment
from embedway.types import Embedder, EmbedRequest, EmbedResponse


class AttemptsBook(Protocol):
    """Where attempts are written down."""

    async def begin(self, attempt: AttemptBegun) -> None:
        """Before it is made. Raises LedgerUnavailable."""
        ...

    def note(self, attempt: AttemptBegun | AttemptEnded) -> None:
        """The begin or the end of one that costs nothing: within a moment."""
        ...

    def end(self, attempt: AttemptEnded) -> None:
        """What became of it: soon, whatever happens."""
        ...


@dataclass(frozen=True, eq=False)
class Booked:
    """Calls *inner* once the attempt is in the book; without a book nothing paid is asked."""

    inner: Embedder
    deployment: Deployment = field(repr=False)
    provider: str
    """The provider's name: whoever brings his own credential for it pays himself."""
    book: AttemptsBook = field(repr=False)
    most_tokens: Callable[[EmbedRequest], int] = field(repr=False)
    ids: Ids = field(repr=False)
    clock: Clock = field(repr=False)

    async def __call__(self, request: EmbedRequest, /) -> EmbedResponse:
        begun = self._begun(request)
        if begun.reserved_cost:
            await self.book.begin(begun)
        else:
            self.book.note(begun)
        try:
            response = await self.inner(request)
        except EmbedError as error:
            self._end(begun, _state(error), error)
            raise
        except BaseException:  # the caller left, or a bug: the provider may have billed it
            self._end(begun, "unknown")
            raise
        embeddings = response.embeddings
        self._write(
            begun,
            AttemptEnded(
                id=begun.id,
                state="settled",
                tokens=sum([one.tokens for one in embeddings]),
                cost=sum([one.cost for one in embeddings]),
                ended_ms=self._now_ms(),
                status=response.attempts[-1].status if response.attempts else None,
            ),
        )
        return response

    def _begun(self, request: EmbedRequest) -> AttemptBegun:
        deployment, call = self.deployment, request.call
        tokens = self.most_tokens(request)
        is_ours = self.provider not in call.credentials
        cost = most_cost(deployment, request, tokens) if is_ours else 0
        return AttemptBegun(
            id=self.ids.new(),
            request_id=call.id,
            key_id=call.grant.key_id,
            project=call.grant.project,
            model=deployment.model,
            provider=deployment.name,
            inputs=len(request.inputs),
            reserved_tokens=tokens,
            reserved_cost=cost,
            created_ms=self._now_ms(),
        )

    def _end(
        self, begun: AttemptBegun, state: AttemptState, error: EmbedError | None = None
    ) -> None:
        is_unknown = state == "unknown"
        self._write(
            begun,
            AttemptEnded(
                id=begun.id,
                state=state,
                tokens=begun.reserved_tokens if is_unknown else 0,
                cost=begun.reserved_cost if is_unknown else 0,
                ended_ms=self._now_ms(),
                status=error.upstream_status if isinstance(error, UpstreamError) else None,
                code=error.code if error else "abandoned",
            ),
        )

    def _write(self, begun: AttemptBegun, ended: AttemptEnded) -> None:
        (self.book.end if begun.reserved_cost else self.book.note)(ended)

    def _now_ms(self) -> int:
        return int(self.clock.now() * 1000)


def most_cost(deployment: Deployment, request: EmbedRequest, tokens: int) -> int:
    """Picodollars that the request can cost there at most, if it has at most so many tokens."""
    characters = 0
    if deployment.price_per_character:
        characters = sum(len(value) for value in request.inputs)
    return deployment.price * tokens + deployment.price_per_character * characters


def _state(error: EmbedError) -> AttemptState:
    """Whether the provider may have billed what failed: a whole answer that says it refused or
    failed is free; a wrong one, or none, may not be."""
    if isinstance(error, DeadlineExceeded):  # before anything was sent: what is late is a timeout
        return "unbilled"
    if not isinstance(error, UpstreamError) or isinstance(error, MalformedResponse):
        return "unknown"
    if not error.was_sent or error.upstream_status is not None:
        return "unbilled"
    return "unknown"
