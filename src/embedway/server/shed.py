"""What the process takes at once: requests and bytes in flight. What is more is refused at once,
so that what was taken goes on as fast as ever."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from embedway.errors import Overloaded

_RETRY_AFTER_S = 1.0


class Shed:
    """Counts what is in flight. For one event loop."""

    def __init__(self, *, max_requests: int, max_bytes: int) -> None:
        self.max_requests = max_requests
        self.max_bytes = max_bytes
        self.requests = 0
        self.bytes = 0

    @contextmanager
    def admit(self, length: int) -> Iterator[None]:
        """Let a request of *length* bytes in until the block ends. Raises Overloaded.

        One that is longer than all bytes that may be in flight comes in when nothing else is.
        """
        if self.requests >= self.max_requests:
            raise _full(f"{self.requests} requests")
        if self.bytes and self.bytes + length > self.max_bytes:
            raise _full(f"{self.bytes} bytes of requests")
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


def _full(of_what: str) -> Overloaded:
    return Overloaded(
        f"The gateway has {of_what} in flight, as many as it takes; try again in a second.",
        retry_after_s=_RETRY_AFTER_S,
    )
