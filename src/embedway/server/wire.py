"""The body of `POST /v1/embeddings` to a request: one typed decode and the checks it leaves.

Unknown fields are refused at any depth; `null` counts as absent.
"""

from __future__ import annotations

import difflib
import re
from typing import Annotated, Any, Literal, NoReturn

import msgspec
from msgspec import Meta, Struct

from embedway.errors import EmbedError, InvalidInput, InvalidRequest
from embedway.server.doubles import refuse_doubles
from embedway.types import Input

MAX_INPUTS = 2048
"""OpenAI's own limit, which the official clients split by."""


def _is(description: str) -> Meta:
    return Meta(description=description)


Name = Annotated[str, Meta(min_length=1, max_length=256)]
Names = tuple[Name, ...]
Tag = Annotated[str, Meta(min_length=1, max_length=64)]
User = Annotated[str, Meta(max_length=256)]
Width = Annotated[int, Meta(ge=1)]


class GatewayOptions(Struct, frozen=True, forbid_unknown_fields=True):
    """Routing, user and tags of one request."""

    order: Annotated[Names | None, _is("Accounts to try first, in this order.")] = None
    only: Annotated[Names | None, _is("Accounts that may serve the request, no others.")] = None
    sort: Annotated[Literal["cost", "latency"] | None, _is("How to rank the accounts.")] = None
    models: Annotated[Names | None, _is("The same as gateflow.fallbacks.")] = None
    user: Annotated[User | None, _is("Who asks; wins over the root field.")] = None
    tags: Annotated[
        Annotated[tuple[Tag, ...], Meta(max_length=10)] | None, _is("For the books.")
    ] = None
    byok: Annotated[
        dict[str, Any] | None,
        _is("The caller's own credentials by provider: for this request, never kept."),
    ] = None


class GateflowOptions(Struct, frozen=True, forbid_unknown_fields=True):
    """Cache and fallbacks of one request."""

    cache: Annotated[
        Literal["skip", "refresh"] | None,
        _is("skip: neither read nor write the cache. refresh: ask the provider and keep."),
    ] = None
    fallbacks: Annotated[
        Names | None,
        _is("Other models, tried in order. Their vectors live in other spaces."),
    ] = None


class EmbeddingsBody(Struct, frozen=True, forbid_unknown_fields=True):
    """The body of `POST /v1/embeddings`. A field that is null counts as absent."""

    model: Annotated[Name, _is("creator/model, a bare name, or an alias of this gateway.")]
    input: Annotated[
        str | list[str | int | list[int]],
        _is("A text, 1 to 2,048 texts, the cl100k token ids of one text, or lists of them."),
    ]
    encoding_format: Annotated[
        Literal["float", "base64"] | None,
        _is("float (default), or base64 of little-endian float32: the same bits, faster."),
    ] = None
    dimensions: Annotated[
        Width | None, _is("Length of the vectors; GET /v1/models says what a model allows.")
    ] = None
    user: Annotated[User | None, _is("Who asks, for the books.")] = None
    input_type: Annotated[
        Name | None, _is("query, document (default), or a provider's own word.")
    ] = None
    provider: Annotated[
        Name | GatewayOptions | None,
        _is("A provider that must serve, or an object like providerOptions.gateway."),
    ] = None
    providerOptions: Annotated[
        dict[str, Any] | None, _is("Routing under gateway, and options by provider.")
    ] = None
    gateflow: GateflowOptions | None = None


_decode = msgspec.json.Decoder(EmbeddingsBody).decode
_SURROGATE = re.compile(rb"\\u[dD][89a-fA-F]")


def decode_body(body: bytes) -> EmbeddingsBody:
    """The typed body. Raises InvalidRequest naming the field that is wrong."""
    try:
        decoded = _decode(body)
    except (ValueError, RecursionError) as error:
        refuse(error, body, EmbeddingsBody)
    refuse_doubles(body, decoded)
    return decoded


def decode_options(value: Any, at: str) -> GatewayOptions:
    """`providerOptions.gateway`, which the typed decode left as it was."""
    try:
        return msgspec.convert(value, GatewayOptions)
    except msgspec.ValidationError as error:
        raise _explain(str(error), GatewayOptions, at) from None


