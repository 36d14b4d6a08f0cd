"""What the process takes at once: requests and bytes in flight. What is more is refused at once,
so that what was taken goes on as fast as ever."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from embedway.errors import Overloaded
from embedway.turns import Turns

_RETRY_AFTER_S = 1.0


class Shed:
    """Counts what is in flight. For one event loop."""

    def __init__(self, turns: Turns, *, max_requests: int, max_bytes: int) -> None:
        self._turns = turns
        self.max_requests = max_requests
        self.max_bytes = max_bytes
        self.requests = 0
        self.bytes = 0
        self.arriving = 0
        """Requests whose heads were read and whose tasks have not begun: many may come at once."""

    @property
    def is_full(self) -> bool:
        """Whether no request would be let in, however short."""
        return self.requests + self.arriving >= self.max_requests or self._turns.is_full

    @property
    def reason(self) -> str:
        """Why, while it is full."""
        if self._turns.is_full:
            return "more requests waiting than it can answer in time"
        return f"{self.max_requests} requests in flight, as many as it takes"

    @contextmanager
    def admit(self, length: int) -> Iterator[None]:
        """Let a request of *length* bytes in until the block ends. Raises Overloaded.

        One that is longer than all bytes that may be in flight comes in when nothing else is.
        """
        if self.is_full:
            raise overloaded(self.reason)
        if self.bytes and self.bytes + length > self.max_bytes:
            raise overloaded(f"{self.bytes} bytes of requests in flight, as many as it takes")
        self.requests += 1
        self.bytes += length
        try:
            yield
        finally:
            self.requests -= 1
            self.bytes -= length

    @contextmanager
    def hold(self, length: int) -> Iterator[None]:
        """Count an answer of *length* bytes, too, until its caller has taken it."""
        self.bytes += length
        try:
            yield
        finally:
            self.bytes -= length


def overloaded(has: str) -> Overloaded:
    """What a caller is told. has: more than what."""
    return Overloaded(
        f"The gateway has {has}; try again in a second.", retry_after_s=_RETRY_AFTER_S
    )
