"""An error from a part of a request is told as the whole request's."""

import copy

import pytest

from embedway.errors import (
    InputTooLong,
    InvalidRequest,
    ModelNotFound,
    UpstreamInputTooLong,
    UpstreamRejected,
    UpstreamTooLarge,
    UpstreamUnavailable,
)
from embedway.positions import copied, is_about_request, placed, position_of
from embedway.types import Embedding
from tests.fakes import make_attempt

FOUND = Embedding(b"\0\0\x80?", 1, "openai", 5)


@pytest.mark.parametrize(
    ("positions", "param", "message", "finished"),
    [
        ([5, 6, 7], "input[6]", "input[6] is longer than input[5]", {7}),
        ([9, 3, 4], "input[3]", "input[3] is longer than input[9]", {4}),
        ([-1, 0, -1], "input[0]", "input[0] is longer than an input", set()),
        ([0, -1, 2], None, "an input is longer than input[0]", {2}),
        ([4], "input[1]", "input[1] is longer than input[4]", None),
    ],
)
def test_placed(positions, param, message, finished):
    """Every position of an error is moved to where the input stands for the caller; of inputs that
    are another's nothing is told."""
    error = InputTooLong("input[1] is longer than input[0]", param="input[1]")
    if finished is not None:
        error.finished = {2: FOUND}
    moved = placed(error, positions)

    assert (moved.param, moved.message, str(moved)) == (param, message, message)
    assert set(moved.finished) == (finished or set())
    assert (error.param, error.message) == ("input[1]", "input[1] is longer than input[0]")


def test_nothing_moves():
    """Where every input stands where it stood, the error stays the very object it is."""
    error = InputTooLong("input[1] is too long", param="input[1]")

    assert placed(error, range(3)) is error
    assert placed(error, [0, 1, 2]) is error
    assert placed(error, [1, 0]) is not error


def test_other_fields_stay():
    """A field that is not an input is named as before."""
    error = InvalidRequest("no", param="dimensions")

    assert placed(error, [7]).param == "dimensions"


@pytest.mark.parametrize(
    "error",
    [
        InvalidRequest("no", param="dimensions", retry_after_s=2.0),
        ModelNotFound("no", model="x"),
        UpstreamTooLarge("no", provider="openai", upstream_status=413),
    ],
    ids=lambda error: type(error).__name__,
)
def test_copies(error):
    """A copy is equal in all it says, and independent."""
    error.attempts, error.finished = (make_attempt(),), {0: FOUND}
    other, before = copied(error), copy.copy(error.__dict__)

    assert type(other) is type(error)
    assert other.__dict__ == error.__dict__
    assert str(other) == str(error)
    other.attempts, other.finished, other.message, other.args = (), {}, "changed", ("changed",)
    assert error.__dict__ == before
    assert str(error) == "no"


@pytest.mark.parametrize(
    ("param", "position"),
    [("input[12]", 12), ("input", None), (None, None), ("dimensions", None), ("input[1].x", None)],
)
def test_position(param, position):
    """The position is what `param` names, if it names an input."""
    assert position_of(InvalidRequest("input[3]", param=param)) == position


@pytest.mark.parametrize(
    ("error", "is_about"),
    [
        (InvalidRequest("no"), True),
        (UpstreamInputTooLong("no", provider="p"), True),
        (UpstreamRejected("no", provider="p"), True),
        (UpstreamUnavailable("no", provider="p"), False),
    ],
)
def test_whose_fault(error, is_about):
    """A refusal is about what was asked, a failure is not."""
    assert is_about_request(error) is is_about
