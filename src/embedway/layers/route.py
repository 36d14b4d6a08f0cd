"""A name or alias to the model's own stack, with every parameter made final.

Above the cache: an alias and its model share entries. Checks the dimensions and the input type,
and turns token ids into text for models that take text only.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from typing import NoReturn

import orjson

from embedway.catalog import Model
from embedway.directory import Directory
from embedway.errors import InvalidInput, InvalidRequest, SpaceMismatch, UnsupportedDimensions
from embedway.options import DIMENSIONS, INPUT_TYPES, take
from embedway.spaces import space_of
from embedway.tokens import decode_cl100k
from embedway.types import (
    Embedder,
    EmbedParams,
    EmbedRequest,
    EmbedResponse,
    Grant,
    Input,
    replace,
)

_PARAMS_KEPT = 256
"""How many combinations of parameters have their final form at hand: to make it takes longer than
to look up a vector."""
_OPTIONS_KEPT_BYTES = 1024
"""Longer options are made final anew each time, so that callers cannot fill the memory."""


@dataclass(frozen=True, eq=False)
class Route:
    """Hands each request to the stack of its model."""

    stacks: Mapping[str, Embedder]
    """Canonical name to stack; the names are those the directory calls served."""
    directory: Directory = field(repr=False)
    providers: Mapping[str, tuple[str, ...]] = field(repr=False)
    """Canonical name to the providers that serve the model; their options count."""
    takes_token_ids: frozenset[str] = frozenset()
    """Canonical names of the models whose every deployment takes cl100k ids."""
    _kept_final: Callable[[EmbedParams], EmbedParams] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_kept_final", lru_cache(_PARAMS_KEPT)(self._final))

    async def __call__(self, request: EmbedRequest, /) -> EmbedResponse:
        is_short = len(request.params.options) <= _OPTIONS_KEPT_BYTES
        params = (self._kept_final if is_short else self._final)(request.params)
        model, inputs = params.model, request.inputs
        if request.call.grant.space is not None:
            _check_space(request.call.grant, self.directory.look_up(model).model, params)
        if model not in self.takes_token_ids and not set(map(type, inputs)) <= {str}:
            # The vocabulary takes half a second to load at first use: never on the event loop.
            inputs = await asyncio.to_thread(_decode_all, inputs)
        return await self.stacks[model](replace(request, params=params, inputs=inputs))

    def _final(self, params: EmbedParams) -> EmbedParams:
        model = self.directory.look_up_served(params.model).model
        return _final_params(params, model, self.providers[model.id])


def _final_params(params: EmbedParams, model: Model, providers: tuple[str, ...]) -> EmbedParams:
    options = {
        name: fields
        for name, fields in (orjson.loads(params.options) if params.options else {}).items()
        if name in providers
    }
    # A provider's own field wins over the root one.
    dimensions = take(options, providers, DIMENSIONS) or params.dimensions
    input_type = params.input_type
    if model.input_types:
        input_type = take(options, providers, INPUT_TYPES) or input_type
    if dimensions is None:
        dimensions = model.dimensions.default
    elif not model.allows_dimensions(dimensions):
        raise UnsupportedDimensions(
            f"{model.id} gives vectors of {model.allowed_text} dimensions, not {dimensions}.",
            param="dimensions",
        )
    return replace(
        params,
        model=model.id,
        dimensions=dimensions,
        input_type=_final_input_type(input_type, model),
        options=orjson.dumps(options, option=orjson.OPT_SORT_KEYS)
        if any(options.values())
        else b"",
    )


def _check_space(grant: Grant, model: Model, params: EmbedParams) -> None:
    space = space_of(model, params)
    # A key that names no input type may embed both the queries and the documents of one index.
    if grant.space not in (str(space), str(replace(space, input_type=""))):
        raise SpaceMismatch(
            f"The key {grant.name!r} is pinned to the space {grant.space}, and this answer would "
            f"live in {space}. Vectors of two spaces cannot be compared.",
            param="model",
        )


def _final_input_type(input_type: str | None, model: Model) -> str | None:
    if input_type is None:
        return model.input_type_default
    if input_type in ("query", "document"):
        # A model without input types embeds both alike: the standard words are welcome there.
        return input_type if model.input_types else None
    for offer in model.offers:
        if offer.input_type is None or offer.input_type.value(input_type) is None:
            continue
        # The provider's own word for one of the two is that one: same vectors, same space.
        standard = {offer.input_type.document: "document", offer.input_type.query: "query"}
        return standard.get(input_type, input_type)
    raise InvalidRequest(
        f"input_type must be 'query' or 'document' for {model.id}, not {input_type!r}.",
        param="input_type",
    )


def _decode_all(inputs: tuple[Input, ...]) -> tuple[Input, ...]:
    texts = []
    for position, value in enumerate(inputs):
        if isinstance(value, str):
            texts.append(value)
            continue
        try:
            text = decode_cl100k(value)
        except ValueError as error:
            _refuse(position, str(error))
        texts.append(text or _refuse(position, "stands for an empty text"))
    return tuple(texts)


def _refuse(position: int, reason: str) -> NoReturn:
    raise InvalidInput(f"input[{position}] {reason}.", param=f"input[{position}]")
