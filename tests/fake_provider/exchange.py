"""What a shape works with: a request, what it asks for, what is answered, and refusals.

A shape is how one provider reads requests and writes answers. Between the two stand the items,
one for each text, so that a fault can spoil them for all shapes alike.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NoReturn, Protocol
from urllib.parse import parse_qsl

import orjson

KEY = "fake-key-0123456789"
"""The credential that every shape accepts, and no other."""


MAX_TOKENS = 8192
"""What every model takes of one text, by the fake's own count."""


class NotGiven:
    """A field that an answer leaves out; None would be written as null."""

    def __repr__(self) -> str:
        return "not given"


NOT_GIVEN = NotGiven()


@dataclass(frozen=True)
class Request:
    """A request as it stood on the wire."""

    method: str
    provider: str
    """The first part of the path: which of the providers is meant."""
    path: str
    """The rest, percent-encoded as it came, without the query."""
    query: Sequence[tuple[str, str]]
    headers: Mapping[str, str]
    """Names in lower case."""
    body: bytes
    target: str = ""
    """The whole path and query as they came."""

    @classmethod
    def of(cls, method: str, target: str, headers: Mapping[str, str], body: bytes) -> Request:
        """The request for *target*, a path with its query."""
        path, _, query = target.partition("?")
        _, provider, rest = f"{path}//".split("/", 2)
        pairs = parse_qsl(query, keep_blank_values=True)
        return cls(method, provider, f"/{rest.rstrip('/')}", pairs, headers, body, target)

    def json(self) -> Any:
        """The body's value."""
        return orjson.loads(self.body)


@dataclass(frozen=True)
class Asked:
    """What a request asks for, in the provider's own words."""

    model: str
    texts: Sequence[str | tuple[int, ...]]
    dimensions: int
    task: str = ""
    is_base64: bool = False
    length: float = 1.0
    """The L2 norm of the vectors that this provider gives here."""
    extra_tokens: int = 0
    """Counted for each text beside its own."""
    too_long: str | None = None
    """With which words a text over MAX_TOKENS is refused; None: it is cut."""
    too_long_status: int = 400


@dataclass
class Item:
    """What is answered to one text; faults change it."""

    index: Any
    vector: Any
    """Bytes of float32; or, when a fault put it there, a value to be written as it is."""
    tokens: Any
    is_cut: bool = False
    """Whether the text was cut; few providers say so."""


@dataclass(frozen=True)
class Answer:
    """An answer, ready to be sent."""

    status: int
    headers: Mapping[str, str]
    body: bytes
    is_chunked: bool = False


@dataclass(eq=False)
class Refused(Exception):
    """The request is not what the real service would take; or a fault says so."""

    status: int
    message: str
    code: str = ""
    retry_after_s: float | None = None
    details: Mapping[str, Any] = field(default_factory=dict)


@dataclass(eq=False)
class Told(Exception):
    """The request asks for something else than vectors, and this is it."""

    answer: Answer


class Shape(Protocol):
    """One provider's way to read and to write."""

    @property
    def name(self) -> str:
        """As the gateway calls the provider."""
        ...

    @property
    def has_index(self) -> bool:
        """Whether vectors carry their positions."""
        ...

    def read(self, request: Request) -> Asked:
        """What is asked for. Raises Refused as the service would, or Told."""
        ...

    def write(self, asked: Asked, items: Sequence[Item], tokens: Any) -> Answer:
        """The answer; *tokens* is the count over all items, or NOT_GIVEN."""
        ...

    def refuse(self, refused: Refused) -> Answer:
        """The refusal in the provider's form."""
        ...


def refuse(status: int, message: str, code: str = "") -> NoReturn:
    """Raise Refused."""
    raise Refused(status, message, code)
