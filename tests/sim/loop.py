"""An event loop without a clock on the wall: time jumps to the next timer, and chance, from a seed,
decides which of the callbacks that are ready runs next.

What asyncio promises is kept: a callback runs after it is ready, a timer not before its time, and
time passes only while nobody has anything to do. What it does not promise, the order among the
ready, is another one for every seed.
"""

from __future__ import annotations

import asyncio
from collections import deque
from itertools import count
from random import Random
from typing import Any, NoReturn

_MOST_ROUNDS = 200_000
"""Rounds of the loop after which a run is called endless; a usual one has some thousands."""


STARTS_S = 1000.0
"""The monotonic time at which a run begins, unless it says otherwise."""


class Stuck(Exception):
    """The run has no end: nothing is ready and no timer runs, or all run in circles."""


class SimLoop(asyncio.BaseEventLoop):
    """One thread, no I/O, virtual time."""

    def __init__(
        self, chance: Random, *, starts_at: float = STARTS_S, most_rounds: int = _MOST_ROUNDS
    ) -> None:
        super().__init__()
        self.complaints: list[str] = []
        """What asyncio would have logged: exceptions that nobody saw."""
        self._ready = _AnyNext(chance)
        self._selector = self
        self._virtual_s = starts_at
        self._rounds = 0
        self._most_rounds = most_rounds
        numbers = count()
        self.set_task_factory(
            lambda loop, coroutine, **rest: _Task(
                coroutine, loop=loop, number=next(numbers), **rest
            )
        )
        self.set_exception_handler(lambda _, context: self.complaints.append(_told(context)))

    def time(self) -> float:
        """Virtual seconds."""
        return self._virtual_s

    def select(self, timeout: float | None) -> list[object]:
        """Where another loop waits for I/O: this one lets the time pass at once.

        timeout: seconds until the next timer, 0 if something is ready, None if nothing ever is.
        """
        if timeout is None:
            raise Stuck(f"deadlock: nothing is ready, no timer runs, and {self._pending()} wait")
        self._rounds += 1
        if self._rounds > self._most_rounds:
            self._rounds = 0  # those who are cancelled now may end
            raise Stuck(f"livelock: there is no end in sight for {self._pending()}")
        self._virtual_s += timeout
        return []

    def run_in_executor(self, executor: Any, func: Any, *args: Any) -> NoReturn:
        """A thread would bring back the chance that no seed decides."""
        raise RuntimeError(f"a simulation has no threads; {func} asked for one")

    def _process_events(self, event_list: list[object]) -> None:
        """There is no I/O."""

    def _write_to_self(self) -> None:
        """Nobody sleeps who would have to be woken."""

    def _pending(self) -> str:
        names = sorted(_name(task) for task in asyncio.all_tasks(self))
        return f"{len(names)} tasks ({', '.join(dict.fromkeys(names))})"


class SimClock:
    """The time of the loop, which is running; fits `embedway.clock.Clock`."""

    def now(self) -> float:
        """Seconds since 1970."""
        return 1_800_000_000.0 + self.monotonic()

    def monotonic(self) -> float:
        """Virtual seconds."""
        return asyncio.get_running_loop().time()

    async def sleep(self, seconds: float) -> None:
        """Wait that many virtual seconds."""
        await asyncio.sleep(seconds)


class _AnyNext(deque[Any]):
    """The loop's queue of what is ready, from which any one comes next."""

    def __init__(self, chance: Random) -> None:
        super().__init__()
        self._chance = chance

    def popleft(self) -> Any:
        if len(self) > 1:
            self.rotate(-int(self._chance.random() * len(self)))
        return super().popleft()


class _Task(asyncio.Task[Any]):
    """Hashes by its number: asyncio goes through sets of tasks, and their order must not depend
    on addresses."""

    def __init__(self, coroutine: Any, *, number: int, **rest: Any) -> None:
        self._number = number
        super().__init__(coroutine, **rest)

    def __hash__(self) -> int:
        return self._number

    def __eq__(self, other: object) -> bool:
        return self is other


def _name(task: asyncio.Task[Any]) -> str:
    return str(getattr(task.get_coro(), "__qualname__", task))


def _told(context: dict[str, Any]) -> str:
    return f"{context['message']}: {context.get('exception')!r}"
