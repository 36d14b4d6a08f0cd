"""Deadline gives up at the call's time."""

import asyncio
from random import Random

import pytest
import uvloop

from embedway.errors import DeadlineExceeded, Overloaded
from embedway.layers.deadline import Deadline
from tests.fakes import FakeClock, ScriptedEmbedder, make_request, respond
from tests.sim.loop import SimLoop

LOOPS = {
    "asyncio": asyncio.new_event_loop,
    "uvloop": uvloop.new_event_loop,
    "simulated": lambda: SimLoop(Random(7)),
}
NOW = 1000.0


@pytest.fixture(params=LOOPS)
def run(request):
    """Runs a coroutine to its end, on each of the loops that the gateway meets."""
    with asyncio.Runner(loop_factory=LOOPS[request.param]) as runner:
        yield runner.run


async def hang(_=None):
    """An Embedder that never answers."""
    await asyncio.get_running_loop().create_future()


def call(inner, left=60.0):
    """A call of the layer over *inner* with so many seconds left."""
    return Deadline(ScriptedEmbedder(inner), FakeClock(monotonic=NOW))(
        make_request(deadline=NOW + left)
    )


def test_gives_up(run):
    """A call whose time runs out while it waits ends as DeadlineExceeded."""
    with pytest.raises(DeadlineExceeded, match="not answered in time"):
        run(call(hang, left=0.001))


@pytest.mark.parametrize("left", [-10.0, 0.0])
async def test_too_late(left):
    """Once its time is over, nobody is asked for a call."""
    inner = ScriptedEmbedder()

    with pytest.raises(DeadlineExceeded, match="not answered in time"):
        await Deadline(inner, FakeClock(monotonic=NOW))(make_request(deadline=NOW + left))

    assert inner.requests == []


async def test_time_passes_before_the_first_wait():
    """A call whose time runs out before it waits for anything gives up as soon as it waits."""
    clock = FakeClock(monotonic=NOW)

    async def work_long(_):
        clock.advance(2)
        await hang()

    with pytest.raises(DeadlineExceeded):
        await Deadline(ScriptedEmbedder(work_long), clock)(make_request(deadline=NOW + 1))


async def test_no_timer_where_nothing_waits(monkeypatch):
    """What is answered without waiting costs no timer."""
    set_timers = []
    loop = asyncio.get_running_loop()
    monkeypatch.setattr(loop, "call_at", lambda *arguments, **_: set_timers.append(arguments))

    response = await call(respond)

    assert response == respond(make_request())
    assert set_timers == []


def test_an_answer_in_time(run):
    """An answer that comes in time is passed on, however often it was waited for."""

    async def answer(asked):
        await asyncio.sleep(0)
        await asyncio.gather(asyncio.sleep(0.001), asyncio.sleep(0))
        async with asyncio.timeout(5):
            await asyncio.sleep(0.001)
        return respond(asked)

    assert run(call(answer)) == respond(make_request())


@pytest.mark.parametrize("waits", [0, 1, 3])
def test_errors(run, waits):
    """An error travels up as it is, whether it comes at once or after waiting."""

    async def fail(_):
        for _ in range(waits):
            await asyncio.sleep(0)
        raise Overloaded("too much")

    with pytest.raises(Overloaded, match="too much"):
        run(call(fail))


@pytest.mark.parametrize("waits", [0, 1, 3])
def test_what_is_below_is_cancelled(run, waits):
    """When the time is over the work below is cancelled wherever it waits, and what it does to
    clean up is waited for."""
    ended = []

    async def hang_and_tell(_):
        for _ in range(waits):
            await asyncio.sleep(0)
        try:
            await hang()
        finally:
            await asyncio.sleep(0)
            await asyncio.sleep(0)
            ended.append("cleaned up")

    with pytest.raises(DeadlineExceeded):
        run(call(hang_and_tell, left=0.01))

    assert ended == ["cleaned up"]


@pytest.mark.parametrize("waits", [0, 1, 3])
def test_a_cancelled_caller(run, waits):
    """Who hangs up is not told that time is over: the cancellation goes down and comes up again."""
    ended, at_work = [], asyncio.Event()

    async def hang_and_tell(_):
        for _ in range(waits):
            await asyncio.sleep(0)
        at_work.set()
        try:
            await hang()
        except asyncio.CancelledError:
            await asyncio.sleep(0)
            ended.append("cancelled")
            raise

    async def hang_up():
        task = asyncio.ensure_future(call(hang_and_tell))
        await at_work.wait()
        task.cancel("gone")
        with pytest.raises(asyncio.CancelledError, match="gone"):
            await task
        assert task.cancelled()

    run(hang_up())
    assert ended == ["cancelled"]


def test_an_answer_despite_cancellation(run):
    """Work that answers all the same when it is cancelled is heard, as by a plain `await`."""

    at_work = asyncio.Event()

    async def answer_anyway(asked):
        at_work.set()
        try:
            await hang()
        except asyncio.CancelledError:
            return respond(asked)

    async def cancel():
        task = asyncio.ensure_future(call(answer_anyway))
        await at_work.wait()
        task.cancel()
        return await task

    assert run(cancel()) == respond(make_request())


@pytest.mark.parametrize("waits", [0, 1])
async def test_thrown_away(waits):
    """A call that nobody waits for any more, as when the loop ends, is closed down to the ground
    and leaves no timer."""
    ended = []

    async def hang_and_tell(_):
        try:
            for _ in range(waits):
                await asyncio.sleep(0)
            await hang()
        except GeneratorExit:
            ended.append("closed")
            raise

    thrown_away = call(hang_and_tell, left=0.001)
    for _ in range(waits + 1):
        thrown_away.send(None)
    thrown_away.close()

    assert ended == ["closed"]
    await asyncio.sleep(0.005)  # a timer left behind would cancel this test


def test_cancelled_while_time_runs_out(run):
    """Who hangs up in the moment in which time is over is cancelled, not told."""

    async def hang_up():
        task = asyncio.ensure_future(call(slow_to_end, left=0.001))
        await begun.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    begun = asyncio.Event()

    async def slow_to_end(_):
        try:
            await hang()
        finally:
            begun.set()
            await asyncio.sleep(0.001)

    run(hang_up())
