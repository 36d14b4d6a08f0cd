"""The nouns that every layer speaks: what is asked, for whom, and what comes back.

Everything that can answer an embedding request is an `Embedder`. Data is frozen; a layer that
wants to change a request makes a new one with `replace`. None can be part of a cycle, so the
garbage collector is told not to look at them (`gc=False`).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal, Protocol

from msgspec import Struct
from msgspec.structs import replace

from embedway.secret import Secret

__all__ = [
    "CACHED",
    "NO_RATES",
    "Attempt",
    "CacheMode",
    "Call",
    "EmbedParams",
    "EmbedRequest",
    "EmbedResponse",
    "Embedder",
    "Embedding",
    "Grant",
    "Input",
    "Plan",
    "Rates",
    "Space",
    "Told",
    "Vector",
    "replace",
]

Input = str | tuple[int, ...]
"""One text, or one list of cl100k token ids (OpenAI's API allows both)."""

Vector = bytes
"""Little-endian float32 numbers: `len(vector) == 4 * dimensions`."""

CacheMode = Literal["use", "skip", "refresh"]

CACHED = "cache"
"""The source of an embedding that was known before."""


class EmbedParams(Struct, frozen=True, gc=False, kw_only=True):
    """All that decides a vector besides the text: same params and text, same vector.

    `model` is the name the caller used until `layers/route.py` makes it canonical and fills in
    `dimensions` and `input_type`; below that layer all fields are final.
    """

    model: str
    dimensions: int | None = None
    input_type: str | None = None
    options: bytes = b""
    """Options of the providers, canonical JSON (sorted keys), empty for none."""


class Rates(Struct, frozen=True, gc=False, kw_only=True):
    """How fast a key may ask; None: as fast as it likes."""

    requests_per_minute: int | None = None
    tokens_per_minute: int | None = None
    concurrency: int | None = None
    """Requests at a time."""


NO_RATES = Rates()


class Grant(Struct, frozen=True, gc=False, kw_only=True):
    """What the caller's key allows. The open server gives every caller `Grant.open()`."""

    key_id: str
    name: str
    is_admin: bool = False
    models: tuple[str, ...] | None = None
    """Names or aliases this key may ask for; None allows all."""
    project: str = "default"
    """Whose the key is: the keys of one project share what the cache knows."""
    allows_fallbacks: bool = True
    space: str | None = None
    """The only vector space whose vectors this key gets; None: any."""
    providers: tuple[str, ...] | None = None
    """Accounts that may serve this key; None allows all."""
    rates: Rates = NO_RATES
    ips: tuple[str, ...] | None = None
    """Networks it may be used from; None allows all."""
    expires_ms: int | None = None
    """Until when it works, in milliseconds since 1970."""

    @classmethod
    def open(cls) -> Grant:
        """The grant of a loopback caller on a server without keys."""
        return cls(key_id="open", name="loopback", is_admin=True)


class Call(Struct, frozen=True, gc=False, kw_only=True):
    """On whose behalf, until when, and how; never changes a vector."""

    id: str
    """A ULID, without prefix. `req_` and `gen_` are put before it where callers see it."""
    grant: Grant
    deadline: float
    """Seconds on the monotonic clock."""
    cache: CacheMode = "use"
    retries: int = 2
    """Attempts beside the first, over all deployments of the model."""
    avoid: tuple[str, ...] = ()
    """Accounts that have just failed this call: others are asked first."""
    share: float = 1.0
    """How much of the time that is left one account may take; the rest is for another one."""
    fallbacks: tuple[str, ...] = ()
    """Other models, tried in order. Their vectors live in other spaces."""
    only: tuple[str, ...] = ()
    """Accounts that may serve this call; empty allows all."""
    order: tuple[str, ...] = ()
    """Accounts to be tried first, in this order."""
    sort: Literal["cost", "latency"] | None = None
    user: str | None = None
    tags: tuple[str, ...] = ()
    trace: str | None = None
    """The caller's own trace id, kept in the ledger."""
    app: str | None = None
    """The application that calls, as it names itself, kept in the ledger."""
    credentials: Mapping[str, Secret] = {}
    """The caller's own credentials by provider (`byok`): for this call, never stored."""

    @property
    def terms(self) -> tuple[object, ...]:
        """What decides who is asked, and under whose name: only calls of equal terms may share an
        upstream request. Nobody shares one that goes out under a caller's own credential."""
        own = self.id if self.credentials else None
        return (self.only, self.order, self.sort, self.user, own)


class EmbedRequest(Struct, frozen=True, gc=False, kw_only=True):
    """At least one input, with what decides its vector and on whose behalf it is asked."""

    params: EmbedParams
    inputs: tuple[Input, ...]
    call: Call


class Embedding(Struct, frozen=True, gc=False):
    """The vector of one input, with what it cost.

    `tokens` are the model's own, `cost` is in picodollars (10^-12 USD) and is 0 for a cached
    vector and for the local model. `source` is the deployment that made it, or "cache".
    """

    vector: Vector
    tokens: int
    source: str
    cost: int = 0
    is_estimated: bool = False
    """Whether `tokens` is our estimate because the provider reported none."""
    is_truncated: bool = False
    """Whether the input was cut, by the provider or, where the operator wants it so, here."""
    is_averaged: bool = False
    """Whether the vector is the mean of the input's pieces, since it was too long for one."""


class Told(Struct, frozen=True, gc=False):
    """What a provider's headers say of the account's own limits."""

    wait_s: float | None = None
    """How long it takes nothing more; None: it does."""
    requests: int | None = None
    """How many more it takes now."""
    tokens: int | None = None


class Attempt(Struct, frozen=True, gc=False, kw_only=True):
    """One try at one deployment, for the routing blocks of the response and the books."""

    model: str
    provider: str
    """The account; empty where the model was passed over and none was asked."""
    upstream_model: str
    started_ms: int
    """Milliseconds since 1970, UTC."""
    ended_ms: int
    is_success: bool
    status: int | None = None
    """The HTTP status the provider answered with, if it answered."""
    error: str | None = None
    told: Told | None = None
    credential_type: Literal["system", "byok"] = "system"


class Plan(Struct, frozen=True, gc=False):
    """Who could serve a request, for the routing blocks."""

    asked: str
    """The model's name as the caller wrote it."""
    model: str
    """Its canonical name, or that of the fallback that served."""
    accounts: tuple[str, ...]
    """In the order they were asked, or would have been."""
    reasoning: str


class EmbedResponse(Struct, frozen=True, gc=False, kw_only=True):
    """One response, one model: its vectors may be compared with each other."""

    params: EmbedParams
    """Those truly used, after routing and fallback."""
    embeddings: tuple[Embedding, ...]
    """In the order of the inputs, one each."""
    attempts: tuple[Attempt, ...] = ()


class Embedder(Protocol):
    """An async callable from request to response.

    Raises only `EmbedError` (and cancellation): whatever else goes wrong below is a bug.
    """

    async def __call__(self, request: EmbedRequest, /) -> EmbedResponse: ...


class Space(Struct, frozen=True):
    """The vector space: two vectors may be compared only if their spaces are equal."""

    model: str
    dimensions: int
    revision: str = ""
    input_type: str = ""
    """Set only for models whose vectors depend on it."""

    def __str__(self) -> str:
        revision = f"#{self.revision}" if self.revision else ""
        input_type = f"+{self.input_type}" if self.input_type else ""
        return f"{self.model}{revision}@{self.dimensions}{input_type}"