def check_inputs(value: str | list[Any]) -> tuple[Input, ...]:
    """One to 2,048 inputs of one kind, none empty. Raises InvalidInput naming the bad one."""
    if isinstance(value, str):
        inputs: tuple[Input, ...] = (value,)
    elif not value:
        raise InvalidInput("input is an empty list; send at least one text.", param="input")
    elif len(kinds := set(map(type, value))) > 1:
        first = type(value[0])
        position = next(i for i, item in enumerate(value) if type(item) is not first)
        raise InvalidInput(
            f"input mixes texts, token ids or lists of them: input[{position}] is of another "
            "kind than input[0]. Send one kind.",
            param=f"input[{position}]",
        )
    elif kinds == {int}:
        inputs = (tuple(value),)
    else:
        inputs = tuple(value) if kinds == {str} else tuple(map(tuple, value))
    if len(inputs) > MAX_INPUTS:
        raise InvalidInput(
            f"input has {len(inputs)} items, but at most {MAX_INPUTS} are allowed. "
            "Send them in several requests.",
            param=f"input[{MAX_INPUTS}]",
        )
    _refuse_empty(inputs)
    return inputs


def _refuse_empty(inputs: tuple[Input, ...]) -> None:
    for empty, what in (("", "an empty text"), ((), "an empty list of token ids")):
        if empty in inputs:
            position = inputs.index(empty)
            raise InvalidInput(
                f"input[{position}] is {what}; leave it out or give it content.",
                param=f"input[{position}]",
            )
    for position, item in enumerate(inputs):
        if isinstance(item, str):
            return
        if not 0 <= min(item) <= max(item) < 2**31:
            raise InvalidInput(
                f"input[{position}] holds a number that is no token id.", param=f"input[{position}]"
            )


def refuse(error: Exception, body: bytes, kind: type[Struct]) -> NoReturn:
    """Raise the InvalidRequest that a failed decode stands for."""
    if isinstance(error, msgspec.ValidationError):
        raise _explain(str(error), kind) from None
    if isinstance(error, RecursionError):
        raise InvalidRequest("The body is nested too deeply; no field needs that.") from None
    if not body.strip():
        raise InvalidRequest("The body is empty; send a JSON object.") from None
    if body.startswith(b"\xef\xbb\xbf"):
        raise InvalidRequest(
            "The body starts with a byte order mark; send JSON as UTF-8 without one."
        ) from None
    if isinstance(error, UnicodeDecodeError) or body[:2] in (b"\xff\xfe", b"\xfe\xff"):
        raise InvalidRequest("The body is not UTF-8; send JSON encoded as UTF-8.") from None
    if _SURROGATE.search(body):
        # One without its other half is no character, and msgspec takes it for a cut-off body.
        raise InvalidRequest(
            "The body is not valid JSON, or a text in it holds half of a surrogate pair, which no "
            f"UTF-8 can say: {error}."
        ) from None
    raise InvalidRequest(f"The body is not valid JSON: {error}.") from None


def _explain(message: str, kind: type[Struct], at: str = "") -> EmbedError:
    """msgspec's message as ours: the field is named first, the path is the caller's."""
    text, _, path = message.partition(" - at `$")
    path = f"{at}{path}".strip("`.")
    if missing := re.search(r"missing required field `([^`]+)`", text):
        param = f"{path}.{missing[1]}".lstrip(".")
        return InvalidRequest(f"The field {param} is missing; it is required.", param=param)
    if unknown := re.search(r"unknown field `([^`]*)`", text):
        param = f"{path}.{unknown[1]}".lstrip(".")[:200]
        close = difflib.get_close_matches(unknown[1][:100], kind.__struct_fields__, 1)
        hint = f" Did you mean {close[0]}?" if close and not path else " Leave it out."
        return InvalidRequest(f"Unknown field {param}.{hint}", param=param)
    text = f"{text[:1].lower()}{text[1:]}".replace("`", "")[:300]
    if match := re.match(r"(?:input|values)\b(?:\[\d+\])?", path):
        param = match[0]
        return InvalidInput(
            f"{path} is wrong: {text}. Send a text, a list of texts, or lists of token ids.",
            param=param,
        )
    if not path:
        return InvalidRequest(f"The body is wrong: {text}. Send a JSON object.")
    return InvalidRequest(f"{path} is wrong: {text}.", param=path)
