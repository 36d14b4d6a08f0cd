"""What goes in and out of a route, free of any web framework."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

from msgspec import Struct

from embedway.errors import EmbedError
from embedway.types import Grant

Headers = tuple[tuple[bytes, bytes], ...]

JSON = (b"content-type", b"application/json")


class Incoming(Struct, frozen=True, gc=False, kw_only=True):
    """One request. Header names are lower-case; of a repeated header the last value counts."""

    method: str
    path: str
    headers: Mapping[bytes, bytes]
    body: bytes = b""
    peer: str | None = None
    """The address of whoever connected."""
    credentials: int = 0
    """How many `Authorization` headers came."""
    waited_s: float = 0.0
    """How long it waited here for its turn: part of the time that its caller gives it."""

    def header(self, name: bytes) -> str:
        """The header as text, empty if it is missing. Latin-1, as HTTP has it."""
        value = self.headers.get(name)
        return value.decode("latin-1") if value else ""


class Outgoing(Struct, frozen=True, gc=False):
    """One answer."""

    status: int
    headers: Headers
    body: bytes


class Hot(Protocol):
    """A route that takes a body, without any web framework. `id` is the request's ULID."""

    async def handle(self, incoming: Incoming, grant: Grant, id: str) -> Outgoing:
        """Answer a request of a caller who may come in. Raises EmbedError."""
        ...

    def explain(self, error: EmbedError, incoming: Incoming, id: str) -> Outgoing:
        """The answer to a request that failed, in the route's own protocol."""
        ...


def read_head(scope: Mapping[str, Any]) -> Incoming:
    """The request of an ASGI scope, without its body."""
    headers = scope["headers"]
    client = scope.get("client")
    return Incoming(
        method=scope["method"],
        path=scope["path"],
        headers=dict(headers),
        peer=client[0] if client else None,
        credentials=sum(name == b"authorization" for name, _ in headers),
    )
