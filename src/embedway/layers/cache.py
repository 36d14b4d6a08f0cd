"""Answer what is known, ask only for the rest, remember it.

Above `coalesce`: a hit never waits for anybody. Positions are the only identity of an input: each
answer is put where its question stood.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any, Protocol

from embedway.cache_key import CacheKeys, Scope, scope_of
from embedway.cached import Cached, CountCache, Key, Label
from embedway.catalog import Model
from embedway.clock import Clock
from embedway.errors import EmbedError, UnsupportedDimensions
from embedway.positions import placed
from embedway.types import (
    CACHED,
    Attempt,
    Embedder,
    Embedding,
    EmbedParams,
    EmbedRequest,
    EmbedResponse,
    replace,
)
from embedway.vectors import fault, truncate

_KEYS_KEPT = 256
"""How many combinations of parameters and scope have their keys' beginning at hand."""
_OPTIONS_KEPT_BYTES = 1024
"""Longer options are digested anew each time, so that callers cannot fill the memory."""


class Recent(Protocol):
    """The vectors in memory: answered at once. `purges`: how often something was purged."""

    purges: int

    def get_many(self, keys: Sequence[Key]) -> dict[Key, Cached]: ...

    def put_many(self, label: Label, entries: Iterable[tuple[Key, Cached]]) -> None: ...

    def add_many(self, label: Label, entries: Iterable[tuple[Key, Cached]]) -> None: ...


class VectorStore(Protocol):
    """The vectors elsewhere. A failure is a miss; to write never blocks and never fails."""

    async def get_many(self, label: Label, keys: Sequence[Key], /) -> Mapping[Key, Cached]: ...

    def put_many(self, label: Label, entries: Sequence[tuple[Key, Cached]], /) -> None: ...


