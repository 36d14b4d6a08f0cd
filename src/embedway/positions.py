"""Where in a request an error points, when the request was a part of another one.

Layers cut, join and leave out inputs; an error from below counts in what they asked, the caller
counts in what he sent.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import TypeVar

from embedway.errors import EmbedError, InvalidRequest, UpstreamRejected

_Error = TypeVar("_Error", bound=EmbedError)
_POSITION = re.compile(r"\binput\[(\d+)\]")


def placed(error: _Error, positions: Sequence[int]) -> _Error:
    """*error* as it is in the whole request; the same object where nothing moves.

    positions: where each input of the part stands in the whole; -1 for one that stands nowhere,
    because it is another caller's: of that nothing is told.
    """
    if list(positions) == list(range(len(positions))):
        return error
    moved = copied(error)

    def move(match: re.Match[str]) -> str:
        part = int(match[1])
        if part >= len(positions):
            return match[0]
        return f"input[{positions[part]}]" if positions[part] >= 0 else "an input"

    moved.message = _POSITION.sub(move, error.message)
    moved.args = (moved.message,)
    if (position := position_of(error)) is not None and position < len(positions):
        moved.param = f"input[{positions[position]}]" if positions[position] >= 0 else None
    finished = {positions[part]: value for part, value in error.finished.items()}
    finished.pop(-1, None)
    moved.finished = finished
    return moved


def copied(error: _Error) -> _Error:
    """An error of its own for each caller who shares one: layers above write down what they know
    of the attempts in it."""
    # copy.copy would call __init__, whose arguments are each class's own.
    copy = error.__class__.__new__(error.__class__)
    copy.__dict__.update(error.__dict__)
    copy.args = error.args
    return copy


def position_of(error: EmbedError) -> int | None:
    """The input that the error names, None if it names none."""
    match = _POSITION.fullmatch(error.param or "")
    return int(match[1]) if match else None


def is_about_request(error: EmbedError) -> bool:
    """Whether what was asked is to blame: another caller's request may be fine."""
    return isinstance(error, (InvalidRequest, UpstreamRejected))
