"""Who begins when the event loop is late: the first come first, a few each time round, so that in
between the sockets are read and whoever is too many hears so at once.

While the loop is in time nobody waits here.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable

_LATE_S = 0.01
"""How late the loop may be before requests queue."""
_AT_ONCE = 16
"""How many begin between two looks at the sockets."""
_LONGEST_WAIT_S = 1.0
"""No more are let in than begin within that time, as fast as they began lately: a queue that is
longer makes everybody wait and nobody be served sooner."""
_MEASURED_S = 0.05
"""How long beginnings are counted for their rate."""
_RATES = 10
_RATES_NEEDED = 3
"""The best of the last few rates counts: one thing that took long is no reason to refuse anybody,
and so short a burst is not either."""


class Turns:
    """The requests that wait for the event loop. For one loop; *time* is its monotonic clock."""

    def __init__(self, time: Callable[[], float]) -> None:
        self._time = time
        self._waiting: deque[asyncio.Future[None]] = deque()
        self._is_calling = False
        self._begun, self._since = 0, 0.0
        self._rates: deque[float] = deque(maxlen=_RATES)
        """Beginnings a second, while there was always somebody waiting."""

    @property
    def is_busy(self) -> bool:
        """Whether somebody waits: the process has more to do than it can."""
        return bool(self._waiting)

    @property
    def is_full(self) -> bool:
        """Whether whoever came now would wait too long."""
        if len(self._rates) < _RATES_NEEDED:
            return False
        return len(self._waiting) > max(self._rates) * _LONGEST_WAIT_S

    async def take(self, late_s: float) -> float:
        """Wait until this request may begin; how many seconds it has waited in all.

        late_s: how long it waited for the event loop before.
        """
        if not self._waiting and late_s < _LATE_S:
            return late_s
        loop = asyncio.get_running_loop()
        since, turn = self._time(), loop.create_future()
        self._waiting.append(turn)
        if not self._is_calling:
            self._is_calling = True
            self._begun, self._since = 0, since
            self._rates.clear()
            loop.call_soon(self._call, loop)
        await turn
        return late_s + self._time() - since

    def _call(self, loop: asyncio.AbstractEventLoop) -> None:
        """Let the next few begin; they have begun when this runs again, after the sockets."""
        self._measure()
        called = 0
        while self._waiting and called < _AT_ONCE:
            turn = self._waiting.popleft()
            if not turn.done():  # whoever hung up was cancelled
                turn.set_result(None)
                called += 1
        self._begun += called
        if self._waiting:
            loop.call_soon(self._call, loop)
        else:
            self._is_calling = False

    def _measure(self) -> None:
        passed = (now := self._time()) - self._since
        if passed >= _MEASURED_S:
            self._rates.append(self._begun / passed)
            self._begun, self._since = 0, now