@dataclass(frozen=True, eq=False)
class Cache:
    """Memory first, then *store*, then *inner*."""

    inner: Embedder
    model: Model = field(repr=False)
    recent: Recent
    store: VectorStore | None
    origins: Mapping[str, bytes] = field(repr=False)
    """Account to the digest of its deployment of the model: what others made is not known here."""
    allowed: Callable[[tuple[str, ...], EmbedParams], Sequence[str]] = field(repr=False)
    """The accounts that may be asked, of some (of all, if there are none): `Balance.allowed`."""
    scope: Scope
    clock: Clock = field(repr=False)
    count: CountCache = field(repr=False)
    _kept_keys: Callable[[EmbedParams, str], CacheKeys] = field(init=False, repr=False)
    _kept_origins: Callable[[tuple[str, ...], EmbedParams], frozenset[bytes]] = field(
        init=False, repr=False
    )
    _all_origins: frozenset[bytes] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        kept = lru_cache(_KEYS_KEPT)(self._make_keys)
        object.__setattr__(self, "_kept_keys", kept)
        object.__setattr__(self, "_kept_origins", lru_cache(_KEYS_KEPT)(self._find_origins))
        object.__setattr__(self, "_all_origins", frozenset(self.origins.values()))

    def __call__(self, request: EmbedRequest, /) -> Coroutine[Any, Any, EmbedResponse]:
        wanted, full = request.params.dimensions, self.model.dimensions.default
        if wanted is None or wanted >= full or not self.model.dimensions.cut:
            return self._answer(request)
        return self._answer_cut(request, wanted)

    async def _answer_cut(self, request: EmbedRequest, wanted: int) -> EmbedResponse:
        """One kept vector serves all widths, and however it is asked for, it has the same bits."""
        full = self.model.dimensions.default
        whole = replace(request, params=replace(request.params, dimensions=full))
        try:
            response = await self._answer(whole)
        except EmbedError as error:
            error.finished = {i: _cut(e, wanted) for i, e in error.finished.items()}
            raise
        embeddings = tuple(_cut(embedding, wanted) for embedding in response.embeddings)
        _refuse_zeros(embeddings, wanted, response.attempts)
        return replace(response, params=request.params, embeddings=embeddings)

    def _make_keys(self, params: EmbedParams, scope: str) -> CacheKeys:
        return CacheKeys(self.model, params, scope)

    def _keys(self, params: EmbedParams, scope: str) -> CacheKeys:
        is_short = len(params.options) <= _OPTIONS_KEPT_BYTES
        return (self._kept_keys if is_short else self._make_keys)(params, scope)

    async def _answer(self, request: EmbedRequest) -> EmbedResponse:
        call = request.call
        if call.cache == "skip" or (call.only and self.origins.keys().isdisjoint(call.only)):
            return await self.inner(request)  # nobody may serve it, also not from here: `balance`
        keys = self._keys(request.params, scope_of(call.grant, self.scope))
        wanted = [keys.of(value) for value in request.inputs]
        known: Mapping[Key, Cached] = {}
        if call.cache == "use":
            known = self._remembered(request, wanted)
            if self.store is not None and len(known) < len(wanted):
                known = await self._stored(self.store, request, keys.label, wanted, known)
        is_all_known = len(known) == len(wanted)
        missing = [] if is_all_known else [i for i, key in enumerate(wanted) if key not in known]
        self.count("hit", len(wanted) - len(missing))
        if not missing:
            return EmbedResponse(
                params=request.params, embeddings=tuple([_hit(known[key]) for key in wanted])
            )
        self.count("miss", len(missing))
        fresh = await self._ask(request, keys.label, wanted, missing)
        if len(missing) == len(wanted):
            return fresh
        made = iter(fresh.embeddings)
        return replace(
            fresh,
            embeddings=tuple(_hit(known[key]) if key in known else next(made) for key in wanted),
        )

    def _remembered(self, request: EmbedRequest, keys: Sequence[Key]) -> Mapping[Key, Cached]:
        allowed = self._allowed(request)
        known = self.recent.get_many(keys)
        if not allowed.issuperset([cached.origin for cached in known.values()]):
            known = {key: cached for key, cached in known.items() if cached.origin in allowed}
        return known

    async def _stored(
        self,
        store: VectorStore,
        request: EmbedRequest,
        label: Label,
        keys: Sequence[Key],
        known: Mapping[Key, Cached],
    ) -> Mapping[Key, Cached]:
        """*known*, and what *store* knows of the rest."""
        missing = [key for key in dict.fromkeys(keys) if key not in known]
        if not missing:
            return known
        purges, allowed = self.recent.purges, self._allowed(request)
        stored = await store.get_many(label, missing)
        found = [(key, one) for key, one in stored.items() if one.origin in allowed]
        # Somebody's question for the rest may have been answered meanwhile.
        rest = [key for key in missing if key not in stored]
        came = self._remembered(request, rest) if rest else {}
        if self.recent.purges == purges:  # else some of it may be what was purged
            self.recent.add_many(label, found)
        return {**known, **came, **dict(found)}

    def _allowed(self, request: EmbedRequest) -> frozenset[bytes]:
        """Whose vectors count. A word for the input type is read by one provider and not by
        another, and so are options: who does not read them makes other vectors."""
        if len(self._all_origins) == 1:
            return self._all_origins
        only, params = request.call.only, request.params
        is_short = len(params.options) <= _OPTIONS_KEPT_BYTES
        return (self._kept_origins if is_short else self._find_origins)(only, params)

    def _find_origins(self, only: tuple[str, ...], params: EmbedParams) -> frozenset[bytes]:
        asked, reading = self.allowed(only, params), self.allowed((), params)
        # All who read a word read it alike. What options mean is each provider's own affair, and
        # an account that was forced without knowing the word is alone with what it makes.
        is_alike = not params.options and set(asked) <= set(reading)
        return frozenset(self.origins[name] for name in (reading if is_alike else asked))

    async def _ask(
        self, request: EmbedRequest, label: Label, keys: Sequence[Key], missing: Sequence[int]
    ) -> EmbedResponse:
        rest = request
        if len(missing) < len(keys):
            rest = replace(request, inputs=tuple(request.inputs[i] for i in missing))
        try:
            fresh = await self.inner(rest)
        except EmbedError as error:
            self._keep(label, [(keys[missing[i]], e) for i, e in error.finished.items()])
            raise placed(error, missing) from None
        self._keep(label, [(keys[i], e) for i, e in zip(missing, fresh.embeddings, strict=True)])
        return fresh

    def _keep(self, label: Label, made: Sequence[tuple[Key, Embedding]]) -> None:
        now = int(self.clock.now())
        kept = {
            key: _cached(embedding, self.origins[embedding.source], now)
            for key, embedding in made
            if embedding.source in self.origins
        }
        if not kept:
            return
        entries = list(kept.items())
        self.count("stored", len(entries))
        self.recent.put_many(label, entries)
        if self.store is not None:
            self.store.put_many(label, entries)


def _hit(cached: Cached) -> Embedding:
    return Embedding(
        cached.vector, cached.tokens, CACHED, 0, cached.is_estimated, cached.is_truncated
    )


def _cached(embedding: Embedding, origin: bytes, now: int) -> Cached:
    return Cached(
        vector=embedding.vector,
        tokens=embedding.tokens,
        origin=origin,
        created_s=now,
        is_estimated=embedding.is_estimated,
        is_truncated=embedding.is_truncated,
    )


def _cut(embedding: Embedding, dimensions: int) -> Embedding:
    return replace(embedding, vector=truncate(embedding.vector, dimensions))


def _refuse_zeros(
    embeddings: Sequence[Embedding], dimensions: int, attempts: tuple[Attempt, ...]
) -> None:
    """What was cut off may have been all there was."""
    for position, embedding in enumerate(embeddings):
        if fault(embedding.vector, dimensions):
            error = UnsupportedDimensions(
                f"input[{position}] has no vector of {dimensions} dimensions: the first "
                f"{dimensions} numbers of its vector are all zero. Ask for more dimensions.",
                param="dimensions",
            )
            error.attempts = attempts
            raise error
