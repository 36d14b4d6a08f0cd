"""The event loop of the simulator: virtual time, chance from a seed, no way to hang."""

import asyncio
from random import Random

import pytest

from tests.sim.loop import SimClock, SimLoop, Stuck


def run(coroutine, seed=1):
    """Run it in a loop of its own."""
    with asyncio.Runner(loop_factory=lambda: SimLoop(Random(seed))) as runner:
        return runner.run(coroutine)


async def names_in_order(count):
    """Start so many tasks at once; the order in which they get to run twice."""
    seen = []

    async def note(name):
        seen.append(name)
        await asyncio.sleep(0)
        seen.append(name)

    async with asyncio.TaskGroup() as group:
        for name in range(count):
            group.create_task(note(name))
    return seen


def test_time_jumps():
    """A day passes at once, and exactly."""

    async def wait_a_day():
        clock = SimClock()
        before, day = clock.monotonic(), clock.now()
        await clock.sleep(86_400.0)
        return clock.monotonic() - before, clock.now() - day

    assert run(wait_a_day()) == (86_400.0, 86_400.0)


def test_timers_fire_in_the_order_of_their_time():
    """Chance never lets a later timer go before an earlier one."""

    async def race():
        seen = []

        async def note(seconds):
            await asyncio.sleep(seconds)
            seen.append(seconds)

        waits = [Random(5).random() for _ in range(3)] + [index / 7 for index in range(30)]
        await asyncio.gather(*map(note, reversed(waits)))
        return seen

    seen = run(race())
    assert len(seen) == 33
    assert seen == sorted(seen)


def test_the_seed_decides_the_order():
    """One seed gives one order among those who are ready; other seeds give others."""
    orders = [tuple(run(names_in_order(6), seed)) for seed in range(20)]

    assert orders == [tuple(run(names_in_order(6), seed)) for seed in range(20)]
    assert len(set(orders)) > 15


def test_cancelled_groups_have_one_order():
    """The tasks of a cancelled group end in an order that depends on the seed alone, although
    asyncio keeps them in a set."""

    async def cancelled():
        seen = []

        async def wait(name):
            try:
                await asyncio.sleep(60)
            finally:
                seen.append(name)

        async def wait_for_all():
            async with asyncio.TaskGroup() as group:
                for name in range(20):
                    group.create_task(wait(name))

        with pytest.raises(TimeoutError):
            await asyncio.wait_for(wait_for_all(), 1)
        return seen

    assert run(cancelled()) == run(cancelled())
    assert sorted(run(cancelled())) == list(range(20))


def test_a_deadlock_is_told():
    """A task that nobody will ever wake ends the run, with its name."""

    async def waits_for_nothing():
        await asyncio.get_running_loop().create_future()

    with pytest.raises(Stuck, match="waits_for_nothing"):
        run(waits_for_nothing())


def test_a_livelock_is_told():
    """A task that goes in circles for ever ends the run, with its name."""

    async def goes_in_circles():
        while True:  # noqa: ASYNC110 (that is the fault)
            await asyncio.sleep(0)

    with pytest.raises(Stuck, match="goes_in_circles"):
        run(goes_in_circles())


def test_no_threads():
    """Whoever asks for a thread is refused, for no seed could repeat what it does."""
    with pytest.raises(RuntimeError, match="no threads"):
        run(asyncio.to_thread(print))


def test_unseen_exceptions_are_kept():
    """What asyncio would only have logged is there to be looked at."""

    async def fail_unseen():
        loop = asyncio.get_running_loop()
        loop.call_soon(lambda: 1 / 0)
        await asyncio.sleep(1)
        return loop.complaints

    (complaint,) = run(fail_unseen())
    assert "ZeroDivisionError" in complaint
