"""Clocks for real sockets: they run as the machine's does, and can be put forward."""

from __future__ import annotations

import asyncio

from embedway.clock import SystemClock


class QuickClock:
    """Whoever sleeps goes on at once, and the time has passed for everybody."""

    def __init__(self) -> None:
        self._machine = SystemClock()
        self._ahead_s = 0.0

    def now(self) -> float:
        """Wall time in seconds."""
        return self._machine.now() + self._ahead_s

    def monotonic(self) -> float:
        """Monotonic time in seconds."""
        return self._machine.monotonic() + self._ahead_s

    def advance(self, seconds: float) -> None:
        """Let *seconds* pass."""
        self._ahead_s += seconds

    async def sleep(self, seconds: float) -> None:
        """Let the time pass, and others run."""
        self.advance(seconds)
        await asyncio.sleep(0)


class TrueClock(QuickClock):
    """Whoever sleeps waits: for where many sleep at once."""

    async def sleep(self, seconds: float) -> None:
        """Wait that long."""
        await asyncio.sleep(seconds)
