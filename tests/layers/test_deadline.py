"""Deadline gives up at the call's time."""

import asyncio

import pytest

from embedway.errors import DeadlineExceeded
from embedway.layers.deadline import Deadline
from tests.fakes import FakeClock, ScriptedEmbedder, make_request, respond


async def hang(_):
    """An Embedder that never answers."""
    await asyncio.get_running_loop().create_future()


@pytest.mark.parametrize("left", [-10.0, 0.0, 0.001])
async def test_gives_up(left):
    """A call whose time is over, or runs out while it waits, ends as DeadlineExceeded."""
    clock = FakeClock(monotonic=500.0)

    with pytest.raises(DeadlineExceeded, match="not answered in time"):
        await Deadline(ScriptedEmbedder(hang), clock)(make_request(deadline=500.0 + left))


async def test_cancels_what_is_below():
    """When the time is over the work below is cancelled, not left running."""
    ended = []

    async def hang_and_tell(request):
        try:
            await hang(request)
        finally:
            ended.append(request)

    with pytest.raises(DeadlineExceeded):
        await Deadline(ScriptedEmbedder(hang_and_tell), FakeClock(monotonic=0))(
            make_request(deadline=0.0)
        )

    assert len(ended) == 1


async def test_an_answer_in_time():
    """An answer that comes in time is passed on, however close."""
    request = make_request(deadline=1001.0)

    async def answer(asked):
        await asyncio.sleep(0)
        return respond(asked)

    response = await Deadline(ScriptedEmbedder(answer), FakeClock(monotonic=1000.0))(request)

    assert response == respond(request)
