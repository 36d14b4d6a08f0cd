"""Provider and transport together make an Embedder.

Does for every provider what each would otherwise forget: sends to the account's own origin and
nowhere else, explains whatever is not 2xx, refuses an answer that would give a wrong vector, cuts
and normalises where the provider does not.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field

from embedway.clock import Clock
from embedway.errors import (
    DeadlineExceeded,
    MalformedResponse,
    UpstreamError,
    UpstreamTimeout,
    UpstreamUnavailable,
)
from embedway.provider import (
    AccessKey,
    Deployment,
    HttpRequest,
    HttpResponse,
    Provider,
    Send,
    TransportError,
)
from embedway.redaction import without_texts
from embedway.replies import read_told
from embedway.secret import Secret
from embedway.types import Attempt, Embedding, EmbedRequest, EmbedResponse, Input, Told, replace
from embedway.vectors import fault, truncate

# A number in JSON takes at most 25 bytes with its comma; base64 takes 5.4. Some providers echo the
# texts, where a character takes at most 12 bytes. An answer that is longer than all this is none.
_BYTES_PER_NUMBER = 25
_BYTES_PER_CHARACTER = 12
_BYTES_BESIDE = 65_536

_TO_TELL_S = 0.03
_TO_TELL = 0.02
"""A provider's time is over so long, and such a part of it, before the caller's: else nobody would
learn whose silence it was."""

_WORTH_LEAVING_S = 0.1
"""With less than that left for another account nobody else would be asked: twice what `retry` holds
for the least, since some of it passes until then."""

Renewed = Callable[[], Awaitable[Secret | AccessKey]]
"""Finds the access token or key that is valid now. Raises UpstreamError."""


@dataclass(frozen=True, eq=False)
class Upstream:
    """One deployment of a provider."""

    provider: Provider
    deployment: Deployment
    send: Send = field(repr=False)
    clock: Clock = field(repr=False)
    renewed: Renewed | None = field(repr=False, default=None)
    """Where the account's credential must be fetched and renewed."""

    async def __call__(self, request: EmbedRequest, /) -> EmbedResponse:
        started_ms = int(self.clock.now() * 1000)
        told: Told | None = None
        try:
            deployment = await self._deployment_for(request)
            response = await self._exchange(request, deployment)
            told = read_told(response.headers)
            if not 200 <= response.status < 300:
                raise self._explain(deployment, response)
            embeddings = self._read(request, deployment, response)
        except UpstreamError as error:
            _hide_texts(error, request)
            attempt = self._attempt(request, started_ms, error.upstream_status, error, told)
            error.attempts += (attempt,)
            raise
        attempt = self._attempt(request, started_ms, response.status, None, told)
        return EmbedResponse(params=request.params, embeddings=embeddings, attempts=(attempt,))

    async def _deployment_for(self, request: EmbedRequest) -> Deployment:
        """The deployment with the credential to use. With the caller's own the provider bills
        him, and the call costs nothing here."""
        credential = request.call.credentials.get(self.provider.name)
        if credential is not None:
            return replace(
                self.deployment,
                credential=credential,
                access_key=None,
                price=0,
                price_per_character=0,
            )
        if self.renewed is None:
            return self.deployment
        try:
            found = await self.renewed()
        except UpstreamError as error:
            error.was_sent = False
            raise
        if isinstance(found, AccessKey):
            return replace(self.deployment, access_key=found)
        return replace(self.deployment, credential=found)

    async def _exchange(self, request: EmbedRequest, deployment: Deployment) -> HttpResponse:
        remaining = request.call.deadline - self.clock.monotonic()
        if remaining <= 0:
            raise DeadlineExceeded("The request's time was over before a provider was asked.")
        try:
            response = await self.send(
                self._build(request, deployment),
                timeout_s=_time_for_answer(remaining, request.call.share),
                max_bytes=_longest_answer(request.inputs, deployment.asked_width(request)),
            )
        except TransportError as error:
            kind: Callable[..., UpstreamError] = (
                UpstreamTimeout if error.is_timeout else UpstreamUnavailable
            )
            failed = kind(f"{deployment.name}: {error.reason}", provider=deployment.name)
            failed.was_sent = error.was_sent
            raise failed from None
        except asyncio.CancelledError:
            if _is_ours():
                raise
            # Nobody has cancelled the call: it broke below, and that must not end the caller.
            raise UpstreamUnavailable(
                f"{deployment.name}: the call was broken off", provider=deployment.name
            ) from None
        return response

    def _explain(self, deployment: Deployment, response: HttpResponse) -> UpstreamError:
        try:
            return self.provider.explain(deployment, response)
        except RecursionError:  # a bomb of brackets: the status must do without words
            return self.provider.explain(deployment, replace(response, body=b""))

    def _build(self, request: EmbedRequest, deployment: Deployment) -> HttpRequest:
        built = self.provider.build(request, deployment)
        if not built.url.startswith(f"{deployment.base_url}/"):
            # A credential goes to its own origin only; a URL of another is a bug of the adapter.
            raise RuntimeError(f"{self.provider.name} built a URL outside its base URL")
        if self.provider.sign is not None and deployment.access_key is not None:
            built = self.provider.sign(built, deployment, self.clock.now())
        return replace(built, is_private=deployment.is_private)

    def _read(
        self, request: EmbedRequest, deployment: Deployment, response: HttpResponse
    ) -> tuple[Embedding, ...]:
        try:
            embeddings = self.provider.parse(request, deployment, response)
        except (ValueError, RecursionError) as error:  # msgspec's and base64's are ValueErrors
            raise self._refusal(response, f"cannot be read: {error}") from None
        if len(embeddings) != len(request.inputs):
            raise self._refusal(
                response, f"has {len(embeddings)} vectors for {len(request.inputs)} inputs"
            )
        width = deployment.asked_width(request)
        self._refuse_faults(response, embeddings, width)
        wanted = request.params.dimensions or width
        if wanted == width and not deployment.must_normalise(width):
            return embeddings
        cut = tuple(replace(e, vector=truncate(e.vector, wanted)) for e in embeddings)
        self._refuse_faults(response, cut, wanted)  # what was cut off may have been all there was
        return cut

    def _refuse_faults(
        self, response: HttpResponse, embeddings: tuple[Embedding, ...], width: int
    ) -> None:
        for position, embedding in enumerate(embeddings):
            if wrong := fault(embedding.vector, width):
                raise self._refusal(response, f"is wrong: vector {position} {wrong}")

    def _refusal(self, response: HttpResponse, what: str) -> MalformedResponse:
        name = self.deployment.name
        return MalformedResponse(
            f"The answer of {name} {what}; it was refused rather than passed on.",
            provider=name,
            upstream_status=response.status,
        )

    def _attempt(
        self,
        request: EmbedRequest,
        started_ms: int,
        status: int | None,
        error: UpstreamError | None,
        told: Told | None,
    ) -> Attempt:
        is_byok = self.provider.name in request.call.credentials
        return Attempt(
            model=self.deployment.model,
            provider=self.deployment.name,
            upstream_model=self.deployment.upstream_model,
            started_ms=started_ms,
            ended_ms=int(self.clock.now() * 1000),
            is_success=error is None,
            status=status,
            error=error.code if error else None,
            told=told,
            credential_type="byok" if is_byok else "system",
        )


def _hide_texts(error: UpstreamError, request: EmbedRequest) -> None:
    """Texts of several callers may be in the request, and each of them is told of its failure."""
    texts = [value for value in request.inputs if isinstance(value, str)]
    texts.append(request.call.user or "")
    error.message = without_texts(error.message, texts)
    error.args = (error.message,)


def _is_ours() -> bool:
    """Whether this task was cancelled, rather than something that it waits for."""
    task = asyncio.current_task()
    return task is None or bool(task.cancelling())


def _time_for_answer(remaining_s: float, share: float) -> float:
    if remaining_s * (1 - share) <= _WORTH_LEAVING_S:
        share = 1.0
    return min(remaining_s * share, remaining_s - min(_TO_TELL_S, remaining_s * _TO_TELL))


def _longest_answer(inputs: Sequence[Input], width: int) -> int:
    """Bytes of the longest answer worth reading."""
    characters = sum(len(value) for value in inputs)
    return (
        len(inputs) * width * _BYTES_PER_NUMBER + characters * _BYTES_PER_CHARACTER + _BYTES_BESIDE
    )
