"""Split cuts a request to the provider's limit and puts the answer together again."""

import asyncio

import pytest

from embedway.errors import InputTooLong, InvalidInput, UpstreamUnavailable
from embedway.layers.split import Split
from tests.fakes import ScriptedEmbedder, make_attempt, make_request, make_vector, respond


@pytest.mark.parametrize(
    ("inputs", "limit", "parts"),
    [(1, 3, [1]), (3, 3, [3]), (4, 3, [3, 1]), (9, 3, [3, 3, 3]), (5, 1, [1] * 5), (2, 10, [2])],
)
async def test_parts(inputs, limit, parts):
    """No part is over the limit, none is cut finer than needed, and the answer is in order."""
    inner = ScriptedEmbedder()
    texts = [f"text {i}" for i in range(inputs)]

    response = await Split(inner, limit)(make_request(*texts, user="u"))

    assert [len(request.inputs) for request in inner.requests] == parts
    assert [text for request in inner.requests for text in request.inputs] == texts
    params = inner.requests[0].params
    assert [e.vector for e in response.embeddings] == [make_vector(t, params) for t in texts]
    assert response.params == params
    assert {request.call.user for request in inner.requests} == {"u"}


async def test_a_small_request_is_not_touched():
    """A request within the limit is handed on as the very object it was."""
    inner = ScriptedEmbedder()
    request = make_request("a", "b")
    await Split(inner, 2)(request)

    assert inner.requests[0] is request


async def test_order_does_not_depend_on_speed():
    """Parts that come back in another order are put in the order of the inputs."""
    gates = [asyncio.Event() for _ in range(3)]

    async def answer(request):
        at = int(request.inputs[0])
        await gates[at].wait()
        return respond(request, attempts=(make_attempt(upstream_model=str(at)),))

    inner = ScriptedEmbedder(answer)
    task = asyncio.create_task(Split(inner, 1)(make_request("0", "1", "2")))
    for gate in reversed(gates):
        await asyncio.sleep(0)
        gate.set()
    response = await task

    params = inner.requests[0].params
    assert [e.vector for e in response.embeddings] == [make_vector(t, params) for t in "012"]
    assert [attempt.upstream_model for attempt in response.attempts] == ["0", "1", "2"]


async def test_side_by_side():
    """Parts run side by side, but not more of them at once than allowed."""
    running, most = 0, 0

    async def answer(request):
        nonlocal running, most
        running += 1
        most = max(most, running)
        for _ in range(5):
            await asyncio.sleep(0)
        running -= 1
        return respond(request)

    await Split(ScriptedEmbedder(answer), 1, parallel=3)(make_request(*map(str, range(20))))

    assert most == 3


@pytest.mark.parametrize("at", [0, 3, 4])
async def test_positions(at):
    """An error that names an input names it by its position in the whole request."""

    def answer(request):
        if str(at) in request.inputs:
            inside = request.inputs.index(str(at))
            raise InputTooLong(f"input[{inside}] is too long.", param=f"input[{inside}]")
        return respond(request)

    with pytest.raises(InputTooLong) as caught:
        await Split(ScriptedEmbedder(answer), 2)(make_request(*"01234"))

    assert caught.value.param == f"input[{at}]"
    assert caught.value.message == str(caught.value) == f"input[{at}] is too long."


async def test_errors_without_position():
    """An error that names no input is handed up as it is."""
    error = InvalidInput("no words on inputs", param="dimensions")

    def answer(request):
        if "2" in request.inputs:
            raise error
        return respond(request)

    with pytest.raises(InvalidInput) as caught:
        await Split(ScriptedEmbedder(answer), 1)(make_request(*"0123"))

    assert caught.value is error
    assert (error.message, error.param) == ("no words on inputs", "dimensions")


@pytest.mark.parametrize("error", [UpstreamUnavailable("x", provider="p"), ZeroDivisionError("x")])
async def test_a_failed_part(error):
    """When one part fails, the others are cancelled and its error comes out, not a group."""
    cancelled = []

    async def answer(request):
        if request.inputs == ("1",):
            raise error
        try:
            await asyncio.get_running_loop().create_future()
        except asyncio.CancelledError:
            cancelled.append(request.inputs[0])
            raise

    with pytest.raises(type(error)) as caught:
        await Split(ScriptedEmbedder(answer), 1)(make_request(*"012"))

    assert caught.value is error
    assert cancelled == ["0"] or sorted(cancelled) == ["0", "2"]


async def test_several_failed_parts():
    """When several parts fail, one error stands for all."""
    inner = ScriptedEmbedder([UpstreamUnavailable(str(i), provider="p") for i in range(4)])

    with pytest.raises(UpstreamUnavailable):
        await Split(inner, 1)(make_request(*"0123"))
