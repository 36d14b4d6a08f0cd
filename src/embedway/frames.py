"""The frames that an error came through: they hold the error and what was worked on, vectors among
it. Together they would stay until the collector finds them."""

from __future__ import annotations

from typing import TypeVar

from embedway.errors import EmbedError

_Error = TypeVar("_Error", bound=EmbedError)


def without_frames(error: _Error) -> _Error:
    """*error*, whose frames are let go, and those of the errors that it was raised for: for whoever
    keeps or tells it. An error of ours says all there is to say; what is a bug comes to nobody who
    calls this."""
    one: BaseException | None = error
    while one is not None:
        one.__traceback__ = None
        one.__context__, one = None, one.__context__
    return error
