"""In which space a model's vectors live, with the parameters they were asked for."""

from __future__ import annotations

from collections.abc import Iterable

from embedway.catalog import Model
from embedway.options import is_raw
from embedway.types import EmbedParams, Space

_RAW = b'{"jina":{"normalized":false}}'
"""Options for vectors that are not normalised: they live in a space of their own."""
_WIDTH_DIGITS = 6


def space_of(model: Model, params: EmbedParams) -> Space:
    """The space of *model*'s vectors. params: final, as below `layers/route.py`."""
    return Space(
        model=model.space_name,
        dimensions=params.dimensions or model.dimensions.default,
        revision=_revision(model, params),
        input_type=(params.input_type or "") if model.input_type_in_space else "",
    )


def is_possible_space(models: Iterable[Model], text: str) -> bool:
    """Whether one of *models* gives vectors in the space that is written so."""
    base, _, input_type = text.partition("+")
    width = base.rpartition("@")[2]
    if not (width.isascii() and width.isdigit() and len(width) <= _WIDTH_DIGITS):
        return False
    for model in models:
        spaces = [
            str(
                space_of(model, EmbedParams(model=model.id, dimensions=int(width), options=options))
            )
            for options in (b"", _RAW)
        ]
        is_typed = not input_type or model.input_type_in_space
        if base in spaces and model.allows_dimensions(int(width)) and is_typed:
            return True
    return False


def _revision(model: Model, params: EmbedParams) -> str:
    """What keeps vectors of one model apart: its revision; "l2" where we made the length 1 of
    those that come otherwise; "raw" where the caller wants them as they come."""
    return "-".join(filter(None, (model.revision, _length(model, params))))


def _length(model: Model, params: EmbedParams) -> str:
    if is_raw(params.options):
        return "raw"
    width, full = params.dimensions, model.dimensions.default
    is_cut = width is not None and width != full
    is_ours = model.normalised == "never" or (model.normalised == "only_full" and is_cut)
    return "l2" if is_ours else ""
