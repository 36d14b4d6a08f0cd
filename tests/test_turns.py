"""Requests take turns while the event loop is late, and are refused when the wait is too long."""

from __future__ import annotations

import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as st

from embedway.errors import Overloaded
from embedway.server.shed import Shed
from embedway.turns import Turns
from tests.fakes import FakeClock

LATE_S = 0.02


async def test_in_time_nobody_waits() -> None:
    """While the loop is in time a request begins in the same step."""
    turns = Turns(FakeClock().monotonic)
    waited = turns.take(0.001)
    with pytest.raises(StopIteration) as end:
        waited.send(None)
    assert end.value.value == 0.001


@given(st.integers(1, 100))
def test_a_few_begin_between_two_looks_at_the_sockets(callers: int) -> None:
    """However many wait, sixteen begin each time round, the first come first."""

    async def run() -> list[int]:
        turns, began = Turns(FakeClock().monotonic), []
        each_round: list[int] = []

        async def caller(number: int) -> None:
            await turns.take(LATE_S)
            began.append(number)

        tasks = [asyncio.create_task(caller(number)) for number in range(callers)]
        await asyncio.sleep(0)  # all of them wait now
        while len(began) < callers:
            before = len(began)
            await asyncio.sleep(0)
            each_round.append(len(began) - before)
        await asyncio.gather(*tasks)
        assert began == sorted(began)
        return each_round

    each_round = [count for count in asyncio.run(run()) if count]
    assert sum(each_round) == callers
    assert max(each_round) <= 16
    assert len(each_round) == -(-callers // 16)


async def test_nobody_overtakes_the_queue() -> None:
    """A request that comes in time still waits behind those who are in the queue."""
    turns, began = Turns(FakeClock().monotonic), []

    async def caller(number: int, late_s: float) -> None:
        await turns.take(late_s)
        began.append(number)

    async with asyncio.TaskGroup() as group:
        for number in range(40):
            group.create_task(caller(number, LATE_S))
        group.create_task(caller(40, 0.0))
    assert began == list(range(41))


async def test_the_wait_is_told() -> None:
    """What a request waited for the loop and for its turn counts as its own time."""
    clock = FakeClock()
    turns = Turns(clock.monotonic)
    waiting = asyncio.create_task(turns.take(LATE_S))
    await asyncio.sleep(0)
    clock.advance(0.25)
    assert await waiting == pytest.approx(LATE_S + 0.25)


async def test_one_who_left_takes_no_turn() -> None:
    """Whoever was cancelled in the queue costs the others nothing."""
    turns = Turns(FakeClock().monotonic)
    gone = [asyncio.create_task(turns.take(LATE_S)) for _ in range(32)]
    await asyncio.sleep(0)
    for task in gone:
        task.cancel()
    one = asyncio.create_task(turns.take(LATE_S))
    for _ in range(3):
        await asyncio.sleep(0)
    assert one.done()


async def test_too_long_a_queue_lets_nobody_in() -> None:
    """Once their rate is known, no more are let in than begin within a second; and when the queue
    is gone, anybody is."""
    clock = FakeClock()
    turns = Turns(clock.monotonic)
    shed = Shed(turns, max_requests=1000, max_bytes=1000)
    waiting = [asyncio.create_task(turns.take(LATE_S)) for _ in range(400)]
    rounds = 0
    while not shed.is_full:  # three measurements make a rate: 16 in 0.1 s, and more than 160 wait
        clock.advance(0.1)
        await asyncio.sleep(0)
        rounds += 1
    assert 3 <= rounds <= 6
    assert turns.is_busy
    with pytest.raises(Overloaded, match="in a second") as refused, shed.admit(1):
        pass
    assert refused.value.retry_after_s == 1
    await asyncio.gather(*waiting)
    assert not turns.is_busy
    assert not shed.is_full
    with shed.admit(1):
        pass


async def test_one_long_stop_refuses_nobody() -> None:
    """A loop that was held once is no reason to send anybody away."""
    clock = FakeClock()
    turns = Turns(clock.monotonic)
    waiting = [asyncio.create_task(turns.take(LATE_S)) for _ in range(400)]
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    clock.advance(30.0)
    while not waiting[-1].done():
        assert not turns.is_full
        clock.advance(0.001)
        await asyncio.sleep(0)
