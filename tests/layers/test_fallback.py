"""Fallback moves to the next model when one cannot serve, never when the request is wrong."""

import asyncio

import pytest

from embedway.errors import (
    BudgetExceeded,
    DeadlineExceeded,
    InputTooLong,
    InvalidInput,
    InvalidRequest,
    MalformedResponse,
    ModelNotAllowed,
    ModelNotFound,
    Overloaded,
    RateLimited,
    SpaceMismatch,
    UnsupportedDimensions,
    UpstreamRateLimited,
    UpstreamRejected,
    UpstreamTimeout,
    UpstreamUnauthorized,
    UpstreamUnavailable,
)
from embedway.layers.fallback import Fallback
from tests.fakes import ScriptedEmbedder, make_attempt, make_request, respond

CAUSES = [
    Overloaded("x"),
    ModelNotFound("x", model="first"),
    *(
        kind("x", provider="p")
        for kind in (
            UpstreamUnavailable,
            UpstreamTimeout,
            UpstreamRateLimited,
            UpstreamUnauthorized,
            MalformedResponse,
        )
    ),
]
NO_CAUSES = [
    InvalidRequest("x"),
    InvalidInput("x"),
    InputTooLong("x"),
    UnsupportedDimensions("x"),
    ModelNotAllowed("x"),
    SpaceMismatch("x"),
    BudgetExceeded("x"),
    RateLimited("x"),
    DeadlineExceeded("x"),
    UpstreamRejected("x", provider="p"),
]


def names(error):
    """The error's class, to tell the cases apart."""
    return type(error).__name__


@pytest.mark.parametrize("error", CAUSES, ids=names)
async def test_moves_on(error):
    """Another model is tried when the asked one is overloaded, unknown, or its provider failed."""
    inner = ScriptedEmbedder([error])

    response = await Fallback(inner)(make_request(model="first", fallbacks=("second", "third")))

    assert inner.models == ["first", "second"]
    assert response.params.model == "second"


@pytest.mark.parametrize("error", NO_CAUSES, ids=names)
async def test_stays(error):
    """No other model is tried when the request itself is wrong, forbidden or out of time."""
    inner = ScriptedEmbedder([error])

    with pytest.raises(type(error)):
        await Fallback(inner)(make_request(model="first", fallbacks=("second",)))

    assert inner.models == ["first"]


@pytest.mark.parametrize("error", CAUSES, ids=names)
async def test_only_if_named(error):
    """A caller who names no fallback gets the error: his vectors stay in one space."""
    inner = ScriptedEmbedder([error])

    with pytest.raises(type(error)):
        await Fallback(inner)(make_request(model="first"))

    assert inner.models == ["first"]


async def test_whole_request_to_one_model():
    """Each try asks one model for all inputs, with all else as it was."""
    inner = ScriptedEmbedder([Overloaded("x")])
    request = make_request("a", "b", model="first", fallbacks=("second",), dimensions=4)

    await Fallback(inner)(request)

    assert [r.inputs for r in inner.requests] == [("a", "b")] * 2
    assert [r.params.dimensions for r in inner.requests] == [4, 4]


async def test_attempts_in_order():
    """The response tells of every attempt, those of failed models first."""
    one, two, three = (make_attempt(model) for model in ("first", "second", "third"))

    def failing(attempt):
        error = UpstreamUnavailable("x", provider="p")
        error.attempts = (attempt,)
        return error

    inner = ScriptedEmbedder(
        [failing(one), failing(two), lambda request: respond(request, attempts=(three,))]
    )
    response = await Fallback(inner)(make_request(model="first", fallbacks=("second", "third")))

    assert response.attempts == (one, two, three)


async def test_all_fail():
    """When every model fails, the asked one's error comes out, with the attempts of all; whatever
    is wrong with a fallback does not hide it."""
    first, second = UpstreamTimeout("first", provider="p"), InvalidInput("second")
    third = ModelNotFound("third", model="third")
    first.attempts = (make_attempt("first"),)
    second.attempts = (make_attempt("second"), make_attempt("second"))

    with pytest.raises(UpstreamTimeout) as caught:
        await Fallback(ScriptedEmbedder([first, second, third]))(
            make_request(model="first", fallbacks=("second", "third"))
        )

    assert caught.value is first
    assert [a.model for a in caught.value.attempts] == ["first", "second", "second", "third"]


async def test_models_that_were_passed_over_are_told():
    """A model that cannot honour what was asked, or is not here, is passed over, and the attempts
    say why; no account is named, for none was asked."""
    inner = ScriptedEmbedder(
        [
            Overloaded("queue"),
            UnsupportedDimensions("not 4"),
            ModelNotFound("no", model="third"),
            SpaceMismatch("pinned"),
        ]
    )
    fallbacks = ("second", "third", "fourth", "fifth")

    response = await Fallback(inner)(make_request(model="first", fallbacks=fallbacks))

    assert [(a.model, a.provider, a.is_success, a.error) for a in response.attempts] == [
        ("first", "", False, "overloaded"),
        ("second", "", False, "unsupported_dimensions"),
        ("third", "", False, "model_not_found"),
        ("fourth", "", False, "space_mismatch"),
    ]
    assert response.params.model == "fifth"


@pytest.mark.parametrize(
    ("allowed", "fallbacks", "retries"),
    [
        (2, (), [2]),
        (2, ("second",), [1, 0]),
        (0, ("second",), [0, 0]),
        (2, ("second", "third"), [0, 0, 0]),
        (2, ("second", "third", "fourth"), [0, 0, 0, 0]),
    ],
)
async def test_attempts_in_all(allowed, fallbacks, retries):
    """There are three attempts in all, or one for each model if the caller names more: what the
    asked one may be retried is what the others leave."""
    inner = ScriptedEmbedder([Overloaded("x")] * len(retries))

    with pytest.raises(Overloaded):
        await Fallback(inner)(make_request(model="first", fallbacks=fallbacks, retries=allowed))

    assert [request.call.retries for request in inner.requests] == retries


async def test_a_silent_model_leaves_time_for_the_next():
    """Each model gets half of the time that is left, and the last one all of it."""
    inner = ScriptedEmbedder([UpstreamTimeout("x", provider="p")] * 2)

    await Fallback(inner)(make_request(model="first", fallbacks=("second", "third")))

    assert [request.call.share for request in inner.requests] == [0.5, 0.5, 1.0]


@pytest.mark.parametrize("gone_at", [0, 1])
async def test_cancellation(gone_at):
    """A caller who hangs up, during the first try or a later one, ends the whole chain."""
    answers = [Overloaded("x")] * gone_at + [asyncio.CancelledError()]
    inner = ScriptedEmbedder(answers)

    with pytest.raises(asyncio.CancelledError):
        await Fallback(inner)(make_request(model="first", fallbacks=("second", "third")))

    assert len(inner.requests) == gone_at + 1
