"""What a provider is: three pure functions and a few numbers. It never touches a socket."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Protocol

from msgspec import Struct

from embedway.catalog import InputTypeField, Normalised
from embedway.errors import UpstreamError
from embedway.secret import Secret
from embedway.types import Embedding, EmbedRequest


class HttpRequest(Struct, frozen=True, gc=False):
    """One request to an upstream, ready to be sent."""

    method: str
    url: str
    headers: Mapping[str, str]
    body: bytes
    is_private: bool = False
    """Whether the operator allows plain http and private addresses for this account."""


class HttpResponse(Struct, frozen=True, gc=False):
    """What came back, read whole. Header names are lower-case."""

    status: int
    headers: Mapping[str, str]
    body: bytes


class Send(Protocol):
    """The transport: sends a request, reads the answer whole.

    timeout_s: for connecting, sending and reading together.
    max_bytes: the longest body accepted.
    Raises TransportError, and nothing else but cancellation.
    """

    async def __call__(
        self, request: HttpRequest, /, *, timeout_s: float, max_bytes: int
    ) -> HttpResponse: ...


class TransportError(Exception):
    """No answer, or no whole one. `was_sent` says whether the provider may have seen the request.

    reason: in our own words, without URL, headers or anything the other side sent.
    """

    def __init__(self, reason: str, *, was_sent: bool, is_timeout: bool = False) -> None:
        super().__init__(reason)
        self.reason = reason
        self.was_sent = was_sent
        self.is_timeout = is_timeout


class AccessKey(Struct, frozen=True, kw_only=True):
    """What AWS signs requests with."""

    id: str
    secret: Secret
    session_token: Secret | None = None


class Deployment(Struct, frozen=True, kw_only=True):
    """One account at a provider that serves a model."""

    name: str
    """The account's name; what `provider`, `only` and `order` in requests mean."""
    model: str
    """Canonical, `creator/model`."""
    upstream_model: str
    """What the account calls it."""
    dimensions: int
    """The model's full width."""
    price: int
    """Picodollars per token."""
    price_per_character: int = 0
    """Picodollars per character, for the few that bill so."""
    base_url: str
    credential: Secret | None = None
    takes_dimensions: bool = False
    """Whether the provider has a field for shorter vectors of this model."""
    max_inputs: int = 2048
    """Most inputs in one upstream request."""
    max_request_tokens: int | None = None
    """Most tokens of all inputs of one upstream request together."""
    concurrency: int = 64
    """Most upstream requests at a time."""
    requests_per_minute: int | None = None
    tokens_per_minute: int | None = None
    tokenizer: str | None = None
    """The model's, as the catalogue names it: with it tokens are counted that nobody reports."""
    input_type: InputTypeField | None = None
    """How this provider is told whether a text is a query or a document."""
    normalised: Normalised = "always"
    """Which of its vectors have length 1 as they come."""
    region: str = ""
    project: str = ""
    location: str = ""
    api_version: str = ""
    access_key: AccessKey | None = None
    is_private: bool = False

    def native_input_type(self, request: EmbedRequest) -> str | None:
        """The provider's own word for the request's input type; None where none is to be sent."""
        if self.input_type is None or request.params.input_type is None:
            return None
        return self.input_type.value(request.params.input_type)

    def asked_width(self, request: EmbedRequest) -> int:
        """The width of the vectors that come: shorter ones are cut here where the provider has no
        field for them."""
        wanted = request.params.dimensions
        return wanted if self.takes_dimensions and wanted else self.dimensions

    def must_normalise(self, width: int) -> bool:
        """Whether vectors of that width do not come with length 1 from here."""
        if self.normalised == "only_full":
            return width != self.dimensions
        return self.normalised == "never"

    def native_dimensions(self, request: EmbedRequest) -> int | None:
        """What to ask for in the provider's dimensions field; None for the full width."""
        wanted = request.params.dimensions
        return wanted if self.takes_dimensions and wanted != self.dimensions else None


class Introduction(Struct, frozen=True, kw_only=True):
    """What a server says of the one model it serves."""

    model: str
    max_inputs: int
    max_input_tokens: int


class Provider(Struct, frozen=True, kw_only=True):
    """Three pure functions and a few limits."""

    name: str
    build: Callable[[EmbedRequest, Deployment], HttpRequest]
    parse: Callable[[EmbedRequest, Deployment, HttpResponse], tuple[Embedding, ...]]
    """Raises ValueError if the body is not what the provider's documentation says, or
    RecursionError if it is nested too deeply."""
    explain: Callable[[Deployment, HttpResponse], UpstreamError]
    base_url: str | None
    """The provider's own, with `{region}` or `{location}` in it where the account says that; None
    where every account has its own."""
    sign: Callable[[HttpRequest, Deployment, float], HttpRequest] | None = None
    """Signs a built request at a time (seconds since 1970), where a header is not enough."""
    ask_introduction: Callable[[Deployment], HttpRequest] | None = None
    """Asks a server which model it serves, where it can tell; the deployment knows only how to
    reach it."""
    read_introduction: Callable[[HttpResponse], Introduction] | None = None
    """Raises ValueError on an unsound body."""
    source: str
    """The page of the provider's documentation, with the date it was read."""
