"""Under which key a vector is kept: a digest of all that decides it, and of who may have it.

Every part but the last, the input, stands behind its length, so that no two different questions
are the same bytes, and nothing is made alike that is not: "a", "a " and "A" have different vectors.
"""

from __future__ import annotations

import hashlib
from array import array
from typing import Literal

from embedway.cached import KEY_BYTES, ORIGIN_BYTES, Key, Label
from embedway.catalog import Model
from embedway.spaces import space_of
from embedway.types import EmbedParams, Grant, Input

Scope = Literal["project", "key", "global"]

_SCHEMA = "embedway vector 1 <f4"


def scope_of(grant: Grant, scope: Scope) -> str:
    """Who shares vectors with the caller. By default his project: how fast a text is answered
    tells whether it was asked before, which is nobody else's business."""
    if scope == "global":
        return "*"
    return f"key:{grant.key_id}" if scope == "key" else grant.project


class CacheKeys:
    """The keys of one model's vectors for one scope and one set of parameters."""

    __slots__ = ("_text", "_tokens", "label")

    def __init__(self, model: Model, params: EmbedParams, scope: str) -> None:
        space = str(space_of(model, params))
        self.label = Label(model.id, space, scope)
        begun = hashlib.blake2b(digest_size=KEY_BYTES)
        # The space holds the revision and whether the length was made 1 here. Whatever options
        # went to the provider (task, title, truncation, precision) are in `options`.
        for part in (
            _SCHEMA,
            scope,
            model.id,
            model.revision or "",
            space,
            str(params.dimensions or ""),
            params.input_type or "",
        ):
            begun.update(_framed(part.encode()))
        begun.update(_framed(params.options))
        # All that comes before an input is hashed once.
        self._text, self._tokens = begun.copy(), begun
        self._text.update(b"text:")
        self._tokens.update(b"tokens:")

    def of(self, value: Input) -> Key:
        """The key of one input; a text and its own token ids have different ones."""
        if isinstance(value, str):
            digest = self._text.copy()
            digest.update(value.encode("utf-8", "surrogatepass"))
        else:
            digest = self._tokens.copy()
            digest.update(array("Q", value))
        return digest.digest()


def origin_of(*parts: str) -> bytes:
    """What stands for a deployment in a kept vector: who made it, where, under which name.

    A vector of an account that now points to another server, or to another model there, is no
    longer the model's.
    """
    digest = hashlib.blake2b(digest_size=ORIGIN_BYTES)
    for part in parts:
        digest.update(_framed(part.encode()))
    return digest.digest()


def _framed(data: bytes) -> bytes:
    return b"%d:%b" % (len(data), data)
